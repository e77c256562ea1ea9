"""A dataset that has pictures: its numbers, what the studio noticed, and the tabs."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts import (
    buckets_view,
    dataset_aside,
    dataset_gallery,
    dataset_report,
    duplicates_view,
    variety_view,
)
from pages.parts.dataset_changes import check, mend
from pages.parts.dataset_gallery import VIEW, show_only
from pages.parts.findings import show_findings
from pages.parts.page import caught
from pages.parts.thumbs import thumb_url
from studio import guidance
from studio.dataset.buckets import bucket_preview
from studio.dataset.duplicates import find_duplicates
from studio.dataset.fixes import FIXES, touches
from studio.dataset.scan import Scan, set_aside_list
from studio.dataset.unmeasured import COMPARE, READ_WRITING, unmeasured
from studio.findings import Finding, blocking, by_harm, summary
from studio.models import get_model
from studio.project import Project


def numbers(project: Project, seen: Scan, found: list[Finding]) -> None:
    """The row of numbers."""
    captioned = seen.facts.once("how many captioned", lambda: sum(seen.captioned))
    copies = sum(len(g.names) - 1 for g in find_duplicates(seen))
    told = (
        ("Pictures", str(len(seen))),
        ("Captioned", f"{captioned} of {len(seen)}"),
        ("To mend", str(len(blocking(found)))),
        ("Duplicates", str(copies)),
        ("Buckets", str(len(bucket_preview(seen, guidance.planned_settings(project))))),
    )
    with st.grid(len(told), min_column_width=118):
        for label, value in told:
            st.metric(label, value, border=True)


def show_noticed(project: Project, seen: Scan, found: list[Finding]) -> None:
    """All findings, the most harmful first, and what was not looked at."""
    if found:
        st.subheader(f"What the studio noticed: {summary(found)}", anchor=False)
    else:
        st.success("Every picture opens, has a caption that starts with the trigger word, and is there once.",
                   title="Nothing to mend", icon=":material/check_circle:")  # fmt: skip
    ordered = by_harm(found)
    url = thumb_url(project, seen)

    def draw(some: list[Finding], key: str, limit: int = 0) -> None:
        show_findings(some, key=key, labels=FIXES, on_action=lambda f: mend(project, f), limit=limit,
                      thumb=lambda n: url(n) or None, counts=lambda f: touches(seen, f), on_show=show_only)  # fmt: skip

    draw([f for f in ordered if f.severity != "info"], "noticed", 5)
    quiet = [f for f in ordered if f.severity == "info"]
    if quiet:
        with st.expander(f"Good to know ({len(quiet)})", icon=":material/info:", key="quiet"):
            draw(quiet, "quietly")
    missing = unmeasured(seen, get_model(project.workspace, project.intent.base_model))
    if missing:
        with st.expander(f"Not checked ({len(missing)})", icon=":material/help:", key="unmeasured"):
            show_findings(missing, key="missing", labels={READ_WRITING: "Look for writing", COMPARE: "Look for copies"},
                          compact=True, on_action=lambda f: check(project, f))  # fmt: skip


def tabs(project: Project, seen: Scan, found: list[Finding]) -> None:
    """The views of the dataset; only the open one is drawn. Their names hold no counts, so that an open one stays
    open when a count changes."""
    views: dict[str, Callable[[], None]] = {
        "Gallery": lambda: dataset_gallery.gallery(project, seen, found),
        "Duplicates": lambda: duplicates_view.draw(project, seen),
        "Variety": lambda: variety_view.draw(project, seen),
        "Buckets": lambda: buckets_view.draw(project, seen),
    }
    if (
        set_aside_list(project)
        or dataset_aside.changed_here(project)
        or st.session_state.get(VIEW) == "Set aside"
    ):
        views["Set aside"] = lambda: dataset_aside.draw(project)
    views["Report"] = lambda: dataset_report.draw(project)
    for view, show in zip(st.tabs(list(views), key=VIEW, on_change="rerun"), views.values(), strict=True):
        if view.open:
            with view, caught():
                show()
