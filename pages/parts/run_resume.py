"""Going on with a run that was stopped or interrupted: first the environment is checked, while the page stays alive."""

from __future__ import annotations

import streamlit as st

from pages.parts.live_job import is_running, live_job, progress_of
from pages.parts.nav import link
from pages.parts.page import caught
from studio import launch
from studio.jobs.job import Job
from studio.project import Project
from studio.training.registry import is_rented
from studio.training.runs import Run


def _key(run: Run) -> str:
    """Where this window remembers the check that it waits for."""
    return f"resume_check_{run.id}"


def _begin(project: Project, run: Run) -> None:
    """The button: a rented run is taken up at once, as nothing is loaded for it here."""
    if is_rented(run.settings.backend):
        launch.resume_run(project, run.id)
        st.rerun()
    st.session_state[_key(run)] = launch.check_before_resuming(project)
    st.rerun()


def resume(project: Project, run: Run, usable: bool) -> None:
    """Go on from the saved state. usable: it left checkpoints, which can be evaluated as they are."""
    check: Job | None = st.session_state.get(_key(run))
    if check is not None and is_running(check):
        with st.container(border=True, gap="xsmall", key="resume_check"):
            live_job(check, key="resume_check_job", stop_label="Cancel", details=False)
            st.caption("Training goes on by itself as soon as this has passed.")
        return
    if check is not None:
        del st.session_state[_key(run)]
        with caught():
            if check.state == "finished":
                launch.resume_run(project, run.id, checked=True)
                st.rerun()
            if check.state != "stopped":
                progress_of(check, key="resume_check_job")
    with caught(), st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Resume training", key="resume", type="primary", icon=":material/resume:"):
            _begin(project, run)
        if usable:
            link("evaluation", "Evaluate what is there", icon=":material/grid_view:", run=run.id)
