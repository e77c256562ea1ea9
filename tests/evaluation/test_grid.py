"""Grids as jobs: real processes on a tiny model."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from studio import files
from studio.errors import BusyError, InputError, NotFoundError, StudioError
from studio.evaluation.grid import (
    Grid,
    GridSpec,
    get_grid,
    grid_cost,
    list_grids,
    plan_grid,
    resume_grid,
    start_grid,
)
from studio.evaluation.report import report_text
from studio.evaluation.store import CellStore, cell_text
from studio.evaluation.workers import render
from studio.project import Project

Plan = Callable[..., GridSpec]
LIMIT = 240


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def draw_here(project: Project, spec: GridSpec) -> dict[str, Any]:
    """Draw a grid in this process, to save the start of another; what the job hands over."""
    folder = project.grids_dir / spec.id
    files.write_text(folder / "grid.json", spec.model_dump_json())
    render.main(folder)
    return dict(files.read_json(folder / "result.json")["result"])


def test_a_grid_from_start_to_verdict(
    project: Project, plan: Plan, pocket_lora: Path, tmp_path: Path
) -> None:
    """Drawn, measured, judged, on a sheet; a second grid draws only what is new; a third draws nothing."""
    spec = plan()
    assert grid_cost(project, spec).to_render == 12
    job = start_grid(project, spec)
    assert job.wait(LIMIT) == "finished", job.log_tail()
    grid = get_grid(project)
    assert job.result["drawn"] == 12
    cells = grid.cells()
    assert len(cells) == 12 and all(c.path is not None and c.error is None for c in cells)
    assert grid.done

    first = cells[1]
    assert first.path is not None
    note = cell_text(first.path)
    assert (note["prompt"], note["weight"], note["seed"]) == ("bluprnt, dog", "0.5", "1")
    assert note["lora"] == pocket_lora.name
    with Image.open(first.path) as picture:
        assert picture.size == (32, 32)

    assert grid.metrics is not None
    rows = {w["weight"]: w for w in grid.metrics["weights"]}
    assert rows[0.0]["pixels"] == 0 and rows[0.0]["kept"] == pytest.approx(1)
    assert 0 < rows[0.5]["pixels"] < rows[1.0]["pixels"]
    assert grid.metrics["reference"]["training_pictures"] == 4
    assert grid.metrics["cells"][first.hash]["nearest"] in {"dog.png", "car.png", "tree.png", "ball.png"}
    assert grid.verdict is not None and grid.verdict.headline
    assert files.read_json(grid.folder / "verdict.json")["headline"] == grid.verdict.headline
    assert grid.sheet is not None
    with Image.open(grid.sheet) as sheet:
        assert sheet.width > 3 * 192 and sheet.height > 4 * 192

    report = (grid.folder / "report.md").read_text(encoding="utf-8")
    assert grid.verdict.headline in report and "![Contact sheet](sheet.png)" in report
    grid.review.rate(first.hash, 4)
    grid.review.note(first.hash, "a | b")
    assert "| bluprnt, dog | 0.5, style | 1 | 4 | a \\| b |" in report_text(grid)
    told = (project.records_dir / "evaluation.md").read_text(encoding="utf-8")
    assert f"![Contact sheet](../grids/{grid.id}/sheet.png)" in told
    assert "| 4 | a \\| b |" in told, "the record follows the ratings, without a registration"
    (project.records_dir / "evaluation.md").unlink()
    (project.records_dir / "evaluation.md").mkdir()
    grid.review.rate(first.hash, 5)
    assert grid.review.get(first.hash).rating == 5, "a record that cannot be written costs no rating"
    (project.records_dir / "evaluation.md").rmdir()

    kinds = [e["type"] for e in job.events()[0]]
    assert kinds.count("cell") == 12 and kinds.count("verdict") == 1
    assert job.progress.done == job.progress.total == 12

    # The base column and the old weight are there already; only weight 0.8 is new, and the file's name does not matter.
    renamed = tmp_path / "renamed.safetensors"
    save_file(load_file(str(pocket_lora)), str(renamed), metadata={"ss_output_name": "other"})
    wider = plan(lora_files=[renamed], weights=(0, 0.5, 0.8))
    assert grid_cost(project, wider).to_render == 4
    assert draw_here(project, wider)["drawn"] == 4
    assert grid_cost(project, plan()).to_render == 0
    assert grid_cost(project, plan()).seconds == 0
    assert [g.id for g in list_grids(project)] == [wider.id, spec.id]
    assert grid_cost(project, plan(seeds=(9,))).basis == "measured on this computer"


def test_loading_says_nothing_of_the_pace_of_drawing(project: Project, plan: Plan) -> None:
    """Loading counted as the time of the first picture, and a grid of minutes began with a forecast of an hour."""
    told: list[tuple[float | None, float | None]] = []

    class Loading(render.Rendering):
        def _draw_all(self) -> None:
            now = self.worker._newest
            told.append((now["total"], now["eta_seconds"]))
            time.sleep(0.2)  # what loading takes; the forecast must not know of it
            self._tell("Base model", 0.25)
            told.append((self.worker._newest["total"], self.worker._newest["eta_seconds"]))
            raise StudioError("Enough.", "The rest is not looked at.", "Nothing.")

    spec = plan()
    folder = project.grids_dir / spec.id
    files.write_text(folder / "grid.json", spec.model_dump_json())
    with pytest.raises(StudioError, match=r"Enough\."):
        render.main(folder, rendering=Loading)
    assert told == [(None, None), (12, None)]


def test_one_broken_lora_fails_its_cells_only(
    project: Project, plan: Plan, pocket_lora: Path, tmp_path: Path
) -> None:
    tensors = load_file(str(pocket_lora))
    tensors[next(n for n in tensors if n.endswith("up.weight"))][0] = float("nan")
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, str(broken))
    spec = plan(lora_files=[broken, pocket_lora], weights=(1.0,), prompts=["bluprnt, dog", "bluprnt, car"])
    result = draw_here(project, spec)
    cells = get_grid(project).cells()
    bad = [c for c in cells if c.error]
    assert [(c.checkpoint, c.weight) for c in bad] == [("broken", 1.0)] * 2
    assert "not finite" in str(bad[0].error)
    assert result["failed"] == 2 and sum(c.path is not None for c in cells) == 6


def test_stopped_and_resumed_draws_nothing_twice(project: Project, plan: Plan) -> None:
    spec = plan(weights=(0, 0.2, 0.4, 0.6, 0.8, 1.0), steps=15)
    job = start_grid(project, spec)
    store = CellStore(project)
    while not store.known() and job.is_alive:
        time.sleep(0.05)
    with pytest.raises(BusyError):
        resume_grid(get_grid(project))
    job.stop()
    assert job.wait(LIMIT) in ("stopped", "finished")
    known = {h: store.path(h).stat().st_mtime_ns for h in store.known()}
    assert 0 < len(known) < 24
    assert not get_grid(project).done
    job = resume_grid(get_grid(project))
    assert job.wait(LIMIT) == "finished", job.log_tail()
    assert job.result["drawn"] == 24 - len(known)
    assert all(store.path(h).stat().st_mtime_ns == at for h, at in known.items())


def test_what_cannot_be_drawn_is_refused_at_once(project: Project, plan: Plan, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no renderer called"):
        start_grid(project, plan(renderer="other"))
    with pytest.raises(InputError, match="not a size"):
        start_grid(project, plan(width=33))
    wrong = tmp_path / "plain.safetensors"
    save_file({"weight": np_tensor()}, str(wrong))
    with pytest.raises(InputError, match="not a LoRA"):
        start_grid(project, plan(lora_files=[wrong]))
    assert list_grids(project) == []
    for bad, said in (
        ({"weights": (9,)}, "between -2 and 4"),
        ({"seeds": ()}, "seed"),
        ({"prompts": []}, "prompt"),
    ):
        with pytest.raises(InputError, match=said):
            plan(**bad)
    with pytest.raises(InputError, match="nothing to evaluate"):
        plan_grid(project)
    with pytest.raises(InputError, match="no LoRA file at"):
        plan(lora_files=[tmp_path / "none.safetensors"])
    half = tmp_path / "half.safetensors"
    half.write_bytes(wrong.read_bytes()[:-2])
    with pytest.raises(InputError, match="not whole"):
        plan(lora_files=[half])


def test_names_of_grids(project: Project, plan: Plan) -> None:
    with pytest.raises(NotFoundError, match="no grid yet"):
        get_grid(project)
    spec = plan()
    folder = project.grids_dir / spec.id
    files.write_text(folder / "grid.json", spec.model_dump_json())
    assert get_grid(project, spec.id).spec == spec
    assert get_grid(project).project == project
    with pytest.raises(NotFoundError, match=spec.id):
        get_grid(project, "grid-x")
    with pytest.raises(NotFoundError):
        _ = Grid(project.grids_dir / "cells").spec
    assert json.loads((folder / "grid.json").read_text())["trigger"] == "bluprnt"


def np_tensor() -> object:
    import torch

    return torch.from_numpy(np.ones(4, dtype=np.float32))
