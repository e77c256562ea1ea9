"""Comparing pictures with one another: which pairs of contents are the same, or nearly.

What was compared is remembered in the index, so that a new picture is compared with the others and nothing twice. In a
set of some thousand pictures this takes seconds, which is why `compare_all` can be told to stop and tells how far it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from studio.dataset import near
from studio.dataset.apart import Apart
from studio.dataset.index import Index, Pairs
from studio.dataset.pixels import full_pixels
from studio.dataset.stars import Sky

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan

Tell = Callable[[int, int], bool]
"""Called as tell(done, total), in pictures; answers False to stop."""
_EXACT = 0.9995  # correlation from which two pictures may be equal pixel for pixel


def waiting(known: Pairs, first: dict[str, Picture], apart: Apart) -> list[str]:
    """Content hashes that have to be compared: those that never were, and those that rest beside a picture that is gone
    or was called different. first: a picture of each content."""
    return [
        sha
        for sha in first
        if sha not in known.compared
        or (
            (middle := known.resting.get(sha)) is not None and (middle not in first or (sha, middle) in apart)
        )
    ]


def compare_all(
    scan: Scan,
    known: Pairs,
    first: dict[str, Picture],
    rank: Callable[[Picture], object],
    apart: Apart,
    tell: Tell | None = None,
) -> Pairs | None:
    """Compare what waits, and add it to the index and to `known`. None when it was stopped: then nothing is kept."""
    todo = waiting(known, first, apart)
    if not todo:
        return known
    index = Index(scan.cache)
    copies = index.copies()
    new = sorted((s for s in todo if s in copies), key=lambda s: rank(first[s]))  # type: ignore[arg-type,return-value]
    fresh = set(todo)
    old = [s for s in first if s in copies and s not in fresh and s not in known.resting]
    added = _compared(scan, first, new, old, copies, apart, tell)
    if added is None:
        return None
    added.compared = fresh
    index.put_pairs(added)
    for sha in fresh:
        known.resting.pop(sha, None)
    known.compared |= fresh
    known.found += added.found
    known.resting |= added.resting
    return known


def _compared(
    scan: Scan,
    first: dict[str, Picture],
    new: list[str],
    old: list[str],
    copies: dict[str, tuple[bytes, bytes]],
    apart: Apart,
    tell: Tell | None,
) -> Pairs | None:
    """All pairs with at least one new picture that are alike, large families as stars."""
    found: dict[tuple[str, str], tuple[str, str, str, float]] = {}
    resting: dict[str, str] = {}
    equal = _Equal(scan, first, copies)

    def note(a: str, b: str, likeness: float, mirrored: bool) -> None:
        key = (a, b) if a <= b else (b, a)
        likeness = min(1.0, likeness)
        have = found.get(key)
        if have is not None and have[2] == "exact":
            return
        if not mirrored and likeness > _EXACT and equal(a, b):
            found[key] = (*key, "exact", 1.0)
        elif have is None or likeness > have[3]:
            found[key] = (*key, "near", likeness)

    def packed(shas: list[str]) -> tuple[near.Hashes, near.Hashes, near.Copies, NDArray[np.int64]]:
        return (
            near.words(first[s].phash for s in shas),
            near.words(first[s].phash_flip for s in shas),
            near.Copies([copies[s][0] for s in shas], [copies[s][1] for s in shas]),
            np.array([apart.largest(s) for s in shas], np.int64),
        )

    if not new:
        return Pairs()
    total = len(new)
    hashes, flips, grey, sets = packed(new)
    sky = Sky(hashes, flips, grey, sets)
    for star in sky.stars(None if tell is None else lambda done, of: tell(total * done // of // 4, total)):
        middle = new[star.middle]
        for n, alike, mirrored in zip(
            star.others.tolist(), star.likeness.tolist(), star.mirrored.tolist(), strict=True
        ):
            if (new[n], middle) in apart:  # then it is no copy of it, and has to be compared with the others
                sky.alive[n] = True
                continue
            note(middle, new[n], alike, mirrored)
            resting[new[n]] = middle
        if tell is not None and not tell(total // 4, total):
            return None
    if tell is not None and not tell(total // 4, total):
        return None
    awake = [new[n] for n in np.nonzero(sky.alive)[0].tolist()]
    order = awake + old
    hashes, flips, grey, sets = packed(order)
    for (i, j), mirrored in near.close_pairs(hashes, flips, len(awake), sets):
        alike = grey.likeness(i, j, mirrored)
        for n in np.nonzero(alike >= near.LIKENESS)[0].tolist():
            note(order[i[n]], order[j[n]], float(alike[n]), mirrored)
        if tell is not None and len(i):
            done = int(i[-1]) / max(1, len(awake))
            if not tell(int(total * (0.25 + 0.375 * (done + mirrored))), total):
                return None
    return Pairs(set(), list(found.values()), resting)


class _Equal:
    """Whether two contents are equal pixel for pixel, whatever their file formats."""

    def __init__(self, scan: Scan, first: dict[str, Picture], copies: dict[str, tuple[bytes, bytes]]) -> None:
        self._first, self._copies = first, copies
        # The same picture is asked about many times in a row: the one in the middle of a star.
        self._pixels = lru_cache(maxsize=4)(lambda name: full_pixels(scan.folder / name))

    def __call__(self, one: str, other: str) -> bool:
        a, b = self._first[one], self._first[other]
        if (a.width, a.height) != (b.width, b.height):
            return False
        # Decoded in the same way, equal pictures have equal small copies; only others need to be decoded in full.
        if _way(a) == _way(b) and self._copies[one] != self._copies[other]:
            return False
        try:
            return bool(np.array_equal(self._pixels(a.name), self._pixels(b.name)))
        except Exception:  # noqa: BLE001  a decoder's own errors; then they are not known to be equal
            return False


def _way(p: Picture) -> tuple[object, ...]:
    return p.format, p.mode, p.exif_rotated, p.depth
