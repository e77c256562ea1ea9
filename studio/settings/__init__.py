"""The training settings: backend-neutral, one model, one source.

Each field carries its title, plain-words help, safe range, unit, group and level. The form, the tooltip, the glossary,
the `--help` and the configuration reference are all made from here; nothing else repeats a default or a range.

knob.py      what a field says about itself
taught.py, learning.py, running.py, scripts.py, renting.py   the fields
model.py     all of them together
checks.py    values that cannot be settings, and unusual ones
"""

from __future__ import annotations

from studio.settings.checks import parse_settings, problems, unusual
from studio.settings.knob import GROUPS, Knob, Level
from studio.settings.learning import Optimizer, Scheduler
from studio.settings.model import TrainingSettings, changed, knobs
from studio.settings.running import Precision
from studio.settings.taught import Targets

__all__ = [
    "GROUPS",
    "Knob",
    "Level",
    "Optimizer",
    "Precision",
    "Scheduler",
    "Targets",
    "TrainingSettings",
    "changed",
    "knobs",
    "parse_settings",
    "problems",
    "unusual",
]
