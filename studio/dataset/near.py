"""Searching for pairs of pictures that look alike, among few or very many.

Candidates are pairs whose 256-bit perceptual hashes (of the picture as it is, or of one of them mirrored) are close;
they are then verified by the correlation of small grey copies and by their colours. The hash finds, the correlation
decides: two figures on the same white ground have close hashes, and quite different grey copies.

Up to BRUTE pairs every pair is compared, in blocks. Beyond it a multi-index takes over (Norouzi, Punjani, Fleet 2012,
"Fast search in Hamming space with multi-index hashing"): the 64 bits of the lowest frequencies, which a copy hardly
changes, are cut into four words of 16 bits, and only pairs that agree in one of the words up to one bit are compared.
That finds all pairs whose low bits differ in at most 7 places, and most of those up to LOW_DISTANCE.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

HASH_DISTANCE = 64
"""Bits of 256 that two hashes may differ in."""
LOW_DISTANCE = 12
"""Bits that the 64 lowest frequencies may differ in. Of 112 near copies that the correlation confirms, 95 % differ in at
most 5 and all in at most 10; of pairs of unrelated pictures 0.1 % differ in less than 14."""
LIKENESS = 0.95
"""Correlation of the grey copies from which two pictures count as near copies."""
SAME_COLOURS = 0.5
"""Cosine between the colours of two pictures below which they are different things of one shape."""
COLOURLESS = 32.0
"""Length of a picture's colours (an average of 4 of 128 a point) below which it is grey and has none to compare."""
BRUTE = 600_000_000
"""Pairs up to which all are compared; about two seconds."""

_BLOCK = 512
_CROWD = 2000
_MOST = 2_000_000  # candidates held in memory at once
_VERIFY = 1024  # pairs verified at once: 64 x 64 numbers each
_DENSE = 0.05  # share of all pairs of some pictures from which multiplying all of them is cheaper than pair by pair

Hashes = NDArray[np.uint64]
Pairs = tuple[NDArray[np.int64], NDArray[np.int64]]


def words(hashes: Iterable[int]) -> Hashes:
    """256-bit integers as rows of four 64-bit words."""
    packed = b"".join(h.to_bytes(32, "big") for h in hashes)
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(-1, 4)


def low_bits(hashes: Hashes) -> Hashes:
    """The 8 x 8 lowest frequencies of 16 x 16, as one word a hash: the upper half of each of the first eight rows."""
    rows = hashes[:, :2].astype(">u8").view(">u2").reshape(-1, 8)
    octets = (rows >> 8).astype(np.uint8)
    return np.ascontiguousarray(octets).view(">u8").astype(np.uint64).ravel()


def close_pairs(
    hashes: Hashes, flips: Hashes, n_new: int | None = None, sets: NDArray[np.int64] | None = None
) -> Iterator[tuple[Pairs, bool]]:
    """Pairs (i < j, i among the first `n_new`) of close hashes, some at a time, and whether j is meant mirrored.

    sets: a number for each picture, -1 for none; two of one set are no pair.
    """
    n_new = len(hashes) if n_new is None else n_new
    if not n_new:
        return
    low, low_flips = low_bits(hashes), low_bits(flips)
    if sets is not None and (sets < 0).all():
        sets = None
    # Alike pictures crowd the index; where thousands of them are no pairs, comparing all at once drops them sooner.
    crowded = sets is not None and int(np.bincount(sets[sets >= 0]).max()) >= _CROWD
    for other, other_low, mirrored in ((hashes, low, False), (flips, low_flips, True)):
        search = _each if n_new * len(hashes) <= BRUTE or crowded else _indexed
        for i, j in search(low, other_low, n_new, sets):
            distance = np.bitwise_count(hashes[i] ^ other[j]).sum(axis=1, dtype=np.uint16)
            near = distance <= HASH_DISTANCE
            if near.any():
                yield (i[near], j[near]), mirrored


def _each(low: Hashes, other: Hashes, n_new: int, sets: NDArray[np.int64] | None) -> Iterator[Pairs]:
    for start in range(0, n_new, _BLOCK):
        stop = min(start + _BLOCK, n_new)
        near = np.bitwise_count(low[start:stop, None] ^ other[None, start:]) <= LOW_DISTANCE
        if sets is not None:
            near &= (sets[start:stop, None] < 0) | (sets[start:stop, None] != sets[None, start:])
        rows, columns = np.nonzero(near)
        later = rows < columns
        rows, columns = rows[later], columns[later]
        for first in range(0, len(rows), _MOST):
            yield rows[first : first + _MOST] + start, columns[first : first + _MOST] + start


def _indexed(low: Hashes, other: Hashes, n_new: int, sets: NDArray[np.int64] | None) -> Iterator[Pairs]:
    """Each pair once: it is told by the first of the four words in which it agrees."""
    mine = [((low >> np.uint64(16 * c)) & np.uint64(0xFFFF)).astype(np.int64) for c in range(4)]
    theirs = [((other >> np.uint64(16 * c)) & np.uint64(0xFFFF)).astype(np.int64) for c in range(4)]
    masks = np.array([0, *(1 << b for b in range(16))], dtype=np.int64)
    for c in range(4):
        order = np.argsort(theirs[c], kind="stable")
        counts = np.bincount(theirs[c], minlength=65536)
        starts = np.concatenate([[0], np.cumsum(counts)])
        for mask in masks:
            keys = mine[c][:n_new] ^ mask
            for first, last in _portions(counts[keys]):
                sizes = counts[keys[first:last]]
                i = np.repeat(np.arange(first, last), sizes)
                offset = np.repeat(
                    starts[keys[first:last]] - np.concatenate([[0], np.cumsum(sizes)[:-1]]), sizes
                )
                j = order[offset + np.arange(len(i))]
                keep = i < j
                if sets is not None:
                    keep &= (sets[i] < 0) | (sets[i] != sets[j])
                i, j = i[keep], j[keep]
                close = np.bitwise_count(low[i] ^ other[j]) <= LOW_DISTANCE
                i, j = i[close], j[close]
                for before in range(c):
                    fresh = np.bitwise_count((mine[before][i] ^ theirs[before][j]).astype(np.uint16)) > 1
                    i, j = i[fresh], j[fresh]
                if len(i):
                    yield i, j


def _portions(sizes: NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Ranges of queries whose candidates fit into memory together."""
    total = np.cumsum(sizes)
    first, done = 0, 0
    while first < len(sizes):
        last = int(np.searchsorted(total, done + _MOST, side="right"))
        last = max(last, first + 1)
        yield first, last
        first, done = last, int(total[last - 1])


# ---------------------------------------------------------------- verifying


class Copies:
    """The grey and the colour copies of pictures, by their number, ready for comparing."""

    def __init__(self, grey: Sequence[bytes], tint: Sequence[bytes]) -> None:
        self._grey = np.frombuffer(b"".join(grey), dtype=np.uint8).reshape(-1, 64, 64)
        tints = np.frombuffer(b"".join(tint), dtype=np.uint8).reshape(-1, 8, 8, 2)
        self._tint = tints.astype(np.float32) - 128
        self._length = np.linalg.norm(self._tint.reshape(len(tints), -1), axis=1)

    def likeness(self, i: NDArray[np.int64], j: NDArray[np.int64], mirrored: bool) -> NDArray[np.float32]:
        """Correlation of each pair, -1 to 1; 0 for pairs from LIKENESS on that differ in their colours."""
        found = np.zeros(len(i), np.float32)
        if not len(i):
            return found
        rows, at_row = np.unique(i, return_inverse=True)
        columns, at_column = np.unique(j, return_inverse=True)
        if len(rows) <= _VERIFY and len(i) > max(64, _DENSE * len(rows) * len(columns)):
            found = self._dense(rows, at_row, columns, at_column, mirrored)
        else:
            for start in range(0, len(i), _VERIFY):
                a, b = i[start : start + _VERIFY], j[start : start + _VERIFY]
                one, other = standard(self._grey[a]), standard(self._grey[b])
                if mirrored:
                    other = other[:, :, ::-1]
                found[start : start + _VERIFY] = np.einsum("nij,nij->n", one, other) / (64 * 64)
        close = np.nonzero(found >= LIKENESS)[0]  # colours decide among those only
        for start in range(0, len(close), _MOST // 8):
            some = close[start : start + _MOST // 8]
            found[some[~self.same_colours(i[some], j[some], mirrored)]] = 0
        return found

    def _dense(
        self,
        rows: NDArray[np.int64],
        at_row: NDArray[np.int64],
        columns: NDArray[np.int64],
        at_column: NDArray[np.int64],
        mirrored: bool,
    ) -> NDArray[np.float32]:
        """`likeness` of pairs that are many among few pictures: each picture is made comparable once."""
        found = np.zeros(len(at_row), np.float32)
        one = standard(self._grey[rows]).reshape(len(rows), -1)
        order = np.argsort(at_column, kind="stable")
        ends = np.searchsorted(at_column[order], np.arange(0, len(columns) + _VERIFY, _VERIFY))
        for start, first, last in zip(range(0, len(columns), _VERIFY), ends[:-1], ends[1:], strict=False):
            other = standard(self._grey[columns[start : start + _VERIFY]])
            if mirrored:
                other = other[:, :, ::-1]
            table = one @ other.reshape(len(other), -1).T
            some = order[first:last]
            found[some] = table[at_row[some], at_column[some] - start] / (64 * 64)
        return found

    def same_colours(
        self, i: NDArray[np.int64], j: NDArray[np.int64], mirrored: bool = False
    ) -> NDArray[np.bool_]:
        """False for one thing in two colours, such as a red and a blue shoe. A grey copy counts as the same."""
        one, other = self._tint[i], self._tint[j]
        if mirrored:
            other = other[:, :, ::-1]
        a, b = self._length[i], self._length[j]
        together = np.einsum("nijc,nijc->n", one, other)
        return np.asarray((np.minimum(a, b) < COLOURLESS) | (together >= SAME_COLOURS * a * b))


def standard(grey: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Grey copies with mean 0 and variance 1, so that the mean of a product is the correlation; plain ones are 0."""
    values = grey.astype(np.float32)
    values -= values.mean(axis=(-2, -1), keepdims=True)
    spread = values.std(axis=(-2, -1), keepdims=True)
    return np.where(spread > 1e-3, values / np.maximum(spread, 1e-3), 0).astype(np.float32)
