"""The one primary button of a page, why it is blocked, and what happens next."""

from __future__ import annotations

from typing import Any

import streamlit as st

from pages.parts.nav import link


def primary(
    label: str,
    *,
    key: str,
    blocked: str = "",
    mend_on: str = "",
    mend_label: str = "",
    icon: str | None = None,
    **more: Any,
) -> bool:
    """The page's one primary button, named after what it does and what it costs; True when pressed.

    blocked:  why it cannot be pressed now; shown beside it.
    mend_on:  the page that mends it, linked as `mend_label`.
    """
    with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
        pressed = st.button(label, key=key, type="primary", icon=icon, disabled=bool(blocked), **more)
        if blocked:
            st.markdown(f":orange[:material/lock:] {blocked}", width="content")
            if mend_on:
                link(mend_on, mend_label or None)
    return pressed


def go_on(name: str, label: str, *, blocked: str = "", mend_on: str = "", mend_label: str = "") -> None:
    """The primary button when it only leads to the next page."""
    from pages.parts.nav import go

    if primary(
        label,
        key=f"go_{name}",
        blocked=blocked,
        mend_on=mend_on,
        mend_label=mend_label,
        icon=":material/arrow_forward:",
    ):
        go(name)


def what_next(*lines: str) -> None:
    """`What happens next`, in one to three short lines."""
    with st.container(key="what_next", gap="xsmall"):
        st.markdown("**What happens next**")
        st.markdown("\n".join(f"- {line}" for line in lines))
