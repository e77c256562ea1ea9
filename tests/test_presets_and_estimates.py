from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from studio import files
from studio.errors import InputError, NotFoundError
from studio.estimate import GIB, estimate, fitting_batch, plan_steps
from studio.machine import Gpu, detect
from studio.models import get_model, list_models
from studio.presets import default_for, fill, get_preset, list_presets, presets_for, save_as_preset
from studio.settings import TrainingSettings, parse_settings, unusual
from studio.workspace import Workspace, shipped

CPU = dataclasses.replace(detect(), gpus=())
CARD = dataclasses.replace(detect(), gpus=(Gpu("RTX 3060", 12 * GIB, "580.1"),))


@pytest.mark.parametrize("path", sorted(shipped("presets").glob("*.yaml")), ids=lambda p: p.stem)
def test_every_shipped_preset_fills_settings(path: Path, workspace: Workspace) -> None:
    raw = files.read_yaml(path)
    assert path.read_text().startswith("# "), "its head says who for, which memory, how long"
    preset = get_preset(workspace, raw["id"])
    entry = next(m for m in list_models(workspace) if m.family == preset.family)
    settings = fill(preset, entry, 20, CARD)
    assert settings.resolution == entry.resolution
    assert not [f for f in unusual(settings) if "repeats" not in f.where]
    assert preset.source and preset.who and preset.time and preset.memory


@pytest.mark.parametrize("base", ["pocket", "sd15", "sdxl", "pony", "sd35-large-local", "flux-dev"])
def test_every_base_model_here_has_the_three(workspace: Workspace, base: str) -> None:
    entry = get_model(workspace, base)
    assert [p.title for p in presets_for(workspace, entry)] == ["Quick", "Standard", "Thorough"]
    assert default_for(workspace, entry).title == "Standard"


@pytest.mark.parametrize("base", ["sd35-large", "flux"])
def test_what_is_rented_has_presets_of_its_own(workspace: Workspace, base: str) -> None:
    entry = get_model(workspace, base)
    assert [p.title for p in presets_for(workspace, entry)] == ["Beginner", "Experienced", "Fast"]
    preset = default_for(workspace, entry)
    assert preset.title == "Beginner"
    assert estimate(entry.family, fill(preset, entry, 20, CPU), [20]).fits(1)


@pytest.mark.parametrize(("gib", "swapped"), [(24, 0), (16, 8), (12, 16), (10, 22), (8, 28)])
def test_a_small_card_keeps_blocks_of_flux_outside(workspace: Workspace, gib: int, swapped: int) -> None:
    card = dataclasses.replace(CARD, gpus=(Gpu("card", gib * GIB, "580.1"),))
    settings = fill(get_preset(workspace, "flux-standard"), get_model(workspace, "flux-dev"), 20, card)
    assert (settings.blocks_to_swap, settings.fp8_base) == (swapped, True)


def test_a_computer_without_a_card_gets_nothing_that_needs_one(workspace: Workspace) -> None:
    settings = fill(get_preset(workspace, "sd35-standard"), get_model(workspace, "sd35-large-local"), 20, CPU)
    assert (settings.optimizer, settings.fp8_base, settings.precision, settings.blocks_to_swap) == (
        "adamw",
        False,
        "no",
        0,
    )


def test_repeats_follow_the_number_of_pictures(workspace: Workspace) -> None:
    preset, entry = get_preset(workspace, "pocket-standard"), get_model(workspace, "pocket")
    shown = {n: n * fill(preset, entry, n, CPU).repeats for n in (5, 20, 50, 300)}
    assert all(abs(v - 107) < 20 for n, v in shown.items() if n <= 50)
    assert shown[300] == 300
    assert (
        fill(get_preset(workspace, "sd15-standard"), get_model(workspace, "sd15"), 20, CPU).precision == "no"
    )


def test_wrong_presets_are_refused(workspace: Workspace) -> None:
    with pytest.raises(InputError, match="for sdxl models"):
        fill(get_preset(workspace, "sdxl-quick"), get_model(workspace, "pocket"), 20, CPU)
    with pytest.raises(NotFoundError) as told:
        get_preset(workspace, "pocket-slow")
    assert "pocket-quick" in told.value.fix
    files.write_yaml(workspace.presets_dir / "bad.yaml", {"id": "bad"})
    with pytest.raises(InputError, match=r"bad\.yaml") as told_bad:
        list_presets(workspace)
    assert len(told_bad.value.findings) >= 5, "all problems at once"


def test_own_settings_become_a_preset(workspace: Workspace) -> None:
    settings = parse_settings({"rank": 12, "resolution": 64, "bucket_step": 8})
    preset = save_as_preset(workspace, "My way", "pocket", settings)
    assert fill(preset, get_model(workspace, "pocket"), 20, CPU) == settings
    with pytest.raises(InputError, match="already"):
        save_as_preset(workspace, "My way", "pocket", settings)


def test_steps_are_counted_per_bucket() -> None:
    s = TrainingSettings(batch_size=4, epochs=3)
    # 5 and 1 pictures, twice each: 10 -> 3 batches, 2 -> 1 batch.
    plan = plan_steps([10, 2, 0], s)
    assert (plan.pictures_per_epoch, plan.steps_per_epoch, plan.total_steps, plan.epochs) == (12, 4, 12, 3)
    assert plan_steps([10, 2], s.model_copy(update={"gradient_accumulation": 3})).steps_per_epoch == 2
    limited = plan_steps([10, 2], s.model_copy(update={"max_steps": 5}))
    assert (limited.total_steps, limited.epochs) == (5, 2)
    assert plan_steps([], s).total_steps == 0


def test_memory_grows_with_what_costs_memory() -> None:
    base = TrainingSettings(
        resolution=1024, precision="bf16", gradient_checkpointing=True, train_text_encoder=False
    )
    at = lambda **c: estimate("sdxl", base.model_copy(update=c), [20]).memory_bytes  # noqa: E731
    plain = at()
    for costly in (
        {"batch_size": 2},
        {"rank": 64},
        {"gradient_checkpointing": False},
        {"precision": "no"},
        {"train_text_encoder": True},
        {"cache_latents": False},
        {"optimizer": "prodigy"},
        {"resolution": 1536},
    ):
        assert at(**costly) > plain, costly
    assert at(optimizer="adamw8bit") < plain


@pytest.mark.parametrize(
    ("family", "settings", "gib"),
    [
        # Peaks that somebody measured with the same geometry and settings (device memory, so about 0.5 GiB of context on top).
        (
            "sd15",
            {"resolution": 512, "rank": 16, "targets": "attention", "gradient_checkpointing": False},
            2.87,
        ),
        (
            "sd15",
            {"resolution": 512, "rank": 16, "targets": "attention", "gradient_checkpointing": True},
            1.98,
        ),
        (
            "sdxl",
            {"resolution": 1024, "rank": 16, "targets": "attention", "gradient_checkpointing": False},
            13.03,
        ),
        (
            "sdxl",
            {"resolution": 1024, "rank": 16, "targets": "attention", "gradient_checkpointing": True},
            6.53,
        ),
    ],
)
def test_measured_peaks_lie_in_the_band(family: str, settings: dict[str, object], gib: float) -> None:
    s = parse_settings({"precision": "bf16", "train_text_encoder": False, **settings})
    e = estimate(family, s, [20])
    assert e.memory_low / GIB <= gib <= e.memory_high / GIB


def test_measured_figures_replace_the_forecast() -> None:
    s = TrainingSettings(epochs=10, batch_size=4)
    guess = estimate("pocket", s, [20])
    real = estimate("pocket", s, [20], seconds_per_step=0.2, peak_bytes=700_000_000, overhead_seconds=5)
    assert guess.seconds is None and guess.basis == "estimated"
    assert real.basis == "measured" and real.memory_bytes == 700_000_000
    assert real.seconds == pytest.approx(5 + 0.2 * 50)


def test_the_batch_is_halved_until_it_fits() -> None:
    s = TrainingSettings(
        resolution=1024, precision="bf16", gradient_checkpointing=True, train_text_encoder=False, batch_size=8
    )
    whole = estimate("sdxl", s, [20]).memory_bytes
    assert fitting_batch("sdxl", s, [20], int(whole / 0.8) + 1) == 8
    assert fitting_batch("sdxl", s, [20], 12 * GIB) in (1, 2)
    assert fitting_batch("sdxl", s, [20], 4 * GIB) == 0
