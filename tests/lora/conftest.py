"""LoRA files of every kind, made of small random tensors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

STEM = "lora_unet_down_blocks_{i}_attentions_0_transformer_blocks_0_attn2_to_k"


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def make(tmp_path: Path, rng: np.random.Generator) -> Callable[..., Path]:
    """A kohya file for SD1.5 with three linear layers and one convolution; keyword arguments change it."""

    def write(
        name: str = "style", rank: int = 8, alpha: float = 4.0, dtype: Any = np.float32, extra: dict[str, Any] | None = None,
        told: dict[str, str] | None = None, width: int = 768,
    ) -> Path:  # fmt: skip
        tensors: dict[str, Any] = {}
        for i in range(3):
            stem = STEM.format(i=i)
            tensors[f"{stem}.lora_down.weight"] = rng.normal(size=(rank, width))
            tensors[f"{stem}.lora_up.weight"] = rng.normal(size=(32, rank)) * (i + 1)
            tensors[f"{stem}.alpha"] = np.array(alpha)
        conv = "lora_unet_down_blocks_0_resnets_0_conv1"
        tensors[f"{conv}.lora_down.weight"] = rng.normal(size=(rank, 12, 3, 3))
        tensors[f"{conv}.lora_up.weight"] = rng.normal(size=(16, rank, 1, 1))
        tensors[f"{conv}.alpha"] = np.array(alpha)
        tensors = {k: np.asarray(v, dtype=dtype) for k, v in {**tensors, **(extra or {})}.items()}
        path = tmp_path / f"{name}.safetensors"
        save_file(
            tensors,
            str(path),
            metadata=told or {"ss_network_dim": str(rank), "ss_base_model_version": "sd_v1"},
        )
        return path

    return write


class FakeWorker:
    """What the tools ask of a job's worker."""

    def check(self) -> None:
        return None

    def progress(self, *_args: Any, **_more: Any) -> None:
        return None


@pytest.fixture
def worker() -> Any:
    return FakeWorker()


def deltas(path: Path) -> dict[str, np.ndarray]:
    """What a kohya or peft file changes at weight 1, layer by layer."""
    from studio.lora.workers.tensors import read

    return {n: layer.delta().double().numpy() for n, layer in read(path).layers.items()}
