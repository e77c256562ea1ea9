"""What an action did, said once at the top of the page, with its way back. Errors of actions are said there as well."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from pages.parts.words import plain
from studio.errors import StudioError
from studio.findings import Finding

log = logging.getLogger("studio.pages")
_KEY = "_flash"
_SHOWN = 5


@dataclass
class Flash:
    """One message. undo: takes back what was done; findings: what was left alone, and why; page: where it was said."""

    words: str
    undo: Callable[[], Any] | None = None
    undo_label: str = "Undo"
    findings: list[Finding] = field(default_factory=list)
    error: StudioError | None = None
    page: str = ""


def say(
    words: str,
    *,
    undo: Callable[[], Any] | None = None,
    undo_label: str = "Undo",
    findings: list[Finding] | None = None,
) -> None:
    """Say what was done; the message stays until the next action, or until the user closes it or leaves the page."""
    st.session_state[_KEY] = Flash(words, undo, undo_label, list(findings or []))


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


def show_flash(page: str) -> None:
    """Draw the message, if there is one that belongs to this page."""
    from pages.parts.findings import show_findings
    from pages.parts.page import show_error

    flash: Flash | None = st.session_state.get(_KEY)
    if flash is None:
        return
    flash.page = flash.page or page
    if flash.page != page:
        st.session_state.pop(_KEY)
        return
    if flash.error is not None:
        show_error(flash.error)
        return
    with st.container(border=True, key="flash"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":green[:material/check:] {flash.words}", width="stretch")
            if flash.undo is not None:
                st.button(
                    flash.undo_label,
                    key="flash_undo",
                    icon=":material/undo:",
                    on_click=act,
                    args=(flash.undo,),
                )
            st.button("Close", key="flash_close", type="tertiary", on_click=_close)
        for finding in flash.findings[:_SHOWN]:
            told = " ".join(t for t in (finding.why, finding.fix) if t)
            st.markdown(f":orange[:material/warning:] **{plain(finding.what, 300)}** :gray[{told}]")
        if len(flash.findings) > _SHOWN:
            with st.expander(f"{len(flash.findings) - _SHOWN} more", key="flash_more"):
                show_findings(flash.findings[_SHOWN:], key="flash_findings")


def _close() -> None:
    st.session_state.pop(_KEY, None)
