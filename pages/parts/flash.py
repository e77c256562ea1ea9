"""What an action did, said once at the top of the page, with its way back. Errors of actions are said there as well."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from studio.errors import StudioError
from studio.findings import Finding

log = logging.getLogger("studio.pages")
_KEY = "_flash"


@dataclass
class Flash:
    """One message. undo: takes back what was done; findings: what was left alone, and why; page: where it was said.
    in_vain: nothing came of it."""

    words: str
    undo: Callable[[], Any] | None = None
    undo_label: str = "Undo"
    findings: list[Finding] = field(default_factory=list)
    error: StudioError | None = None
    page: str = ""
    in_vain: bool = False


def say(
    words: str,
    *,
    undo: Callable[[], Any] | None = None,
    undo_label: str = "Undo",
    findings: list[Finding] | None = None,
    in_vain: bool = False,
) -> None:
    """Say what was done, with a warning sign where nothing came of it; the message stays until the next action, or until the user closes it or leaves the page."""
    st.session_state[_KEY] = Flash(words, undo, undo_label, list(findings or []), in_vain=in_vain)


def act(work: Callable[..., Any], *args: Any) -> None:
    """Do what a button asks for. To be given to `on_click`: an error is told at the top of the page, never raised."""
    st.session_state.pop(_KEY, None)
    try:
        work(*args)
    except StudioError as e:
        st.session_state[_KEY] = Flash(e.what, error=e)
    except Exception as e:
        log.exception("An action failed")
        told = StudioError(
            "That did not work.",
            f"This is a fault of the studio, not yours ({type(e).__name__}). Nothing was lost.",
            "Try again. If it comes back, the details are in the window in which the studio was started.",
        )
        st.session_state[_KEY] = Flash(told.what, error=told)


def flash_of(page: str) -> Flash | None:
    """The message that belongs to this page, if there is one; one that was said on another page is forgotten."""
    flash: Flash | None = st.session_state.get(_KEY)
    if flash is None:
        return None
    flash.page = flash.page or page
    if flash.page != page:
        forget_flash()
        return None
    return flash


def unsaid() -> bool:
    """Whether there is a message that no page has shown yet: for a part of a page that is drawn by itself."""
    flash: Flash | None = st.session_state.get(_KEY)
    return flash is not None and not flash.page


def forget_flash() -> None:
    """The message was read."""
    st.session_state.pop(_KEY, None)
