"""What a job says: events, progress, forecasts, errors, the log, and what it must not say."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from studio import files
from studio.errors import InputError, NotFoundError
from studio.jobs import call, causes, disk, lifeline
from studio.jobs.environment import Blotter, allowed
from studio.jobs.job import Job, JobSpec, active_jobs, all_jobs, list_jobs, open_job
from studio.jobs.launch import launch, launch_call
from studio.jobs.lifeline import Pace, Worker
from studio.jobs.log import Log
from studio.workspace import Workspace

from .conftest import until

Start = Callable[..., Job]


# --- Errors


def test_a_told_error_is_passed_on_as_it_is(start: Start) -> None:
    job = start("told-error")
    assert job.wait(60) == "failed"
    assert job.exit is not None
    assert job.exit["code"] == InputError.exit_code
    assert job.error is not None
    assert (job.error["error"], job.error["what"]) == ("InputError", "The picture is broken.")
    assert "Traceback" in job.log_tail()


@pytest.mark.parametrize(
    ("mode", "what", "why"),
    [
        ("crash", "Something unexpected went wrong.", "ValueError: no such thing as 3 halves"),
        ("memory", "The computer ran out of memory.", "Python could not"),
        ("import-error", "The Python package 'a_package_that_nobody_has' is not installed.", "needs it"),
    ],
)
def test_other_errors_in_plain_words(start: Start, mode: str, what: str, why: str) -> None:
    job = start(mode)
    assert job.wait(60) == "failed"
    assert job.error is not None
    assert job.error["what"] == what
    assert why in job.error["why"]
    assert job.error["fix"]
    assert "Traceback" in job.log_tail()


@pytest.mark.parametrize(
    ("lines", "what"),
    [
        (["OSError: [Errno 28] No space left on device: 'x'"], "The disk is full."),
        (
            ["torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB"],
            "The graphics card ran out",
        ),
        (
            ["RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you"],
            "The computer ran out",
        ),
        (["PermissionError: [Errno 13] Permission denied: '/x'"], "A file or folder may not be used."),
        (["FileNotFoundError: [Errno 2] No such file or directory: 'm'"], "A file is missing."),
        (
            [
                "ValueError: the cause",
                "subprocess.CalledProcessError: Command '[...]' returned non-zero exit status 1.",
            ],
            "Something unexpected",
        ),
        (
            ["OSError: long ago", "subprocess.CalledProcessError: Command died with <Signals.SIGKILL: 9>."],
            "The job was killed.",
        ),
        (["usage: x", "x: error: unrecognised argument"], "The program ended with code 3."),
        ([], "The program ended with code 3."),
    ],
)
def test_causes_from_the_end_of_a_log(lines: list[str], what: str) -> None:
    error = causes.of_log(lines, 3)
    assert error["what"].startswith(what)
    assert error["fix"]


def test_a_lack_of_memory_that_the_system_reports_is_said_plainly() -> None:
    assert causes.of_signal("SIGKILL", True)["what"] == "The computer ran out of memory."
    assert "no lack of memory" in causes.of_signal("SIGKILL", False)["why"]
    assert causes.of_signal("SIGSEGV", None)["what"] == "The job's process ended with SIGSEGV."


# --- Events and progress


def test_events_are_read_on_from_an_offset(tmp_path: Path) -> None:
    job = Job(tmp_path)
    with Worker(tmp_path) as worker:
        worker.emit("a", loss=float("nan"), path=tmp_path)
        first, offset = job.events()
        worker.emit("b")
        second, end = job.events(offset)
    assert [e["type"] for e in first + second] == ["a", "b"]
    assert first[0]["loss"] is None
    assert job.events(end) == ([], end)
    assert job.events(end + 1000)[1] == end  # another file by now: from the start


def test_progress_is_cheap_to_say_and_to_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[object] = []
    write = disk.write_json

    def counted(path: Path, content: dict[str, object], **more: bool) -> None:
        written.append(path.name)
        write(path, content, **more)

    monkeypatch.setattr(disk, "write_json", counted)
    (tmp_path / "events.jsonl").write_text('{"type": "step", "step": 1, "loss": 0.1}\n' * 100_000)
    with Worker(tmp_path) as worker:
        began = time.monotonic()
        while (seconds := time.monotonic() - began) < 1.0:
            worker.progress(int(seconds * 1000), 1000, "steps", step=3)
        worker.progress(1000, 1000, "steps", "Done", step=4, lr=0.5)
        assert 2 <= written.count("progress.json") <= 6

    def forbidden(*_: object) -> None:
        raise AssertionError("the events were read")

    monkeypatch.setattr(files, "read_jsonl", forbidden)
    began = time.monotonic()
    found = Job(tmp_path).progress
    assert time.monotonic() - began < 1.0
    assert (found.done, found.fraction, found.message, found.step) == (1000, 1.0, "Done", 4)
    assert found.extra == {"lr": 0.5}


def test_the_newest_progress_reaches_the_disk_without_another_call(tmp_path: Path) -> None:
    with Worker(tmp_path) as worker:
        for n in range(100):
            worker.progress(n, 100)
        until(lambda: Job(tmp_path).progress.done == 99)


def test_the_forecast_follows_the_recent_pace() -> None:
    pace = Pace()
    assert pace.eta(0, 0, 100, "steps") is None
    for n in range(1, 51):
        eta = pace.eta(n * 2.0, n, 100, "steps")
    assert eta == pytest.approx(100.0)
    assert pace.eta(101.0, 50, 100, "steps") == pytest.approx(99.0)  # half of the next step is over
    assert pace.eta(102.0, 3, 10, "pictures") is None  # something else now
    slow = Pace()
    slow.eta(0, 0, 1000, "steps")
    for n in range(1, 501):
        fast = slow.eta(n * 0.1, n, 1000, "steps")
    assert fast == pytest.approx(50.0, rel=0.05)
    for n in range(501, 801):
        now_slow = slow.eta(50 + (n - 500) * 2.0, n, 1000, "steps")
    assert now_slow == pytest.approx(400.0, rel=0.1)


def test_setting_the_clock_does_not_move_the_forecast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(lifeline.time, "time", lambda: clock[0])
    with Worker(tmp_path) as worker:
        for n in range(20):
            clock[0] += -86_400 if n % 2 else 3 * 86_400
            worker.progress(n, 40, "steps")
            time.sleep(0.02)
        worker.emit("x")
    found = Job(tmp_path).progress
    assert found.eta_seconds is not None
    assert 0.2 < found.eta_seconds < 20
    assert 0 < Job(tmp_path).events()[0][0]["elapsed"] < 60


def test_plain_data() -> None:
    import numpy as np

    value = {"a": np.float32(0.5), "b": (1, math.inf), "c": Path("x"), 3: None, "d": np.int64(7)}
    assert disk.plain(value) == {"a": 0.5, "b": [1, None], "c": "x", "3": None, "d": 7}


def test_a_second_worker_of_a_job_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lifeline, "WORKER_WAIT_S", 0.1)
    from studio.errors import BusyError

    with Worker(tmp_path), pytest.raises(BusyError), Worker(tmp_path):
        pass


# --- The log


def test_the_log_keeps_its_head_and_tail(tmp_path: Path) -> None:
    log = Log(tmp_path, limit=100_000)
    for n in range(50_000):
        log.feed(f"line {n} {'x' * 50}\n".encode())
    log.close()
    sizes = {p.name: p.stat().st_size for p in tmp_path.glob("log*")}
    assert sum(sizes.values()) <= 300_000
    head = (tmp_path / "log.head.txt").read_text().splitlines()
    assert head[0].startswith("line 0 ")
    tail = Job(tmp_path).log_tail(150_000).splitlines()
    assert tail[-1].startswith("line 49999 ")
    numbers = [int(line.split()[1]) for line in tail]
    assert numbers == list(range(numbers[0], 50_000))
    assert len(tail) > 2000
    assert Job(tmp_path).log_tail(200).count("\n") == 3


def test_a_progress_bar_becomes_one_line(tmp_path: Path) -> None:
    log = Log(tmp_path)
    for piece in (b"begin\r\n", b"\r 10%|#", b"\r 20%|##\r", b" 99%|###", b"\r100%|####\n", b"\n", b"end"):
        log.feed(piece)
    log.close()
    assert Job(tmp_path).log_tail() == "begin\n100%|####\n\nend\n"
    assert log.last_lines == ["begin", "100%|####", "", "end"]


# --- Secrets


def test_the_environment_is_an_allow_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "HF_TOKEN": "hf_abcdefghijklmnopqrstuvwxyz", "HF_HOME": "/h", "AWS_SECRET_ACCESS_KEY": "s", "EDITOR": "vi",
        "CUDA_VISIBLE_DEVICES": "0", "LC_ALL": "C.UTF-8", "https_proxy": "http://p", "STUDIO_LIFELINE": "1",
    }  # fmt: skip
    assert set(allowed(given)) == {"HF_HOME", "CUDA_VISIBLE_DEVICES", "LC_ALL", "https_proxy"}
    assert "HF_TOKEN" in allowed(given, ["HF_TOKEN"])
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    code = "import json, os; print(json.dumps(dict(os.environ)))"
    job = launch(tmp_path / "a", JobSpec("x", "X", [sys.executable, "-c", code], env={"MINE": "1"}))
    assert job.wait(60) == "finished"
    seen = json.loads(job.log_tail(100_000))
    assert not {"HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "EDITOR"} & set(seen)
    assert (seen["MINE"], seen["COLUMNS"], seen["PYTHONUNBUFFERED"]) == ("1", "400", "1")
    assert seen["STUDIO_HOME"] == os.environ["STUDIO_HOME"]


def test_a_secret_reaches_the_job_but_no_file(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "correct-horse-battery")
    job = start("secret", secrets=("HF_TOKEN",))
    assert job.wait(60) == "failed"
    assert "token is ***" in job.log_tail()
    for path in job.folder.iterdir():
        assert b"correct-horse" not in path.read_bytes(), path.name
    with pytest.raises(InputError):
        JobSpec("x", "X", ["true"], env={"HF_TOKEN": "x"})


def test_what_looks_like_a_token_is_blotted_out() -> None:
    text = b"use hf_abcdefghijklmnopqrstuv or r8_abcdefghijklmnopqrstuv, Authorization: Bearer abcdefghijklmnop1234"
    assert Blotter().clean(text) == b"use *** or ***, Authorization: Bearer ***"


# --- Functions as jobs, lists


def test_only_functions_of_the_studio_can_be_jobs(tmp_path: Path) -> None:
    for target in (
        "os:system",
        "studio:x",
        "studio.files",
        "studio.files:_parsed",
        "studio..files:now",
        "x.studio.y:z",
    ):
        with pytest.raises(InputError):
            launch_call(tmp_path / "a", target, kind="x", title="X")
    assert not (tmp_path / "a").exists()


def test_a_function_as_a_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(worker: Worker, payload: dict[str, object]) -> dict[str, object]:
        worker.progress(1, 2, "things")
        return {"got": payload["n"]}

    monkeypatch.setattr(files, "work_for_a_test", work, raising=False)
    files.write_json(tmp_path / "payload.json", {"n": 3})
    assert call.main(["studio.files:work_for_a_test", str(tmp_path)]) == 0
    found = disk.read_json(tmp_path / "result.json")
    assert found is not None
    assert (found["complete"], found["result"]) == (True, {"got": 3})


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    job = launch_call(
        tmp_path / "a", "studio.files:no_such_function", {"n": 1}, kind="x", title="X", project="p"
    )
    assert job.wait(60) == "failed"
    assert job.error is not None
    assert "no_such_function" in job.error["what"]
    assert job.spec.project == "p"


def test_lists_of_jobs(workspace: Workspace) -> None:
    project = workspace.projects_dir / "p"
    files.write_yaml(project / "project.yaml", {})
    spec = JobSpec("x", "X", [sys.executable, "-c", "import time; time.sleep(0)"])
    old = launch(project / "jobs" / "z-old", spec)
    assert old.wait(60) == "finished"
    new = launch(project / "runs" / "a-new", JobSpec("x", "X", ["sleep", "300"]))
    other = launch(workspace.root / "jobs" / "download", JobSpec("x", "X", ["sleep", "300"]))
    assert active_jobs(workspace) == [other, new]
    assert all_jobs(workspace) == [other, new, old]
    assert [j.id for j in list_jobs(project / "runs")] == ["a-new"]
    assert list_jobs(project / "nothing") == []
    for job in (new, other):
        job.stop()
        assert job.wait(60) == "stopped"
    assert active_jobs(workspace) == []
    assert old.summary()["state"] == "finished"


def test_folders_that_hold_no_sound_job(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        open_job(tmp_path)
    assert Job(tmp_path).state == "interrupted"
    (tmp_path / "j").mkdir()
    (tmp_path / "j" / "job.json").write_text("{ half")
    assert list_jobs(tmp_path) == []
    with pytest.raises(NotFoundError):
        _ = Job(tmp_path / "j").spec
    (tmp_path / "j" / "job.json").write_text('{"kind": "x"}')
    with pytest.raises(InputError):
        _ = Job(tmp_path / "j").spec
    (tmp_path / "j" / "exit.json").write_text("[]")
    assert Job(tmp_path / "j").state == "interrupted"
