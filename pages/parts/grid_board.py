"""The board of a grid: its pictures, one of them large beside another, and what is said about them.

The browser's half (`pages/parts/board/`) answers keys by itself and says what was rated in numbered changes; this half stores them
before anything else is drawn, and answers with what is on the disk.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.cell_pictures import cells_place, training_urls
from pages.parts.page import show_error
from studio.errors import InputError, StudioError
from studio.evaluation.board import board
from studio.evaluation.grid import Grid
from studio.evaluation.review import Change

_FOLDER = Path(__file__).with_name("board")
_SCRIPTS = ("keep.js", "panes.js", "table.js", "large.js", "board.js")


@cache
def _read(*names: str) -> str:
    return "\n".join((_FOLDER / name).read_text(encoding="utf-8") for name in names)


_component = st.components.v2.component(
    "grid_board", html=_read("board.html"), css=_read("board.css"), js=_read(*_SCRIPTS)
)


def board_key(grid: Grid) -> str:
    """The key of a grid's board in the session."""
    return f"board_{grid.id}"


@dataclass(frozen=True)
class Heard:
    """What came of what the browser said. new: something was stored. problem: why something was not."""

    new: bool = False
    problem: StudioError | None = None


def take_up(grid: Grid) -> Heard:
    """Store what the browser said since it was last heard. To be called before the verdict is read."""
    said = _said(grid)
    if not said:
        return Heard()
    try:
        window, changes = _parsed(said)
        before = grid.review.stored(window)
        if not changes or changes[-1].seq <= before:
            return Heard()
        grid.review.apply(window, changes)
    except StudioError as e:
        return Heard(True, e)
    return Heard(True)


def _said(grid: Grid) -> Any:
    told = st.session_state.get(board_key(grid))
    return told.get("said") if told is not None else None


def _parsed(said: Any) -> tuple[str, list[Change]]:
    """What came from the browser. Raises InputError when it is nothing that the board says."""
    try:
        changes = [
            Change(int(c["seq"]), str(c["cell"]), str(c["what"]), c["value"]) for c in said["changes"][:5000]
        ]
        return str(said["window"])[:60], sorted(changes, key=lambda c: c.seq)
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise InputError(
            "What the page said could not be read.",
            "It is not in the form that the board uses.",
            "Reload the page.",
        ) from e


def grid_board(grid: Grid, problem: StudioError | None = None) -> None:
    """Draw the board. problem: what `take_up` could not store."""
    if problem is not None:
        show_error(problem)
    said = _said(grid)
    window = str(said.get("window", ""))[:60] if isinstance(said, dict) else ""
    data = board(grid)
    data["place"] = cells_place(grid.project)
    data["nearUrls"] = training_urls(grid.project, data["near"])
    data["ack"] = [window, grid.review.stored(window) if window else 0]
    _component(key=board_key(grid), data=data)
