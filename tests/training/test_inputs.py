"""What goes into a step: captions, pictures, order; and what a state keeps."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from studio.dataset.buckets import place
from studio.errors import InputError
from studio.estimate import plan_steps
from studio.settings import TrainingSettings
from studio.training.base import PlannedPicture, TrainingPlan
from studio.training.workers import state
from studio.training.workers.captions import caption_for
from studio.training.workers.pictures import (
    Item,
    Latents,
    epoch_batches,
    heaviest_first,
    into_buckets,
    pixels,
    read_items,
)

Make = Callable[..., TrainingPlan]


# --- Captions


def test_dropout_takes_its_share() -> None:
    s = TrainingSettings(caption_dropout=0.25)
    said = Counter(caption_for("a, b", s, "a", random.Random(i)) for i in range(4000))
    assert set(said) == {"", "a, b"}
    assert 0.22 < said[""] / 4000 < 0.28


def test_shuffling_keeps_the_front_and_every_part() -> None:
    s = TrainingSettings(caption_dropout=0, shuffle_captions=True, keep_tokens=2)
    said = {caption_for("trig, b, c, d, e", s, "trig", random.Random(i)) for i in range(200)}
    assert all(
        x.startswith("trig, b, ") and sorted(x.split(", ")) == ["b", "c", "d", "e", "trig"] for x in said
    )
    assert len(said) == 6


def test_shuffling_puts_a_misplaced_trigger_first() -> None:
    s = TrainingSettings(caption_dropout=0, shuffle_captions=True)
    for i in range(20):
        parts = caption_for("a, b, Trig, c", s, "trig", random.Random(i)).split(", ")
        assert parts[:2] == ["Trig", "a"] and sorted(parts) == ["Trig", "a", "b", "c"]


# --- Pictures


def item(
    tmp_path: Path, name: str, content: np.ndarray, settings: TrainingSettings, mode: str | None = None
) -> Item:
    path = tmp_path / name
    Image.fromarray(content, mode).save(path)
    height, width = content.shape[:2]
    return Item(0, path, "", "", (width, height), place(width, height, settings))


def test_a_wide_picture_is_cut_in_the_middle_and_mirrored_with_its_cut(tmp_path: Path) -> None:
    """33 columns, 0..32: one has to go. Mirrored, the same columns have to remain, the other way round."""
    s = TrainingSettings(resolution=32, bucket_step=8)
    ramp = np.repeat(np.tile(np.arange(33, dtype=np.uint8) * 7, (24, 1))[:, :, None], 3, axis=2)
    one = item(tmp_path, "wide.png", ramp, s)
    assert one.placement.bucket == (32, 24)
    plain, mirrored = pixels(one, False), pixels(one, True)
    assert plain.shape == (1, 3, 24, 32)
    assert torch.equal(plain.flip(-1), mirrored)
    assert plain[0, 0, 0].tolist() == pytest.approx([c * 7 / 127.5 - 1 for c in range(32)], abs=1e-6)
    assert one.sdxl_sizes(False) == (24, 33, 0, 0, 24, 32)
    assert one.sdxl_sizes(True) == (24, 33, 0, 1, 24, 32)


def test_transparency_becomes_white_and_rotation_is_applied(tmp_path: Path) -> None:
    s = TrainingSettings(resolution=32, bucket_step=8)
    clear = np.zeros((32, 32, 4), np.uint8)
    assert torch.equal(pixels(item(tmp_path, "clear.png", clear, s), False), torch.ones(1, 3, 32, 32))
    upright = np.zeros((32, 16, 3), np.uint8)
    upright[:4] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to the right when shown
    path = tmp_path / "turned.jpg"
    Image.fromarray(upright).rotate(90, expand=True).save(path, exif=exif, quality=95)
    turned = Item(0, path, "", "", (16, 32), place(16, 32, s))
    shown = pixels(turned, False)
    assert shown.shape == (1, 3, 32, 16)
    assert float(shown[0, :, :3].mean()) > 0.9 and float(shown[0, :, 6:].mean()) < -0.9


def test_bad_pictures_are_told_by_name_all_at_once(
    make_plan: Make, pictures: list[PlannedPicture], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].path.read_bytes()[:60])
    changed = tmp_path / "changed.png"
    Image.new("RGB", (32, 32)).save(changed)
    plan = make_plan(
        pictures=(
            pictures[0],
            PlannedPicture(path=broken, caption="x"),
            PlannedPicture(path=tmp_path / "gone.png", caption="x"),
            PlannedPicture(path=changed, caption="x", sha256="0" * 64),
        )
    )
    with pytest.raises(InputError) as caught:
        read_items(plan, lambda n: None)
    told = str(caught.value)
    assert "3 of 4" in told and all(n in told for n in ("broken.png", "gone.png", "changed.png"))


# --- Order


@pytest.mark.parametrize(("batch", "repeats", "accumulation"), [(1, 1, 1), (2, 3, 1), (4, 1, 2), (3, 2, 4)])
def test_batches_are_what_the_estimate_counts(
    make_plan: Make, batch: int, repeats: int, accumulation: int
) -> None:
    plan = make_plan(batch_size=batch, repeats=repeats, gradient_accumulation=accumulation)
    items = read_items(plan, lambda n: None)
    buckets = into_buckets(items)
    assert [len(b) for b in buckets] == [4, 2]
    planned = plan_steps([4 * repeats, 2 * repeats], plan.settings)
    for epoch in (1, 2, 3):
        batches = epoch_batches(buckets, items, plan.settings, epoch)
        assert -(-len(batches) // accumulation) == planned.steps_per_epoch
        assert Counter(i for b in batches for i in b) == dict.fromkeys(range(6), repeats)
        assert all(len({items[i].placement.bucket for i in b}) == 1 for b in batches)
        assert batches == epoch_batches(buckets, items, plan.settings, epoch)
    orders = {str(epoch_batches(buckets, items, plan.settings, e)) for e in range(1, 9)}
    assert len(orders) > 4
    sizes = [len(b) * (32 * 32 if b[0] < 4 else 32 * 24) for b in heaviest_first(batches, items)]
    assert sizes == sorted(sizes, reverse=True)


# --- Latents


class _Vae:
    """Counts what it encodes; its answer is the mean of the picture."""

    def __init__(self) -> None:
        self.calls = 0
        self.config = type("Config", (), {"scaling_factor": 0.5, "shift_factor": None})()

    def encode(self, picture: torch.Tensor) -> Any:
        self.calls += 1
        mean = picture.mean(dim=1, keepdim=True).expand(-1, 4, -1, -1)[:, :, ::8, ::8]
        said = type("Said", (), {"mean": mean, "std": torch.full_like(mean, 0.1)})()
        return type("Output", (), {"latent_dist": said})()


def test_cached_latents_are_drawn_as_fresh_ones_are(make_plan: Make, tmp_path: Path) -> None:
    plan = make_plan()
    items = read_items(plan, lambda n: None)
    cpu = torch.device("cpu")

    def draw(vae: _Vae, cached: bool, folder: Path | None) -> torch.Tensor:
        latents = Latents(vae, items, folder=folder, cached=cached, device=cpu)
        if cached:
            latents.prepare(True, lambda n, of: None)
        for _ in range(2):
            out = latents.draw([0, 2], [False, True], torch.Generator().manual_seed(5))
        return out

    fresh, first, second = _Vae(), _Vae(), _Vae()
    wanted = draw(fresh, False, None)
    assert fresh.calls == 4
    assert torch.equal(draw(first, True, tmp_path / "cache"), wanted) and first.calls == 12
    damaged = sorted((tmp_path / "cache").iterdir())[0]
    damaged.write_bytes(b"cut")
    assert torch.equal(draw(second, True, tmp_path / "cache"), wanted) and second.calls == 1
    assert wanted.shape == (2, 4, 4, 4)


# --- State


def test_a_state_comes_back_as_it_was() -> None:
    tensors: dict[str, torch.Tensor] = {}
    given = {
        "state": {0: {"m": torch.arange(3.0), "k": None}, 1: {}},
        "groups": [{"lr": 0.1, "betas": (0.9, 1e-8)}],
    }
    import json

    flat = json.loads(json.dumps(state.flatten(given, tensors)))
    back = state.unflatten(flat, tensors)
    assert back["groups"] == [{"lr": 0.1, "betas": [0.9, 1e-8]}]
    assert torch.equal(back["state"][0]["m"], torch.arange(3.0)) and back["state"][1] == {}
    with pytest.raises(TypeError, match="cannot be stored"):
        state.flatten({"x": object()}, {})


def test_a_state_that_cannot_be_written_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    schedule = torch.optim.lr_scheduler.ConstantLR(optimizer)

    def save(step: int) -> Path:
        return state.save(
            tmp_path,
            progress=state.Progress(step=step),
            network={"w": weight.detach()},
            average=None,
            optimizer=optimizer,
            scheduler=schedule,
            scaler=None,
            about={"plan": "x"},
        )

    save(1)
    assert save(2) == state.latest(tmp_path) and len(list(tmp_path.iterdir())) == 1

    def full(*args: Any, **more: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state, "save_file", full)
    from studio.errors import EnvironmentalError

    with pytest.raises(EnvironmentalError, match="could not be saved"):
        save(3)
    assert state.latest(tmp_path) == tmp_path / "000002" and len(list(tmp_path.iterdir())) == 1
    assert state.load(tmp_path / "000002").progress.step == 2


@pytest.mark.parametrize("name", ["state.json", "optimizer.safetensors", "lora.safetensors"])
def test_a_damaged_state_is_told(tmp_path: Path, name: str) -> None:
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([weight])
    path = state.save(
        tmp_path,
        progress=state.Progress(step=1),
        network={"w": weight.detach()},
        average=None,
        optimizer=optimizer,
        scheduler=torch.optim.lr_scheduler.ConstantLR(optimizer),
        scaler=None,
        about={},
    )
    (path / name).write_bytes(b"{")
    with pytest.raises(InputError, match="cannot be read"):
        state.load(path)
