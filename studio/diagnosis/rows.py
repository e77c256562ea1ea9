"""The rows and limits of `data/diagnosis.yaml`, and what the changes of rows mean for given settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator

from studio import files
from studio.errors import InputError
from studio.settings import TrainingSettings, knobs, parse_settings
from studio.workspace import shipped

Place = Literal["", "dataset", "captions", "evaluation", "setup"]
Basis = Literal["measured", "literature", "folklore"]
BASIS_WORDS: dict[Basis, str] = {
    "measured": "measured here as well",
    "literature": "from papers and reports",
    "folklore": "order of causes is practice",
}
WHOLE = ("rank", "epochs", "keep_tokens", "bucket_step")


class Change(BaseModel):
    """One change of a setting: exactly one of times, to, at_least, at_most, slower, follows.

    slower:  factor on the text encoder's own rate, counted from the learning rate while it has none of its own.
    follows: keeps its share of another setting that was changed before it in the same row.
    why:     the reason, in one sentence. unless: leave it alone when it has this value already. also_off: at_most counts for 0,
    too, where 0 means no limit at all.
    only_if: a setting that must be on; families: base models it is for; when, not_when: signals of which one must, or none may,
    have been noticed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    set: str
    why: str
    times: float | None = None
    to: Any = None
    at_least: float | str | None = None
    at_most: float | str | None = None
    slower: float | None = None
    follows: str | None = None
    unless: Any = None
    also_off: bool = False
    only_if: str = ""
    families: tuple[str, ...] = ()
    when: tuple[str, ...] = ()
    not_when: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _one(self) -> Change:
        ways = (self.times, self.to, self.at_least, self.at_most, self.slower, self.follows)
        if sum(w is not None for w in ways) != 1:
            raise ValueError(f"a change of {self.set} needs exactly one way")
        return self


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
    earlier: bool = False
    place: Place = ""
    signals: dict[str, int] = {}
    kinds: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    basis: Basis
    measured: str = ""
    sources: tuple[str, ...]

    @property
    def folklore(self) -> bool:
        """Whether the order of its causes is practice only."""
        return self.basis == "folklore"


class Threshold(BaseModel):
    """A limit from which something is noticed. where: what it was measured on, or who says so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    value: float
    what: str
    basis: Basis
    where: str


@dataclass(frozen=True)
class Changed:
    """A setting that a row changes: the value now, the value for the next run, and why."""

    before: Any
    after: Any
    why: str


@lru_cache(maxsize=1)
def _file() -> tuple[tuple[Row, ...], dict[str, Threshold]]:
    raw = files.read_yaml(shipped("data", "diagnosis.yaml"))
    rows = tuple(sorted((Row.model_validate(r) for r in raw["rows"]), key=lambda r: r.row))
    return rows, {t["id"]: Threshold.model_validate(t) for t in raw["thresholds"]}


def all_rows() -> tuple[Row, ...]:
    """Every row, in the order of their numbers."""
    return _file()[0]


def thresholds() -> dict[str, Threshold]:
    """Every limit by its id."""
    return _file()[1]


def limit(name: str) -> float:
    """The value of a limit."""
    return thresholds()[name].value


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


def changed_values(
    rows: Sequence[Row], settings: TrainingSettings, family: str = "", noticed: Collection[str] = ()
) -> dict[str, Changed]:
    """The settings that the rows change; those that are right already, or out of their range, are left out. When two rows ask
    for the same setting, the first one counts. family: of the base model; noticed: signals, for changes that hang on them."""
    found: dict[str, Changed] = {}
    decided: set[str] = set()
    for row in rows:
        for change in row.changes:
            if change.set in decided or not _asked(change, settings, family, noticed):
                continue
            decided.add(change.set)
            now = getattr(settings, change.set)
            values = {k: c.after for k, c in found.items()}
            new = _within(change.set, _new(change, now, settings, values))
            if new is None or new == now or now == change.unless:
                continue
            try:
                parse_settings({**settings.model_dump(), **values, change.set: new})
            except InputError:
                continue
            found[change.set] = Changed(now, new, change.why)
    return found


def _asked(change: Change, settings: TrainingSettings, family: str, noticed: Collection[str]) -> bool:
    if change.families and family and family not in change.families:
        return False
    if change.only_if and not getattr(settings, change.only_if):
        return False
    if change.when and not any(s in noticed for s in change.when):
        return False
    return not any(s in noticed for s in change.not_when)


def _new(change: Change, now: Any, settings: TrainingSettings, values: dict[str, Any]) -> Any:
    """The new value; None when nothing is to be done."""
    if change.to is not None:
        return change.to
    if change.follows is not None:
        if change.follows not in values:
            return None
        value = now / getattr(settings, change.follows) * values[change.follows]
    elif change.slower is not None:
        if not settings.train_text_encoder or settings.optimizer == "prodigy":
            return None
        value = (now or settings.learning_rate) * change.slower
    elif change.times is not None:
        if change.set == "learning_rate" and settings.optimizer == "prodigy":
            return None  # it finds the rate by itself
        value = now * change.times
    else:
        edge = change.at_least if change.at_least is not None else change.at_most
        rank = float(values.get("rank", settings.rank))
        number = {"rank": rank, "half-rank": rank / 2}[edge] if isinstance(edge, str) else float(edge or 0)
        value = max(now, number) if change.at_least is not None else min(now, number)
        if change.also_off and now == 0:
            value = number
    if change.set in WHOLE:
        whole = max(1, round(value))
        if whole == now and change.times is not None:
            whole = max(1, now + (1 if change.times > 1 else -1))
        return whole
    return float(f"{value:.3g}")


def _within(name: str, value: Any) -> Any:
    """A number moved into the range that its setting takes."""
    knob = knobs()[name]
    if value is None or isinstance(value, bool | str):
        return value
    kind = type(value)
    value = max(value, knob.minimum) if knob.minimum is not None else value
    return kind(min(value, knob.maximum) if knob.maximum is not None else value)
