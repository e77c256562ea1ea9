"""Two one-thread processes that average their gradients through gloo.

On two CPU cores this trains faster than one process with two OpenMP threads, because the small layers of these
models leave the second thread waiting most of the time.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

WORLD = 2


def _enter(rank: int, body: Callable[..., None], meeting: str, arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=WORLD)
    try:
        body(rank, *arguments)
    finally:
        dist.destroy_process_group()


def launch(body: Callable[..., None], work: Path, *arguments: object) -> None:
    """Run `body(rank, *arguments)` in two processes and wait for both."""
    meeting = work / f"meeting-{os.getpid()}"
    meeting.unlink(missing_ok=True)
    try:
        mp.spawn(_enter, args=(body, str(meeting.resolve()), arguments), nprocs=WORLD)
    finally:
        meeting.unlink(missing_ok=True)


def share(parameters: Iterable[nn.Parameter]) -> None:
    """Give every process the weights of process 0."""
    for parameter in parameters:
        dist.broadcast(parameter.data, 0)


def average(parameters: list[nn.Parameter], *numbers: float) -> list[float]:
    """Average gradients, and the given numbers, over the processes in one message; returns the numbers."""
    flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None] + [torch.tensor(numbers)])
    dist.all_reduce(flat)
    flat /= WORLD
    at = 0
    for p in parameters:
        if p.grad is not None:
            p.grad.copy_(flat[at : at + p.numel()].view_as(p))
            at += p.numel()
    return flat[at:].tolist()


class Clock:
    """Cosine learning rate over a budget of minutes rather than of steps: a busy machine makes fewer steps, never
    a longer build or an unfinished schedule. `progress` (0..1) is averaged over processes so that both agree."""

    def __init__(self, minutes: float) -> None:
        self.budget = minutes * 60
        self.start = time.monotonic()

    def progress(self) -> float:
        """Share of the budget used up, from 0; passes 1 when it is over."""
        return (time.monotonic() - self.start) / self.budget

    @staticmethod
    def rate(peak: float, step: int, progress: float, warmup: int) -> float:
        """Learning rate: linear over the first `warmup` steps, then a cosine that ends at 1 % of `peak`."""
        cosine = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return peak * cosine * min(1.0, (step + 1) / warmup)


class Average:
    """Exponential moving average of a module's parameters, which is what gets exported."""

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.state: dict[str, Tensor] = {k: v.detach().clone() for k, v in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """One step; young averages forget faster so that the random start does not linger."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for key, value in module.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[key].lerp_(value, 1 - decay)
