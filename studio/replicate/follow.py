"""Following a training until it ends: progress, cost, a spending limit, and patience with the network.

Losing the connection never ends the training or the following; only Replicate's word does.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from studio.answers import Passing
from studio.errors import StudioError
from studio.files import human_time
from studio.replicate.api import Api
from studio.replicate.costs import money, price_of
from studio.replicate.training import LogProgress, Training

FIRST_POLL_S, LONGEST_POLL_S = 2.0, 10.0
LONGEST_OUTAGE_S = 60.0
"""Longest pause between looks while the network is away."""


@dataclass(frozen=True)
class Look:
    """A training at one moment.

    seconds, cost: running time and dollars so far. bar: its own progress bar, None before the first step.
    eta_seconds: None while unknown. trouble: why Replicate cannot be reached just now; empty when it can.
    """

    training: Training
    seconds: float
    cost: float
    bar: LogProgress | None
    trouble: str = ""

    @property
    def eta_seconds(self) -> float | None:
        if self.bar is None:
            return None
        if self.bar.seconds_left is not None:
            return self.bar.seconds_left
        if self.bar.seconds_per_step is not None:
            return (self.bar.total - self.bar.step) * self.bar.seconds_per_step
        return None

    @property
    def words(self) -> str:
        """Where it is, in one line."""
        if self.trouble:
            return f"Replicate cannot be reached; the training goes on there. {self.trouble}"
        parts = [self.training.words[:1].upper() + self.training.words[1:]]
        if self.bar is not None:
            parts.append(f"step {self.bar.step} of {self.bar.total}")
            if self.bar.loss is not None:
                parts.append(f"loss {self.bar.loss:.4f}")
            if self.eta_seconds is not None and not self.training.ended:
                parts.append(f"{human_time(self.eta_seconds)} left")
        if self.cost:
            parts.append(f"{money(self.cost)} so far")
        return " · ".join(parts)

    def as_dict(self) -> dict[str, Any]:
        """For `--json`."""
        bar = self.bar
        return {
            **self.training.as_dict(),
            "running_seconds": round(self.seconds, 1),
            "cost_dollars": round(self.cost, 4),
            "step": bar.step if bar else None,
            "steps": bar.total if bar else None,
            "loss": bar.loss if bar else None,
            "eta_seconds": self.eta_seconds,
        }


class LimitReached(StudioError):
    """The spending limit was reached and the training was cancelled."""


def look(api: Api, training_id: str) -> Look:
    """A training as it is now."""
    training = api.training(training_id)
    seconds = training.seconds(api.now())
    return Look(training, seconds, seconds * price_of(training.model), training.progress())


def follow(
    api: Api,
    training_id: str,
    *,
    tell: Callable[[Look], None],
    wait: Callable[[float], object] = time.sleep,
    should_leave: Callable[[], bool] = lambda: False,
    limit: float = 0.0,
) -> Look | None:
    """Look at a training until it has ended; the last look, or None when `should_leave` said so (it goes on then).

    tell:  called with each look. limit: dollars; at or above it the training is cancelled and LimitReached raised.
    Raises what does not pass by itself, such as a token that is not taken any more.
    """
    pause, last = FIRST_POLL_S, None
    while not should_leave():
        try:
            now = look(api, training_id)
            pause = min(LONGEST_POLL_S, pause * 1.3) if last is None or not last.trouble else FIRST_POLL_S
        except Passing as e:
            now = Look(
                last.training if last else Training({"id": training_id}),
                last.seconds if last else 0.0,
                last.cost if last else 0.0,
                last.bar if last else None,
                trouble=e.what,
            )
            pause = min(LONGEST_OUTAGE_S, pause * 2)
        last = now
        tell(now)
        if now.training.ended and not now.trouble:
            return now
        if limit and now.cost >= limit and not now.trouble:
            api.cancel(training_id)
            raise LimitReached(
                f"The training was cancelled: it reached the spending limit of {money(limit)}.",
                f"{human_time(now.seconds)} of running time have cost about {money(now.cost)}.",
                "Nothing comes out of a cancelled training. Start a shorter one, or raise the limit.",
            )
        wait(pause)
    return None


def ended_badly(training: Training) -> StudioError | None:
    """Why a training that has ended gives no LoRA; None when it succeeded."""
    if training.succeeded:
        return None
    said = f"Replicate says: {training.error[:400]}" if training.error else _last_line(training.logs)
    if training.status == "canceled":
        return StudioError("The training was cancelled.", said, "Start it again when you want its result.")
    if training.status == "aborted":
        return StudioError(
            "Replicate aborted the training before it began.",
            said or "It waited too long for a computer, or reached a deadline.",
            "Start it again; when it happens twice, look at replicatestatus.com.",
        )
    if training.status == "failed":
        return StudioError("The training failed.", said, _advice(training.error + training.logs[-4000:]))
    return StudioError(
        f"The training ended as '{training.status}'.",
        said or "The studio does not know this status.",
        f"Look at replicate.com/p/{training.id}.",
    )


def _last_line(logs: str) -> str:
    lines = [line.strip() for line in logs.splitlines() if line.strip()]
    return f"Its last words: {lines[-1][:300]}" if lines else ""


def _advice(said: str) -> str:
    low = said.lower()
    if "out of memory" in low:
        return "Lower the batch size or the resolutions, or cache latents on disk, then start again."
    if "zip" in low or "no images" in low or "not found in" in low:
        return "Check that the dataset is a ZIP with pictures and .txt captions of the same names, then start again."
    if "nan" in low.split():
        return "Lower the learning rate, then start again."
    return "Read the end of its log (sd35l-trainer status ID --logs), mend what it names, then start again."
