"""The tools against those of sd-scripts on the same files; runs where STUDIO_SD_SCRIPTS names a checkout and STUDIO_SD_SCRIPTS_PYTHON
its Python. STUDIO_SD_SCRIPTS_LORAS may name a folder of LoRAs that were trained with it, which are then all looked at."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from studio.lora.check import check_lora
from studio.lora.file import metadata_of
from studio.lora.info import describe
from studio.lora.workers import tools
from studio.lora.workers.tensors import read
from tests.lora.conftest import deltas

SD_SCRIPTS, SD_PYTHON = (
    os.environ.get("STUDIO_SD_SCRIPTS", ""),
    os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", ""),
)
pytestmark = pytest.mark.skipif(not SD_SCRIPTS, reason="STUDIO_SD_SCRIPTS does not name sd-scripts")
TRAINED = sorted(Path(os.environ.get("STUDIO_SD_SCRIPTS_LORAS") or "/nowhere").glob("**/*.safetensors"))
Make = Callable[..., Path]

XL = ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k", "lora_te1_text_model_encoder_layers_3_self_attn_q_proj",
      "lora_te2_text_model_encoder_layers_30_mlp_fc1")  # fmt: skip
FLUX = ("lora_unet_double_blocks_0_img_attn_qkv", "lora_unet_single_blocks_7_linear1", "lora_te1_text_model_encoder_layers_3_mlp_fc2")  # fmt: skip


def theirs(*words: str) -> str:
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([SD_SCRIPTS, f"{SD_SCRIPTS}/networks"])}
    done = subprocess.run(
        [SD_PYTHON, *words],
        cwd=SD_SCRIPTS,
        env=path,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def measured(path: Path) -> dict[str, tuple[float, float]]:
    """Tensor -> (mean, smallest) of its absolute values, as sd-scripts' own check prints them."""
    found = {}
    for line in theirs("networks/check_lora_weights.py", str(path)).splitlines():
        parts = line.split(",")
        if len(parts) == 4 and ".lora_" in parts[0]:
            found[parts[0]] = (float(parts[2]), float(parts[3]))
    return found


def plain(path: Path, stems: tuple[str, ...], rank: int, alpha: float, seed: int) -> Path:
    rng = np.random.default_rng(seed)
    tensors: dict[str, Any] = {}
    for n, stem in enumerate(stems):
        tensors[f"{stem}.lora_down.weight"] = rng.normal(size=(rank, 20 + n)).astype(np.float32)
        tensors[f"{stem}.lora_up.weight"] = rng.normal(size=(12 + n, rank)).astype(np.float32)
        tensors[f"{stem}.alpha"] = np.array(alpha, np.float32)
    save_file(tensors, str(path), metadata={"ss_base_model_version": "sdxl_base_v1-0", "ss_v2": "False"})
    return path


def test_the_check_sees_what_theirs_sees(make: Make) -> None:
    dead = "lora_unet_up_blocks_1_attentions_0_proj_in"
    path = make(
        extra={
            f"{dead}.lora_down.weight": np.ones((2, 3)),
            f"{dead}.lora_up.weight": np.zeros((3, 2)),
            f"{dead}.alpha": np.array(1.0),
        }
    )
    told, report = measured(path), check_lora(path)
    assert (
        {n.rsplit(".lora_", 1)[0] for n, (mean, _low) in told.items() if mean == 0}
        == set(report.dead)
        == {dead}
    )
    assert len(told) == 2 * report.layers == 2 * describe(path).layers
    for name, tensor in load_file(str(path)).items():
        if ".lora_" in name:
            assert told[name][0] == pytest.approx(float(np.abs(tensor).mean()), rel=1e-4)


def test_the_text_fields_are_those_that_theirs_shows(make: Make) -> None:
    path = make(
        told={
            "ss_network_dim": "8",
            "ss_tag_frequency": json.dumps({"1_a": {"b": 2}}),
            "ss_base_model_version": "sd_v1",
        }
    )
    shown = theirs("tools/show_metadata.py", "--model", str(path))
    start = shown.index("{")
    told = json.loads(shown[start : shown.rindex("}") + 1])
    ours = metadata_of(path)
    assert {k: v if isinstance(v, str) else json.dumps(v) for k, v in told.items()} == ours


@pytest.mark.parametrize(("script", "stems"), [("sdxl_merge_lora.py", XL), ("flux_merge_lora.py", FLUX)])
def test_joining_two_files_is_the_same_change(
    worker: Any, tmp_path: Path, script: str, stems: tuple[str, ...]
) -> None:
    """Theirs weighs by the ratio squared and by alpha over the summed rank; the ratios that mean the same are computed for it."""
    one, two = (
        plain(tmp_path / "one.safetensors", stems, 4, 2.0, 1),
        plain(tmp_path / "two.safetensors", stems, 2, 2.0, 2),
    )
    joined, ours = tmp_path / "joined.safetensors", tmp_path / "ours.safetensors"
    ratios = [f"{np.sqrt(w * 6 / rank):.9f}" for w, rank in ((0.7, 4), (0.5, 2))]
    theirs(f"networks/{script}", "--models", str(one), str(two), "--ratios", *ratios, "--concat", "--save_to", str(joined), "--save_precision", "float")  # fmt: skip
    tools.merge_job(worker, {"sources": [[str(one), 0.7], [str(two), 0.5]], "out": str(ours)})
    a, b = deltas(ours), deltas(joined)
    assert a.keys() == b.keys()
    for name in a:
        assert np.linalg.norm(a[name] - b[name]) <= 1e-5 * np.linalg.norm(b[name]), name


@pytest.mark.parametrize("path", TRAINED, ids=lambda p: p.name)
def test_files_that_were_trained_with_it(worker: Any, tmp_path: Path, path: Path) -> None:
    info, report = describe(path), check_lora(path)
    assert info.family and info.naming == "kohya" and info.layers == report.layers and not report.broken
    told = measured(path)
    assert len(told) == 2 * info.layers
    assert {n.rsplit(".lora_", 1)[0] for n, (mean, _low) in told.items() if mean == 0} == set(report.dead)
    largest = max(x.parts["up"].shape[0] * x.parts["down"][0].numel() for x in read(path).layers.values())
    if info.layers > 60 or largest > 4_000_000:
        return  # theirs makes an SVD of each whole change: hours for a large model
    rank = max(1, max(info.ranks) // 2)
    ours, other = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    tools.resize_job(worker, {"file": str(path), "rank": rank, "type": "fp32", "out": str(ours)})
    theirs(
        "networks/resize_lora.py",
        "--model",
        str(path),
        "--save_to",
        str(other),
        "--new_rank",
        str(rank),
        "--save_precision",
        "float",
    )
    a, b = read(ours).layers, read(other).layers
    assert a.keys() == b.keys()
    for name in a:
        if name not in report.dead:
            want = b[name].delta()
            assert float((a[name].delta() - want).norm()) <= 1e-3 * float(want.norm()), name


@pytest.mark.parametrize("path", [p for p in TRAINED if "flux" in p.name.lower()], ids=lambda p: p.name)
def test_a_trained_flux_file_changes_names_as_theirs_does(worker: Any, tmp_path: Path, path: Path) -> None:
    """Compared by what each layer does to the same numbers, since the whole changes are too large to be made."""
    ours, other = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    theirs(
        "networks/convert_flux_lora.py",
        "--src",
        "sd-scripts",
        "--dst",
        "ai-toolkit",
        "--src_path",
        str(path),
        "--dst_path",
        str(other),
    )
    tools.convert_job(worker, {"file": str(path), "names": "diffusers", "type": "fp32", "out": str(ours)})
    a, b = read(ours).layers, read(other).layers
    assert a.keys() == b.keys()
    chance = np.random.default_rng(3)
    for name in a:
        x = torch.from_numpy(chance.normal(size=a[name].parts["down"].shape[1]).astype(np.float32))
        mine, want = (
            (q.parts["up"].float() @ (q.parts["down"].float() @ x)) * q.scale for q in (a[name], b[name])
        )
        assert float((mine - want).norm()) <= 1e-2 * float(want.norm()) + 1e-12, name
