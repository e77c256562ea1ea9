"""Editing captions: one caption in its field, and the bulk edit that shows every change before it is made."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts.flash import act, say
from pages.parts.page import show_error
from studio.captions.edits import EDITS, Change, Edit, EditKind, apply, preview
from studio.captions.store import CaptionStore, EditResult
from studio.captions.view import Row, difference
from studio.errors import StudioError
from studio.files import fingerprint
from studio.project import Project

SHOWN_CHANGES = 12
_ESCAPE = str.maketrans({c: f"\\{c}" for c in "\\`*_{}[]()#+-.!|<>~:$"})
_FIELDS: dict[EditKind, tuple[str, str]] = {
    "replace": ("Search for", "Replace by"),
    "prepend": ("", "Words to add"),
    "append": ("", "Words to add"),
    "remove_tag": ("Tags to remove, separated by commas", ""),
    "rename_tag": ("Tags to rename, separated by commas", "New name"),
    "dedupe": ("", ""),
    "sort": ("", ""),
    "underscores": ("", ""),
}


def _told(result: EditResult) -> None:
    """Say what an edit did and what it left alone. A single caption that was typed needs no message."""
    if len(result.changed) == 1 and not result.skipped and result.what.startswith("caption of"):
        return
    words = result.what[:1].upper() + result.what[1:]
    say(f"{words}." if result.changed else f"{words}: nothing changed.", findings=list(result.skipped))


def _save(project: Project, row: Row, key: str) -> None:
    _told(CaptionStore(project).set(row.name, str(st.session_state[key] or ""), expected=row.text))


def _approve(project: Project, names: Sequence[str]) -> None:
    _told(CaptionStore(project).approve(names))


def caption_field(project: Project, row: Row, *, height: int, key: str) -> None:
    """The caption of one picture; saved as soon as the field is left."""
    # The text is part of the key: when it changes elsewhere, the field shows the new words instead of a stale draft.
    field = f"{key}_{row.name}_{fingerprint(row.text)[:6]}"
    st.text_area(
        f"Caption of {row.name}", row.text, height=height, key=field, label_visibility="collapsed",
        on_change=act,
        args=(_save, project, row, field), placeholder="What the picture shows. The trigger word is added by itself.",
    )  # fmt: skip


def caption_state(row: Row) -> str:
    """Status, author and length of a caption as one line of Markdown."""
    look = {
        "approved": ":green-badge[:material/check: approved]",
        "needs review": ":orange-badge[needs review]",
    }
    parts = [look.get(row.status, ":red-badge[no caption]")]
    if row.text and not row.leads:
        parts.append(":red-badge[trigger word not first]")
    if row.too_long:
        parts.append(f":orange-badge[too long: {row.tokens} tokens]")
    elif row.tokens is not None:
        parts.append(f":small[:gray[{row.tokens} tokens]]")
    if row.outside:
        parts.append(":small[:gray[changed by another program]]")
    elif row.author_words:
        parts.append(f":small[:gray[{row.author_words}]]")
    return " ".join(parts)


def approve_button(project: Project, names: Sequence[str], label: str, *, key: str) -> None:
    """Approve some captions as they are."""
    st.button(
        label,
        key=key,
        icon=":material/check:",
        on_click=act,
        args=(_approve, project, names),
        disabled=not names,
    )


def _coloured(change: Change) -> str:
    marks = {"same": "{}", "gone": ":red-background[~~{}~~]", "new": ":green-background[**{}**]"}
    out = []
    for kind, piece in difference(change.before, change.after):
        text = piece.translate(_ESCAPE)
        out.append(marks[kind].format(text) if kind == "same" or piece.strip() else text)
    return "".join(out).replace("\n", "  \n")


def _apply(project: Project, changes: Sequence[Change], what: str) -> None:
    _told(apply(CaptionStore(project), changes, what=what))


def again(project: Project, way: str) -> None:
    """Take back the last edit (`undo`), or do it again (`redo`)."""
    store = CaptionStore(project)
    _told(store.undo() if way == "undo" else store.redo())


def trigger_first(project: Project, names: Sequence[str]) -> None:
    """Put the trigger word first where another program left it out."""
    _told(CaptionStore(project).add_trigger(names))


def bulk_edit(project: Project, rows: Sequence[Row]) -> None:
    """Choose an edit, see what it would change in `rows`, then apply it as one step that can be undone."""
    kind: EditKind = st.selectbox("What to do", list(EDITS), format_func=EDITS.__getitem__, key="bulk_kind")
    find_label, text_label = _FIELDS[kind]
    left, right = st.columns(2)
    find = left.text_input(find_label, key=f"bulk_find_{kind}") if find_label else ""
    text = right.text_input(text_label, key=f"bulk_text_{kind}") if text_label else ""
    options = {"regex": False, "match_case": False, "whole_word": False}
    if kind == "replace":
        with st.container(horizontal=True):
            options["whole_word"] = st.checkbox("Whole words only", key="bulk_whole")
            options["match_case"] = st.checkbox("Match upper and lower case", key="bulk_case")
            options["regex"] = st.checkbox(
                "Regular expression",
                key="bulk_regex",
                help="For those who know them: `find` is a pattern, and \\1 stands for its first group.",
            )
    if (find_label and not find) or (text_label and not text and kind != "replace"):
        st.caption(
            f"Works on the {len(rows)} captions that the filters show. Nothing changes before you have seen the preview."
        )
        return
    edit = Edit(kind=kind, find=find or "", text=text or "", **options)
    trigger = project.intent.trigger
    try:
        changes = preview({r.name: r.text for r in rows}, edit, trigger)
    except StudioError as e:
        show_error(e)
        return
    if not changes:
        st.info(f"None of the {len(rows)} captions shown would change.", icon=":material/info:")
        return
    st.markdown(
        f"**Changes {len(changes)} of {len(rows)} captions.** :small[:gray[Struck through goes, bold comes.]]"
    )
    with st.container(border=True, gap="xsmall"):
        for change in changes[:SHOWN_CHANGES]:
            st.markdown(f":small[:gray[{change.name.translate(_ESCAPE)}]]  \n{_coloured(change)}")
        if len(changes) > SHOWN_CHANGES:
            st.caption(f"and {len(changes) - SHOWN_CHANGES} more")
    st.button(
        f"Change {len(changes)} captions",
        key="bulk_apply",
        icon=":material/edit_note:",
        on_click=act,
        args=(_apply, project, changes, edit.words),
    )
