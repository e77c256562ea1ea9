"""What sd-scripts is handed: every key known to its scripts, and none of the known traps."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.errors import EnvironmentalError, InputError
from studio.machine import Machine
from studio.models import get_model, list_models
from studio.presets import presets_for
from studio.settings import TrainingSettings
from studio.training.kohya import KohyaBackend
from studio.training.sdscripts import config, families, install, layout, lines, options, tokenizers
from studio.training.weights import broken_layers
from studio.workspace import Workspace
from tests.training.sdscripts.sdscripts_small import make_plan, stand_in


def parts(folder: Path, family: str) -> dict[str, Path]:
    """The further files that a family's base model consists of."""
    return {role: folder / f"{role}.safetensors" for role in families.PARTS.get(family, ())}


def toml_of(tmp_path: Path, **changes: Any) -> dict[str, Any]:
    family = changes.pop("family", "sd15")
    prediction = changes.pop("prediction_of_model", "epsilon")
    plan = make_plan(tmp_path / "run", {}, **changes).model_copy(
        update={"family": family, "prediction": prediction, "parts": parts(tmp_path, family)}
    )
    return tomllib.loads(config.native_files(plan)[config.TRAIN])


@pytest.mark.parametrize(
    ("family", "optimizer", "scheduler"),
    [*itertools.product(["sd15", "sdxl", "sd35", "flux"], ["adamw", "adamw8bit", "prodigy", "lion", "adafactor"], ["cosine", "cosine_with_restarts"])],
)  # fmt: skip
def test_every_key_is_known_to_the_script(
    tmp_path: Path, family: str, optimizer: str, scheduler: str
) -> None:
    told = toml_of(
        tmp_path, family=family, optimizer=optimizer, scheduler=scheduler, precision="fp16", noise_offset=0.05,
        network_dropout=0.1, keep_checkpoints=2, sample_every_epochs=1, prediction="v_prediction", fp8_base=True,
        blocks_to_swap=8, timestep_sampling="shift", flow_shift=2, t5_attention_mask=True, train_t5=True,
        extra_options=("scale_weight_norms = 1", "network_args = [\"rank_dropout=0.1\"]"),
    )  # fmt: skip
    assert options.check(options.SCRIPTS[family], told) == []


def test_presets_tell_the_script_what_each_model_of_the_sdxl_family_predicts(tmp_path: Path) -> None:
    """Pony, Illustrious and NoobAI share SDXL's presets; the one that predicts v is trained so, and none with a clip skip."""
    workspace = Workspace(tmp_path / "ws")
    seen = set()
    for entry in list_models(workspace):
        if entry.family != "sdxl" or entry.format == "cloud":
            continue
        for preset in presets_for(workspace, entry):
            told = toml_of(
                tmp_path,
                family="sdxl",
                prediction_of_model=entry.prediction,
                **{**preset.settings, "backend": "kohya"},
            )
            v = entry.prediction == "v_prediction"
            assert (told.get("v_parameterization", False), told.get("zero_terminal_snr", False)) == (v, v), (
                entry.id
            )
            assert "clip_skip" not in told and told["max_token_length"] == 225
            seen.add((entry.id, preset.id))
    assert {"sdxl", "pony", "illustrious", "noobai", "noobai-vpred"} <= {e for e, _ in seen}
    assert len({p for _, p in seen}) >= 3


def test_the_list_knows_what_is_wrong() -> None:
    found = options.check(
        "train_network",
        {"network_dimm": 4, "seed": "x", "blocks_to_swap": 3, "sdpa": 1, "optimizer_args": "a"},
    )
    assert [f.where[0] for f in found] == ["network_dimm", "seed", "blocks_to_swap", "sdpa", "optimizer_args"]
    assert "Did you mean 'network_dim'?" in found[0].why
    assert "sd3_train_network" in found[2].why
    assert options.check("train_network", {"mixed_precision": "fp8"})[0].code == "option-value"


def test_a_line_that_the_script_does_not_know_is_never_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan(tmp_path / "run", {})
    monkeypatch.setattr(lines, "_network", lambda plan, told: [config.Line("network_rank", 4, "")])
    with pytest.raises(InputError, match="would not be understood"):
        config.native_files(plan)


def test_traps(tmp_path: Path) -> None:
    told = toml_of(tmp_path, alpha=2)
    assert told["network_alpha"] == 2.0  # the script's own is 1
    assert told["max_data_loader_n_workers"] == 0  # its own is 8
    assert told["output_name"] == "small"
    assert "max_train_steps" not in told  # max_train_epochs overrides it
    assert "clip_skip" not in toml_of(tmp_path, family="sdxl")
    assert toml_of(tmp_path, family="sdxl", precision="fp16")["no_half_vae"] is True
    v = toml_of(tmp_path, family="sdxl", prediction_of_model="v_prediction")
    assert (v["v_parameterization"], v["zero_terminal_snr"]) == (True, True)
    assert "zero_terminal_snr" not in toml_of(tmp_path, prediction_of_model="v_prediction")


@pytest.mark.parametrize(("changes", "cached"), [
    ({}, True),
    ({"train_text_encoder": True}, False),
    ({"shuffle_captions": True}, False),
    ({"caption_dropout": 0.1}, False),
    ({"cache_text_embeddings": False}, False),
])  # fmt: skip
def test_text_is_cached_only_when_it_stays_the_same(
    tmp_path: Path, changes: dict[str, Any], cached: bool
) -> None:
    base = {"train_text_encoder": False, "caption_dropout": 0.0, "cache_text_embeddings": True}
    assert toml_of(tmp_path, family="sdxl", **{**base, **changes})["cache_text_encoder_outputs"] is cached


def test_a_dry_run_has_a_step_limit_and_saves_nothing_on_the_way(tmp_path: Path) -> None:
    told = toml_of(tmp_path, limit_steps=4)
    assert told["max_train_steps"] == 4
    assert not {"max_train_epochs", "save_state", "save_every_n_epochs", "sample_prompts"} & set(told)


def test_dataset_config_is_strict_about_types(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", {}, caption_dropout=0)
    told = tomllib.loads(config.native_files(plan)[config.DATASET])
    assert isinstance(told["general"]["caption_dropout_rate"], float)
    assert told["general"]["caption_extension"] == ".txt"
    subsets = told["datasets"][0]["subsets"]
    assert [(s["num_repeats"], s.get("is_reg", False)) for s in subsets] == [
        (1, False),
        (2, False),
        (1, True),
    ]


@pytest.mark.parametrize(("changes", "field"), [
    ({"targets": "attention"}, "targets"),
    ({"ema": True}, "ema"),
    ({"optimizer": "prodigy", "learning_rate": 1.0, "text_encoder_lr": 0.5}, "text_encoder_lr"),
])  # fmt: skip
def test_what_it_cannot_do_is_said(changes: dict[str, Any], field: str) -> None:
    found = config.check("sd15", TrainingSettings(**changes))
    assert [f.where for f in found] == [(field,)]
    assert all(f.severity == "block" and f.fix for f in found)


def test_a_second_rate_beside_prodigy_is_told_once() -> None:
    settings = TrainingSettings(
        backend="kohya", optimizer="prodigy", learning_rate=1, train_text_encoder=True, text_encoder_lr=0.5
    )
    machine = Machine("Linux", "cpu", 8, 2**35, (), "3.11", {})
    told = KohyaBackend().check(settings, machine, get_model(Workspace(Path("/nowhere")), "sdxl"))
    assert [f.severity for f in told if "text_encoder_lr" in f.where] == ["block"]


def test_pictures_and_captions_are_laid_out(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", {})
    laid = layout.lay_out(plan)
    assert [(p.folder.name, p.count, p.regularisation) for p in laid] == [
        ("train_1", 2, False), ("train_2", 1, False), ("reg_1", 1, True)
    ]  # fmt: skip
    assert (laid[1].folder / "p1.txt").read_text() == "bluprnt, thing 1 in two lines\n"
    (laid[0].folder / "p0.npz").write_bytes(b"stale")
    layout.lay_out(plan)
    assert not (laid[0].folder / "p0.npz").exists(), "latents that were cached before are not trusted"
    plan.pictures[0].path.write_bytes(b"other")
    with pytest.raises(InputError, match=r"p0\.png"):
        layout.lay_out(plan)


def test_each_line_is_explained(tmp_path: Path) -> None:
    told = KohyaBackend().native_files(make_plan(tmp_path / "run", {}, sample_every_epochs=1))
    written = tomllib.loads(told[config.TRAIN])
    for name in written:
        assert f"| `{name}` |" in told[config.EXPLAINED]
    assert str(tmp_path) not in told[config.EXPLAINED]
    assert told[config.PROMPTS].startswith("bluprnt, thing 0 in two lines --w 128")


def test_a_prompt_cannot_smuggle_flags_in(tmp_path: Path) -> None:
    told = config.native_files(
        make_plan(tmp_path / "run", {}, sample_every_epochs=1, sample_prompts=("a --ctrl x\ncat",))
    )
    assert told[config.PROMPTS].startswith("a - -ctrl x cat --w")


def test_tokenizers_are_those_of_clip(tmp_path: Path) -> None:
    from transformers import CLIPTokenizer

    tokenizers.write(tmp_path)
    for name in tokenizers.FOLDERS:
        told = CLIPTokenizer.from_pretrained(tmp_path / name)("a photo of a cat").input_ids
        assert told == [49406, 320, 1125, 539, 320, 2368, 49407]


# --- Set-up


def test_adopting_names_everything_that_is_missing(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "home")
    with pytest.raises(InputError) as caught:
        install.adopt(ws, tmp_path)
    assert {f.code for f in caught.value.findings} == {"sdscripts-folder", "sdscripts-python"}
    with pytest.raises(EnvironmentalError, match="is not set up"):
        install.needed(ws)


def test_adopted_asked_and_forgotten(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "home")
    engine = stand_in(tmp_path / "sd")
    (tmp_path / "sd" / ".git").mkdir()
    (tmp_path / "sd" / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "sd" / ".git" / "packed-refs").write_text("# x\nabc123 refs/heads/main\n")
    used = install.adopt(ws, Path(engine["source"]), Path(engine["python"]))
    assert install.current(ws) == used
    assert used.commit == "abc123"
    found, _ = install.findings(ws, "sd15", ("no_such_package",))
    codes = {f.code: f for f in found}
    assert "sdscripts-other-version" in codes
    assert any("no_such_package" in f.where for f in found)
    assert all(f.what and f.why and f.fix for f in found)
    install.forget(ws)
    assert install.current(ws) is None
    assert (tmp_path / "sd" / "train_network.py").exists()


def test_an_interpreter_that_does_not_start_is_told(tmp_path: Path) -> None:
    ws = Workspace(tmp_path / "home")
    stand_in(tmp_path / "sd")
    python = tmp_path / "python"
    python.write_text("no program")
    install.adopt(ws, tmp_path / "sd", python)
    found, _ = install.findings(ws, "sd15")
    assert [f.code for f in found] == ["sdscripts-crashed"]


@pytest.mark.parametrize(("dtype", "bits"), [("F32", "<f4"), ("F16", "<f2"), ("F64", "<f8")])
def test_weights_that_are_no_numbers(tmp_path: Path, dtype: str, bits: str) -> None:
    from safetensors.numpy import save_file

    good = np.array([0.0, -1.5, 6e4], dtype=bits)
    save_file(
        {"good": good, "bad": np.array([1.0, np.nan], dtype=bits), "inf": np.array([np.inf], dtype=bits)},
        tmp_path / "x.safetensors",
    )
    assert sorted(broken_layers(tmp_path / "x.safetensors")) == ["bad", "inf"]
