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
    adopted = False
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            adopted = ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    return adopted


def wait_for_children() -> None:
    """Let this process learn how its children ended, and those it starts learn the same of theirs.

    A parent that ignores SIGCHLD hands that down through exec, and some service managers and test runners do. The
    kernel then throws exit codes away, and `subprocess` answers 0 for a child that failed. Only the main thread may
    change it; elsewhere this does nothing.
    """
    if sys.platform != "win32":
        with suppress(ValueError):
            if signal.getsignal(signal.SIGCHLD) == signal.SIG_IGN:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)


def oom_kills() -> int | None:
    """How many processes the system has ended for lack of memory since it started; None when it does not say."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill":
                return int(count)
    return None


def _group(pid: int) -> int:
    """The process group of a process; 0 when it has just gone."""
    if sys.platform != "win32":
        with suppress(OSError):
            return os.getpgid(pid)
    return 0


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
        if sys.platform == "win32":
            self.terminate()  # which is the same there
        else:
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        """Once to the child's group, once to each member outside of it: twice would mean something else."""
        members = self._members()
        whole_group = sys.platform != "win32" and self._child.returncode is None
        outside = [m for m in members if not (whole_group and _group(m.pid) == self._child.pid)]
        if sys.platform != "win32" and whole_group:
            with suppress(OSError):
                os.killpg(self._child.pid, number)
        for process in outside:
            with suppress(psutil.Error, OSError):
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
        if sys.platform == "win32" or self._child.returncode is None:
            return
        for pid in list(self._seen):
            with suppress(OSError):
                os.waitpid(pid, os.WNOHANG)
