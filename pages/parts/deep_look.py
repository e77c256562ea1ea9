"""The deep look at a dataset: what it is, its button, and its job while it runs."""

from __future__ import annotations

import streamlit as st

from pages.parts.flash import act, say
from pages.parts.live_job import live_job
from studio.dataset import deep
from studio.dataset.scan import Scan
from studio.files import human_time
from studio.project import Project


def deep_look(project: Project, seen: Scan, *, why: str, key: str) -> None:
    """Offer the deep look, or show that it runs. why: what it brings here, one sentence."""
    job = deep.running(project)
    if job is not None:
        live_job(job, key=f"{key}_deep")
        return
    todo = deep.missing(seen)
    if not todo:
        return
    with st.container(border=True, horizontal=True, vertical_alignment="center", key=f"{key}_deep_offer"):
        st.markdown(
            f"**Deep look** :gray[{why} Runs on this computer, about {human_time(2 + deep.SECONDS * len(todo))}.]",
            width="stretch",
        )
        st.button("Look deeper", key=f"{key}_deep_start", icon=":material/search_insights:", on_click=act,
                  args=(_start, project, seen))  # fmt: skip


def _start(project: Project, seen: Scan) -> None:
    deep.start(project, seen)
    say("The deep look has begun. You can leave this page; it goes on.")
