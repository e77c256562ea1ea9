"""The processes below a supervisor: whether any lives, and ending all of them, also those that left their group."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil

_PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h


def adopt_orphans() -> bool:
    """Let processes below this one come to it when their parent dies, so that none gets out of sight (Linux)."""
    if sys.platform != "linux":
        return False
    with suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)
    return False


def oom_kills() -> int | None:
    """How many processes the system has ended for lack of memory since it started; None when it does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None


class Tree:
    """A child and everything below it."""

    def __init__(self, child: subprocess.Popen[bytes], not_mine: int) -> None:
        self._child = child
        self._not_mine = not_mine
        self._seen: dict[int, psutil.Process] = {}

    def _members(self) -> list[psutil.Process]:
        """Living members. Those seen before are kept, so that a Windows process whose parent has gone is not lost."""
        with suppress(psutil.Error):
            for process in psutil.Process().children(recursive=True):
                if process.pid != self._not_mine:
                    self._seen[process.pid] = process
        alive = {}
        for pid, process in self._seen.items():
            with suppress(psutil.Error):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    alive[pid] = process
        self._seen = alive
        return list(alive.values())

    def lives(self) -> bool:
        """Whether anything of it lives; the dead are waited for on the way."""
        self._bury()
        return bool(self._members())

    def terminate(self) -> None:
        """Ask all of it to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End all of it at once."""
        self._signal(signal.SIGTERM if os.name == "nt" else signal.SIGKILL)

    def _signal(self, number: int) -> None:
        members = self._members()
        if os.name != "nt" and self._child.returncode is None:
            with suppress(OSError):
                os.killpg(self._child.pid, number)
        for process in members:
            with suppress(psutil.Error, OSError):
                if (
                    os.name == "nt"
                    or os.getpgid(process.pid) != self._child.pid
                    or self._child.returncode is not None
                ):
                    process.send_signal(number)

    def end(self, patience_s: float = 3.0) -> None:
        """Ask, wait a little, then end whatever is left. The child itself has ended already."""
        if not self.lives():
            return
        self.terminate()
        end = time.monotonic() + patience_s
        while self.lives() and time.monotonic() < end:
            time.sleep(0.05)
        for _ in range(20):
            if not self.lives():
                return
            self.kill()
            time.sleep(0.05)

    def _bury(self) -> None:
        """Wait for adopted processes that have ended; only after the child itself was waited for."""
        if os.name == "nt" or self._child.returncode is None:
            return
        for pid in list(self._seen):
            with suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
