"""Starting, stopping and resuming training. The one place from which a training job is launched, behind the gates."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from studio import files, gates
from studio.dataset.folder import full_look
from studio.dataset.gate import dataset_fingerprint
from studio.errors import BusyError, GateError, InputError, NotFoundError
from studio.gates.standing import require
from studio.jobs import locks
from studio.jobs.job import Job, JobSpec, active_jobs
from studio.jobs.launch import launch, launch_call, relaunch
from studio.jobs.lifeline import Worker
from studio.machine import card_env, detect
from studio.models import get_model
from studio.project import Project, open_project
from studio.secrets import lent
from studio.training import record
from studio.training.base import TrainingPlan
from studio.training.prepare import freeze
from studio.training.registry import env_of, get_backend, is_rented, secrets_of
from studio.training.runs import MANIFEST, Run, get_run, new_run_folder
from studio.workspace import Workspace

KIND = "training"


def busy_cards(workspace: Workspace) -> list[int | None]:
    """Which graphics cards trainings on this computer use; None for each that may use any, as without a card."""
    return [
        (files.read_json(j.folder / MANIFEST) or {}).get("gpu")
        for j in active_jobs(workspace)
        if j.spec.kind == KIND and not _is_rented(j)
    ]


@contextmanager
def _only_training(project: Project, backend: str, gpu: int | None = None) -> Iterator[None]:
    """Hold the workspace's training lock while a run is being started, so that two callers cannot both find it free.
    Runs on rented computers stand in nobody's way here, and neither do those on another card than `gpu`.

    Raises BusyError when another training runs or is being started.
    """
    workspace = project.workspace
    workspace.root.mkdir(parents=True, exist_ok=True)
    rented = is_rented(backend)
    lock = locks.take(workspace.root / "training.lock", busy="Another training is being started.")
    try:
        for job in active_jobs(workspace):
            if job.spec.kind == KIND and not rented and not _is_rented(job):
                other = (files.read_json(job.folder / MANIFEST) or {}).get("gpu")
                if None not in (gpu, other) and gpu != other:
                    continue
                raise BusyError(
                    f"Another training is going on: {job.spec.title}.",
                    "Two at once share this computer and both become slower, or run out of memory.",
                    "Wait until it has ended, or stop it.",
                )
        yield
    finally:
        lock.release()


@full_look()
def start_training(project: Project, gpu: int | None = None, queued: str = "") -> Run:
    """Start a run with the project's pictures, captions and settings as they are now.

    gpu: number of the card that it shall have to itself; None: it may use any, and no other training runs beside it.
    queued: its id in the queue, by which the queue finds the run that it started.

    Raises GateError unless all four gates pass at this moment, BusyError while another training runs on this computer,
    EnvironmentalError when the disk is too full.
    """
    gates.require_gates(project)
    with _only_training(project, project.settings.backend, gpu):
        return _start(project, gpu, queued)


def _is_rented(job: Job) -> bool:
    """Whether a training job runs on someone else's computer."""
    told = (files.read_json(job.folder / MANIFEST) or {}).get("settings", {}).get("backend", "diffusers")
    try:
        return is_rented(str(told))
    except NotFoundError:
        return False


def _start(project: Project, gpu: int | None, queued: str) -> Run:
    intent, settings = project.intent, project.settings
    entry = get_model(project.workspace, intent.base_model)
    folder = new_run_folder(project)
    judged = dataset_fingerprint(project)
    plan = freeze(project, entry, folder, output_name=files.slug(f"{intent.name}-{folder.name[-4:]}"))
    # What was frozen is what the gates saw only if nothing was changed between asking them and freezing.
    if dataset_fingerprint(project) != judged or any(
        s.state != "passed" for s in gates.states(project).values()
    ):
        shutil.rmtree(folder)
        raise GateError(
            "Training was not started.",
            "Pictures, captions or settings were changed at this very moment, and the gates have not seen the change.",
            "Run the gates again, then start.",
        )
    command = get_backend(settings.backend).command(plan)
    forecast = gates.forecast(project)
    machine = detect()
    manifest: dict[str, Any] = {
        "id": folder.name,
        "project": project.slug,
        "created": files.now(),
        "intent": intent.model_dump(mode="json"),
        "settings": settings.model_dump(mode="json"),
        "preset": project.preset,
        "dataset": {
            "fingerprint": dataset_fingerprint(project),
            "pictures": len(plan.pictures),
            "plan_fingerprint": plan.fingerprint(),
        },
        "base_model": {"id": entry.id, "title": entry.title, "fingerprint": plan.model_hash},
        "steps": {
            "total": forecast.steps.total_steps,
            "per_epoch": forecast.steps.steps_per_epoch,
            "epochs": forecast.steps.epochs,
        },
        "forecast_seconds": forecast.seconds,
        "machine": machine.as_dict(),
        "gpu": gpu,
        **({"queued": queued} if queued else {}),
        "engine": {k: v for k, v in plan.engine.items() if k in ("commit", "version")},
        "command": command,
        "gates": {g: s.verdict.fingerprint for g, s in gates.states(project).items() if s.verdict},
    }
    files.write_json(folder / MANIFEST, manifest)
    backend = get_backend(settings.backend)
    spec = JobSpec(
        kind=KIND,
        title=f"{intent.name}: training",
        command=command,
        project=project.slug,
        secrets=secrets_of(backend),
        env={**env_of(backend), **({} if is_rented(settings.backend) else card_env(gpu))},
    )
    with lent(project.workspace, *spec.secrets):
        launch(folder, spec)
    project.decided("run started", run=folder.name, settings=manifest["settings"])
    record.write_status(project, f"TRAINING ({folder.name})", "Wait for the run, then evaluate it.")
    return Run(folder)


def check_before_resuming(project: Project) -> Job:
    """Ask the environment anew as a job, for a page that stays alive meanwhile: loading what sd-scripts needs may take a minute.

    When it has finished, `resume_run` with `checked` goes by what it found.
    """
    return launch_call(
        project.jobs_dir / files.new_id("check"),
        "studio.launch:check_job",
        {"workspace": str(project.workspace.root), "project": project.slug},
        kind="environment check",
        title="Checking the environment",
        project=project.slug,
        stop_grace_s=1.0,
    )


def check_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """The job of `check_before_resuming`."""
    worker.progress(0, None, "", "Loading what the training needs, once, to see that it works")
    project = open_project(Workspace(Path(payload["workspace"])), payload["project"])
    return {"passed": gates.run_gate(project, "environment").passed}


@full_look()
def resume_run(project: Project, run_id: str = "", *, checked: bool = False) -> Run:
    """Go on with a stopped, failed or interrupted run from its last saved state, with the settings it began with.

    The gates are those that the run was started behind; what can have changed since, the environment, is asked again.
    checked: it was asked just now, and its verdict counts unless something has changed since.

    Raises InputError when the run cannot be resumed, GateError when the environment does not pass, BusyError.
    """
    run = get_run(project, run_id)
    if not run.resumable:
        state = run.job.state
        raise InputError(
            f"{run.id} is {state} and cannot be resumed.",
            "Only a stopped, failed or interrupted run has something left to do.",
            "Start a new run." if state == "finished" else "Wait until it has ended.",
        )
    if checked:
        require(project, ("environment",), "The run was not resumed.")
    else:
        gates.require_environment(project)
    plan = TrainingPlan.load(run.folder)
    with _only_training(project, plan.settings.backend):
        backend = get_backend(plan.settings.backend)
        with lent(project.workspace, *secrets_of(backend)):
            relaunch(run.job, backend.command(plan), env=env_of(backend) or None)
    project.decided("run resumed", run=run.id)
    return Run(run.folder)


def stop_run(run: Run) -> None:
    """Ask a run to stop: it saves its state first, so that it can be resumed. Raises InputError when it does not run."""
    if not run.job.is_alive:
        raise InputError(f"{run.id} is not running.", f"It is {run.job.state}.", "Nothing to do.")
    run.job.stop()


def progress_facts(run: Run) -> dict[str, Any]:
    """Where a run stands, for the record and for `--json`; see `studio.training.record.facts_of`."""
    return record.facts_of(run)


def write_records(project: Project, run: Run) -> None:
    """Bring records/progress.md and records/status.md of the project up to what its newest run says."""
    del project  # the run lies in it
    record.write(run)
