"""The gates as cards and badges."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.parts.findings import show_findings
from pages.parts.nav import link
from studio import gates
from studio.files import human_size, human_time
from studio.findings import Finding
from studio.project import Project

LOOK: dict[str, tuple[str, str, str]] = {
    "passed": (":material/check_circle:", "green", "passed"),
    "blocked": (":material/block:", "red", "blocked"),
    "stale": (":material/update:", "orange", "out of date"),
    "missing": (":material/radio_button_unchecked:", "gray", "not checked yet"),
    "running": (":material/progress_activity:", "blue", "running"),
}
# Where what a gate finds is mended.
MEND: dict[str, tuple[str, str]] = {
    "dataset": ("dataset", "Mend it on the dataset page"),
    "config": ("config", "Mend it on the config page"),
    "environment": ("setup", "See the set-up page"),
}


def gate_badge(project: Project, gate: gates.GateName) -> None:
    """One line: how a gate stands."""
    status = gates.state(project, gate)
    icon, colour, word = LOOK[status.state]
    number = gates.GATES.index(gate) + 1
    st.markdown(
        f":{colour}[{icon}] **Gate {number}** {word}",
        help=status.purpose + (f" {status.reason}" if status.reason else ""),
    )


def figures(gate: str, facts: dict[str, Any]) -> str:
    """What a gate measured, in one line; empty when it measured nothing."""
    if gate == "dataset" and facts.get("pictures") is not None:
        return f"{facts['pictures']} pictures"
    if gate == "config" and facts.get("steps") is not None:
        return f"{facts['steps']} steps · about {human_size(facts['memory_bytes'])} of memory · {human_size(facts['disk_bytes'])} on disk"
    if gate == "environment" and facts.get("computer"):
        torch = f" · PyTorch {facts['torch']}" if facts.get("torch") else ""
        return f"{facts['computer'].rstrip('.')}{torch}"
    if gate == "dry_run" and facts.get("seconds_per_step") is not None:
        words = f"{facts.get('steps_run', 4)} real steps · {facts['seconds_per_step']:.2f} s each"
        return words + (
            f" · the run will take about {human_time(facts['forecast_seconds'])}"
            if facts.get("forecast_seconds")
            else ""
        )
    return ""


def gate_card(status: gates.GateStatus, *, busy: str = "", below: Callable[[], None] | None = None) -> None:
    """One gate: what it checks, how it stands, what it found and where that is mended.

    busy: said instead of the state while it is being checked in this moment. below: drawn inside the card, at its end.
    """
    state = "running" if busy else status.state
    icon, colour, word = LOOK[state]
    number = gates.GATES.index(status.gate) + 1
    with st.container(border=True, gap="xsmall", key=f"gate_{status.gate}"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(f":{colour}[{icon}] **{number} {status.title}**", width="stretch")
            st.markdown(f":{colour}-badge[{busy or word}]", width="content")
        st.caption(status.purpose)
        said = status.verdict
        if said is not None and not busy and state in ("passed", "blocked"):
            line = figures(status.gate, said.facts)
            if line:
                st.markdown(line)
            _findings(status.gate, said.findings)
            if state == "blocked" and status.gate in MEND:
                _mend(status.gate, said.findings)
        elif status.reason and state == "stale":
            st.markdown(f":orange[{status.reason}]")
        if below is not None:
            below()


def _findings(gate: str, findings: tuple[Finding, ...]) -> None:
    loud = [f for f in findings if f.severity != "info"]
    quiet = [f for f in findings if f.severity == "info"]
    if loud:
        show_findings(loud, key=f"found_{gate}", limit=4)
    if quiet:
        st.caption("  \n".join(f":material/info: {f.what}" for f in quiet))


def _mend(gate: str, findings: tuple[Finding, ...]) -> None:
    page, label = MEND[gate]
    codes = [f.code for f in findings if f.severity == "block"]
    if gate == "dataset" and codes and all(c.startswith(("caption", "trigger")) for c in codes):
        page, label = "captions", "Mend it on the captions page"
    link(page, label, icon=":material/arrow_forward:")
