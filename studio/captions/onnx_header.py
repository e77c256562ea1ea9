"""What an ONNX file says about its inputs and outputs, read without loading its weights.

An ONNX file is a protobuf message. Only the few fields that are needed are walked; weights are skipped by seeking, so
that a file of a gigabyte is judged in milliseconds and nothing in it is run. Field numbers: onnx.proto, Apache-2.0.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

_GRAPH, _INITIALIZER, _INPUT, _OUTPUT = 7, 5, 11, 12
_LONGEST = 1 << 20  # bytes of one input's or output's description; real ones have under a hundred
FLOAT32 = 1


class NotOnnx(ValueError):
    """The file is not an ONNX model, or it ends too early."""


@dataclass(frozen=True)
class Port:
    """An input or output: its name, element type (1 is float32), and sizes; a size of None is free (such as the batch)."""

    name: str
    kind: int
    shape: tuple[int | None, ...]


@dataclass(frozen=True)
class OnnxHeader:
    """The true inputs (those that are not weights) and the outputs."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]


def read_header(path: Path) -> OnnxHeader:
    """Inputs and outputs of an ONNX file. Raises NotOnnx, OSError."""
    with path.open("rb") as f:
        size = f.seek(0, 2)
        graph = next((span for number, span in _fields(f, 0, size) if number == _GRAPH), None)
        if graph is None:
            raise NotOnnx("it holds no graph")
        inputs: list[Port] = []
        outputs: list[Port] = []
        weights: set[str] = set()
        for number, (start, end) in _fields(f, *graph):
            if number in (_INPUT, _OUTPUT):
                port = _port(f, start, end)
                (inputs if number == _INPUT else outputs).append(port)
            elif number == _INITIALIZER:
                # A weight's name is its field 8; its data is skipped.
                weights |= {_text(f, *span) for n, span in _fields(f, start, end) if n == 8}
    return OnnxHeader(tuple(p for p in inputs if p.name not in weights), tuple(outputs))


def _fields(f: BinaryIO, start: int, end: int) -> Iterator[tuple[int, tuple[int, int]]]:
    """The length-delimited fields between two offsets: number, and where the content lies. Numbers are skipped over."""
    at = start
    while at < end:
        f.seek(at)
        key = _varint(f)
        number, wire = key >> 3, key & 7
        if number == 0:
            raise NotOnnx("it is not protobuf")
        if wire == 2:
            length = _varint(f)
            begin = f.tell()
            at = begin + length
            if at > end:
                raise NotOnnx("it ends too early")
            yield number, (begin, at)
        elif wire == 0:
            _varint(f)
            at = f.tell()
        elif wire in (1, 5):
            at = f.tell() + (8 if wire == 1 else 4)
        else:
            raise NotOnnx("it is not protobuf")
    if at != end:
        raise NotOnnx("it ends too early")


def _numbers(f: BinaryIO, start: int, end: int) -> dict[int, int]:
    """The plain numbers between two offsets, by field."""
    found: dict[int, int] = {}
    at = start
    while at < end:
        f.seek(at)
        key = _varint(f)
        if key & 7 == 0:
            found[key >> 3] = _varint(f)
            at = f.tell()
        elif key & 7 == 2:
            length = _varint(f)
            at = f.tell() + length
        else:
            at = f.tell() + (8 if key & 7 == 1 else 4)
    return found


def _varint(f: BinaryIO) -> int:
    value = 0
    for shift in range(0, 70, 7):
        raw = f.read(1)
        if not raw:
            raise NotOnnx("it ends too early")
        value |= (raw[0] & 0x7F) << shift
        if raw[0] < 0x80:
            return value
    raise NotOnnx("it is not protobuf")


def _text(f: BinaryIO, start: int, end: int) -> str:
    if end - start > _LONGEST:
        raise NotOnnx("it is not an ONNX model")
    f.seek(start)
    return f.read(end - start).decode("utf-8", "replace")


def _port(f: BinaryIO, start: int, end: int) -> Port:
    """ValueInfoProto: name 1, type 2 -> tensor_type 1 -> element type 1, shape 2 -> dim 1 -> value 1 or parameter 2."""
    if end - start > _LONGEST:
        raise NotOnnx("it is not an ONNX model")
    name, kind, shape = "", 0, list[int | None]()
    for number, span in _fields(f, start, end):
        if number == 1:
            name = _text(f, *span)
        elif number == 2:
            for tensor in (s for n, s in _fields(f, *span) if n == 1):
                kind = _numbers(f, *tensor).get(1, 0)
                for dims in (s for n, s in _fields(f, *tensor) if n == 2):
                    shape += [_numbers(f, *d).get(1) or None for n, d in _fields(f, *dims) if n == 1]
    return Port(name, kind, tuple(shape))
