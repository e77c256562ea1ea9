"""A job as the disk tells it: what was asked, whether it lives, how far it is, how it ended.

Every property reads the folder anew and holds no state, so that two tabs, the command line and a restarted server
see the same. Reading is cheap: a state costs a few small files, a progress one, whatever the length of the run.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import EnvironmentalError, NotFoundError
from studio.jobs import disk, locks, reserve
from studio.jobs.spec import ALIVE, STATE_WORDS, JobSpec, Progress, State
from studio.workspace import Workspace

__all__ = [
    "ALIVE",
    "STATE_WORDS",
    "Job",
    "JobSpec",
    "Progress",
    "State",
    "active_jobs",
    "all_jobs",
    "list_jobs",
    "open_job",
]


@dataclass(frozen=True)
class Job:
    """The job in `folder`. Making the object reads nothing; `open_job` checks that there is one."""

    folder: Path

    def _file(self, name: str) -> dict[str, Any] | None:
        return disk.read_json(self.folder / name)

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def raw(self) -> dict[str, Any]:
        """Content of job.json. Raises NotFoundError when there is none."""
        found = self._file("job.json")
        if found is None:
            raise NotFoundError(
                f"There is no job in '{self.folder.name}'.",
                f"{self.folder} holds no readable job.json.",
                "See `lora-studio jobs` for those that exist.",
            )
        return found

    @property
    def spec(self) -> JobSpec:
        return JobSpec.from_dict(self.raw)

    @property
    def attempt(self) -> int:
        """Number of the present or last attempt, from 1."""
        return _number((self._file("job.json") or {}).get("attempt"))

    @property
    def created(self) -> str:
        """When it was first launched, ISO 8601 in UTC."""
        return str(self.raw.get("created", ""))

    @property
    def attempts(self) -> list[dict[str, Any]]:
        """How the earlier attempts ended, oldest first, in the shape of `exit`."""
        return files.read_jsonl(self.folder / "attempts.jsonl")[0]

    # --- Life

    def _of_this_attempt(self, name: str) -> dict[str, Any] | None:
        found = self._file(name)
        return found if found is not None and _number(found.get("attempt")) == self.attempt else None

    def _recorded(self) -> dict[str, Any] | None:
        return self._of_this_attempt("exit.json")

    def _living(self) -> State | None:
        # The order matters: the launcher lets go of its lock only after the supervisor has taken its own, and the
        # supervisor lets go only after the exit record lies on disk.
        if locks.held(self.folder / "launch.lock"):
            return "starting"
        if locks.held(self.folder / "lock"):
            if (self.folder / "stop").exists():
                return "stopping"
            return "running" if self._of_this_attempt("process.json") else "starting"
        # The supervisor was killed: the worker has noticed, and saves before it goes.
        return "stopping" if locks.held(self.folder / "worker.lock") else None

    @property
    def state(self) -> State:
        """Where the job stands; "interrupted" when nobody holds its locks and no end was recorded."""
        for _ in range(2):
            record = self._recorded()
            if record is not None:
                return _known_state(record.get("state"))
            living = self._living()
            if living is not None:
                return living
            # It may have ended, or been launched again, between the two looks.
        return self._unrecorded_end()["state"]  # type: ignore[no-any-return]

    def _unrecorded_end(self) -> dict[str, Any]:
        """What can be said when the supervisor was killed before it could record the end."""
        record = self._recorded()
        if record is not None:
            return record
        base: dict[str, Any] = {
            "attempt": self.attempt, "code": None, "signal": None, "forced": False, "ended_at": None,
            "result": None, "error": None,
        }  # fmt: skip
        result = self._of_this_attempt("result.json")
        if result is not None:
            state = "finished" if result.get("complete") else "interrupted"
            base.update(result=result.get("result"), ended_at=result.get("at"))
            return {**base, "state": state, "error": INTERRUPTED if state == "interrupted" else None}
        error = self._of_this_attempt("error.json")
        if error is not None:
            return {**base, "state": "failed", "error": error.get("error"), "ended_at": error.get("at")}
        return {**base, "state": "interrupted", "error": INTERRUPTED}

    @property
    def is_alive(self) -> bool:
        """Whether any process of this job lives (also one that is only saving its work)."""
        return self.state in ALIVE

    @property
    def exit(self) -> dict[str, Any] | None:
        """How it ended, or None while it lives.

        Keys: attempt, state, code, signal (name, such as "SIGKILL"), forced (ended by force after the grace),
        started_at, ended_at, seconds, error (what/why/fix/findings) or None, result (what the worker handed over).
        """
        record = self._recorded()
        if record is not None:
            return record
        return None if self.is_alive else self._unrecorded_end()

    @property
    def error(self) -> dict[str, Any] | None:
        """What went wrong, as {"error", "what", "why", "fix", "findings"}; None while alive or when nothing did."""
        ended = self.exit
        found = ended.get("error") if ended else None
        return found if isinstance(found, dict) else None

    @property
    def result(self) -> Any:
        """What the worker handed over with `finish`; None before."""
        ended = self.exit
        return ended.get("result") if ended else None

    # --- What it says

    def events(self, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
        """Events from byte `offset` on, and the offset to go on from; asks the disk only for what is new."""
        path = self.folder / "events.jsonl"
        with suppress(OSError):
            if path.stat().st_size < offset:
                offset = 0
        return files.read_jsonl(path, offset)

    @property
    def progress(self) -> Progress:
        """The newest progress of this attempt; an empty one before the first. One small file, whatever the run's length."""
        raw = self._of_this_attempt("progress.json") or {}
        known = {f.name for f in fields(Progress)}
        values = {k: v for k, v in raw.items() if k in known and v is not None}
        try:
            return Progress(**values)
        except TypeError:
            return Progress()

    def log_tail(self, n_bytes: int = 16_384) -> str:
        """The end of the log, at most `n_bytes`, from the start of a line; costs the same for any size of log."""
        rest = n_bytes
        parts: list[bytes] = []
        whole = True
        for name in ("log.txt", "log.old.txt", "log.head.txt"):
            if rest <= 0:
                break
            try:
                with (self.folder / name).open("rb") as f:
                    size = f.seek(0, os.SEEK_END)
                    f.seek(max(0, size - rest))
                    piece = f.read(rest)
            except OSError:
                continue
            whole = size <= rest
            parts.insert(0, piece)
            rest -= len(piece)
        data = b"".join(parts)
        if not whole and b"\n" in data:
            data = data[data.index(b"\n") + 1 :]
        return data.decode("utf-8", "replace")

    # --- What one can do

    def stop(self, *, now: bool = False) -> bool:
        """Ask the job to stop: it saves and ends, within its grace. `now` skips the grace.

        False when it is not running. Asking twice does no harm.
        """
        if not self.is_alive:
            return False
        try:
            self._raise_flag("now\n" if now else "")
        except OSError:
            # The disk is full, perhaps because of this job: the room kept for its last words must do.
            reserve.give_up(self.folder, reserve.STOP)
            try:
                self._raise_flag("now\n" if now else "")
            except OSError as e:
                raise EnvironmentalError(
                    f"'{self.id}' could not be asked to stop.",
                    f"The computer answered: {e.strerror or e}.",
                    f"Free some room on the disk of {self.folder}, or check that you may write there.",
                ) from e
        return True

    def _raise_flag(self, content: str) -> None:
        with (self.folder / "stop").open("a") as f:
            f.write(content)

    def wait(self, timeout: float | None = None) -> State:
        """Wait until it has ended; the state then, or the present one when `timeout` seconds are over."""
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.02
        while (state := self.state) in ALIVE and (end is None or time.monotonic() < end):
            time.sleep(pause)
            pause = min(pause * 1.3, 0.25)
        return state

    def summary(self) -> dict[str, Any]:
        """The job as plain data, for lists and `--json`."""
        raw, state = self.raw, self.state
        return {
            "id": self.id,
            "kind": raw.get("kind", ""),
            "title": raw.get("title", ""),
            "project": raw.get("project"),
            "state": state,
            "attempt": self.attempt,
            "created": self.created,
            "folder": str(self.folder),
            "progress": asdict(self.progress),
            "error": None if state in ALIVE else self.error,
        }


INTERRUPTED: dict[str, Any] = {
    "error": "Interrupted",
    "what": "The job was interrupted.",
    "why": "The computer was switched off, or the job's process was ended from outside, before it could finish.",
    "fix": "Start it again; what was saved before is kept.",
    "findings": [],
}


def _number(value: Any) -> int:
    return value if isinstance(value, int) and value > 0 else 1


def _known_state(value: Any) -> State:
    return value if value in STATE_WORDS else "failed"


def open_job(folder: Path) -> Job:
    """The job in `folder`. Raises NotFoundError when there is none."""
    job = Job(folder)
    _ = job.raw
    return job


def _job_folders(parent: Path) -> Iterator[Path]:
    try:
        entries = list(os.scandir(parent))
    except OSError:
        return
    for entry in entries:
        path = Path(entry.path)
        if (path / "job.json").is_file():
            yield path


def list_jobs(folder: Path) -> list[Job]:
    """Jobs directly below `folder`, newest first; none when there is no such folder."""
    found = [(disk.read_json(p / "job.json"), p) for p in _job_folders(folder)]
    readable = [(_order(r), str(r.get("created", "")), p.name, p) for r, p in found if r is not None]
    return [Job(p) for *_, p in sorted(readable, reverse=True)]


def next_order(folder: Path) -> int:
    """The number of the next job launched below `folder`: after the clock was set back, times no longer tell which is newer."""
    return max((_order(disk.read_json(p / "job.json") or {}) for p in _job_folders(folder)), default=0) + 1


def _order(raw: dict[str, Any]) -> int:
    value = raw.get("order")
    return value if isinstance(value, int) else 0


def all_jobs(workspace: Workspace) -> list[Job]:
    """Every job of the workspace, newest first."""
    places = [workspace.root / "jobs"]
    for slug in workspace.project_slugs():
        places += [workspace.projects_dir / slug / n for n in ("runs", "grids", "jobs")]
    jobs = [j for p in places for j in list_jobs(p)]
    return sorted(jobs, key=lambda j: (j.created, j.id), reverse=True)


def active_jobs(workspace: Workspace) -> list[Job]:
    """Jobs of all projects that live now, newest first. Cheap: an ended job costs one look at its folder."""
    places = [workspace.root / "jobs"]
    for slug in workspace.project_slugs():
        places += [workspace.projects_dir / slug / n for n in ("runs", "grids", "jobs")]
    jobs = []
    for place in places:
        for folder in _job_folders(place):
            # A launch removes the old exit record first, so one that is there belongs to an attempt that is over.
            if not (folder / "exit.json").exists() and Job(folder).is_alive:
                jobs.append(Job(folder))
    return sorted(jobs, key=lambda j: (j.created, j.id), reverse=True)


def moment() -> str:
    """The present moment with milliseconds, so that jobs launched in one second keep their order."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")
