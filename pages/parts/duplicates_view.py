"""The duplicates tab: each group side by side; the user decides, a suggestion is marked, everything can be undone."""

from __future__ import annotations

import streamlit as st

from pages.parts.dataset_changes import aside, bring_back
from pages.parts.deep_look import deep_look
from pages.parts.flash import act, say
from pages.parts.gallery import paged, short, size_words
from pages.parts.thumbs import thumb_url
from pages.parts.words import plain
from studio.dataset.duplicates import (
    DuplicateGroup,
    ask_again,
    find_duplicates,
    keep_all,
    resolve,
    resolve_all,
)
from studio.dataset.scan import Scan
from studio.files import human_size
from studio.project import Project

_WHY = "Finds crops and reworked copies that layout alone does not show."


def draw(project: Project, seen: Scan) -> None:
    """All groups, with one click for the best of each."""
    groups = find_duplicates(seen)
    extra = sum(len(g.names) - 1 for g in groups)
    if not groups:
        st.markdown(":green[:material/check:] No picture is there twice.")
        deep_look(project, seen, why=_WHY, key="duplicates")
        _asked_before(project)
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            "Repeated pictures are learned by heart instead of teaching something new. Keep the best of each group; "
            "the others are set aside, not deleted.",
            width="stretch",
        )
        if len(groups) > 1:
            st.button(f"Keep the best of all {len(groups)} groups · sets {extra} aside", key="keep_all_best",
                      icon=":material/done_all:", on_click=act, args=(_all, project, groups))  # fmt: skip
    deep_look(project, seen, why=_WHY, key="duplicates")
    some, switch = paged(groups, key="duplicates_page", per_page=6)
    small = thumb_url(project, seen)
    for group in some:
        with st.container(border=True, key=f"group_{group.kind}_{group.names[0]}"):
            _group(project, seen, group, small)
    switch()
    _asked_before(project)


def _words(group: DuplicateGroup) -> str:
    if group.kind == "exact":
        return "The same picture, saved more than once"
    if group.deep:
        return f"The same content, cut or reworked ({group.likeness:.0%} alike, seen by the deep look)"
    return f"Nearly the same ({group.likeness:.0%} alike)"


def _group(project: Project, seen: Scan, group: DuplicateGroup, small: object) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"**{_words(group)}**", width="stretch")
        if group.kind == "near":
            st.button("Keep all: not duplicates", key=f"apart_{group.names[0]}", type="tertiary", icon=":material/call_split:",
                      on_click=act, args=(_apart, project, group))  # fmt: skip
    shown = group.names[:12]
    with st.grid("auto", min_column_width=210):
        for name in shown:
            picture = seen.get(name)
            if picture is None:
                continue
            best = name == group.suggested_keep
            with st.container(gap="xsmall", key=f"twin_{group.kind}_{name}"):
                st.image(small(name), width="stretch", alt=name)  # type: ignore[operator]
                badges = f" :green-badge[suggested: {group.why}]" if best else ""
                if name == group.sharpest and not best:
                    badges += " :orange-badge[sharper]"
                st.markdown(f"{short(name, 28)}{badges}")
                st.caption(
                    f"{size_words(picture)} · {human_size(picture.bytes)}  \n{plain(picture.caption, 90) or 'no caption'}"
                )
                st.button("Keep this one", key=_key(group, name), icon=":material/check:" if best else None, width="stretch",
                          type="primary" if best else "secondary", on_click=act, args=(_keep, project, group, name))  # fmt: skip
    if len(group.names) > len(shown):
        st.caption(f"And {len(group.names) - len(shown)} more of the same.")


def _key(group: DuplicateGroup, name: str) -> str:
    """One name may be the best of exact copies and of near ones, too: its two buttons are two."""
    return f"keep_{name}" if group.kind == "exact" else f"keep_near_{name}"


def _keep(project: Project, group: DuplicateGroup, name: str) -> None:
    aside(project, resolve(project, group, name))


def _all(project: Project, groups: list[DuplicateGroup]) -> None:
    gone = resolve_all(project, groups)
    say(
        f"The best of {len(groups)} groups kept, {len(gone)} set aside.",
        undo=lambda: bring_back(project, gone),
    )


def _apart(project: Project, group: DuplicateGroup) -> None:
    names = keep_all(project, group)
    say(
        f"All {len(names)} kept. They are not shown as duplicates again.", undo=lambda: _again(project, names)
    )


def _again(project: Project, names: list[str] | None = None) -> None:
    ask_again(project, names)
    say("They are compared again.")


def _asked_before(project: Project) -> None:
    """A way back from every 'not duplicates' ever said."""
    if (project.folder / "not_duplicates.json").is_file():
        st.button("Ask again about pictures that I called different", key="ask_again", type="tertiary", icon=":material/undo:",
                  on_click=act, args=(_again, project))  # fmt: skip
