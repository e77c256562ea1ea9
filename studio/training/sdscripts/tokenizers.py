"""CLIP's tokenizer as the files that sd-scripts looks for, so that no run needs the internet for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studio import files
from studio.workspace import shipped

# Folder names that sd-scripts makes of the repositories' names. Both models share one table of words; they differ in what
# fills up a short text, which the script sets by itself.
FOLDERS = ("openai_clip-vit-large-patch14", "laion_CLIP-ViT-bigG-14-laion2B-39B-b160k")
START, END = "<|startoftext|>", "<|endoftext|>"


def write(folder: Path) -> None:
    """Write the tokenizers into a folder for `tokenizer_cache_dir`; does nothing when they are there."""
    if all((folder / f / "tokenizer_config.json").is_file() for f in FOLDERS):
        return
    table: dict[str, Any] = json.loads(
        shipped("data", "geometry", "tokenizer", "tokenizer.json").read_text(encoding="utf-8")
    )["model"]
    pairs = [m if isinstance(m, str) else " ".join(m) for m in table["merges"]]
    special = {"bos_token": START, "eos_token": END, "unk_token": END}
    for name in FOLDERS:
        pad = "!" if name.startswith("laion") else END
        files.write_json(folder / name / "vocab.json", table["vocab"])
        files.write_text(folder / name / "merges.txt", "\n".join(["#version: 0.2", *pairs, ""]))
        files.write_json(folder / name / "special_tokens_map.json", {**special, "pad_token": pad})
        files.write_json(
            folder / name / "tokenizer_config.json",
            {**special, "pad_token": pad, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77,
             "add_prefix_space": False, "do_lower_case": True, "errors": "replace"},
        )  # fmt: skip
