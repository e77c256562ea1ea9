"""The time left, told from the pace of work on a clock that the test moves: calm while nothing changes, and soon right again
when something does."""

from __future__ import annotations

import random

import pytest

from studio.files import human_span
from studio.jobs.pace import Pace
from studio.jobs.spec import Progress


class Run:
    """Work of known paces. Each reading: when, what was told, what was true, and the range if there was one."""

    def __init__(self, seconds_each: list[float]) -> None:
        self.whole, pace, now = sum(seconds_each), Pace(), 0.0
        self.readings: list[tuple[float, float, tuple[float, float] | None]] = []
        pace.eta(0.0, 0, len(seconds_each), "pictures")
        for done, seconds in enumerate(seconds_each, 1):
            now += seconds
            told = pace.eta(now, done, len(seconds_each), "pictures")
            assert told is not None
            self.readings.append((now, told, pace.span(told)))

    def worst(self, since: float, until: float = 0.95) -> float:
        """The largest relative error of what was told, between two shares of the whole time."""
        return max(
            abs(told - (self.whole - at)) / (self.whole - at)
            for at, told, _ in self.readings
            if since * self.whole <= at <= until * self.whole
        )

    def ranges(self, since: float = 0.0, until: float = 1.0) -> list[tuple[float, float]]:
        return [
            r
            for at, _, r in self.readings
            if r is not None and since * self.whole <= at <= until * self.whole
        ]


def uneven(count: int, seconds: float, seed: int) -> list[float]:
    """Pictures of all sizes: most are quick, few take ten times as long."""
    chance = random.Random(seed)
    return [seconds * chance.lognormvariate(-0.32, 0.8) for _ in range(count)]


def test_a_steady_pace_is_told_as_one_figure() -> None:
    run = Run([0.02] * 5000)
    assert run.worst(0.01) < 0.01
    assert not run.ranges()


@pytest.mark.parametrize("seed", range(3))
def test_pictures_of_all_sizes_leave_it_calm(seed: int) -> None:
    run = Run(uneven(8000, 0.02, seed))
    assert run.worst(0.2, 0.8) < 0.12
    assert not run.ranges(0.2)


@pytest.mark.parametrize(("times", "soon"), [(2.0, 0.17), (5.0, 0.08), (0.4, 0.12)])
def test_another_pace_from_the_middle_on_is_believed_soon(times: float, soon: float) -> None:
    """times: slower by so much in the second half. soon: the share of the time after which it is told right."""
    run = Run([0.02] * 5000 + [0.02 * times] * 5000)
    changed = 1 / (1 + times)
    assert run.worst(changed + soon) < 0.16
    assert not run.ranges(0.05, changed)
    assert run.ranges(changed, changed + soon), "a range while it is not known which pace will stay"


def test_a_moment_of_standing_still_is_no_pace() -> None:
    """Half a minute in the middle of two. What is told rises by less than half, and is right again in a quarter minute."""
    run = Run([0.05] * 1200 + [30.0] + [0.05] * 1199)
    before = max(told for at, told, _ in run.readings if at < 59)
    after = [told for at, told, _ in run.readings if at > 91]
    assert max(after) < 1.45 * min(before, 60)
    assert run.worst(0.72) < 0.12


def test_a_run_of_quick_ones_does_not_promise_an_early_end() -> None:
    """Pictures that are there already, in the middle of those that are not."""
    run = Run(uneven(3000, 0.02, 4) + [0.0005] * 4000 + uneven(3000, 0.02, 5))
    assert run.worst(0.65) < 0.25


def test_ones_that_take_long_count_one_by_one() -> None:
    chance = random.Random(3)
    run = Run([6 * chance.uniform(0.5, 1.5) for _ in range(60)])
    assert run.worst(0.2, 0.8) < 0.35


def test_nothing_is_told_before_there_is_a_pace_and_what_begins_anew_is_told_anew() -> None:
    pace = Pace()
    assert pace.eta(5.0, 0, 10, "pictures") is None and pace.per() is None
    assert pace.eta(6.0, 1, 10, "pictures") == pytest.approx(9.0)
    assert pace.eta(6.5, 1, 10, "pictures") == pytest.approx(8.5)
    assert pace.eta(90.0, 1, 10, "pictures") == pytest.approx(
        8.0
    )  # it takes longer: the time at hand is spent
    assert pace.eta(91.0, 0, 10, "pictures") is None
    assert pace.eta(92.0, 1, None, "pictures") is None


@pytest.mark.parametrize(
    ("least", "most", "words"),
    [
        (50, 70, "50 to 70 s"), (80, 200, "80 s to 3 min"), (181, 299, "3 to 5 min"), (175, 185, "3 min"),
        (3600, 7200, "60 min to 2 h"), (7200, 14_400, "2 to 4 h"), (7200, 9000, "2 h to 2 h 30 min"),
    ],
)  # fmt: skip
def test_a_range_in_words(least: float, most: float, words: str) -> None:
    assert human_span(least, most) == words
    assert Progress(eta_seconds=least, eta_between=[least, most]).left == f"about {words} left"


def test_the_time_left_in_words() -> None:
    assert Progress(eta_seconds=180.0).left == "about 3 min left"
    assert Progress().left == Progress(eta_seconds=0.0).left == Progress(eta_seconds=0.3).left == ""
