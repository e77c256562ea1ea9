"""The most memory that sd-scripts held: that of the trainer, not of the launcher that starts it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio.training.workers import kohya_follow
from tests.training.sdscripts.sdscripts_small import make_plan, stand_in

HELD = 80_000_000
# A launcher that starts its trainer when told to.
LAUNCHER = f"""
import subprocess, sys
print("up", flush=True)
sys.stdin.readline()
subprocess.run([sys.executable, "-c", "held = bytearray(b'x' * {HELD}); print('holds', flush=True); input()"])
"""


class Quiet:
    """A worker that nobody listens to."""

    def emit(self, *args: Any, **kwargs: Any) -> None:
        pass

    progress = emit


def test_the_trainer_counts_from_the_moment_that_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kohya_follow.shutil, "which", lambda _: None)
    follower = kohya_follow.Follower(make_plan(tmp_path / "run", stand_in(tmp_path / "sd")), Quiet(), 0)  # type: ignore[arg-type]
    launcher = subprocess.Popen(
        [sys.executable, "-c", LAUNCHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert launcher.stdin and launcher.stdout
    with launcher:
        try:
            assert launcher.stdout.readline() == "up\n"
            seen = psutil.Process(launcher.pid)
            follower.measure(seen)
            alone = follower.peak
            launcher.stdin.write("start\n")
            launcher.stdin.flush()
            assert launcher.stdout.readline() == "holds\n"
            follower.measure(seen)
            assert follower.peak > alone + HELD * 0.9
        finally:
            for p in psutil.Process(launcher.pid).children(recursive=True):
                p.kill()
            launcher.kill()
