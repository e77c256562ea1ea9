"""Small file helpers for code that runs inside of jobs: standard library only, and never the cause of a failure.

A worker that trains for hours must not die because a progress file could not be written. What decides over the
user's data goes through `studio.files`; what merely tells how far a job is goes through here.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any


def plain(value: Any) -> Any:
    """`value` as data that every JSON reader takes: numbers of other libraries become Python's, NaN and infinity null."""
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(v) for v in value]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return plain(dump(mode="json"))
    item = getattr(value, "item", None)
    if callable(item):
        with suppress(TypeError, ValueError, RuntimeError):
            return plain(item())
    return str(value)


def one_line(record: dict[str, Any]) -> bytes:
    """The record as one line of JSON, ending in a newline."""
    return (json.dumps(plain(record), ensure_ascii=False, allow_nan=False) + "\n").encode("utf-8", "replace")


def read_json(path: Path) -> dict[str, Any] | None:
    """The JSON object in a file; None when there is no such file, or it holds something else."""
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_json(path: Path, content: dict[str, Any], *, durable: bool = True) -> None:
    """Replace a JSON file atomically. `durable` also waits until the disk has it. Raises OSError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as f:
            f.write(
                json.dumps(plain(content), ensure_ascii=False, indent=2, allow_nan=False).encode() + b"\n"
            )
            f.flush()
            if durable:
                os.fsync(f.fileno())
        _replace(temporary, path)
    except OSError:
        with suppress(OSError):
            temporary.unlink()
        raise


def _replace(source: Path, target: Path) -> None:
    """Rename over `target`; on Windows a reader may hold it for a moment, so try again."""
    for left in range(20, -1, -1):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if os.name != "nt" or not left:
                raise
            time.sleep(0.02)


class Lines:
    """Appends whole lines to a file that others append to as well. Never raises.

    Lines that cannot be written (disk full) wait in memory, the newest `keep` of them, and go out with a later line.
    A line that was cut in the middle is closed first, so that readers skip only that one. `clean` sees each line
    before it is kept (it blots out secrets).
    """

    def __init__(self, path: Path, keep: int = 2000, clean: Callable[[bytes], bytes] | None = None) -> None:
        self._path = path
        self._clean = clean or bytes
        self._keep = keep
        self._waiting: list[bytes] = []
        self._torn = False
        self.lost = 0
        self.trouble = ""

    def add(self, record: dict[str, Any]) -> bool:
        """Append a record; True when everything so far lies on disk."""
        self._waiting.append(self._clean(one_line(record)))
        return self.flush()

    def flush(self) -> bool:
        """Try to write what waits; True when nothing waits any more."""
        if not self._waiting:
            return True
        try:
            fd = os.open(
                self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
            )
            try:
                while self._waiting:
                    # One write per line: O_APPEND makes it land whole, between the lines of other writers.
                    data = b"\n" * self._torn + self._waiting[0]
                    written = os.write(fd, data)
                    if written < len(data):
                        self._torn = True
                        raise OSError(28, "No space left on device")
                    self._torn = False
                    self._waiting.pop(0)
            finally:
                os.close(fd)
        except OSError as e:
            self.trouble = e.strerror or str(e)
            excess = len(self._waiting) - self._keep
            if excess > 0:
                del self._waiting[:excess]
                self.lost += excess
            return False
        self.trouble = ""
        return True
