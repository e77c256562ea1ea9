"""Diagnosis: the rows that fit what was noticed, each with its evidence and what it would change; and preparing the next run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from studio import choices
from studio.diagnosis.rows import Row, all_rows, changed_values, get_row
from studio.diagnosis.signals import signals
from studio.errors import InputError, NotFoundError
from studio.evaluation.grid import Grid, list_grids
from studio.project import Project
from studio.settings import TrainingSettings, knobs
from studio.training.runs import Run, list_runs

ENOUGH = 2
"""Sum of a row's signals from which it is offered."""
CAME_FROM = "next run prepared"
"""What the project's history calls a run that was prepared from another one."""


@dataclass(frozen=True)
class Diagnosis:
    """A row that fits. evidence: what was noticed, one sentence each; changes: setting -> (value of the run, value to try)."""

    row: Row
    score: int
    evidence: tuple[str, ...]
    changes: dict[str, tuple[Any, Any]]

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        return {
            **self.row.model_dump(mode="json", exclude={"signals", "changes"}),
            "score": self.score,
            "evidence": list(self.evidence),
            "changes": {k: list(v) for k, v in self.changes.items()},
        }


def settings_of(project: Project, run: Run | None) -> TrainingSettings:
    """The settings that changes count from: the run's own, else the project's."""
    return run.settings if run is not None else project.settings


def diagnose(project: Project, grid: Grid | None, run: Run | None = None) -> list[Diagnosis]:
    """What fits, the likeliest first; [] when nothing stands out. run: the grid's own when None."""
    run = run if run is not None else run_of(project, grid)
    noticed = signals(project, grid, run)
    found = []
    family = grid.spec.family if grid is not None else ""
    for row in all_rows():
        if row.kinds and project.intent.kind not in row.kinds:
            continue
        if row.families and family not in row.families:
            continue
        fitting = {s: n for s, n in row.signals.items() if s in noticed}
        if sum(fitting.values()) >= ENOUGH:
            ordered = sorted(fitting, key=lambda s: -fitting[s])
            found.append(_one(row, sum(fitting.values()), [noticed[s] for s in ordered], project, run))
    return sorted(found, key=lambda d: (-d.score, d.row.row))


def explain(project: Project, symptom: str, run: Run | None) -> Diagnosis:
    """One row by its id or number, whether the studio noticed it or not; with its changes. Raises InputError."""
    return _one(get_row(symptom), 0, [], project, run)


def _one(row: Row, score: int, evidence: Sequence[str], project: Project, run: Run | None) -> Diagnosis:
    now = settings_of(project, run)
    new = changed_values([row], now)
    return Diagnosis(row, score, tuple(evidence), {k: (getattr(now, k), v) for k, v in new.items()})


def run_of(project: Project, grid: Grid | None) -> Run | None:
    """The run that a grid looked at; the newest one without a grid."""
    runs = list_runs(project)
    if grid is None:
        return runs[0] if runs else None
    return next((r for r in runs if r.id == grid.spec.run), None)


def newest_grid(project: Project, run: Run | None = None) -> Grid | None:
    """The newest grid that has measurements or ratings, of a run if one is named."""
    for grid in list_grids(project):
        if run is None or grid.spec.run == run.id:
            return grid
    return None


def prepare_next(
    project: Project, symptoms: Sequence[str], run: Run | None = None, grid: Grid | None = None
) -> dict[str, tuple[Any, Any]]:
    """Take the settings of a run, change what the symptoms ask for, and store them as those of the project's next run. What
    changed: setting -> (before, after). The history keeps which run they came from, and `undo_next` takes it back.

    Raises InputError when nothing would change, or the settings do not go together.
    """
    run = run if run is not None else run_of(project, grid)
    rows = [get_row(s) for s in symptoms]
    base = settings_of(project, run)
    values = changed_values(rows, base)
    if not values:
        place = next((r.place for r in rows if r.place), "")
        raise InputError(
            "No setting would change.",
            "What mends this is no setting, or it stands that way already.",
            f"Make the change on the {place} page."
            if place
            else rows[0].fix
            if rows
            else "Choose a symptom.",
        )
    before = project.settings.model_dump(mode="json")
    choices.change(project, {**base.model_dump(), **values}, follow_rank="alpha" not in values)
    told = {k: (getattr(base, k), v) for k, v in values.items()}
    project.decided(
        CAME_FROM, run=run.id if run is not None else None, grid=grid.id if grid is not None else None,
        symptoms=[r.id for r in rows], changes={k: list(v) for k, v in told.items()}, before=before,
        newest=_newest_id(project),
    )  # fmt: skip
    return told


def undo_next(project: Project) -> None:
    """Bring back the settings from before the last `prepare_next`. Raises NotFoundError when nothing was prepared."""
    last = next((e for e in reversed(project.history()) if e.get("what") == CAME_FROM), None)
    if last is None or not isinstance(last.get("before"), dict):
        raise NotFoundError(
            "No run was prepared.", "There is nothing to take back.", "Change settings on the config page."
        )
    known = {k: v for k, v in last["before"].items() if k in TrainingSettings.model_fields}
    choices.change(project, known, follow_rank=False)
    project.decided("next run taken back", newest=_newest_id(project))


def _newest_id(project: Project) -> str:
    """The run that was the newest when something was decided: the next one is the run that it was decided for."""
    return (
        max(list_runs(project), key=lambda r: (str(r.manifest.get("created", "")), r.id)).id
        if list_runs(project)
        else ""
    )


def in_words(changes: dict[str, tuple[Any, Any]]) -> list[tuple[str, str, str]]:
    """Changes as (title, before, after) in words."""
    known = knobs()
    return [(known[k].title, _word(a), _word(b)) for k, (a, b) in changes.items()]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
