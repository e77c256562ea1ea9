"""What a loss curve says: pure functions from losses to findings.

The loss of a diffusion model wobbles wildly from step to step, because each step draws other noise levels, and its level
says little. So nothing here looks at single steps: means of windows are compared, and a difference counts only when it is
large against the wobble itself. The thresholds are the studio's own (no published ones exist for LoRAs); tests measure
on simulated and on recorded curves how often they raise a false alarm.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from studio.findings import Finding

# A window for divergence: long enough to average the wobble, short enough to stop before hours are lost.
WINDOW = (25, 100)
# Divergence: the newest window lies this many times above the lowest one before it ...
DIVERGED = 2.0
# ... and the one before it this many times, so that it lasted, ...
DIVERGED_BEFORE = 1.5
# ... and both by so many standard errors of their difference.
SURE = 5.0
# Plateau and no progress: thirds of the run so far are compared, and there have to be so many steps in it.
LEAST_STEPS = 300
# "Has not fallen" means: even two standard errors more would be a smaller fall than this share.
FLAT = 0.03
# "Has fallen" means: by at least this share, and by SURE standard errors.
FELL = 0.05
# No progress is judged only after this share of the run: before, a slow start looks just the same.
LATE = 0.4
# A plateau is only worth a word before this share of the run: near its end the rate goes to zero, and it has to come.
EARLY = 0.7


# As bad as guessing: whoever predicts nothing of noise of variance 1 has a loss of 1 (more with flow matching, whose target
# holds the picture too). Trainings that work lie between 0.03 and 0.6 in all families; weights that a far too high rate has
# ruined within the first steps, or a base model of random numbers, lie at 0.9 and above. No lower window comes before, so
# that it is no divergence, and the doubt about so wild a curve is too large to call it no progress.
GUESSING = 0.85
GUESSED_FOR = 100


@dataclass(frozen=True)
class _Span:
    """Mean of some losses, and the standard error of that mean."""

    mean: float
    error: float

    @classmethod
    def of(cls, losses: list[float]) -> _Span:
        n = len(losses)
        mean = math.fsum(losses) / n
        variance = math.fsum((v - mean) ** 2 for v in losses) / max(1, n - 1)
        return cls(mean, math.sqrt(variance / n))

    def above(self, other: _Span, times: float) -> bool:
        """Whether this lies `times` above the other, and surely so."""
        doubt = math.hypot(self.error, other.error)
        return self.mean > times * other.mean and self.mean - other.mean > SURE * doubt


def mean_of_last(losses: list[float], count: int) -> float | None:
    """Mean of the last `count` losses; None when there are none."""
    recent = losses[-max(1, count) :]
    return math.fsum(recent) / len(recent) if recent else None


def smooth(losses: list[float], window: int) -> list[float]:
    """The mean of the last `window` losses at each step, a growing mean at first: the line to draw over the dots."""
    window = max(1, window)
    out, total = [], 0.0
    for i, value in enumerate(losses):
        total += value
        if i >= window:
            total -= losses[i - window]
        out.append(total / min(i + 1, window))
    return out


def detect(losses: list[float], steps_per_epoch: int, total_steps: int) -> list[Finding]:
    """What is odd about the losses so far; [] when nothing is.

    losses: one a step, from the first step on. steps_per_epoch, total_steps: of the run.
    """
    broken = next((i for i, v in enumerate(losses) if not math.isfinite(v)), None)
    if broken is not None:
        return [
            Finding(
                severity="block",
                code="loss-nan",
                what=f"The loss became NaN at step {broken + 1}.",
                why="From then on every value of the LoRA is broken.",
                fix="Lower the learning rate, or use bf16 instead of fp16, and start again from the last checkpoint.",
            )
        ]
    found = _divergence(losses, steps_per_epoch) or _guessing(losses)
    return found or _standstill(losses, total_steps)


def _guessing(losses: list[float]) -> list[Finding]:
    if len(losses) < GUESSED_FOR:
        return []
    newest = _Span.of(losses[-GUESSED_FOR:])
    if newest.mean - 2 * newest.error < GUESSING:
        return []
    return [
        Finding(
            severity="warn",
            code="loss-guessing",
            what=f"The loss is {newest.mean:.2g}: as high as if the model only guessed.",
            why="Most often the learning rate is so high that the LoRA was ruined within the first steps. Or the base model is "
            "not what it should be.",
            fix="Stop the run, lower the learning rate to a tenth and start again. If the samples from before the training are "
            "noise too, check the base model's file.",
        )
    ]


def _divergence(losses: list[float], steps_per_epoch: int) -> list[Finding]:
    width = min(max(steps_per_epoch, WINDOW[0]), WINDOW[1])
    if len(losses) < 3 * width:
        return []
    # Windows are counted from the end, so that the newest one is whole.
    offset = len(losses) % width
    spans = [_Span.of(losses[i : i + width]) for i in range(offset, len(losses), width)]
    lowest = min(spans[:-2], key=lambda s: s.mean)
    newest, before = spans[-1], spans[-2]
    if not (newest.above(lowest, DIVERGED) and before.above(lowest, DIVERGED_BEFORE)):
        return []
    return [
        Finding(
            severity="warn",
            code="loss-divergence",
            what=f"The loss is rising: {newest.mean:.3g} now, {lowest.mean:.3g} at its lowest.",
            why="The LoRA is moving away from what it should learn; the learning rate is probably too high.",
            fix="Stop the run, lower the learning rate to a third and start again; the earlier checkpoints are still good.",
        )
    ]


def _standstill(losses: list[float], total_steps: int) -> list[Finding]:
    n = len(losses)
    if n < LEAST_STEPS:
        return []
    third = n // 3
    first, middle, last = (_Span.of(losses[n - k * third : n - (k - 1) * third]) for k in (3, 2, 1))

    def drop(a: _Span, b: _Span) -> float:
        return (a.mean - b.mean) / a.mean if a.mean else 0.0

    def flat(a: _Span, b: _Span) -> bool:
        doubt = math.hypot(a.error, b.error) / a.mean if a.mean else math.inf
        return drop(a, b) + 2 * doubt < FLAT

    if n >= LATE * total_steps and flat(first, last) and flat(first, middle):
        return [
            Finding(
                severity="warn",
                code="loss-no-progress",
                what=f"The loss has not fallen in {n} steps.",
                why=f"It is as high as at the start; a fall of {FLAT:.0%} would have been seen.",
                fix="Look at the samples. If they are spoilt, lower the learning rate to a tenth; if they do not change, raise it "
                "three times.",
            )
        ]
    fell = drop(first, middle) >= FELL and first.mean - middle.mean > SURE * math.hypot(
        first.error, middle.error
    )
    if fell and n < EARLY * total_steps and flat(middle, last):
        return [
            Finding(
                severity="info",
                code="loss-plateau",
                what=f"The loss stopped falling about {third} steps ago.",
                why="More steps may only copy the pictures. It can also go on quietly: the samples say more than the loss.",
                fix="Compare the samples of the last epochs. If they look alike, stop and evaluate.",
            )
        ]
    return []


def stalled(silent_seconds: float, seconds_per_step: float | None) -> Finding | None:
    """Whether a living run has said nothing for too long.

    silent_seconds: since its last event; seconds_per_step: its pace, None before the first step. Starting may take minutes
    on a cold disk; later ten steps' time, and at least two minutes, are allowed for samples and saving.
    """
    allowed = 900.0 if seconds_per_step is None else max(120.0, 10 * seconds_per_step)
    if silent_seconds <= allowed:
        return None
    return Finding(
        severity="warn",
        code="run-silent",
        what=f"Nothing has happened for {silent_seconds / 60:.0f} minutes.",
        why="The computer may be asleep, out of memory, or busy with something else.",
        fix="Look at the log. Stop the run and resume it if nothing moves; it goes on from its last saved state.",
    )
