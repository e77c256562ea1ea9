"""Findings as a list sorted by harm: what, why, how to mend it, its pictures, and the button that does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from pages.parts.flash import act
from studio.findings import Finding, by_harm

LOOK = {
    "block": (":material/block:", "red", "Blocks"),
    "warn": (":material/warning:", "orange", "Worth a look"),
    "info": (":material/info:", "blue", "Good to know"),
}
SHOWN_PICTURES = 8
SHOWN_NAMES = 6


def show_findings(
    findings: Sequence[Finding],
    *,
    key: str,
    labels: dict[str, str] | None = None,
    on_action: Callable[[Finding], None] | None = None,
    thumb: Callable[[str], Path | None] | None = None,
    limit: int = 0,
) -> None:
    """Draw findings, the most harmful first.

    labels:    what each `Finding.action` is called on its button; an action that is not in here has no button.
    on_action: called with the finding when its button is pressed.
    thumb:     gives the small picture for a name in `Finding.where`, or None; names are shown as words without it.
    limit:     how many are shown before "show all"; 0 shows all.
    """
    ordered = by_harm(findings)
    rest = ordered[limit:] if limit and len(ordered) > limit else []
    shown = ordered[: len(ordered) - len(rest)]
    for n, finding in enumerate(shown):
        _one(finding, f"{key}_{n}_{finding.code}", labels or {}, on_action, thumb)
    if rest:
        more = st.expander(f"{len(rest)} more", key=f"{key}_more")
        with more:
            for n, finding in enumerate(rest, len(shown)):
                _one(finding, f"{key}_{n}_{finding.code}", labels or {}, on_action, thumb)


def _one(
    finding: Finding,
    key: str,
    labels: dict[str, str],
    on_action: Callable[[Finding], None] | None,
    thumb: Callable[[str], Path | None] | None,
) -> None:
    icon, colour, word = LOOK[finding.severity]
    with (
        st.container(border=True, key=key),
        st.container(horizontal=True, vertical_alignment="top", gap="medium"),
    ):
        with st.container(gap="xsmall", width="stretch"):
            st.markdown(f":{colour}[{icon}] **{finding.what}** :small[:{colour}[{word}]]")
            if finding.why:
                st.caption(finding.why)
            if finding.fix:
                st.markdown(f"**To mend it:** {finding.fix}")
            _where(finding, thumb)
        if on_action is not None and finding.action in labels:
            count = len(finding.where)
            told = f"{labels[finding.action]} ({count})" if count > 1 else labels[finding.action]
            st.button(
                told, key=f"{key}_act", on_click=act, args=(on_action, finding), icon=":material/healing:"
            )


def _where(finding: Finding, thumb: Callable[[str], Path | None] | None) -> None:
    if not finding.where:
        return
    pictures = [(n, thumb(n)) for n in finding.where[:SHOWN_PICTURES]] if thumb else []
    drawn = [(n, str(p)) for n, p in pictures if p is not None]
    if drawn:
        with st.container(horizontal=True, gap="small"):
            for name, path in drawn:
                st.image(path, width=88, alt=name)
    named = ", ".join(f"`{n}`" for n in finding.where[:SHOWN_NAMES])
    more = len(finding.where) - SHOWN_NAMES
    st.caption(named + (f" and {more} more" if more > 0 else ""))
