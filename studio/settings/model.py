"""All training settings as one model, and what differs between two of them."""

from __future__ import annotations

from typing import Any

from pydantic import ConfigDict

from studio.settings.knob import Knob, knob_of
from studio.settings.learning import HowItLearns
from studio.settings.renting import WhereItRents
from studio.settings.running import HowItRuns
from studio.settings.scripts import HowScriptsRun
from studio.settings.taught import WhatIsTaught


# Fields of the last base come first: the order of the form is model, network, length ... saving, repeatability, sd-scripts,
# cloud.
class TrainingSettings(WhereItRents, HowScriptsRun, HowItRuns, HowItLearns, WhatIsTaught):
    """What to train and how, in words that every backend shares."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)


def knobs() -> dict[str, Knob]:
    """All fields by name, in the order of the form."""
    return {name: knob_of(name, info) for name, info in TrainingSettings.model_fields.items()}


def changed(
    settings: TrainingSettings, reference: TrainingSettings | None = None
) -> dict[str, tuple[Any, Any]]:
    """Fields that differ from `reference` (the built-in defaults when None): name -> (reference value, value)."""
    base = reference or TrainingSettings()
    return {
        n: (getattr(base, n), getattr(settings, n))
        for n in TrainingSettings.model_fields
        if getattr(base, n) != getattr(settings, n)
    }
