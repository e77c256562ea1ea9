"""The figures that sd-scripts writes for TensorBoard: the loss of each single step and the learning rates.

The console shows neither: its `avr_loss` is a mean over the epoch so far. The file is a row of records
(length, its checksum, content, its checksum), each content one protobuf message `Event` with wall_time = 1, step = 2 and
summary = 5; a summary has values = 1 with tag = 1 and simple_value = 2. This much of the format has not changed since 2015,
and reading it takes no package; TensorBoard's own would bring six others. Only what is new is read, and a record that is
just being written waits for its end.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

_HEAD, _FOOT = 12, 4
# Longer records hold pictures or graphs, which nobody asks for here; a length beyond all reason means a damaged file.
_LONGEST = 64 * 1024 * 1024
LOSS, RATE = "loss/current", "lr/"


@dataclass(frozen=True)
class Scalar:
    """One figure: its tag ("loss/current", "lr/unet"), the step as the script counts it, the value."""

    tag: str
    step: int
    value: float


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def _parts(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: number and content. Raises IndexError or ValueError when it is none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            number, at = _varint(data, at)
            yield key >> 3, number
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"no such field type: {kind}")
        if at + size > len(data):
            raise ValueError("cut off")
        yield key >> 3, data[at : at + size]
        at += size


def scalars_of(record: bytes) -> list[Scalar]:
    """The figures of one record; [] when it has none or is no event."""
    try:
        step, found = 0, []
        for number, content in _parts(record):
            if number == 2 and isinstance(content, int):
                step = content
            elif number == 5 and isinstance(content, bytes):
                found += [_value(v) for n, v in _parts(content) if n == 1 and isinstance(v, bytes)]
    except (IndexError, ValueError, struct.error):
        return []
    return [Scalar(tag, step, value) for tag, value in filter(None, found)]


def _value(data: bytes) -> tuple[str, float] | None:
    parts = dict(_parts(data))
    tag, value = parts.get(1), parts.get(2)
    if not isinstance(tag, bytes) or not isinstance(value, bytes) or len(value) != 4:
        return None
    return tag.decode("utf-8", "replace"), struct.unpack("<f", value)[0]


@dataclass
class ScalarFile:
    """One event file, read on from where the last look ended."""

    path: Path
    offset: int = 0
    damaged: bool = False

    def read(self) -> list[Scalar]:
        """Figures that were added since the last look."""
        found: list[Scalar] = []
        if self.damaged:
            return found
        try:
            with self.path.open("rb") as f:
                f.seek(self.offset)
                data = f.read()
        except OSError:
            return found
        at = 0
        while len(data) - at >= _HEAD:
            (size,) = struct.unpack_from("<Q", data, at)
            if size > _LONGEST:
                self.damaged = True
                break
            end = at + _HEAD + size + _FOOT
            if end > len(data):
                break
            found += scalars_of(data[at + _HEAD : end - _FOOT])
            at = end
        self.offset += at
        return found


@dataclass
class Scalars:
    """All event files below a folder that are not older than this object."""

    folder: Path
    _files: dict[Path, ScalarFile] = field(default_factory=dict)
    _before: frozenset[Path] = frozenset()

    def __post_init__(self) -> None:
        self._before = frozenset(self._paths())

    def _paths(self) -> list[Path]:
        return (
            sorted(self.folder.glob("*/network_train/events.out.tfevents.*")) if self.folder.is_dir() else []
        )

    def read(self) -> list[Scalar]:
        """What was added since the last look, in the order of writing."""
        found = []
        for path in self._paths():
            if path not in self._before:
                found += self._files.setdefault(path, ScalarFile(path)).read()
        return found
