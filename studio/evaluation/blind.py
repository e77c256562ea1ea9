"""Blind comparison of two columns of a grid: same prompt and seed, sides hidden, counted with an interval.

Wilson's score interval (1927) is right for few judgements, where the usual one is not (Brown, Cai, DasGupta 2001). Ties are left out
of the share. Sides change from pair to pair by a hash, so that a reload shows the same sides and nobody can learn them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock

from studio import files
from studio.errors import InputError
from studio.evaluation.spec import Cell

Column = tuple[str, float]
"""Checkpoint and weight."""
Answer = Literal["left", "right", "alike"]
Z95 = 1.959964
"""Standard deviations of a 95% interval."""


def wilson(wins: int, total: int, z: float = Z95) -> tuple[float, float]:
    """The 95% interval of a share: 8 of 8 gives 0.68 to 1; (0, 1) when nothing was judged."""
    if total <= 0:
        return 0.0, 1.0
    share, square = wins / total, z * z
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = z * math.sqrt(share * (1 - share) / total + square / (4 * total * total)) / (1 + square / total)
    return max(0.0, middle - half), min(1.0, middle + half)


def chance(wins: int, total: int) -> float:
    """How likely a result at least as lopsided is when both are alike (two-sided sign test); 1 when nothing was judged."""
    if total <= 0:
        return 1.0
    far = max(wins, total - wins)
    tail: int = sum(math.comb(total, k) for k in range(far, total + 1))
    return min(1.0, float(2 * tail / 2**total))


@dataclass(frozen=True)
class Pair:
    """Two pictures to judge. left, right: cells, sides hidden from the person; swapped: whether the second column is left."""

    key: str
    left: Cell
    right: Cell
    swapped: bool


@dataclass(frozen=True)
class Standing:
    """How a comparison stands. low, high: 95% interval of the first column's share; chance: of this when both are alike."""

    first: int
    second: int
    alike: int
    left: int
    low: float
    high: float
    chance: float

    @property
    def judged(self) -> int:
        return self.first + self.second + self.alike

    @property
    def decided(self) -> bool:
        """Whether the interval leaves out one half."""
        return self.low > 0.5 or self.high < 0.5


class BlindTest:
    """A comparison of two columns, kept in a grid's `blind.json`; each answer is on the disk before the call returns."""

    def __init__(self, folder: Path, first: Column, second: Column) -> None:
        if first == second:
            raise InputError(
                "A blind test needs two different columns.",
                "Both are the same.",
                "Choose another checkpoint or weight.",
            )
        self.path, self.first, self.second = folder / "blind.json", first, second
        self.name = files.fingerprint([list(first), list(second)])

    def pairs(self, cells: Sequence[Cell]) -> list[Pair]:
        """Every prompt and seed that both columns have, in an order that mixes prompts."""
        placed = {(c.checkpoint, c.weight, c.prompt.id, c.seed): c for c in cells if c.path is not None}
        found = []
        for place in dict.fromkeys((c.prompt.id, c.seed) for c in cells):
            one, two = (placed.get((*column, *place)) for column in (self.first, self.second))
            if one is None or two is None or one.hash == two.hash:
                continue
            key = files.fingerprint([one.hash, two.hash])
            swapped = bool(hashlib.sha256(f"{self.name} {key}".encode()).digest()[0] & 1)
            found.append(Pair(key, two if swapped else one, one if swapped else two, swapped))
        return sorted(found, key=lambda p: hashlib.sha256(f"order {p.key}".encode()).digest())

    def answers(self) -> dict[str, str]:
        """Pair -> first, second or alike."""
        raw = files.read_json(self.path)
        test = raw.get(self.name) if isinstance(raw, dict) else None
        told = test.get("answers") if isinstance(test, dict) else None
        return {str(k): str(v) for k, v in told.items()} if isinstance(told, dict) else {}

    def next(self, cells: Sequence[Cell]) -> Pair | None:
        """The first pair that was not judged; None when all were."""
        done = self.answers()
        return next((p for p in self.pairs(cells) if p.key not in done), None)

    def judge(self, pair: Pair, answer: Answer) -> None:
        """Store an answer. Raises InputError for another word."""
        if answer not in ("left", "right", "alike"):
            raise InputError(
                f"'{answer}' is no answer.", "Two pictures are compared.", "Use left, right or alike."
            )
        won = "alike" if answer == "alike" else "second" if (answer == "left") == pair.swapped else "first"
        with FileLock(self.path.with_name(".blind.lock"), timeout=10):
            raw: dict[str, Any] = files.read_json(self.path) or {}
            test = raw.setdefault(
                self.name, {"first": list(self.first), "second": list(self.second), "answers": {}}
            )
            test["answers"][pair.key] = won
            files.write_json(self.path, raw)

    def forget(self) -> None:
        """Begin this comparison anew."""
        with FileLock(self.path.with_name(".blind.lock"), timeout=10):
            raw: dict[str, Any] = files.read_json(self.path) or {}
            raw.pop(self.name, None)
            files.write_json(self.path, raw)

    def standing(self, cells: Sequence[Cell]) -> Standing:
        """The count so far."""
        known = {p.key for p in self.pairs(cells)}
        told = [v for k, v in self.answers().items() if k in known]
        one, two, alike = (told.count(w) for w in ("first", "second", "alike"))
        low, high = wilson(one, one + two)
        return Standing(one, two, alike, len(known) - len(told), low, high, chance(one, one + two))


def standing_words(standing: Standing, first: str, second: str) -> str:
    """A comparison in one sentence."""
    total = standing.first + standing.second
    if not total:
        return "Nothing is decided yet."
    count = f"{first} was chosen in {standing.first} of {total} {'pair' if total == 1 else 'pairs'}"
    if not standing.decided:
        return f"{count}: no clear winner yet."
    return f"{count}: {first if standing.low > 0.5 else second} is better."


def doubt_words(standing: Standing, first: str) -> str:
    """How much a comparison says, for people without statistics; "" when nothing was decided."""
    total = standing.first + standing.second
    if not total:
        return ""
    rare = "less than 1%" if standing.chance < 0.01 else f"{standing.chance:.0%}"
    return (
        f"With {total} {'pair' if total == 1 else 'pairs'}, all that is known is that {first} would be chosen in {standing.low:.0%} to "
        f"{standing.high:.0%} of many more (95% interval: such a range is right 19 times out of 20). If there were no difference, "
        f"chance alone would give a result as clear as this {rare} of the time."
    )
