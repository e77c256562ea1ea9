"""Whether the numbers in a LoRA file are numbers. Needs no torch, and one tensor's room in memory."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from studio.errors import InputError
from studio.models import tensor_header

# Name of a number format in a safetensors header -> the same as whole numbers, and the bits of its exponent. A number whose
# exponent bits are all set is infinite or NaN (IEEE 754; bfloat16 has the exponent of float32).
_FORMATS: dict[str, tuple[str, int]] = {
    "F64": ("<u8", 0x7FF0000000000000),
    "F32": ("<u4", 0x7F800000),
    "BF16": ("<u2", 0x7F80),
    "F16": ("<u2", 0x7C00),
}


def broken_layers(path: Path) -> list[str]:
    """Names of the tensors that hold NaN or infinity, in the file's order; [] when every number is one.

    Raises InputError when the file is damaged.
    """
    header = tensor_header(path)
    tensors = {k: v for k, v in header.items() if k != "__metadata__"}
    # The tensors fill the end of a whole file.
    start = path.stat().st_size - max((int(t["data_offsets"][1]) for t in tensors.values()), default=0)
    found = []
    try:
        with path.open("rb") as f:
            for name, told in tensors.items():
                if told["dtype"] not in _FORMATS:
                    continue
                kind, mask = _FORMATS[told["dtype"]]
                first, last = told["data_offsets"]
                f.seek(start + first)
                bits = np.frombuffer(f.read(last - first), dtype=kind)
                if bool(np.any((bits & mask) == mask)):
                    found.append(name)
    except (OSError, ValueError) as e:
        raise InputError(f"{path.name} cannot be read.", f"{e}.", "Use another file of the run.") from e
    return found
