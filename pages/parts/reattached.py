"""Once for each start of the app: rented trainings that nobody follows any more are taken up again, and so is the queue."""

from __future__ import annotations

import logging
from pathlib import Path

import streamlit as st

from studio import queue
from studio.errors import StudioError
from studio.reattach import reattach
from studio.workspace import Workspace

log = logging.getLogger(__name__)


@st.cache_resource(show_spinner=False)
def follow_rented_runs(root: Path) -> int:
    """See that every paid training of the workspace in `root` is followed; how many had to be taken up."""
    said = reattach(Workspace(root))
    for run, why in said.items():
        if why:
            log.warning("Run %s is not followed: %s", run, why)
    return len(said)


@st.cache_resource(show_spinner=False)
def go_on_with_queue(root: Path) -> bool:
    """See that somebody works the queue off, as after a restart of the computer; whether anything waited."""
    try:
        return queue.wake(Workspace(root)) is not None
    except StudioError as e:
        log.warning("The queue is not worked off: %s", e)
        return False
