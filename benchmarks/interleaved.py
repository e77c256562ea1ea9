"""Figures of two sides that take turns: ratios of neighbours, so that a computer that grows slower or busier meets both."""

from __future__ import annotations

import random
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Ratio:
    """Median of the ratios, and the interval that holds it in 95 of 100 resamplings (percentile bootstrap)."""

    median: float
    low: float
    high: float
    count: int

    def as_dict(self) -> dict[str, float]:
        return {k: round(v, 5) for k, v in vars(self).items()}

    @property
    def words(self) -> str:
        """Such as "+0.3 % (95 of 100: -0.4 % to +1.1 %, 24 pairs)"."""
        return f"{self.median - 1:+.2%} (95 of 100: {self.low - 1:+.2%} to {self.high - 1:+.2%}, {self.count} pairs)"


def ratio(pairs: Sequence[tuple[float, float]], resamplings: int = 2000) -> Ratio:
    """first / second of each pair, summed up. pairs: at least one; the seed is fixed, so that the same pairs say the same."""
    each = [a / b for a, b in pairs]
    chance = random.Random(20_26)
    medians = sorted(statistics.median(chance.choices(each, k=len(each))) for _ in range(resamplings))
    low, high = medians[round(0.025 * (resamplings - 1))], medians[round(0.975 * (resamplings - 1))]
    return Ratio(statistics.median(each), low, high, len(each))


def abba(blocks: int, first: str, second: str) -> Iterator[str]:
    """first, second, second, first; and so on: whatever drifts evenly falls out of each block."""
    for _ in range(blocks):
        yield from (first, second, second, first)
