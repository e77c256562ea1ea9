"""Resize, merge and convert: against plain linear algebra, and, where they are installed, against sd-scripts' own tools."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from studio.errors import InputError
from studio.lora import tasks
from studio.lora.blocks import block_of
from studio.lora.info import describe
from studio.lora.workers import tools
from studio.workspace import Workspace
from tests.lora.conftest import deltas

Make = Callable[..., Path]
SD_SCRIPTS, SD_PYTHON = (
    os.environ.get("STUDIO_SD_SCRIPTS", ""),
    os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", ""),
)
real = pytest.mark.skipif(not SD_SCRIPTS, reason="STUDIO_SD_SCRIPTS does not name sd-scripts")


def close(a: dict[str, np.ndarray], b: dict[str, np.ndarray], tolerance: float) -> None:
    assert a.keys() == b.keys()
    for name in a:
        x, y = a[name].reshape(-1), b[name].reshape(-1)
        assert np.linalg.norm(x - y) <= tolerance * np.linalg.norm(y), name


def test_resize_is_the_best_approximation(make: Make, worker: Any, tmp_path: Path) -> None:
    source, out = make(), tmp_path / "out.safetensors"
    result = tools.resize_job(worker, {"file": str(source), "rank": 3, "out": str(out)})
    want, lost, whole = {}, 0.0, 0.0
    for name, delta in deltas(source).items():
        u, s, vh = np.linalg.svd(delta.reshape(len(delta), -1), full_matrices=False)
        want[name] = (u[:, :3] * s[:3]) @ vh[:3]
        lost, whole = lost + (s[3:] ** 2).sum(), whole + (s**2).sum()
    close(deltas(out), want, 1e-5)
    assert result["kept"] == pytest.approx(np.sqrt(1 - lost / whole), abs=1e-4)
    assert describe(out).rank_words == "3" and describe(out).alpha_words == "1.5"
    with safe_open(str(out), framework="np") as opened:
        assert opened.metadata()["ss_network_dim"] == "3"
        assert len(opened.metadata()["sshs_model_hash"]) == 64


def test_keep_takes_the_smallest_rank_that_does(make: Make, worker: Any, tmp_path: Path) -> None:
    out = tmp_path / "out.safetensors"
    result = tools.resize_job(worker, {"file": str(make()), "rank": 64, "keep": 0.9, "out": str(out)})
    assert all(row["kept"] >= 0.9 for row in result["worst"])
    assert result["rank_high"] < 8


@pytest.mark.parametrize("kind", ["hada", "lokr"])
def test_loha_and_lokr_become_lora(tmp_path: Path, worker: Any, rng: Any, kind: str) -> None:
    shapes: dict[str, tuple[int, ...]] = (
        {"hada_w1_a": (16, 2), "hada_w1_b": (2, 12), "hada_w2_a": (16, 2), "hada_w2_b": (2, 12)}
        if kind == "hada"
        else {"lokr_w1": (4, 3), "lokr_w2": (4, 4)}
    )
    source, out = tmp_path / "x.safetensors", tmp_path / "out.safetensors"
    tensors = {f"lora_unet_x.{n}": rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    save_file({**tensors, "lora_unet_x.alpha": np.array(1, np.float32)}, str(source))
    p = {n: tensors[f"lora_unet_x.{n}"] for n in shapes}
    want = (
        (p["hada_w1_a"] @ p["hada_w1_b"]) * (p["hada_w2_a"] @ p["hada_w2_b"]) / 2
        if kind == "hada"
        else np.kron(p["lokr_w1"], p["lokr_w2"])
    )
    tools.resize_job(worker, {"file": str(source), "rank": 16, "out": str(out)})
    assert describe(out).kind == "LoRA"
    close(deltas(out), {"lora_unet_x": want}, 1e-5)


def test_merge_is_exact_without_a_rank_and_best_with_one(make: Make, worker: Any, tmp_path: Path) -> None:
    one, two = make("one", rank=4), make("two", rank=2, alpha=2.0)
    out = tmp_path / "out.safetensors"
    sources = [[str(one), 0.7], [str(two), -0.5]]
    tools.merge_job(worker, {"sources": sources, "out": str(out)})
    a, b = deltas(one), deltas(two)
    total = {n: 0.7 * a[n] - 0.5 * b[n] for n in a}
    close(deltas(out), total, 1e-6)
    assert describe(out).rank_words == "6"
    result = tools.merge_job(
        worker, {"sources": sources, "rank": 3, "out": str(tmp_path / "small.safetensors")}
    )
    assert describe(tmp_path / "small.safetensors").rank_words == "3"
    assert 0.5 < result["kept"] < 1


def test_merge_says_what_does_not_fit(make: Make, worker: Any, tmp_path: Path) -> None:
    out = str(tmp_path / "out.safetensors")
    with pytest.raises(InputError, match="cannot be merged"):
        tools.merge_job(worker, {"sources": [[str(make("a")), 1], [str(make("b", width=64)), 1]], "out": out})
    dora = make("d", extra={"lora_unet_down_blocks_0_resnets_0_conv1.dora_scale": np.ones((16, 1, 1, 1))})
    with pytest.raises(InputError, match="DoRA"):
        tools.merge_job(worker, {"sources": [[str(make("a")), 1], [str(dora), 1]], "out": out})
    assert not Path(out).exists()


def test_number_formats(make: Make, worker: Any, tmp_path: Path) -> None:
    source = make()
    for kind in ("fp16", "bf16"):
        out = tmp_path / f"{kind}.safetensors"
        tools.convert_job(worker, {"file": str(source), "type": kind, "out": str(out)})
        assert describe(out).types == {kind: 12}
        close(deltas(out), deltas(source), 0.01)
    large = make(
        "large",
        extra={
            "lora_unet_big.lora_down.weight": np.ones((1, 1)) * 1e6,
            "lora_unet_big.lora_up.weight": np.ones((1, 1)),
        },
    )
    with pytest.raises(InputError, match="does not fit into fp16"):
        tools.convert_job(
            worker, {"file": str(large), "type": "fp16", "out": str(tmp_path / "no.safetensors")}
        )


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Attention of both kinds of blocks, a convolution and both text encoders, with kohya's names for SDXL."""
    rng = np.random.default_rng(3)
    layers = {
        "lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k": (640, 2048),
        "lora_unet_output_blocks_0_1_transformer_blocks_3_ff_net_0_proj": (10240, 1280),
        "lora_unet_middle_block_1_proj_in": (1280, 1280),
        "lora_te1_text_model_encoder_layers_3_self_attn_q_proj": (768, 768),
        "lora_te2_text_model_encoder_layers_30_mlp_fc1": (5120, 1280),
    }
    tensors: dict[str, np.ndarray] = {}
    for name, (out, into) in layers.items():
        tensors[f"{name}.lora_down.weight"] = rng.normal(size=(4, into)).astype(np.float32)
        tensors[f"{name}.lora_up.weight"] = rng.normal(size=(out, 4)).astype(np.float32)
        tensors[f"{name}.alpha"] = np.array(2, np.float32)
    conv = "lora_unet_input_blocks_1_0_in_layers_2"
    tensors[f"{conv}.lora_down.weight"] = rng.normal(size=(4, 320, 3, 3)).astype(np.float32)
    tensors[f"{conv}.lora_up.weight"] = rng.normal(size=(320, 4, 1, 1)).astype(np.float32)
    tensors[f"{conv}.alpha"] = np.array(4, np.float32)
    path = tmp_path_factory.mktemp("sdxl") / "xl.safetensors"
    save_file(tensors, str(path))
    return path


def test_names_go_to_diffusers_and_back(sdxl: Path, worker: Any, tmp_path: Path) -> None:
    there, back = tmp_path / "diffusers.safetensors", tmp_path / "back.safetensors"
    tools.convert_job(worker, {"file": str(sdxl), "names": "diffusers", "out": str(there)})
    told = describe(there)
    assert told.naming == "diffusers" and told.family == "sdxl" and told.layers == 6
    assert "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight" in load_file(
        str(there)
    )
    assert "text_encoder_2.text_model.encoder.layers.30.mlp.fc1.lora_B.weight" in load_file(str(there))
    tools.convert_job(worker, {"file": str(there), "names": "kohya", "out": str(back)})
    close(deltas(back), deltas(sdxl), 1e-6)
    with pytest.raises(InputError, match="already"):
        tools.convert_job(
            worker, {"file": str(sdxl), "names": "kohya", "out": str(tmp_path / "x.safetensors")}
        )


def test_diffusers_own_reading_agrees(sdxl: Path, worker: Any, tmp_path: Path) -> None:
    """Its pipeline turns kohya's names into its own; for the same layers ours are the same tensors."""
    from diffusers.loaders.lora_pipeline import StableDiffusionXLLoraLoaderMixin as Loader

    there = tmp_path / "diffusers.safetensors"
    tools.convert_job(worker, {"file": str(sdxl), "names": "diffusers", "out": str(there)})
    theirs, alphas = Loader.lora_state_dict(str(sdxl), unet_config=_Blocks())
    ours = load_file(str(there))
    checked = 0
    for name, tensor in theirs.items():
        plain = name.replace(".lora.down.", ".lora_A.").replace(".lora.up.", ".lora_B.")
        if plain not in ours or not plain.endswith("lora_B.weight"):
            continue
        alpha = alphas.get(name.split(".lora")[0] + ".alpha", 4) if alphas else 4
        assert np.allclose(tensor.float().numpy() * float(alpha) / 4, ours[plain], rtol=1e-5), name
        checked += 1
    assert checked == 3  # the transformer layers; it names text encoders and convolutions in another way


class _Blocks:
    layers_per_block = 2


def test_a_job_makes_the_file_and_overwrites_nothing(
    make: Make, workspace: Workspace, tmp_path: Path
) -> None:
    source = make()
    job = tasks.start_resize(workspace, source, 2)
    assert job.wait(300) == "finished", job.log_tail()
    made = Path(job.result["file"])
    assert made == workspace.root / "loras" / "style-rank2.safetensors" and describe(made).rank_words == "2"
    assert [j.id for j in tasks.tool_jobs(workspace)] == [job.id]
    with pytest.raises(InputError, match="there already"):
        tasks.start_resize(workspace, source, 2, out=made)
    with pytest.raises(InputError, match="cannot be resized"):
        tasks.start_resize(workspace, source, 8)
    with pytest.raises(InputError, match="cannot be merged"):
        tasks.start_merge(workspace, [(source, 1.0), (source, 0.0)])
    with pytest.raises(InputError, match="cannot be converted"):
        tasks.start_convert(workspace, source, type="fp32")


def _tool(*words: str) -> None:
    path = {**os.environ, "PYTHONPATH": os.pathsep.join([SD_SCRIPTS, f"{SD_SCRIPTS}/networks"])}
    done = subprocess.run(
        [SD_PYTHON, *words],
        cwd=SD_SCRIPTS,
        env=path,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@real
def test_sd_scripts_resizes_alike(make: Make, worker: Any, tmp_path: Path) -> None:
    source, ours, theirs = make(), tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    _tool("networks/resize_lora.py", "--model", str(source), "--save_to", str(theirs), "--new_rank", "4", "--new_conv_rank", "2",
          "--save_precision", "float")  # fmt: skip
    tools.resize_job(worker, {"file": str(source), "rank": 4, "conv_rank": 2, "out": str(ours)})
    close(deltas(ours), deltas(theirs), 1e-4)
    assert describe(ours).alphas == describe(theirs).alphas and describe(ours).ranks == describe(theirs).ranks


@real
def test_sd_scripts_merges_alike(make: Make, worker: Any, tmp_path: Path) -> None:
    """Its SVD merge weighs as this one does; its --concat weighs by ratio squared and alpha over the summed rank, so the ratios
    that mean the same are computed for it."""
    one, two = make("one", rank=4), make("two", rank=2)
    ours, theirs = tmp_path / "ours.safetensors", tmp_path / "theirs.safetensors"
    # It clamps the factors at a quantile that depends on the signs that an SVD happens to give; without that clamp:
    plain = "import runpy, sys, torch; torch.quantile = lambda *_: torch.tensor(1e9); sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    _tool("-c", plain, "networks/svd_merge_lora.py", "--models", str(one), str(two), "--ratios", "0.7", "0.5", "--new_rank", "3",
          "--save_to", str(theirs), "--save_precision", "float", "--precision", "float")  # fmt: skip
    tools.merge_job(worker, {"sources": [[str(one), 0.7], [str(two), 0.5]], "rank": 3, "out": str(ours)})
    close(deltas(ours), deltas(theirs), 1e-4)
    ratios = [np.sqrt(w * 6 / rank) for w, rank in ((0.7, 4), (0.5, 2))]
    joined = tmp_path / "joined.safetensors"
    _tool("networks/merge_lora.py", "--models", str(one), str(two), "--ratios", *(f"{r:.9f}" for r in ratios), "--concat", "--save_to",
          str(joined), "--save_precision", "float")  # fmt: skip
    exact = tmp_path / "exact.safetensors"
    tools.merge_job(worker, {"sources": [[str(one), 0.7], [str(two), 0.5]], "out": str(exact)})
    close(deltas(exact), deltas(joined), 1e-5)


def test_what_is_kept_is_told_per_block(make: Make, worker: Any, tmp_path: Path) -> None:
    source, out = make(), tmp_path / "out.safetensors"
    result = tools.resize_job(worker, {"file": str(source), "rank": 2, "out": str(out)})
    assert [b["block"] for b in result["blocks"]] == ["down 0", "down 1", "down 2"]
    assert [b["layers"] for b in result["blocks"]] == [2, 1, 1]
    before, after = deltas(source), deltas(out)
    for told in result["blocks"]:
        mine = [n for n in before if block_of(n) == told["block"]]
        whole = np.sqrt(sum(np.square(before[n]).sum() for n in mine))
        lost = np.sqrt(sum(np.square(before[n] - after[n]).sum() for n in mine))
        assert told["kept"] == pytest.approx(np.sqrt(1 - (lost / whole) ** 2), abs=1e-4)
        assert told["rank_low"] == told["rank_high"] == 2


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("lora_te_text_model_encoder_layers_3_mlp_fc1", "text 1"), ("lora_te2_text_model_encoder_layers_3_mlp_fc1", "text 2"),
        ("text_encoder_2.text_model.encoder.layers.3.mlp.fc1", "text 2"), ("unet.up_blocks.2.attentions.0.proj_in", "up 2"),
        ("lora_unet_middle_block_1_proj_in", "middle"), ("lora_unet_output_blocks_10_1_proj_in", "out 10"),
        ("lora_unet_double_blocks_7_img_attn_qkv", "double 7"), ("transformer.single_transformer_blocks.12.attn.to_q", "single 12"),
        ("transformer.transformer_blocks.3.attn.to_q", "block 3"), ("lora_unet_joint_blocks_23_context_block_attn_qkv", "joint 23"),
        ("base_model.model.down_blocks.1.attentions.0.proj_in", "down 1"), ("something.else", "other"),
    ],
)  # fmt: skip
def test_layers_belong_to_blocks(name: str, block: str) -> None:
    assert block_of(name) == block
