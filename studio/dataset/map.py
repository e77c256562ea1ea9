"""A map of pictures: neighbours look alike."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence

import numpy as np

from studio.dataset.features import Features


def picture_map(features: Features, names: Sequence[str], columns: int) -> dict[str, tuple[int, int]]:
    """A place (column, row) of a raster for each of `names`, none twice.

    The two directions in which the pictures differ most (principal components) give the order: down by the second,
    across each row by the first. So nothing overlaps, and pictures that look alike lie near each other.
    """
    for known, asked, answer in _answers:
        if known is features and asked == (tuple(names), columns):
            return dict(answer)
    found = _picture_map(features, names, columns)
    _answers.append((features, (tuple(names), columns), found))
    return dict(found)


_answers: deque[tuple[Features, tuple[tuple[str, ...], int], dict[str, tuple[int, int]]]] = deque(maxlen=4)
"""The last maps: a page asks again at each rerun, of the same features."""


def _picture_map(features: Features, names: Sequence[str], columns: int) -> dict[str, tuple[int, int]]:
    number = {n: i for i, n in enumerate(features.names)}
    chosen = [n for n in names if n in number]
    if not chosen:
        return {}
    rows = features.rows[[number[n] for n in chosen]].astype(np.float64)
    rows -= rows.mean(axis=0)
    _, _, axes = np.linalg.svd(rows, full_matrices=False)
    # The sign of a component is arbitrary; fixed, so that the map is the same the next time.
    axes = axes[:2] * np.where(axes[:2].sum(axis=1, keepdims=True) < 0, -1, 1)
    spots = rows @ axes.T
    if spots.shape[1] < 2:
        spots = np.concatenate([spots, np.zeros((len(rows), 1))], axis=1)
    down = np.argsort(spots[:, 1], kind="stable")
    found = {}
    for row in range(math.ceil(len(chosen) / columns)):
        part = down[row * columns : (row + 1) * columns]
        for column, i in enumerate(part[np.argsort(spots[part, 0], kind="stable")]):
            found[chosen[i]] = (column, row)
    return found
