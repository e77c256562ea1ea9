"""The rows of `data/diagnosis.yaml`, and what their changes mean for given settings."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from studio import files
from studio.errors import InputError
from studio.settings import TrainingSettings, knobs, parse_settings
from studio.workspace import shipped

Place = Literal["", "dataset", "captions", "evaluation", "setup"]
WHOLE = ("rank", "epochs", "keep_tokens", "bucket_step")


class Change(BaseModel):
    """One change of a setting: exactly one of times, to, at_least, at_most, slower.

    slower: factor on the text encoder's own rate, counted from the learning rate while it has none of its own.
    unless: leave it alone when it has this value already.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    set: str
    times: float | None = None
    to: Any = None
    at_least: float | str | None = None
    at_most: float | str | None = None
    slower: float | None = None
    unless: Any = None


class Row(BaseModel):
    """One symptom. row: its number in the guides; the other fields are told in the file's head."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    row: int
    see: str
    causes: tuple[str, ...]
    confirm: str
    fix: str
    changes: tuple[Change, ...] = ()
    place: Place = ""
    signals: dict[str, int] = {}
    kinds: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    folklore: bool = False
    sources: tuple[str, ...]


@lru_cache(maxsize=1)
def all_rows() -> tuple[Row, ...]:
    """Every row, in the order of their numbers."""
    raw = files.read_yaml(shipped("data", "diagnosis.yaml"))
    return tuple(sorted((Row.model_validate(r) for r in raw["rows"]), key=lambda r: r.row))


def get_row(row_id: str) -> Row:
    """A row by its id or number. Raises InputError naming those that exist."""
    for row in all_rows():
        if row_id in (row.id, str(row.row)):
            return row
    raise InputError(
        f"There is no symptom called '{row_id}'.",
        "Each symptom has a name of its own.",
        f"Use one of: {', '.join(r.id for r in all_rows())}.",
    )


def changed_values(rows: tuple[Row, ...] | list[Row], settings: TrainingSettings) -> dict[str, Any]:
    """The settings that the rows change, with their new values; those that are right already are left out. When two rows ask
    for the same setting, the first one counts."""
    values: dict[str, Any] = {}
    decided: set[str] = set()
    for row in rows:
        for change in row.changes:
            if change.set in decided:
                continue
            decided.add(change.set)
            now = getattr(settings, change.set)
            new = _new(change, now, settings)
            if new is not None and new != now and now != change.unless:
                values[change.set] = new
    return _possible(values, settings)


def _new(change: Change, now: Any, settings: TrainingSettings) -> Any:
    if change.to is not None:
        return change.to
    if change.slower is not None:
        if not settings.train_text_encoder:
            return None
        return float(f"{(now or settings.learning_rate) * change.slower:.3g}")
    if change.times is not None:
        if change.set == "learning_rate" and settings.optimizer == "prodigy":
            return None  # it finds the rate by itself
        value = now * change.times
    else:
        limit = change.at_least if change.at_least is not None else change.at_most
        shared = {"rank": settings.rank, "half-rank": settings.rank / 2}
        number = float(shared[limit]) if isinstance(limit, str) else float(limit or 0)
        value = max(now, number) if change.at_least is not None else min(now, number)
    if change.set in WHOLE:
        rounded = max(1, round(value))
        if rounded == now and change.times is not None:
            rounded = max(1, now + (1 if change.times > 1 else -1))
        return rounded
    return float(f"{value:.3g}")


def _possible(values: dict[str, Any], settings: TrainingSettings) -> dict[str, Any]:
    """Without what the settings' own ranges do not allow, and within them where a number can be moved."""
    kept: dict[str, Any] = {}
    for name, value in values.items():
        knob = knobs()[name]
        low, high = getattr(knob, "low", None), getattr(knob, "high", None)
        if isinstance(value, int | float) and not isinstance(value, bool):
            value = max(value, low) if low is not None else value
            value = min(value, high) if high is not None else value
        try:
            parse_settings({**settings.model_dump(), **kept, name: value})
        except InputError:
            continue
        if value != getattr(settings, name):
            kept[name] = value
    return kept
