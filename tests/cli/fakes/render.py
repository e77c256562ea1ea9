"""Draws plain colours for a grid and measures nothing: `python render.py GRID_FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from studio import files
from studio.evaluation.grid import Grid
from studio.evaluation.store import CellStore
from studio.jobs.lifeline import Worker

folder = Path(sys.argv[1])
with Worker(folder) as worker:
    grid = Grid(folder)
    store = CellStore(grid.project)
    cells = grid.cells()
    worker.emit("plan", cells=len(cells))
    for done, cell in enumerate(cells):
        if not store.has(cell.hash):
            store.put(
                cell.hash,
                Image.new("RGB", (8, 8), (int(cell.weight * 200) % 256, 0, 0)),
                {"prompt": cell.prompt.text},
            )
        worker.progress(done + 1, len(cells), "pictures", "Drawing")
    weights = []
    for lora in grid.spec.lora_files:
        for w in grid.spec.weights:
            near, kept = min(1.0, w * 1.3), max(0.0, 1.0 - max(0.0, w - 0.6) * 2.4)
            weights.append(
                {
                    "checkpoint": lora.label, "weight": w, "effect": w, "nearness": near, "kept": kept, "damage": 1 - kept,
                    "fault": 0.0, "leak": 0.1, "pixels": w / 2,
                }
            )  # fmt: skip
    files.write_json(
        folder / "metrics.json",
        {
            "version": 1, "kind": grid.spec.kind, "features": "test", "cells": {}, "weights": weights,
            "reference": {"training_pictures": 9, "separable": True, "distance": 1.0, "prompts": 6, "seeds": 1},
        },
    )  # fmt: skip
    Image.new("RGB", (8, 8)).save(folder / "sheet.png")
    worker.finish({"cells": len(cells)})
