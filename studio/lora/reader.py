"""Reading LoRA files without torch: the header, single numbers, and whole tensors as 32-bit arrays."""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.errors import InputError
from studio.models import tensor_header

_FLOATS = {
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "U8": "u1",
    "I8": "i1",
    "BOOL": "u1",
}
DTYPE_WORDS = {
    "F32": "fp32",
    "F16": "fp16",
    "BF16": "bf16",
    "F64": "fp64",
    "F8_E4M3": "fp8",
    "F8_E5M2": "fp8",
}


def need_safetensors(path: Path) -> None:
    """Refuse what is no .safetensors file. Raises InputError; a pickle is refused by `tensor_header` as well."""
    if path.suffix.lower() != ".safetensors":
        raise InputError(
            f"{path.name} is not a .safetensors file.",
            "Files of other kinds can run any program when they are loaded, so the studio never opens them.",
            "Choose the .safetensors version of it.",
        )


@contextmanager
def opened(path: Path) -> Iterator[Tensors]:
    """A LoRA file's tensors, mapped into memory and read one by one. Raises InputError when it is no whole safetensors file."""
    need_safetensors(path)
    header = tensor_header(path)
    told: Any = header.pop("__metadata__", None)
    with path.open("rb") as f:
        start = 8 + struct.unpack("<Q", f.read(8))[0]
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield Tensors(header, told if isinstance(told, dict) else {}, content, start)


class Tensors:
    """The tensors of one open file. header: name -> dtype, shape, offsets; metadata: its text fields."""

    def __init__(
        self, header: dict[str, Any], metadata: dict[str, Any], content: mmap.mmap, start: int
    ) -> None:
        self.header = {str(k): v for k, v in header.items() if isinstance(v, dict) and "data_offsets" in v}
        self.metadata = {str(k): str(v) for k, v in metadata.items()}
        self._content, self._start = content, start

    def shape(self, name: str) -> tuple[int, ...]:
        return tuple(int(n) for n in self.header[name]["shape"])

    def dtype(self, name: str) -> str:
        return str(self.header[name]["dtype"])

    def read(self, name: str) -> NDArray[np.float32]:
        """A tensor in 32 bit. Raises InputError for a number format that is not known (such as 8-bit floats)."""
        about = self.header[name]
        begin, end = (self._start + int(n) for n in about["data_offsets"])
        raw, dtype = self._content[begin:end], str(about["dtype"])
        if dtype == "BF16":  # the upper half of a 32-bit float
            values = (np.frombuffer(raw, "<u2").astype(np.uint32) << 16).view(np.float32)
        elif dtype in _FLOATS:
            with np.errstate(over="ignore"):
                values = np.frombuffer(raw, _FLOATS[dtype]).astype(np.float32)
        else:
            raise InputError(
                f"The numbers of '{name}' are stored as {dtype}.",
                "The studio reads fp32, fp16 and bf16.",
                "Save the LoRA in one of them with the tool that made it.",
            )
        return values.reshape(self.shape(name))
