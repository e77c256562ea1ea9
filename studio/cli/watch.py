"""Following a job: a live line on a terminal, a line now and then in a pipe, and Ctrl-C that leaves the job going."""

from __future__ import annotations

import time
from argparse import Namespace
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio.cli.output import LiveLine, Out
from studio.cli.parser import problem
from studio.cli.spec import Option
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.jobs.job import Job

POLL = 0.25  # seconds between two looks at the job's folder


@dataclass(frozen=True)
class Watched:
    """How watching ended. state: the job's, when it ended; left: Ctrl-C was pressed and the job goes on."""

    state: str
    left: bool = False


def progress_words(job: Job) -> str:
    """Where a job is, in one line; empty before it said anything."""
    p = job.progress
    parts = []
    repeated = ("epoch",) if p.epoch else (p.unit[:4].lower(),) if p.total and p.unit else ()
    if p.message and not p.message.lower().startswith(repeated):
        parts.append(p.message.rstrip("."))
    if p.total:
        parts.append(f"{int(p.done)} of {p.total:g} {p.unit}".rstrip())
    if p.epoch:
        parts.append(f"epoch {p.epoch}" + (f" of {p.epochs}" if p.epochs else ""))
    if p.loss is not None:
        parts.append(f"loss {p.loss:.4f}")
    if p.left:
        parts.append(p.left)
    return " · ".join(parts)


def event_words(event: dict[str, Any], dry: bool = False) -> tuple[str, str]:
    """What an event says to someone who reads along, and its style; ("", "") for the many that only move the line."""
    kind = event.get("type")
    if kind == "plan" and "total_steps" in event and not dry:
        learned = int(event.get("trainable") or 0)  # not every engine says it
        more = f", {learned:,} numbers to learn" if learned else ""
        return f"{event.get('total_steps')} steps in {event.get('epochs')} epochs{more}", ""
    if kind == "epoch" and event.get("loss_avg") is not None:
        return f"epoch {event.get('epoch')}: loss {float(event['loss_avg']):.4f}", ""
    if kind == "anomaly":
        finding = event.get("finding") or {}
        words = f"Look: {finding.get('what', '')} {finding.get('fix', '')}"
        return words.strip(), "yellow"
    return "", ""


def watch(out: Out, job: Job, since: int = 0) -> Watched:
    """Show a job until it ends. since: offset into its events; what was said before is not said again."""
    offset, dry = since, job.spec.kind == "dry-run"
    try:
        with out.live() as line:
            while True:
                alive = job.is_alive
                offset = _tell(line, job, offset, dry)
                words = progress_words(job)
                if words:
                    line.update(words, job.progress.fraction)
                if not alive:
                    return Watched(job.state)
                time.sleep(POLL)
    except KeyboardInterrupt:
        return Watched(job.state, left=True)


def _tell(line: LiveLine, job: Job, offset: int, dry: bool) -> int:
    events, offset = job.events(offset)
    for event in events:
        words, style = event_words(event, dry)
        if words:
            line.above(words, style)
    return offset


def say_left(out: Out, job: Job) -> None:
    """After Ctrl-C: the job goes on, and these are the ways back to it."""
    name = job.id
    out.say()
    out.say(f"Stopped watching. {job.spec.title} goes on by itself.")
    out.say(f"  Come back:  lora-studio status {name} --follow")
    out.say(f"  Its log:    lora-studio log {name} --follow")
    out.say(f"  Stop it:    lora-studio stop {name}")


def say_failed(out: Out, job: Job) -> dict[str, Any]:
    """Why a job did not finish, in words; the same as data."""
    error = dict(job.error or {})
    words = {
        "stopped": "It was stopped.",
        "interrupted": "It was cut off: its process is gone and left no last word.",
        "failed": "It failed.",
    }
    what = str(error.get("what") or words.get(job.state, f"It is {job.state}."))
    out.say(what, "bold red" if job.state != "stopped" else "yellow")
    for label, key in (("Why", "why"), ("Fix", "fix")):
        if error.get(key):
            out.say(f"{label}: {error[key]}")
    if job.state == "failed":
        out.dim(f"The end of its log: lora-studio log {job.id}")
    return {"what": what, "why": str(error.get("why", "")), "fix": str(error.get("fix", ""))}


DETACH = Option("--detach", "Start it and return at once.")
WAIT = Option("--wait", "Show it until it ends; this is what happens anyway.")


def check_wait(args: Namespace) -> list[Finding]:
    """`--wait` and `--detach` say opposite things."""
    if args.wait and args.detach:
        return [
            problem("--wait and --detach were both given.", "They say opposite things.", "Keep one of them.")
        ]
    return []
