"""LoRA files: kohya's names, readable by diffusers with the same effect, and nothing private inside."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, StudioError
from studio.training.base import TrainingPlan, find_checkpoints
from studio.training.lora_keys import layer_of, lora_name, read_header, target_pattern

Make = Callable[..., TrainingPlan]
Train = Callable[..., tuple[dict[str, Any] | None, list[dict[str, Any]]]]

# Geometry of the real models, from their public config.json files: what sd-scripts counts is checked against it.
SD15_UNET: dict[str, Any] = {
    "cross_attention_dim": 768,
    "block_out_channels": (320, 640, 1280, 1280),
    "attention_head_dim": 8,
}
SDXL_UNET: dict[str, Any] = {
    "block_out_channels": (320, 640, 1280),
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    "transformer_layers_per_block": (1, 2, 10),
    "cross_attention_dim": 2048,
    "attention_head_dim": (5, 10, 20),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 256,
    "projection_class_embeddings_input_dim": 2816,
}


def unet_paths(config: dict[str, Any], targets: str) -> list[str]:
    import re

    import torch
    from diffusers import UNet2DConditionModel

    with torch.device("meta"):
        unet = UNet2DConditionModel(**config)
    pattern = re.compile(target_pattern("unet", targets))
    return [name for name, _ in unet.named_modules() if pattern.fullmatch(name)]


@pytest.mark.parametrize(
    ("family", "config", "count", "attention"), [("sd15", SD15_UNET, 192, 128), ("sdxl", SDXL_UNET, 722, 560)]
)
def test_the_adapted_layers_are_those_of_sd_scripts(
    family: str, config: dict[str, Any], count: int, attention: int
) -> None:
    """sd-scripts prints 192 UNet modules for SD1.5 (576 tensors in its file) and 722 for SDXL."""
    paths = unet_paths(config, "attention+ff")
    assert len(paths) == count
    assert len(unet_paths(config, "attention")) == attention
    names = [lora_name("unet", p, family) for p in paths]
    assert len(set(names)) == count
    assert [layer_of(n, family) for n in names] == [("unet", p) for p in paths]
    if family == "sdxl":
        assert "lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q" in names
        assert "lora_unet_middle_block_1_transformer_blocks_9_ff_net_0_proj" in names
        assert "lora_unet_output_blocks_5_1_proj_out" in names
    else:
        assert "lora_unet_down_blocks_0_attentions_0_proj_in" in names
        assert "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_out_0" in names


@pytest.mark.parametrize(
    ("part", "family", "name"),
    [
        ("text_encoder", "sd15", "lora_te_text_model_encoder_layers_0_mlp_fc1"),
        ("text_encoder", "pocket", "lora_te_text_model_encoder_layers_0_mlp_fc1"),
        ("text_encoder", "sdxl", "lora_te1_text_model_encoder_layers_0_mlp_fc1"),
        ("text_encoder_2", "sdxl", "lora_te2_text_model_encoder_layers_0_mlp_fc1"),
    ],
)
def test_text_encoder_names(part: Any, family: str, name: str) -> None:
    for path in ("encoder.layers.0.mlp.fc1", "text_model.encoder.layers.0.mlp.fc1"):
        assert lora_name(part, path, family) == name
    assert layer_of(name, family) == (part, "encoder.layers.0.mlp.fc1")


@pytest.mark.parametrize(
    "name", ["lora_unet_conv_in", "lora_te3_text_model_x", "lora_unet_input_blocks_4_0_emb", "x"]
)
def test_names_of_other_layers_are_not_guessed(name: str) -> None:
    assert layer_of(name, "sdxl") is None
    assert layer_of(name, "sd15") is None


@pytest.mark.parametrize("family", ["pocket", "sd15", "sdxl"])
@pytest.mark.filterwarnings("ignore")
def test_diffusers_reads_the_file_and_draws_what_was_trained(
    make_plan: Make, train: Train, family: str
) -> None:
    """The trained model in memory and a fresh one with the file loaded answer alike; without the file they do not."""
    import torch
    from diffusers import StableDiffusionPipeline, StableDiffusionXLPipeline
    from peft.tuners.tuners_utils import BaseTunerLayer

    from studio.jobs.lifeline import Worker
    from studio.training.workers.trainer import Trainer

    plan = make_plan(family, epochs=2, alpha=1, train_text_encoder=True)
    trainer = Trainer(plan, Worker(plan.run_folder))
    with trainer.worker:
        trainer.run()
    kind = StableDiffusionXLPipeline if family == "sdxl" else StableDiffusionPipeline
    fresh = kind.from_pretrained(plan.model_path, torch_dtype=torch.float32, local_files_only=True)
    told: dict[str, Any] = {"return_dict": False}
    torch.manual_seed(0)
    if family == "sdxl":
        told["added_cond_kwargs"] = {
            "text_embeds": torch.randn(1, 24),
            "time_ids": torch.tensor([[32.0, 32, 0, 0, 32, 32]]),
        }
    inputs = (
        torch.randn(1, 4, 8, 8),
        torch.tensor([500]),
        torch.randn(1, 16, 40 if family == "sdxl" else 16),
    )
    words = torch.tensor([[188, 5, 6, 7, 189] + [189] * 11])

    def answers(unet: Any, encoders: list[Any]) -> list[torch.Tensor]:
        with torch.no_grad():
            return [unet(*inputs, **told)[0], *(e(words).last_hidden_state for e in encoders)]

    def encoders_of(pipe: Any) -> list[Any]:
        return [pipe.text_encoder, *([pipe.text_encoder_2] if family == "sdxl" else [])]

    before = answers(fresh.unet, encoders_of(fresh))
    fresh.load_lora_weights(str(plan.checkpoints_dir / "mine.safetensors"))
    after = answers(fresh.unet, encoders_of(fresh))
    base = trainer.it.base
    trainer.it.network.train(False)
    wanted = answers(base.unet, base.text_encoders)
    for was, now, trained in zip(before, after, wanted, strict=True):
        torch.testing.assert_close(now, trained, rtol=1e-4, atol=1e-5)
        assert (was - now).abs().max() > 1e-3
    loaded = sum(
        isinstance(m, BaseTunerLayer) for model in (fresh.unet, *encoders_of(fresh)) for m in model.modules()
    )
    assert (
        loaded
        == len(trainer.it.network.layers)
        == len(read_header(plan.checkpoints_dir / "mine.safetensors").layers)
    )


def test_metadata_is_sd_scripts_and_names_no_folder(make_plan: Make, train: Train, tmp_path: Path) -> None:
    plan = make_plan(rank=4, alpha=2, metadata={"studio_project": "mine"})
    train(plan)
    header = read_header(plan.checkpoints_dir / "mine.safetensors")
    told = header.metadata
    assert told["ss_network_dim"] == "4" and told["ss_network_alpha"] == "2.0" and header.rank == 4
    assert (told["ss_epoch"], told["ss_steps"], told["ss_num_epochs"]) == ("3", "9", "3")
    assert told["ss_base_model_version"] == "pocket" and header.family == "pocket"
    assert told["modelspec.architecture"] == "lora-studio-pocket/lora"
    assert told["modelspec.prediction_type"] == "v" and told["modelspec.trigger_phrase"] == "bluprnt"
    assert json.loads(told["ss_tag_frequency"])["dataset"]["bluprnt"] == 6
    assert json.loads(told["ss_datasets"])[0]["bucket_info"]["buckets"]["1"] == {
        "resolution": [32, 32],
        "count": 4,
    }
    assert len(told["sshs_model_hash"]) == 64 and told["studio_project"] == "mine"
    whole = json.dumps(told)
    assert str(tmp_path) not in whole and "/" not in whole.replace("stable-diffusion-v1/lora", "").replace(
        "pocket/lora", ""
    )


def test_the_hash_covers_the_tensors_only(tmp_path: Path) -> None:
    import hashlib

    import torch

    from studio.training.workers.saving import write_lora

    tensors = {"lora_unet_x.lora_down.weight": torch.ones(2, 3)}
    write_lora(tmp_path / "a.safetensors", tensors, {"ss_epoch": "1"})
    write_lora(tmp_path / "b.safetensors", tensors, {"ss_epoch": "2"})
    a, b = (read_header(tmp_path / n).metadata for n in ("a.safetensors", "b.safetensors"))
    content = (tmp_path / "a.safetensors").read_bytes()
    body = content[8 + int.from_bytes(content[:8], "little") :]
    assert a["sshs_model_hash"] == b["sshs_model_hash"] == hashlib.sha256(body).hexdigest()


def test_a_file_with_a_nan_is_never_written(tmp_path: Path) -> None:
    import torch

    from studio.training.workers.saving import write_lora

    with pytest.raises(StudioError, match="not numbers") as caught:
        write_lora(
            tmp_path / "x.safetensors", {"lora_unet_x.lora_up.weight": torch.tensor([1.0, float("nan")])}, {}
        )
    assert caught.value.findings[0].code == "lora-not-finite"
    assert list(tmp_path.iterdir()) == []


def test_damaged_and_foreign_files_are_no_checkpoints(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "checkpoints"
    folder.mkdir()
    lora = {"lora_unet_x.lora_down.weight": torch.ones(2, 3)}
    save_file(lora, folder / "a-000002.safetensors", {"ss_epoch": "2", "ss_steps": "20"})
    save_file(lora, folder / "a-000010.safetensors")
    save_file(lora, folder / "a.safetensors", {"ss_epoch": "12", "ss_steps": "120"})
    save_file({"weight": torch.ones(2)}, folder / "other.safetensors")
    (folder / "cut-000003.safetensors").write_bytes((folder / "a.safetensors").read_bytes()[:-4])
    (folder / "empty.safetensors").write_bytes(b"")
    (folder / "pickle.safetensors").write_bytes(b"PK\x03\x04 not a lora")
    found = [(c.path.name, c.epoch, c.step, c.final) for c in find_checkpoints(tmp_path)]
    assert found == [
        ("a-000010.safetensors", 10, 0, False),
        ("a-000002.safetensors", 2, 20, False),
        ("a.safetensors", 12, 120, True),
    ]
    with pytest.raises(InputError, match="not a LoRA"):
        read_header(folder / "other.safetensors")


def test_steps_of_a_resumed_sd_scripts_run_count_from_its_start(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    folder = tmp_path / "checkpoints"
    folder.mkdir()
    lora = {"lora_unet_x.lora_down.weight": torch.ones(2, 3)}
    same = {
        "ss_num_batches_per_epoch": "47",
        "ss_gradient_accumulation_steps": "2",
        "ss_sd_scripts_commit_hash": "48d368fa",
    }
    # 24 steps in an epoch; resumed after the first, and again after the third; the last is that of `max_train_steps`.
    for name, epoch, told in (("a-000001", 1, 24), ("a-000003", 3, 48), ("a-000004", 4, 24), ("a", 5, 30)):
        save_file(
            lora, folder / f"{name}.safetensors", same | {"ss_epoch": str(epoch), "ss_steps": str(told)}
        )
    assert [c.step for c in find_checkpoints(tmp_path)] == [24, 72, 96, 102]


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
