"""FLUX and SD3: joint layers on kohya's side, pieces on diffusers'; both are the same change."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from studio.errors import InputError
from studio.lora.info import describe
from studio.lora.workers import tools, transformer_keys
from studio.lora.workers.tensors import read
from tests.lora.conftest import deltas

WIDE = 24  # stands for 3072: nothing here asks for the real width once the names tell the family
RANK = 4


def lora(path: Path, layers: dict[str, tuple[int, int]], alpha: float = 2.0, names: str = "kohya") -> Path:
    rng = np.random.default_rng(5)
    tensors: dict[str, Any] = {}
    for stem, (out, into) in layers.items():
        down, up = ("lora_down", "lora_up") if names == "kohya" else ("lora_A", "lora_B")
        tensors[f"{stem}.{down}.weight"] = rng.normal(size=(RANK, into)).astype(np.float32)
        tensors[f"{stem}.{up}.weight"] = rng.normal(size=(out, RANK)).astype(np.float32)
        if names == "kohya":
            tensors[f"{stem}.alpha"] = np.array(alpha, np.float32)
    save_file(tensors, str(path))
    return path


def shape(name: str) -> tuple[int, int]:
    """Rows and columns of a layer, in the proportions of the real models."""
    if name.endswith(("linear1",)):
        return 7 * WIDE, WIDE
    if name.endswith("linear2"):
        return WIDE, 5 * WIDE
    if name.endswith(("qkv", "modulation_lin")):
        return 3 * WIDE, WIDE
    if name.endswith(("mod_lin", "adaLN_modulation_1")):
        return 6 * WIDE, WIDE
    if name.endswith(("mlp_0", "fc1")):
        return 4 * WIDE, WIDE
    return (WIDE, 4 * WIDE) if name.endswith(("mlp_2", "fc2")) else (WIDE, WIDE)


def flux(tmp_path: Path) -> Path:
    own = {
        s.mine: shape(s.mine)
        for s in transformer_keys.spots("flux")
        if "_blocks_0_" in s.mine or "_blocks_18_" in s.mine
    }
    return lora(
        tmp_path / "flux.safetensors", own | {"lora_te1_text_model_encoder_layers_3_mlp_fc1": (16, 12)}
    )


def sd3(tmp_path: Path) -> Path:
    own = {s.mine: shape(s.mine) for s in transformer_keys.spots("sd3") if "_blocks_0_" in s.mine}
    own["lora_unet_joint_blocks_23_context_block_adaLN_modulation_1"] = (2 * WIDE, WIDE)
    return lora(
        tmp_path / "sd3.safetensors",
        own | {"lora_te2_text_model_encoder_layers_3_self_attn_out_proj": (16, 16)},
    )


@pytest.mark.parametrize("make", [flux, sd3])
def test_there_and_back_is_the_same_change(make: Any, worker: Any, tmp_path: Path) -> None:
    source, there, back = make(tmp_path), tmp_path / "there.safetensors", tmp_path / "back.safetensors"
    tools.convert_job(worker, {"file": str(source), "names": "diffusers", "out": str(there)})
    told = describe(there)
    assert told.naming == "diffusers" and told.family == make.__name__
    tools.convert_job(worker, {"file": str(there), "names": "kohya", "out": str(back)})
    before, after = deltas(source), deltas(back)
    assert before.keys() == after.keys()
    assert describe(back).ranks == {RANK: len(before)}, "pieces that share their factor become one again"
    for name in before:
        assert np.allclose(before[name], after[name], atol=1e-5), name


def test_each_piece_is_its_rows_of_the_joint_layer(worker: Any, tmp_path: Path) -> None:
    source, there = flux(tmp_path), tmp_path / "there.safetensors"
    tools.convert_job(worker, {"file": str(source), "names": "diffusers", "out": str(there)})
    whole, pieces = deltas(source), deltas(there)
    joint = whole["lora_unet_single_blocks_0_linear1"]
    parts = [
        pieces[f"transformer.single_transformer_blocks.0.{p}"]
        for p in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")
    ]
    assert np.allclose(np.concatenate(parts), joint, atol=1e-6) and parts[3].shape[0] == 4 * WIDE
    last = sd3(tmp_path)
    tools.convert_job(
        worker, {"file": str(last), "names": "diffusers", "out": str(tmp_path / "sd3-there.safetensors")}
    )
    ours = deltas(tmp_path / "sd3-there.safetensors")[
        "transformer.transformer_blocks.23.norm1_context.linear"
    ]
    theirs = deltas(last)["lora_unet_joint_blocks_23_context_block_adaLN_modulation_1"]
    assert np.allclose(ours, np.concatenate([theirs[WIDE:], theirs[:WIDE]]), atol=1e-6), (
        "scale and shift change places"
    )


def test_pieces_with_factors_of_their_own_are_joined_exactly(worker: Any, tmp_path: Path) -> None:
    start = "transformer.transformer_blocks.2.attn."
    layers = {f"{start}{p}": (20, 3072) for p in ("to_q", "to_v")}
    source = lora(tmp_path / "peft.safetensors", layers, names="diffusers")
    assert describe(source).family == "flux", "told by the width where only attention is trained"
    out, again = tmp_path / "out.safetensors", tmp_path / "again.safetensors"
    tools.convert_job(worker, {"file": str(source), "names": "kohya", "out": str(out)})
    joint = deltas(out)["lora_unet_double_blocks_2_img_attn_qkv"]
    pieces = deltas(source)
    assert np.allclose(joint[:20], pieces[f"{start}to_q"], atol=1e-4)
    assert not joint[20:40].any() and np.allclose(joint[40:], pieces[f"{start}to_v"], atol=1e-4)
    assert describe(out).rank_words == "8" and describe(out).alpha_words == "8"
    tools.convert_job(worker, {"file": str(out), "names": "diffusers", "out": str(again)})
    for name, delta in deltas(again).items():
        want = pieces.get(name)
        assert np.allclose(delta, want, atol=1e-4) if want is not None else not delta.any(), name


def test_diffusers_own_reading_of_flux_agrees(worker: Any, tmp_path: Path) -> None:
    from diffusers.loaders.lora_conversion_utils import _convert_kohya_flux_lora_to_diffusers as theirs
    from safetensors.torch import load_file as load_torch

    names = ("double_blocks_0_img_attn_qkv", "double_blocks_0_txt_mlp_2", "single_blocks_0_linear2")
    real = {x.mine: shape(x.mine) for x in transformer_keys.spots("flux") if x.mine.endswith(names)}
    source, out = lora(tmp_path / "real.safetensors", real), tmp_path / "out.safetensors"
    tools.convert_job(worker, {"file": str(source), "names": "diffusers", "out": str(out)})
    told, ours = theirs(load_torch(str(source))), load_file(str(out))
    assert set(told) == set(ours) and len(ours) == 10
    for name in (n for n in ours if n.endswith("lora_A.weight")):
        up = name.replace("lora_A", "lora_B")
        want = (told[up] @ told[name]).numpy()
        assert np.linalg.norm(ours[up] @ ours[name] - want) <= 1e-5 * np.linalg.norm(want), name


def test_what_has_no_place_on_the_other_side_is_said(worker: Any, tmp_path: Path) -> None:
    t5 = lora(tmp_path / "t5.safetensors", {"lora_unet_double_blocks_0_img_attn_proj": (8, 8), "lora_te3_encoder_block_0_layer_0_SelfAttention_q": (8, 8)})  # fmt: skip
    with pytest.raises(InputError, match="no place"):
        tools.convert_job(
            worker, {"file": str(t5), "names": "diffusers", "out": str(tmp_path / "x.safetensors")}
        )
    odd = lora(tmp_path / "odd.safetensors", {"lora_unet_double_blocks_0_img_attn_qkv": (10, 8)})
    with pytest.raises(InputError, match="10 rows"):
        tools.convert_job(
            worker, {"file": str(odd), "names": "diffusers", "out": str(tmp_path / "x.safetensors")}
        )
    foreign = lora(tmp_path / "f.safetensors", {"transformer.single_transformer_blocks.0.attn.to_q": (8, 8), "transformer.x_embedder": (8, 8)}, names="diffusers")  # fmt: skip
    with pytest.raises(InputError, match="no name"):
        tools.convert_job(
            worker, {"file": str(foreign), "names": "kohya", "out": str(tmp_path / "x.safetensors")}
        )
    assert not (tmp_path / "x.safetensors").exists()


SD_SCRIPTS, SD_PYTHON = (
    os.environ.get("STUDIO_SD_SCRIPTS", ""),
    os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", ""),
)
real = pytest.mark.skipif(not SD_SCRIPTS, reason="STUDIO_SD_SCRIPTS does not name sd-scripts")


@real
@pytest.mark.parametrize("way", ["ai-toolkit", "sd-scripts"])
def test_sd_scripts_own_converter_agrees(worker: Any, tmp_path: Path, way: str) -> None:
    """Both directions of its FLUX converter, at the real widths, as it knows no others."""
    names = (
        "double_blocks_0_img_attn_qkv",
        "double_blocks_0_img_mlp_2",
        "single_blocks_0_linear1",
        "double_blocks_3_txt_attn_qkv",
    )
    real_size = {
        s.mine: (shape(s.mine)[0] * 128, shape(s.mine)[1] * 128)
        for s in transformer_keys.spots("flux")
        if s.mine.endswith(names)
    }
    source = lora(tmp_path / "flux.safetensors", real_size)
    if way == "sd-scripts":
        theirs_in = tmp_path / "ait.safetensors"
        tools.convert_job(worker, {"file": str(source), "names": "diffusers", "out": str(theirs_in)})
        source = theirs_in
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    came = "sd-scripts" if way == "ai-toolkit" else "ai-toolkit"
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([SD_SCRIPTS, f"{SD_SCRIPTS}/networks"])}
    done = subprocess.run(
        [SD_PYTHON, "networks/convert_flux_lora.py", "--src", came, "--dst", way, "--src_path", str(source), "--dst_path", str(theirs)],
        cwd=SD_SCRIPTS, env=path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    tools.convert_job(
        worker,
        {"file": str(source), "names": "diffusers" if way == "ai-toolkit" else "kohya", "out": str(ours)},
    )
    mine, told = read(ours).layers, read(theirs).layers
    assert mine.keys() == told.keys()
    for name in mine:
        want = told[name].delta()
        assert float((mine[name].delta() - want).norm()) <= 1e-5 * float(want.norm()), name
