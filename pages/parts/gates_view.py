"""The gates as cards and badges, and checking them one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from pages.parts.findings import show_findings
from pages.parts.live_job import log_of, progress_of
from pages.parts.nav import link
from pages.parts.next import primary, what_next
from pages.parts.page import caught, show_error
from studio import gates
from studio.errors import StudioError
from studio.files import human_memory, human_size, human_time
from studio.findings import Finding
from studio.project import Project
from studio.settings import knobs
from studio.training import dry_run

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
        if not facts["memory_bytes"]:
            return f"{facts['steps']} steps on a rented computer"
        return f"{facts['steps']} steps · about {human_memory(facts['memory_bytes'])} of memory · {human_size(facts['disk_bytes'])} on disk"
    if gate == "environment" and facts.get("computer"):
        torch = f" · PyTorch {facts['torch']}" if facts.get("torch") else ""
        return f"{facts['computer'].rstrip('.')}{torch}"
    if gate == "dry_run" and facts.get("seconds_per_step") is not None:
        if facts.get("cost_words"):
            return f"everything but the paid request · {facts['cost_words']}".replace("$", "\\$")
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
        show_findings([_titled(f) for f in loud], key=f"found_{gate}", limit=4)
    if quiet:
        st.caption("  \n".join(f":material/info: {f.what}" for f in quiet))


def _titled(finding: Finding) -> Finding:
    """The finding with the settings it names called as on the config page."""
    known = {**{n: k.title for n, k in knobs().items()}, "base_model": "Base model"}
    return finding.model_copy(update={"where": tuple(known.get(w, w) for w in finding.where)})


def _mend(gate: str, findings: tuple[Finding, ...]) -> None:
    page, label = MEND[gate]
    codes = [f.code for f in findings if f.severity == "block"]
    if gate == "dataset" and codes and all(c.startswith(("caption", "trigger")) for c in codes):
        page, label = "captions", "Mend it on the captions page"
    link(page, label, icon=":material/arrow_forward:")


def queue_key(project: Project) -> str:
    """Where the gates that are still to be checked in this tab are remembered."""
    return f"gate_queue_{project.slug}"


def queue_gates(project: Project, again: bool) -> None:
    """Check the gates that do not pass, or all of them."""
    states = gates.states(project)
    st.session_state[queue_key(project)] = [g for g in gates.GATES if again or states[g].state != "passed"]


def gates_to_pass(project: Project, start: Callable[[Project], None]) -> None:
    """The gates, one after the other; `start` draws the start button, and is called only when all of them pass."""
    states = gates.states(project)
    if states["dry_run"].state == "running":
        watch_gates(project)
        return
    queue = st.session_state.get(queue_key(project), [])
    current = queue[0] if queue else ""
    for gate, status in states.items():
        card(project, status, busy="checking" if gate == current else "")
    st.space("small")
    if current:
        check_next(project, queue)
        return
    if all(s.state == "passed" for s in states.values()):
        start(project)
        return
    if st.session_state.get("start"):
        # The click came too late: the button is drawn no more, and would otherwise vanish without a word.
        st.warning(
            "Something was changed in another window or at the command line after this page was drawn, and the gates above "
            "have not seen it.\n\n**What to do:** look at what is out of date, then check everything again.",
            title="Training was not started",
            icon=":material/update:",
        )
    link("guide", "About the gates", icon=":material/menu_book:", topic="preflight")
    lacking = [s.title.lower() for s in states.values() if s.state != "passed"]
    primary(
        "Check everything",
        key="check",
        icon=":material/fact_check:",
        on_click=queue_gates,
        args=(project, False),
    )
    st.caption(f"Still to pass: {', '.join(lacking)}. Training starts only when all four have passed.")
    what_next("The gates are checked one after the other; the first three take seconds.",
              "The dry run then trains a few real steps and measures how long the run will take.",
              "When all are green, the start button appears here.")  # fmt: skip


def card(project: Project, status: gates.GateStatus, busy: str = "") -> None:
    """A gate's card; the dry run offers its log."""
    job = dry_run.latest(project) if status.gate == "dry_run" else None

    def log() -> None:
        if job is not None and status.state == "blocked":
            log_of(job, key="dry")

    gate_card(status, busy=busy, below=log)


def check_next(project: Project, queue: list[gates.GateName]) -> None:
    """Run the gate at the front; its card says so meanwhile. The first three are all run, so that everything that is to be
    mended is told at once; the dry run only when they pass."""
    gate, rest = queue[0], queue[1:]
    st.session_state[queue_key(project)] = []
    st.button("Checking …", key="checking", type="primary", icon=":material/fact_check:", disabled=True)
    st.caption(f"Gate {gates.GATES.index(gate) + 1} of {len(gates.GATES)}: {gates.TITLES[gate].lower()}.")
    try:
        if gate == "dry_run":
            gates.start_dry_run(project)
        else:
            gates.run_gate(project, gate)
            if rest == ["dry_run"] and any(
                gates.state(project, g).state != "passed" for g in gates.GATES[:3]
            ):
                rest = []
            st.session_state[queue_key(project)] = rest
    except StudioError as e:
        show_error(e)
        st.button(
            "Try again", key="check", icon=":material/refresh:", on_click=queue_gates, args=(project, False)
        )
        return
    st.rerun()


def watch_gates(project: Project) -> None:
    """The cards while the dry run goes on; drawn anew each second until it has ended."""

    @st.fragment(run_every=1.0)
    def view() -> None:
        with caught():
            states = gates.states(project)
            if states["dry_run"].state != "running":
                st.rerun()
            job = dry_run.latest(project)

            def progress() -> None:
                if job is not None:
                    progress_of(job, key="dry")

            for status in states.values():
                gate_card(status, below=progress if status.gate == "dry_run" else None)

    view()
    what_next("A few real steps show that everything works, and how long the run will take.")
