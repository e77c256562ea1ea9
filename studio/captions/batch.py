"""Captioning as jobs: five samples, the rest, and the download of a tagger. The only place from which they are launched.

A batch is refused unless the samples were reviewed (studio.captions.samples); the job asks again before it begins, with
the settings that were frozen into it. What it writes goes through the caption store, which keeps a person's words, as
edits of one group: one undo takes the whole batch back.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio import files, secrets
from studio.captions import samples as five
from studio.captions import taggers
from studio.captions.auto import AutoSettings, Ready, load, ready
from studio.captions.recaption import RecaptionPlan, plan_recaption
from studio.captions.store import CaptionStore
from studio.dataset.folder import look
from studio.errors import BusyError, InputError, NotFoundError
from studio.files import human_time
from studio.jobs import locks
from studio.jobs.job import Job, list_jobs
from studio.jobs.launch import launch_call

if TYPE_CHECKING:
    from studio.project import Project
    from studio.workspace import Workspace

SAMPLES, BATCH, DOWNLOAD = "caption-samples", "captions", "tagger-download"
_WORKER = "studio.captions.workers.work"
ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1"}
"""Pictures are prepared by a thread a core: threads of numpy's own would only stand in each other's way."""


@dataclass(frozen=True)
class BatchPlan:
    """What a batch would do now. names: the pictures it is about; plan: which are written, kept, there already;
    seconds: a forecast from how long the samples took, 0 when they were not made."""

    names: tuple[str, ...]
    plan: RecaptionPlan
    seconds: float

    @property
    def label(self) -> str:
        """The words of the button: "Write 43 captions · about 2 min"."""
        count = len(self.plan.write)
        words = f"Write {count} caption{'' if count == 1 else 's'}"
        return f"{words} · about {human_time(self.seconds)}" if self.seconds and count else words


def pictures(project: Project, names: Sequence[str] | None = None) -> list[str]:
    """The pictures that are meant: those named, else all. Raises NotFoundError, InputError when there are none."""
    every = look(project.dataset_dir).pictures
    if not every:
        raise InputError(
            "There are no pictures yet.",
            "Captions describe pictures.",
            "Import pictures on the dataset page.",
        )
    if names is None:
        return list(every)
    missing = [n for n in names if n not in every]
    if missing:
        raise NotFoundError(
            f"There is no picture called '{missing[0]}' in this project.",
            f"{len(missing)} of the {len(names)} named are not there.",
            "The dataset page shows the names.",
        )
    return list(dict.fromkeys(names))


def plan(project: Project, engine: Ready, names: Sequence[str] | None = None) -> BatchPlan:
    """What a batch would do now; writes nothing."""
    chosen = pictures(project, names)
    auto = engine.auto
    found = plan_recaption(
        CaptionStore(project), chosen, auto.mode, engine.author, engine.settings, auto.also
    )
    made = five.load(project)
    each = made.seconds if made is not None and made.fingerprint == engine.fingerprint else 0.0
    return BatchPlan(tuple(chosen), found, each * len(found.write))


def start_samples(project: Project, auto: AutoSettings | None = None) -> Job:
    """Caption five pictures that differ, for a person to look at; nothing is written into the dataset.

    Pictures that a batch would write come first. Raises InputError when the engine cannot be asked, BusyError.
    """
    engine = ready(project, auto or load(project))
    every = pictures(project)
    writable = plan(project, engine).plan.write
    old = five.load(project)
    avoid = [s.name for s in old.items] if old is not None and old.fingerprint == engine.fingerprint else []
    wanted = min(five.COUNT, len(every))
    chosen = five.choose(project, list(writable), wanted, avoid)
    if len(chosen) < wanted:
        rest = [n for n in every if n not in set(chosen)]
        chosen += five.choose(project, rest, wanted - len(chosen), avoid)
    with _only_one(project):
        return _start(project, engine, SAMPLES, "Five samples", "samples_job", {"names": chosen})


def start_batch(
    project: Project, names: Sequence[str] | None = None, auto: AutoSettings | None = None
) -> Job:
    """Caption the pictures (all, or those named) with the reviewed engine.

    Goes on where an earlier batch with the same settings was stopped: its answers are on record.
    Raises GateError unless the samples were reviewed, InputError when there is nothing to write, BusyError.
    """
    engine = ready(project, auto or load(project))
    five.require(project, engine)
    todo = plan(project, engine, names).plan
    if not todo.write:
        raise InputError(
            "There is no caption to write.",
            todo.words,
            "Choose another way of treating captions that are there, or leave them as they are.",
        )
    with _only_one(project):
        title = f"{len(todo.write)} captions by {engine.author}"
        job = _start(project, engine, BATCH, title, "batch_job", {"names": list(todo.write)})
    project.decided("captions asked for", engine=engine.author, pictures=len(todo.write), **todo.counts)
    return job


def start_download(
    workspace: Workspace, tagger_id: str, *, hub: str = taggers.HUB, allow: Collection[str] = ()
) -> Job:
    """Download a tagger of the list; goes on where an earlier download stopped.

    allow: origins besides public https ones, for a mirror in a closed network and for tests.
    Raises NotFoundError, InputError when it is here already, BusyError while it is being downloaded.
    """
    entry = taggers.entry(tagger_id)
    if entry.is_here(workspace):
        raise InputError(
            f"{entry.title} is on this computer already.", f"It lies in {entry.folder(workspace)}.", "Use it."
        )
    running = download_of(workspace, tagger_id)
    if running is not None and running.is_alive:
        raise BusyError(f"{entry.title} is being downloaded.", "Once is enough.", "Wait until it is here.")
    free = files.free_bytes(workspace.models_dir)
    if free < entry.size_bytes * 1.05:
        raise InputError(
            f"The disk has no room for {entry.title}.",
            f"It needs {files.human_size(entry.size_bytes)}; {files.human_size(free)} are free.",
            "Free some room, or move the workspace.",
        )
    payload = {"workspace": str(workspace.root), "tagger": tagger_id, "hub": hub, "allow": list(allow)}
    folder = workspace.root / "jobs" / files.new_id(DOWNLOAD)
    title = f"Download of {entry.title}"
    with secrets.lent(workspace, secrets.HUGGING_FACE):
        return launch_call(
            folder,
            f"{_WORKER}:download_job",
            payload,
            kind=DOWNLOAD,
            title=title,
            secrets=(secrets.HUGGING_FACE,),
        )


def download_of(workspace: Workspace, tagger_id: str) -> Job | None:
    """The newest download of a tagger; None when there was none."""
    for job in list_jobs(workspace.root / "jobs"):
        raw = files.read_json(job.folder / "payload.json") or {}
        if job.raw.get("kind") == DOWNLOAD and raw.get("tagger") == tagger_id:
            return job
    return None


def last_job(project: Project, *kinds: str) -> Job | None:
    """The newest captioning job of a project: of the kinds given, else of any; None when there was none."""
    wanted = kinds or (SAMPLES, BATCH)
    for job in list_jobs(project.jobs_dir):
        if job.raw.get("kind") in wanted:
            return job
    return None


@contextmanager
def _only_one(project: Project) -> Iterator[None]:
    """One captioning job a project at a time. Raises BusyError."""
    lock = locks.take(
        project.folder / "captions" / ".auto.lock", busy="Captions are being started right now."
    )
    try:
        running = last_job(project)
        if running is not None and running.is_alive:
            raise BusyError(
                f"{running.raw.get('title')}: at work.",
                "Two engines at once would write over each other.",
                "Wait until it has ended, or stop it.",
            )
        yield
    finally:
        lock.release()


def _start(
    project: Project, engine: Ready, kind: str, title: str, function: str, payload: dict[str, Any]
) -> Job:
    payload = {
        **payload,
        "workspace": str(project.workspace.root),
        "project": project.slug,
        "auto": engine.auto.model_dump(mode="json"),
        "fingerprint": engine.fingerprint,
    }
    with secrets.lent(project.workspace, *engine.secrets):
        return launch_call(
            project.jobs_dir / files.new_id(kind), f"{_WORKER}:{function}", payload,
            kind=kind, title=title, project=project.slug, secrets=engine.secrets, env=ENVIRONMENT,
        )  # fmt: skip
