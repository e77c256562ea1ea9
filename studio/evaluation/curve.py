"""One checkpoint's measurements over its weights, the thresholds that give them names, and the best weight among them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

# Calibrated on LoRAs of the built-in base model trained too little, right and too much (three styles, an object, a character),
# by looking at the sheets; tests/evaluation/curves.json holds what they measured and what the eye said. They order the
# columns of one grid; they are no grades.
BARELY, CLEARLY, STRONG = 0.12, 0.35, 0.75
"""Nearness below which what was taught is barely visible, from which it is clearly there, and strong."""
CLEAR, SOFT, LOST = 0.5, 0.4, 0.2
"""Kept from which subjects are clear, from which they soften, and below which they are lost."""
FLOODED = 0.47
"""Kept below which the lowest weight drawn is no way out, when all of the effect is there already."""
ENOUGH = 0.85
"""Nearness from which no checkpoint needs more."""
FAULTY = 0.35
"""Fault level from which a picture looks damaged."""
LEAKY = 0.5
"""Share of the effect that also comes without the trigger word, from which it is worth saying."""
NEAR_BEST = 0.8
"""Weights whose score is at least this share of the best one make up the range."""
STEP = 0.05
"""Weights between the drawn ones are judged by interpolation at this step."""


@dataclass(frozen=True)
class Curve:
    """One checkpoint's measurements over its weights above 0.

    best_reach: the highest nearness that any checkpoint of the grid reaches; its own when None.
    """

    checkpoint: str
    rows: list[dict[str, Any]]
    best_reach: float | None = None

    @property
    def weights(self) -> list[float]:
        return [float(r["weight"]) for r in self.rows]

    def at(self, key: str, weight: float) -> float:
        """The value at a weight, straight lines between the drawn ones."""
        pairs = [(w, r[key]) for w, r in zip(self.weights, self.rows, strict=True) if r[key] is not None]
        return (
            float(np.interp(weight, [p[0] for p in pairs], [p[1] for p in pairs])) if pairs else float("nan")
        )

    @property
    def reach(self) -> float:
        """The highest nearness of its weights; nan when none was measured."""
        return max((float(r["nearness"]) for r in self.rows if r["nearness"] is not None), default=np.nan)

    @property
    def enough(self) -> float:
        """Nearness from which more weight adds nothing worth a risk: 90% of what the best checkpoint of the grid reaches, at
        least a little more than clearly there, at most ENOUGH."""
        reach = self.reach if self.best_reach is None else self.best_reach
        return min(max(CLEARLY * 1.2, 0.9 * reach), ENOUGH) if np.isfinite(reach) else ENOUGH

    def score(self, weight: float) -> float:
        """0..1: what was taught is there, and the picture is whole."""
        presence = _ramp(self.at("nearness", weight), BARELY * 0.5, self.enough)
        health = _ramp(self.at("kept", weight), LOST, CLEAR)
        clean = 1 - _ramp(self.at("fault", weight), FAULTY * 0.5, FAULTY * 2)
        return presence * health * clean


def _ramp(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0, 1))


def best_weight(curve: Curve) -> tuple[float, float]:
    """The best weight and its score: the middle of all weights within 2% of the best score."""
    weights = candidates(curve)
    scores = [curve.score(w) for w in weights]
    top = max(scores)
    good = [w for w, s in zip(weights, scores, strict=True) if s >= top * 0.98]
    middle = good[len(good) // 2]
    return middle, curve.score(middle)


def nearest_drawn(weights: Iterable[float], weight: float) -> float:
    """The one of some weights that lies nearest; of two that are as near the lower one, which damages less."""
    return min(weights, key=lambda w: (round(abs(w - weight), 6), w))


def candidates(curve: Curve) -> list[float]:
    """The drawn weights and those between them at every STEP, lowest first."""
    low, high = curve.weights[0], curve.weights[-1]
    inner = [round(i * STEP, 2) for i in range(int(low / STEP), int(high / STEP) + 2)]
    return sorted({low, high, *(w for w in inner if low < w < high)})


def good_range(curve: Curve, weight: float) -> tuple[float, float]:
    """The weights around `weight` that score at least NEAR_BEST of what it scores: lowest and highest."""
    weights, limit = candidates(curve), curve.score(weight) * NEAR_BEST
    at = min(range(len(weights)), key=lambda i: abs(weights[i] - weight))
    low = high = at
    while low > 0 and curve.score(weights[low - 1]) >= limit:
        low -= 1
    while high < len(weights) - 1 and curve.score(weights[high + 1]) >= limit:
        high += 1
    return weights[low], weights[high]
