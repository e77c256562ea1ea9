"""Captions: a table to edit in place, one picture at a time, tags with counts, and bulk edits that show what they change."""

from importlib.util import find_spec

import streamlit as st

from pages.parts.caption_bulk import bulk
from pages.parts.caption_card import card
from pages.parts.caption_table import ROWS, marked, show_clashes, table
from pages.parts.caption_tags import clear_filters, filters, order, tag_list
from pages.parts.caption_tools import mend, toolbar
from pages.parts.caption_words import STYLES
from pages.parts.context import advanced, require_project
from pages.parts.findings import show_findings
from pages.parts.gallery import paged
from pages.parts.live_job import is_running
from pages.parts.nav import link
from pages.parts.next import go_on, what_next
from pages.parts.page import caught, page
from pages.parts.thumbs import thumb_url
from studio import guidance
from studio.captions.batch import last_job
from studio.captions.filters import Overview, counter, fitting, ordered, overview
from studio.captions.store import CaptionStore
from studio.captions.tokens import readers
from studio.dataset.fixes import touches
from studio.dataset.folder import look
from studio.dataset.gate import FIXES
from studio.dataset.scan import Scan, scan
from studio.findings import Finding, blocking
from studio.guidance import about_captions, count_words
from studio.models import get_model
from studio.project import Project


def numbers(told: Overview, bad: list[Finding]) -> None:
    """How far it is, in one line."""
    total, review = told.show["all"], told.show["needs review"]
    parts = [f"**{total - told.show['empty']} of {total} written**", f"{told.show['approved']} approved"]
    parts += [f"{review} to review"] if review else []
    parts += [f":red[{count_words(len(bad), 'finding')} to mend]"] if bad else []
    st.markdown(" :gray[·] ".join(parts))


def noticed(project: Project, seen: Scan, found: list[Finding]) -> None:
    """What is wrong with the captions, told to somebody who is on this page already."""
    here = [f.model_copy(update={"fix": f.fix.replace(" on the captions page", " below")}) for f in found]
    show_findings(here, key="caption_noticed", labels=FIXES, on_action=lambda f: mend(project, f), compact=True,
                  counts=lambda f: touches(seen, f))  # fmt: skip


def by_itself(project: Project) -> None:
    """Captions written by an engine."""
    if find_spec("pages.parts.auto_captions") is None:
        return
    if "auto_box" not in st.session_state:  # a new tab, or a reload: what is at work is shown
        job = last_job(project)
        if job is not None and is_running(job):
            st.session_state["auto_box"] = True
    box = st.expander(
        "Write captions for me", icon=":material/auto_awesome:", key="auto_box", on_change="rerun"
    )
    if box.open:
        from pages.parts.auto_captions import auto_captions

        with box, caught():
            auto_captions(project)


def draw(project: Project) -> None:
    """The whole page of a dataset that has pictures."""
    store, seen = CaptionStore(project), scan(project)
    captions, trigger = store.of(look(store.folder)), store.trigger
    entry = get_model(project.workspace, project.intent.base_model)
    reader = readers(entry, project.workspace)[0]
    count, limit = counter(reader), reader.limit
    told = overview(captions, trigger, limit, count)
    found = [f for f in guidance.findings(project) if about_captions(f)]
    bad = blocking(found)
    numbers(told, bad)
    st.caption(f":material/lightbulb: {STYLES[entry.caption_style]} Name what may change; leave out what you teach. "
               f"`{trigger}` is put in front by itself.")  # fmt: skip
    # Boxes that are always there, empty or not: what stands below would be built anew when it moves, and an open cell with
    # what is typed in it would go.
    with st.container():
        if found:
            noticed(project, seen, found)
    with st.container():
        by_itself(project)
    with st.container():
        show_clashes(project)
    left, middle = st.columns([5, 19], gap="medium")
    with left:
        st.markdown("**Tags**", help="How many captions hold each tag. Click to filter.")
        with st.container(height=700, border=False, key="tag_list"):
            some, none = tag_list(told)
    with middle:
        wanted = filters(told, limit, some, none)
        names = ordered(captions, fitting(captions, wanted, trigger, count), order())
        chosen = marked(names)
        toolbar(project, store, captions, names, chosen)
        many = st.expander("Edit many at once", icon=":material/edit_note:", key="bulk", on_change="rerun")
        if many.open:
            with many:
                bulk(project, captions, names, chosen)
        views = st.tabs(["Table", "One at a time"], key="caption_view", on_change="rerun")
        if not names:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(":gray[No caption fits.]")
                st.button("Show all", key="clear_filters", on_click=clear_filters)
        if views[0].open and names:
            with views[0]:
                rows, switch = paged(names, key="captions_page", per_page=ROWS)
                table(project, rows, captions, thumb_url(project, seen), count, limit)
                switch()
        if views[1].open and names:
            with views[1]:
                card(project, seen, captions, names, entry, count, limit)
    st.space("small")
    empty = guidance.missing_captions(project, captions)
    blocked = (
        f"{count_words(empty, 'caption')} missing."
        if empty
        else f"{count_words(len(bad), 'finding')} above must be mended first."
        if bad
        else ""
    )
    go_on("config", "Go on to the settings", blocked=blocked)
    what_next("You choose a preset, or every setting by yourself, and see what the training takes.",
              "Captions can still be changed later; gate 1 is then checked again.")  # fmt: skip
    if advanced():
        link("guide", "How to write captions", icon=":material/menu_book:", topic="captioning")


project = require_project()
with page("Captions", "The words that go with each picture. What they leave out becomes part of the trigger word.", project=project, step="captions", width=1400):  # fmt: skip
    if not guidance.picture_count(project):
        st.info(
            "Captions belong to pictures. Add those first.",
            title="No pictures yet",
            icon=":material/photo_library:",
        )
        link("dataset", "Add pictures", icon=":material/arrow_forward:")
    elif guidance.unseen(project) > 60:
        st.info(
            "The studio has not looked at the new pictures yet.",
            title="One step back",
            icon=":material/photo_library:",
        )
        link("dataset", "Look at them on the dataset page", icon=":material/arrow_forward:")
    else:
        draw(project)
