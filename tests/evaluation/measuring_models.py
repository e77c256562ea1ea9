"""Tiny models with random weights in the layouts of the real ones, made through the libraries' own classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np


def tiny_clip(folder: Path, seed: int = 0) -> Path:
    """A CLIP of 32-pixel pictures whose tokenizer knows letters."""
    import torch
    from transformers import CLIPConfig, CLIPModel

    torch.manual_seed(seed)
    letters = [chr(c) for c in range(97, 123)]
    words = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{x}</w>" for x in letters), ",</w>"]
    text = {
        "vocab_size": len(words), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2,
        "max_position_embeddings": 24, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1,
    }  # fmt: skip
    vision = {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "image_size": 32,
        "patch_size": 8,
    }  # fmt: skip
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=12)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    return folder


def tiny_dino(folder: Path, seed: int = 0) -> Path:
    """A DINOv2 of 28-pixel pictures."""
    import torch
    from transformers import Dinov2Config, Dinov2Model

    torch.manual_seed(seed)
    Dinov2Model(
        Dinov2Config(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)
    ).save_pretrained(folder)
    return folder


def tiny_ccip(folder: Path, seed: int = 0) -> Path:
    """An ONNX model that takes 3 × 384 × 384 and gives 12 numbers: means of patches, mixed at random."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    mix = np.random.default_rng(seed).normal(size=(48, 12)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("AveragePool", ["input"], ["pooled"], kernel_shape=[96, 96], strides=[96, 96]),
            helper.make_node("Flatten", ["pooled"], ["flat"]),
            helper.make_node("MatMul", ["flat", "mix"], ["output"]),
        ],
        "ccip",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 384, 384])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 12])],
        [numpy_helper.from_array(mix, "mix")],
    )
    folder.mkdir(parents=True, exist_ok=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    save_model(model, str(folder / "model_feat.onnx"))
    return folder
