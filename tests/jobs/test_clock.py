"""The computer's clock is set while jobs run: by days, back by hours, by the hour of summer time. Nothing may go by it.

libfaketime gives the processes of a test, and what they start, a clock that a file sets while they run; other clocks, which
nobody can set on a computer either, stay as they are.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio import files
from studio.errors import BusyError
from studio.jobs import environment
from studio.jobs.job import JobSpec, list_jobs
from studio.jobs.launch import launch, relaunch
from studio.project import Project
from studio.replicate import api
from studio.replicate.api import Api
from studio.training import record
from studio.training.kohya import KohyaBackend
from studio.training.progress import Metrics
from studio.training.runs import MANIFEST, Run, list_runs, new_run_folder
from studio.workspace import Workspace
from tests.pages import worlds
from tests.training.sdscripts.sdscripts_small import make_plan, stand_in

from .conftest import ids, processes_of, until

# Seconds that the clock is wrong by, one after the other: two days ahead, three hours behind, right again, and the hour of
# summer time, with which the run ends.
JUMPS = (2 * 86_400, -3 * 3600, 0, 3600)
# No training here lasts as long, and no jump is as short.
LONGEST = 600.0

# Another process that shows the run, as a page or the command line does, with the same wrong clock.
READER = """
import json, sys
from pathlib import Path
from studio.jobs.job import active_jobs
from studio.training.following import Reading
from studio.training.outcome import seconds_of
from studio.training.runs import Run
run, reading = Run(Path(sys.argv[1])), Reading()
for _ in sys.stdin:
    told, p = reading.more(run), run.job.progress
    print(json.dumps({"clock": __import__("time").time(), "state": run.job.state, "elapsed": p.elapsed_seconds,
                      "left": [p.eta_seconds, told.eta_seconds], "pace": told.seconds_per_step, "steps": told.steps,
                      "found": [f.code for f in told.findings], "took": seconds_of(run)}), flush=True)
"""


def library() -> str:
    """Where libfaketime lies; "" when it is not installed."""
    found = importlib.util.find_spec("libfaketime")
    inside = (
        Path(found.origin).parent / "vendor/libfaketime/src/libfaketime.so.1"
        if found and found.origin
        else None
    )
    return str(inside) if inside and inside.is_file() else ""


class Clock:
    """The clock of the processes started from now on. set: seconds that it is wrong by."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(0)
        self.env = {
            "LD_PRELOAD": library(), "FAKETIME_TIMESTAMP_FILE": str(file), "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "NO_FAKE_STAT": "1",
        }  # fmt: skip

    def set(self, seconds: int) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.replace(self.file)

    def shown(self) -> float:
        """What a new process takes for the present time."""
        line = [sys.executable, "-S", "-c", "import time; print(time.time())"]
        done = subprocess.run(
            line, env={**os.environ, **self.env}, capture_output=True, text=True, check=False
        )
        return float(done.stdout or "nan")


@pytest.fixture
def clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clock:
    if sys.platform != "linux" or not library():
        pytest.skip("libfaketime is not here")
    made = Clock(tmp_path / "clock")
    made.set(-86_400)
    if not 86_000 < time.time() - made.shown() < 87_000:
        pytest.skip("libfaketime does not work here")
    made.set(0)
    for name, value in made.env.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(environment, "_NAMES", environment._NAMES | set(made.env))
    return made


@contextmanager
def reader(folder: Path) -> Iterator[Callable[[], dict[str, Any]]]:
    """A process that tells at each call what it sees of a run."""
    line = [sys.executable, "-c", READER, str(folder)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None

        def ask() -> dict[str, Any]:
            process.stdin.write("\n")  # type: ignore[union-attr]
            process.stdin.flush()  # type: ignore[union-attr]
            return dict(json.loads(process.stdout.readline()))  # type: ignore[union-attr]

        yield ask
        process.stdin.close()


def test_a_run_whose_clock_is_set_again_and_again(tmp_path: Path, clock: Clock) -> None:
    """The supervisor, the trainer, its script and whoever looks all see the clock jump, and say what they would have said."""
    plan = make_plan(tmp_path / "run", stand_in(tmp_path / "sd", "slow"), epochs=7)
    job = launch(plan.run_folder, JobSpec("training", "Test", KohyaBackend().command(plan)))
    run = Run(plan.run_folder)
    drawn = plan.run_folder / "checkpoints" / "sample"
    with reader(plan.run_folder) as ask:
        until(lambda: ask()["steps"], 120)
        for number, wrong in enumerate(JUMPS):
            clock.set(wrong)
            before = ask()
            assert abs(before["clock"] - time.time() - wrong) < LONGEST, "its clock was set"
            drawn.mkdir(exist_ok=True)
            Image.new("RGB", (8, 8)).save(drawn / f"small_{number + 1:06d}_00_20261122101112.png")
            further = before["steps"][-1] + 3
            until(lambda n=further: ask()["steps"][-1] >= n)
            # What was drawn is shown at once, even when it seems to be from the future.
            until(lambda n=number: len(run.samples()) == n + 1)
            now = ask()
            assert now["state"] == "running"
            assert before["elapsed"] <= now["elapsed"] < LONGEST
            forecast, by_pace = now["left"]
            assert 0 <= by_pace < LONGEST
            assert forecast is None or 0 <= forecast < LONGEST
            assert 0 < now["pace"] < 60
            assert now["found"] == [], "no false alarm"
            # Its locks hold: neither is it taken for dead, nor can another take its place.
            with pytest.raises(BusyError):
                relaunch(job)
        assert all(ids(job).values())
        job.stop()
        assert job.wait(60) == "stopped"
        (tmp_path / "sd" / "how").write_text("")
        clock.set(-3 * 3600)
        relaunch(job, KohyaBackend().command(plan))
        clock.set(2 * 86_400)
        assert job.wait(120) == "finished", job.log_tail()
        seen = ask()
    assert (seen["state"], seen["found"], seen["steps"]) == ("finished", [], list(range(1, 36)))
    assert 0 < seen["took"] < LONGEST
    events = job.events()[0]
    assert max(e["t"] for e in events) - min(e["t"] for e in events) > 86_400, (
        "the times that were written down jumped"
    )
    assert all(0 <= e["elapsed"] < LONGEST for e in events if "elapsed" in e)
    assert Metrics().add(events).steps == list(range(1, 36)), "and events count in the order of their writing"
    assert [a["state"] for a in job.attempts] == ["stopped"]
    assert all(0 < a["seconds"] < LONGEST for a in [*job.attempts, job.exit or {}])
    until(lambda: not processes_of(plan.run_folder))


def test_the_newest_job_is_the_one_started_last(tmp_path: Path, clock: Clock) -> None:
    """Also when the clock was set back between two of them: the dry run that a gate judges by, the last import."""
    code = """
import sys
from pathlib import Path
from studio.jobs.job import JobSpec
from studio.jobs.launch import launch
launch(Path(sys.argv[1]), JobSpec("x", "X", [sys.executable, "-S", "-c", ""])).wait(60)
"""
    for name, wrong in (("b", 2 * 86_400), ("a", 0), ("c", -3 * 3600)):
        clock.set(wrong)
        subprocess.run([sys.executable, "-c", code, str(tmp_path / "jobs" / name)], check=True)
    found = list_jobs(tmp_path / "jobs")
    assert [j.id for j in found] == ["c", "a", "b"]
    assert sorted((j.created for j in found), reverse=True) != [j.created for j in found], (
        "their times say otherwise"
    )


def test_the_newest_run_is_the_one_made_last(workspace: Workspace) -> None:
    """A run that was started while the clock was two days ahead does not stay the newest until then."""
    project = Project(workspace, "p")
    ahead = f"run-{datetime.now(UTC) + timedelta(days=2):%Y%m%d-%H%M%S}-ffff"
    made = [project.runs_dir / ahead]
    for _ in range(3):
        files.write_json(made[-1] / MANIFEST, {})
        made.append(new_run_folder(project))
    files.write_json(made[-1] / MANIFEST, {})
    files.write_json(project.runs_dir / "run-by-my-own-hand" / MANIFEST, {})
    files.write_json(project.runs_dir / "run-20269999-999999-ffff" / MANIFEST, {})
    found = [r.folder for r in list_runs(project) if r.folder in made]
    assert found == made[::-1]
    assert new_run_folder(project).name > made[-1].name


def test_the_record_of_a_run_is_brought_up_to_date_whatever_the_time_of_its_files(
    workspace: Workspace, tmp_path: Path
) -> None:
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    run = worlds.run(made)
    page = made.records_dir / record.PROGRESS
    record.write(run, state="running")
    assert "RUNNING" in page.read_text()
    ahead = time.time() + 2 * 86_400
    os.utime(page, (ahead, ahead))
    record.catch_up(run)
    assert "COMPLETE" in page.read_text()
    os.utime(page, (ahead, ahead))
    record.catch_up(run)
    assert page.stat().st_mtime == pytest.approx(ahead), "nothing is written when nothing is new"


def test_what_a_rented_run_has_cost_so_far_does_not_go_by_this_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    class Jumping(datetime):
        """The clock of this computer, two days ahead from now on."""

        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime.now(UTC) + timedelta(days=2)

    server = Api("r8_" + "x" * 30)
    server._heard = (datetime(2026, 11, 22, 12, tzinfo=UTC), time.monotonic())
    monkeypatch.setattr(api, "datetime", Jumping)
    assert abs(server.now() - datetime(2026, 11, 22, 12, tzinfo=UTC)) < timedelta(minutes=10)
