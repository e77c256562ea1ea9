"""What the next run will take, with measured figures where a dry run gave them."""

from __future__ import annotations

from typing import Any

from studio.estimate import Estimate, estimate, file_of
from studio.gates.standing import picture_counts, state
from studio.machine import detect
from studio.models import get_model
from studio.project import Project
from studio.settings import TrainingSettings, changed

# What changes how many steps there are or what they teach, but neither their pace nor their memory: a dry run measured
# before such a change still holds.
_SAME_PACE = frozenset(
    {
        "epochs", "repeats", "max_steps", "learning_rate", "text_encoder_lr", "weight_decay", "scheduler",
        "scheduler_cycles", "warmup", "save_every_epochs", "keep_checkpoints", "sample_every_epochs", "sample_prompts",
        "seed",
    }
)  # fmt: skip


def measured(project: Project) -> dict[str, Any]:
    """What the last dry run measured, when it still fits the settings: seconds_per_step, peak_bytes; else {}."""
    status = state(project, "dry_run")
    return dict(status.verdict.facts) if status.state == "passed" and status.verdict else {}


def forecast(project: Project, settings: TrainingSettings | None = None) -> Estimate:
    """Steps, memory, time and disk of the next run; measured figures when a fresh dry run gave them and the settings
    asked about have the same pace as the project's own."""
    chosen = settings or project.settings
    alike = settings is None or changed(settings, project.settings).keys() <= _SAME_PACE
    facts = measured(project) if alike else {}
    entry = get_model(project.workspace, project.intent.base_model)
    return estimate(
        entry.family,
        chosen,
        picture_counts(project, chosen),
        seconds_per_step=facts.get("seconds_per_step"),
        peak_bytes=facts.get("peak_bytes"),
        overhead_seconds=float(facts.get("start_seconds", 15.0)),
        device=detect().device,
        file=file_of(entry, project.workspace),
    )
