"""The grid's job with ComfyUI: the same as with the built-in renderer, but servers draw.

python -m studio.evaluation.workers.comfy_render GRID_FOLDER [CELL ...]
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path
from typing import Any

from PIL import Image

from studio.errors import EnvironmentalError, StudioError
from studio.evaluation.comfyui import checking, servers
from studio.evaluation.comfyui.board import Board
from studio.evaluation.comfyui.lane import PATIENCE_S, Lane
from studio.evaluation.spec import Cell
from studio.evaluation.store import cell_note
from studio.evaluation.workers import render
from studio.findings import blocking


class ComfyRendering(render.Rendering):
    """One pass over a grid with as many servers as can draw it."""

    patience = PATIENCE_S

    def _draw_all(self) -> None:
        self._lock = threading.RLock()
        self.worker.progress(self.done, None, "pictures", "Asking the servers", stage="draw")
        lanes, board = self._lanes()
        self.worker.emit(
            "plan", cells=self.total, there=self.done, device=", ".join(x.name for x in lanes), batch=1
        )
        began = time.monotonic()
        threads = [threading.Thread(target=x.run, name=x.name, daemon=True) for x in lanes]
        for thread in threads:
            thread.start()
        for thread in threads:
            while thread.is_alive():
                thread.join(0.5)
        self.seconds = time.monotonic() - began
        self.worker.check()
        if board.left:
            why = list(board.lost.values())
            raise EnvironmentalError(
                why[0].what if why else "The servers stopped drawing.",
                f"{len(board.left)} pictures are left to draw. {why[0].why if why else ''}".strip(),
                f"{why[0].fix if why else ''} Then go on with the grid; what is drawn stays.".strip(),
            )

    def _lanes(self) -> tuple[list[Lane], Board]:
        """Servers that can draw this grid. Raises when there is none."""
        board = Board(in_order(list(self.todo.values())), self, lambda: self.worker.should_stop)
        lanes: list[Lane] = []
        reasons: list[StudioError] = []
        for server in servers.load(self.grid.project.workspace).servers:
            self.worker.check()
            state = checking.look_at(server)
            bad = blocking(
                [*state.findings, *(checking.for_grid(self.spec, state) if state.is_ready else [])]
            )
            if bad:
                self.worker.emit("note", message=f"{bad[0].what} {bad[0].fix}".strip())
                reasons.append(EnvironmentalError(bad[0].what, bad[0].why, bad[0].fix))
                continue
            lanes.append(
                Lane(server, self.spec, checking.resolve(state, self.spec.drawn_with), board, self.patience)
            )
        if not lanes:
            if reasons:
                raise reasons[0]
            raise EnvironmentalError(
                "No ComfyUI server is known.", "The grid is drawn on one.", "Name it on the Set-up page."
            )
        for lane in lanes:
            board.join(lane.name)
        return lanes, board

    # --- what lanes report

    def drawn(self, cell: Cell, picture: Image.Image, server: str) -> None:
        """A picture is there."""
        self.store.put(cell.hash, picture, {**cell_note(self.spec, cell), "renderer": f"ComfyUI at {server}"})
        with self._lock:
            self._count(cell)
        self._tell("Base model" if not cell.weight else f"Weight {cell.weight:g}")

    def failed(self, cell: Cell, error: StudioError) -> None:
        """A picture could not be drawn."""
        with self._lock:
            self._failed(cell, error)

    def note(self, message: str) -> None:
        """Something in passing."""
        print(message, file=sys.stderr, flush=True)
        self.worker.emit("note", message=message)

    def moved(self, shares: float) -> None:
        """Parts of pictures are done."""
        self._tell("Drawing", self.done + shares)


def in_order(cells: list[Cell]) -> list[Cell]:
    """The base first, then LoRA by LoRA and weight by weight: a server then applies each of them once."""
    places = {c.checkpoint: i for i, c in reversed(list(enumerate(cells)))}
    return sorted(cells, key=lambda c: (c.weight != 0, places[c.checkpoint] if c.weight else 0, c.weight))


def main(folder: Path, cells: list[str] | None = None) -> Any:
    """Run the job of a grid's folder."""
    return render.main(folder, cells, ComfyRendering)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
