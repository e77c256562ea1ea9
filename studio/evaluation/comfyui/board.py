"""The cells of a grid that several servers draw: who takes which, and when all is done."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable
from typing import Protocol

from PIL import Image

from studio.errors import StudioError
from studio.evaluation.spec import Cell

MOST_TRIES = 3
"""How often a cell is queued again because a server lost it, before it counts as failed."""


class Desk(Protocol):
    """Where results go. Called from several threads."""

    def drawn(self, cell: Cell, picture: Image.Image, server: str) -> None:
        """Keep a picture."""
        ...

    def failed(self, cell: Cell, error: StudioError) -> None:
        """Write down why there is none."""
        ...

    def note(self, message: str) -> None:
        """Tell the user something in passing."""
        ...

    def moved(self, shares: float) -> None:
        """shares: how much of the cells at work is done, added up."""
        ...


class Board:
    """Hands cells out and keeps count. Thread-safe.

    stopping: whether the job shall end.
    """

    def __init__(self, cells: Iterable[Cell], desk: Desk, stopping: Callable[[], bool]) -> None:
        self._waiting: deque[Cell] = deque(cells)
        self._out: dict[str, Cell] = {}
        self._shares: dict[str, float] = {}
        self._tries: Counter[str] = Counter()
        self._lanes: set[str] = set()
        self._refused: dict[str, dict[str, StudioError]] = {}
        self._changed = threading.Condition()
        self.desk = desk
        self._stopping = stopping
        self.lost: dict[str, StudioError] = {}

    @property
    def stopping(self) -> bool:
        return self._stopping()

    @property
    def over(self) -> bool:
        """Whether nothing is left to draw or to wait for."""
        with self._changed:
            return not self._waiting and not self._out

    @property
    def left(self) -> list[Cell]:
        """Cells that nobody has drawn."""
        with self._changed:
            return list(self._waiting)

    def join(self, lane: str) -> None:
        """A server takes part."""
        with self._changed:
            self._lanes.add(lane)

    def leave(self, lane: str, why: StudioError | None = None) -> None:
        """A server takes part no more; why: what drove it out."""
        with self._changed:
            self._lanes.discard(lane)
            if why is not None:
                self.lost[lane] = why
            stuck = self._stuck()
            self._changed.notify_all()
        self._fail(stuck)

    def take(self, lane: str) -> Cell | None:
        """The next cell that this server can draw; None when there is none right now."""
        with self._changed:
            for cell in self._waiting:
                if lane not in self._refused.get(self._lora(cell), {}):
                    self._waiting.remove(cell)
                    self._out[cell.hash] = cell
                    return cell
        return None

    def give_back(self, cell: Cell, *, front: bool = True) -> None:
        """A cell that was taken and not drawn, through no fault of its own."""
        with self._changed:
            self._forget(cell)
            (self._waiting.appendleft if front else self._waiting.append)(cell)
            self._changed.notify_all()

    def try_again(self, cell: Cell, error: StudioError, most: int = MOST_TRIES) -> bool:
        """Queue a cell again that went wrong; after `most` times it has failed with this error. Whether it was queued."""
        with self._changed:
            self._tries[cell.hash] += 1
            again = self._tries[cell.hash] < most
        if again:
            self.give_back(cell)
        else:
            self.failed(cell, error)
        return again

    def refuse(self, lane: str, cell: Cell, error: StudioError) -> None:
        """This server cannot draw with the cell's LoRA; the cell goes to the others, and fails when none is left."""
        with self._changed:
            self._refused.setdefault(self._lora(cell), {})[lane] = error
            self._forget(cell)
            self._waiting.appendleft(cell)
            stuck = self._stuck()
            self._changed.notify_all()
        self._fail(stuck)

    def drawn(self, cell: Cell, picture: Image.Image, lane: str) -> None:
        """A cell has its picture."""
        self.desk.drawn(cell, picture, lane)
        self._finish(cell)

    def failed(self, cell: Cell, error: StudioError) -> None:
        """A cell will have none."""
        self.desk.failed(cell, error)
        self._finish(cell)

    def moved(self, cell: Cell, share: float) -> None:
        """share: how much of the cell is done, 0 to 1."""
        with self._changed:
            if cell.hash not in self._out:
                return
            self._shares[cell.hash] = share
            shares = sum(self._shares.values())
        self.desk.moved(shares)

    def pause(self, seconds: float) -> None:
        """Wait until something changes, at most this long."""
        with self._changed:
            self._changed.wait(seconds)

    def _finish(self, cell: Cell) -> None:
        with self._changed:
            self._forget(cell)
            self._changed.notify_all()

    def _forget(self, cell: Cell) -> None:
        self._out.pop(cell.hash, None)
        self._shares.pop(cell.hash, None)

    @staticmethod
    def _lora(cell: Cell) -> str:
        return cell.checkpoint if cell.weight else ""

    def _stuck(self) -> list[tuple[Cell, StudioError]]:
        """Cells whose LoRA every server that is left has refused; taken out. With no server left all stay as they are."""
        if not self._lanes:
            return []
        found = []
        for cell in list(self._waiting):
            refused = self._refused.get(self._lora(cell), {})
            if refused and set(refused) >= self._lanes:
                self._waiting.remove(cell)
                found.append((cell, next(iter(refused.values()))))
        return found

    def _fail(self, cells: Iterable[tuple[Cell, StudioError]]) -> None:
        for cell, error in cells:
            self.failed(cell, error)
