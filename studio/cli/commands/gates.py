"""The four gates."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from studio.cli.context import Context
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import one_of
from studio.cli.watch import say_left, watch
from studio.errors import GateError
from studio.files import human_memory, human_size, human_time
from studio.project import Project

NAMES = ("dataset", "config", "environment", "dry_run")
_one_gate = one_of(NAMES)


def gate_name(text: str) -> str:
    """A gate's name; hyphens and blanks count as underscores. Raises values.Bad."""
    return _one_gate(text.strip().replace("-", "_").replace(" ", "_"))


def show_verdict(ctx: Context, verdict: Any, title: str) -> None:
    """A gate's verdict with its findings and its main figures."""
    style = "bold green" if verdict.passed else "bold red"
    ctx.out.say()
    ctx.out.say(f"Gate {NAMES.index(verdict.gate) + 1}, {title.lower()}: {verdict.words}", style)
    for words in figures(verdict.gate, verdict.facts):
        ctx.out.dim(f"  {words}")
    ctx.out.findings([f for f in verdict.findings if f.severity != "info"])


def figures(gate: str, facts: dict[str, Any]) -> list[str]:
    """What a gate measured, in a line or two."""
    if gate == "dataset" and facts.get("pictures") is not None:
        return [f"{facts['pictures']} pictures"]
    if gate == "config":
        return [
            f"{facts['steps']} steps in {facts['epochs']} epochs, about {human_memory(facts['memory_bytes'])} of "
            f"{human_memory(facts['available_bytes'])} memory, {human_size(facts['disk_bytes'])} on disk"
        ]
    if gate == "environment":
        return [str(facts.get("computer", ""))]
    if gate == "dry_run" and facts.get("seconds_per_step") is not None:
        words = f"{facts.get('steps_run', 'some')} real steps, {facts['seconds_per_step']:.2f} s each"
        forecast = facts.get("forecast_seconds")
        return [words + (f"; the run will take about {human_time(forecast)}" if forecast else "")]
    return []


class Left(Exception):
    """Ctrl-C while a job was being watched."""

    def __init__(self, job: Any) -> None:
        super().__init__(job.id)
        self.job = job


def run_gates(ctx: Context, project: Project, names: Sequence[str], again: bool) -> dict[str, dict[str, Any]]:
    """Run gates in order and show each verdict; a fresh pass is kept unless `again`.

    The dry run waits for the other three. Raises Left when watching it was broken off.
    """
    from studio import gates

    done: dict[str, dict[str, Any]] = {}
    for name in [n for n in NAMES if n in names]:
        status = gates.state(project, name)  # type: ignore[arg-type]
        if status.state == "passed" and not again:
            assert status.verdict is not None
            ctx.out.say()
            ctx.out.say(
                f"Gate {NAMES.index(name) + 1}, {status.title.lower()}: GO (passed {status.verdict.at})",
                "green",
            )
            for words in figures(name, status.verdict.facts):
                ctx.out.dim(f"  {words}")
            done[name] = status.verdict.model_dump(mode="json")
            continue
        if name == "dry_run":
            lacking = [g for g in NAMES[:3] if gates.state(project, g).state != "passed"]  # type: ignore[arg-type]
            if lacking:
                if tuple(names) == ("dry_run",):
                    gates.start_dry_run(project)  # raises GateError with every reason
                ctx.out.say()
                ctx.out.say(f"Gate 4, dry run: waits for {', '.join(lacking)}.", "yellow")
                continue
            if status.state == "running":
                from studio.training import dry_run

                job = dry_run.latest(project)
                assert job is not None
            else:
                job = gates.start_dry_run(project)
            ctx.out.say()
            ctx.out.dim("Training a few real steps with your pictures and settings.")
            if watch(ctx.out, job).left:
                raise Left(job)
            verdict = gates.verdict(project, "dry_run")
            if verdict is None:
                raise GateError(
                    "The dry run gave no verdict.", "Its job was removed or did not end.", "Run it again."
                )
        else:
            with ctx.out.live() as line:
                verdict = gates.run_gate(project, name, tell=line.update)  # type: ignore[arg-type]
        show_verdict(ctx, verdict, gates.TITLES[name])
        done[name] = verdict.model_dump(mode="json")
    return done


def _gates(ctx: Context, args: Namespace) -> Reply:
    from studio import gates

    project = ctx.project()
    names = list(dict.fromkeys(args.gate)) or list(NAMES)
    if args.show:
        states = gates.states(project)
        ctx.out.table(
            ["Gate", "State", "Why"], [[s.title, s.state, s.reason] for g, s in states.items() if g in names]
        )
        passed = all(s.state == "passed" for g, s in states.items() if g in names)
        data: dict[str, Any] = {
            g: {
                "state": s.state,
                "reason": s.reason,
                "verdict": s.verdict.model_dump(mode="json") if s.verdict else None,
            }
            for g, s in states.items()
            if g in names
        }
        return Reply({"project": project.slug, "passed": passed, "gates": data}, code=0 if passed else 4)
    try:
        done = run_gates(ctx, project, names, again=args.again or bool(args.gate))
    except Left as left:
        say_left(ctx.out, left.job)
        return Reply({"project": project.slug, "left": True, "job": left.job.id}, code=130)
    passed = all(n in done and done[n]["passed"] for n in names)
    ctx.out.say()
    if passed:
        ctx.out.good("All gates pass." if len(names) == 4 else "Passed.")
        ctx.out.next("lora-studio train" if len(names) == 4 else "lora-studio gates")
    else:
        ctx.out.say("Training does not start until all four gates pass.", "bold")
        ctx.out.next("mend what is named above, then lora-studio gates")
    return Reply({"project": project.slug, "passed": passed, "gates": done}, code=0 if passed else 4)


COMMANDS = (
    Command(
        "gates",
        "Settings and gates",
        "Run the four gates that stand before every training.",
        _gates,
        words=(Word("GATE", f"Only these: {', '.join(NAMES)}.", many=True, convert=gate_name),),
        options=(
            Option("--show", "Only show how they stand; run nothing."),
            Option("--again", "Also run those that still pass."),
        ),
        details="Runs those that are missing, stale or blocked. The dry run trains a few real steps, and only when the "
        "other three pass. Exit code 4 when one does not pass.",
        examples=("gates", "gates dataset", "gates --show --json"),
    ),
)
