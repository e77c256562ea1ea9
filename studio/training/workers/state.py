"""The state of a run on disk: everything needed to go on exactly where it was. Tensors and JSON, no pickle.

    <run>/state/000120/
      lora.safetensors        trained tensors, exact
      average.safetensors     their running average, when there is one
      optimizer.safetensors   the optimizer's tensors
      state.json              counters, the optimizer's numbers, schedule, loss history, what the run was

A state is written under another name, flushed, and renamed; older ones go after that. A crash leaves the old state or
the new one.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from studio import files
from studio.errors import EnvironmentalError, InputError

_TENSOR = "__tensor__"
_NOTE = "state.json"


@dataclass
class Progress:
    """Where a run is. step, epoch: finished steps, and the epoch that the next batch belongs to, from 1.
    batch: batches of that epoch already used. losses: loss of every step so far. elapsed: seconds of training."""

    step: int = 0
    epoch: int = 1
    batch: int = 0
    losses: list[float] = field(default_factory=list)
    elapsed: float = 0.0
    anomalies: list[str] = field(default_factory=list)


def flatten(value: Any, tensors: dict[str, torch.Tensor], path: str = "") -> Any:
    """Plain data for JSON, with every tensor moved to `tensors` and replaced by its name."""
    if isinstance(value, torch.Tensor):
        tensors[path] = value.detach().cpu().contiguous().clone()
        return {_TENSOR: path}
    if isinstance(value, dict):
        pairs = [[k, flatten(v, tensors, f"{path}/{k}")] for k, v in value.items()]
        return {"__dict__": pairs}
    if isinstance(value, (list, tuple)):
        return [flatten(v, tensors, f"{path}/{i}") for i, v in enumerate(value)]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{path} of the state is a {type(value).__name__}, which cannot be stored")


def unflatten(value: Any, tensors: dict[str, torch.Tensor]) -> Any:
    """The opposite of `flatten`; tuples come back as lists."""
    if isinstance(value, dict):
        if _TENSOR in value:
            return tensors[value[_TENSOR]]
        return {k: unflatten(v, tensors) for k, v in value["__dict__"]}
    if isinstance(value, list):
        return [unflatten(v, tensors) for v in value]
    return value


def _optimizer_data(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    data = optimizer.state_dict()
    # Some optimizers leave callables in their groups; they are made anew by the constructor.
    for group in data["param_groups"]:
        for key in [k for k, v in group.items() if callable(v)]:
            del group[key]
    return data


def save(
    folder: Path,
    *,
    progress: Progress,
    network: dict[str, torch.Tensor],
    average: dict[str, torch.Tensor] | None,
    optimizer: torch.optim.Optimizer,
    scheduler: Any,
    scaler: Any,
    about: dict[str, Any],
) -> Path:
    """Write a state below `folder` and remove older ones; its path. about: facts that a resumed run is compared with.

    Raises EnvironmentalError when the disk is full; older states stay then.
    """
    final = folder / f"{progress.step:06d}"
    if (final / _NOTE).is_file():
        return final  # the same step again: it holds the same, since a run repeats itself exactly
    scratch = folder / f".writing-{progress.step:06d}-{os.getpid()}"
    tensors: dict[str, torch.Tensor] = {}
    note = {
        "about": about,
        "progress": asdict(progress),
        "optimizer": flatten(_optimizer_data(optimizer), tensors),
        "scheduler": flatten(
            {k: v for k, v in scheduler.state_dict().items() if k != "lr_lambdas"}, tensors, "scheduler"
        ),
        "scaler": scaler.state_dict() if scaler is not None else None,
        "average": average is not None,
    }
    try:
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(parents=True)
        save_file(network, scratch / "lora.safetensors")
        save_file(tensors, scratch / "optimizer.safetensors")
        if average is not None:
            save_file(average, scratch / "average.safetensors")
        for path in scratch.iterdir():
            _flush(path)
        files.write_text(scratch / _NOTE, json.dumps(note))
        shutil.rmtree(final, ignore_errors=True)
        scratch.rename(final)
    except (OSError, RuntimeError, EnvironmentalError) as e:
        # safetensors reports a full disk as an exception type of its own, derived from Exception only in part
        shutil.rmtree(scratch, ignore_errors=True)
        raise EnvironmentalError(
            "The state of the run could not be saved.",
            f"The computer answered: {e}",
            f"Free some room on the disk of {folder}, then resume the run.",
        ) from e
    for other in folder.iterdir():
        if other != final:
            shutil.rmtree(other, ignore_errors=True)
    return final


def _flush(path: Path) -> None:
    with path.open("rb+") as f:
        os.fsync(f.fileno())


def latest(folder: Path) -> Path | None:
    """The newest whole state below `folder`; None when there is none."""
    found = sorted(p for p in folder.glob("[0-9]*") if (p / _NOTE).is_file()) if folder.is_dir() else []
    return found[-1] if found else None


@dataclass
class Loaded:
    """A state read back."""

    progress: Progress
    network: dict[str, torch.Tensor]
    average: dict[str, torch.Tensor] | None
    about: dict[str, Any]
    _note: dict[str, Any]
    _tensors: dict[str, torch.Tensor]

    def put_into(self, optimizer: torch.optim.Optimizer, scheduler: Any, scaler: Any) -> None:
        """Give the optimizer, the schedule and the fp16 scaler back what they had."""
        scheduler.load_state_dict(
            {**scheduler.state_dict(), **unflatten(self._note["scheduler"], self._tensors)}
        )
        kept = unflatten(self._note["optimizer"], self._tensors)
        fresh = optimizer.state_dict()["param_groups"]
        for group, now in zip(kept["param_groups"], fresh, strict=True):
            for key, value in now.items():
                if key not in group or isinstance(value, tuple):
                    group[key] = tuple(group[key]) if key in group else value
        optimizer.load_state_dict(kept)
        if scaler is not None and self._note["scaler"]:
            scaler.load_state_dict(self._note["scaler"])


def load(path: Path) -> Loaded:
    """Read a state. Raises InputError when it is damaged."""
    try:
        note = json.loads((path / _NOTE).read_text(encoding="utf-8"))
        return Loaded(
            progress=Progress(**note["progress"]),
            network=load_file(path / "lora.safetensors"),
            average=load_file(path / "average.safetensors") if note["average"] else None,
            about=note["about"],
            _note=note,
            _tensors=load_file(path / "optimizer.safetensors"),
        )
    except Exception as e:  # safetensors' own error type derives from Exception only
        raise InputError(
            f"The saved state {path.name} cannot be read.",
            f"{type(e).__name__}: {str(e).splitlines()[0] if str(e) else ''} ({path})",
            "Delete that folder to start the run from its beginning, or start a new run.",
        ) from e
