"""The trainer on tiny models: it learns, repeats itself, goes on where it stopped, and names its failures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, StudioError
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


def test_two_runs_are_the_same_and_another_seed_is_not(make_plan: Make, train: Train) -> None:
    files = []
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        plan = make_plan(folder=folder, seed=seed, epochs=1)
        train(plan)
        files.append(content(plan.checkpoints_dir / "mine.safetensors"))
    assert files[0] == files[1] != files[2]


def test_it_learns(make_plan: Make, train: Train) -> None:
    """One picture, many steps: the loss of the last epochs lies well below that of the first."""
    plan = make_plan(
        epochs=8,
        repeats=2,
        batch_size=4,
        learning_rate=2e-2,
        min_snr_gamma=0,
        rank=4,
        alpha=4,
        caption_dropout=0,
    )
    _, events = train(plan)
    seen = list(losses(events).values())
    assert sum(seen[-12:]) < 0.97 * sum(seen[:12])


@pytest.mark.parametrize(
    "settings",
    [
        {"family": "sdxl", "gradient_checkpointing": True, "train_text_encoder": True, "flip": True},
        {
            "family": "sdxl",
            "train_text_encoder": False,
            "cache_text_embeddings": True,
            "sample_every_epochs": 1,
        },
        {"family": "sd15", "precision": "bf16", "targets": "attention", "max_steps": 2},
        {"family": "sd15", "cache_latents": False, "buckets": False, "min_snr_gamma": 0},
    ],
)
def test_other_families_and_settings_run_through(
    make_plan: Make, train: Train, settings: dict[str, Any]
) -> None:
    plan = make_plan(**{"epochs": 1, **settings})
    result, events = train(plan)
    assert result is not None and all(e["grad_norm"] > 0 for e in events if e["type"] == "step")
    kinds = {"sample"} if settings.get("sample_every_epochs") else set()
    assert kinds <= {e["type"] for e in events}
    assert len(find_checkpoints(plan.run_folder)) == 1


def test_gradient_checkpointing_and_caching_do_not_change_the_result(make_plan: Make, train: Train) -> None:
    """They save memory or time, nothing else. Rounding may differ in the last digits."""
    curves = []
    for folder, more in (
        ("plain", {"cache_latents": False, "cache_text_embeddings": False}),
        ("cached", {"cache_latents": True, "cache_text_embeddings": True}),
        ("checkpointed", {"gradient_checkpointing": True}),
    ):
        plan = make_plan(folder=folder, train_text_encoder=False, epochs=2, **more)
        curves.append(list(losses(train(plan)[1]).values()))
    assert curves[1] == pytest.approx(curves[0], rel=1e-4)
    assert curves[2] == pytest.approx(curves[1], rel=1e-4)


def test_a_dry_run_takes_the_largest_pictures_and_measures(make_plan: Make, train: Train) -> None:
    plan = make_plan(limit_steps=3, epochs=5, sample_every_epochs=1)
    result, events = train(plan)
    assert result is not None and result["steps_run"] == 3
    for key in ("seconds_per_step", "peak_bytes", "start_seconds", "first_loss", "last_loss"):
        assert result[key] > 0
    assert [e["type"] for e in events if e["type"] in ("sample", "state", "checkpoint")] == ["checkpoint"]
    assert [c.final for c in find_checkpoints(plan.run_folder)] == [True]


def test_a_changed_plan_is_not_gone_on_with(make_plan: Make, train: Train) -> None:
    plan = make_plan(folder="one")
    train(plan, stop_after=4)
    with pytest.raises(InputError, match="belongs to another run"):
        train(make_plan(folder="one", learning_rate=5e-3))
    other = make_plan(folder="two", resume_from=plan.state_dir / "000004")
    result, events = train(other)
    assert result is not None and next(e["step"] for e in events if e["type"] == "step") == 5


def test_a_stop_while_sampling_loses_no_sample(make_plan: Make, train: Train) -> None:
    plan = make_plan(epochs=2, sample_every_epochs=1)
    result, _ = train(plan, stop_after=3)  # the last step of epoch 1: samples are due, and the job shall stop
    assert result is None
    train(plan)
    assert sorted({s.step for s in find_samples(plan.run_folder)}) == [0, 3, 6]


def test_nan_stops_at_once_and_leaves_no_file(make_plan: Make, train: Train, tmp_path: Path) -> None:
    """A base model with one broken value, as fp16 conversions of large models produce."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    sound = make_plan()
    broken = tmp_path / "broken"
    shutil.copytree(sound.model_path, broken)
    weights = broken / "unet" / "diffusion_pytorch_model.safetensors"
    tensors = load_file(weights)
    tensors["conv_out.bias"][0] = torch.nan
    save_file(tensors, weights, {"format": "pt"})
    plan = make_plan(model_path=broken, folder="nan")
    with pytest.raises(StudioError, match="became NaN at step 1") as caught:
        train(plan)
    assert "first step" in caught.value.why and caught.value.fix
    assert caught.value.findings[0].code == "loss-nan"
    assert not plan.checkpoints_dir.exists()


def test_an_absurd_rate_ends_with_its_cause(make_plan: Make, train: Train) -> None:
    plan = make_plan(learning_rate=10, max_grad_norm=0, optimizer="lion", epochs=40, rank=8, alpha=512)
    with pytest.raises(StudioError, match=r"became NaN|not numbers") as caught:
        train(plan)
    assert "learning rate" in caught.value.fix


@pytest.mark.parametrize(
    "text", ["CUDA out of memory. Tried to allocate 2.00 GiB", "DefaultCPUAllocator: can't allocate memory"]
)
def test_out_of_memory_is_named_with_ways_out(
    make_plan: Make, train: Train, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    from studio.training.workers import loss

    def fail(*args: Any) -> None:
        raise RuntimeError(text)

    monkeypatch.setattr(loss, "weighted_error", fail)
    with pytest.raises(StudioError, match="ran out of memory") as caught:
        train(make_plan(batch_size=4, sample_every_epochs=0))
    assert caught.value.findings[0].code == "out-of-memory"
    assert "batch size to 2" in caught.value.fix and "gradient checkpointing" in caught.value.fix


def test_a_base_model_that_is_not_whole_is_named(make_plan: Make, train: Train, tmp_path: Path) -> None:
    import shutil

    sound = make_plan()
    for name, victim in (
        ("a", "unet/diffusion_pytorch_model.safetensors"),
        ("b", "tokenizer/vocab.json"),
        ("c", "vae/config.json"),
    ):
        folder = tmp_path / name
        shutil.copytree(sound.model_path, folder)
        (folder / victim).unlink()
        with pytest.raises(StudioError, match="cannot be loaded"):
            train(make_plan(model_path=folder, folder=f"run-{name}"))
