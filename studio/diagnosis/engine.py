"""Diagnosis: the rows that fit what was noticed, each with its evidence and what it would change; and preparing the next run."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from studio import choices
from studio.diagnosis.rows import BASIS_WORDS, Changed, Row, all_rows, changed_values, get_row
from studio.diagnosis.signals import signals
from studio.errors import InputError, NotFoundError, StudioError
from studio.evaluation.grid import Grid, list_grids
from studio.project import Project
from studio.settings import TrainingSettings, changed, knobs, parse_settings
from studio.training.runs import Run, list_runs

ENOUGH = 2
"""Sum of a row's signals from which it is offered."""
CAME_FROM = "next run prepared"
"""What the project's history calls a run that was prepared from another one."""


@dataclass(frozen=True)
class Diagnosis:
    """A row that fits.

    evidence: what was noticed, one sentence each. changes: setting -> value of the run, value to try, and why.
    at_once:  what helps without training again, in words; "" when nothing does.
    back:     settings that were changed since the run and would go back to what it had: setting -> (now, the run's).
    """

    row: Row
    score: int
    evidence: tuple[str, ...]
    changes: dict[str, Changed]
    at_once: str = ""
    back: dict[str, tuple[Any, Any]] = field(default_factory=dict)

    @property
    def basis(self) -> str:
        """Where cause and fix come from, in words."""
        return BASIS_WORDS[self.row.basis]

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        return {
            **self.row.model_dump(mode="json", exclude={"signals", "changes", "earlier"}),
            "folklore": self.row.folklore,
            "score": self.score,
            "evidence": list(self.evidence),
            "at_once": self.at_once,
            "changes": {k: [c.before, c.after] for k, c in self.changes.items()},
            "reasons": {k: c.why for k, c in self.changes.items()},
            "back": {k: list(v) for k, v in self.back.items()},
        }


@dataclass(frozen=True)
class Prepared:
    """What preparing the next run changes. changes: against the run that it comes from, each with its reason. back: settings
    that were changed since that run and go back to what it had: setting -> (value now, value of the run)."""

    changes: dict[str, Changed]
    back: dict[str, tuple[Any, Any]]


def settings_of(project: Project, run: Run | None) -> TrainingSettings:
    """The settings that changes count from: the run's own, else the project's."""
    return run.settings if run is not None else project.settings


def diagnose(project: Project, grid: Grid | None, run: Run | None = None) -> list[Diagnosis]:
    """What fits, the likeliest first; [] when nothing stands out. run: the grid's own when None."""
    run = run if run is not None else run_of(project, grid)
    noticed = signals(project, grid, run)
    found = []
    family = _family(project, grid)
    for row in all_rows():
        if row.kinds and project.intent.kind not in row.kinds:
            continue
        if row.families and family not in row.families:
            continue
        fitting = {s: n for s, n in row.signals.items() if s in noticed}
        if sum(fitting.values()) >= ENOUGH:
            ordered = sorted(fitting, key=lambda s: -fitting[s])
            # Two signals may rest on one observation; it is told once.
            evidence = dict.fromkeys(noticed[s] for s in ordered)
            found.append(_one(row, sum(fitting.values()), tuple(evidence), project, grid, run, noticed))
    return sorted(found, key=lambda d: (-d.score, d.row.row))


def explain(project: Project, symptom: str, run: Run | None, grid: Grid | None = None) -> Diagnosis:
    """One row by its id or number, whether the studio noticed it or not; with its changes. Raises InputError."""
    row = get_row(symptom)
    return _one(row, 0, (), project, grid, run, signals(project, grid, run))


def _one(
    row: Row,
    score: int,
    evidence: tuple[str, ...],
    project: Project,
    grid: Grid | None,
    run: Run | None,
    noticed: Collection[str],
) -> Diagnosis:
    now = settings_of(project, run)
    changes = changed_values([row], now, _family(project, grid), noticed)
    back = _back(project, now, changes) if changes else {}
    return Diagnosis(row, score, evidence, changes, _at_once(row, grid, run), back)


def _back(project: Project, base: TrainingSettings, changes: Collection[str]) -> dict[str, tuple[Any, Any]]:
    """Settings that differ now from the run's, and are not changed anyway."""
    return {
        name: pair
        for name, pair in changed(base, project.settings).items()
        if name not in changes and not (name == "repeats" and project.repeats_follow)
    }


def _family(project: Project, grid: Grid | None) -> str:
    if grid is not None:
        return grid.spec.family
    try:
        return choices.entry_of(project).family
    except StudioError:
        return ""


def _at_once(row: Row, grid: Grid | None, run: Run | None) -> str:
    """What an earlier checkpoint offers, where that helps."""
    if not row.earlier or grid is None:
        return ""
    labels, verdict = [x.label for x in grid.spec.lora_files], grid.verdict
    if verdict is not None and verdict.checkpoint in labels[:-1] and verdict.weight is not None:
        return f"Without training again: {verdict.checkpoint} at {verdict.weight:g}, an earlier checkpoint of the same run."
    kept = len(run.checkpoints()) if run is not None else 0
    if kept > len(labels):
        return f"The run kept {kept} checkpoints and this grid shows {len(labels)}: draw the earlier ones, one of them may be right."
    return ""


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


def would_change(
    project: Project, symptoms: Sequence[str], run: Run | None = None, grid: Grid | None = None
) -> Prepared:
    """What `prepare_next` would do, nothing of it done. Raises InputError for a symptom that does not exist."""
    run = run if run is not None else run_of(project, grid)
    base = settings_of(project, run)
    rows = [get_row(s) for s in symptoms]
    values = changed_values(rows, base, _family(project, grid), signals(project, grid, run))
    return Prepared(values, _back(project, base, values))


def prepare_next(
    project: Project, symptoms: Sequence[str], run: Run | None = None, grid: Grid | None = None
) -> Prepared:
    """Take the settings of a run, change what the symptoms ask for and nothing else, and store them as those of the project's
    next run. The history keeps which run they came from, and `undo_next` takes it back.

    Raises InputError when nothing would change, or the settings do not go together.
    """
    run = run if run is not None else run_of(project, grid)
    told = would_change(project, symptoms, run, grid)
    if not told.changes:
        rows = [get_row(s) for s in symptoms]
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
    before, follows = project.settings.model_dump(mode="json"), project.repeats_follow
    values = {**settings_of(project, run).model_dump(), **{k: c.after for k, c in told.changes.items()}}
    if follows:
        values.pop("repeats")  # it goes on following the number of pictures
    choices.change(project, values, follow_rank=False)
    project.decided(
        CAME_FROM, run=run.id if run is not None else None, grid=grid.id if grid is not None else None,
        symptoms=[get_row(s).id for s in symptoms], changes={k: [c.before, c.after] for k, c in told.changes.items()},
        reasons={k: c.why for k, c in told.changes.items()}, back={k: list(v) for k, v in told.back.items()},
        before=before, repeats_follow=follows, newest=_newest_id(project),
    )  # fmt: skip
    return told


def undo_next(project: Project) -> None:
    """Bring back the settings from before the last `prepare_next`. Raises NotFoundError when nothing was prepared."""
    events = [e for e in project.history() if e.get("what") in (CAME_FROM, TAKEN_BACK)]
    last = events[-1] if events else {}
    if last.get("what") != CAME_FROM or not isinstance(last.get("before"), dict):
        raise NotFoundError(
            "No run was prepared.", "There is nothing to take back.", "Change settings on the config page."
        )
    known = {k: v for k, v in last["before"].items() if k in TrainingSettings.model_fields}
    project.save_settings(parse_settings(known), repeats_follow=last.get("repeats_follow"))
    project.decided(TAKEN_BACK, newest=_newest_id(project))


TAKEN_BACK = "next run taken back"
"""What the history calls it when a preparation was undone."""


def _newest_id(project: Project) -> str:
    """The run that was the newest when something was decided: the next one is the run that it was decided for."""
    runs = list_runs(project)
    return max(runs, key=lambda r: (str(r.manifest.get("created", "")), r.id)).id if runs else ""


def in_words(changes: dict[str, Changed]) -> list[tuple[str, str, str, str]]:
    """Changes as (title, before, after, why) in words."""
    known = knobs()
    return [(known[k].title, word(c.before), word(c.after), c.why) for k, c in changes.items()]


def back_words(back: dict[str, tuple[Any, Any]]) -> str:
    """What goes back to the run's own, as one sentence; "" when nothing does."""
    known = knobs()
    told = "; ".join(f"{known[k].title} {word(a)} → {word(b)}" for k, (a, b) in back.items())
    return f"Changed since that run, and set back to what it had: {told}." if told else ""


def word(value: Any) -> str:
    """A value as people read it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, float) else str(value)
