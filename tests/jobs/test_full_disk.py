"""A full disk costs log lines and events, never the work."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from studio.jobs import disk
from studio.jobs.job import Job

FAKE = Path(__file__).with_name("fake_worker.py")
ROOT = Path(__file__).parents[2]


def launched_by(folder: Path, before: str = "") -> str:
    """Source of a process that launches the flood and waits for it."""
    return textwrap.dedent(f"""
        import os, sys
        from pathlib import Path
        {before}
        from studio.jobs.job import JobSpec
        from studio.jobs.launch import launch
        folder = Path({str(folder)!r})
        job = launch(folder, JobSpec("x", "X", [sys.executable, {str(FAKE)!r}, "flood", str(folder)]))
        print(job.wait(60))
    """)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=env, check=False)


@pytest.mark.skipif(os.name == "nt", reason="needs a limit on file sizes")
def test_a_log_that_may_not_grow_leaves_the_work_alone(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))"
    done = run([sys.executable, "-c", launched_by(folder, limit)])
    assert done.stdout.strip() == "finished", done.stderr
    job = Job(folder)
    assert job.result == {"printed": 40_000}
    assert job.exit is not None
    # Every line was either kept or counted.
    assert job.exit["log_lines_missing"] > 30_000
    assert (folder / "log.txt").stat().st_size <= 70_000
    assert any(e["type"] == "log-trouble" for e in job.events()[0])


@pytest.mark.skipif(not shutil.which("unshare"), reason="needs a small disk of its own")
def test_a_disk_that_runs_full_is_told_and_recorded(tmp_path: Path) -> None:
    """A real disk of 400 KB, seen only by this test's processes."""
    small, out = tmp_path / "small", tmp_path / "out"
    small.mkdir()
    out.mkdir()
    folder = small / "a"
    script = tmp_path / "script.py"
    script.write_text(launched_by(folder))
    mount = f"mount -t tmpfs -o size=400k tmpfs {small} || exit 77"
    done = run(
        [
            "unshare", "--mount", "--map-root-user", "sh", "-c",
            f"{mount}; {sys.executable} {script}; code=$?; cp -r {folder} {out}; exit $code",
        ]
    )  # fmt: skip
    if done.returncode == 77 or "unshare" in done.stderr:
        pytest.skip("no small disk can be made here")
    assert done.stdout.strip() == "finished", done.stderr
    record = disk.read_json(out / "a" / "exit.json")
    assert record is not None
    assert (record["state"], record["result"]) == ("finished", {"printed": 40_000})
    assert record["log_lines_missing"] > 30_000
    events, _ = Job(out / "a").events()
    assert any(e["type"] == "log-trouble" and "No space left" in e["message"] for e in events)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_lines_wait_in_memory_until_there_is_room(tmp_path: Path) -> None:
    target = tmp_path / "events.jsonl"
    target.symlink_to("/dev/full")
    lines = disk.Lines(target, keep=3)
    for n in range(5):
        assert not lines.add({"n": n})
    assert "No space left" in lines.trouble
    target.unlink()
    assert lines.add({"n": 5})
    assert lines.lost == 2
    assert target.read_text().splitlines() == [
        '{"n": 2}',
        '{"n": 3}',
        '{"n": 4}',
        '{"n": 5}',
    ]
