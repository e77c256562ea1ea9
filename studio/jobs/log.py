"""The bounded log of a job: its head and its tail, never more than three files of `limit` bytes, and never a failure."""

from __future__ import annotations

import os
import time
from collections import deque
from pathlib import Path

from studio.jobs.environment import Blotter

LIMIT = 4 * 1024 * 1024
_BAR_EVERY_S = 10.0
_LINE_LIMIT = 64 * 1024


class Log:
    """Takes the raw output of a program and keeps it as lines.

    A progress bar, which redraws one line over and over (\\r), is kept as its last state, and every ten seconds while
    it moves. When the disk is full, lines are dropped and counted; the log says how many once there is room again.
    """

    def __init__(self, folder: Path, blotter: Blotter | None = None, limit: int = LIMIT) -> None:
        self._path = folder / "log.txt"
        self._head = folder / "log.head.txt"
        self._old = folder / "log.old.txt"
        self._blotter = blotter or Blotter()
        self._limit = limit
        self._rest = b""
        self._bar = b""
        self._bar_at = time.monotonic()
        self._fd: int | None = None
        self._size = 0
        self._missing = 0
        self._retry_at = 0.0
        self.lost = 0
        self.trouble = ""
        self._last: deque[str] = deque(maxlen=200)

    def feed(self, data: bytes) -> None:
        """Take what came out of the pipe. Never raises."""
        self._rest += data
        out = []
        *lines, self._rest = self._rest.replace(b"\r\n", b"\n").split(b"\n")
        for line in lines:
            # What a terminal would show: the last state of the bar, if the line was one.
            states = [s for s in line.split(b"\r") if s.strip()]
            out.append(states[-1] if states else (self._bar if b"\r" in line else b""))
            self._bar = b""
        if b"\r" in self._rest[:-1]:
            *states, self._rest = (
                self._rest[:-1].split(b"\r") if self._rest.endswith(b"\r") else self._rest.split(b"\r")
            )
            self._bar = next((s for s in reversed(states) if s.strip()), self._bar)
            if self._bar and time.monotonic() - self._bar_at > _BAR_EVERY_S:
                self._bar_at = time.monotonic()
                out.append(self._bar)
        if len(self._rest) > _LINE_LIMIT:
            out.append(self._rest)
            self._rest = b""
        if out:
            self._write(out)

    def note(self, text: str) -> None:
        """Add a line of our own."""
        self._write([f"[studio] {text}".encode()])

    def close(self) -> None:
        """Write what is left."""
        left = [s for s in (self._rest.rstrip(b"\r").split(b"\r")[-1],) if s.strip()] or [
            s for s in (self._bar,) if s
        ]
        self._rest = self._bar = b""
        if left:
            self._write(left)
        self._retry_at = 0.0
        if self._missing:
            self._write([])
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    @property
    def last_lines(self) -> list[str]:
        """The last 200 lines, from memory, so that they are known even when the disk is full."""
        return list(self._last)

    def _write(self, lines: list[bytes]) -> None:
        lines = [self._blotter.clean(ln) for ln in lines]
        self._last.extend(ln[:2000].decode("utf-8", "replace") for ln in lines)
        if self._retry_at and time.monotonic() < self._retry_at:
            self._miss(lines)
            return
        data = b"".join(ln + b"\n" for ln in lines)
        if self._missing:
            data = f"[studio] {self._missing} lines are missing here: {self.trouble}.\n".encode() + data
        try:
            self._append(data)
        except OSError as e:
            self.trouble = e.strerror or str(e)
            self._retry_at = time.monotonic() + 1.0
            self._miss(lines)
            return
        self.lost += self._missing
        self._missing = 0
        self._retry_at = 0.0

    def _miss(self, lines: list[bytes]) -> None:
        self._missing += len(lines)

    @property
    def missing(self) -> int:
        """Lines that could not be written so far."""
        return self.lost + self._missing

    def _append(self, data: bytes) -> None:
        if self._fd is None:
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)
            self._fd = os.open(self._path, flags, 0o644)
            self._size = os.fstat(self._fd).st_size
        while data:
            if self._size >= self._limit:
                self._turn()
            room = self._limit - self._size
            piece = data if len(data) <= room else data[: data.rfind(b"\n", 0, room) + 1] or data[:room]
            written = os.write(self._fd, piece)
            self._size += written
            data = data[written:]

    def _turn(self) -> None:
        """The first file becomes the head and stays; of the later ones the newest two remain."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        os.replace(self._path, self._old if self._head.exists() else self._head)
        self._fd = os.open(
            self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644
        )
        self._size = 0
