"""Whether values can be settings, and which of them are unusual; in findings."""

from __future__ import annotations

import difflib
from typing import Any

from pydantic import ValidationError

from studio.errors import InputError
from studio.findings import Finding
from studio.settings.knob import Knob
from studio.settings.model import TrainingSettings, knobs


def problems(values: dict[str, Any]) -> list[Finding]:
    """Every reason why `values` cannot be settings, as blocking findings; empty when they can."""
    try:
        TrainingSettings.model_validate(values)
    except ValidationError as e:
        return [_as_finding(dict(p)) for p in e.errors(include_url=False)]
    return []


def _as_finding(problem: dict[str, Any]) -> Finding:
    name = str(problem["loc"][0]) if problem["loc"] else "settings"
    known = knobs()
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(name, known, n=1)
        return Finding(
            severity="block",
            code="setting-unknown",
            what=f"There is no setting called '{name}'.",
            why="An unknown name would be ignored silently, and the run would not be what you meant.",
            fix=f"Did you mean '{near[0]}'?"
            if near
            else "Take it out. `lora-studio config --help` lists all settings.",
            where=(name,),
        )
    k = known.get(name)
    if k is None:
        return Finding(
            severity="block", code="setting-invalid", what=f"{name}: {problem['msg']}.", where=(name,)
        )
    allowed = ", ".join(k.choices) if k.choices else k.range_words
    wanted = {
        "bool": "on or off",
        "int": "a whole number",
        "float": "a number",
        "choice": "one of",
        "text": "text",
        "lines": "a list of lines",
    }[k.kind]
    return Finding(
        severity="block",
        code="setting-invalid",
        what=f"{k.title} ({name}) cannot be {problem['input']!r}.",
        why=k.help,
        fix=f"Use {wanted}{': ' + allowed if allowed and k.kind == 'choice' else ''}"
        f"{(' ' if k.above else ' from ') + allowed if allowed and k.kind in ('int', 'float') else ''}.",
        where=(name,),
    )


def parse_settings(values: dict[str, Any]) -> TrainingSettings:
    """`values` as settings. Raises InputError carrying every problem at once."""
    found = problems(values)
    if found:
        raise InputError(
            "These training settings cannot be used.",
            f"{len(found)} of them cannot be understood.",
            "Mend each one as written below.",
            found,
        )
    return TrainingSettings.model_validate(values)


def _unusual(knob: Knob, value: Any) -> Finding | None:
    if knob.safe is None or knob.safe[0] <= value <= knob.safe[1]:
        return None
    return Finding(
        severity="warn",
        code="setting-unusual",
        what=f"{knob.title} is {value:g}, outside of the usual {knob.safe[0]:g} to {knob.safe[1]:g}.",
        why=knob.help,
        fix="Keep it only if you mean it.",
        where=(knob.name,),
    )


def unusual(settings: TrainingSettings) -> list[Finding]:
    """A warning for each value outside of its usual range."""
    return [f for k in knobs().values() if (f := _unusual(k, getattr(settings, k.name)))]
