"""What the person who looked at a grid says: ratings, fault tags and notes, saved at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
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
        if rating is not None and (not isinstance(rating, int) or not 1 <= rating <= 5):
            raise InputError(
                f"{rating} is not a rating.", "Ratings go from 1 (unusable) to 5 (just right).", "Use 1 to 5."
            )
        return self._change(cell_hash, rating=rating)

    def tag(self, cell_hash: str, tag: str, on: bool = True) -> CellReview:
        """Add or take away a fault tag. Raises InputError for an unknown one."""
        if tag not in FAULTS:
            raise InputError(
                f"'{tag}' is not a fault tag.",
                "Diagnosis reads fixed tags.",
                f"Use one of: {', '.join(FAULTS)}.",
            )
        with self._held():
            tags = [t for t in self.get(cell_hash).tags if t != tag]
            said = self._store(cell_hash, tags=(*tags, tag) if on else tuple(tags))
        self.changed()
        return said

    def note(self, cell_hash: str, text: str) -> CellReview:
        """Write a note on a cell; empty text removes it."""
        return self._change(cell_hash, note=" ".join(text.split())[:2000])

    @property
    def verdict_note(self) -> str:
        """The person's own words on the whole grid."""
        return str(self._read()["note"])

    def set_verdict_note(self, text: str) -> None:
        """Store the person's own words on the whole grid."""
        with self._held():
            files.write_json(self.path, {**self._read(), "note": text.strip()[:5000]})
        self.changed()

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
        cells = raw.get("cells") if isinstance(raw, dict) else None
        return {
            "cells": cells if isinstance(cells, dict) else {},
            "note": str(raw.get("note", "")) if isinstance(raw, dict) else "",
        }

    def _change(self, cell_hash: str, **values: Any) -> CellReview:
        said = self._store(cell_hash, **values)
        self.changed()
        return said

    def _store(self, cell_hash: str, **values: Any) -> CellReview:
        with self._held():
            content = self._read()
            old = _parse(content["cells"].get(cell_hash, {}))
            new = CellReview(**{**vars(old), **values, "at": files.now()})
            if new.empty:
                content["cells"].pop(cell_hash, None)
            else:
                content["cells"][cell_hash] = {
                    "rating": new.rating,
                    "tags": list(new.tags),
                    "note": new.note,
                    "at": new.at,
                }
            files.write_json(self.path, content)
            return new


def _parse(raw: Mapping[str, Any]) -> CellReview:
    rating = raw.get("rating")
    return CellReview(
        rating=rating if isinstance(rating, int) and 1 <= rating <= 5 else None,
        tags=tuple(t for t in raw.get("tags", ()) if t in FAULTS),
        note=str(raw.get("note", "")),
        at=str(raw.get("at", "")),
    )
