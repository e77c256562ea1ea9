"""The bounded log of a job: its head and its tail, never more than three files of `limit` bytes, and never a failure."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from studio.jobs.environment import Blotter

LIMIT = 4 * 1024 * 1024
_BAR_EVERY_S = 10.0
_LINE_LIMIT = 64 * 1024
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0)


class Log:
    """Takes the raw output of a program and keeps it as lines.

    A progress bar, which redraws one line over and over (\\r), is kept as its last state, and every ten seconds while
    it moves. When the disk is full, lines are dropped and counted; the log says how many once there is room again.
    limit: bytes of one file. The first stays as `log.head.txt`; of the later ones the newest two remain.
    """

    def __init__(self, folder: Path, blotter: Blotter | None = None, limit: int = LIMIT) -> None:
        self._path = folder / "log.txt"
        self._head = folder / "log.head.txt"
        self._old = folder / "log.old.txt"
        self._blotter = blotter or Blotter()
        self._limit = limit
        self._lock = threading.Lock()
        self._rest = b""
        self._bar = b""
        self._bar_at = time.monotonic()
        self._fd: int | None = None
        self._size = 0
        self._torn = False
        self._waiting = 0
        self._retry_at = 0.0
        self._last: deque[bytes] = deque(maxlen=200)
        self.trouble = ""
        self.missing = 0

    def feed(self, data: bytes) -> None:
        """Take what came out of the pipe. Never raises."""
        with self._lock:
            *lines, self._rest = (self._rest + data).split(b"\n")
            if b"\r" in data or self._bar:
                lines = [self._shown(line) for line in lines]
            before, carriage, after = self._rest.rpartition(b"\r")
            if carriage:
                self._bar = self._shown(before)
                self._rest = after
                if time.monotonic() - self._bar_at > _BAR_EVERY_S:
                    self._bar_at = time.monotonic()
                    lines.append(after if after.strip() else self._bar)
            if len(self._rest) > _LINE_LIMIT:
                lines.append(self._rest)
                self._rest = b""
            if lines:
                self._write(lines)

    def _shown(self, line: bytes) -> bytes:
        """What a terminal would show of a line in the end: the last state of the bar, if it was one."""
        states = [s for s in line.split(b"\r") if s.strip()]
        shown = states[-1] if states else self._bar
        self._bar = b""
        return shown

    def note(self, text: str) -> None:
        """Add a line of our own."""
        with self._lock:
            self._write([f"[studio] {text}".encode("utf-8", "replace")])

    def close(self) -> None:
        """Write what is left."""
        with self._lock:
            left = self._rest if self._rest.strip() else self._bar
            self._rest = self._bar = b""
            self._retry_at = 0.0
            if left or self._waiting:
                self._write([left] if left else [])
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    @property
    def last_lines(self) -> list[str]:
        """The last 200 lines, from memory, so that they are known even when the disk is full."""
        with self._lock:
            return [line[:2000].decode("utf-8", "replace") for line in self._last]

    def _write(self, lines: list[bytes]) -> None:
        data = self._blotter.clean(b"".join(line + b"\n" for line in lines))
        self._last.extend(data[:-1].split(b"\n")[-200:])
        if self._retry_at and time.monotonic() < self._retry_at:
            self._miss(len(lines))
            return
        if self._waiting:
            gap = f"[studio] {self._waiting} lines are missing here: {self.trouble}.\n"
            data = b"\n" * self._torn + gap.encode() + data
        try:
            self._append(data)
        except OSError as e:
            self.trouble = e.strerror or str(e)
            self._retry_at = time.monotonic() + 1.0
            self._miss(len(lines))
            return
        self._waiting = 0
        self._torn = False
        self._retry_at = 0.0

    def _miss(self, count: int) -> None:
        self._waiting += count
        self.missing += count

    def _append(self, data: bytes) -> None:
        if self._fd is None:
            self._fd = os.open(self._path, _APPEND, 0o644)
            self._size = os.fstat(self._fd).st_size
        while data:
            room = self._limit - self._size
            # Cut between lines, as long as there is a line that fits.
            end = len(data) if len(data) <= room else data.rfind(b"\n", 0, max(room, 0)) + 1
            if end == 0 and self._size > 0:
                self._turn()
                continue
            written = os.write(self._fd, data[: end or room])
            self._torn = data[written - 1 : written] != b"\n"
            self._size += written
            data = data[written:]

    def _turn(self) -> None:
        """Go on in a new file."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        flags = _APPEND
        try:
            os.replace(self._path, self._old if self._head.exists() else self._head)
        except PermissionError:
            # Windows, while somebody reads the old part: better lose that part than let this one grow.
            flags |= os.O_TRUNC
        self._fd = os.open(self._path, flags, 0o644)
        self._size = 0
        with suppress(OSError):
            self._size = os.fstat(self._fd).st_size
