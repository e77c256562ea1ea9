"""Distances and directions between sets of feature vectors: what the measurements of a grid are made of. Plain arithmetic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FAULT_NAMES = ("black", "white", "flatness", "contrast", "saturation", "sharpness")
"""Levels of a picture that can lie outside of what is usual, each 0..1."""
_ONE_SIDED = [0, 1, 2]
"""Less clipping and less flatness are no faults; too little contrast, colour or sharpness are."""
MIN_SEPARATION = 1.5
"""Base and training set count as different when their means lie this many times further apart than chance would put the means
of two samples of one set."""
_TINY = 1e-9


def unit(rows: Floats) -> Floats:
    """Rows scaled to length 1; zero rows stay zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, _TINY))


def pooled_deviation(*groups: Floats) -> Floats:
    """Pooled standard deviation of each column within the groups."""
    squares = np.sum([((g - g.mean(axis=0)) ** 2).sum(axis=0) for g in groups], axis=0)
    return np.asarray(np.sqrt(squares / max(1, sum(len(g) - 1 for g in groups))))


@dataclass(frozen=True)
class Axis:
    """The way from the base pictures to the training set in a feature space.

    spread: scale of each column; direction: unit vector; length: distance between the two means in that scale;
    separable: whether that distance stands out against the spread of single pictures.
    """

    spread: Floats
    direction: Floats
    length: float
    separable: bool

    @classmethod
    def between(cls, base: Floats, train: Floats) -> Axis:
        """From the mean of `base` to the mean of `train` (rows are pictures)."""
        deviation = pooled_deviation(base, train)
        # No column counts more than the middle one: where a few pictures hardly differ, chance would decide.
        spread = np.maximum(deviation, max(float(np.median(deviation)), _TINY))
        gap = (train.mean(axis=0) - base.mean(axis=0)) / spread
        length = float(np.linalg.norm(gap))
        # Expected length of the gap if both were drawn from one set.
        noise = float(np.linalg.norm(deviation / spread) * np.sqrt(1 / len(base) + 1 / len(train)))
        return cls(
            spread, gap / max(length, _TINY), length, length > MIN_SEPARATION * noise and length > _TINY
        )

    def along(self, moved: Floats) -> Floats:
        """How much of the way each row of differences goes: 1 is from base mean to training mean."""
        return (moved / self.spread) @ self.direction / max(self.length, _TINY)

    def far(self, moved: Floats) -> Floats:
        """How long each row of differences is, in units of the way."""
        return np.asarray(np.linalg.norm(moved / self.spread, axis=-1) / max(self.length, _TINY))


def kept(cells: Floats, base: Floats) -> Floats:
    """Per prompt (rows): cosine of cell and base vectors after the mean over prompts is taken away; all nan below three
    rows. Shrinking differences count as loss: the cosine is scaled by the ratio of lengths when that is below 1."""
    if len(cells) < 3:
        return np.full(len(cells), np.nan)
    c = unit(cells) - unit(cells).mean(axis=0)
    b = unit(base) - unit(base).mean(axis=0)
    c_len, b_len = np.linalg.norm(c, axis=1), np.linalg.norm(b, axis=1)
    cosine = np.sum(c * b, axis=1) / np.maximum(c_len * b_len, _TINY)
    shrink = np.minimum(1.0, c_len / np.maximum(b_len, _TINY))
    return np.asarray(np.clip(cosine * shrink, -1, 1))


def fault_excess(faults: Floats, reference: Floats) -> Floats:
    """Per row and level, 0..1: how far a level lies outside of everything that the reference pictures show. Half of the
    remaining room beyond the reference's range counts as 1. Negative where it lies below (too dull, too soft)."""
    low, high = reference.min(axis=0), reference.max(axis=0)
    margin = 0.02
    above = np.clip((faults - high - margin) / np.maximum((1 - high) * 0.5, 0.1), 0, 1)
    below = np.clip((low - margin - faults) / np.maximum(low * 0.5, 0.1), 0, 1)
    below[:, _ONE_SIDED] = 0
    return np.asarray(np.where(above >= below, above, -below))


def fault_score(faults: Floats, reference: Floats) -> Floats:
    """Per row, 0..1: the worst of `fault_excess`."""
    return np.asarray(np.abs(fault_excess(faults, reference)).max(axis=1))


def nearest(cells: Floats, train: Floats, groups: int) -> tuple[NDArray[np.intp], Floats]:
    """For each cell the nearest training picture and the cosine to it. `train` holds `groups` pictures, and may hold
    their mirror images after them (rows groups..2*groups-1), which count as the same picture."""
    if not len(train):
        return np.full(len(cells), -1), np.full(len(cells), np.nan)
    similarity = unit(cells) @ unit(train).T
    best = similarity.argmax(axis=1)
    return best % max(groups, 1), similarity[np.arange(len(cells)), best]


_SAME = 0.985
"""Cosine from which two training pictures count as copies of each other, which say nothing about how alike different ones are."""


def copy_limit(train: Floats, everything: Floats) -> float | None:
    """The cosine above which a picture is nearer to a training picture than different training pictures are to each other.
    everything: the same with mirror images after them. None below three pictures."""
    if len(train) < 3:
        return None
    similarity = unit(train) @ unit(everything).T
    own = np.arange(len(train))
    for start in range(0, similarity.shape[1], len(train)):
        similarity[own, start + own] = -1.0  # itself, and its mirror image
    different = similarity[similarity < _SAME]
    return float(different.max()) if len(different) else None


def diversity(content: Floats, cells: Sequence[Sequence[int]], base: Sequence[Sequence[int]]) -> float | None:
    """Mean distance between the seeds of a prompt as a share of the base's. cells, base: rows, one list a prompt. None when no
    prompt has two seeds, or the base's do not differ."""

    def spread(groups: Sequence[Sequence[int]]) -> float | None:
        found = []
        for group in groups:
            if len(group) > 1:
                similarity = unit(content[list(group)]) @ unit(content[list(group)]).T
                found.append(float(1 - similarity[np.triu_indices(len(group), 1)].mean()))
        return float(np.mean(found)) if found else None

    mine, without = spread(cells), spread(base)
    return None if mine is None or not without or without < 1e-6 else rounded(mine / without)


def rounded(value: float | None) -> float | None:
    """A number as it is stored: four digits; None for what is no finite number."""
    number = float("nan") if value is None else float(value)
    return round(number, 4) if np.isfinite(number) else None
