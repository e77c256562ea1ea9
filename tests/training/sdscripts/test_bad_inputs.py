"""Each bad input that sd-scripts was tried with, and each of its traps: what a user of the studio meets instead.

ELSEWHERE: the words of a training made elsewhere, put into plain ones.
HERE: the same mistake made in the studio, which is refused before anything starts, with the setting or gate that says so.
"""

from __future__ import annotations

import json
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest

from studio import files, gates, launch
from studio.captions.store import CaptionStore
from studio.dataset.buckets import bucket_sizes
from studio.dataset.set_aside import remove_pictures
from studio.errors import GateError, InputError
from studio.estimate import estimate, file_of
from studio.machine import detect
from studio.models import get_model
from studio.project import Project
from studio.settings import TrainingSettings, knobs, problems
from studio.training.base import TrainingPlan
from studio.training.kohya import KohyaBackend
from studio.training.prepare import freeze
from studio.training.sdscripts import config, extra, install, lines, options, rules
from studio.training.sdscripts.explain import explain_text
from studio.workspace import Workspace
from tests.modelfiles import headers
from tests.training.sdscripts.kohya_project import add_model, kohya_project
from tests.training.sdscripts.sdscripts_small import make_plan

# recording -> (code, a word of what is said). Made with the real scripts; `recorded_failures.zip` holds their output, with the
# folders' names changed and nothing else. More of them, recorded earlier, are in test_explain.py.
ELSEWHERE = {
    "ds_unknown_key": ("dataset-key", "num_repeatz"),
    "ds_no_resolution": ("no-resolution", "resolution"),
    "no_dataset": ("no-resolution", "resolution"),
    "ds_corrupt_img": ("picture-unreadable", "picture"),
    "all_unreadable": ("pictures-unreadable", "No picture"),
    "model_trunc": ("model-damaged", "damaged"),
    "model_full_for_tiny": ("model-wrong-size", "conv_out.bias"),
    "model_of_sdxl": ("model-wrong-kind", "something else"),
    "opt_8bit": ("package-missing", "bitsandbytes"),
    "bad_scheduler": ("scheduler-unknown", "nosuch"),
    "r9_resume_dim": ("lora-shape", "rank"),
    "cached_text_outputs": ("cached-with-dropout", "shuffle_caption"),
    "te_cached_sdxl": ("cached-and-taught", "UNet only"),
    "t5_taught": ("cached-and-taught", "cache_text_encoder_outputs"),
    "cached_latents": ("cached-and-changed", "color_aug"),
    "bucket_steps": ("bucket-step", "32"),
    "swap_too_many": ("swap-too-many", "blocks_to_swap"),
    "swap_and_offload": ("swap-and-offload", "Keep one"),
    "fp8_precision": ("fp8-precision", "bf16"),
    "part_missing": ("part-missing", "clip_l"),
    "no_tokenizer": ("tokenizer-missing", "tokenizer_cache_dir"),
    "no_tokenizer_online": ("model-offline", "tokenizer_cache_dir"),
    "no_t5_tokenizer": ("tokenizer-missing", "T5"),
    "file_disk_full": ("disk-full", "Free some room"),
    "nan_rate": ("loss-nan", "Lower the learning rate"),
}
RECORDED = zipfile.ZipFile(Path(__file__).with_name("recorded_failures.zip"))


@pytest.mark.parametrize("case", ELSEWHERE)
def test_the_words_of_a_failure_elsewhere(case: str) -> None:
    code, word = ELSEWHERE[case]
    told = explain_text(RECORDED.read(f"{case}.raw"))
    first = told.findings[0]
    assert (told.outcome, first.code) == ("failed", code)
    assert word in f"{first.what} {first.why} {first.fix}"
    assert first.what and first.why and first.fix
    assert not told.succeeded


def test_captions_under_another_name_are_told_though_the_training_went_through() -> None:
    """The script only warns, and trains on empty captions to the end."""
    told = explain_text(RECORDED.read("nocap_wrong_extension.raw"))
    assert (told.outcome, [f.code for f in told.findings]) == ("finished", ["captions-missing"])
    assert "caption_extension" in told.findings[0].fix


# --- HERE: settings

OPTIONS_HERE = {
    "config_wrong_type": ("scale_weight_norms = many", "sd15", "option-value", "a number"),
    "config_unknown_key": ("scale_weight_norm = 1", "sd15", "option-unknown", "scale_weight_norms"),
    "unknown_flag": ("no_such_flag = 1", "sd15", "option-unknown", "Remove"),
    "bad_netmod": ("network_module = networks.nosuch", "sd15", "option-managed", "Remove"),
    "bad_choice": ("loss_type = l3", "sd15", "option-value", "huber"),
    "resume_missing": ("resume = /nowhere-state", "sd15", "option-managed", "Remove"),
    "alpha": ("network_alpha = 1", "sd15", "option-managed", "Alpha"),
    "caption extension": ("caption_extension = .caption", "sd15", "option-managed", "Remove"),
    "output name": ("output_name = same", "sd15", "option-managed", "Remove"),
    "loader workers": ("max_data_loader_n_workers = 8", "sd15", "option-managed", "Remove"),
    "another script's option": ("blocks_to_swap = 8", "sdxl", "option-managed", "Blocks swapped"),
    "flux's option": ("sigmoid_scale = 1.0", "sdxl", "option-unknown", "Remove"),
    "secret": ("huggingface_token = hf_x", "flux", "option-managed", "Remove"),
    "no value": ("loss_type", "sd15", "option-form", "loss_type = VALUE"),
    "comma decimal": ("scale_weight_norms = 1,5", "sd15", "option-value", "Write 1.5, with a point."),
    "network argument": ("network_args = conv_dims=4", "sd15", "network-argument-unknown", "conv_dim"),
}


@pytest.mark.parametrize("case", OPTIONS_HERE)
def test_a_bad_option_is_refused_before_anything_starts(case: str) -> None:
    line, family, code, words = OPTIONS_HERE[case]
    _, found = extra.read([line], family)
    assert [f.code for f in found] == [code]
    assert words in found[0].fix + found[0].why
    blocking = [
        f for f in rules.check(family, TrainingSettings(extra_options=(line,))) if f.severity == "block"
    ]
    assert code in {f.code for f in blocking}


@pytest.mark.parametrize(("case", "field", "value"), [
    ("bad_optimizer", "optimizer", "NoSuchOpt"), ("bad_scheduler", "scheduler", "nosuch"), ("bad_choice", "precision", "fp8"),
])  # fmt: skip
def test_a_bad_choice_is_no_setting(case: str, field: str, value: str) -> None:
    found = problems({field: value})
    assert [f.where for f in found] == [(field,)]
    assert all(c in found[0].fix for c in knobs()[field].choices)


@pytest.mark.parametrize(("case", "family", "changes", "code"), [
    ("clip skip on SDXL", "sdxl", {"extra_options": ("clip_skip = 2",)}, "clip-skip"),
    ("weights_missing", "sd15", {"extra_options": ("network_weights = /nowhere/nope.safetensors",)}, "weights-absent"),
    ("cached latents", "sd15", {"extra_options": ("color_aug = true",)}, "cache-and-change"),
    ("cached text", "flux", {"caption_dropout": 0, "extra_options": ("caption_tag_dropout_rate = 0.1",)}, "text-cache-and-change"),
    ("full_bf16", "sdxl", {"precision": "fp16", "extra_options": ("full_bf16 = true",)}, "full-half"),
    ("two rates with Prodigy", "sdxl", {"optimizer": "prodigy", "learning_rate": 1, "text_encoder_lr": 0.5}, "sdscripts-cannot"),
    ("bucket steps", "flux", {"bucket_step": 48}, "sdscripts-cannot"),
    ("bucket steps of SD1.5", "sd15", {"bucket_step": 32}, "sdscripts-cannot"),
    ("fp8 without checkpointing", "flux", {"fp8_base": True, "precision": "bf16"}, "fp8-without-checkpointing"),
    ("fp8 in full precision", "flux", {"fp8_base": True, "gradient_checkpointing": True}, "fp8-precision"),
    ("swap too many", "flux", {"blocks_to_swap": 36}, "swap-too-many"),
    ("swap on SDXL", "sdxl", {"blocks_to_swap": 4}, "swap-without-blocks"),
    ("swap and offload", "sd35", {"blocks_to_swap": 4, "extra_options": ("cpu_offload_checkpointing = true",)}, "swap-and-offload"),
    ("T5 alone", "flux", {"train_t5": True, "train_text_encoder": False}, "sdscripts-cannot"),
    ("prediction of a flow model", "sd35", {"prediction": "epsilon"}, "sdscripts-cannot"),
])  # fmt: skip
def test_what_does_not_go_together_is_blocked(
    case: str, family: str, changes: dict[str, Any], code: str
) -> None:
    """By the rules of the script, or by the estimate, which knows the file; the config gate has both, and each is told once."""
    settings = TrainingSettings(**{"backend": "kohya", **changes})
    found = [f for f in (*rules.check(family, settings), *estimate(family, settings, [20]).refused) if f.severity == "block"]  # fmt: skip
    assert [f.code for f in found] == [code]
    assert found[0].why and found[0].fix


def test_traps_of_flow_models_cannot_be_written(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", {}, train_text_encoder=True, train_t5=True, caption_dropout=0, cache_text_embeddings=True,
                     min_snr_gamma=5, noise_offset=0.1)  # fmt: skip
    for family, module in (("flux", "networks.lora_flux"), ("sd35", "networks.lora_sd3")):
        told = {ln.option: ln.value for ln in lines.train_lines(plan.model_copy(update={"family": family}))}
        assert told["network_module"] == module
        assert told["network_args"] == ["train_t5xxl=True"]
        assert told["cache_text_encoder_outputs"] is False, "T5 is taught"
        assert not {
            "min_snr_gamma",
            "noise_offset",
            "v_parameterization",
            "max_token_length",
            "clip_skip",
        } & set(told)
        if family == "flux":
            assert (told["guidance_scale"], told["timestep_sampling"], told["model_prediction_type"]) == (
                1.0,
                "flux_shift",
                "raw",
            )
            assert "discrete_flow_shift" not in told
        else:
            assert (told["weighting_scheme"], told["training_shift"]) == ("uniform", 1.0)
    clip_only = plan.model_copy(
        update={"family": "flux", "settings": plan.settings.model_copy(update={"train_t5": False})}
    )
    told = {ln.option: ln.value for ln in lines.train_lines(clip_only)}
    assert told["cache_text_encoder_outputs"] is True, "T5 goes out of memory, CLIP is read anew"
    assert "network_args" not in told


# --- HERE: dataset configs

GOOD = {
    "general": {"caption_extension": ".txt"},
    "datasets": [{"resolution": 512, "subsets": [{"image_dir": "x", "num_repeats": 1}]}],
}


@pytest.mark.parametrize(("case", "section", "change"), [
    ("ds_unknown_key", "subsets", {"num_repeatz": 2}),
    ("ds_wrong_type", "subsets", {"num_repeats": "2"}),
    ("ds_valsplit_int", "datasets", {"validation_split": 0}),
    ("ds_no_resolution", "datasets", {"resolution": None}),
    ("ds_missing_dir", "subsets", {"image_dir": None}),
    ("a switch for a number", "datasets", {"batch_size": True}),
    ("general", "general", {"shuffle_captions": True}),
])  # fmt: skip
def test_a_dataset_config_that_would_be_refused_is_never_written(
    case: str, section: str, change: dict[str, Any]
) -> None:
    bad = json.loads(json.dumps(GOOD))
    assert options.check_dataset(bad) == []
    place = {
        "general": bad["general"],
        "datasets": bad["datasets"][0],
        "subsets": bad["datasets"][0]["subsets"][0],
    }[section]
    place.update(change)
    for name in [k for k, v in change.items() if v is None]:
        del place[name]
    assert [f.where[0] for f in options.check_dataset(bad)] == [next(iter(change))]
    assert options.check_dataset({"datasets": []})[0].fix, "ds_no_datasets"


@pytest.mark.parametrize("resolution", [64, 256, 512, 768, 1000, 1024, 1536])
def test_ds_small_bucket_the_buckets_hold_the_resolution(tmp_path: Path, resolution: int) -> None:
    plan = make_plan(tmp_path / "run", {}, resolution=resolution)
    told = tomllib.loads(config.native_files(plan)[config.DATASET])["datasets"][0]
    assert told["min_bucket_reso"] <= resolution <= told["max_bucket_reso"]
    assert bucket_sizes(resolution, 64)


# --- HERE: pictures, captions, base models, packages


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    told = {"failed": {}, "torch": "2.13.0", "cuda": False}
    monkeypatch.setattr(
        install, "probe", lambda _i, _s, m=(): {**told, "failed": dict.fromkeys(m, "ImportError: none")}
    )
    return kohya_project(workspace, tmp_path)


def blocks(project: Project, gate: gates.GateName) -> set[str]:
    return {f.code for f in gates.run_gate(project, gate).findings if f.severity == "block"}


def test_ds_corrupt_img_and_nocap_are_refused_by_gate_one(project: Project) -> None:
    names = sorted(p.name for p in project.dataset_dir.glob("*.png"))
    (project.dataset_dir / names[0]).write_bytes(b"\x89PNG\r\n\x1a\nnot whole")
    CaptionStore(project).set(names[1], "", "person")
    assert {"picture-damaged", "caption-missing"} <= blocks(project, "dataset")


def test_ds_missing_dir_ds_empty_dir_and_no_dataset_are_no_pictures(project: Project) -> None:
    remove_pictures(project, [p.name for p in project.dataset_dir.glob("*.png")])
    assert "config-no-pictures" in blocks(project, "config")
    with pytest.raises(InputError, match="no pictures"):
        freeze(project, get_model(project.workspace, "mine"), project.runs_dir / "x", output_name="x")


@pytest.mark.parametrize(
    "case", ["missing_model", "model_junk", "model_trunc", "model_is_lora", "model_of_sdxl", "model_pickle"]
)
def test_a_base_model_that_cannot_be_is_refused_by_gate_three(
    project: Project, tmp_path: Path, case: str
) -> None:
    place = tmp_path / "other.safetensors"
    if case == "model_junk":
        place.write_bytes(b"junk")
    elif case == "model_trunc":
        headers.write(place, headers.SD15, cut=1000)
    elif case == "model_is_lora":
        headers.write(
            place, {"lora_unet_x.lora_down.weight": (4, 320), "lora_unet_x.lora_up.weight": (320, 4)}
        )
    elif case == "model_of_sdxl":
        headers.write(place, headers.SDXL)
    elif case == "model_pickle":
        place.write_bytes(b"PK\x03\x04" + bytes(200))
    add_model(project.workspace, place) if place.exists() else files.write_yaml(
        project.workspace.models_dir / "models.yaml",
        {
            "models": [
                get_model(project.workspace, "mine")
                .model_copy(update={"path": place})
                .model_dump(mode="json")
            ]
        },
    )
    found = [f for f in gates.run_gate(project, "environment").findings if f.severity == "block"]
    assert len(found) == 1 and found[0].why and found[0].fix, found
    assert found[0].code.startswith("model")


@pytest.mark.parametrize(("case", "changes", "module"), [
    ("xformers", {"attention": "xformers"}, "xformers"),
    ("prodigy", {"optimizer": "prodigy", "learning_rate": 1.0}, "prodigyopt"),
    ("lion", {"optimizer": "lion"}, "lion_pytorch"),
    ("opt_8bit", {"optimizer": "adamw8bit"}, "bitsandbytes"),
])  # fmt: skip
def test_a_package_that_is_missing_is_named_with_its_command(
    project: Project, case: str, changes: dict[str, Any], module: str
) -> None:
    project.save_settings(project.settings.model_copy(update=changes))
    found = [f for f in gates.run_gate(project, "environment").findings if f.severity == "block"]
    assert [f.where for f in found] == [(module,)]
    assert f"-m pip install {module.replace(chr(95), chr(45))}" in found[0].fix, "the name that PyPI lists"


def test_opt_8bit_without_a_card_is_refused_by_gate_two(project: Project) -> None:
    project.save_settings(project.settings.model_copy(update={"optimizer": "adamw8bit"}))
    assert "adamw8bit-without-gpu" in blocks(project, "config")
    found = KohyaBackend().check(
        TrainingSettings(optimizer="prodigy", learning_rate=1), detect(), get_model(project.workspace, "mine")
    )
    assert "optimizer-missing" not in {f.code for f in found}, (
        "it has to be in sd-scripts' environment, not in this one"
    )


def test_how_many_blocks_can_be_swapped_is_asked_of_the_file(project: Project) -> None:
    """FLUX with 8 of its 19 double blocks can swap 13 of its blocks, not the 35 of the original; told once."""
    names = [f"double_blocks.{i}.img_attn.qkv.weight" for i in range(8)]
    names += [f"single_blocks.{i}.linear1.weight" for i in range(38)]
    folder = project.workspace.models_dir
    lite = headers.write(
        folder / "lite.safetensors",
        {
            "guidance_in.in_layer.bias": (3072,),
            "vector_in.in_layer.weight": (3072, 768),
            **dict.fromkeys(names, (64, 3072)),
        },
    )
    small = headers.write(folder / "t5.safetensors", headers.T5, dtype="F8_E4M3")
    add_model(project.workspace, lite, "flux", parts={"t5xxl": str(small)})
    known = file_of(get_model(project.workspace, "mine"), project.workspace)
    assert known is not None and (known.blocks, known.small_t5) == ((8, 38), True)
    for swapped, told in ((13, []), (14, ["13"]), (36, ["13"])):
        project.save_settings(project.settings.model_copy(update={"blocks_to_swap": swapped}))
        about = [
            f
            for f in gates.run_gate(project, "config").findings
            if "blocks_to_swap" in f.where and f.severity == "block"
        ]
        assert [n for f in about for n in told if n in f.fix] == told and len(about) == len(told), swapped


def test_r9_resume_dim_and_r10_overwrite_cannot_happen(project: Project) -> None:
    """A run keeps the settings that it began with, and no two runs share a name."""
    entry = get_model(project.workspace, "mine")
    made = [
        freeze(project, entry, project.runs_dir / n, output_name=files.slug(f"x-{n}")) for n in ("a", "b")
    ]
    project.save_settings(project.settings.model_copy(update={"rank": 8}))
    assert TrainingPlan.load(made[0].run_folder).settings.rank == 4
    assert made[0].output_name != made[1].output_name


def test_r12_prompts_are_written_whenever_samples_are_asked_for(tmp_path: Path) -> None:
    told = config.native_files(make_plan(tmp_path / "run", {}, sample_every_epochs=1))
    assert Path(tomllib.loads(told[config.TRAIN])["sample_prompts"]).name in told
    assert (
        "sample_prompts"
        not in config.native_files(make_plan(tmp_path / "run", {}, sample_every_epochs=0))[config.TRAIN]
    )


def test_nothing_is_launched_without_the_gates(project: Project) -> None:
    with pytest.raises(GateError):
        launch.start_training(project)
    assert not project.runs_dir.exists()
