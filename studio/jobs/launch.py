"""Starting jobs: a detached supervisor that outlives the browser, the server and the terminal."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import BusyError, EnvironmentalError, InputError
from studio.jobs import disk, environment, locks
from studio.jobs.job import Job, JobSpec, moment, next_order

_IMPORT_ROOT = Path(__file__).resolve().parents[2]  # where `studio` is imported from

_START_LIMIT_S = 60.0  # a cold disk or a busy computer may take long to start Python


def launch(folder: Path, spec: JobSpec) -> Job:
    """Start `spec` in `folder`, which is made when missing and may hold other files.

    Returns when the supervisor is in charge, usually within half a second. Raises BusyError when the folder already
    has a job, EnvironmentalError when it cannot be started.
    """
    folder = folder.resolve()
    with _launching(folder):
        if (folder / "job.json").exists():
            raise BusyError(
                f"'{folder.name}' already has a job.",
                "One folder holds one job, so that its record stays true.",
                "Resume that job, or start a new one.",
            )
        told = {"attempt": 1, "created": moment(), "order": next_order(folder.parent)}
        return _start(folder, {**spec.as_dict(), **told})


def relaunch(job: Job, command: list[str] | None = None, env: dict[str, str] | None = None) -> Job:
    """Run a job that has ended once more, as its next attempt; how the last one ended moves to its history.

    command, env: replace those of the spec when given. Raises BusyError while the job lives.
    """
    _ = job.raw  # a folder without a job is none to launch in
    with _launching(job.folder):
        alive = _living_besides_launcher(job)
        if alive:
            raise BusyError(
                f"'{job.folder.name}' is still at work.",
                alive,
                "Wait until it has ended, or stop it first.",
            )
        raw = job.raw
        spec = JobSpec.from_dict(raw)
        if command is not None:
            spec = replace(spec, command=list(command))
        if env is not None:
            spec = replace(spec, env=dict(env))
        last = job._unrecorded_end()
        history = job.attempts
        if not history or history[-1].get("attempt") != last.get("attempt"):
            files.append_jsonl(job.folder / "attempts.jsonl", {**last, "command": raw.get("command")})
        for name in ("exit.json", "error.json", "result.json", "progress.json", "process.json", "stop"):
            (job.folder / name).unlink(missing_ok=True)
        return _start(job.folder, {**raw, **spec.as_dict(), "attempt": job.attempt + 1})


@contextmanager
def _launching(folder: Path) -> Iterator[None]:
    """Only one at a time launches in a folder; what the computer refuses meanwhile becomes an EnvironmentalError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = locks.take(folder / "launch.lock", busy="This job is being started right now.")
        try:
            yield
        finally:
            lock.release()
    except OSError as e:
        raise EnvironmentalError(
            f"The job in '{folder.name}' could not be started.",
            f"The computer answered: {e.strerror or e}.",
            f"Free some room on the disk of {folder.parent}, or check that you may write there, then try again.",
        ) from e


def _living_besides_launcher(job: Job) -> str:
    """Why the job counts as alive, or "" when it does not. An ended supervisor gets a moment to let go."""
    end = time.monotonic() + 5.0
    while True:
        supervisor = locks.held(job.folder / "lock")
        worker = locks.held(job.folder / "worker.lock")
        if not supervisor and not worker:
            return ""
        if job._recorded() is None or time.monotonic() > end:
            return "It is running." if supervisor else "Its worker is still saving."
        time.sleep(0.05)


def _start(folder: Path, raw: dict[str, Any]) -> Job:
    """Write job.json and start the supervisor. The caller holds launch.lock."""
    (folder / "stop").unlink(missing_ok=True)
    files.write_json(folder / "job.json", {**raw, "launched": moment()})
    job = Job(folder)
    env = environment.allowed(secrets=raw.get("secrets") or ())
    env["PYTHONPATH"] = os.pathsep.join(
        [str(_IMPORT_ROOT), *(p for p in [os.environ.get("PYTHONPATH")] if p)]
    )
    try:
        process = _spawn([sys.executable, "-m", "studio.jobs.supervise", str(folder)], folder, env)
    except OSError as e:
        return _could_not_start(job, f"The computer answered: {e.strerror or e}.")
    # Nobody will ask this Popen object again; a thread waits for the process so that no zombie stays behind.
    threading.Thread(target=process.wait, name="job-reaper", daemon=True).start()
    end = time.monotonic() + _START_LIMIT_S
    while time.monotonic() < end:
        if locks.held(folder / "lock") or job._recorded() is not None:
            return job
        if process.poll() is not None:
            if job._recorded() is not None:
                return job
            return _could_not_start(job, f"The supervisor ended with code {process.returncode}.")
        time.sleep(0.01)
    with suppress(OSError):
        process.kill()
    return _could_not_start(job, f"The supervisor did not begin within {_START_LIMIT_S:.0f} seconds.")


def _spawn(command: list[str], folder: Path, env: dict[str, str]) -> subprocess.Popen[bytes]:
    """Start a process that has no tie to this one: own session, no input, messages into a file."""
    ways: list[dict[str, Any]] = [{"start_new_session": True}]
    if sys.platform == "win32":
        flags = subprocess.DETACHED_PROCESS | subprocess.CREATE_NEW_PROCESS_GROUP
        # Not every parent lets its children leave its Windows job, so that is only tried first.
        ways = [{"creationflags": flags | subprocess.CREATE_BREAKAWAY_FROM_JOB}, {"creationflags": flags}]
    with (folder / "supervisor.log").open("ab") as out:
        for way in ways[:-1]:
            with suppress(OSError):
                return subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=folder, **way
                )
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=folder, **ways[-1]
        )


def _could_not_start(job: Job, why: str) -> Job:
    """Record and raise that no supervisor came up."""
    said = ""
    with suppress(OSError):
        lines = (job.folder / "supervisor.log").read_text("utf-8", "replace").strip().splitlines()
        said = f" Its last words: {lines[-1]}" if lines else ""
    error = EnvironmentalError(
        f"'{job.raw.get('title') or job.id}' could not be started.",
        why + said,
        f"Look into {job.folder / 'supervisor.log'}, mend the cause, then start it again.",
    )
    with suppress(OSError):
        disk.write_json(
            job.folder / "exit.json",
            {
                "attempt": job.attempt,
                "state": "failed",
                "code": None,
                "signal": None,
                "forced": False,
                "started_at": None,
                "ended_at": moment(),
                "seconds": 0,
                "error": error.as_dict(),
                "result": None,
            },
        )
    raise error


def checked_target(target: str) -> tuple[str, str]:
    """`module:function` split. Only public functions of the `studio` package. Raises InputError."""
    module, _, function = target.partition(":")
    names = [*module.split("."), function]
    if names[0] != "studio" or len(names) < 3 or not all(n.isidentifier() and n[0] != "_" for n in names):
        raise InputError(
            f"'{target}' cannot be run as a job.",
            "Only functions of the studio itself can, such as `studio.dataset.intake:run_import`.",
            "Write it as `studio.module:function`.",
        )
    return module, function


def launch_call(
    folder: Path,
    target: str,
    payload: dict[str, Any] | None = None,
    *,
    kind: str,
    title: str,
    project: str | None = None,
    stop_grace_s: float = 60.0,
    secrets: tuple[str, ...] = (),
    env: dict[str, str] | None = None,
) -> Job:
    """Run `target` ("studio.module:function") as a job in `folder`.

    The function gets `(worker, payload)`: a `studio.jobs.lifeline.Worker` and the payload, plain data that goes
    through payload.json. What it returns becomes `job.result`; what it raises becomes `job.error`. secrets, env: see JobSpec.
    """
    checked_target(target)
    folder = folder.resolve()
    spec = JobSpec(
        kind=kind,
        title=title,
        command=[sys.executable, "-m", "studio.jobs.call", target, str(folder)],
        project=project,
        stop_grace_s=stop_grace_s,
        secrets=secrets,
        env=env or {},
    )
    if not (folder / "job.json").exists():
        files.write_json(folder / "payload.json", payload or {})
    return launch(folder, spec)
