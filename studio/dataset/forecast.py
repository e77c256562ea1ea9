"""How long a job of several steps will still take: one figure for all of it, from its first step on.

Each step is announced with what it costs on a reference machine. What the steps so far really took tells how much
slower this machine is, now and with these pictures; the later steps are expected to be slower by as much. The step at
work is judged by its own pace (`studio.jobs.pace`) as soon as there is one, and how that changes goes for the later ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import TYPE_CHECKING

from studio.jobs.pace import Pace

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker

Progress = Callable[[int, int, str], None]

LOOK_S, TAKE_IN_S, CHANGE_S, READ_S, DEEP_S = 0.007, 0.009, 0.05, 0.3, 0.06
"""Seconds a picture takes to be looked at, imported (and looked at), changed, read for writing, looked at with a network:
1 MP JPEGs, two cores."""
KNOWN_S = 0.0002
"""Seconds a known picture takes when the dataset is listed and its captions are read."""
_EQUAL_BYTES = 1_200_000
"""Bytes of a file that take as long as a picture takes apart from its size."""
_ONLY_READ = 0.08
"""Share of the time of taking a picture in that finding out takes that it is there already."""
_OWN_PACE_S = 2.0
"""Seconds from which on a step is judged by its own pace."""


def weight(size: int) -> float:
    """How many small pictures' time a file of so many bytes takes."""
    return 1 + size / _EQUAL_BYTES


def weights(sizes: Iterable[int], known: Collection[int] = ()) -> list[float]:
    """`weight` of several files. known: sizes of pictures that are there already; a file of one of these sizes is most
    likely the same picture, and then it is only read."""
    return [weight(s) * (_ONLY_READ if s in known else 1.0) for s in sizes]


def comparing(new: float, known: float) -> float:
    """Seconds of comparing new pictures with one another and with those known, on the reference machine."""
    return 1e-4 * new + 1.5e-8 * new * (new + known)


@dataclass
class _Step:
    """cost: in seconds of the reference machine.   done: 0 to 1.   began, ended: by the clock."""

    cost: Callable[[], float]
    done: float = 0.0
    began: float | None = None
    ended: float | None = None
    pace: Pace = field(default_factory=Pace)

    @property
    def trend(self) -> float:
        """How many times slower than on the whole it went lately."""
        per = self.pace.per()
        if per is None or self.pace.took < _OWN_PACE_S:
            return 1.0
        return per.likely * self.pace.work / self.pace.took


class Forecast:
    """The steps of one job. clock: seconds, never set back."""

    def __init__(self, worker: Worker, clock: Callable[[], float] = time.monotonic) -> None:
        self._worker, self._clock = worker, clock
        self._steps: dict[str, _Step] = {}
        self._at = ""

    def expect(self, step: str, seconds: float | Callable[[], float]) -> None:
        """Announce a step, or say anew what it will cost; in the order in which they will run."""
        cost = seconds if callable(seconds) else lambda fixed=float(seconds): fixed
        have = self._steps.get(step)
        if have is None or (have.began is not None and step != self._at):
            self._steps[step] = _Step(cost)
        else:
            have.cost = cost

    def teller(self, step: str, weights: Sequence[float] = ()) -> Progress:
        """What a step tells its progress to: (done, total, message) in pictures.

        weights: of the files in the order in which they are done, where that order is not a random one.
        """
        ends = list(accumulate(weights))

        def tell(done: int, total: int, message: str) -> None:
            share = (
                ends[done - 1] / ends[-1]
                if 0 < done <= len(ends) == total
                else done / total
                if total
                else 1.0
            )
            left, between = self.told(step, share)
            self._worker.progress(
                done, total, "pictures", message, eta_seconds=round(left, 1), eta_between=between
            )

        return tell

    def told(self, step: str, share: float) -> tuple[float, tuple[float, float] | None]:
        """A step is done to this share, 0 to 1: seconds that the whole job will still take, and between which two while
        the pace is not steady."""
        now = self._clock()
        if step not in self._steps:
            self.expect(step, 0.0)
        if step != self._at:
            if self._at in self._steps:
                self._steps[self._at].ended = now
            self._pass_over(step)
            self._at, self._steps[step].began = step, now
        own = self._steps[step]
        own.done = share
        own.pace.tell(now, share)
        slower = self._slowness(now)
        later = sum(s.cost() for s in self._steps.values() if s.began is None) * slower
        left = max(0.0, self._own_rest(own, now, slower)) + later
        return left, own.pace.span(left) if own.pace.took >= _OWN_PACE_S else None

    def _pass_over(self, step: str) -> None:
        """Steps announced before this one that told nothing had nothing to do, or are over."""
        for name, s in self._steps.items():
            if name == step:
                return
            if s.began is None:
                s.began = s.ended = self._clock()
                s.cost = lambda: 0.0

    def _slowness(self, now: float) -> float:
        """How many times the reference the steps so far took."""
        took = cost = 0.0
        for s in self._steps.values():
            if s.began is not None:
                took += ((s.ended or now) - s.began) * s.trend
                cost += s.cost() * (1.0 if s.ended else s.done)
        # A little of the reference machine is added to both: the very first pictures say nothing.
        return (took + 0.2) / (cost + 0.2)

    def _own_rest(self, own: _Step, now: float, slower: float) -> float:
        rest, per = 1 - own.done, own.pace.per()
        if per is None or now - (own.began or now) < _OWN_PACE_S:
            return rest * own.cost() * slower
        return rest * per.likely
