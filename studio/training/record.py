"""The record of a run in words, kept while it trains and not only when somebody looks.

    <project>/records/progress.md   how far the newest run is, or how it went
    <project>/records/status.md     where the project stands, and what comes next

Both are for people and never read back. The trainer itself writes them now and then and at its end; a run that was cut off
from outside is told by whoever sees it first.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import StudioError
from studio.files import human_memory, human_time
from studio.jobs import disk
from studio.jobs.lifeline import JobStopped
from studio.project import Project
from studio.training.following import Reading
from studio.training.outcome import metrics_of
from studio.training.progress import Metrics
from studio.training.recovery import halvings
from studio.training.runs import MANIFEST, Run
from studio.workspace import Workspace

PROGRESS, STATUS = "progress.md", "status.md"
EVERY_S = 30.0
WORDS = {
    "finished": ("COMPLETE", "TRAINED", "Evaluate the run."),
    "failed": ("FAILED", "FAILED", "Read why, mend it, resume or start again."),
    "stopped": ("STOPPED", "STOPPED", "Resume the run, or evaluate its checkpoints."),
    "interrupted": ("INTERRUPTED", "INTERRUPTED", "Resume the run."),
}
GOING_ON = ("RUNNING", "TRAINING", "Wait for the run.")


def facts_of(run: Run, metrics: Metrics | None = None, state: str = "") -> dict[str, Any]:
    """Where a run stands: status, epoch and step with their totals, loss now and at the beginning (means over an epoch),
    elapsed seconds of all attempts, remaining seconds, checkpoints, memory (bytes) and how much there is, reductions.

    metrics: what it said, where that is known. state: where it is better known than its folder tells.
    """
    m = metrics or metrics_of(run)
    job = run.job
    state = state or job.state
    now, ended = job.progress, job.exit or {}
    spent = [a.get("seconds") for a in job.attempts] + [ended.get("seconds") or now.elapsed_seconds]
    line = m.smoothed
    checkpoints = run.checkpoints()
    return {
        "status": state,
        "epoch": m.epoch,
        "epochs": m.total_epochs or run.manifest["steps"]["epochs"],
        "step": m.step,
        "steps": m.total_steps or run.manifest["steps"]["total"],
        "loss": line[-1] if line else None,
        "first_loss": m.first_loss,
        "elapsed": sum(float(s) for s in spent if isinstance(s, int | float)),
        "remaining": now.eta_seconds if state not in WORDS else None,
        "checkpoints": [c.path.name for c in checkpoints],
        "labels": [c.label for c in checkpoints],
        "memory": m.memory,
        "memory_total": _memory_total(run),
        "reductions": [h.sentence for h in halvings(run.folder)],
    }


def _memory_total(run: Run) -> int:
    """Memory of the card that it trains on, or of the computer; 0 where the manifest does not say."""
    machine = run.manifest.get("machine") or {}
    cards = [int(g.get("vram_bytes") or 0) for g in machine.get("gpus") or ()]
    chosen = run.manifest.get("gpu")
    if isinstance(chosen, int) and chosen < len(cards):
        return cards[chosen]
    return max(cards, default=int(machine.get("ram_bytes") or 0))


def progress_lines(name: str, run_id: str, facts: dict[str, Any]) -> list[str]:
    """The page of a run. name: of what is trained; facts: as `facts_of` gives them."""
    f = facts
    loss = "not yet" if f["loss"] is None else f"{f['loss']:.4f} (started: {f['first_loss']:.4f})"
    memory = "not measured"
    if f["memory"]:
        memory = human_memory(f["memory"]) + (
            f" of {human_memory(f['memory_total'])}" if f["memory_total"] else ""
        )
    left = f["remaining"]
    return [
        f"# Training progress: {name}",
        "",
        *_how(run_id, f["status"]),
        f"- **Current epoch**: {f['epoch']}/{f['epochs']}",
        f"- **Step**: {f['step']}/{f['steps']}",
        f"- **Loss**: {loss}",
        f"- **Most memory in use**: {memory}",
        f"- **Elapsed**: {human_time(f['elapsed'])}",
        f"- **Estimated remaining**: {'none' if left is None else human_time(left)}",
        f"- **Checkpoints**: {', '.join(f['labels']) or 'none yet'}",
        f"- **Batch reduced for lack of memory**: {_times(len(f['reductions']))}",
        *(f"  - {sentence}" for sentence in f["reductions"]),
        f"- **As of**: {files.now()}",
    ]


def _how(run_id: str, state: str) -> tuple[str, str]:
    """The lines of progress.md that say which run it tells of, and how that stands."""
    return f"- **Run**: {run_id}", f"- **Status**: {WORDS.get(state, GOING_ON)[0]}"


def _times(n: int) -> str:
    return {0: "never", 1: "once", 2: "twice"}.get(n, f"{n} times")


def write_status(project: Project, status: str, next_step: str) -> None:
    """records/status.md: where the project stands, and what comes next."""
    lines = [
        f"# Status: {project.intent.name}",
        "",
        f"- **Status**: {status}",
        f"- **Next**: {next_step}",
        f"- **As of**: {files.now()}",
    ]
    files.write_text(project.records_dir / STATUS, "\n".join(lines) + "\n")


def write(run: Run, metrics: Metrics | None = None, state: str = "") -> None:
    """Bring both pages of the run's project up to what the run says. Only the newest run speaks for its project."""
    project = project_of(run)
    if project is None or any(p.parent.name > run.id for p in project.runs_dir.glob(f"*/{MANIFEST}")):
        return
    facts = facts_of(run, metrics, state)
    lines = progress_lines(project.intent.name, run.id, facts)
    files.write_text(project.records_dir / PROGRESS, "\n".join(lines) + "\n")
    _, status, following = WORDS.get(facts["status"], GOING_ON)
    write_status(project, f"{status} ({run.id})", following)


def catch_up(run: Run) -> None:
    """Write both pages once more when they do not tell yet how the run ended; costs a look at one of them otherwise.

    What they say counts and not when they were written: the clock may have been set in between.
    """
    project = project_of(run)
    if project is None:
        return
    said = ""
    with suppress(OSError):
        said = (project.records_dir / PROGRESS).read_text("utf-8", "replace")
    if not all(line in said for line in _how(run.id, run.job.state)):
        with suppress(OSError):
            write(run)


def project_of(run: Run) -> Project | None:
    """The project that a run folder lies in; None for one elsewhere, as of a dry run."""
    if run.folder.parent.name != "runs" or len(run.folder.parents) < 4:
        return None
    project = Project(Workspace(run.folder.parents[3]), run.folder.parents[1].name)
    here = project.runs_dir == run.folder.parent and project.records_dir.is_dir() and run.manifest
    return project if here else None


@contextmanager
def recorded(folder: Path) -> Iterator[None]:
    """Keep the record of the run in `folder` while the block trains, and say at its end how it went. Never the cause of a failure."""
    run, reading, over = Run(folder), Reading(), threading.Event()
    if project_of(run) is None:
        yield
        return

    def keep(state: str) -> None:
        with suppress(OSError, StudioError, ValueError, KeyError):
            write(run, reading.more(run), state)

    def now_and_then() -> None:
        keep("running")
        while not over.wait(EVERY_S):
            keep("running")

    writer = threading.Thread(target=now_and_then, name="run-record", daemon=True)
    writer.start()
    state = "failed"
    try:
        yield
        told = disk.read_json(folder / "result.json") or {}
        state = "finished" if told.get("complete") else "stopped"
    except (JobStopped, KeyboardInterrupt):
        state = "stopped"
        raise
    finally:
        over.set()
        writer.join(EVERY_S)
        keep(state)
