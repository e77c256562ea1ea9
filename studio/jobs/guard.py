"""Looks after the worker when the supervisor is killed: a small forked process of its own session.

A worker that listens to its lifeline saves and ends by itself. This one is for the others: foreign programs, and
workers that hang. Not available on Windows, where a worker ends itself (see `studio.jobs.lifeline`).
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil

from studio.jobs import locks


def term_grace(grace_s: float) -> float:
    """Seconds between asking a process group to end and ending it: a tenth of a minute or so, less for a short grace."""
    return min(10.0, max(0.5, grace_s))


class Guard:
    """The supervisor's handle on its guard. Make it before any lock is taken and any thread is started."""

    def __init__(self, folder: Path, grace_s: float) -> None:
        self._fd: int | None = None
        self.pid = 0
        if sys.platform == "win32":
            return
        reader, writer = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(writer)
                os.setsid()
                code = _keep_watch(reader, folder, grace_s)
            finally:
                os._exit(code)
        os.close(reader)
        self._fd, self.pid = writer, pid

    def watch(self, group: int) -> None:
        """Tell it which process group to look after."""
        self._say(f"{group}\n")

    def dismiss(self) -> None:
        """All is over; the guard goes."""
        if self._fd is None:
            return
        self._say("bye\n")
        os.close(self._fd)
        self._fd = None
        with suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _say(self, text: str) -> None:
        if self._fd is not None:
            with suppress(OSError):
                os.write(self._fd, text.encode())


def _keep_watch(reader: int, folder: Path, grace_s: float) -> int:
    """The guard's whole life: wait for the end of the pipe, then see that the group ends."""
    if sys.platform == "win32":
        return 0
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    said = b""
    while True:
        piece = os.read(reader, 4096)
        if not piece:
            break
        said += piece
    words = said.split()
    if b"bye" in words or not words:
        return 0
    end_group(int(words[-1]), folder, grace_s)
    return 0


def group_lives(group: int) -> bool:
    """Whether the process group has a member that is not merely waiting to be buried."""
    if sys.platform == "win32":
        return False
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    for process in psutil.process_iter():
        with suppress(psutil.Error, OSError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                return True
    return False


def end_group(group: int, folder: Path, grace_s: float) -> None:
    """Wait while a worker saves, at most `grace_s`; then ask the group to end, then end it."""
    if sys.platform == "win32":
        return
    _wait(lambda: group_lives(group) and locks.held(folder / "worker.lock"), grace_s)
    for number, patience in ((signal.SIGTERM, term_grace(grace_s)), (signal.SIGKILL, 1.0)):
        if not group_lives(group):
            return
        with suppress(OSError):
            os.killpg(group, number)
        _wait(lambda: group_lives(group), patience)


def _wait(still: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while still() and time.monotonic() < end:
        time.sleep(0.1)
