"""Once for each start of the app: rented trainings that nobody follows any more are taken up again, in the background."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import streamlit as st

from studio.reattach import left_alone, reattach
from studio.workspace import Workspace

log = logging.getLogger(__name__)


@st.cache_resource(show_spinner=False)
def follow_rented_runs(root: Path) -> bool:
    """See that every paid training of the workspace in `root` is followed; asks the network, so it holds up no page."""
    workspace = Workspace(root)
    if not left_alone(workspace):
        return False
    threading.Thread(target=_follow, args=(workspace,), daemon=True, name="rented runs").start()
    return True


def _follow(workspace: Workspace) -> None:
    for run, why in reattach(workspace).items():
        if why:
            log.warning("Run %s is not followed: %s", run, why)
