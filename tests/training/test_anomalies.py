"""Anomalies: named when they are there, silent on healthy curves however noisy."""

from __future__ import annotations

import json
import math
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.training.anomalies import detect, mean_of_last, smooth, stalled
from studio.training.sdscripts.log import LogReader

STEPS, PER_EPOCH = 1500, 100

SHAPES: dict[str, Callable[[float], float]] = {
    "healthy": lambda f: 0.08 + 0.04 * math.exp(-6 * f),
    "slow": lambda f: 0.12 * (1 - 0.15 * f),
    "quick start": lambda f: 0.05 + 0.5 * math.exp(-20 * f),
    "falling to the end": lambda f: 0.2 - 0.15 * f,
}


def curve(shape: Callable[[float], float], wobble: float, seed: int, steps: int = STEPS) -> list[float]:
    """Losses around `shape`, log-normal with standard deviation `wobble` of the logarithm, mean kept."""
    chance = random.Random(seed)
    return [shape(i / steps) * math.exp(chance.gauss(-wobble * wobble / 2, wobble)) for i in range(steps)]


def codes(losses: list[float], steps: int = STEPS) -> set[str]:
    """Everything that would have been said at ten moments of the run."""
    tenth = steps // 10
    return {f.code for k in range(tenth, steps + 1, tenth) for f in detect(losses[:k], PER_EPOCH, steps)}


@pytest.mark.parametrize("wobble", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("name", SHAPES)
def test_no_false_alarm_on_healthy_curves(name: str, wobble: float) -> None:
    assert [codes(curve(SHAPES[name], wobble, seed)) for seed in range(8)] == [set()] * 8


@pytest.mark.parametrize("wobble", [0.1, 0.4, 0.8])
def test_divergence_is_found_while_it_happens(wobble: float) -> None:
    def shape(f: float) -> float:
        return 0.1 if f < 0.5 else 0.1 * math.exp(6 * (f - 0.5))

    for seed in range(8):
        losses = curve(shape, wobble, seed)
        first = next(
            k
            for k in range(25, STEPS + 1, 25)
            if any(f.code == "loss-divergence" for f in detect(losses[:k], PER_EPOCH, STEPS))
        )
        assert 750 < first <= 1200


def test_a_single_spike_is_no_divergence() -> None:
    losses = curve(SHAPES["healthy"], 0.2, 1)
    losses[700] = 5.0
    assert codes(losses) == set()


def test_a_plateau_is_found_before_the_end_and_not_near_it() -> None:
    losses = curve(lambda f: 0.05 + 0.1 * math.exp(-25 * f), 0.1, 3)
    assert "loss-plateau" in codes(losses)
    assert detect(losses, PER_EPOCH, STEPS) == []


def test_a_run_that_learns_nothing_is_named_late_enough() -> None:
    losses = curve(lambda f: 0.1, 0.1, 4)
    assert detect(losses[:500], PER_EPOCH, STEPS) == []
    assert [f.code for f in detect(losses[:900], PER_EPOCH, STEPS)] == ["loss-no-progress"]


def test_nan_blocks_and_says_where() -> None:
    found = detect([0.1, 0.2, float("nan"), 0.1], 2, 10)
    assert [(f.code, f.severity) for f in found] == [("loss-nan", "block")]
    assert "step 3" in found[0].what


@pytest.mark.parametrize("losses", [[], [0.1], [0.0] * 1000, [0.1] * 2000])
def test_short_and_degenerate_curves_do_not_break(losses: list[float]) -> None:
    assert all(f.severity != "block" for f in detect(losses, 10, 2000))


def test_smooth_is_the_moving_mean() -> None:
    assert smooth([1.0, 3.0, 5.0, 7.0], 2) == [1.0, 2.0, 4.0, 6.0]
    assert smooth([], 5) == []
    assert mean_of_last([1.0, 3.0, 5.0], 2) == 4.0
    assert mean_of_last([], 2) is None


def test_silence() -> None:
    assert stalled(100, 0.2) is None
    assert stalled(600, None) is None
    found = stalled(600, 0.2)
    assert found is not None and found.code == "run-silent" and "10 minutes" in found.what
    assert stalled(600, 120.0) is None


# --- Recorded: the built-in trainer on the pocket model with eight pictures, and the logs of real sd-scripts

RECORDED = json.loads(Path(__file__).with_name("recorded_losses.json").read_text(encoding="utf-8"))


def said(curve: dict[str, Any], every: int = 25) -> dict[str, int]:
    """Everything that would have been said while it ran, and at which step first."""
    found: dict[str, int] = {}
    losses = curve["losses"]
    for k in range(every, len(losses) + 1, every):
        for f in detect(losses[:k], curve["steps_per_epoch"], curve["total_steps"]):
            found.setdefault(f.code, k)
    return found


def test_a_recorded_training_that_went_well_raises_no_alarm() -> None:
    assert said(RECORDED["adamw-8pics"]) == {}


def test_a_recorded_training_that_was_ruined_at_once_is_named() -> None:
    """Rate 0.3: the loss goes from 0.5 to 0.9 within ten steps and stays; nothing lower came before that could be told."""
    found = said(RECORDED["far-too-high"])
    assert found["loss-guessing"] <= 150
    assert "loss-no-progress" not in found or found["loss-guessing"] < found["loss-no-progress"]


def test_recorded_logs_of_sd_scripts_raise_no_alarm() -> None:
    """Short ones, of a model with random numbers, whose losses lie about 1: too little to judge."""
    logs = zipfile.ZipFile(Path(__file__).with_name("sdscripts") / "recorded.zip")
    curves = 0
    for name in logs.namelist():
        reader = LogReader()
        events = [*reader.feed(logs.read(name)), *reader.end()]
        losses = [e["loss"] for e in events if e["type"] == "step" and e["loss"] is not None]
        curves += bool(losses)
        assert all(detect(losses[:k], 4, len(losses)) == [] for k in range(1, len(losses) + 1)), name
    assert curves >= 10


@pytest.mark.parametrize("wobble", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("level", [0.4, 0.6])
def test_a_high_loss_is_no_guessing(level: float, wobble: float) -> None:
    """As SD3.5 and FLUX have it."""
    assert "loss-guessing" not in {
        c for seed in range(8) for c in codes(curve(lambda f: level * (1 - 0.1 * f), wobble, seed))
    }
