"""The grid's job with the built-in renderer: draw what is missing, measure, judge, make the contact sheet.

    python -m studio.evaluation.workers.render GRID_FOLDER [CELL ...]

CELL: hashes of the only cells to draw; `none` only measures what is there.
Cells appear in the store as they are drawn. A stopped or broken job goes on where it was, since it draws only cells
that are not there.
"""

from __future__ import annotations

import os
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.errors import StudioError
from studio.evaluation.grid import Grid
from studio.evaluation.plan import remember_speed
from studio.evaluation.spec import Cell, GridLora, plan_cells
from studio.evaluation.store import CellStore, cell_note
from studio.jobs.lifeline import Worker

if TYPE_CHECKING:
    from studio.evaluation.workers.drawing import Drawer


def main(folder: Path, cells: Sequence[str] | None = None, rendering: type[Rendering] | None = None) -> None:
    """Run the job of a grid's folder. cells: hashes of the only ones to draw."""
    with Worker(folder) as worker:
        _quiet()
        worker.finish((rendering or Rendering)(worker, Grid(folder), cells or ()).run())


def _quiet() -> None:
    """Libraries announce what users cannot act on, such as progress bars of their own; errors still reach the log."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    warnings.filterwarnings("ignore", category=FutureWarning)
    warnings.filterwarnings("ignore", category=DeprecationWarning)


class Rendering:
    """One pass over a grid. Counts cells by hash: the base column is drawn once for all checkpoints."""

    def __init__(self, worker: Worker, grid: Grid, only: Sequence[str] = ()) -> None:
        self.worker, self.grid, self.spec = worker, grid, grid.spec
        self.store = CellStore(grid.project)
        cells = plan_cells(self.spec)
        self.total = len({c.hash for c in cells})
        known = self.store.known()
        self.done = len({c.hash for c in cells} & known)
        self.todo = {c.hash: c for c in cells if c.hash not in known and (not only or c.hash in only)}
        self.failures = {h: w for h, w in grid.failures.items() if h not in known and h not in self.todo}
        self.seconds = 0.0
        self.new = 0

    def run(self) -> dict[str, Any]:
        """Draw, measure, judge. Returns what the job hands over."""
        start = time.monotonic()
        if self.todo:
            # Without a total: the pace of drawing is not that of loading, and forecasts begin with the first picture.
            self.worker.progress(self.done, None, "pictures", "Loading the base model", stage="draw")
            self._draw_all()
        else:
            self._tell("All pictures are there")
        self.worker.check()
        verdict = self._measure()
        if self.new and self.seconds:
            remember_speed(self.grid.project.workspace, self.spec, self.seconds / self.new / self.spec.steps)
        if self.failures and self.done == 0:
            raise StudioError(
                "None of the grid's pictures could be drawn.",
                next(iter(self.failures.values())),
                "Mend the cause, then go on with the grid.",
            )
        return {
            "cells": self.total,
            "drawn": self.new,
            "failed": len(self.failures),
            "seconds": round(time.monotonic() - start, 1),
            "verdict": verdict,
        }

    # --- Drawing

    def _draw_all(self) -> None:
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging

        diffusers_logging.set_verbosity_error()
        transformers_logging.set_verbosity_error()
        from studio.evaluation.workers.drawing import Drawer

        drawer = Drawer(self.spec)
        self.worker.emit(
            "plan", cells=self.total, there=self.done, device=drawer.device.type, batch=drawer.batch
        )
        base = [c for c in self.todo.values() if c.weight == 0]
        self._draw(drawer, base)
        for lora in self.spec.lora_files:
            cells = [c for c in self.todo.values() if c.checkpoint == lora.label and c.weight != 0]
            if cells:
                self._draw_lora(drawer, lora, cells)

    def _draw_lora(self, drawer: Drawer, lora: GridLora, cells: list[Cell]) -> None:
        from studio.evaluation.workers.lora import Lora

        try:
            fitted = Lora(lora.path, drawer.models, self.spec.family)
        except (StudioError, OSError) as e:
            for cell in cells:
                self._failed(cell, e)
            return
        drawer.use(fitted, lora.content)
        try:
            drawer.embed(cells)
            self._draw(drawer, cells)
        finally:
            drawer.use(None)

    def _draw(self, drawer: Drawer, cells: list[Cell]) -> None:
        for batch in batches(cells, drawer.batch, mixed=drawer.mixed(cells)):
            self.worker.check()
            self._draw_batch(drawer, batch)

    def _draw_batch(self, drawer: Drawer, batch: Sequence[Cell]) -> None:
        """Draw cells together. A batch that does not fit into memory is halved, for the rest of the grid too; one that
        breaks otherwise is drawn cell by cell, so that only the guilty cell fails."""
        import torch

        began = time.monotonic()
        weights = sorted({c.weight for c in batch})
        words = (
            f"Weight {weights[0]:g}" if len(weights) == 1 else f"Weights {weights[0]:g} to {weights[-1]:g}"
        )
        words = words if weights != [0.0] else "Base model"

        def tick(step: int) -> None:
            self.worker.check()
            part = step / self.spec.steps * len(batch)
            self._tell(words, self.done + part, step=step)

        try:
            pictures = drawer.draw(batch, tick)
        except torch.OutOfMemoryError as e:
            if len(batch) == 1:
                self._failed(batch[0], _memory())
                return
            del e
            torch.cuda.empty_cache()
            drawer.batch = max(1, len(batch) // 2)
            self.worker.emit(
                "note", message=f"Memory was short; going on with {drawer.batch} pictures at a time."
            )
            for part in batches(list(batch), drawer.batch, mixed=True):
                self._draw_batch(drawer, part)
            return
        except (RuntimeError, ValueError, StudioError) as e:
            if len(batch) == 1:
                self._failed(batch[0], e)
                return
            for cell in batch:
                self.worker.check()
                self._draw_batch(drawer, [cell])
            return
        self.seconds += time.monotonic() - began
        for cell, picture in zip(batch, pictures, strict=True):
            if isinstance(picture, Exception):
                self._failed(cell, picture)
                continue
            self.store.put(cell.hash, picture, cell_note(self.spec, cell))
            self._count(cell)
        self._tell(words)

    def _count(self, cell: Cell) -> None:
        self.done += 1
        self.new += 1
        self.worker.emit(
            "cell",
            hash=cell.hash,
            checkpoint=cell.checkpoint,
            weight=cell.weight,
            prompt=cell.prompt.id,
            seed=cell.seed,
        )

    def _failed(self, cell: Cell, error: Exception) -> None:
        words = (
            f"{error.what} {error.why}".strip()
            if isinstance(error, StudioError)
            else f"{type(error).__name__}: {error}"
        )
        self.failures[cell.hash] = words
        print(
            f"{cell.checkpoint} weight {cell.weight:g} {cell.prompt.id}: {words}", file=sys.stderr, flush=True
        )
        files.write_json(self.grid.folder / "failures.json", self.failures)
        self.worker.emit(
            "cell-failed", hash=cell.hash, checkpoint=cell.checkpoint, weight=cell.weight, why=words
        )

    def _tell(self, message: str, done: float | None = None, **more: Any) -> None:
        self.worker.progress(
            round(self.done if done is None else done, 2),
            self.total,
            "pictures",
            message,
            stage="draw",
            **more,
        )

    # --- Measuring

    def _measure(self) -> dict[str, Any] | None:
        from studio.evaluation.workers.measuring import measure_grid

        self.worker.progress(0, None, "looks", "Measuring", stage="measure")

        def tell(done: int, whole: int, words: str) -> None:
            self.worker.progress(done, whole, "looks", words, stage="measure")

        metrics = measure_grid(self.grid, self.worker.check, tell)
        verdict = None
        if metrics is not None:
            files.write_json(self.grid.folder / "metrics.json", metrics)
            found = self.grid.verdict
            if found is not None:
                verdict = found.as_dict()
                files.write_json(self.grid.folder / "verdict.json", verdict)
                self.worker.emit("verdict", state=found.state, weight=found.weight, headline=found.headline)
        from studio.evaluation.report import record, write_report
        from studio.evaluation.sheet import write_sheet

        found = self.grid.verdict
        write_sheet(
            self.spec,
            self.grid.cells(),
            self.grid.folder / "sheet.png",
            found.headline if found else "",
            found.weight if found else None,
        )
        write_report(self.grid)
        record(self.grid)
        self.worker.progress(self.done, self.total, "pictures", "Drawn and measured", stage="measure")
        return verdict


def batches(cells: list[Cell], size: int, *, mixed: bool) -> Iterator[list[Cell]]:
    """Cells in batches of at most `size`, weights ascending, evenly filled; unless `mixed`, one weight a batch."""
    groups: dict[float, list[Cell]] = {}
    for cell in sorted(cells, key=lambda c: c.weight):
        groups.setdefault(0.0 if mixed else cell.weight, []).append(cell)
    for group in groups.values():
        count = -(-len(group) // size)
        for i in range(count):
            yield group[i * len(group) // count : (i + 1) * len(group) // count]


def _memory() -> StudioError:
    return StudioError(
        "There is not enough memory to draw this cell.",
        "Even one picture alone does not fit.",
        "Close other programs that use the graphics card, or draw a smaller size.",
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
