"""The frame of every page: title, purpose, step bar, content; and calm words instead of a traceback."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from pages.parts.findings import LOOK, show_findings
from pages.parts.flash import act, flash_of, forget_flash
from pages.parts.steps import step_bar
from pages.parts.words import plain
from studio.errors import StudioError
from studio.project import Project

log = logging.getLogger("studio.pages")
WIDTH = 1180
FLASH_FINDINGS = 5  # shown at once; the others behind "more"
_TOP = "_start_at_top"


def show_error(error: StudioError) -> None:
    """What, why, fix; and each single problem below when there are many."""
    body = "\n\n".join(
        part for part in (error.why, f"**What to do:** {error.fix}" if error.fix else "") if part
    )
    st.error(body or "Try again.", title=error.what, icon=":material/error:")
    if error.findings:
        show_findings(error.findings, key=f"error_{abs(hash(error.what))}")


def show_unexpected(error: BaseException) -> None:
    """For a fault of the studio itself: calm words here, the traceback to the log."""
    log.error("Unexpected error on a page", exc_info=error)
    st.error(
        f"This is a fault of the studio, not yours: {type(error).__name__}. Your files are safe, because everything is "
        "saved as soon as you change it.\n\n**What to do:** reload the page. If it comes back, the details are in the "
        "window in which the studio was started.",
        title="Something went wrong while drawing this page",
        icon=":material/error:",
    )


def start_at_top() -> None:
    """Show the page from its top after the next drawing: for a button at the end of one view that opens another."""
    st.session_state[_TOP] = True


def _scroll() -> None:
    if st.session_state.pop(_TOP, False):
        # Streamlit keeps the place where the page was scrolled to, and has no call to change it.
        st.html(
            "<script>document.querySelector('[data-testid=\"stMain\"]')?.scrollTo({top: 0});</script>",
            unsafe_allow_javascript=True,
        )


@contextmanager
def caught() -> Iterator[None]:
    """Everything that goes wrong inside is shown calmly, and the rest of the page goes on."""
    try:
        yield
    except StudioError as e:
        show_error(e)
    except Exception as e:  # noqa: BLE001  (the last line of defence: no traceback reaches a user)
        show_unexpected(e)


def _flash(page: str) -> None:
    """What the last action did, with its way back; or why it did not work."""
    flash = flash_of(page)
    if flash is None:
        return
    if flash.error is not None:
        show_error(flash.error)
        return
    with st.container(border=True, key="flash"):
        with st.container(horizontal=True, vertical_alignment="center"):
            sign = ":orange[:material/warning:]" if flash.in_vain else ":green[:material/check:]"
            st.markdown(f"{sign} {flash.words}", width="stretch")
            if flash.undo is not None:
                st.button(
                    flash.undo_label,
                    key="flash_undo",
                    icon=":material/undo:",
                    on_click=act,
                    args=(flash.undo,),
                )
            st.button("Close", key="flash_close", type="tertiary", on_click=forget_flash)
        for finding in flash.findings[:FLASH_FINDINGS]:
            told = " ".join(t for t in (finding.why, finding.fix) if t)
            icon, colour, _ = LOOK[finding.severity]
            st.markdown(f":{colour}[{icon}] **{plain(finding.what, 300)}** :gray[{told}]")
        if len(flash.findings) > FLASH_FINDINGS:
            with st.expander(f"{len(flash.findings) - FLASH_FINDINGS} more", key="flash_more"):
                show_findings(flash.findings[FLASH_FINDINGS:], key="flash_findings")


@contextmanager
def page(
    title: str, purpose: str, *, project: Project | None = None, step: str = "", width: int = WIDTH
) -> Iterator[None]:
    """The frame of a page.

    title, purpose: the heading and the one sentence below it.
    project, step:  when both are given, the step bar with this step marked.
    width:          widest the content may grow, px.
    """
    with st.container(horizontal_alignment="center"), st.container(width=width), caught():
        st.title(title, anchor=False)
        st.markdown(f":gray[{purpose}]")
        if project is not None and step:
            try:
                step_bar(project, step)
            except (
                StudioError
            ) as e:  # the project itself cannot be read: there is nothing to draw a page from
                show_error(e)
                st.stop()
            except Exception as e:  # noqa: BLE001  the page itself may still work without its bar
                show_unexpected(e)
        # Always there, so that a message does not move, and so rebuild, what stands below.
        with st.container():
            _flash(title)
        _scroll()
        st.space("small")
        yield
