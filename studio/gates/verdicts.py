"""What a gate said: the verdict, where it is kept, and the fingerprint of what it looked at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from studio import files
from studio import machine as computer
from studio.dataset.gate import dataset_fingerprint
from studio.errors import InputError
from studio.findings import Finding, blocking, by_harm, summary
from studio.gates.pages import write_page
from studio.models import BaseModelEntry, get_model, model_fingerprint
from studio.project import Project
from studio.secrets import REPLICATE, secret_state
from studio.training.registry import is_rented
from studio.training.sdscripts import install
from studio.training.sdscripts.parts import parts_of

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
_SMALL_FILE = 65_536  # bytes; configs have a few thousand, word tables a million
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


def path_of(project: Project, gate: str) -> Path:
    return project.gates_dir / f"{gate}.json"


def stored(project: Project, gate: GateName) -> Verdict | None:
    """The verdict on the disk; None when the gate never ran or its file was damaged."""
    try:
        raw = files.read_json(path_of(project, gate))
        return Verdict.model_validate(raw) if raw else None
    except (InputError, ValueError):
        return None


def save_verdict(
    project: Project, gate: GateName, findings: list[Finding], mark: str, facts: dict[str, Any]
) -> Verdict:
    """Keep what a gate said, in its file, the history and the records. mark: fingerprint of its inputs."""
    said = Verdict(
        gate=gate,
        passed=not blocking(findings),
        findings=tuple(by_harm(findings)),
        fingerprint=mark,
        at=files.now(),
        facts=facts,
    )
    files.write_json(path_of(project, gate), said.model_dump(mode="json"))
    project.decided(f"gate {gate}", passed=said.passed, findings=[f.code for f in said.findings])
    write_page(project, said.gate, said.passed, said.findings, said.facts, said.at)
    return said


def _model_marks(project: Project, entry: BaseModelEntry) -> list[Any]:
    """The base model's file, and those that belong beside it."""
    place = entry.location(project.workspace)
    beside = [[role, model_fingerprint(p)] for role, p in parts_of(entry, project.workspace).items()]
    return [model_fingerprint(place) if place else "absent", *beside, *_configs_of(place)]


def _configs_of(place: Path | None) -> list[str]:
    """What the small config files of a diffusers folder say: a number changed in one of them changes no size and no header, and
    the model then loads otherwise or not at all."""
    if place is None or not place.is_dir():
        return []
    small = [p for p in sorted(place.rglob("*.json")) if p.is_file() and p.stat().st_size <= _SMALL_FILE]
    return [files.sha256_file(p) for p in small]


def current_fingerprint(project: Project, gate: GateName) -> str:
    """Hash of the inputs of a gate as they are now. Raises StudioError when an input cannot be read."""
    intent = project.intent
    entry = get_model(project.workspace, intent.base_model)
    dataset = [dataset_fingerprint(project), intent.kind, intent.trigger, entry.id, entry.resolution]
    settings = project.settings.model_dump(mode="json")
    machine = computer.detect()
    if gate == "dataset":
        return files.fingerprint(dataset)
    if gate == "config":
        return files.fingerprint(
            [
                dataset,
                settings,
                entry.model_dump(mode="json"),
                machine.memory_bytes,
                machine.device,
                *_model_marks(project, entry),
            ]
        )
    here: list[Any] = [
        machine.python,
        machine.packages,
        [g.name for g in machine.gpus],
        project.settings.backend,
        *_model_marks(project, entry),
    ]
    if project.settings.backend == "kohya":  # another sd-scripts may do otherwise
        used = install.current(project.workspace)
        here.append(used.as_dict() if used else "absent")
        here += [settings["attention"], settings["optimizer"]]  # packages that they need
    if is_rented(project.settings.backend):  # gate 3 looks at the token and the destination instead
        here += [secret_state(project.workspace, REPLICATE)[0]]
        here += [v for k, v in settings.items() if k.startswith("cloud_")]
    if gate == "environment":
        return files.fingerprint(here)
    return files.fingerprint([dataset, settings, here])
