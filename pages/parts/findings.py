"""Findings as a list sorted by harm: what, why, how to mend it, its pictures, and the button that does it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import streamlit as st

from pages.parts.flash import act
from pages.parts.words import plain
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
    compact: bool = False,
    counts: Callable[[Finding], int] | None = None,
    on_show: Callable[[Finding], None] | None = None,
) -> None:
    """Draw findings, the most harmful first.

    labels:    what each `Finding.action` is called on its button; an action that is not in here has no button.
    on_action: called with the finding when its button is pressed.
    thumb:     gives the small picture for a name in `Finding.where`, or None; names are shown as words without it.
    limit:     how many are shown before "show all"; 0 shows all.
    compact:   one line each, with the reason in its tooltip; for pages whose main thing is something else.
    counts:    how many pictures a finding's button touches now; without it, how many the finding names.
    on_show:   called with the finding when its pictures are asked for; findings without pictures have no such button.
    """
    ordered = by_harm(findings)
    rest = ordered[limit:] if limit and len(ordered) > limit else []
    shown = ordered[: len(ordered) - len(rest)]
    if compact:
        with st.container(border=True, gap="xsmall", key=f"{key}_list"):
            for n, finding in enumerate(ordered):
                _line(finding, f"{key}_{n}_{finding.code}", labels or {}, on_action, counts)
        return
    for n, finding in enumerate(shown):
        _one(finding, f"{key}_{n}_{finding.code}", labels or {}, on_action, thumb, counts, on_show)
    if rest:
        more = st.expander(f"{len(rest)} more", key=f"{key}_more")
        with more:
            for n, finding in enumerate(rest, len(shown)):
                _one(finding, f"{key}_{n}_{finding.code}", labels or {}, on_action, thumb, counts, on_show)


def _line(
    finding: Finding,
    key: str,
    labels: dict[str, str],
    on_action: Callable[[Finding], None] | None,
    counts: Callable[[Finding], int] | None,
) -> None:
    icon, colour, word = LOOK[finding.severity]
    with st.container(horizontal=True, vertical_alignment="center", key=key):
        st.markdown(
            f":{colour}[{icon}] {plain(finding.what, 2000)} :{colour}-badge[{word}]",
            help=" ".join(t for t in (finding.why, finding.fix) if t) or None,
            width="stretch",
        )
        _button(finding, key, labels, on_action, counts)


def _button(
    finding: Finding,
    key: str,
    labels: dict[str, str],
    on_action: Callable[[Finding], None] | None,
    counts: Callable[[Finding], int] | None = None,
) -> None:
    if on_action is not None and finding.action in labels:
        count = len(finding.where) if counts is None else counts(finding)
        said = count > 1 or (counts is not None and finding.where)
        told = f"{labels[finding.action]} ({count})" if said else labels[finding.action]
        st.button(told, key=f"{key}_act", on_click=act, args=(on_action, finding), icon=":material/healing:")


def _one(
    finding: Finding,
    key: str,
    labels: dict[str, str],
    on_action: Callable[[Finding], None] | None,
    thumb: Callable[[str], Path | None] | None,
    counts: Callable[[Finding], int] | None = None,
    on_show: Callable[[Finding], None] | None = None,
) -> None:
    icon, colour, word = LOOK[finding.severity]
    drawn = _pictures(finding, thumb)
    with (
        st.container(border=True, key=key),
        st.container(horizontal=True, vertical_alignment="top", gap="medium"),
    ):
        if len(drawn) == 1:
            st.image(str(drawn[0][1]), width=72, alt=drawn[0][0])
        with st.container(gap="xsmall", width="stretch"):
            st.markdown(f":{colour}[{icon}] **{plain(finding.what, 2000)}** :{colour}-badge[{word}]")
            if finding.why:
                st.markdown(f":gray[{finding.why}]")
            if finding.fix:
                st.markdown(f"**To mend it:** {finding.fix}")
            if len(drawn) > 1:
                with st.container(horizontal=True, gap="xsmall"):
                    for name, path in drawn:
                        st.image(str(path), width=64, alt=name)
            _names(finding)
        with st.container(width="content", gap="xsmall", horizontal_alignment="right"):
            _button(finding, key, labels, on_action, counts)
            if on_show is not None and finding.where:
                st.button(
                    "Show" if len(finding.where) == 1 else f"Show all {len(finding.where)}",
                    key=f"{key}_show",
                    type="tertiary",
                    icon=":material/visibility:",
                    on_click=act,
                    args=(on_show, finding),
                )


def _pictures(finding: Finding, thumb: Callable[[str], Path | None] | None) -> list[tuple[str, Path]]:
    """The small pictures of the first names that have one."""
    if thumb is None:
        return []
    found = ((n, thumb(n)) for n in finding.where[:SHOWN_PICTURES])
    return [(n, p) for n, p in found if p is not None]


def _names(finding: Finding) -> None:
    """The names concerned, unless the sentence above says them already."""
    if all(n in finding.what for n in finding.where):
        return
    more = len(finding.where) - SHOWN_NAMES
    named = ", ".join(plain(n) for n in finding.where[:SHOWN_NAMES])
    st.markdown(f":small[:gray[{named}{f' and {more} more' if more > 0 else ''}]]")
