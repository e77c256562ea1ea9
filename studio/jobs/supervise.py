"""The supervisor of one job: `python -m studio.jobs.supervise FOLDER`.

It holds the folder's lock as long as it lives, runs the worker in a process group of its own with the lifeline as its
input, keeps the bounded log, passes a wish to stop on, and records how it all ended. Whatever happens to it, nothing
it started stays behind.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

from studio.errors import BusyError
from studio.jobs import causes, disk, locks, reserve
from studio.jobs.environment import Blotter
from studio.jobs.guard import Guard, term_grace
from studio.jobs.job import JobSpec, moment
from studio.jobs.log import PIPE_BYTES, Log, widen
from studio.jobs.processes import Tree, adopt_orphans, oom_kills, wait_for_children

LOOK_EVERY_S = 0.1
NOW_PATIENCE_S = 2.0
RECORD_LIMIT_S = 120.0
INTERRUPTED_FROM_OUTSIDE = {
    "error": "Interrupted",
    "what": "The job was interrupted.",
    "why": "The system, or another program, asked its supervisor to end; most often the computer is shutting down.",
    "fix": "Start it again; what was saved before is kept.",
    "findings": [],
}


class Supervisor:
    """One attempt of one job."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        raw = disk.read_json(folder / "job.json") or {}
        self.spec = JobSpec.from_dict(raw)
        self.attempt = int(raw.get("attempt", 1))
        secrets = [os.environ[n] for n in self.spec.secrets if n in os.environ]
        self.log = Log(folder, Blotter(secrets))
        self.events = disk.Lines(folder / "events.jsonl")
        self.began = time.monotonic()
        self.started_at = moment()
        self.asked_by = ""  # "user" (stop file) or "system" (a signal to this process)
        self.forced = False
        self.child: subprocess.Popen[bytes] | None = None
        self.tree: Tree | None = None

    def run(self) -> int:
        """From taking the lock to the exit record; 0 when the end could be recorded."""
        guard = Guard(self.folder, self.spec.stop_grace_s)
        lock = locks.take(self.folder / "lock", 5.0)
        try:
            self._prepare()
            record = self._attempt(guard)
            recorded = self._record(record)
        finally:
            self.log.close()
            if self.tree is None or not self.tree.lives():
                guard.dismiss()  # else it sees the end of its pipe, and does what this one could not
            reserve.give_up(self.folder, reserve.RECORD)
            with suppress(OSError):
                said = self.folder / "supervisor.log"
                if said.stat().st_size == 0:
                    said.unlink()
            lock.release()
        return 0 if recorded else 1

    def _prepare(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        adopt_orphans()
        reserve.keep(self.folder)
        self.oom_before = oom_kills()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked_by = self.asked_by or "system"

    def _environment(self) -> dict[str, str]:
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" or self._own_python}
        env.update(COLUMNS="400", LINES="50", PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
        # Threads that wait by spinning keep the core from the thread they wait for. On two cores with another busy
        # program a training step took 20 to 40 times as long; sleeping waiters cost next to nothing when it is quiet.
        env.setdefault("OMP_WAIT_POLICY", "PASSIVE")
        env.update(self.spec.env)
        env["STUDIO_LIFELINE"] = str(self.attempt)
        return env

    @property
    def _own_python(self) -> bool:
        # Another Python has packages of its own; ours on its path would mix with them.
        return Path(self.spec.command[0]) == Path(sys.executable)

    # --- The attempt

    def _attempt(self, guard: Guard) -> dict[str, Any]:
        if self.attempt > 1:
            self.log.note(f"Attempt {self.attempt}, {self.started_at}")
        self.events.add({"type": "attempt", "attempt": self.attempt, "t": round(time.time(), 3)})
        separate: dict[str, Any] = {"process_group": 0}
        if sys.platform == "win32":
            separate = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
        try:
            child = subprocess.Popen(
                self.spec.command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                cwd=self.spec.cwd or self.folder,
                bufsize=0,
                **separate,
            )
        except OSError as e:
            self.log.note(f"{self.spec.command[0]} could not be started: {e}")
            return self._ended(None, causes.of_start(self.spec.command, e))
        self.child = child
        guard.watch(child.pid)
        self.tree = tree = Tree(child, guard.pid)
        with suppress(OSError):
            disk.write_json(
                self.folder / "process.json",
                {
                    "attempt": self.attempt,
                    "supervisor": os.getpid(),
                    "worker": child.pid,
                    "started_at": self.started_at,
                },
                durable=False,
            )
        drain = threading.Thread(target=self._drain, name="job-log", daemon=True)
        drain.start()
        self._watch(child, tree)
        self._clear_up(child, tree)
        # The pipe ends when its last writer has; a stray that escaped must not hold the record up.
        drain.join(timeout=5.0)
        return self._judge(child.returncode)

    def _drain(self) -> None:
        assert self.child is not None and self.child.stdout is not None
        fd = self.child.stdout.fileno()
        widen(fd)
        told = False
        while True:
            try:
                data = os.read(fd, PIPE_BYTES)
            except OSError:
                break
            if not data:
                break
            self.log.feed(data)
            if self.log.trouble and not told:
                told = True
                why = f"The log cannot be written: {self.log.trouble}. The work goes on."
                self._tell({"type": "log-trouble", "message": why, "t": round(time.time(), 3)})

    def _tell(self, event: dict[str, Any]) -> None:
        if not self.events.add(event):
            reserve.give_up(self.folder, reserve.TROUBLE)
            self.events.flush()

    def _watch(self, child: subprocess.Popen[bytes], tree: Tree) -> None:
        """Until the child has ended: pass on wishes to stop, with a grace, then by force."""
        never = float("inf")
        grace = self.spec.stop_grace_s
        asked = hurried = False
        term_at = kill_at = never
        while child.poll() is None:
            now = time.monotonic()
            wish = self._wish()
            if not asked and (wish or self.asked_by):
                asked = True
                self.asked_by = self.asked_by or "user"
                self._ask()
                # One that has not taken its lock has nothing to save, or is no worker of ours.
                term_at = now + (grace if locks.held(self.folder / "worker.lock") else 0.0)
            if wish == "now" and not hurried:
                hurried = True
                term_at = min(term_at, now)
                kill_at = min(kill_at, now + NOW_PATIENCE_S)
            if now >= term_at and not self.forced:
                self.forced = True
                kill_at = min(kill_at, now + term_grace(grace))
                self.log.note("It was asked to stop and did not; ending it.")
                tree.terminate()
            if now >= kill_at:
                kill_at = now + 1.0
                tree.kill()
            time.sleep(LOOK_EVERY_S)

    def _wish(self) -> str:
        """Content of the stop file: "now", or anything else for a stop with grace; "" when there is none."""
        try:
            said = (self.folder / "stop").read_text("utf-8", "replace")
        except FileNotFoundError:
            # A folder that was moved or removed takes its job with it.
            return "" if self.folder.is_dir() else "now"
        except OSError:
            said = ""
        return "now" if "now" in said else "please"

    def _ask(self) -> None:
        assert self.child is not None and self.child.stdin is not None
        with suppress(OSError, ValueError):
            self.child.stdin.write(b"stop\n")

    def _clear_up(self, child: subprocess.Popen[bytes], tree: Tree) -> None:
        """See that nothing the child started lives on. A worker below it (a launcher was killed) may save first."""
        assert child.stdin is not None
        with suppress(OSError):
            child.stdin.close()
        end = time.monotonic() + self.spec.stop_grace_s
        while (
            tree.lives() and locks.held(self.folder / "worker.lock") and time.monotonic() < end
            and self._wish() != "now"
        ):  # fmt: skip
            time.sleep(LOOK_EVERY_S)
        tree.end()

    # --- The record

    def _judge(self, code: int) -> dict[str, Any]:
        """What the exit code and the worker's last word mean together."""
        result = self._last_word("result.json")
        told = self._last_word("error.json")
        error = told.get("error") if told else None
        if code == 0 and error is None:
            complete = bool(result["complete"]) if result else not self.asked_by
            return self._ended(code, None, "finished" if complete else self._stop_state(result), result)
        if self.asked_by and error is None and (self.forced or result is not None):
            return self._ended(code, None, self._stop_state(result), result)
        if error is None:
            name = causes.signal_name(-code) if code < 0 else ""
            now = oom_kills()
            oom = None if now is None or self.oom_before is None else now > self.oom_before
            error = causes.of_signal(name, oom) if name else causes.of_log(self.log.last_lines, code, oom)
        return self._ended(code, error, "failed", result)

    def _stop_state(self, result: dict[str, Any] | None) -> str:
        # A worker that was asked to stop, but not by the user through this supervisor: the system did it.
        by_system = self.asked_by == "system" or (not self.asked_by and bool(result and result.get("reason")))
        return "interrupted" if by_system else "stopped"

    def _last_word(self, name: str) -> dict[str, Any] | None:
        found = disk.read_json(self.folder / name)
        return found if found is not None and found.get("attempt") == self.attempt else None

    def _ended(
        self,
        code: int | None,
        error: dict[str, Any] | None,
        state: str = "failed",
        result: dict[str, Any] | None = None,
    ) -> dict[str, Any]:
        if state == "interrupted" and error is None:
            error = INTERRUPTED_FROM_OUTSIDE
        return {
            "attempt": self.attempt,
            "state": state,
            "code": code,
            "signal": causes.signal_name(-code) if code is not None and code < 0 else None,
            "forced": self.forced,
            "started_at": self.started_at,
            "ended_at": moment(),
            "seconds": round(time.monotonic() - self.began, 3),
            "error": error,
            "result": result.get("result") if result else None,
            "log_lines_missing": self.log.missing,
        }

    def _record(self, record: dict[str, Any]) -> bool:
        """Write the exit record, first by giving up the reserve, then by waiting for room."""
        self.log.close()
        record["log_lines_missing"] = self.log.missing
        end = time.monotonic() + RECORD_LIMIT_S
        while True:
            try:
                disk.write_json(self.folder / "exit.json", record)
                self.events.add({"type": "exit", "state": record["state"], "t": round(time.time(), 3)})
                return True
            except OSError:
                reserve.give_up(self.folder, reserve.RECORD)
                if time.monotonic() > end or not self.folder.is_dir():
                    return False
                time.sleep(0.5)


def main(arguments: list[str]) -> int:
    """Supervise the job in the folder named by the only argument. 5 when another supervisor holds it."""
    wait_for_children()
    try:
        return Supervisor(Path(arguments[0])).run()
    except BusyError as e:
        print(e, file=sys.stderr)
        return e.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
