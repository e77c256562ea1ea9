"""Looking inside LoRA files of any kind, and the check."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.errors import InputError
from studio.lora.check import check_lora
from studio.lora.info import describe

Make = Callable[..., Path]


def test_a_kohya_file_is_described(make: Make) -> None:
    told = {
        "ss_base_model_version": "sd_v1", "ss_num_epochs": "12", "ss_learning_rate": "0.0001", "ss_optimizer": "None",
        "ss_training_finished_at": "1795264000.5",
        "ss_tag_frequency": json.dumps({"10_a": {"bluprnt": 20, "car": 3}, "5_b": {"bluprnt": 4, "car": 4}}),
    }  # fmt: skip
    info = describe(make(told=told))
    assert info.kind == "LoCon" and info.kinds == {"LoRA": 3, "LoCon": 1}
    assert info.family == "sd15" and info.naming == "kohya"
    assert info.rank_words == "8" and info.alpha_words == "4"
    assert info.parts == {"unet": 4} and info.layers == 4
    assert info.trained["Epochs"] == "12" and "Optimizer" not in info.trained
    assert info.words == {"bluprnt": 24, "car": 7} and info.trigger == "bluprnt"
    assert info.date.startswith("2026-11-21")


@pytest.mark.parametrize(
    ("names", "kind"),
    [
        (("x.hada_w1_a", "x.hada_w1_b", "x.hada_w2_a", "x.hada_w2_b"), "LoHa"),
        (("x.lokr_w1", "x.lokr_w2"), "LoKr"),
        (("x.lora_down.weight", "x.lora_up.weight", "x.dora_scale"), "LoRA with DoRA"),
        (("x.lora_A.weight", "x.lora_B.weight"), "LoRA"),
        (("x.lora.down.weight", "x.lora.up.weight"), "LoRA"),
        (("x.oft_blocks",), "OFT"),
        (("x.on_input",), "IA3"),
        (("x.diff",), "full"),
    ],
)
def test_foreign_kinds_are_named(tmp_path: Path, names: tuple[str, ...], kind: str) -> None:
    path = tmp_path / "f.safetensors"
    save_file({n: np.ones((4, 4), np.float16) for n in names}, str(path))
    assert describe(path).kind == kind


@pytest.mark.parametrize(("width", "family"), [(768, "sd15"), (1024, "sd2"), (2048, "sdxl"), (999, "")])
def test_the_family_is_told_by_the_width_of_the_text(make: Make, width: int, family: str) -> None:
    assert describe(make(width=width, told={"a": "b"})).family == family


def test_what_is_no_lora_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "model.safetensors"
    save_file({"model.weight": np.ones(3, np.float32)}, str(checkpoint))
    with pytest.raises(InputError, match="not a LoRA"):
        describe(checkpoint)
    pickle = tmp_path / "lora.pt"
    pickle.write_bytes(b"\x80\x04K\x01.")
    with pytest.raises(InputError, match=r"not a \.safetensors"):
        describe(pickle)
    cut = make_cut(checkpoint)
    with pytest.raises(InputError, match="not whole"):
        describe(cut)


def make_cut(path: Path) -> Path:
    cut = path.with_name("cut.safetensors")
    cut.write_bytes(path.read_bytes()[:-2])
    return cut


def test_a_sound_file_passes(make: Make) -> None:
    report = check_lora(make())
    assert report.sound and report.layers == 4 and not report.dead
    assert [f.code for f in report.findings] == ["lora-sound"]


def test_faults_are_found_and_named(make: Make) -> None:
    extra: dict[str, Any] = {
        "lora_unet_bad.lora_down.weight": np.array([[np.nan]]), "lora_unet_bad.lora_up.weight": np.ones((1, 1)),
        "lora_unet_dead.lora_down.weight": np.ones((2, 3)), "lora_unet_dead.lora_up.weight": np.zeros((3, 2)),
        "lora_unet_half.lora_down.weight": np.ones((2, 3)),
        "lora_unet_loud.lora_down.weight": np.ones((2, 30)) * 1e4, "lora_unet_loud.lora_up.weight": np.ones((30, 2)),
    }  # fmt: skip
    report = check_lora(make(extra=extra, alpha=16.0))
    assert report.broken == ["lora_unet_bad"] and report.dead == ["lora_unet_dead"]
    assert report.lonely == ["lora_unet_half"] and report.loud[0][0] == "lora_unet_loud"
    assert not report.sound
    codes = {f.code for f in report.findings}
    assert codes == {"lora-not-finite", "lora-half", "lora-dead-layers", "lora-loud", "lora-alpha"}
    assert all(f.what and f.why and f.fix for f in report.findings)


def test_a_lora_that_does_nothing_is_said(tmp_path: Path) -> None:
    path = tmp_path / "zero.safetensors"
    save_file(
        {"lora_unet_x.lora_down.weight": np.ones((2, 3), np.float16), "lora_unet_x.lora_up.weight": np.zeros((3, 2), np.float16)},
        str(path),
    )  # fmt: skip
    assert [f.code for f in check_lora(path).findings] == ["lora-dead"]


@pytest.mark.parametrize("length", [0x0280, 0x0380, 0x0480, 0x0580, 0x4B50])
def test_a_header_whose_length_reads_like_a_pickle_is_none(make: Make, tmp_path: Path, length: int) -> None:
    from studio.lora.file import rewrite

    target = tmp_path / "padded.safetensors"
    rewrite(make(), target, {"x": ""})
    short = int.from_bytes(target.read_bytes()[:8], "little")
    rewrite(make(), target, {"x": "y" * (length + 65536 - short)})
    assert int.from_bytes(target.read_bytes()[:2], "little") == length
    assert describe(target).kind == "LoCon"
    disguised = tmp_path / "evil.safetensors"
    disguised.write_bytes(length.to_bytes(2, "little") + b"K\x01." * 40)
    with pytest.raises(InputError, match="pickle"):
        describe(disguised)
