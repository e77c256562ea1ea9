"""What the person who looked at a grid says: ratings, fault tags and notes, saved at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from studio import files
from studio.errors import BusyError, InputError
from studio.evaluation.spec import Cell

FAULTS: dict[str, str] = {
    "blurry": "blurry",
    "ignores-trigger": "ignores the trigger word",
    "copies": "copies training pictures",
    "wrong-colours": "wrong colours",
    "distorted": "distorted",
    "only-at-1": "only works at 1.0",
    "leaks": "leaks without the trigger word",
}
"""Fault tags and how they are shown."""


_WINDOWS = 40
"""Windows whose numbering is remembered: those that spoke last."""


@dataclass(frozen=True)
class CellReview:
    """What was said about one cell.

    rating: 1 (unusable) to 5 (just right), or None.
    tags:   names from FAULTS.
    """

    rating: int | None = None
    tags: tuple[str, ...] = ()
    note: str = ""
    at: str = ""

    @property
    def empty(self) -> bool:
        return self.rating is None and not self.tags and not self.note


@dataclass(frozen=True)
class Change:
    """One thing said about a cell, in a window that numbers what it says.

    seq:   number of the change in its window, from 1.
    what:  rating, note, or a tag's name from FAULTS.
    value: 1 to 5 or None; text; on or off.
    """

    seq: int
    cell: str
    what: str
    value: int | str | bool | None


@dataclass
class Review:
    """The review in a grid's `review.json`. Every change is on the disk before the call returns; two tabs may write.

    changed: called after each change, outside of the lock.
    """

    path: Path
    changed: Callable[[], None] = lambda: None
    _lock: FileLock = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._lock = FileLock(self.path.with_name(".review.lock"), timeout=10)

    def all(self) -> dict[str, CellReview]:
        """Cell hash -> what was said about it."""
        return {k: _parse(v) for k, v in self._read()["cells"].items()}

    def get(self, cell_hash: str) -> CellReview:
        """What was said about a cell; an empty review when nothing was."""
        return self.all().get(cell_hash, CellReview())

    def rate(self, cell_hash: str, rating: int | None) -> CellReview:
        """Give a cell 1 to 5, or take the rating back with None. Raises InputError for other numbers."""
        return self._change(Change(0, cell_hash, "rating", rating))

    def tag(self, cell_hash: str, tag: str, on: bool = True) -> CellReview:
        """Add or take away a fault tag. Raises InputError for an unknown one."""
        if tag in ("rating", "note"):
            raise _no_tag(tag)
        return self._change(Change(0, cell_hash, tag, on))

    def note(self, cell_hash: str, text: str) -> CellReview:
        """Write a note on a cell; empty text removes it."""
        return self._change(Change(0, cell_hash, "note", text))

    @property
    def verdict_note(self) -> str:
        """The person's own words on the whole grid."""
        return str(self._read()["note"])

    def set_verdict_note(self, text: str) -> None:
        """Store the person's own words on the whole grid."""
        with self._held():
            files.write_json(self.path, {**self._read(), "note": text.strip()[:5000]})
        self.changed()

    def apply(self, window: str, changes: Iterable[Change]) -> int:
        """Store what a window said since it was last heard, each change once however often it is told; the number of its
        last change that is on the disk. Changes to other cells and by other windows stay. Does not call `changed`.

        Raises InputError for a rating or tag that there is none of; everything before it is stored.
        """
        todo = sorted(changes, key=lambda c: c.seq)
        if not todo or todo[-1].seq <= self.stored(window):
            return self.stored(window)
        refused: InputError | None = None
        with self._held():
            content = self._read()
            done = int(content["windows"].pop(window, 0))
            for change in (c for c in todo if c.seq > done):
                done = change.seq
                try:
                    _take_up(content["cells"], change)
                except InputError as e:
                    refused = refused or e
            content["windows"][window] = done
            while len(content["windows"]) > _WINDOWS:
                content["windows"].pop(next(iter(content["windows"])))
            files.write_json(self.path, content)
        if refused is not None:
            raise refused
        return done

    def stored(self, window: str) -> int:
        """The number of the last change of a window that is on the disk; 0 for one that is not known."""
        return int(self._read()["windows"].get(window, 0))

    def ratings_by_weight(self, cells: Iterable[Cell]) -> dict[tuple[str, float], list[int]]:
        """(checkpoint, weight) -> the ratings given to its cells."""
        given = self.all()
        found: dict[tuple[str, float], list[int]] = defaultdict(list)
        if given:
            for cell in cells:
                review = given.get(cell.hash)
                if review is not None and review.rating is not None:
                    found[cell.checkpoint, cell.weight].append(review.rating)
        return dict(found)

    def _held(self) -> Any:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return self._lock.acquire()
        except Timeout as e:
            raise BusyError(
                "The review is being written by something else.",
                "Another window holds it for more than ten seconds.",
                "Close the other window, or try again.",
            ) from e

    def _read(self) -> dict[str, Any]:
        raw = files.read_json(self.path) or {}
        raw = raw if isinstance(raw, dict) else {}
        cells, windows = raw.get("cells"), raw.get("windows")
        return {
            "cells": cells if isinstance(cells, dict) else {},
            "note": str(raw.get("note", "")),
            "windows": windows if isinstance(windows, dict) else {},
        }

    def _change(self, change: Change) -> CellReview:
        with self._held():
            content = self._read()
            said = _take_up(content["cells"], change)
            files.write_json(self.path, content)
        self.changed()
        return said


def _take_up(cells: dict[str, Any], change: Change) -> CellReview:
    """Change what is said about one cell. Raises InputError for a rating or tag that there is none of."""
    old = _parse(cells.get(change.cell, {}))
    value = change.value
    if change.what == "rating":
        if value is not None and (type(value) is not int or not 1 <= value <= 5):
            raise InputError(
                f"{value} is not a rating.", "Ratings go from 1 (unusable) to 5 (just right).", "Use 1 to 5."
            )
        new = replace(old, rating=value)
    elif change.what == "note":
        new = replace(old, note=" ".join(str(value or "").split())[:2000])
    elif change.what in FAULTS:
        kept = tuple(t for t in old.tags if t != change.what)
        new = replace(old, tags=(*kept, change.what) if value else kept)
    else:
        raise _no_tag(change.what)
    if new.empty:
        cells.pop(change.cell, None)
    else:
        cells[change.cell] = {
            "rating": new.rating,
            "tags": list(new.tags),
            "note": new.note,
            "at": files.now(),
        }
    return new


def _no_tag(name: str) -> InputError:
    return InputError(
        f"'{name[:80]}' is not a fault tag.",
        "Diagnosis reads fixed tags.",
        f"Use one of: {', '.join(FAULTS)}.",
    )


def _parse(raw: Mapping[str, Any]) -> CellReview:
    rating = raw.get("rating")
    return CellReview(
        rating=rating if isinstance(rating, int) and 1 <= rating <= 5 else None,
        tags=tuple(t for t in raw.get("tags", ()) if t in FAULTS),
        note=str(raw.get("note", "")),
        at=str(raw.get("at", "")),
    )
