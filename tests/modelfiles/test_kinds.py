"""What a file is gets read from its header, for every kind that a person may point at."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from studio.errors import InputError
from studio.modelfiles import checking
from studio.modelfiles.header import tensor_header
from studio.modelfiles.kinds import look, recognise
from tests.modelfiles import headers as h


@pytest.mark.parametrize(
    ("shapes", "kind", "family", "part"),
    [
        (h.SD15, "base", "sd15", ""),
        (h.SD2, "base", "sd2", ""),
        (h.SDXL, "base", "sdxl", ""),
        (h.REFINER, "base", "sdxl-refiner", ""),
        (h.SD3_MEDIUM, "base", "sd3-medium", ""),
        (h.SD35_LARGE, "base", "sd35", ""),
        (h.SD35_MEDIUM, "base", "sd35-medium", ""),
        (h.FLUX, "base", "flux", ""),
        ({f"{h.M}{n}": s for n, s in h.FLUX.items()}, "base", "flux", ""),
        (h.FLUX_SCHNELL, "base", "flux-schnell", ""),
        (h.CHROMA, "base", "chroma", ""),
        (h.LORA, "lora", "sd15", ""),
        (h.FLUX_LORA, "lora", "flux", ""),
        (h.CONTROLNET, "controlnet", "", ""),
        (h.UNET, "unet", "", ""),
        (h.CLIP_L, "text-encoder", "", "clip_l"),
        (h.CLIP_G, "text-encoder", "", "clip_g"),
        (h.T5, "text-encoder", "", "t5xxl"),
        (h.AE, "vae", "", "ae"),
        (h.SD_VAE, "vae", "", "vae"),
        (h.EMBEDDING, "embedding", "", ""),
        (h.UPSCALER, "other", "", ""),
        ({}, "other", "", ""),
    ],
)
def test_every_kind_is_told_apart(
    tmp_path: Path, shapes: h.Shapes, kind: str, family: str, part: str
) -> None:
    found = look(h.write(tmp_path / "any-name.safetensors", shapes))
    assert (found.kind, found.family, found.part) == (kind, family, part)
    assert found.words


def test_what_it_predicts_is_in_the_file(tmp_path: Path) -> None:
    plain = look(h.write(tmp_path / "a.safetensors", h.SDXL))
    assert (plain.prediction, plain.sure, plain.zero_snr) == ("epsilon", False, False)
    marked = look(h.write(tmp_path / "b.safetensors", h.SDXL_V))
    assert (marked.prediction, marked.sure, marked.zero_snr) == ("v_prediction", True, True)
    told = look(h.write(tmp_path / "c.safetensors", h.SD15, metadata={"modelspec.prediction_type": "v"}))
    assert (told.prediction, told.sure) == ("v_prediction", True)
    assert look(h.write(tmp_path / "d.safetensors", h.FLUX)).prediction == "flow"


def test_a_file_is_looked_at_again_when_it_changed(tmp_path: Path) -> None:
    path = h.write(tmp_path / "a.safetensors", h.SD15)
    assert look(path).family == "sd15"
    h.write(path, h.SDXL)
    assert look(path).family == "sdxl"


def test_size_and_precision_are_counted(tmp_path: Path) -> None:
    found = look(h.write(tmp_path / "a.safetensors", h.FLUX, dtype="F8_E4M3"))
    assert found.precision == "F8_E4M3"
    assert found.parameters == sum(h.math.prod(s) for s in h.FLUX.values())


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.ckpt", b"PK\x03\x04" + b"\0" * 64, "pickle"),
        ("renamed.safetensors", b"\x80\x02}q\x00" + b"\0" * 64, "pickle"),
        ("weights.pt", b"anything", "pickle"),
        ("a.gguf", b"GGUF" + b"\0" * 64, "GGUF"),
        ("lfs.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "only a note"),
        ("page.safetensors", b"\n<!DOCTYPE html><html><head><title>Sign in", "web page"),
        ("empty.safetensors", b"", "is empty"),
        ("short.safetensors", b"\x01\x02", "not a safetensors file"),
        ("text.safetensors", b"hello, this is no model at all", "not a safetensors file"),
        ("cut-head.safetensors", struct.pack("<Q", 5000) + b'{"a": ', "not even its header"),
        ("json.safetensors", struct.pack("<Q", 4) + b"nope", "damaged header"),
        ("list.safetensors", struct.pack("<Q", 2) + b"[]", "damaged header"),
        ("odd.safetensors", struct.pack("<Q", 9) + b'{"a": {}}', "damaged header"),
        ("deep.safetensors", struct.pack("<Q", 200_000) + b"[" * 200_000, "damaged header"),
    ],
)  # fmt: skip
def test_what_is_no_model_file_is_named(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=words) as told:
        tensor_header(tmp_path / name)
    assert told.value.why and told.value.fix


def test_a_download_that_broke_off_is_not_whole(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not whole") as told:
        look(h.write(tmp_path / "a.safetensors", h.SDXL, cut=1))
    assert "It should have" in told.value.why


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (h.SD2, "Stable Diffusion 2"), (h.REFINER, "refiner"), (h.SD35_MEDIUM, "3.5 Medium"), (h.SD3_MEDIUM, "3 Medium"),
        (h.CHROMA, "Chroma"), (h.INPAINT, "inpainting"), (h.LORA, "is a LoRA"), (h.CONTROLNET, "is a ControlNet"),
        (h.UNET, "without its text encoder"), (h.CLIP_L, "CLIP-L"), (h.T5, "T5-XXL"), (h.AE, "autoencoder"),
        (h.EMBEDDING, "embedding"), (h.UPSCALER, "cannot be trained here"), (h.NF4, "made small"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_by_its_name(tmp_path: Path, shapes: h.Shapes, words: str) -> None:
    with pytest.raises(InputError, match=words) as told:
        checking.base_model(h.write(tmp_path / "mine.safetensors", shapes))
    assert told.value.why and told.value.fix


def test_a_wrong_family_is_caught_before_anything_starts(tmp_path: Path) -> None:
    sdxl = h.write(tmp_path / "sdxl.safetensors", h.SDXL_V)
    assert checking.mismatch(sdxl, "sdxl", "v_prediction") == []
    [family] = checking.mismatch(sdxl, "sd15", "epsilon", "My model")
    assert family.severity == "block" and "listed as a Stable Diffusion 1.x model" in family.what
    assert "an SDXL model" in family.what
    [prediction] = checking.mismatch(sdxl, "sdxl", "epsilon")
    assert prediction.code == "model-prediction" and "v-prediction" in prediction.what
    [gone] = checking.mismatch(tmp_path / "none.safetensors", "sdxl", "epsilon")
    assert gone.severity == "block"
    [schnell] = checking.mismatch(h.write(tmp_path / "s.safetensors", h.FLUX_SCHNELL), "flux", "flow")
    assert schnell.severity == "warn" and "schnell" in schnell.what
    named = h.write(tmp_path / "noob_v-pred.safetensors", h.SDXL)
    assert [f.code for f in checking.mismatch(named, "sdxl", "epsilon")] == ["model-prediction-unsure"]
    assert checking.mismatch(named, "sdxl", "v_prediction") == []


def test_parts_are_told_apart(tmp_path: Path) -> None:
    t5 = h.write(tmp_path / "t5.safetensors", h.T5)
    assert checking.part_mismatch(t5, "t5xxl", "FLUX") == []
    [wrong] = checking.part_mismatch(t5, "clip_l", "FLUX")
    assert "is the text encoder T5-XXL, not the text encoder CLIP-L" in wrong.what
    [broken] = checking.part_mismatch(h.write(tmp_path / "ae.safetensors", h.AE, cut=9), "ae", "FLUX")
    assert "not whole" in broken.what


def _folder(path: Path, width: int, pipeline: str = "", prediction: str = "epsilon") -> Path:
    (path / "unet").mkdir(parents=True)
    (path / "scheduler").mkdir()
    (path / "model_index.json").write_text(json.dumps({"_class_name": pipeline} if pipeline else {}))
    (path / "unet" / "config.json").write_text(json.dumps({"cross_attention_dim": width, "in_channels": 4}))
    (path / "scheduler" / "scheduler_config.json").write_text(json.dumps({"prediction_type": prediction}))
    return path


def test_folders_of_diffusers(tmp_path: Path) -> None:
    found = checking.base_model(_folder(tmp_path / "a", 2048, "StableDiffusionXLPipeline", "v_prediction"))
    assert (found.family, found.prediction, found.sure) == ("sdxl", "v_prediction", True)
    assert checking.base_model(_folder(tmp_path / "b", 768)).family == "sd15"
    with pytest.raises(InputError, match="cannot be trained here"):
        checking.base_model(_folder(tmp_path / "c", 1024))
    with pytest.raises(InputError, match="one file is needed"):
        checking.base_model(_folder(tmp_path / "d", 0, "FluxPipeline"))
    old = _folder(tmp_path / "e", 768)
    (old / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="pickle"):
        checking.base_model(old)
    cut = _folder(tmp_path / "f", 768)
    h.write(cut / "unet" / "diffusion_pytorch_model.safetensors", h.UNET, cut=5)
    with pytest.raises(InputError, match="not whole"):
        checking.base_model(cut)
    (tmp_path / "b" / "unet" / "config.json").write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        checking.base_model(tmp_path / "b")


@pytest.mark.parametrize(
    ("name", "shape", "words"),
    [
        # As real sd-scripts named the layers of its LoRAs.
        ("lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight", (4, 2048), "a LoRA for SDXL"),
        ("lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k.lora_down.weight", (4, 768), "a LoRA for SD1.5"),
        ("lora_unet_double_blocks_0_img_attn_qkv.lora_down.weight", (4, 3072), "a LoRA for FLUX.1"),
        ("lora_unet_single_blocks_1_linear1.lora_down.weight", (4, 3072), "a LoRA for FLUX.1"),
        ("lora_unet_joint_blocks_0_context_block_attn_qkv.lora_down.weight", (4, 2432), "a LoRA for SD3.5"),
        ("transformer.transformer_blocks.0.attn.add_k_proj.lora_A.weight", (4, 2432), "a LoRA for SD3.5"),
        ("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.lora_A.weight", (4, 2048), "a LoRA for SDXL"),
        ("lora_unet_mid_block_attentions_0_proj_in.lora_down.weight", (4, 1280), "a LoRA"),
    ],
)  # fmt: skip
def test_a_lora_says_what_it_is_for(name: str, shape: tuple[int, ...], words: str) -> None:
    found = recognise({name: {"dtype": "BF16", "shape": list(shape), "data_offsets": [0, 2]}})
    assert (found.kind, found.words) == ("lora", words)
