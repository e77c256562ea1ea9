"""Large families of pictures that look alike: found around one picture each, instead of pair by pair.

Ten thousand frames of one scene are fifty million pairs. What the user is shown are groups in which every picture is a
copy of the suggested one, so it is enough to compare with that one: a star. Whoever is in a star rests: it is compared
with nobody else as long as the picture in the middle is there. Families are looked for with a sample: a picture which
has several of the sampled ones close to it is likely to be in a large one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studio.dataset.near import HASH_DISTANCE, LIKENESS, LOW_DISTANCE, Copies, Hashes, low_bits

FROM = 1000
"""Pictures from which families are looked for; fewer are compared pair by pair in a moment."""
SAMPLE = 512
HITS = 3
"""So many sampled pictures close to one make it worth a try; among unrelated pictures 0.1 % are so close."""
FAMILY = 24
"""Pictures around one from which they are a star."""
_TRIES = 32  # in a row without a family, after which nobody looks for one any more
_SEED = 20


@dataclass(frozen=True)
class Star:
    """A picture and those that are copies of it, by their number, with their likeness and whether they are mirrored."""

    middle: int
    others: NDArray[np.int64]
    likeness: NDArray[np.float32]
    mirrored: NDArray[np.bool_]


class Sky:
    """Pictures in the order of their rank, best first, among which stars are looked for.

    sets: numbers of sets of pictures that the user called different from one another, -1 for none.
    """

    def __init__(
        self, hashes: Hashes, flips: Hashes, copies: Copies, sets: NDArray[np.int64] | None = None
    ) -> None:
        self._hashes, self._flips, self._copies = hashes, flips, copies
        self._low, self._low_flips = low_bits(hashes), low_bits(flips)
        self._sets = np.full(len(hashes), -1, np.int64) if sets is None else sets
        self.alive = np.ones(len(hashes), np.bool_)
        self._middle = np.zeros(len(hashes), np.bool_)

    def stars(self, tell: Callable[[int, int], bool] | None = None) -> list[Star]:
        """The families. `alive` says afterwards who is in none of them, or in the middle of one.

        tell: told (done, total) of the pictures that may have a family; answers False to stop.
        """
        found: list[Star] = []
        if len(self._hashes) < FROM:
            return found
        tried = 0
        likely = np.nonzero(self._hits() >= HITS)[0]
        for n, number in enumerate(likely.tolist()):
            if not self.alive[number] or self._middle[number]:
                continue
            if tell is not None and not tell(n, len(likely)):
                break
            star = self._around(number)
            if star is None:
                tried += 1
                if tried >= _TRIES:
                    break
                continue
            tried = 0
            self.alive[star.others] = False
            self._middle[star.middle] = True
            found.append(star)
        return found

    def _hits(self) -> NDArray[np.int64]:
        """How many pictures of a sample each one is close to, as it is or mirrored."""
        count = len(self._hashes)
        some = np.random.default_rng(_SEED).choice(count, min(SAMPLE, count), replace=False)
        hits = np.zeros(count, np.int64)
        for low in (self._low, self._low_flips):
            for start in range(0, len(some), 64):
                part = self._low[some[start : start + 64]]
                hits += (np.bitwise_count(part[:, None] ^ low[None, :]) <= LOW_DISTANCE).sum(axis=0)
        return hits

    def _around(self, number: int) -> Star | None:
        """The star around a picture, or around a better one of its family; None when it has no family."""
        best: Star | None = None
        while True:
            star = self._copies_of(number)
            if len(star.others) < FAMILY:
                return best
            best = star
            better = int(star.others.min())
            if better > number:
                return best
            number = better

    def _copies_of(self, number: int) -> Star:
        others, likeness, mirrored = [], [], []
        for mirror, low, hashes in (
            (False, self._low, self._hashes),
            (True, self._low_flips, self._flips),
        ):
            near = np.nonzero(
                (np.bitwise_count(self._low[number] ^ low) <= LOW_DISTANCE)
                & (self.alive & ~self._middle)
                & ((self._sets < 0) | (self._sets != self._sets[number]))
            )[0]
            near = near[near != number]
            distance = np.bitwise_count(self._hashes[number] ^ hashes[near]).sum(axis=1, dtype=np.uint16)
            near = near[distance <= HASH_DISTANCE]
            alike = self._copies.likeness(np.full(len(near), number), near, mirror)
            close = alike >= LIKENESS
            others.append(near[close])
            likeness.append(alike[close])
            mirrored.append(np.full(int(close.sum()), mirror))
        every, value, flip = np.concatenate(others), np.concatenate(likeness), np.concatenate(mirrored)
        order = np.lexsort((flip, -value))  # of a symmetric picture, the better of both ways
        _, first = np.unique(every[order], return_index=True)
        chosen = order[first]
        return Star(number, every[chosen], np.minimum(value[chosen], 1.0), flip[chosen])
