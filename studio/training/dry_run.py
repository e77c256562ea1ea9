"""The dry run: a few real training steps in a scratch folder, as a job. Gate 4 reads its result."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from studio import files
from studio.errors import BusyError
from studio.findings import Finding
from studio.jobs.job import Job, JobSpec, list_jobs
from studio.jobs.launch import launch
from studio.machine import card_env
from studio.models import BaseModelEntry
from studio.project import Project
from studio.secrets import lent
from studio.training.prepare import freeze
from studio.training.registry import env_of, get_backend, secrets_of

STEPS = 4  # Two warm the caches up, two are measured; between the 2 and 5 that the gate promises.
LIMIT_SECONDS = 3600
_KIND = "dry-run"
_NOTE = "dry_run.json"


@dataclass
class Result:
    """What a finished dry run says. facts: seconds_per_step, peak_bytes, start_seconds, steps_run; {} when it failed."""

    job: Job
    fingerprint: str
    findings: list[Finding] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)


def latest(project: Project) -> Job | None:
    """The newest dry-run job of a project; None when there is none."""
    jobs = [j for j in list_jobs(project.jobs_dir) if j.spec.kind == _KIND]
    return jobs[0] if jobs else None


def start(project: Project, entry: BaseModelEntry, fingerprint: str) -> Job:
    """Start the job. fingerprint: of the inputs as they are now, kept for the verdict. Raises BusyError when one runs."""
    running = latest(project)
    if running is not None and running.is_alive:
        raise BusyError(
            "A dry run is going on.", "Two at once would measure each other.", "Wait for it, or stop it."
        )
    folder = project.jobs_dir / files.new_id(_KIND)
    plan = freeze(project, entry, folder, output_name="dry-run", limit_steps=STEPS)
    files.write_json(folder / _NOTE, {"fingerprint": fingerprint, "settled": False})
    command = get_backend(plan.settings.backend).command(plan)
    backend = get_backend(plan.settings.backend)
    spec = JobSpec(
        kind=_KIND,
        title="Dry run",
        command=command,
        project=project.slug,
        secrets=secrets_of(backend),
        env={**env_of(backend), **card_env(None)},
    )
    with lent(project.workspace, *spec.secrets):
        return launch(folder, spec)


def unsettled(project: Project) -> Result | None:
    """The newest dry run when it has ended and its verdict is still to be given; else None."""
    job = latest(project)
    if job is None or job.is_alive:
        return None
    note = files.read_json(job.folder / _NOTE) or {}
    if note.get("settled", True):
        return None
    result = Result(job, str(note["fingerprint"]))
    done = [e for e in job.events()[0] if e.get("type") == "done"]
    if job.state == "finished" and done:
        result.facts = {
            k: done[-1][k]
            for k in (
                "seconds_per_step",
                "peak_bytes",
                "start_seconds",
                "steps_run",
                "first_loss",
                "last_loss",
                "cost_low",
                "cost_high",
                "cost_words",
            )
            if k in done[-1]
        }
        result.findings.append(
            Finding(
                severity="info",
                code="dry-run-worked",
                what=str(done[-1].get("what") or f"{done[-1].get('steps_run', STEPS)} real steps worked."),
                why=str(
                    done[-1].get("why")
                    or "The base model, the pictures and the captions were loaded and learned from."
                ),
            )
        )
        return result
    result.findings.append(_failure(job))
    return result


def _failure(job: Job) -> Finding:
    if job.state == "stopped":
        return Finding(
            severity="block",
            code="dry-run-stopped",
            what="The dry run was stopped.",
            why="It has to reach its last step to count.",
            fix="Run it again.",
        )
    error = job.error or {}
    return Finding(
        severity="block",
        code="dry-run-failed",
        what=str(error.get("what") or "The dry run failed."),
        why=str(error.get("why") or "Its log says more."),
        fix=str(error.get("fix") or "Read the log below, mend the cause, run it again."),
    )


def mark_settled(job: Job) -> None:
    """Note that the verdict was given."""
    note = files.read_json(job.folder / _NOTE) or {}
    files.write_json(job.folder / _NOTE, {**note, "settled": True})
