"""What the captioning jobs run: five samples, a batch, a download. See studio.captions.batch."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.basemodels.fetching import Wanted, fetch
from studio.captions import samples as five
from studio.captions import taggers
from studio.captions.auto import Ready, parsed, ready
from studio.captions.proposals import Answer, Ask, Engine, Proposal, Record, Trouble
from studio.captions.samples import Sample, Samples
from studio.captions.store import CaptionStore
from studio.captions.workers.engine import engine_of
from studio.captions.workers.picture import content_hash
from studio.dataset.folder import look
from studio.dataset.scan import known_looks
from studio.errors import GateError, InputError
from studio.jobs.pace import Pace
from studio.project import Project, open_project
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker

PIECE, PIECE_S = 32, 5.0
"""Captions are written to the dataset in pieces of so many, or after so many seconds: what a kill leaves for the record."""
GIVE_UP_AFTER = 5
"""So many pictures failing one after the other at the start, all for one reason, mean that the rest would fail too."""


def _asked(payload: dict[str, Any]) -> tuple[Project, Ready]:
    """The project and the engine that the job was launched with. Raises GateError when it changed since."""
    project = open_project(Workspace(Path(payload["workspace"])), payload["project"])
    engine = ready(project, parsed(payload["auto"]))
    if engine.fingerprint != payload["fingerprint"]:
        raise GateError(
            "The captions were not made.",
            "The engine, or what it is asked, changed since this was started: other files, another kind or base model.",
            "Make five new samples, then start again.",
        )
    return project, engine


def _asks(project: Project, names: list[str]) -> Iterator[Ask]:
    """The pictures with the hash of their content: from the scan's index where that still fits, else from the file."""
    listing, looks = look(project.dataset_dir).pictures, known_looks(project)
    for name in names:
        path, seen = project.dataset_dir / name, looks.get(name)
        fits = seen is not None and listing.get(name) == seen[0]
        yield Ask(name, path, seen[1].sha256 if fits and seen is not None else content_hash(path))


def samples_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """Ask about the chosen pictures and keep what is said for a person to judge."""
    project, engine = _asked(payload)
    names: list[str] = payload["names"]
    items: list[Sample] = []
    record = Record.of(project, engine.fingerprint)
    worker.progress(0, len(names), "samples", f"Loading {engine.author}")
    with engine_of(engine, project, worker.sleep) as asked:
        began = time.monotonic()
        for done, answer in enumerate(asked.caption(_asks(project, names), lambda: worker.should_stop), 1):
            if isinstance(answer, Trouble):
                items.append(Sample(Proposal(answer.name, ""), trouble=f"{answer.what} {answer.why}".strip()))
            else:
                record.add(answer)
                items.append(Sample(answer))
            worker.progress(done, len(names), "samples", f"Looked at {answer.name}")
        seconds = (time.monotonic() - began) / max(1, len(items))
    if worker.should_stop:
        return {"samples": 0}
    if not any(not s.trouble for s in items):
        raise InputError(
            "No sample could be made.",
            items[0].trouble if items else "There is no picture.",
            "Mend that, then make five samples again.",
        )
    order = {n: i for i, n in enumerate(names)}
    items.sort(key=lambda s: order.get(s.name, 0))
    five.save(
        project,
        Samples(
            engine.fingerprint,
            tuple(items),
            round(seconds, 4),
            engine.author,
            files.now(),
            len(names),
            engine.settings,
        ),
    )
    return {"samples": len(items), "device": getattr(asked, "device", "")}


def batch_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """Caption the pictures that the engine was not asked about yet, and write all answers."""
    project, engine = _asked(payload)
    reviewed = five.require(project, engine)
    return _Batch(worker, project, engine, payload["names"]).run(reviewed.examples)


class _Batch:
    """One batch at work: what is known already, what is made now, what was written and what went wrong."""

    def __init__(self, worker: Worker, project: Project, engine: Ready, names: list[str]) -> None:
        self._worker, self._project, self._engine, self._names = worker, project, engine, names
        self._record = Record.of(project, engine.fingerprint)
        self._store = CaptionStore(project)
        self._waiting: dict[str, str] = {}
        self._flushed = time.monotonic()
        self._counts: Counter[str] = Counter()
        self._troubles: list[Trouble] = []
        self._done = 0
        self._pace: Pace | None = None  # of asking alone: what is on record already takes no time

    def run(self, examples: tuple[str, ...]) -> dict[str, Any]:
        began = time.monotonic()
        todo: list[Ask] = []
        for ask in _asks(self._project, self._names):
            known = self._record.known(ask)
            if known is None:
                todo.append(ask)
            else:
                self._take(known)
            if self._worker.should_stop:
                break
        known_count = self._done
        if todo and not self._worker.should_stop:
            self._say(f"Loading {self._engine.author}")
            with engine_of(self._engine, self._project, self._worker.sleep, examples) as asked:
                self._worker.emit("engine", name=self._engine.author, device=getattr(asked, "device", ""))
                self._ask(asked, todo)
        self._flush()
        return {
            "asked": self._done - known_count, "from_record": known_count, "written": self._counts["written"],
            "kept": self._counts["kept"], "there": self._counts["there"], "gone": self._counts["gone"],
            "errors": [t.as_dict() for t in self._troubles], "seconds": round(time.monotonic() - began, 1),
            "left": len(self._names) - self._done,
        }  # fmt: skip

    def _ask(self, asked: Engine, todo: list[Ask]) -> None:
        good = 0
        self._pace = Pace()
        self._left()
        for answer in asked.caption(todo, lambda: self._worker.should_stop):
            if isinstance(answer, Proposal):
                good += 1
                self._record.add(answer)
            self._take(answer)
            if not good and len(self._troubles) >= GIVE_UP_AFTER:
                reasons = {(t.why, t.fix) for t in self._troubles}
                if len(reasons) == 1:
                    self._flush()
                    first = self._troubles[0]
                    raise InputError(
                        f"The first {len(self._troubles)} pictures all failed. {first.what}",
                        first.why,
                        first.fix,
                    )

    def _take(self, answer: Answer) -> None:
        self._done += 1
        if isinstance(answer, Trouble):
            self._troubles.append(answer)
            self._worker.emit("trouble", **answer.as_dict())
            print(f"{answer.what} {answer.why}", flush=True)
        else:
            self._waiting[answer.name] = answer.caption
        if len(self._waiting) >= PIECE or time.monotonic() - self._flushed > PIECE_S:
            self._flush()
        self._say(answer.name)

    def _flush(self) -> None:
        """Write what waits. The store leaves alone what a person wrote meanwhile."""
        self._flushed = time.monotonic()
        if not self._waiting:
            return
        auto, job = self._engine.auto, self._worker.folder.name
        done = self._store.write_machine(
            self._waiting, self._engine.author, self._engine.settings, auto.mode,
            also=auto.also, what=f"captions by {self._engine.author}", group=job,
        )  # fmt: skip
        self._counts.update(
            written=len(done.changed), kept=len(done.kept), there=len(done.there), gone=len(done.skipped)
        )
        self._waiting = {}

    def _say(self, message: str) -> None:
        wrong = len(self._troubles)
        self._worker.progress(
            self._done, len(self._names), "pictures", message,
            written=self._counts["written"], errors=wrong, **self._left(),
        )  # fmt: skip

    def _left(self) -> dict[str, Any]:
        """What is told of the time left: nothing before the engine has answered."""
        left = None
        if self._pace is not None:
            left = self._pace.eta(time.monotonic(), self._done, len(self._names), "pictures")
        if self._pace is None or left is None:
            return {"eta_seconds": math.nan}
        return {"eta_seconds": round(left, 1), "eta_between": self._pace.span(left)}


def download_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """Fetch a tagger's files into the workspace; each takes its name only when its hash is right."""
    import os

    workspace = Workspace(Path(payload["workspace"]))
    entry = taggers.entry(payload["tagger"])
    folder, before = entry.folder(workspace), 0
    token = os.environ.get("HF_TOKEN", "")
    headers = {"authorization": f"Bearer {token}"} if token and payload["hub"] == taggers.HUB else None
    for name, file in sorted(entry.files.items(), key=lambda f: f[1].bytes):
        wanted = Wanted(entry.url(name, payload["hub"]), folder / name, file.bytes, file.sha256, headers)
        fetch(worker, wanted, before, entry.size_bytes, payload["allow"])
        before += file.bytes
    found = taggers.check_folder(folder)
    return {"folder": str(folder), "tags": len(found.tags), "bytes": entry.size_bytes}
