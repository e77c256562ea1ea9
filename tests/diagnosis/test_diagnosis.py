"""Diagnosis: rows, what is noticed, the next run, and the tree of runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import files
from studio.diagnosis import engine
from studio.diagnosis.lineage import compared, drawn, lineage
from studio.diagnosis.rows import all_rows, changed_values, get_row
from studio.errors import InputError, NotFoundError
from studio.evaluation.grid import Grid
from studio.evaluation.review import FAULTS
from studio.project import Project
from studio.settings import TrainingSettings, knobs, parse_settings
from studio.training.runs import Run
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


@pytest.fixture
def run(project: Project) -> Run:
    return worlds.run(project, run_id="run-1")


@pytest.fixture
def grid(project: Project, run: Run) -> Grid:
    return worlds.grid(project, run)


def test_every_row_of_the_guide_is_there_and_can_be_used() -> None:
    rows = all_rows()
    assert [r.row for r in rows] == list(range(1, 36))
    assert len({r.id for r in rows}) == 35
    known = knobs()
    for row in rows:
        assert row.sources and row.causes and row.confirm.endswith(".") and row.fix.endswith("."), row.id
        assert row.changes or row.place, f"{row.id} says nothing to do"
        assert all(c.set in known for c in row.changes), row.id
        assert all(s.removeprefix("tag-") in FAULTS for s in row.signals if s.startswith("tag-")), row.id
    tags = {s.removeprefix("tag-") for r in rows for s in r.signals if s.startswith("tag-")}
    assert tags == set(FAULTS), "each fault tag leads somewhere"


@pytest.mark.parametrize("row", all_rows(), ids=lambda r: r.id)
def test_changes_give_settings_that_can_be_trained(row: object) -> None:
    for base in (
        TrainingSettings(),
        parse_settings({"rank": 1, "alpha": 1, "epochs": 1, "learning_rate": 1e-6, "precision": "fp16"}),
    ):
        for family in ("pocket", "sdxl", "flux"):
            found = changed_values([row], base, family, {"weak"})  # type: ignore[list-item]
            after = parse_settings({**base.model_dump(), **{k: c.after for k, c in found.items()}})
            assert all(getattr(after, k) == c.after != c.before == getattr(base, k) for k, c in found.items())
            assert all(c.why.endswith(".") for c in found.values())


def test_marks_lead_to_their_row_with_evidence(project: Project, grid: Grid) -> None:
    assert not any(s.startswith("tag-") for d in engine.diagnose(project, grid) for s in d.evidence)
    cells = [c for c in grid.cells() if c.weight > 0]
    for tag, row in (
        ("copies", "copies"),
        ("blurry", "blurry"),
        ("leaks", "leaks"),
        ("wrong-colours", "colours"),
        ("only-at-1", "only-at-one"),
    ):
        grid.review.tag(cells[0].hash, tag)
        found = {d.row.id: d for d in engine.diagnose(project, grid)}
        assert row in found, tag
        assert any("You marked 1 picture" in e for e in found[row].evidence)
        grid.review.tag(cells[0].hash, tag, on=False)


def test_settings_make_a_cause_likelier(project: Project, grid: Grid, run: Run) -> None:
    manifest = run.manifest | {
        "settings": {**run.manifest["settings"], "alpha": 64.0, "rank": 8, "learning_rate": 0.5}
    }
    files.write_json(run.folder / "run.json", manifest)
    grid.review.tag(next(c for c in grid.cells() if c.weight > 0).hash, "distorted")
    found = engine.diagnose(project, grid)
    burnt = next(d for d in found if d.row.id == "burnt")
    assert burnt.score >= 3 and any("3 times the usual" in e for e in burnt.evidence)
    changes = {k: (c.before, c.after) for k, c in burnt.changes.items()}
    assert changes["learning_rate"] == (0.5, 0.25) and changes["alpha"] == (64.0, 4.0)


def test_one_click_prepares_the_next_run_and_can_be_undone(project: Project, grid: Grid, run: Run) -> None:
    before = project.settings
    told = engine.prepare_next(project, ["burnt"], run, grid)
    after = project.settings
    rate = told.changes["learning_rate"]
    assert (rate.before, rate.after) == (before.learning_rate, after.learning_rate) and not told.back
    assert after.learning_rate == pytest.approx(before.learning_rate / 2)
    assert project.history()[-1]["what"] == engine.CAME_FROM and project.history()[-1]["run"] == "run-1"
    engine.undo_next(project)
    assert project.settings == before
    with pytest.raises(InputError, match="No setting would change"):
        engine.prepare_next(project, ["watermark"], run)
    with pytest.raises(InputError, match="no symptom called 'ugly'"):
        get_row("ugly")


def test_only_what_is_shown_is_changed(project: Project, grid: Grid, run: Run) -> None:
    """Settings that were changed since the run go back to what it had, and that is said; repeats go on following."""
    then, follows = project.settings, project.repeats_follow
    project.save_settings(then.model_copy(update={"resolution": 128, "learning_rate": 0.02}))
    one = engine.explain(project, "copies", run, grid)
    assert one.back == {"resolution": (128, then.resolution), "learning_rate": (0.02, then.learning_rate)}
    told = engine.prepare_next(project, ["copies"], run, grid)
    assert told.back == one.back and "Resolution 128 →" in engine.back_words(told.back)
    differing = {k for k, v in project.settings if v != getattr(then, k)}
    assert differing == set(told.changes) == {"epochs", "rank", "alpha", "caption_dropout"}
    assert project.repeats_follow == follows
    event = project.history()[-1]
    assert set(event["reasons"]) == set(told.changes)
    engine.undo_next(project)
    assert project.settings.resolution == 128 and project.settings.learning_rate == 0.02
    assert project.repeats_follow == follows
    with pytest.raises(NotFoundError, match="No run was prepared"):
        engine.undo_next(project)


def test_an_earlier_checkpoint_is_named_before_training_again(project: Project, grid: Grid, run: Run) -> None:
    one = engine.explain(project, "burnt", run, grid)
    assert one.at_once.startswith("Without training again: epoch 1 at 0.8"), one.at_once
    alone = worlds.grid(project, run, checkpoints="final")
    assert "The run kept 5 checkpoints" in engine.explain(project, "burnt", run, alone).at_once
    assert engine.explain(project, "sides", run, grid).at_once == ""


def test_nothing_to_take_back_is_said(project: Project) -> None:
    with pytest.raises(NotFoundError, match="No run was prepared"):
        engine.undo_next(project)


def test_the_tree_knows_where_a_run_came_from(project: Project, grid: Grid, run: Run) -> None:
    second = worlds.run(project, run_id="run-2")
    engine.prepare_next(project, ["burnt"], run, grid)
    store = project.dataset_dir
    (store / "01_car.txt").write_text("bluprnt, a red car", encoding="utf-8")
    third = worlds.run(project, run_id="run-3")
    nodes = {n.run: n for n in lineage(project)}
    assert nodes["run-1"].parent == "" and nodes["run-1"].grid == grid.id and nodes["run-1"].verdict
    assert nodes["run-2"].parent == "run-1" and not nodes["run-2"].prepared
    assert nodes["run-3"].parent == "run-1" and nodes["run-3"].prepared
    assert nodes["run-3"].symptoms == (get_row("burnt").see,)
    assert [(d, n.run) for d, n in drawn(list(nodes.values()))] == [(0, "run-1"), (1, "run-2"), (1, "run-3")]
    found, pictures = compared(second, third)
    assert "Learning rate" in {d.what for d in found}
    assert pictures.recaptioned == ("01_car.png",) and not pictures.added and not pictures.removed
