"""A grid's spec for ComfyUI, and lanes at work on it in threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from studio.errors import StudioError
from studio.evaluation.comfyui.board import Board
from studio.evaluation.comfyui.lane import Lane
from studio.evaluation.comfyui.servers import Server
from studio.evaluation.spec import Cell, GridLora, GridPrompt, GridSpec, plan_cells
from tests.fakes.comfyui_server import ComfyServer

LIMIT = 60.0


def make_spec(folder: Path, **more: Any) -> GridSpec:
    lora = folder / "my style.safetensors"
    if not lora.exists():
        lora.write_bytes(b"\x02" + b"\x00" * 7 + b"{}")  # a safetensors file without a tensor
    told: dict[str, Any] = {
        "id": "grid-1",
        "project": "p",
        "base_model": "sd15",
        "base_path": folder,
        "base_fingerprint": "f",
        "family": "sd15",
        "lora_files": (GridLora(path=lora, label="final", content="00112233445566ff"),),
        "weights": (0, 0.5, 1.0),
        "prompts": (GridPrompt(id="a", text="sks, a boat"), GridPrompt(id="b", text="a (red) dog")),
        "renderer": "comfyui",
        "sampler": "euler",
        "drawn_with": {"checkpoint": "tiny_sd15.safetensors"},
    }
    return GridSpec.model_validate(told | more)


class Desk:
    """Takes down what lanes report."""

    def __init__(self) -> None:
        self.pictures: dict[str, Image.Image] = {}
        self.by: dict[str, str] = {}
        self.failures: dict[str, StudioError] = {}
        self.notes: list[str] = []

    def drawn(self, cell: Cell, picture: Image.Image, server: str) -> None:
        assert cell.hash not in self.pictures, "drawn twice"
        self.pictures[cell.hash] = picture
        self.by[cell.hash] = server

    def failed(self, cell: Cell, error: StudioError) -> None:
        self.failures[cell.hash] = error

    def note(self, message: str) -> None:
        self.notes.append(message)

    def moved(self, shares: float) -> None: ...


class Drawing:
    """Lanes at work in threads."""

    def __init__(
        self, spec: GridSpec, *found: ComfyServer, patience: float = LIMIT, folder: Path | None = None
    ) -> None:
        self.desk, self.stop = Desk(), threading.Event()
        cells = {c.hash: c for c in plan_cells(spec)}
        self.board = Board(cells.values(), self.desk, self.stop.is_set)
        self.lanes = [
            Lane(
                Server(address=s.address, lora_folder=folder),
                spec,
                dict(spec.drawn_with),
                self.board,
                patience,
            )
            for s in found
        ]
        for lane in self.lanes:
            self.board.join(lane.name)
        self.threads = [threading.Thread(target=x.run, daemon=True) for x in self.lanes]
        for thread in self.threads:
            thread.start()

    def wait(self) -> Desk:
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        return self.desk


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)
