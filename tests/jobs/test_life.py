"""Jobs live, end, and tell the truth about it, whoever is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from studio.errors import BusyError, EnvironmentalError
from studio.jobs import disk
from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch, relaunch

from .conftest import all_killed, ids, kill, processes_of, said, until, zombies

Start = Callable[..., Job]


def none_left(job: Job, seconds: float = 30.0) -> None:
    until(lambda: not processes_of(job.folder), seconds)


def test_a_job_runs_and_ends(start: Start) -> None:
    job = start("short", ready=False)
    assert job.is_alive
    assert job.wait(60) == "finished"
    ended = job.exit
    assert ended is not None
    assert (ended["code"], ended["result"], ended["error"]) == (0, {"steps": 10}, None)
    assert job.progress.fraction == 1.0
    assert [e["step"] for e in job.events()[0] if e["type"] == "step"] == list(range(1, 11))
    assert not job.stop()
    none_left(job)
    assert not (job.folder / "supervisor.log").exists()


def test_a_program_that_is_no_worker_is_a_job_too(tmp_path: Path) -> None:
    job = launch(tmp_path / "a", JobSpec("x", "X", [sys.executable, "-c", "print('hello')"]))
    assert job.wait(60) == "finished"
    assert job.log_tail() == "hello\n"


def test_a_program_that_does_not_exist(tmp_path: Path) -> None:
    job = launch(tmp_path / "a", JobSpec("x", "X", ["/no/such/program"]))
    assert job.wait(60) == "failed"
    assert job.error is not None
    assert "/no/such/program" in job.error["what"]


def test_a_job_outlives_the_process_that_launched_it(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    fake = Path(__file__).with_name("fake_worker.py")
    code = f"""
        import sys, time
        from pathlib import Path
        from studio.jobs.job import JobSpec
        from studio.jobs.launch import launch
        folder = Path({str(folder)!r})
        launch(folder, JobSpec("x", "X", [sys.executable, {str(fake)!r}, "steps", str(folder)]))
        print("up", flush=True)
        time.sleep(60)
    """
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, start_new_session=True
    )
    with server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"up\n"
        os.killpg(server.pid, signal.SIGKILL)
    job = Job(folder)
    until(lambda: said(job, "step"))
    before = job.progress.done
    until(lambda: job.progress.done > before)
    assert job.state == "running"
    job.stop()
    assert job.wait(60) == "stopped"
    none_left(job)


def test_a_second_launch_is_refused(start: Start) -> None:
    job = start("steps")
    with pytest.raises(BusyError):
        launch(job.folder, job.spec)
    with pytest.raises(BusyError):
        relaunch(job)
    job.stop()
    assert job.wait(60) == "stopped"
    with pytest.raises(BusyError):
        launch(job.folder, job.spec)


def test_of_those_who_launch_at_once_one_wins(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    code = f"""
        import sys, time
        from pathlib import Path
        from studio.errors import BusyError
        from studio.jobs.job import JobSpec
        from studio.jobs.launch import launch
        spec = JobSpec("x", "X", [sys.executable, "-c", "import time; time.sleep(1)"])
        print("up", flush=True)
        sys.stdin.read(1)
        try:
            launch(Path({str(folder)!r}), spec)
        except BusyError:
            sys.exit(5)
    """
    racers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    for r in racers:
        assert r.stdout is not None
        assert r.stdout.readline() == b"up\n"
    for r in racers:
        r.communicate(b"x", timeout=20)
    assert sorted(r.returncode for r in racers) == [0, 5, 5]
    assert Job(folder).wait(60) == "finished"
    assert Job(folder).attempt == 1


def test_stopping_gives_time_to_save(start: Start) -> None:
    job = start("steps")
    assert job.stop()
    assert job.state == "stopping"
    assert job.wait(60) == "stopped"
    ended = job.exit
    assert ended is not None
    assert (ended["code"], ended["forced"], ended["error"]) == (0, False, None)
    assert (job.folder / "saved.txt").exists()
    none_left(job)


def test_work_that_was_complete_before_the_stop_counts_as_finished(start: Start) -> None:
    job = start("last-step")
    job.stop()
    assert job.wait(60) == "finished"
    assert job.result == {"steps": 7}


def test_deep_code_can_leave_by_an_exception(start: Start) -> None:
    job = start("deep")
    job.stop()
    assert job.wait(60) == "stopped"
    assert "Traceback" not in job.log_tail()


def test_a_deaf_worker_is_ended_by_force(start: Start) -> None:
    job = start("deaf", stop_grace_s=0.5)
    job.stop()
    assert job.wait(60) == "stopped"
    ended = job.exit
    assert ended is not None
    assert (ended["forced"], ended["signal"]) == (True, "SIGKILL")
    none_left(job)


def test_stopping_now_skips_the_grace(start: Start) -> None:
    job = start("deaf", stop_grace_s=30)
    job.stop()
    began = time.monotonic()
    job.stop(now=True)
    assert job.wait(60) == "stopped"
    assert time.monotonic() - began < 20  # asked to end, and killed two seconds later


def test_a_foreign_program_is_ended_at_once(tmp_path: Path) -> None:
    job = launch(tmp_path / "a", JobSpec("x", "X", ["sleep", "300"]))
    job.stop()
    assert job.wait(60) == "stopped"


def test_killing_the_supervisor_lets_the_worker_save(start: Start) -> None:
    job = start("steps")
    pid = ids(job)
    kill(pid["supervisor"])
    until(lambda: job.state != "running")
    assert job.state == "stopping"
    with pytest.raises(BusyError):
        relaunch(job)
    # It takes 0.4 s to save, and nothing like its grace of a minute; measured 0.5 s.
    assert until(lambda: job.state == "interrupted") < 15
    assert (job.folder / "saved.txt").exists()
    assert job.exit is not None
    assert job.error is not None
    assert job.error["fix"]
    none_left(job)

    (job.folder / "saved.txt").unlink()
    relaunch(job)
    assert job.state in ("starting", "running")
    assert job.attempt == 2
    assert [a["state"] for a in job.attempts] == ["interrupted"]
    until(lambda: job.progress.done > 0)
    job.stop()
    assert job.wait(60) == "stopped"
    relaunch(job, [sys.executable, "-c", "print('third')"])
    assert job.wait(60) == "finished"
    assert [a["state"] for a in job.attempts] == ["interrupted", "stopped"]
    assert job.log_tail().endswith("third\n")


def test_work_that_was_completed_without_a_supervisor_counts(start: Start) -> None:
    job = start("last-step")
    kill(ids(job)["supervisor"])
    until(lambda: not job.is_alive)
    assert job.state == "finished"
    assert job.result == {"steps": 7}


def test_killing_the_supervisor_leaves_no_deaf_orphan(start: Start) -> None:
    job = start("deaf", stop_grace_s=0.5)
    kill(ids(job)["supervisor"])
    assert job.is_alive
    none_left(job)
    until(lambda: job.state == "interrupted")


def test_killing_the_supervisor_leaves_no_foreign_orphan(tmp_path: Path) -> None:
    job = launch(tmp_path / "a", JobSpec("x", "X", ["sleep", "300"]))
    until(lambda: job.state == "running")
    pid = ids(job)
    worker = psutil.Process(pid["worker"])
    kill(pid["supervisor"])
    until(lambda: not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE)
    assert job.state == "interrupted"


def test_killing_the_worker_is_a_failure_with_a_cause(start: Start) -> None:
    job = start("steps")
    kill(ids(job)["worker"])
    assert job.wait(60) == "failed"
    ended = job.exit
    assert ended is not None
    assert ended["signal"] == "SIGKILL"
    assert ended["error"]["what"] == "The job was killed."
    none_left(job)


def test_killing_everything_is_an_interruption(start: Start) -> None:
    """The same as a power cut."""
    job = start("steps")
    all_killed(job.folder)
    until(lambda: job.state == "interrupted")
    assert not job.is_alive
    assert job.exit is not None
    relaunch(job)
    until(lambda: job.state == "running")
    job.stop()
    assert job.wait(60) == "stopped"


def test_after_a_reboot_neither_a_stale_lock_nor_a_reused_id_counts(start: Start) -> None:
    """All processes are gone, the lock files stayed, and the ids that were written down belong to somebody else now."""
    job = start("steps")
    all_killed(job.folder)
    none_left(job)
    stranger = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        told = disk.read_json(job.folder / "process.json") or {}
        disk.write_json(
            job.folder / "process.json", {**told, "supervisor": stranger.pid, "worker": stranger.pid}
        )
        assert (job.folder / "lock").exists() and (job.folder / "worker.lock").exists()
        until(lambda: job.state == "interrupted", told=lambda: job.state)
        assert not job.stop() and not job.stop(now=True)
        relaunch(job)
        until(lambda: job.state == "running" and job.progress.done > 0)
        assert ids(job)["worker"] != stranger.pid
        job.stop()
        assert job.wait(60) == "stopped"
        assert stranger.poll() is None, "nobody's process was touched"
    finally:
        stranger.kill()
        stranger.wait()


def test_a_dead_process_that_nobody_waited_for_does_not_count_as_alive(start: Start) -> None:
    job = start("short")
    assert job.wait(60) == "finished"
    raw = {**job.raw, "attempt": 2}
    (job.folder / "exit.json").unlink()
    (job.folder / "result.json").unlink()
    disk.write_json(job.folder / "job.json", {**raw, "command": ["sleep", "300"]})
    supervisor = subprocess.Popen([sys.executable, "-m", "studio.jobs.supervise", str(job.folder)])
    until(lambda: job.state == "running", 60)
    kill(supervisor.pid)
    until(lambda: supervisor.pid in zombies())
    os.kill(supervisor.pid, 0)  # still answers
    # Its first thread counts as ended an instant before the last one lets go of the lock.
    until(lambda: job.state == "interrupted", told=lambda: job.state)
    os.kill(supervisor.pid, 0)
    supervisor.wait()
    none_left(job)


def test_the_system_ending_the_supervisor_is_an_interruption_that_saved(start: Start) -> None:
    job = start("steps")
    os.kill(ids(job)["supervisor"], signal.SIGTERM)
    assert job.wait(60) == "interrupted"
    assert (job.folder / "saved.txt").exists()
    assert (job.folder / "exit.json").exists()


def test_nothing_that_a_worker_started_stays_behind(start: Start) -> None:
    job = start("strays", ready=False)
    assert job.wait(60) == "finished"
    for pid in map(int, (job.folder / "strays.txt").read_text().split()):
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_a_supervisor_that_cannot_start_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(EnvironmentalError) as caught:
        launch(tmp_path / "a", JobSpec("x", "A title", ["true"]))
    assert "A title" in caught.value.what
    assert Job(tmp_path / "a").state == "failed"


def test_launching_leaves_no_zombie(start: Start) -> None:
    before = zombies()  # of other tests, which are not asked about here
    job = start("short", ready=False)
    assert job.wait(60) == "finished"
    until(lambda: zombies() <= before, told=lambda: [psutil.Process(p) for p in zombies() - before])


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
@pytest.mark.parametrize(
    "command", [["-c", "raise SystemExit(3)"], ["-c", "import os; os.kill(os.getpid(), 9)"]]
)
def test_exit_codes_are_true_below_a_parent_that_ignores_its_children(
    tmp_path: Path, command: list[str]
) -> None:
    """Ignoring SIGCHLD is inherited, and then the system throws exit codes away: a failure would look fine."""
    folder = tmp_path / "a"
    code = f"""
        import signal
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        import sys
        from pathlib import Path
        from studio.jobs.job import JobSpec
        from studio.jobs.launch import launch
        job = launch(Path({str(folder)!r}), JobSpec("x", "X", [sys.executable, *{command!r}]))
        print(job.wait(60))
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout == "failed\n", done.stderr
    ended = Job(folder).exit
    assert ended is not None and (ended["code"], ended["signal"]) in [(3, None), (-9, "SIGKILL")]


def test_stopping_before_the_worker_is_up(start: Start) -> None:
    job = start("steps", ready=False)
    job.stop()
    assert job.wait(60) == "stopped"
    none_left(job)


def test_removing_the_folder_ends_the_job(start: Start, tmp_path: Path) -> None:
    job = start("steps", stop_grace_s=2)
    job.folder.rename(tmp_path / "elsewhere")
    none_left(job)
    assert not job.folder.exists()
    assert not Job(tmp_path / "elsewhere").is_alive


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EnvironmentalError):
        launch(tmp_path / "file" / "job", JobSpec("x", "X", ["true"]))
