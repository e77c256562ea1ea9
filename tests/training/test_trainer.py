"""The trainer on tiny models: it learns, repeats itself, goes on where it stopped, and names its failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.training.base import TrainingPlan, find_checkpoints, find_samples

Make = Callable[..., TrainingPlan]
Train = Callable[..., tuple[dict[str, Any] | None, list[dict[str, Any]]]]


def losses(events: list[dict[str, Any]]) -> dict[int, float]:
    return {e["step"]: e["loss"] for e in events if e["type"] == "step"}


def content(path: Path) -> dict[str, bytes]:
    from safetensors.numpy import load_file

    return {k: v.tobytes() for k, v in load_file(path).items()}


def test_a_run_writes_checkpoints_samples_and_events(make_plan: Make, train: Train) -> None:
    plan = make_plan(epochs=4, save_every_epochs=1, keep_checkpoints=2, sample_every_epochs=2)
    result, events = train(plan)
    assert result is not None
    names = [c.path.name for c in find_checkpoints(plan.run_folder)]
    assert names == ["mine-000002.safetensors", "mine-000003.safetensors", "mine.safetensors"]
    found = find_checkpoints(plan.run_folder)
    assert [(c.epoch, c.step, c.final) for c in found] == [(2, 6, False), (3, 9, False), (4, 12, True)]
    assert [s.step for s in find_samples(plan.run_folder)] == [0, 0, 6, 6, 12, 12]
    assert find_samples(plan.run_folder)[0].prompt == "bluprnt, dog"
    kinds = [e["type"] for e in events]
    assert kinds.count("step") == 12 and kinds.count("epoch") == 4 and kinds[-1] == "done"
    told = next(e for e in events if e["type"] == "plan")
    assert (told["total_steps"], told["steps_per_epoch"], told["epochs"]) == (12, 3, 4)
    assert result["steps"] == 12 and result["peak_bytes"] > 0 and result["seconds_per_step"] > 0


@pytest.mark.parametrize(
    "settings",
    [
        {"optimizer": "adamw", "train_text_encoder": True, "flip": True, "network_dropout": 0.2, "ema": True},
        {"optimizer": "prodigy", "learning_rate": 1.0, "gradient_accumulation": 2, "caption_dropout": 0.5},
        {"optimizer": "adafactor", "cache_latents": False, "shuffle_captions": True, "noise_offset": 0.1},
        {"optimizer": "lion", "train_text_encoder": False, "repeats": 2, "scheduler": "cosine_with_restarts"},
    ],
)
def test_a_stopped_run_goes_on_bit_for_bit(make_plan: Make, train: Train, settings: dict[str, Any]) -> None:
    whole = make_plan(folder="whole", **settings)
    _, events = train(whole)
    wanted = losses(events)
    broken = make_plan(folder="broken", **settings)
    seen: dict[int, float] = {}
    for stop in (1, 3, 0):
        result, events = train(broken, stop_after=stop)
        seen |= losses(events)
        assert (result is None) == bool(stop)
    assert seen == wanted
    assert content(broken.checkpoints_dir / "mine.safetensors") == content(
        whole.checkpoints_dir / "mine.safetensors"
    )
