"""Each source of symptoms raises its signals: ratings, tags, measures, file, loss curve, log, dataset, settings."""

from __future__ import annotations

import math
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest

from studio import files
from studio.diagnosis import engine
from studio.diagnosis.signals import SOURCES, signals
from studio.evaluation.grid import Grid, list_grids
from studio.evaluation.review import FAULTS
from studio.project import Project
from studio.training.anomalies import detect
from studio.training.base import PLAN_FILE
from studio.training.runs import Run, list_runs
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """One evaluated run, and a copy of it from which each test's changes are taken back."""
    place = tmp_path_factory.mktemp("world")
    made = worlds.project(Workspace(place / "home"), worlds.pictures(place / "in"))
    worlds.grid(made, worlds.run(made, run_id="run-1"))
    shutil.copytree(place / "home", place / "copy")
    return place / "home", place / "copy"


@pytest.fixture
def project(world: tuple[Path, Path]) -> Project:
    home, copy = world
    shutil.rmtree(home)
    shutil.copytree(copy, home)
    return Project(Workspace(home), "blueprint")


@pytest.fixture
def run(project: Project) -> Run:
    return list_runs(project)[0]


@pytest.fixture
def grid(project: Project) -> Grid:
    return list_grids(project)[0]


def own(found: dict[str, str], source: str) -> set[str]:
    return {s for s in found if SOURCES.get(s) == source}


def rows(found: list[engine.Diagnosis]) -> set[str]:
    return {d.row.id for d in found}


def test_an_ordinary_run_raises_no_alarm(project: Project, grid: Grid, run: Run) -> None:
    found = signals(project, grid, run)
    for source in ("ratings", "fault tags", "file", "loss curve", "log"):
        assert not own(found, source), source


def test_from_ratings(project: Project, grid: Grid, run: Run) -> None:
    cells = [c for c in grid.cells() if c.weight > 0][:5]
    for cell, rating in zip(cells, (4, 4, 5, 2, 1), strict=True):
        grid.review.rate(cell.hash, rating)
    assert "low-ratings" not in signals(project, grid, run), "most are liked"
    for cell in cells:
        grid.review.rate(cell.hash, 1)
    assert "Half of your 5 ratings are 2 or lower." in signals(project, grid, run)["low-ratings"]


@pytest.mark.parametrize("tag", FAULTS)
def test_from_fault_tags(project: Project, grid: Grid, run: Run, tag: str) -> None:
    grid.review.tag(next(c for c in grid.cells() if c.weight > 0).hash, tag)
    found = signals(project, grid, run)
    assert own(found, "fault tags") == {f"tag-{tag}"} and FAULTS[tag] in found[f"tag-{tag}"]
    assert any(f"tag-{tag}" in d.row.signals and d.score >= 2 for d in engine.diagnose(project, grid, run))


def measured(grid: Grid, change: Any) -> None:
    """Change the grid's measurements; change(row) for each column above 0."""
    metrics = files.read_json(grid.folder / "metrics.json")
    for row in metrics["weights"]:
        if row["weight"] > 0:
            change(row)
    files.write_json(grid.folder / "metrics.json", metrics)


MEASURED: dict[str, tuple[dict[str, Any], str]] = {
    "weak": ({"nearness": 0.2}, "weak"),
    "undertrained": ({"nearness": 0.01}, "weak"),
    "overdone": ({"nearness": 0.9, "kept": 0.1}, "burnt"),
    "no-effect": ({"pixels": 0.001}, "no-effect"),
    "leak": ({"leak": 0.9}, "leaks"),
    "lost": ({"kept": 0.3}, "prompts-lost"),
    "faults": ({"fault": 0.6}, ""),
    "black": ({"fault": 0.9, "faults": {"black": 0.9}}, "black"),
    "over-coloured": ({"fault": 0.5, "faults": {"saturation": 0.5}}, "burnt"),
    "over-sharp": ({"fault": 0.5, "faults": {"sharpness": 0.5}}, "burnt"),
    "too-soft": ({"fault": 0.5, "faults": {"sharpness": -0.5}}, "blurry"),
    "too-dull": ({"fault": 0.5, "faults": {"contrast": -0.5}}, "grey"),
    "memorised": ({"memorised": 0.2}, "copies"),
    "same-pictures": ({"diversity": 0.1}, "same-pose"),
    "prompts-fall": ({"clip_text": 0.2}, "prompts-lost"),
}


@pytest.mark.parametrize("signal", MEASURED)
def test_from_measures(project: Project, grid: Grid, run: Run, signal: str) -> None:
    before = signals(project, grid, run)
    values, row = MEASURED[signal]
    metrics = files.read_json(grid.folder / "metrics.json")
    assert signal not in before or signal == "lost"
    for column in metrics["weights"]:
        if column["weight"] == 0 and "clip_text" in values:
            column["clip_text"] = 0.3
    files.write_json(grid.folder / "metrics.json", metrics)
    measured(grid, lambda r: r.update(values))
    assert signal in signals(project, grid, run)
    if row:
        assert row in rows(engine.diagnose(project, grid, run))


def test_copies_by_dino_count_too(project: Project, grid: Grid, run: Run) -> None:
    measured(grid, lambda r: r.update(memorised=0.0, dino_copies=0.4))
    assert "by DINO" in signals(project, grid, run)["memorised"]


def test_weights_above_one_do_not_count(project: Project, grid: Grid, run: Run) -> None:
    measured(
        grid,
        lambda r: r.update(weight=1.4, leak=0.9, kept=0.1, memorised=1.0, fault=0.9, faults={"black": 0.9}),
    )
    found = signals(project, grid, run)
    assert not {"leak", "lost", "memorised", "faults", "black"} & set(found)


def test_where_the_best_weight_lies(project: Project, grid: Grid, run: Run) -> None:
    def only_at(best: float) -> None:
        measured(grid, lambda r: r.update(nearness=0.7 if r["weight"] >= best else 0.05, kept=0.9, fault=0.0))

    only_at(1.0)
    assert "best-high" in signals(project, grid, run)
    assert "only-at-one" in rows(engine.diagnose(project, grid, run))
    measured(grid, lambda r: r.update(nearness=0.8, kept=0.8 if r["weight"] <= 0.3 else 0.2))
    found = signals(project, grid, run)
    assert "best-low" in found and "too-strong" in rows(engine.diagnose(project, grid, run))
    assert "early-better" in found, "all checkpoints are alike: the earliest is taken"


def test_captions_that_work_where_other_prompts_do_not(project: Project, run: Run) -> None:
    made = worlds.grid(project, run, checkpoints="final")
    metrics = files.read_json(made.folder / "metrics.json")
    for cell in made.cells():
        family = cell.prompt.family
        metrics["cells"][cell.hash]["nearness"] = 0.8 if family == "caption" else 0.1
    spec = made.spec.model_dump(mode="json")
    for prompt in spec["prompts"]:
        prompt["family"] = "scene" if prompt["family"] == "standard" else prompt["family"]
    files.write_json(made.folder / "grid.json", spec)
    files.write_json(made.folder / "metrics.json", metrics)
    again = Grid(made.folder)
    assert "caption-only" in signals(project, again, run)
    assert "caption-kind" in rows(engine.diagnose(project, again, run))


def test_from_the_file(project: Project, grid: Grid, run: Run) -> None:
    last = grid.spec.lora_files[-1].path
    raw = last.read_bytes()
    last.write_bytes(raw[:-36] + struct.pack("<9f", 1.0, *[float("nan")] * 8))
    found = signals(project, grid, run)
    assert "broken" in found and "black" in rows(engine.diagnose(project, grid, run))
    last.write_bytes(raw[:-36] + struct.pack("<9f", 1.0, *[0.0] * 8))
    found = signals(project, grid, run)
    assert "dead" in found and "no-effect" in rows(engine.diagnose(project, grid, run))


def wobbling(level: Any, steps: int = 600) -> list[float]:
    """Losses around level(step), with a wobble."""
    chance = random.Random(3)
    return [level(i) * (1 + chance.uniform(-0.1, 0.1)) for i in range(steps)]


CURVES: dict[str, tuple[list[float], int, str]] = {
    "loss-nan": ([0.2, 0.1, math.nan], 100, "black"),
    "loss-divergence": (wobbling(lambda i: 0.1 if i < 400 else 0.1 + (i - 400) * 0.005), 700, "loss-grows"),
    "loss-guessing": (wobbling(lambda i: 0.5 if i < 8 else 0.95), 700, "noise"),
    "loss-no-progress": (wobbling(lambda _i: 0.2), 700, "flat-loss"),
    "loss-plateau": (wobbling(lambda i: 0.1 + 0.4 * math.exp(-i / 25)), 1000, "flat-loss"),
}


@pytest.mark.parametrize("code", CURVES)
def test_from_the_loss_curve(project: Project, grid: Grid, run: Run, code: str) -> None:
    losses, total, row = CURVES[code]
    findings = detect(losses, 20, total)
    assert [f.code for f in findings] == [code]
    told = {"type": "anomaly", "finding": findings[0].model_dump(mode="json"), "t": 1.0}
    files.append_jsonl(run.folder / "events.jsonl", told)
    found = signals(project, grid, Run(run.folder))
    assert own(found, "loss curve") == {code} and found[code] == findings[0].what
    assert row in rows(engine.diagnose(project, grid, Run(run.folder)))


def test_from_the_log(project: Project, grid: Grid, run: Run) -> None:
    (run.folder / "log.txt").write_text(
        "CUDA error: no kernel image is available for execution\n", encoding="utf-8"
    )
    assert "log-no-kernel" in signals(project, grid, run)
    assert "no-kernel" in rows(engine.diagnose(project, grid, run))


SETTINGS: dict[str, dict[str, Any]] = {
    "high-rate": {"learning_rate": 0.1},
    "low-rate": {"learning_rate": 1e-5},
    "prodigy": {"optimizer": "prodigy", "learning_rate": 1.0},
    "many-steps": {"epochs": 50, "repeats": 10},
    "few-steps": {"epochs": 1, "repeats": 1},
    "alpha-over-rank": {"rank": 4, "alpha": 16.0},
    "small-alpha": {"rank": 32, "alpha": 4.0},
    "high-rank": {"rank": 128, "alpha": 64.0},
    "flip": {"flip": True},
    "offset": {"noise_offset": 0.2},
    "no-offset": {"noise_offset": 0.0},
    "text-encoder": {"train_text_encoder": True},
    "dropout": {"caption_dropout": 0.5},
    "no-buckets": {"buckets": False},
    "fp16": {"precision": "fp16"},
    "prediction-set": {"prediction": "epsilon"},
}


@pytest.mark.parametrize("signal", SETTINGS)
def test_from_settings(project: Project, grid: Grid, run: Run, signal: str) -> None:
    plain = run.manifest["settings"]
    manifest = run.manifest | {
        "settings": {**plain, "noise_offset": 0.03, "alpha": 8.0, "rank": 8, **SETTINGS[signal]}
    }
    files.write_json(run.folder / "run.json", manifest)
    assert signal in own(signals(project, grid, Run(run.folder)), "settings")


def test_regularisation_is_read_from_the_plan(project: Project, grid: Grid, run: Run) -> None:
    assert "no-regularisation" in signals(project, grid, run)
    plan = files.read_json(run.folder / PLAN_FILE)
    plan["pictures"][0]["regularisation"] = True
    files.write_json(run.folder / PLAN_FILE, plan)
    found = signals(project, grid, run)
    assert "no-regularisation" not in found and "regularisation-heavy" in found


def test_every_signal_of_the_settings_has_its_case() -> None:
    named = set(SETTINGS) | {"no-regularisation", "regularisation-heavy"}
    assert named == {s for s, source in SOURCES.items() if source == "settings"}
    told = set(MEASURED) | {"best-high", "best-low", "early-better", "caption-only"}
    assert told == {s for s, source in SOURCES.items() if source == "measures"}


def test_from_the_dataset(project: Project, grid: Grid, run: Run) -> None:
    (project.dataset_dir / "01_car.txt").write_text("a car", encoding="utf-8")
    first, second = project.dataset_dir / "01_car.png", project.dataset_dir / "02_bus.png"
    second.write_bytes(first.read_bytes())
    found = signals(project, grid, run)
    assert {"data:trigger-missing", "data:duplicate-exact"} <= set(found)
    grid.review.tag(next(c for c in grid.cells() if c.weight > 0).hash, "ignores-trigger")
    told = next(d for d in engine.diagnose(project, grid, run) if d.row.id == "ignores-trigger")
    assert found["data:trigger-missing"] in told.evidence and told.row.place == "captions"


def test_small_pictures_are_judged_against_the_base_model(project: Project, grid: Grid, run: Run) -> None:
    from PIL import Image

    for path in project.dataset_dir.glob("*.png"):
        Image.open(path).resize((24, 24)).save(path)
    assert "data:small" in signals(project, grid, run)
