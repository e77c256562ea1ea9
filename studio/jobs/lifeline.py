"""The worker's end of a job: life signs, events, progress, stopping, the last word.

    with Worker(folder) as worker:
        for done, picture in enumerate(pictures):
            if worker.should_stop:
                break
            work(picture)
            worker.progress(done + 1, len(pictures), "pictures", f"Reading {picture}")
        worker.finish({"pictures": done})

The lifeline is the worker's standard input, a pipe whose other end only the supervisor holds. A line "stop" asks the
worker to save and end; the end of the pipe says that the supervisor is gone, however it died, and means the same.
`accelerate launch` hands its standard input on to the trainer, so the lifeline works below it too: measured, a trainer
below it knows within a tenth of a second that the supervisor or accelerate was killed (tests/jobs/test_accelerate.py).
Only the main process of a worker makes a `Worker`; its helpers get an empty standard input.

Standard library and filelock only, so that any Python that trains can use it. Nothing in here lets a full disk end
the work: what cannot be written waits, and the log says so.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from filelock import FileLock

from studio.errors import StudioError
from studio.jobs import causes, disk, locks, reserve
from studio.jobs.environment import Blotter
from studio.jobs.pace import Pace

PROGRESS_EVERY_S = 0.5  # pages look once a second
WORKER_WAIT_S = 10.0  # an earlier worker of the job may be on its way out


class JobStopped(BaseException):
    """Raised by `Worker.check` to leave deep code when the job shall stop. Not an error: passes `except Exception`."""


class Worker:
    """See the module. Enter it as early as possible, before heavy imports: a job without it is ended at once
    when it shall stop, one with it gets its grace.

    folder: the job folder.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        told = os.environ.pop("STUDIO_LIFELINE", "")
        self._supervised = told.isdigit()
        spec = disk.read_json(self.folder / "job.json") or {}
        self.attempt = int(told) if told.isdigit() else int(spec.get("attempt", 1))
        self._present = int(spec.get("attempt", 1)) == self.attempt
        names = spec.get("secrets") or []
        self._blotter = Blotter([os.environ[n] for n in names if n in os.environ])
        self._grace_s = float(spec.get("stop_grace_s", 60.0))
        self._events = disk.Lines(self.folder / "events.jsonl", clean=self._blotter.clean)
        self._events_lock = threading.Lock()
        self._told_trouble = False
        self._stop = threading.Event()
        self._why_stop = ""
        self._began = time.monotonic()
        self._pace = Pace()
        self._newest: dict[str, Any] = {}
        self._written: dict[str, Any] | None = None
        self._dirty = threading.Event()
        self._progress_lock = threading.Lock()
        self._over = False
        self._ended = False
        self._lock: FileLock | None = None
        self._old_term: Any = None

    # --- Life

    def __enter__(self) -> Worker:
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._supervised and not (self._present and locks.held(self.folder / "lock")):
            # The supervisor died while this process was still starting: there is nobody to work for.
            raise SystemExit(1)
        self._lock = locks.take(
            self.folder / "worker.lock", WORKER_WAIT_S, busy="A worker of this job is still running."
        )
        self._began = time.monotonic()
        if self._supervised:
            self._watch()
        if threading.current_thread() is threading.main_thread():
            self._old_term = signal.signal(signal.SIGTERM, self._on_term)
        threading.Thread(target=self._write_progress, name="job-progress", daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Leave a last word, whatever happened. Under a supervisor an error ends the process quietly after its
        traceback went to the log; elsewhere it passes on."""
        if isinstance(error, Exception):
            self.fail(error)
        elif isinstance(error, (JobStopped, KeyboardInterrupt)):
            self._stopping("asked")
            self.finish(None)
        elif isinstance(error, SystemExit) and error.code not in (None, 0):
            self.fail(RuntimeError(f"The worker ended with: {error.code}"))
        self._close()
        if isinstance(error, (JobStopped, KeyboardInterrupt)):
            return True
        if self._supervised and isinstance(error, Exception):
            raise SystemExit(error.exit_code if isinstance(error, StudioError) else 1)
        return False

    def _close(self) -> None:
        self._over = True
        self._dirty.set()
        self._save_progress()
        with self._events_lock:
            self._events.flush()
        faulthandler.cancel_dump_traceback_later()
        if self._old_term is not None:
            signal.signal(signal.SIGTERM, self._old_term)
        if self._lock is not None:
            self._lock.release()

    def _watch(self) -> None:
        """Listen to the lifeline on a descriptor of its own; helpers of the worker get an empty input instead."""
        lifeline = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        threading.Thread(target=self._listen, args=(lifeline,), name="job-lifeline", daemon=True).start()

    def _listen(self, lifeline: int) -> None:
        while True:
            try:
                said = os.read(lifeline, 4096)
            except OSError:
                said = b""
            if not said:
                break
            if b"stop" in said:
                self._stopping("asked")
        self._stopping("supervisor gone")
        if not self._over:
            # Nobody is left to end a worker that hangs, so it ends itself; this timer works even in stuck C code.
            with suppress(Exception):
                faulthandler.dump_traceback_later(self._grace_s + 10.0, exit=True)

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        if self._stop.is_set():
            raise JobStopped  # asked before, and still at it: leave at once, tidying up on the way
        self._stopping("asked")

    def _stopping(self, why: str) -> None:
        self._why_stop = self._why_stop or why
        self._stop.set()

    @property
    def should_stop(self) -> bool:
        """Whether to save and end: someone asked for it, or the supervisor is gone. Costs nothing to ask."""
        return self._stop.is_set()

    @property
    def stop_reason(self) -> str:
        """ "asked", "supervisor gone", or "" while nothing asks to stop."""
        return self._why_stop

    def check(self) -> None:
        """Raise JobStopped when the job shall stop; `with Worker` turns it into a clean end."""
        if self._stop.is_set():
            raise JobStopped

    def sleep(self, seconds: float) -> bool:
        """Wait, but not longer than until the job shall stop; True when it shall."""
        return self._stop.wait(seconds)

    # --- Saying something

    def emit(self, type: str, **fields: Any) -> None:
        """Append an event: its type, wall clock `t` (seconds since 1970), `elapsed` (seconds of this attempt, by a
        clock that nobody can set) and your fields. NaN and infinity become null. Never raises."""
        record = {
            "type": type,
            "t": round(time.time(), 3),
            "elapsed": round(time.monotonic() - self._began, 3),
            **fields,
        }
        with self._events_lock:
            fine = self._events.add(record)
            trouble, lost = self._events.trouble, self._events.lost
        if not fine and not self._told_trouble:
            self._told_trouble = True
            _say(f"Events cannot be written ({trouble}). The work goes on; they are kept in memory.")
        elif fine and self._told_trouble:
            self._told_trouble = False
            _say("Events can be written again." + (f" {lost} were lost." if lost else ""))

    def progress(
        self, done: float, total: float | None = None, unit: str = "", message: str = "", **more: Any
    ) -> None:
        """Say how far it is. May be called at every step: at most two a second reach the disk, the newest always.

        more: `stage`, `step`, `epoch`, `epochs`, `loss`, or anything else, which readers find in `extra`.
        `eta_seconds` overrides the forecast; `eta_between` then says between which two it lies, where that is wide.
        """
        now = time.monotonic()
        known: dict[str, Any] = {
            k: more.pop(k) for k in ("stage", "step", "epoch", "epochs", "loss") if k in more
        }
        eta, between = more.pop("eta_seconds", None), more.pop("eta_between", None)
        forecast = self._pace.eta(now, float(done), float(total) if total is not None else None, unit)
        if eta is None and forecast is not None:
            eta, between = forecast, self._pace.span(forecast)
        self._newest = {
            "attempt": self.attempt,
            "fraction": min(1.0, max(0.0, done / total)) if total else None,
            "done": done,
            "total": total,
            "unit": unit,
            "message": message,
            "eta_seconds": eta,
            "eta_between": between,
            "elapsed_seconds": round(now - self._began, 3),
            "updated": round(time.time(), 3),
            **known,
            "extra": more,
        }
        self._dirty.set()

    def _write_progress(self) -> None:
        while not self._over:
            self._dirty.wait()
            self._dirty.clear()
            self._save_progress()
            time.sleep(PROGRESS_EVERY_S)

    def _save_progress(self) -> None:
        with self._progress_lock:
            newest = self._newest
            if newest and newest is not self._written:
                with suppress(OSError, ValueError, TypeError):
                    disk.write_json(self.folder / "progress.json", newest, durable=False)
                    self._written = newest

    # --- The last word

    def finish(self, result: Any = None, *, complete: bool | None = None) -> None:
        """Hand over the result (plain data). Counts as finished, or as stopped when the job was asked to stop before;
        `complete=True` says that nothing was left out even so. The first last word counts."""
        done = (not self.should_stop) if complete is None else complete
        self._last_word(
            "result.json", {"complete": done, "reason": self._why_stop, "result": disk.plain(result)}
        )

    def fail(self, error: BaseException) -> None:
        """Say that and why it failed; the traceback goes to the log. A StudioError is told as it is, anything else in
        plain words. The first last word counts."""
        traceback.print_exception(error, file=sys.stderr)
        if self._ended:
            # Done, and then something broke while tidying up: that still is a failure.
            with suppress(OSError):
                (self.folder / "result.json").unlink()
            self._ended = False
        self._last_word("error.json", {"error": causes.of_exception(error)})

    def _last_word(self, name: str, content: dict[str, Any]) -> None:
        if self._ended:
            return
        self._ended = True
        record = {"attempt": self.attempt, "at": _moment(), **content}
        record = json.loads(self._blotter.clean(disk.one_line(record)))
        if not _insist(self.folder, name, record):
            _say(f"{name} could not be written: {record}")


def _moment() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def _say(text: str) -> None:
    with suppress(OSError, ValueError):
        print(text, file=sys.stderr, flush=True)


def _insist(folder: Path, name: str, record: dict[str, Any]) -> bool:
    """Write a small record even on a full disk, by giving up the room that the supervisor keeps for that."""
    for _ in range(2):
        try:
            disk.write_json(folder / name, record)
            return True
        except OSError:
            reserve.give_up(folder, reserve.LAST_WORD)
    return False
