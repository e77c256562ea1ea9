"""Loading base models: diffusers folders, single files, and the shipped geometry of the real ones."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.training.base import TrainingPlan
from studio.workspace import shipped
from tests.training.original_names import write_checkpoint

Make = Callable[..., TrainingPlan]
Train = Callable[..., tuple[dict[str, Any] | None, list[dict[str, Any]]]]
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_a_single_file_is_the_same_model_as_its_folder(
    make_plan: Make, models: Callable[..., Path], tmp_path: Path, family: str
) -> None:
    import torch

    from studio.training.workers.base_model import load

    folder = models(family)
    single = write_checkpoint(folder, tmp_path / "model.safetensors", family)
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    ours = load(make_plan(family), torch.float32)
    theirs = load(make_plan(family, folder="single", model_path=single), torch.float32)
    for a, b in zip(
        (ours.unet, ours.vae, *ours.text_encoders),
        (theirs.unet, theirs.vae, *theirs.text_encoders),
        strict=True,
    ):
        one, other = a.state_dict(), b.state_dict()
        assert one.keys() == other.keys()
        for name in one:
            torch.testing.assert_close(one[name], other[name].reshape(one[name].shape), rtol=0, atol=0)
    told = [t("bluprnt, dog").input_ids for t in ours.tokenizers]
    assert told == [t("bluprnt, dog").input_ids for t in theirs.tokenizers]
    assert torch.equal(ours.alphas_cumprod, theirs.alphas_cumprod)


def test_a_single_file_trains(
    make_plan: Make, models: Callable[..., Path], train: Train, tmp_path: Path
) -> None:
    single = write_checkpoint(models("sd15"), tmp_path / "model.safetensors", "sd15")
    shutil.copytree(models("sd15"), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    losses = []
    for folder, place in (("folder", models("sd15")), ("single", single)):
        plan = make_plan("sd15", folder=folder, model_path=place, epochs=1)
        losses.append([e["loss"] for e in train(plan)[1] if e["type"] == "step"])
    # The tensors lie elsewhere in memory, which may round the last digit differently.
    assert losses[0] == pytest.approx(losses[1], rel=1e-5) and len(losses[0]) == 3


def test_marks_of_a_zero_terminal_snr_model_are_heeded(
    make_plan: Make, models: Callable[..., Path], tmp_path: Path
) -> None:
    """NoobAI v-pred files carry empty tensors named `v_pred` and `ztsnr`: their last noise level is pure noise."""
    import torch
    from safetensors.torch import load_file, save_file

    from studio.training.workers.base_model import load
    from studio.training.workers.sampling import scheduler_for

    single = write_checkpoint(models("sdxl"), tmp_path / "model.safetensors", "sdxl")
    save_file({**load_file(single), "v_pred": torch.zeros(0), "ztsnr": torch.zeros(0)}, single)
    shutil.copytree(models("sdxl"), tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    base = load(make_plan("sdxl", model_path=single, prediction="v_prediction"), torch.float32)
    assert float(base.alphas_cumprod[-1]) == pytest.approx(0, abs=1e-6)
    drawing = scheduler_for(base.scheduler_config)
    drawing.set_timesteps(4)
    assert int(drawing.timesteps[0]) == 999 and drawing.config.prediction_type == "v_prediction"


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_the_shipped_geometry_counts_as_the_real_models_do(family: str) -> None:
    """Parameters in millions as public runs print them: UNet, VAE, text encoders."""
    import torch
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    place = shipped("data", "geometry", family)
    wanted = {"sd15": [859.52, 83.65, 123.06], "sdxl": [2567.46, 83.65, 123.06, 694.66]}[family]
    with torch.device("meta"):
        made: list[Any] = [
            UNet2DConditionModel.from_config(UNet2DConditionModel.load_config(place / "unet")),
            AutoencoderKL.from_config(AutoencoderKL.load_config(place / "vae")),
            CLIPTextModel(CLIPTextConfig.from_pretrained(place / "text_encoder")),
        ]
        if family == "sdxl":
            made.append(CLIPTextModelWithProjection(CLIPTextConfig.from_pretrained(place / "text_encoder_2")))
    counts = [sum(p.numel() for p in m.parameters()) / 1e6 for m in made]
    assert counts == pytest.approx(wanted, abs=0.01)


def test_the_shipped_tokenizer_speaks_clip() -> None:
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(shipped("data", "geometry", "tokenizer"), local_files_only=True)
    assert tokenizer("a photo of a cat").input_ids == [49406, 320, 1125, 539, 320, 2368, 49407]
    assert (len(tokenizer), tokenizer.model_max_length, tokenizer.pad_token_id) == (49408, 77, 49407)


def test_half_precision_folders_are_found(
    make_plan: Make, models: Callable[..., Path], tmp_path: Path
) -> None:
    import torch

    from studio.training.workers.base_model import load

    folder = tmp_path / "half"
    shutil.copytree(models("pocket", "v_prediction"), folder)
    for path in [*folder.glob("*/*.safetensors")]:
        path.rename(path.with_suffix(".fp16.safetensors"))
    base = load(make_plan(model_path=folder), torch.float32)
    assert base.unet.dtype == torch.float32 and not any(p.requires_grad for p in base.unet.parameters())


def test_no_weights_are_shipped_with_the_geometry() -> None:
    for path in shipped("data", "geometry").rglob("*"):
        assert path.suffix in ("", ".json", ".md"), path
        if path.suffix == ".json":
            json.loads(path.read_text(encoding="utf-8"))
