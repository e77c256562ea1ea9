"""The contact sheet: every cell is where its titles say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.evaluation.sheet import ACCENT, PAPER, draw_sheet, write_sheet
from studio.evaluation.spec import Cell, GridSpec, plan_cells

Plan = Callable[..., GridSpec]


def painted(spec: GridSpec, folder: Path) -> list[Cell]:
    """The spec's cells, each with a picture of one colour of its own."""
    found = []
    for i, cell in enumerate(plan_cells(spec)):
        path = folder / f"{cell.hash}.png"
        if not path.exists():
            Image.new("RGB", (spec.width, spec.height), (200, 10 + 7 * i % 240, i % 250)).save(path)
        found.append(replace(cell, path=path))
    return found


def test_cells_in_order(plan: Plan, tmp_path: Path) -> None:
    spec = plan(seeds=(1, 2))
    cells = painted(spec, tmp_path)
    sheet = np.asarray(draw_sheet(spec, cells, "Use 0.5: fine.", 0.5))
    places = {}
    for cell in cells:
        assert cell.path is not None
        colour = Image.open(cell.path).convert("RGB").getpixel((0, 0))
        rows, columns = np.nonzero((sheet == colour).all(axis=2))
        assert len(rows) == 192 * 192, "shown six times as large, once"
        places[cell.seed, cell.prompt.id, cell.weight] = (rows.min(), columns.min())
    ordered = [places[c.seed, c.prompt.id, c.weight] for c in cells]
    assert ordered == sorted(ordered), "reading order: seed, prompt, weight"
    assert tuple(sheet[0, 0]) == tuple(bytes.fromhex(PAPER[1:]))
    assert (sheet == tuple(bytes.fromhex(ACCENT[1:]))).all(axis=2).any(), "the recommended column is marked"


def test_missing_cells_and_long_texts(plan: Plan, tmp_path: Path) -> None:
    spec = plan(prompts=["bluprnt, " + "a very long prompt " * 20, "x" * 300])
    cells = [replace(c, error="There is not enough memory to draw this cell.") for c in plan_cells(spec)]
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    cells[0] = replace(cells[0], path=broken, error=None)
    write_sheet(spec, cells, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] < 1200


@pytest.mark.parametrize("size", [64, 512, 1024])
def test_a_huge_grid_still_fits(plan: Plan, size: int) -> None:
    spec = plan(prompts=[f"bluprnt, {i}" for i in range(60)], seeds=(1, 2, 3), width=size, height=size)
    sheet = draw_sheet(spec, plan_cells(spec))
    assert max(sheet.size) <= 17_000
