"""Writing a copy of a LoRA file with other metadata; its tensors are copied byte for byte, no torch needed."""

from __future__ import annotations

import json
import shutil
import struct
from collections.abc import Mapping
from pathlib import Path

from studio import files
from studio.errors import InputError
from studio.models import tensor_header


def metadata_of(path: Path) -> dict[str, str]:
    """The text fields in a safetensors file's header, such as `ss_network_dim` and `modelspec.title`; {} when none.

    Raises InputError when the file is missing or no whole safetensors file.
    """
    raw = tensor_header(path).get("__metadata__")
    return {str(k): str(v) for k, v in raw.items()} if isinstance(raw, dict) else {}


def copy_with_metadata(source: Path, target: Path, extra: Mapping[str, str]) -> None:
    """Copy a safetensors file atomically, its metadata joined by `extra` (which wins). Raises as `rewrite` does."""
    rewrite(source, target, {**metadata_of(source), **extra})


def rewrite(source: Path, target: Path, metadata: Mapping[str, str]) -> None:
    """Copy a safetensors file atomically with `metadata` in the place of its own.

    Layout: 8 bytes little-endian header length, JSON header padded with spaces to a multiple of 8, tensors; offsets
    count from the header's end, so the tensors stay as they are (safetensors format).
    Raises InputError when the source is no whole safetensors file or `target` is the source itself.
    """
    if target.exists() and target.samefile(source):
        raise InputError(
            f"{source.name} cannot be copied onto itself.",
            "The studio never changes a file in place: a copy is written beside it.",
            "Choose another name or folder for the copy.",
        )
    text = _header(source, metadata)
    with source.open("rb") as s, files.atomic_file(target) as t:
        s.seek(8 + struct.unpack("<Q", s.read(8))[0])
        t.write(struct.pack("<Q", len(text)))
        t.write(text)
        shutil.copyfileobj(s, t, 1024 * 1024)


def rewritten_size(source: Path, metadata: Mapping[str, str]) -> int:
    """Bytes that `rewrite` would write. Raises InputError when the source is no whole safetensors file."""
    with source.open("rb") as s:
        before = int(struct.unpack("<Q", s.read(8))[0])
    return source.stat().st_size - before + len(_header(source, metadata))


def _header(source: Path, metadata: Mapping[str, str]) -> bytes:
    header = tensor_header(source)
    header.pop("__metadata__", None)
    if metadata:
        header = {"__metadata__": dict(metadata), **header}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    return text + b" " * (-len(text) % 8)
