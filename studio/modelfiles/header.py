"""The header of a .safetensors file: tensor names, shapes and types, without loading a tensor."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

from studio.errors import InputError

MOST_HEADER_BYTES = 100_000_000
"""The format's own limit for a header (huggingface/safetensors)."""
_PICKLE_STARTS = (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
_PICKLE_ENDINGS = (".ckpt", ".pt", ".pth", ".bin", ".pkl")
_ADVICE = "Download the file again, or choose the .safetensors version of it."


def tensor_header(path: Path) -> dict[str, Any]:
    """The JSON header of a .safetensors file: tensor names, shapes, types. Reads the header only; loads no tensor.

    Raises InputError for a file that is not whole or is no safetensors file. Layout: 8 bytes little-endian length,
    then that many bytes of JSON, then the tensors (the safetensors format, huggingface/safetensors).
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as f:
            head = f.read(64)
            _refuse_others(path, head)
            length = struct.unpack("<Q", head[:8])[0] if len(head) >= 8 else 0
            if not 2 <= length <= min(size - 8, MOST_HEADER_BYTES):
                raise _no_safetensors(path, head, length, size)
            f.seek(8)
            header = json.loads(f.read(length))
            ends = [int(v["data_offsets"][1]) for k, v in header.items() if k != "__metadata__"]
            for name, value in header.items():
                if name != "__metadata__":
                    _ = [int(n) for n in value["shape"]], str(value["dtype"])
    except OSError as e:
        raise InputError(
            f"{path.name} cannot be read.",
            str(e.strerror or e),
            "Check that the file exists and that you may read it.",
        ) from e
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError) as e:
        raise InputError(
            f"{path.name} has a damaged header.", "Its table of contents is not readable.", _ADVICE
        ) from e
    if 8 + length + max(ends, default=0) != size:
        raise InputError(
            f"{path.name} is not whole.",
            f"It should have {8 + length + max(ends, default=0):,} bytes and has {size:,}.",
            _ADVICE,
        )
    return dict(header)


def _refuse_others(path: Path, head: bytes) -> None:
    """Name the kinds of files that are often taken for a model."""
    start = head.lstrip()[:15].lower()
    # The first bytes of a .safetensors file are a length, which may read like any of these; its ninth opens the JSON.
    pickled = head.startswith(_PICKLE_STARTS) and head[8:9] != b"{"
    if pickled or path.suffix.lower() in _PICKLE_ENDINGS:
        raise InputError(
            f"{path.name} is a pickle file (.ckpt / .pt / .bin), not safetensors.",
            "Such files can run any program when they are loaded, so the studio never opens them.",
            _ADVICE,
        )
    if head.startswith(b"GGUF"):
        raise InputError(
            f"{path.name} is a GGUF file, made small for drawing.",
            "Training needs the whole numbers that were rounded away in it.",
            "Choose the .safetensors version of the model.",
        )
    if head.startswith(b"version https://git-lfs"):
        raise InputError(
            f"{path.name} is only a note of where the file lies, not the file.",
            "It came out of a git repository without Git LFS.",
            "Download the file itself; it has some gigabytes.",
        )
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise InputError(
            f"{path.name} is a web page, not a model.",
            "The server sent a page, often one that asks to sign in, and it was saved under this name.",
            "Download the file again, signed in.",
        )


def _no_safetensors(path: Path, head: bytes, length: int, size: int) -> InputError:
    if size > 8 and size - 8 < length <= MOST_HEADER_BYTES and head[8:9] == b"{":
        return InputError(
            f"{path.name} is not a whole safetensors file: not even its header has arrived.",
            f"The header alone has {length:,} bytes, and the file has {size:,}.",
            _ADVICE,
        )
    if not size:
        return InputError(f"{path.name} is empty.", "Nothing of it has arrived.", _ADVICE)
    return InputError(
        f"{path.name} is not a safetensors file, or only a part of one.",
        "Its first bytes do not say how long its header is.",
        _ADVICE,
    )
