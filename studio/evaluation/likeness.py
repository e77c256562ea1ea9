"""What CLIP, DINO and CCIP say about a grid: arithmetic on unit vectors, no pictures and no models in here.

What each figure means and cannot see is in `studio.evaluation.measures`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from studio.evaluation.ways import copy_limit, nearest

Vectors = NDArray[np.floating]

CCIP_SAME = 0.17847511429108218
"""Difference up to which CCIP's makers count two pictures as the same character (metrics.json of
ccip-caformer-24-randaug-pruned, the threshold of the best F1)."""


@dataclass(frozen=True)
class Seen:
    """What one model saw: vectors of length 1, cells n × d in the order of the grid's pictures; train: the training pictures,
    then their mirror images; prompts: one a picture, for CLIP only. base: the row of each picture's base cell, -1 without."""

    cells: Vectors
    train: Vectors | None = None
    prompts: Vectors | None = None
    base: NDArray[np.intp] | None = None


def adherence(seen: Seen) -> list[float | None]:
    """Cosine of each picture and its prompt."""
    if seen.prompts is None:
        return [None] * len(seen.cells)
    return [float(v) for v in np.sum(seen.cells * seen.prompts, axis=1)]


def likeness(seen: Seen) -> list[float | None]:
    """Mean cosine of each picture to the training pictures; their mirror images do not count twice."""
    if seen.train is None or not len(seen.train):
        return [None] * len(seen.cells)
    train = seen.train[: len(seen.train) // 2]
    return [float(v) for v in (seen.cells @ train.T).mean(axis=1)]


def copied(seen: Seen) -> list[bool | None]:
    """Whether each picture lies nearer to a training picture, or its mirror image, than those lie to each other, and nearer
    than its base cell does."""
    if seen.train is None or seen.base is None:
        return [None] * len(seen.cells)
    count = len(seen.train) // 2
    limit = copy_limit(np.asarray(seen.train[:count], np.float64), np.asarray(seen.train, np.float64))
    if limit is None:
        return [None] * len(seen.cells)
    _at, similar = nearest(np.asarray(seen.cells, np.float64), np.asarray(seen.train, np.float64), count)
    found: list[bool | None] = []
    for i, b in enumerate(seen.base):
        own = float(similar[b]) if b >= 0 else 1.0
        found.append(None if b < 0 else bool(i != b and similar[i] > max(limit, own)))
    return found


def same_character(seen: Seen) -> list[float | None]:
    """Share of the training pictures that show the same character as each picture, by CCIP's own threshold."""
    if seen.train is None or not len(seen.train):
        return [None] * len(seen.cells)
    train = seen.train[: len(seen.train) // 2]
    difference = np.clip((1 - seen.cells @ train.T) / 2, 0, 1)
    return [float(v) for v in (difference <= CCIP_SAME).mean(axis=1)]


def figures(role: str, seen: Seen) -> dict[str, Sequence[float | bool | None]]:
    """The measures of a model, each with one figure a picture, by their names in `metrics.json`."""
    if role == "clip":
        return {"clip_text": adherence(seen), "clip_image": likeness(seen)}
    if role == "dino":
        return {"dino": likeness(seen), "dino_copies": copied(seen)}
    return {"ccip": same_character(seen)}
