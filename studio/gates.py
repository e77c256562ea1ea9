"""The four gates before every training: dataset, config, environment, dry run.

A gate looks at stated inputs and gives a verdict: a list of findings, and a fingerprint of those inputs. It passes when
nothing blocks. When an input changes, the fingerprint no longer fits and the verdict is stale: it has to be run again.
`require_gates` is what launching asks; there is no way past it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from studio import environment, files, records
from studio.captions.store import CaptionStore
from studio.dataset.gate import dataset_findings, dataset_fingerprint
from studio.dataset.scan import scan
from studio.dataset.subsets import shown_per_bucket, subset_findings, teaching_count
from studio.errors import EnvironmentalError, GateError, InputError, NotFoundError, StudioError
from studio.estimate import MARGIN, Estimate, estimate, fitting_batch, plan_steps
from studio.files import human_size, human_time
from studio.findings import Finding, blocking, by_harm, summary
from studio.jobs.job import Job
from studio.machine import detect
from studio.models import BaseModelEntry, get_model, model_fingerprint
from studio.presets import default_preset, fill
from studio.project import Project
from studio.settings import TrainingSettings, unusual
from studio.training import dry_run
from studio.training.registry import get_backend

GateName = Literal["dataset", "config", "environment", "dry_run"]
GATES: tuple[GateName, ...] = ("dataset", "config", "environment", "dry_run")
TITLES: dict[str, str] = {
    "dataset": "Dataset",
    "config": "Config",
    "environment": "Environment",
    "dry_run": "Dry run",
}
PURPOSE: dict[str, str] = {
    "dataset": "Every picture opens, has a caption that starts with the trigger word, and is there only once.",
    "config": "The settings fit together, fit the base model, and fit into this computer's memory.",
    "environment": "This computer has what the backend needs, and room on the disk.",
    "dry_run": "A few real training steps with your pictures and settings work, and show how long the run will take.",
}
State = Literal["passed", "blocked", "stale", "missing", "running"]


class Verdict(BaseModel):
    """What a gate said.

    fingerprint: hash of the inputs it looked at; facts: figures it measured, for reports and cards.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    gate: GateName
    passed: bool
    findings: tuple[Finding, ...]
    fingerprint: str
    at: str
    facts: dict[str, Any] = {}

    @property
    def words(self) -> str:
        """One sentence, such as "NO-GO: 2 blocking, 1 warning"."""
        return f"{'GO' if self.passed else 'NO-GO'}: {summary(self.findings)}"


@dataclass(frozen=True)
class GateStatus:
    """A gate as it stands now. reason: why it does not count as passed; empty when it does."""

    gate: GateName
    title: str
    purpose: str
    state: State
    verdict: Verdict | None
    reason: str


def _path(project: Project, gate: str) -> Path:
    return project.gates_dir / f"{gate}.json"


def verdict(project: Project, gate: GateName) -> Verdict | None:
    """The last verdict of a gate, fresh or stale; None when it never ran or its file was damaged."""
    if gate == "dry_run":
        _settle_dry_run(project)
    try:
        raw = files.read_json(_path(project, gate))
        return Verdict.model_validate(raw) if raw else None
    except (InputError, ValueError):
        return None


def _save(
    project: Project, gate: GateName, findings: list[Finding], mark: str, facts: dict[str, Any]
) -> Verdict:
    said = Verdict(
        gate=gate,
        passed=not blocking(findings),
        findings=tuple(by_harm(findings)),
        fingerprint=mark,
        at=files.now(),
        facts=facts,
    )
    files.write_json(_path(project, gate), said.model_dump(mode="json"))
    project.decided(f"gate {gate}", passed=said.passed, findings=[f.code for f in said.findings])
    records.write_gate(project, said.gate, said.passed, list(said.findings), said.facts, said.at)
    return said


# --- fingerprints: what each gate looked at


def _model_mark(project: Project, entry: BaseModelEntry) -> str:
    place = entry.location(project.workspace)
    return model_fingerprint(place) if place else "absent"


def current_fingerprint(project: Project, gate: GateName) -> str:
    """Hash of the inputs of a gate as they are now. Raises StudioError when an input cannot be read."""
    intent = project.intent
    entry = get_model(project.workspace, intent.base_model)
    dataset = [dataset_fingerprint(project), intent.kind, intent.trigger, entry.id, entry.resolution]
    settings = project.settings.model_dump(mode="json")
    machine = detect()
    if gate == "dataset":
        return files.fingerprint(dataset)
    if gate == "config":
        return files.fingerprint(
            [dataset, settings, entry.model_dump(mode="json"), machine.memory_bytes, machine.device]
        )
    here = [
        machine.python,
        machine.packages,
        [g.name for g in machine.gpus],
        project.settings.backend,
        _model_mark(project, entry),
    ]
    if gate == "environment":
        return files.fingerprint(here)
    return files.fingerprint([dataset, settings, here])


# --- state


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
        return GateStatus(gate, title, purpose, "stale", said, "Something it looked at has changed since.")
    if not said.passed:
        return GateStatus(gate, title, purpose, "blocked", said, said.words)
    return GateStatus(gate, title, purpose, "passed", said, "")


def states(project: Project) -> dict[GateName, GateStatus]:
    """All four gates, in order."""
    return {g: state(project, g) for g in GATES}


# --- running


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
        return _config(project)
    if gate == "environment":
        return _environment(project, say)
    job = start_dry_run(project)
    say("Training a few real steps in a scratch folder.")
    job.wait(timeout=dry_run.LIMIT_SECONDS)
    _settle_dry_run(project)
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
    return _save(project, "dataset", found, mark, facts)


def picture_counts(project: Project, settings: TrainingSettings | None = None) -> list[int]:
    """Pictures that an epoch shows in each aspect-ratio bucket at the chosen settings, with repeats and regularisation
    pictures; [] while none teaches."""
    return shown_per_bucket(project, scan(project), settings or project.settings)


def measured(project: Project) -> dict[str, Any]:
    """What the last dry run measured, when it still fits the settings: seconds_per_step, peak_bytes; else {}."""
    status = state(project, "dry_run")
    return dict(status.verdict.facts) if status.state == "passed" and status.verdict else {}


def forecast(project: Project, settings: TrainingSettings | None = None) -> Estimate:
    """Steps, memory, time and disk of the next run; measured figures when a fresh dry run gave them and the settings
    asked about are the project's own."""
    chosen = settings or project.settings
    facts = measured(project) if settings is None or settings == project.settings else {}
    entry = get_model(project.workspace, project.intent.base_model)
    return estimate(
        entry.family,
        chosen,
        picture_counts(project, chosen),
        seconds_per_step=facts.get("seconds_per_step"),
        peak_bytes=facts.get("peak_bytes"),
        overhead_seconds=float(facts.get("start_seconds", 15.0)),
    )


def _config(project: Project) -> Verdict:
    entry = get_model(project.workspace, project.intent.base_model)
    found = _from_standard(project, entry)
    settings, reduced = _made_to_fit(project, entry)
    found += reduced
    machine = detect()
    found += get_backend(settings.backend).check(settings, machine, entry)
    found += unusual(settings)
    found += subset_findings(project, settings, CaptionStore(project).all())
    counts = picture_counts(project, settings)
    plan = estimate(entry.family, settings, counts)
    if not counts:
        found.append(
            Finding(
                severity="block",
                code="config-no-pictures",
                what="There are no pictures to train on.",
                why="A run without pictures would end at once and teach nothing.",
                fix="Add pictures on the dataset page.",
            )
        )
    elif plan.steps.total_steps < 20:
        found.append(
            Finding(
                severity="warn",
                code="config-few-steps",
                what=f"The run has only {plan.steps.total_steps} steps.",
                why="So few changes hardly show in pictures.",
                fix="Raise the epochs or the repeats.",
                where=("epochs", "repeats"),
            )
        )
    if not plan.fits(machine.memory_bytes):
        found.append(
            Finding(
                severity="block",
                code="memory-short",
                what=f"The run needs about {human_size(plan.memory_bytes)}, and this computer has {human_size(machine.memory_bytes)}.",
                why=f"With {MARGIN:.0%} kept free, {human_size(machine.memory_bytes * (1 - MARGIN))} can be used. Even a batch of one does not fit.",
                fix="Turn on gradient checkpointing, lower the resolution or the rank, or choose a smaller base model.",
                where=("gradient_checkpointing", "resolution", "rank"),
            )
        )
    elif plan.memory_high > machine.memory_bytes:
        found.append(
            Finding(
                severity="warn",
                code="memory-close",
                what=f"Memory may be close: about {human_size(plan.memory_low)} to {human_size(plan.memory_high)}.",
                why="The figure is an estimate; the dry run measures it.",
                fix="Nothing to do now; the dry run will tell.",
            )
        )
    facts = {
        "steps": plan.steps.total_steps,
        "steps_per_epoch": plan.steps.steps_per_epoch,
        "epochs": plan.steps.epochs,
        "memory_bytes": plan.memory_bytes,
        "memory_low": plan.memory_low,
        "memory_high": plan.memory_high,
        "available_bytes": machine.memory_bytes,
        "disk_bytes": plan.disk_bytes,
        "lora_bytes": plan.lora_bytes,
        "settings": settings.model_dump(mode="json"),
        "preset": project.preset,
        "base_model": entry.id,
        "device": machine.words,
    }
    return _save(project, "config", found, current_fingerprint(project, "config"), facts)


def _from_standard(project: Project, entry: BaseModelEntry) -> list[Finding]:
    """Fill the settings of a project that never chose any from the standard preset of its base model. A project without
    pictures waits: the repeats of a preset follow from how many there are."""
    pictures = teaching_count(project)
    if project.settings_chosen or not pictures:
        return []
    preset = default_preset(project.workspace, entry.family)
    project.save_settings(fill(preset, entry, pictures, detect()), preset.id)
    project.decided("preset chosen", preset=preset.id, by="default")
    return [
        Finding(
            severity="info",
            code="settings-from-preset",
            what=f"The settings come from the preset {preset.title} ({preset.id}).",
            why="None had been chosen yet.",
            fix="Nothing to do. Choose another preset, or change a setting, whenever you like.",
        )
    ]


def _made_to_fit(project: Project, entry: BaseModelEntry) -> tuple[TrainingSettings, list[Finding]]:
    """The project's settings, the batch halved until the estimate fits; accumulation is raised alike, so that as many
    pictures as before make one step and the learning rate stays right."""
    settings = project.settings
    counts = picture_counts(project, settings)
    batch = fitting_batch(entry.family, settings, counts, detect().memory_bytes)
    if batch in (0, settings.batch_size):
        return settings, []
    factor = settings.batch_size // batch
    smaller = settings.model_copy(
        update={"batch_size": batch, "gradient_accumulation": settings.gradient_accumulation * factor}
    )
    project.save_settings(smaller)
    project.decided("batch size reduced to fit memory", before=settings.batch_size, after=batch)
    return smaller, [
        Finding(
            severity="warn",
            code="batch-reduced",
            what=f"Batch size was reduced from {settings.batch_size} to {batch}.",
            why="The larger batch would not fit into this computer's memory with 20 % kept free.",
            fix=f"Nothing to do: gradient accumulation was raised to {smaller.gradient_accumulation}, so the result stays the same.",
            where=("batch_size", "gradient_accumulation"),
        )
    ]


def _environment(project: Project, say: Callable[[str], None]) -> Verdict:
    say("Asking the backend's packages whether they load.")
    entry = get_model(project.workspace, project.intent.base_model)
    plan = forecast(project)
    found, facts = environment.check(
        project.workspace, project.settings, entry, plan.disk_bytes, plan.memory_bytes
    )
    return _save(project, "environment", found, current_fingerprint(project, "environment"), facts)


def start_dry_run(project: Project) -> Job:
    """Start the dry run as a job and return it. Raises GateError while one of the first three gates does not pass."""
    _require(project, GATES[:3], "The dry run was not started.")
    mark = current_fingerprint(project, "dry_run")
    return dry_run.start(project, get_model(project.workspace, project.intent.base_model), mark)


def _settle_dry_run(project: Project) -> None:
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
        available = detect().memory_bytes
        if result.facts.get("peak_bytes", 0) > available * (1 - MARGIN):
            result.findings.append(
                Finding(
                    severity="warn",
                    code="memory-measured-close",
                    what=f"The dry run used {human_size(result.facts['peak_bytes'])} of {human_size(available)}.",
                    why="Less than 20 % stays free; another program could make the run fail.",
                    fix="Close other programs, or lower the batch size.",
                )
            )
    _save(project, "dry_run", result.findings, result.fingerprint, result.facts)
    dry_run.mark_settled(result.job)


def _require(project: Project, gates: tuple[GateName, ...], refusal: str) -> None:
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


def require_gates(project: Project) -> None:
    """Return when all four gates pass now and there is still room on the disk; otherwise raise GateError (or
    EnvironmentalError). Every launch asks this, whoever calls."""
    _require(project, GATES, "Training was not started.")
    need = forecast(project).disk_bytes
    free = files.free_bytes(project.folder)
    if free < need + environment.DISK_RESERVE:
        raise EnvironmentalError(
            f"Only {human_size(free)} are free on the disk.",
            f"The run writes about {human_size(need)}.",
            "Free some room, then start again.",
        )


def require_environment(project: Project) -> None:
    """Run the environment gate now and raise GateError when it does not pass; what resuming a run asks for."""
    if not run_gate(project, "environment").passed:
        _require(project, ("environment",), "The run was not resumed.")
