"""A job, live: how far it is, how long it still takes, stop, and its log behind "technical details".

Everything is read from the job's folder, so it looks the same in a new tab, after a reload, or after a restart.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.parts.flash import act
from pages.parts.page import caught
from pages.parts.words import plain
from studio.files import human_size
from studio.jobs.job import Job

RUNNING = frozenset(("starting", "running", "stopping"))
WORDS = {
    "starting": "Starting",
    "running": "Running",
    "stopping": "Stopping",
    "finished": "Finished",
    "failed": "Failed",
    "stopped": "Stopped",
    "interrupted": "Interrupted",
}


def is_running(job: Job) -> bool:
    """True while a process works on the job."""
    return job.state in RUNNING


def live_job(
    job: Job,
    *,
    key: str,
    draw: Callable[[Job], None] | None = None,
    stop_label: str = "Stop",
    every: float = 1.0,
    details: bool = True,
) -> None:
    """Show a job and refresh it while it runs; when it ends, the whole page is drawn again once.

    draw:    drawn below the progress on each refresh (a chart, the newest samples).
    every:   seconds between refreshes.
    details: offer the log.
    """
    was_running = is_running(job)

    @st.fragment(run_every=every if was_running else None)
    def view() -> None:
        with caught():
            if was_running and not is_running(job):
                st.rerun()
            progress_of(job, key=key, stop_label=stop_label)
            if draw is not None:
                draw(job)
            if details:
                log_of(job, key=key)

    view()


def progress_of(job: Job, *, key: str, stop_label: str = "Stop", title: str = "") -> None:
    """One line of state, the bar, and the stop button. title: said first, where several jobs are shown."""
    state = job.state
    progress = job.progress
    with st.container(horizontal=True, vertical_alignment="center"):
        words = progress.message or plain(job.spec.title)
        words = f"{plain(title)} · {words}" if title and words != plain(title) else words
        st.markdown(f"**{WORDS.get(state, state)}** · {words}", width="stretch")
        if state in RUNNING:
            st.button(
                "Stopping…" if state == "stopping" else stop_label,
                key=f"{key}_stop",
                icon=":material/stop_circle:",
                disabled=state == "stopping",
                on_click=act,
                args=(job.stop,),
            )
    if state in RUNNING:
        fraction = getattr(progress, "fraction", None)
        st.progress(min(1.0, max(0.0, float(fraction or 0.0))), text=_counted(progress))
    elif state in ("failed", "interrupted"):
        _failure(job)


def _counted(progress: Any) -> str:
    parts = []
    total, done = getattr(progress, "total", None), getattr(progress, "done", None) or 0
    unit = getattr(progress, "unit", "") or ""
    if total and unit == "MB":
        parts.append(f"{human_size(done * 1e6)} of {human_size(total * 1e6)}")
    elif total:
        # Whole numbers: a piece that is half done is not counted yet.
        parts.append(f"{int(done):,} of {int(total):,} {unit}".strip())
    if progress.left:
        parts.append(progress.left)
    return " · ".join(parts) or "Getting ready"


def _failure(job: Job) -> None:
    error = job.error or {}
    if job.state == "interrupted" and not error:
        st.warning(
            "The process that did this work is gone: the computer was switched off, or it was ended from outside. "
            "What it had saved is still there.",
            title="Interrupted",
            icon=":material/power_off:",
        )
        return
    parts = [str(error.get("why", "")), f"**What to do:** {error['fix']}" if error.get("fix") else ""]
    st.error(
        "\n\n".join(p for p in parts if p) or "The technical details below say more.",
        title=str(error.get("what") or "This job failed"),
        icon=":material/error:",
    )


def log_of(job: Job, *, key: str, below: Callable[[Job], None] | None = None) -> None:
    """The end of the log, read only when it is opened. below: drawn under it."""
    box = st.expander("Technical details", key=f"{key}_log", on_change="rerun", icon=":material/terminal:")
    if box.open:
        with box:
            st.caption(f"`{job.folder}`")
            st.code(
                job.log_tail(8000) or "The log is still empty.", language=None, wrap_lines=True, height=320
            )
            if below is not None:
                below(job)
