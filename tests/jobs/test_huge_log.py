"""A gigabyte of output: through the real pipe, kept in a few megabytes, readable meanwhile, and explained afterwards."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from studio.jobs.job import JobSpec
from studio.jobs.launch import launch
from studio.jobs.log import LIMIT
from studio.training.sdscripts.explain import LOG_PARTS, explain_job

from .conftest import ids, until

# A training that complains at every step: its beginning and its end tell what happened, and a gigabyte lies between.
TALKER = r"""
import os
def say(data):
    view = memoryview(data)
    while view:
        view = view[os.write(1, view):]
say(b"  num epochs / epoch: 10\n  num batches per epoch / x: 1000\n  total optimization steps / x: 10000\n")
step = b"\rsteps: 10%%|#| %d/10000 [00:01<00:01, 9.00it/s]\rsteps: 10%%|#| %d/10000 [00:01<00:01, 9.00it/s, avr_loss=0.5]\n"
say(step % (1, 1))
lines = b"".join(b"train_util.py:%d: note: picture %d was cropped; max_reso=%d sk-1 hf\n" % (n, n * 7, n) for n in range(16000))
block = lines[:1 << 20].rpartition(b"\n")[0] + b"\n"
for _ in range(10**9 // len(block) + 1):
    say(block)
say(step % (7000, 7000))
say(b"Traceback (most recent call last):\n  File \"x.py\", line 1, in <module>\n    f()\n")
say(b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\n")
os._exit(1)
"""


def most_memory(pid: int) -> int:
    """The most memory that a process has had so far, in bytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the system does not say")


def kept(folder: Path) -> int:
    """Bytes of all parts of a log; each may be replaced by the next at any moment."""
    size = 0
    for part in LOG_PARTS:
        with suppress(OSError):
            size += (folder / part).stat().st_size
    return size


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks the system for the most memory used")
def test_a_log_of_a_gigabyte(tmp_path: Path) -> None:
    """Measured: 1.9 s of one core and 35 MB for the supervisor; the pipe alone costs 0.5 s."""
    job = launch(tmp_path / "a", JobSpec("training", "X", [sys.executable, "-c", TALKER]))
    until(lambda: (job.folder / "process.json").exists())
    supervisor = psutil.Process(ids(job)["supervisor"])
    memory, largest, spent = 0, 0, 0.0

    def look() -> bool:
        """What a live page reads meanwhile, and what it costs the computer."""
        nonlocal memory, largest, spent
        assert len(job.log_tail(8000)) <= 8000
        largest = max(largest, kept(job.folder))
        with suppress(AssertionError, OSError, psutil.Error):  # when it has just ended
            memory, spent = most_memory(supervisor.pid), sum(supervisor.cpu_times()[:2])
        return not job.is_alive

    until(look, 300)
    assert job.state == "failed"
    assert job.error is not None and job.error["what"] == "The graphics card ran out of memory."
    assert max(largest, kept(job.folder)) <= 3 * LIMIT
    assert 0 < memory < 100_000_000, "it must not grow with the log"
    assert spent < 60, "seconds of a core"
    assert job.exit is not None and job.exit["log_lines_missing"] == 0
    # The beginning and the end are there, and that is what the explanation is made of.
    assert (job.folder / "log.head.txt").read_text().startswith("  num epochs / epoch: 10\n")
    assert job.log_tail(500).endswith("Tried to allocate 2.00 GiB.\n")
    told = explain_job(job.folder)
    assert (told.outcome, told.step, told.total_steps, told.epochs) == ("failed", 7000, 10000, 0)
    assert "ran out of memory" in told.findings[0].what
