"""How fast work goes on, and what that says about the rest of it. The studio's one way to tell the time left.

The computer does other things as well: its load rises or falls in the middle and stays so, or it stands still for a moment.
The first is a new pace, and soon the only one that counts; the second is none. What tells them apart is how long it lasts:
a pace is believed to be another one when several stretches of time in a row all say so.

Standard library only, since any Python that trains uses it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

STRETCH_S = (0.5, 5.0)
"""Seconds of a stretch that is timed as one: a fortieth of all so far, within these bounds; and one item at least."""
MEMORY_S = (4.0, 45.0)
"""Seconds after which a stretch counts for a third: a quarter of all so far within these bounds, and a twelfth at least."""
IN_A_ROW = 6
"""So many stretches make another pace, when each differs from the usual by a sixth and the middle one by a quarter."""
_EACH, _MIDDLE = 7 / 6, 5 / 4
_NEIGHBOURS = 4
_ODD = 3.0
"""A stretch so many times slower or faster than the middle of its neighbours counts as if it were only that far off."""
_REMEMBERED = 10
"""So many stretches are remembered however long one takes, such as a description that takes a minute."""
_UNSTEADY = 1.4
"""The pace of a moment and that of a long while so many times apart: then a range is told."""
_KEPT = 256


@dataclass(frozen=True)
class Per:
    """Seconds that one unit of work takes: most likely, and between which two while the pace is not steady."""

    likely: float
    least: float
    most: float

    @property
    def steady(self) -> bool:
        """Whether one figure says it."""
        return self.most <= _UNSTEADY * self.least


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A stretch of time: when it ended, the seconds it took, what was done in it."""

    ended: float
    took: float
    work: float

    @property
    def per(self) -> float:
        return self.took / self.work


@dataclass
class Pace:
    """The pace of one kind of work. Only ever told of a clock that cannot be set, in seconds."""

    _began: tuple[float, float] | None = None
    _newest: tuple[float, float] = (0.0, 0.0)
    _opened: tuple[float, float] = (0.0, 0.0)
    _stretches: deque[_Stretch] = field(default_factory=lambda: deque(maxlen=_KEPT))
    _since: int = 0  # so many of the newest stretches are of the pace of now
    _per: Per | None = None
    _what: tuple[str, float | None] = ("", None)

    def tell(self, at: float, done: float) -> None:
        """So much is done at this time, in any unit. Less than before means that it began anew."""
        if self._began is None or done < self._newest[1]:
            self._stretches.clear()
            self._since, self._per = 0, None
            self._began = self._newest = self._opened = (at, done)
            return
        if done == self._newest[1]:
            return  # still at the same piece
        self._newest = (at, done)
        long = min(max((at - self._began[0]) / 40, STRETCH_S[0]), STRETCH_S[1])
        if at - self._opened[0] >= long:
            self._stretches.append(_Stretch(at, at - self._opened[0], done - self._opened[1]))
            self._since = min(self._since + 1, _KEPT)
            self._opened, self._per = (at, done), None
            if self._changed():
                self._since = IN_A_ROW

    def _changed(self) -> bool:
        """Whether the last few stretches are of another pace than those before."""
        if self._since < IN_A_ROW + 3:
            return False
        known = [s.per for s in list(self._stretches)[-min(self._since, IN_A_ROW + 30) :]]
        usual, late = median(known[:-IN_A_ROW]), known[-IN_A_ROW:]
        slower = min(late) > _EACH * usual and median(late) > _MIDDLE * usual
        return slower or (max(late) * _EACH < usual and median(late) * _MIDDLE < usual)

    @property
    def took(self) -> float:
        """Seconds from the first word to the last one that told of progress."""
        return self._newest[0] - self._began[0] if self._began else 0.0

    @property
    def work(self) -> float:
        """How much was done in that time."""
        return self._newest[1] - self._began[1] if self._began else 0.0

    def per(self) -> Per | None:
        """Seconds that a unit of work takes now; None before two different words."""
        if self.work <= 0 or self.took <= 0:
            return None
        whole = self.took / self.work
        if len(self._stretches) < 3:
            return Per(whole, whole, whole)
        if self._per is None:
            every = _evened(list(self._stretches))
            now = _evened(list(self._stretches)[-self._since :])
            far = max(MEMORY_S[1], self.took / 12, _REMEMBERED * median(s.took for s in every))
            memory = min(max(self.took / 4, MEMORY_S[0]), far)
            likely, short, long = _weighed(now, memory), _weighed(now, 0.35 * memory), _weighed(every, memory)
            self._per = Per(likely, min(likely, short, long), max(likely, short, long))
        return self._per

    def eta(self, at: float, done: float, total: float | None, unit: str) -> float | None:
        """Seconds left at this time, or None before two points. A new unit, total or a step back starts over."""
        if self._what != (unit, total):
            self._began, self._what = None, (unit, total)
        self.tell(at, done)
        per = self.per()
        if total is None or per is None:
            return None
        # Time spent in the piece at hand is taken off, until it is longer than a piece takes.
        return max(0.0, (total - done) * per.likely - min(at - self._newest[0], per.likely))

    def span(self, left: float) -> tuple[float, float] | None:
        """Between which two the time left lies, given its likely value, while the pace is not steady; else None."""
        per = self.per()
        if per is None or per.steady or not math.isfinite(left):
            return None
        return left * per.least / per.likely, left * per.most / per.likely


def _evened(stretches: Sequence[_Stretch]) -> list[_Stretch]:
    """With what is odd about single ones taken out: a moment of something else, a run of tiny pieces."""
    found = []
    for n, s in enumerate(stretches):
        usual = median(o.per for o in stretches[max(0, n - _NEIGHBOURS) : n + _NEIGHBOURS + 1])
        found.append(
            _Stretch(s.ended, min(s.took, _ODD * usual * s.work), min(s.work, s.took * _ODD / usual))
        )
    return found


def _weighed(stretches: Sequence[_Stretch], memory: float) -> float:
    """Seconds a unit, the last stretches counting most."""
    time = work = 0.0
    for s in stretches:
        weight = math.exp((s.ended - stretches[-1].ended) / memory)
        time += weight * s.took
        work += weight * s.work
    return time / work
