"""A project on a tiny base model with random weights, and LoRA files of any strength for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio import files
from studio.evaluation.plan import plan_grid
from studio.evaluation.spec import GridSpec
from studio.project import Intent, Project, create_project
from studio.training.lora_keys import lora_name, target_pattern
from studio.workspace import Workspace
from tests.training.conftest import write_model

SIDE = 32


def write_lora(
    path: Path, model: Path, family: str, strength: float = 0.3, seed: int = 0, text: bool = True
) -> Path:
    """A kohya LoRA file with random layers. strength: size of the change relative to each weight."""
    import torch
    from diffusers import UNet2DConditionModel
    from safetensors.torch import save_file
    from transformers import CLIPTextModel

    generator = torch.Generator().manual_seed(seed)
    parts: dict[Any, Any] = {"unet": UNet2DConditionModel.from_pretrained(model / "unet")}
    if text:
        parts["text_encoder"] = CLIPTextModel.from_pretrained(model / "text_encoder")
    tensors = {}
    for part, module in parts.items():
        for name, layer in module.named_modules():
            if not re.fullmatch(target_pattern(part, "attention+ff"), name):
                continue
            weight = layer.weight
            tail = (1,) * (weight.dim() - 2)
            size = strength * float(weight.detach().std()) / 2
            stem = lora_name(part, name, family)
            tensors[f"{stem}.lora_down.weight"] = (
                torch.randn(4, weight.shape[1], *tail, generator=generator) * size
            )
            tensors[f"{stem}.lora_up.weight"] = torch.randn(weight.shape[0], 4, *tail, generator=generator)
            tensors[f"{stem}.alpha"] = torch.tensor(2.0)
    path.parent.mkdir(parents=True, exist_ok=True)
    told = {
        "ss_network_dim": "4",
        "ss_network_alpha": "2.0",
        "ss_num_epochs": "5",
        "ss_output_name": path.stem,
    }
    save_file(tensors, str(path), metadata=told)
    return path


@pytest.fixture(scope="session")
def pocket_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model in the geometry of the built-in one."""
    return write_model(tmp_path_factory.mktemp("models") / "pocket", "pocket", prediction="v_prediction")


@pytest.fixture(scope="session")
def pocket_lora(pocket_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA for it that also adapts the text encoder."""
    return write_lora(tmp_path_factory.mktemp("loras") / "style.safetensors", pocket_model, "pocket")


def make_project(workspace: Workspace, model: Path, family: str = "pocket", kind: str = "style") -> Project:
    """A project with four captioned pictures whose base model is `model`."""
    files.write_yaml(
        workspace.models_dir / "models.yaml",
        {
            "models": [
                {
                    "id": "tiny",
                    "title": "Tiny",
                    "family": family,
                    "format": "diffusers",
                    "path": str(model),
                    "resolution": SIDE,
                    "bucket_step": 8,
                    "prediction": "v_prediction" if family == "pocket" else "epsilon",
                }
            ]
        },
    )
    intent = Intent.model_validate(
        {"kind": kind, "name": "Blue print", "trigger": "bluprnt", "base_model": "tiny"}
    )
    project = create_project(workspace, intent)
    chance = np.random.default_rng(0)
    for name in ("dog", "car", "tree", "ball"):
        pixels = (np.array([30, 60, 160]) + chance.integers(-25, 25, (48, 40, 3))).astype(np.uint8)
        Image.fromarray(pixels).save(project.dataset_dir / f"{name}.png")
        (project.dataset_dir / f"{name}.txt").write_text(f"bluprnt, {name}\n", encoding="utf-8")
    return project


@pytest.fixture
def project(workspace: Workspace, pocket_model: Path) -> Project:
    """A style project on the tiny base model."""
    return make_project(workspace, pocket_model)


@pytest.fixture
def plan(project: Project, pocket_lora: Path) -> Callable[..., GridSpec]:
    """Plans a small quick grid of the project; keyword arguments change it."""

    def make(**changes: Any) -> GridSpec:
        values: dict[str, Any] = {
            "lora_files": [pocket_lora],
            "weights": (0, 0.5, 1.0),
            "prompts": ["bluprnt, dog", "bluprnt, car", "bluprnt, tree", "dog"],
            "steps": 3,
        }
        return plan_grid(project, **{**values, **changes})

    return make
