"""Room on disk that a job keeps for its last words, given up step by step when the disk is full.

Whoever runs into a full disk shortens the file to their level, writes their few bytes, and leaves the rest to those
whose word matters more.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

SIZE = 64 * 1024
# Bytes that stay reserved after each has taken its share, in the order in which they come.
TROUBLE = 48 * 1024  # the supervisor: "the log cannot be written"
STOP = 40 * 1024  # the user: "stop"
LAST_WORD = 24 * 1024  # the worker: its result or its error
RECORD = 0  # the supervisor: how it ended


def _path(folder: Path) -> Path:
    return folder / "reserve"


def keep(folder: Path) -> None:
    """Take the room. Random bytes, since some disks would store zeros as nothing. Never raises."""
    with suppress(OSError):
        _path(folder).write_bytes(os.urandom(SIZE))


def give_up(folder: Path, left: int) -> None:
    """Free all but `left` bytes. Never raises."""
    path = _path(folder)
    with suppress(OSError):
        if left == 0:
            path.unlink()
        elif path.stat().st_size > left:
            os.truncate(path, left)
