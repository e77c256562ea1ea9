"""Clip skip: from which layer of its text encoder a base model reads a prompt, counted from the end as ComfyUI and A1111 count.

1 reads the last layer. Models that descend from NovelAI's are read at 2, the layer before the last, and so are LoRAs trained on
them. SDXL reads that layer by itself, so 1 and 2 are the same there. SD3.5, FLUX and the built-in model have no such choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from studio.errors import InputError
from studio.evaluation.lora_files import FAMILY_WORDS
from studio.models import tensor_header

FAMILIES = ("sd15", "sdxl")
LEAST, MOST = 1, 4


def trained_with(paths: Sequence[Path]) -> int:
    """The clip skip that LoRA files say they were trained with (`ss_clip_skip`), 1 to 4; 1 when they say none or differ."""
    told = {_told(path) for path in paths}
    return told.pop() if len(told) == 1 else LEAST


def _told(path: Path) -> int:
    try:
        words = str((tensor_header(path.expanduser()).get("__metadata__") or {}).get("ss_clip_skip", ""))
    except InputError:  # whether it can be read at all is asked elsewhere
        return LEAST
    return int(words) if words.isascii() and words.isdigit() and LEAST <= int(words) <= MOST else LEAST


def chosen(family: str, asked: int | None, paths: Sequence[Path]) -> int:
    """The clip skip to draw with: as asked, else as the LoRAs were trained on SD1.5, else 1.

    Raises InputError for more than 1 with a family that has no clip skip.
    """
    if asked is None:
        return trained_with(paths) if family == "sd15" else LEAST
    if asked > LEAST and family not in FAMILIES:
        raise InputError(
            f"Clip skip has no place with {FAMILY_WORDS.get(family, family)}.",
            "Only SD1.5 and SDXL models can be asked to read a prompt from an earlier layer of their text encoder.",
            "Leave clip skip out.",
        )
    return asked
