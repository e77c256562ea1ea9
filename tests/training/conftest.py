"""Base models with random weights in the geometry of the real ones, small enough to train in seconds."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.jobs.lifeline import Worker
from studio.settings import TrainingSettings
from studio.training.base import PlannedPicture, TrainingPlan

TRIGGER = "bluprnt"


def write_tokenizer(folder: Path, length: int = 16) -> int:
    """A CLIP tokenizer that knows single bytes only; the size of its vocabulary."""
    letters = [chr(c) for c in range(33, 127)]
    vocabulary = {t: i for i, t in enumerate([*letters, *(f"{c}</w>" for c in letters)])}
    for special in ("<|startoftext|>", "<|endoftext|>"):
        vocabulary[special] = len(vocabulary)
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "CLIPTokenizer",
                "model_max_length": length,
                "bos_token": "<|startoftext|>",
                "eos_token": "<|endoftext|>",
                "unk_token": "<|endoftext|>",
                "pad_token": "<|endoftext|>",
            }
        )
    )
    return len(vocabulary)


def write_model(folder: Path, family: str, *, prediction: str = "epsilon", seed: int = 0) -> Path:
    """A diffusers folder of `family` with random weights: pocket, sd15 (four blocks) or sdxl (two text encoders)."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    torch.manual_seed(seed)
    vae_blocks = {"pocket": (8, 8, 16), "sd15": (8, 8, 8, 8), "sdxl": (8, 8, 8, 8)}[family]
    AutoencoderKL(
        block_out_channels=vae_blocks,
        down_block_types=("DownEncoderBlock2D",) * len(vae_blocks),
        up_block_types=("UpDecoderBlock2D",) * len(vae_blocks),
        norm_num_groups=4,
        latent_channels=4,
        scaling_factor=1.0 if family == "pocket" else 0.18215,
    ).save_pretrained(folder / "vae")
    size = write_tokenizer(folder / "tokenizer")

    def text_config(width: int) -> CLIPTextConfig:
        return CLIPTextConfig(
            vocab_size=size,
            hidden_size=width,
            intermediate_size=width * 2,
            num_hidden_layers=2,
            num_attention_heads=2,
            max_position_embeddings=16,
            projection_dim=width,
            bos_token_id=size - 2,
            eos_token_id=size - 1,
            pad_token_id=size - 1,
        )

    CLIPTextModel(text_config(16)).save_pretrained(folder / "text_encoder")
    common: dict[str, Any] = {
        "norm_num_groups": 4,
        "attention_head_dim": 2,
        "in_channels": 4,
        "out_channels": 4,
    }
    if family == "sdxl":
        write_tokenizer(folder / "tokenizer_2")
        CLIPTextModelWithProjection(text_config(24)).save_pretrained(folder / "text_encoder_2")
        unet = UNet2DConditionModel(
            block_out_channels=(8, 16, 16),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            layers_per_block=2,
            transformer_layers_per_block=(1, 1, 2),
            cross_attention_dim=16 + 24,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 24,
            sample_size=4,
            **common,
        )
    else:
        blocks = (8, 16, 16) if family == "pocket" else (8, 16, 16, 16)
        cross = 2 if family == "pocket" else 3
        unet = UNet2DConditionModel(
            block_out_channels=blocks,
            down_block_types=("CrossAttnDownBlock2D",) * cross + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * cross,
            layers_per_block=1 if family == "pocket" else 2,
            cross_attention_dim=16,
            sample_size=8,
            **common,
        )
    unet.save_pretrained(folder / "unet")
    DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
        prediction_type=prediction,
        timestep_spacing="trailing",
    ).save_pretrained(folder / "scheduler")
    parts: dict[str, Any] = {
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    if family == "sdxl":
        parts["text_encoder_2"] = ["transformers", "CLIPTextModelWithProjection"]
        parts["tokenizer_2"] = ["transformers", "CLIPTokenizer"]
        parts["_class_name"] = "StableDiffusionXLPipeline"
        parts["force_zeros_for_empty_prompt"] = False
    else:
        parts["_class_name"] = "StableDiffusionPipeline"
        parts["safety_checker"] = parts["feature_extractor"] = [None, None]
        parts["requires_safety_checker"] = False
    (folder / "model_index.json").write_text(json.dumps(parts))
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """models("sdxl") -> a folder, made once a session."""
    made: dict[tuple[str, str], Path] = {}

    def get(family: str, prediction: str = "epsilon") -> Path:
        if (family, prediction) not in made:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # libraries deprecate their own insides while they load
                made[family, prediction] = write_model(
                    tmp_path_factory.mktemp("models") / f"{family}-{prediction}",
                    family,
                    prediction=prediction,
                )
        return made[family, prediction]

    return get


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[PlannedPicture]:
    """Six small pictures with captions: four square, two wide."""
    folder = tmp_path_factory.mktemp("pictures")
    chance = np.random.default_rng(0)
    found = []
    for i, subject in enumerate(("dog", "cat, red hat", "car", "tree, snow, night", "boat", "bird")):
        size = (24, 32) if i >= 4 else (32, 32)
        raw = chance.integers(0, 255, (*size, 3), dtype=np.uint8)
        Image.fromarray(raw).save(folder / f"{i}.png")
        found.append(PlannedPicture(path=folder / f"{i}.png", caption=f"{TRIGGER}, {subject}"))
    return found


@pytest.fixture
def make_plan(
    tmp_path: Path, models: Callable[..., Path], pictures: list[PlannedPicture]
) -> Callable[..., TrainingPlan]:
    """make_plan(family="pocket", folder="run", **settings) -> a saved plan of a short run."""

    def make(family: str = "pocket", folder: str = "run", **more: Any) -> TrainingPlan:
        of_plan = {k: more.pop(k) for k in list(more) if k in TrainingPlan.model_fields}
        prediction = of_plan.setdefault("prediction", "v_prediction" if family == "pocket" else "epsilon")
        told = {
            "rank": 2,
            "alpha": 2,
            "batch_size": 2,
            "epochs": 3,
            "resolution": 32,
            "bucket_step": 8,
            "learning_rate": 1e-2,
            "sample_every_epochs": 0,
            **more,
        }
        plan = TrainingPlan(
            **{
                "run_folder": tmp_path / folder,
                "model_path": models(family, prediction),
                "family": family,
                "pictures": tuple(pictures),
                "settings": TrainingSettings(**told),
                "trigger": TRIGGER,
                "output_name": "mine",
                "model_title": "Tiny",
                **of_plan,
            }
        )
        plan.save()
        return plan

    return make


class StopAfter(Worker):
    """A worker that is asked to stop after a number of steps; 0: never."""

    def __init__(self, folder: Path, steps: int = 0) -> None:
        super().__init__(folder)
        self.left = steps

    def emit(self, type: str, **fields: Any) -> None:
        super().emit(type, **fields)
        if type == "step" and self.left:
            self.left -= 1
            if self.left == 0:
                self._stopping("asked")


@pytest.fixture
def train(
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., tuple[dict[str, Any] | None, list[dict[str, Any]]]]:
    """train(plan, stop_after=0) -> (result, events of this attempt), in this process."""
    from studio import files

    if "OMP_NUM_THREADS" not in os.environ:
        monkeypatch.setenv("OMP_NUM_THREADS", "1")  # sharing such small work out costs more than it saves

    def run(plan: TrainingPlan, stop_after: int = 0) -> tuple[dict[str, Any] | None, list[dict[str, Any]]]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from accelerate.state import AcceleratorState

            from studio.training.workers.trainer import Trainer

            AcceleratorState._reset_state(reset_partial_state=True)
            _, before = files.read_jsonl(plan.run_folder / "events.jsonl")
            with StopAfter(plan.run_folder, stop_after) as worker:
                result = Trainer(plan, worker).run()
        return result, files.read_jsonl(plan.run_folder / "events.jsonl", before)[0]

    return run
