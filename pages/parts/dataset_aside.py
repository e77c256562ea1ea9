"""What was set aside and what was changed, with the way back; and the way to delete for good."""

from __future__ import annotations

import io
from functools import lru_cache
from pathlib import Path

import streamlit as st

from pages.parts.dataset_changes import bring_back, bring_copies_back, delete_for_good
from pages.parts.flash import act
from pages.parts.gallery import paged, short
from pages.parts.page import caught
from studio.dataset.derived import Made, made_pictures
from studio.dataset.folder import look
from studio.dataset.pixels import preview
from studio.dataset.set_aside import room_taken, set_aside_list
from studio.files import human_size
from studio.guidance import count_words
from studio.project import Project

WAYS = {"convert": "converted", "flatten": "flattened onto white", "trim": "bars trimmed"}


def changed_here(project: Project) -> list[Made]:
    """Pictures of the dataset that were made from an imported copy."""
    there = look(project.dataset_dir).pictures
    return [m for m in made_pictures(project).values() if m.name in there]


def draw(project: Project) -> None:
    """The pictures that are kept outside of the dataset, and the copies behind those that were changed."""
    gone, made = set_aside_list(project), changed_here(project)
    if not gone and not made:
        st.caption("Nothing was set aside or changed.")
        return
    if gone:
        _aside(project)
    if made:
        _changed(project, made)


def _aside(project: Project) -> None:
    gone = set_aside_list(project)
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{count_words(len(gone), 'picture')} set aside** :small[:gray[out of the dataset, kept with their captions]]",
            width="stretch",
        )
        st.button(f"Put back ({len(gone)})", key="back_all", icon=":material/undo:", on_click=act,
                  args=(bring_back, project, [g.file for g in gone]))  # fmt: skip
        if st.button("Delete for good…", key="discard", icon=":material/delete_forever:", type="tertiary"):
            _sure(project)
    some, switch = paged(gone, key="aside_page", per_page=12)
    with st.grid("auto", min_column_width=190):
        for item in some:
            with st.container(border=True, gap="xsmall", key=f"aside_{item.file}"):
                with caught():
                    _small(item.path)
                st.markdown(short(item.name, 28))
                st.caption(item.reason or "by hand")
                st.button(
                    "Put back", key=f"back_{item.file}", on_click=act, args=(bring_back, project, [item.file])
                )
    switch()


@st.dialog("Delete for good?")
def _sure(project: Project) -> None:
    gone = set_aside_list(project)
    st.markdown(
        f"{count_words(len(gone), 'picture')} and their captions are deleted from this project. That frees "
        f"**{human_size(room_taken(project))}** and cannot be undone. The originals, wherever you imported them from, stay."
    )
    with st.container(horizontal=True):
        if st.button(f"Delete {count_words(len(gone), 'picture')}", key="discard_yes", type="primary"):
            act(delete_for_good, project)
            st.rerun()
        if st.button("Keep them", key="discard_no"):
            st.rerun()


def _changed(project: Project, made: list[Made]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**{count_words(len(made), 'picture')} changed** :small[:gray[the imported copies are kept]]",
            width="stretch",
        )
        st.button(f"Undo all changes ({len(made)})", key="copies_all", icon=":material/undo:", on_click=act,
                  args=(bring_copies_back, project, [m.name for m in made]))  # fmt: skip
    some, switch = paged(made, key="made_page", per_page=12)
    with st.grid("auto", min_column_width=190):
        for item in some:
            with st.container(border=True, gap="xsmall", key=f"made_{item.name}"):
                with caught():
                    _small(project.dataset_dir / item.name)
                st.markdown(short(item.name, 28))
                was = f", was {short(item.original, 28)}" if item.original != item.name else ""
                st.caption(", ".join(WAYS.get(w, w) for w in item.ways) + was)
                st.button(
                    "Undo",
                    key=f"copy_{item.name}",
                    on_click=act,
                    args=(bring_copies_back, project, [item.name]),
                )
    switch()


def _small(path: Path) -> None:
    """A picture that may not be readable."""
    try:
        about = path.stat()
        st.image(_drawn(path, about.st_size, about.st_mtime_ns), width=140, alt=path.name)
    except Exception:  # noqa: BLE001  the decoder's own errors: that is why it was set aside
        st.markdown(":red[:material/broken_image:] cannot be read")


@lru_cache(maxsize=200)
def _drawn(path: Path, _size: int, _time: int) -> bytes:
    """The picture small, as WebP; decoded once as long as the file is the same."""
    out = io.BytesIO()
    preview(path, 256).save(out, "WEBP", quality=80)
    return out.getvalue()
