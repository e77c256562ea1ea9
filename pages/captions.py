"""The words that go with each picture: a list to edit in place, one picture at a time, and bulk edits with a preview."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts.caption_edit import (
    again,
    approve_button,
    bulk_edit,
    caption_field,
    caption_state,
    trigger_first,
)
from pages.parts.context import require_project
from pages.parts.flash import act
from pages.parts.nav import PAGES, link
from pages.parts.next import go_on, what_next
from pages.parts.page import page
from studio.captions.stats import tag_counts
from studio.captions.store import CaptionStore
from studio.captions.view import SHOWN, Row, Rows, Show, caption_rows
from studio.dataset.scan import scan
from studio.project import Project

PER_PAGE = 20
TAGS_SHOWN = 30
VIEWS = {"list": "List", "one": "One by one", "bulk": "Bulk edit"}


def history_buttons(project: Project) -> None:
    """Undo and redo, each saying what it would do."""
    store = CaptionStore(project)
    for way, icon, what in (
        ("undo", ":material/undo:", store.can_undo),
        ("redo", ":material/redo:", store.can_redo),
    ):
        st.button(way.capitalize(), key=way, icon=icon, disabled=not what, on_click=act,
            args=(again, project, way),
                  help=f"{way.capitalize()}: {what}" if what else f"Nothing to {way}")  # fmt: skip


def filters(rows: Rows) -> list[Row]:
    """The rows that the filters keep."""
    options = [s for s in SHOWN if s == "all" or rows.count(s)]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        show: Show | None = st.segmented_control("Show", options, format_func=lambda s: f"{SHOWN[s]} ({rows.count(s)})", default="all",
                                                 key="captions_show", persist_state="session")  # fmt: skip
        query = st.text_input(
            "Find", type="search", key="captions_query", placeholder="Words or file name", width=240
        )
    return rows.filtered(
        show if show in options else "all", query or "", st.session_state.get("captions_tags") or ()
    )


def tag_list(rows: Rows) -> None:
    """Tags with their counts; a click shows only the captions that hold them."""
    counts = tag_counts([r.text for r in rows.every], rows.trigger).most_common(TAGS_SHOWN)
    st.markdown(
        "**Tags**",
        help="The parts between commas, and in how many captions they stand. Choose some to see only those captions.",
    )
    if not counts:
        st.caption("None yet.")
        return
    number = dict(counts)
    chosen = st.session_state.get("captions_tags") or []
    options = [*number, *(t for t in chosen if t not in number)]
    st.pills("Tags", options, selection_mode="multi", format_func=lambda t: f"{t} · {number.get(t, 0)}", key="captions_tags",
             label_visibility="collapsed")  # fmt: skip


def picture_list(project: Project, rows: Sequence[Row]) -> None:
    """A page of pictures, each with its caption in a field."""
    pages = max(1, -(-len(rows) // PER_PAGE))
    number = st.pagination(pages, key=f"captions_page_{pages}") if pages > 1 else 1
    thumbs = {p.name: p.thumb for p in scan(project)}
    for row in rows[(number - 1) * PER_PAGE : number * PER_PAGE]:
        with st.container(border=True, key=f"row_{row.name}"):
            left, right = st.columns([1, 5], vertical_alignment="center")
            thumb = thumbs.get(row.name)
            if thumb is not None and thumb.is_file():
                left.image(str(thumb), width=112, alt=row.name)
            else:
                left.markdown(
                    ":red[:material/broken_image:]", help="This picture does not open. See the dataset page."
                )
            with right:
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.markdown(f":small[`{row.name}`] {caption_state(row)}", width="stretch")
                    if row.status == "needs review":
                        approve_button(project, [row.name], "Approve", key=f"approve_{row.name}")
                caption_field(project, row, height=72, key="list")


def _move(step: int, last: int) -> None:
    st.session_state["captions_at"] = min(max(0, st.session_state.get("captions_at", 0) + step), last)


def one_by_one(project: Project, rows: Sequence[Row]) -> None:
    """One large picture with its caption beside it."""
    last = len(rows) - 1
    at = min(max(0, st.session_state.get("captions_at", 0)), last)
    row = rows[at]
    left, right = st.columns([3, 2], gap="large")
    with left:
        picture = next((p for p in scan(project) if p.name == row.name), None)
        if picture is not None and picture.error is None:
            st.image(str(row.picture), width="stretch", alt=row.name)
        else:
            st.error(
                picture.error if picture else "It is no longer there.",
                title=f"{row.name} does not open",
                icon=":material/broken_image:",
            )
    with right:
        st.markdown(f"**{at + 1} of {len(rows)}** :small[`{row.name}`]")
        caption_field(project, row, height=200, key="one")
        st.markdown(caption_state(row))
        with st.container(horizontal=True):
            st.button(
                "Previous",
                key="previous",
                icon=":material/chevron_left:",
                on_click=_move,
                args=(-1, last),
                disabled=at == 0,
                shortcut="Left",
            )
            st.button(
                "Next",
                key="next",
                icon=":material/chevron_right:",
                on_click=_move,
                args=(1, last),
                disabled=at == last,
                shortcut="Right",
            )
            if row.text and row.status != "approved":
                approve_button(project, [row.name], "Approve", key="approve_one")
        st.caption(
            "Arrow keys left and right turn the pages. What you type is saved when you leave the field."
        )


with page(
    PAGES["captions"].title, PAGES["captions"].about, project=(project := require_project()), step="captions"
):
    rows = caption_rows(project)
    if not rows.every:
        st.info(
            "Captions are written for pictures. Add some first.",
            title="No pictures yet",
            icon=":material/photo_library:",
        )
        go_on("dataset", "Go to the dataset page")
        st.stop()
    missing, review, stray = rows.count("none"), rows.count("review"), rows.count("no-trigger")
    st.markdown(
        f"Every caption starts with the trigger word :blue-badge[{rows.trigger}]. You need not type it: it is put first when you save."
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        approve_button(
            project,
            [r.name for r in rows.every if r.status == "needs review"],
            f"Approve {review}" if review else "All reviewed",
            key="approve_all",
        )
        if stray:
            st.button(f"Put the trigger word first ({stray})", key="add_trigger", icon=":material/healing:", on_click=act,
                      args=(trigger_first, project, [r.name for r in rows.every if r.text and not r.leads]))  # fmt: skip
        history_buttons(project)
    side, main = st.columns([1, 3], gap="large")
    with side:
        tag_list(rows)
        link("guide", "How to write captions", icon=":material/help:", topic="captioning")
    with main:
        shown = filters(rows)
        view = st.segmented_control("View", list(VIEWS), format_func=VIEWS.__getitem__, default="list", required=True, key="captions_view",
                                    label_visibility="collapsed", persist_state="session")  # fmt: skip
        if not shown:
            st.caption("No caption fits these filters.")
        elif view == "one":
            one_by_one(project, shown)
        elif view == "bulk":
            bulk_edit(project, shown)
        else:
            picture_list(project, shown)
    blocked = (
        f"{missing} pictures have no caption yet."
        if missing
        else f"{stray} captions do not start with the trigger word."
        if stray
        else ""
    )
    go_on("config", "Continue to config", blocked=blocked)
    what_next("You choose how to train: a preset, or every setting.",
              "Captions can be changed at any time before training; each lies as a `.txt` beside its picture.")  # fmt: skip
