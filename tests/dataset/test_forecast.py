"""The time that a job of several steps will still take, told against a clock that the test moves."""

from __future__ import annotations

from typing import Any

import pytest

from studio.dataset import forecast
from studio.dataset.forecast import Forecast


class Told:
    """Stands where the job's worker does, and keeps what it is told."""

    def __init__(self) -> None:
        self.eta = 0.0
        self.between: tuple[float, float] | None = None

    def progress(
        self,
        done: float,
        total: float,
        unit: str,
        message: str,
        *,
        eta_seconds: float,
        eta_between: tuple[float, float] | None,
    ) -> None:
        self.eta, self.between = eta_seconds, eta_between


class Machine:
    """Runs steps at paces of its own and notes what was forecast, at every moment, beside what was true."""

    def __init__(self) -> None:
        self.now, self.worker = 0.0, Told()
        self.forecast = Forecast(self.worker, lambda: self.now)  # type: ignore[arg-type]
        self.readings: list[tuple[float, float]] = []
        self.ranges: list[tuple[float, float] | None] = []

    def run(self, step: str, seconds_each: list[float], **given: Any) -> None:
        tell = self.forecast.teller(step, **given)
        for done, seconds in enumerate(seconds_each, 1):
            self.now += seconds
            tell(done, len(seconds_each), "")
            self.readings.append((self.now, self.worker.eta))
            self.ranges.append(self.worker.between)

    def errors(self, shares: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75)) -> list[float]:
        """Relative errors of the forecast at these shares of the whole time."""
        found = []
        for share in shares:
            at, eta = next(r for r in self.readings if r[0] >= share * self.now)
            found.append(abs(eta - (self.now - at)) / (self.now - at))
        return found


@pytest.mark.parametrize("slower", [0.5, 1.0, 3.0])
def test_later_steps_are_part_of_it(slower: float) -> None:
    """Looking at 2,000 pictures first, then importing 2,000, then comparing, on machines of three speeds."""
    m = Machine()
    m.forecast.expect("look", forecast.LOOK_S * 2000)
    m.forecast.expect("take in", forecast.TAKE_IN_S * 2000)
    m.forecast.expect("compare", forecast.comparing(4000, 0))
    m.run("look", [forecast.LOOK_S * slower] * 2000)
    m.run("take in", [forecast.TAKE_IN_S * slower] * 2000)
    m.run("compare", [forecast.comparing(4000, 0) * slower / 100] * 100)
    assert max(m.errors()) < 0.1


def test_a_wrong_guess_of_a_step_is_mended_by_its_own_pace() -> None:
    m = Machine()
    m.forecast.expect("look", 10)
    m.run("look", [0.05] * 2000)
    assert max(m.errors()) < 0.05


def test_large_files_at_the_end_are_seen_coming() -> None:
    """By number alone a quarter of the time would be told; files of 12 MB take eleven times as long as small ones."""
    sizes = [0] * 800 + [12_000_000] * 200
    m = Machine()
    each = forecast.weights(sizes)
    m.forecast.expect("take in", forecast.TAKE_IN_S * sum(each))
    m.run("take in", [forecast.TAKE_IN_S * w for w in each], weights=each)
    assert max(m.errors()) < 0.1


def test_pictures_that_are_there_already_are_known_by_their_size() -> None:
    assert forecast.weights([1_200_000, 2_400_000], {2_400_000}) == [2.0, pytest.approx(3 * 0.08)]


def test_a_step_may_come_twice_and_cost_what_is_known_by_then() -> None:
    m = Machine()
    cost = 90.0
    m.forecast.expect("look", 5)
    m.forecast.expect("compare", lambda: cost)
    m.run("look", [0.05] * 100)
    assert m.worker.eta == pytest.approx(90, rel=0.1)
    cost = 3.0
    m.run("take in", [0.05] * 100)
    m.forecast.expect("look", 2)
    m.run("look", [0.05])
    assert m.worker.eta < 10
    m.run("compare", [0.3] * 10)
    assert m.worker.eta == 0


def test_a_step_that_had_nothing_to_do_is_over_when_the_next_begins() -> None:
    m = Machine()
    for step in ("look", "list", "compare"):
        m.forecast.expect(step, 40)
    m.run("compare", [0.4] * 100)
    assert max(m.errors()) < 0.1 and m.worker.eta == 0


def test_a_moment_in_which_nothing_went_on_does_not_set_the_pace() -> None:
    """Half a minute of silence in the middle of two."""
    m = Machine()
    m.forecast.expect("look", 100)
    m.run("look", [0.05] * 1200 + [30.0] + [0.05] * 1199)
    assert max(m.errors((0.5, 0.6, 0.75))) < 0.8


@pytest.mark.parametrize("times", [3.0, 5.0])
def test_a_load_that_rises_in_the_middle_is_believed_for_this_step_and_for_the_later_ones(
    times: float,
) -> None:
    """Another program begins to work when a third is done: half a minute later the forecast is right again."""
    m = Machine()
    m.forecast.expect("look", 70)
    m.forecast.expect("take in", 30)
    m.run("look", [0.01] * 5000 + [0.01 * times] * 2000)
    m.run("take in", [0.003 * times] * 10_000)
    rose = 50.0
    late = [(at, eta) for at, eta in m.readings if at > rose + 30 and at < 0.97 * m.now]
    assert max(abs(eta - (m.now - at)) / (m.now - at) for at, eta in late) < 0.15


def test_a_range_is_told_while_the_pace_changes_and_holds_what_comes_out() -> None:
    m = Machine()
    m.forecast.expect("look", 300)
    m.run("look", [0.01] * 5000 + [0.03] * 8000)
    told = [
        (at, between) for (at, _), between in zip(m.readings, m.ranges, strict=True) if between is not None
    ]
    assert told and all(50 < at < 140 for at, _ in told)
    held = [low <= m.now - at <= 1.02 * high for at, (low, high) in told if at > 60]
    assert sum(held) > 0.75 * len(held)
