"""A run's events as curves and figures: what pages, reports and the command line show. Pure; reads nothing."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from studio.findings import Finding


@dataclass
class Metrics:
    """What a run said so far. Lists run in step order and have one entry a step.

    A run that was killed repeats the steps after its last state, with the same numbers; the later word about a step counts.

    steps, epochs, losses, rates: step number, its epoch, its loss, its learning rates by part ("unet", "te"). Where an engine
    shows only means, they stand for the losses until those of single steps are told.
    epoch_losses: epoch -> mean loss. total_steps, total_epochs, steps_per_epoch: 0 until the plan is known.
    seconds_per_step: latest pace, None before the first step. memory: most bytes seen in use at a step.
    heard: how many events were taken in; the same number, the same figures.
    stage: latest stage in words. findings: anomalies in the order they were noticed. done: the last event's figures.
    """

    steps: list[int] = field(default_factory=list)
    epochs: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    rates: list[dict[str, float]] = field(default_factory=list)
    epoch_losses: dict[int, float] = field(default_factory=dict)
    total_steps: int = 0
    total_epochs: int = 0
    steps_per_epoch: int = 0
    trainable: int = 0
    device: str = ""
    seconds_per_step: float | None = None
    memory: int = 0
    stage: str = ""
    findings: list[Finding] = field(default_factory=list)
    done: dict[str, Any] = field(default_factory=dict)
    last_event_at: float | None = None
    heard: int = 0
    # The moving mean so far, and the running sums it is made from: only what is new is reckoned.
    _line: list[float] = field(default_factory=list, repr=False)
    _sums: list[float] = field(default_factory=lambda: [0.0], repr=False)
    _window: int = field(default=0, repr=False)

    def add(self, events: Iterable[dict[str, Any]]) -> Metrics:
        """Take in further events, in the order they were written; self. Unknown ones are passed over."""
        for event in events:
            self.heard += 1
            at = event.get("t")
            if isinstance(at, (int, float)):
                self.last_event_at = float(at)
            match event.get("type"):
                case "plan":
                    self.total_steps = int(event.get("total_steps", 0))
                    self.total_epochs = int(event.get("epochs", 0))
                    self.steps_per_epoch = int(event.get("steps_per_epoch", 0))
                    self.trainable = int(event.get("trainable", 0))
                    self.device = str(event.get("device", ""))
                case "step":
                    self._step(event)
                case "scalars":
                    self._scalars(event)
                case "epoch":
                    if event.get("loss_avg") is not None:
                        self.epoch_losses[int(event["epoch"])] = float(event["loss_avg"])
                case "stage":
                    self.stage = str(event.get("message", ""))
                case "anomaly":
                    self._finding(event)
                case "done":
                    self.done = {k: v for k, v in event.items() if k not in ("type", "t", "elapsed")}
        return self

    def _step(self, event: dict[str, Any]) -> None:
        step, loss = event.get("step"), event.get("loss")
        if not isinstance(step, int) or not isinstance(loss, (int, float)):
            return
        while self.steps and self.steps[-1] >= step:  # steps after the last state, trained once more
            for column in (self.steps, self.epochs, self.losses, self.rates):
                column.pop()
        self._forget_line(len(self.steps))
        self.steps.append(step)
        self.epochs.append(int(event.get("epoch", 0)))
        self.losses.append(float(loss))
        rates = event.get("lr")
        self.rates.append({str(k): float(v) for k, v in rates.items()} if isinstance(rates, dict) else {})
        pace = event.get("s_per_step")
        if isinstance(pace, (int, float)):
            self.seconds_per_step = float(pace)
        memory = event.get("memory")
        if isinstance(memory, int):
            self.memory = max(self.memory, memory)

    def _scalars(self, event: dict[str, Any]) -> None:
        """Losses and learning rates of steps that were told before; they replace what was known of them."""
        rates = event.get("lr") or {}
        for k, (step, loss) in enumerate(zip(event.get("steps", ()), event.get("loss", ()), strict=False)):
            i = bisect_left(self.steps, step)
            if i == len(self.steps) or self.steps[i] != step:
                continue
            if isinstance(loss, (int, float)):
                self.losses[i] = float(loss)
                self._forget_line(i)
            self.rates[i] |= {part: float(v[k]) for part, v in rates.items() if v[k] is not None}

    def _forget_line(self, length: int) -> None:
        del self._line[length:]
        del self._sums[length + 1 :]

    def _finding(self, event: dict[str, Any]) -> None:
        try:
            finding = Finding.model_validate(event.get("finding"))
        except ValueError:
            return
        if finding.code not in {f.code for f in self.findings}:
            self.findings.append(finding)

    @property
    def step(self) -> int:
        """The newest finished step; 0 before the first."""
        return self.steps[-1] if self.steps else 0

    @property
    def epoch(self) -> int:
        """The epoch of the newest step; 0 before the first."""
        return self.epochs[-1] if self.epochs else 0

    @property
    def fraction(self) -> float | None:
        """Share of the steps done, 0 to 1; None until the plan is known."""
        return min(1.0, self.step / self.total_steps) if self.total_steps else None

    @property
    def eta_seconds(self) -> float | None:
        """Training time left at the latest pace, samples and saving not counted; None while unknown."""
        if self.seconds_per_step is None or not self.total_steps:
            return None
        return max(0, self.total_steps - self.step) * self.seconds_per_step

    @property
    def window(self) -> int:
        """Steps that a mean is taken over: one epoch, at least ten."""
        return max(10, self.steps_per_epoch)

    @property
    def first_loss(self) -> float | None:
        """Mean over the first epoch (at least ten steps), where the run began; None before the first step."""
        first = self.losses[: self.window]
        return sum(first) / len(first) if first else None

    @property
    def smoothed(self) -> list[float]:
        """The moving mean over one epoch, at least ten steps: the line over the dots. Not to be changed by the caller."""
        window = self.window
        if window != self._window:
            self._window = window
            self._line.clear()
        line, sums = self._line, self._sums
        for i in range(len(line), len(self.losses)):
            if i + 1 == len(sums):
                sums.append(sums[i] + self.losses[i])
            first = max(0, i + 1 - window)
            line.append((sums[i + 1] - sums[first]) / (i + 1 - first))
        return line

    def thinned(self, points: int = 1000) -> dict[str, list[float]]:
        """At most about `points` points for a chart, evenly chosen, first and last kept: step, loss, smoothed, lr."""
        n = len(self.steps)
        stride = max(1, -(-n // points))
        chosen = sorted({*range(0, n, stride), n - 1}) if n else []
        line = self.smoothed
        return {
            "step": [float(self.steps[i]) for i in chosen],
            "loss": [self.losses[i] for i in chosen],
            "smoothed": [line[i] for i in chosen],
            "lr": [self.rates[i].get("unet", 0.0) for i in chosen],
        }
