"""How a run went, in a few figures. Those of a run that has ended are kept beside its events, which are long.

<run>/outcome.json   the figures, and what they were read from; made anew whenever that has changed
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import InputError
from studio.training.base import CHECKPOINTS
from studio.training.progress import Metrics
from studio.training.runs import Run

FILE = "outcome.json"
_EVENTS = "events.jsonl"


@dataclass(frozen=True)
class Outcome:
    """How a run went. first_loss, last_loss: means over one epoch (at least ten steps); None before there are any steps."""

    steps: int
    total_steps: int
    first_loss: float | None
    last_loss: float | None
    seconds: float | None
    checkpoints: int


def metrics_of(run: Run) -> Metrics:
    """Everything that a run said so far, read from its beginning."""
    return Metrics().add(run.events()[0])


def seconds_of(run: Run) -> float | None:
    """How long its attempts took together, the present one not counted; None when no record says so."""
    ended = run.job.exit or {}
    spent = [a.get("seconds") for a in (*run.job.attempts, ended)]
    known = [float(s) for s in spent if isinstance(s, int | float)]
    return sum(known) if known else None


def outcome(run: Run, metrics: Metrics | None = None) -> Outcome:
    """What came out of a run. metrics: what it said, where that is known; else it is read, once for a run that has ended."""
    if metrics is not None:
        return _of(run, metrics)
    marks = _marks(run.folder)
    kept = _kept(run.folder, marks)
    if kept is not None:
        # How long it took stands in records of their own, which cost nothing to ask.
        return Outcome(**{**kept, "seconds": seconds_of(run)})
    told = _of(run, metrics_of(run))
    # What was added while it was read must not be taken for read.
    if not run.job.is_alive and _marks(run.folder) == marks:
        with suppress(OSError):
            files.write_json(run.folder / FILE, {"marks": marks, "outcome": asdict(told)})
    return told


def _of(run: Run, m: Metrics) -> Outcome:
    line = m.smoothed
    return Outcome(
        steps=m.step,
        total_steps=m.total_steps or int(run.manifest.get("steps", {}).get("total", 0)),
        first_loss=m.first_loss,
        last_loss=line[-1] if line else None,
        seconds=seconds_of(run),
        checkpoints=len(run.checkpoints()),
    )


def _marks(folder: Path) -> list[list[Any]]:
    """What the figures are made from, by name, size and time of change."""
    found: list[list[Any]] = []
    with suppress(OSError):
        now = (folder / _EVENTS).stat()
        found.append([_EVENTS, now.st_size, now.st_mtime_ns])
    with suppress(OSError), os.scandir(folder / CHECKPOINTS) as entries:
        for e in sorted(entries, key=lambda e: e.name):
            if e.name.endswith(".safetensors"):
                now = e.stat()
                found.append([e.name, now.st_size, now.st_mtime_ns])
    return found


def _kept(folder: Path, marks: list[list[Any]]) -> dict[str, Any] | None:
    try:
        told = files.read_json(folder / FILE)
    except (InputError, OSError):
        return None
    if not isinstance(told, dict) or told.get("marks") != marks:
        return None
    found = told.get("outcome")
    known = {f.name for f in fields(Outcome)}
    return found if isinstance(found, dict) and set(found) == known else None
