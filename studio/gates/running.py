"""Running the gates, and what launching asks of them."""

from __future__ import annotations

from collections.abc import Callable

from studio import environment, files
from studio.dataset.folder import full_look
from studio.dataset.gate import dataset_findings
from studio.errors import EnvironmentalError, GateError, NotFoundError
from studio.files import human_size
from studio.gates.config import config_gate
from studio.gates.forecasts import forecast
from studio.gates.standing import require, settle_dry_run, verdict
from studio.gates.verdicts import GATES, GateName, Verdict, current_fingerprint, save_verdict
from studio.jobs.job import Job
from studio.models import get_model
from studio.project import Project
from studio.training import dry_run


@full_look()
def run_gate(project: Project, gate: GateName, tell: Callable[[str], None] | None = None) -> Verdict:
    """Run one gate and store its verdict. The dry run starts a job and waits for it; the others take seconds.

    tell: called with a sentence now and then. Raises NotFoundError for an unknown gate, GateError when a dry run is
    asked for before the first three gates pass.
    """
    if gate not in GATES:
        raise NotFoundError(f"There is no gate called '{gate}'.", "", f"The gates are: {', '.join(GATES)}.")
    say = tell or (lambda _sentence: None)
    if gate == "dataset":
        return _dataset(project, say)
    if gate == "config":
        return config_gate(project)
    if gate == "environment":
        return _environment(project, say)
    job = start_dry_run(project)
    say("Training a few real steps in a scratch folder.")
    job.wait(timeout=dry_run.LIMIT_SECONDS)
    settle_dry_run(project)
    said = verdict(project, "dry_run")
    if said is None:
        raise GateError(
            "The dry run gave no verdict.", "Its job was removed or did not end.", "Run it again."
        )
    return said


def _dataset(project: Project, say: Callable[[str], None]) -> Verdict:
    say("Opening every picture and reading every caption.")
    mark = current_fingerprint(project, "dataset")
    found, facts = dataset_findings(project, get_model(project.workspace, project.intent.base_model))
    return save_verdict(project, "dataset", found, mark, facts)


def _environment(project: Project, say: Callable[[str], None]) -> Verdict:
    say("Asking the backend's packages whether they load.")
    entry = get_model(project.workspace, project.intent.base_model)
    plan = forecast(project)
    found, facts = environment.check(
        project.workspace, project.settings, entry, plan.disk_bytes, plan.memory_bytes
    )
    return save_verdict(project, "environment", found, current_fingerprint(project, "environment"), facts)


@full_look()
def start_dry_run(project: Project) -> Job:
    """Start the dry run as a job and return it. Raises GateError while one of the first three gates does not pass."""
    require(project, GATES[:3], "The dry run was not started.")
    mark = current_fingerprint(project, "dry_run")
    return dry_run.start(project, get_model(project.workspace, project.intent.base_model), mark)


@full_look()
def require_gates(project: Project) -> None:
    """Return when all four gates pass now and there is still room on the disk; otherwise raise GateError (or
    EnvironmentalError). Every launch asks this, whoever calls."""
    require(project, GATES, "Training was not started.")
    need = forecast(project).disk_bytes
    free = files.free_bytes(project.folder)
    if free < need + environment.DISK_RESERVE:
        raise EnvironmentalError(
            f"Only {human_size(free)} are free on the disk.",
            f"The run writes about {human_size(need)}, and {human_size(environment.DISK_RESERVE)} have to stay free beside it.",
            "Free some room, then start again.",
        )


@full_look()
def require_environment(project: Project) -> None:
    """Run the environment gate now and raise GateError when it does not pass; what resuming a run asks for."""
    if not run_gate(project, "environment").passed:
        require(project, ("environment",), "The run was not resumed.")
