"""The bounded log of a job: its head and its tail, never more than three files of `limit` bytes, and never a failure."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from contextlib import suppress
from pathlib import Path

from studio.jobs.environment import Blotter

if sys.platform == "linux":
    import fcntl

LIMIT = 4 * 1024 * 1024
# As much as the system lets an ordinary user have in a pipe: who prints much waits less, and both ends wake up less often.
PIPE_BYTES = 1 << 20
_BAR_EVERY_S = 10.0
_LINE_LIMIT = 64 * 1024
_LAST = 200
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
        self._last: deque[bytes] = deque(maxlen=_LAST)
        self.trouble = ""
        self.missing = 0

    def feed(self, data: bytes) -> None:
        """Take what came out of the pipe. Never raises."""
        with self._lock:
            if self._bar or b"\r" in data:
                block = self._of_bars(data)
            else:
                data = self._rest + data
                end = data.rfind(b"\n") + 1
                block, self._rest = data[:end], data[end:]
            if len(self._rest) > _LINE_LIMIT:
                block += self._rest + b"\n"
                self._rest = b""
            if block:
                self._write(block)

    def _of_bars(self, data: bytes) -> bytes:
        """The lines in a piece of output that holds bars."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        lines = [self._shown(line) for line in lines]
        before, carriage, after = self._rest.rpartition(b"\r")
        if carriage:
            self._bar = self._shown(before)
            self._rest = after
            if time.monotonic() - self._bar_at > _BAR_EVERY_S:
                self._bar_at = time.monotonic()
                lines.append(after if after.strip() else self._bar)
        return b"".join(line + b"\n" for line in lines)

    def _shown(self, line: bytes) -> bytes:
        """What a terminal would show of a line in the end: the last state of the bar, if it was one."""
        shown, self._bar = self._bar, b""
        while line:
            line, _, state = line.rpartition(b"\r")
            if state.strip():
                return state
        return shown

    def note(self, text: str) -> None:
        """Add a line of our own."""
        with self._lock:
            self._write(f"[studio] {text}\n".encode("utf-8", "replace"))

    def close(self) -> None:
        """Write what is left."""
        with self._lock:
            left = self._rest if self._rest.strip() else self._bar
            self._rest = self._bar = b""
            self._retry_at = 0.0
            if left or self._waiting:
                self._write(left + b"\n" if left else b"")
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None

    @property
    def last_lines(self) -> list[str]:
        """The last 200 lines, from memory, so that they are known even when the disk is full."""
        with self._lock:
            return [line[:2000].decode("utf-8", "replace") for line in self._last]

    def _write(self, block: bytes) -> None:
        """Keep whole lines."""
        data = self._blotter.clean(block)
        self._last.extend(data[:-1].rsplit(b"\n", _LAST)[-_LAST:])
        if self._retry_at and time.monotonic() < self._retry_at:
            self._miss(data.count(b"\n"))
            return
        gap = b""
        if self._waiting:
            told = f"[studio] {self._waiting} lines are missing here: {self.trouble}.\n"
            gap = b"\n" * self._torn + told.encode()
        try:
            self._append(gap + data)
        except OSError as e:
            self.trouble = e.strerror or str(e)
            self._retry_at = time.monotonic() + 1.0
            self._miss(data.count(b"\n"))
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
        target = self._old if self._head.exists() else self._head
        with suppress(OSError):
            # Renaming over a file makes some file systems write the new one out first, and this one is soon gone itself.
            target.unlink()
        try:
            os.replace(self._path, target)
        except PermissionError:
            # Windows, while somebody reads the old part: better lose that part than let this one grow.
            flags |= os.O_TRUNC
        self._fd = os.open(self._path, flags, 0o644)
        self._size = 0
        with suppress(OSError):
            self._size = os.fstat(self._fd).st_size


def widen(pipe: int) -> None:
    """Let a pipe hold PIPE_BYTES, where the system can (Linux; 64 KB otherwise). Never raises."""
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
