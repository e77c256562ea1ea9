"""Configs of other programs: what has a setting becomes one, and nothing is lost in silence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio import choices
from studio.cli.main import main
from studio.errors import InputError
from studio.project import Intent, create_project
from studio.settings import parse_settings
from studio.training.sdscripts import extra
from studio.training.sdscripts.importing import Imported, read_file, read_text
from studio.workspace import Workspace
from tests.training.sdscripts.kohya_project import kohya_project

# Names and forms as the kohya_ss window writes them; 0 and "" stand for what is not set.
WINDOW: dict[str, Any] = {
    "LoRA_type": "Standard", "additional_parameters": "--huber_scale 0.5 --frobnicate 3", "bucket_no_upscale": True,
    "bucket_reso_steps": 32, "cache_latents": True, "cache_latents_to_disk": True, "caption_extension": ".txt",
    "clip_skip": "1", "conv_dim": 32, "enable_bucket": True, "epoch": 16, "flux1_checkbox": False,
    "flux1_cache_text_encoder_outputs": True, "gradient_checkpointing": True, "keep_tokens": "0", "learning_rate": 1.0,
    "loss_type": "huber", "lr_scheduler": "cosine", "lr_warmup": 10, "max_data_loader_n_workers": "0",
    "max_resolution": "1024,1024", "max_timestep": 1000, "max_token_length": "75", "max_train_epochs": "",
    "min_snr_gamma": 5, "mixed_precision": "bf16", "network_alpha": 16, "network_dim": 32, "noise_offset_type": "Original",
    "optimizer": "Prodigy", "optimizer_args": "weight_decay=0.05 decouple=True d0=0.0001 use_bias_correction=True",
    "output_name": "mine", "rank_dropout": 0.1, "sample_prompts": "a cat --w 768\n# no\na dog", "save_every_n_epochs": 2,
    "save_precision": "fp16", "sdxl": True, "sdxl_cache_text_encoder_outputs": False, "sdxl_no_half_vae": True, "seed": "",
    "stop_text_encoder_training_pct": 30, "text_encoder_lr": 1.0, "train_batch_size": 4, "train_data_dir": "/there/img",
    "unet_lr": 1.0, "wandb_api_key": "a1b2c3", "xformers": "sdpa",
}  # fmt: skip


def window(family: str = "sdxl", **changes: Any) -> Imported:
    return read_text(json.dumps({**WINDOW, **changes}).encode(), "mine.json", family)


def left(told: Imported) -> dict[str, str]:
    return {x.name: x.why for x in told.left}


def test_what_the_window_saved_becomes_settings() -> None:
    told = window()
    settings = parse_settings(told.values)
    assert (settings.optimizer, settings.learning_rate, settings.text_encoder_lr) == ("prodigy", 1.0, 0.0)
    assert (settings.rank, settings.alpha, settings.epochs, settings.batch_size) == (32, 16.0, 16, 4)
    assert (settings.resolution, settings.bucket_step, settings.warmup, settings.weight_decay) == (
        1024,
        32,
        0.1,
        0.05,
    )
    assert (settings.precision, settings.save_every_epochs, settings.train_text_encoder) == ("bf16", 2, True)
    assert settings.sample_prompts == ("a cat", "a dog")
    lines = dict(ln.split(" = ", 1) for ln in settings.extra_options)
    assert lines["optimizer_args"] == '["decouple=True", "d0=0.0001"]'
    assert lines["network_args"] == '["rank_dropout=0.1"]'
    assert (lines["loss_type"], lines["huber_scale"], lines["no_half_vae"]) == ('"huber"', "0.5", "true")
    assert extra.read(settings.extra_options, "sdxl")[1] == [], "what was carried over is accepted again"


def test_everything_that_stays_behind_is_named_with_its_reason() -> None:
    told = window()
    why = left(told)
    assert set(why) == {"frobnicate", "output_name", "save_precision", "stop_text_encoder_training_pct", "train_data_dir",
                        "wandb_api_key", "max_token_length"}  # fmt: skip
    assert all(why.values())
    assert "a1b2c3" not in json.dumps(told.as_dict()), "no secret is shown"


def test_the_scripts_defaults_come_along() -> None:
    """A file that says nothing of alpha is trained with 1 by sd-scripts, which is not the studio's default."""
    told = read_text(b"network_dim = 16\nlearning_rate = 1e-4\n", "small.toml", "sd15")
    assert (told.values["alpha"], told.values["scheduler"], told.values["min_snr_gamma"]) == (
        1.0,
        "constant",
        0.0,
    )
    assert {t.setting for t in told.taken if not t.name} >= {"alpha", "scheduler", "warmup"}


@pytest.mark.parametrize(("line", "family", "name", "words"), [
    ('optimizer_type = "DAdaptAdam"', "sd15", "optimizer_type", "no such optimizer"),
    ('lr_scheduler = "piecewise"', "sd15", "lr_scheduler", "no such schedule"),
    ('network_modul = "x"', "sd15", "network_modul", "network_module"),
    ('network_module = "lycoris.kohya"', "sd15", "network_module", "plain LoRAs"),
    ("clip_skip = 2", "sdxl", "clip_skip", "without clip skip"),
    ("blocks_to_swap = 4", "sdxl", "blocks_to_swap", "flux_train_network"),
    ("lr_warmup_steps = 100", "sd15", "lr_warmup_steps", "number of steps"),
    ("network_dim = 4000", "sd15", "network_dim", "Rank"),
    ('huggingface_token = "hf_x"', "sd15", "huggingface_token", "Nothing is sent"),
    ('network_args = ["foo=1"]', "sd15", "network_args", "no argument 'foo'"),
    ('caption_extension = ".caption"', "sd15", "caption_extension", ".txt"),
    ('sample_prompts = "prompts.txt"', "sd15", "sample_prompts", "file of prompts"),
    ("text_encoder_lr = [1e-4, 5e-5]", "sdxl", "text_encoder_lr", "Several rates"),
    ("split_mode = true", "flux", "split_mode", "gave it up"),
])  # fmt: skip
def test_what_has_no_place_here(line: str, family: str, name: str, words: str) -> None:
    told = read_text(f"{line}\nseed = 7\n".encode(), "x.toml", family)
    assert words in left(told)[name]
    assert told.values["seed"] == 7


def test_a_dataset_config() -> None:
    told = read_text(
        b'[general]\nshuffle_caption = true\nkeep_tokens = 2\n[[datasets]]\nresolution = [512, 768]\nbatch_size = 4\n'
        b'[[datasets.subsets]]\nimage_dir = "a"\nnum_repeats = 2\n[[datasets.subsets]]\nimage_dir = "b"\nnum_repeats = 3\n'
        b"[[datasets]]\nresolution = 1024\n",
        "dataset.toml", "sd15",
    )  # fmt: skip
    assert {k: told.values[k] for k in ("shuffle_captions", "keep_tokens", "resolution", "batch_size")} == {
        "shuffle_captions": True, "keep_tokens": 2, "resolution": 624, "batch_size": 4
    }  # fmt: skip
    assert set(left(told)) == {"subsets.image_dir", "subsets.num_repeats", "datasets[1].resolution"}
    assert "alpha" not in told.values, "it says nothing of the network"


@pytest.mark.parametrize(("changes", "family"), [
    ({"sdxl": True}, "sd15"), ({"sdxl": False, "flux1_checkbox": True, "LoRA_type": "Flux1"}, "sdxl"),
])  # fmt: skip
def test_another_family_is_said(changes: dict[str, Any], family: str) -> None:
    assert [f.code for f in window(family, **changes).findings] == ["import-other-family"]
    assert window().findings == []


@pytest.mark.parametrize(("text", "family", "script"), [
    ('pretrained_model_name_or_path = "/m/sd_xl_base_1.0.safetensors"', "sd15", "sdxl_train_network"),
    ('pretrained_model_name_or_path = "C:/m/v1-5-pruned.safetensors"', "sdxl", "train_network"),
    ("cache_text_encoder_outputs = true", "sd15", "sdxl_train_network"),
    ('network_module = "networks.lora_flux"', "sdxl", "flux_train_network"),
    ('pretrained_model_name_or_path = "/m/sd_xl_base_1.0.safetensors"', "sdxl", ""),
    ('pretrained_model_name_or_path = "/m/mine.safetensors"', "sd15", ""),
])  # fmt: skip
def test_a_file_for_another_script_stands_first_among_what_stays_behind(
    text: str, family: str, script: str
) -> None:
    told = read_text(f"network_dim = 12\n{text}\n".encode(), "x.toml", family)
    said = [(x.name, x.value) for x in told.left if x.name == "the file itself"]
    assert said == ([("the file itself", script)] if script else [])
    assert [f.code for f in told.findings] == (["import-other-family"] if script else [])
    assert told.values["rank"] == 12


@pytest.mark.parametrize(("data", "words"), [
    (b"", "is empty"), (b"{}", "is empty"), (b"{,}", "no valid JSON"), (b"= 3", "no valid TOML"),
    (b"\xff\xfe\x00", "no text file"), (b"rank", "no valid TOML"), (b"[1, 2]", "no valid TOML"),
])  # fmt: skip
def test_what_is_no_config_is_said(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        read_text(data, "x.toml", "sd15")
    assert told.value.fix
    with pytest.raises(InputError, match="holds no settings of kohya_ss"):
        read_text(b"[1, 2]", "x.json", "sd15")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_file(tmp_path / "none.toml", "sd15")
    with pytest.raises(InputError, match="cannot be read"):
        read_file(tmp_path, "sd15")
    (tmp_path / "large.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(InputError, match="too large"):
        read_file(tmp_path / "large.json", "sd15")


@pytest.mark.parametrize("value", [{}, [], {"a": [1]}, [[1]], "x" * 9, -1, 1e400, True])
@pytest.mark.parametrize(
    "name", ["network_dim", "learning_rate", "resolution", "optimizer_args", "text_encoder_lr", "epoch"]
)
def test_odd_values_never_break_it(name: str, value: Any) -> None:
    told = read_text(json.dumps({"LoRA_type": "Standard", name: value}).encode(), "x.json", "sd15")
    parse_settings(told.values)


def test_the_command_line_shows_then_takes_over(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = kohya_project(workspace, tmp_path)
    (tmp_path / "lora.toml").write_text(
        'network_dim = 12\nnetwork_alpha = 6\noptimizer_type = "Lion"\nlogging_dir = "x"\n'
    )
    line = ["config", "import", str(tmp_path / "lora.toml"), "--json", "--home", str(workspace.root)]
    main(line)
    told = json.loads(capsys.readouterr().out)
    assert told["applied"] is False and project.settings.rank == 4
    assert main([*line, "--yes"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["applied"] is True and told["changed"]["rank"] == [4, 12]
    assert [x["name"] for x in told["imported"]["left"]] == ["logging_dir"]
    assert (project.settings.rank, project.settings.alpha, project.settings.optimizer) == (12, 6.0, "lion")


def test_the_command_line_refuses_a_config_for_a_rented_base_model(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = create_project(
        workspace, Intent(kind="style", name="Rented", trigger="bluprnt", base_model="sd35-large")
    )
    choices.first_settings(made)
    before = made.settings
    (tmp_path / "theirs.toml").write_text("network_dim = 12\n", encoding="utf-8")
    line = ["config", "import", str(tmp_path / "theirs.toml"), "-p", made.slug, "--home", str(workspace.root)]
    assert main([*line, "--yes"]) == 2
    told = " ".join("".join(capsys.readouterr()).split())
    assert "This base model is rented" in told and "lies on this computer" in told
    assert made.settings == before and before.backend == "replicate"
