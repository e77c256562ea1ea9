"""The tokenizers as the files that sd-scripts looks for, so that no run needs the internet for them.

CLIP's word table comes with the studio. T5's is a file beside the base model (see `parts.py`); where it is missing, the script
fetches it by itself.
"""

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
T5_FOLDER = "google_t5-v1_1-xxl"
T5_SPARE = 100
"""Words without a meaning that T5 has beside its table; they stand behind it, the last one first."""


def write(folder: Path, t5: Path | None = None) -> None:
    """Write the tokenizers into a folder for `tokenizer_cache_dir`; does nothing with those that are there.

    t5: a folder that holds T5's word table, as `tokenizer.json` or as `spiece.model`. Raises ValueError when it cannot be read,
    OSError.
    """
    if t5 is not None and not (folder / T5_FOLDER / "tokenizer_config.json").is_file():
        _write_t5(folder / T5_FOLDER, t5)
    if all((folder / f / "tokenizer_config.json").is_file() for f in FOLDERS):
        return
    table: dict[str, Any] = json.loads(
        shipped("data", "geometry", "tokenizer", "tokenizer.json").read_text(encoding="utf-8")
    )["model"]
    pairs = [m if isinstance(m, str) else " ".join(m) for m in table["merges"]]
    # In one line: a table of 49,408 words that nobody reads is written ten times as fast.
    words = json.dumps(table["vocab"], ensure_ascii=False)
    special = {"bos_token": START, "eos_token": END, "unk_token": END}
    for name in FOLDERS:
        pad = "!" if name.startswith("laion") else END
        files.write_text(folder / name / "vocab.json", words)
        files.write_text(folder / name / "merges.txt", "\n".join(["#version: 0.2", *pairs, ""]))
        files.write_json(folder / name / "special_tokens_map.json", {**special, "pad_token": pad})
        files.write_json(
            folder / name / "tokenizer_config.json",
            {**special, "pad_token": pad, "tokenizer_class": "CLIPTokenizer", "model_max_length": 77,
             "add_prefix_space": False, "do_lower_case": True, "errors": "replace"},
        )  # fmt: skip


def _write_t5(folder: Path, place: Path) -> None:
    """T5's tokenizer in the form that needs no further package to be read."""
    if (place / "tokenizer.json").is_file():
        table = json.loads((place / "tokenizer.json").read_text(encoding="utf-8"))
    else:
        table = t5_table(place / "spiece.model")
    marks = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    spare = [f"<extra_id_{n}>" for n in range(T5_SPARE)]
    files.write_json(folder / "tokenizer.json", table)
    files.write_json(folder / "special_tokens_map.json", {**marks, "additional_special_tokens": spare})
    files.write_json(
        folder / "tokenizer_config.json",
        {**marks, "tokenizer_class": "T5Tokenizer", "extra_ids": T5_SPARE, "additional_special_tokens": spare,
         "model_max_length": 512, "clean_up_tokenization_spaces": True},
    )  # fmt: skip


def t5_table(path: Path) -> dict[str, Any]:
    """`tokenizer.json` of a `spiece.model`: its pieces, the spare words behind them, and the mark at the end of a text.
    Raises ValueError when the file is none, OSError."""
    from studio.captions.spiece import tokenizer_from

    table: dict[str, Any] = json.loads(tokenizer_from(path).to_str())
    pieces = table["model"]["vocab"]
    pieces += [[f"<extra_id_{n}>", 0.0] for n in reversed(range(T5_SPARE))]
    number = {piece: i for i, (piece, _) in enumerate(pieces)}
    special = ["<pad>", "</s>", "<unk>", *(p for p, _ in pieces[-T5_SPARE:])]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    table["added_tokens"] = [{"id": number[p], "content": p, **flags} for p in special if p in number]
    text, end = (
        ({"Sequence": {"id": i, "type_id": 0}} for i in "AB"),
        {"SpecialToken": {"id": "</s>", "type_id": 0}},
    )
    first, second = text
    table["post_processor"] = {
        "type": "TemplateProcessing", "single": [first, end], "pair": [first, end, second, end],
        "special_tokens": {"</s>": {"id": "</s>", "ids": [number.get("</s>", 1)], "tokens": ["</s>"]}},
    }  # fmt: skip
    return table
