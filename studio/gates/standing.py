"""How the gates stand now: passed, blocked, stale, missing or running; and the refusal when one does not pass."""

from __future__ import annotations

from studio import machine as computer
from studio.dataset.scan import scan
from studio.dataset.subsets import shown_per_bucket
from studio.errors import GateError, StudioError
from studio.estimate import MARGIN, plan_steps
from studio.files import human_memory, human_time
from studio.findings import Finding, blocking
from studio.gates.pages import write_page
from studio.gates.verdicts import (
    GATES,
    PURPOSE,
    TITLES,
    GateName,
    GateStatus,
    Verdict,
    current_fingerprint,
    save_verdict,
    stored,
)
from studio.project import Project
from studio.settings import TrainingSettings, knobs
from studio.training import dry_run


def picture_counts(project: Project, settings: TrainingSettings | None = None) -> list[int]:
    """Pictures that an epoch shows in each aspect-ratio bucket at the chosen settings, with repeats and regularisation
    pictures; [] while none teaches."""
    return shown_per_bucket(project, scan(project), settings or project.settings)


def verdict(project: Project, gate: GateName) -> Verdict | None:
    """The last verdict of a gate, fresh or stale; None when it never ran or its file was damaged."""
    if gate == "dry_run":
        settle_dry_run(project)
    return stored(project, gate)


def settle_dry_run(project: Project) -> None:
    """Turn the newest dry-run job, once it has ended, into a verdict. Does nothing when that was done already."""
    result = dry_run.unsettled(project)
    if result is None:
        return
    if result.facts:
        plan = plan_steps(picture_counts(project), project.settings)
        seconds = result.facts["seconds_per_step"] * plan.total_steps + result.facts.get(
            "start_seconds", 15.0
        )
        result.facts["forecast_seconds"] = seconds
        result.facts["forecast_words"] = human_time(seconds)
        result.facts["steps"] = plan.total_steps
        available = computer.detect().memory_bytes
        if result.facts.get("peak_bytes", 0) > available * (1 - MARGIN):
            result.findings.append(
                Finding(
                    severity="warn",
                    code="memory-measured-close",
                    what=f"The dry run used {human_memory(result.facts['peak_bytes'])} of {human_memory(available)}.",
                    why="Less than 20 % stays free; another program could make the run fail.",
                    fix="Close other programs, or lower the batch size.",
                )
            )
    save_verdict(project, "dry_run", result.findings, result.fingerprint, result.facts)
    _tell_the_time(project, result.facts.get("forecast_seconds"))
    dry_run.mark_settled(result.job)


def _tell_the_time(project: Project, seconds: float | None) -> None:
    """Write the measured time into config.md, which gate 2 wrote before there was one."""
    said = stored(project, "config")
    if said is not None and seconds:
        write_page(project, "config", said.passed, said.findings, {**said.facts, "seconds": seconds}, said.at)


def state(project: Project, gate: GateName) -> GateStatus:
    """How a gate stands now: passed, blocked, stale, missing or running, with the reason."""
    title, purpose = TITLES[gate], PURPOSE[gate]
    said = verdict(project, gate)
    if gate == "dry_run" and (job := dry_run.latest(project)) is not None and job.is_alive:
        return GateStatus(gate, title, purpose, "running", said, "The dry run is going on.")
    if said is None:
        return GateStatus(gate, title, purpose, "missing", None, "It has not been run yet.")
    try:
        fresh = current_fingerprint(project, gate) == said.fingerprint
    except StudioError as e:
        return GateStatus(gate, title, purpose, "stale", said, e.what)
    if not fresh:
        return GateStatus(gate, title, purpose, "stale", said, _changed_since(project, said))
    if not said.passed:
        return GateStatus(gate, title, purpose, "blocked", said, said.words)
    return GateStatus(gate, title, purpose, "passed", said, "")


def _changed_since(project: Project, said: Verdict) -> str:
    """Why a verdict no longer fits, in one sentence; by name where gate 2 kept what it looked at."""
    seen = said.facts.get("settings")
    if said.gate == "config" and isinstance(seen, dict):
        now, known = project.settings.model_dump(mode="json"), knobs()
        names = [k.title for n, k in known.items() if n in seen and seen[n] != now[n]]
        if said.facts.get("base_model") != project.intent.base_model:
            names.insert(0, "Base model")
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            return f"Changed since it was checked: {', '.join(names[:4])}{more}."
    return "Something it looked at has changed since."


def states(project: Project) -> dict[GateName, GateStatus]:
    """All four gates, in order."""
    return {g: state(project, g) for g in GATES}


def require(project: Project, gates: tuple[GateName, ...], refusal: str) -> None:
    """Return when these gates pass now; otherwise raise GateError with the reasons of each. refusal: what was not done."""
    lacking = [s for g in gates if (s := state(project, g)).state != "passed"]
    if not lacking:
        return
    found = []
    for s in lacking:
        found.append(
            Finding(
                severity="block",
                code=f"gate-{s.gate}-{s.state}",
                what=f"Gate {s.title.lower()} is {s.state}. {s.reason}",
                why=s.purpose,
                fix="Run this gate again."
                if s.state in ("stale", "missing")
                else "Mend what it found, then run it again.",
            )
        )
        if s.state == "blocked" and s.verdict:
            found += blocking(s.verdict.findings)
    names = ", ".join(s.title.lower() for s in lacking)
    raise GateError(
        refusal,
        f"Not passed: {names}. Training never starts unless all gates pass; this saves hours spent on nothing.",
        "Run the gates and mend what they find.",
        found,
    )
