"""How varied a set is, and which pictures show nearly the same."""

from __future__ import annotations

import heapq
from collections import deque
from dataclasses import dataclass

import numpy as np

from studio.dataset.features import Features, Floats

_BLOCK = 1024
_LONG = 300  # pictures like one, whose numbers are remembered
_SAMPLE = 4000
"""Pictures beyond which variety is measured on as many, evenly picked."""


@dataclass(frozen=True)
class Cluster:
    """Pictures that show nearly the same.

    names:    the one most like the others first.
    likeness: of the others to the first one, in the mean; 1 for a single picture.
    """

    names: tuple[str, ...]
    likeness: float


def clusters(features: Features, at_least: float | None = None) -> list[Cluster]:
    """Every picture in exactly one cluster, the largest cluster first.

    The picture with most others at least `at_least` like it takes them, then the next one: so each member is like the
    first one directly, and a chain of small changes makes no cluster of pictures that are unlike.
    """
    limit = features.too_alike if at_least is None else at_least
    for known, with_limit, answer in _answers:
        if known is features and with_limit == limit:
            return list(answer)
    answer = _clusters(features, limit)
    _answers.append((features, limit, answer))
    return list(answer)


_answers: deque[tuple[Features, float, list[Cluster]]] = deque(maxlen=4)
"""The last answers: a page asks again at each rerun, of the same features."""


def _clusters(features: Features, limit: float) -> list[Cluster]:
    rows, n = features.rows, len(features)
    alike: list[np.ndarray | None] = []
    sizes = np.zeros(n, np.int64)
    for start in range(0, n, _BLOCK):
        near = rows[start : start + _BLOCK] @ rows.T >= limit
        sizes[start : start + _BLOCK] = near.sum(axis=1)
        # Long lists are made again when they are needed: of ten thousand alike pictures they would be a gigabyte.
        alike += [
            np.nonzero(row)[0] if size <= _LONG else None
            for row, size in zip(near, sizes[start:], strict=False)
        ]
    free = np.ones(n, bool)
    found = []
    # Sizes only shrink as members are taken, so a stale one is counted again before it wins (lazy greedy).
    order = np.argsort(-sizes, kind="stable").tolist()
    queue = [(-int(sizes[i]), i) for i in order]

    heapq.heapify(queue)
    while queue:
        size, i = heapq.heappop(queue)
        if not free[i]:
            continue
        listed = alike[i]
        if listed is None:
            listed = np.nonzero(rows @ rows[i] >= limit)[0]
        members = listed[free[listed]]
        now = -max(1, len(members))
        if now > size:
            heapq.heappush(queue, (now, i))
            continue
        others = members[members != i]
        free[others] = False
        free[i] = False
        likeness = rows[others] @ rows[i]
        best = others[np.argsort(-likeness, kind="stable")]
        found.append(
            Cluster(
                (features.names[i], *(features.names[j] for j in best)),
                float(likeness.mean()) if len(others) else 1.0,
            )
        )
    return sorted(found, key=lambda c: (-len(c.names), c.names[0]))


def effective_number(rows: Floats) -> float:
    """How many completely different pictures the set is worth: 1 (all the same) to n.

    The Vendi score (Friedman and Dieng 2022, arXiv 2210.02410) with the likeness as its kernel. It is biased for few
    pictures, so it compares only sets of about the same size; noise counts as different, too.
    """
    n = len(rows)
    if n == 0:
        return 0.0
    if n > _SAMPLE:
        rows = rows[np.linspace(0, n - 1, _SAMPLE).round().astype(int)]
    wide = rows.shape[1] > len(rows)
    product = (rows @ rows.T if wide else rows.T @ rows).astype(np.float64) / len(rows)
    values = np.linalg.eigvalsh(product)
    values = values[values > 1e-12]
    values /= values.sum()
    score = float(np.exp(-(values * np.log(values)).sum()))
    return min(float(n), score * n / len(rows))
