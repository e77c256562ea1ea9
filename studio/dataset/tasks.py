"""What takes long with many pictures, as jobs: imports, looking, fixing, reading. They outlive the browser, can be
stopped, and go on where they were."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.dataset import forecast
from studio.dataset.derived import make
from studio.dataset.duplicates import compare
from studio.dataset.fixes import FIXES
from studio.dataset.folder import look
from studio.dataset.incoming import check_address, drop, import_url, incoming_dir, keep_uploads
from studio.dataset.intake import import_pictures
from studio.dataset.lettering import lettering, read_writing
from studio.dataset.scan import Scan, known_looks, scan, waiting_sizes
from studio.dataset.sources import is_there
from studio.errors import InputError
from studio.jobs.launch import launch_call, relaunch
from studio.project import open_project
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.dataset.intake import ImportReport
    from studio.jobs.job import Job
    from studio.jobs.lifeline import Worker
    from studio.project import Project

KINDS = ("import", "scan", "fix", "writing")
"""Kinds of the jobs that are started here."""


def start_import(project: Project, sources: Iterable[Path]) -> Job:
    """Import files, folders and ZIPs of this computer. The job's result is `ImportReport.as_dict()`.

    Raises InputError when no source exists, EnvironmentalError when the job cannot be started.
    """
    paths = [Path(s).expanduser() for s in sources]
    if not any(is_there(p) for p in paths):
        raise InputError(
            f"There is nothing at '{str(paths[0])[:200] if paths else ''}'.",
            "The file or folder was moved, or its name is spelled differently.",
            "Give the path of a folder, a ZIP or pictures that exist.",
        )
    paths = [p.resolve() for p in paths if is_there(p)]
    name = paths[0].name if len(paths) == 1 else f"{len(paths)} sources"
    return _start(project, "import", f"Import of {name}", "import_job", {"sources": [str(p) for p in paths]})


def start_url_import(project: Project, url: str, *, allow: Collection[str] = ()) -> Job:
    """Fetch a ZIP from an https address and import it; otherwise like `start_import`.

    Raises InputError when the address must not be fetched. allow: as for `import_url`.
    """
    url = url.strip()
    check_address(url, allow=allow)
    return _start(project, "import", "Import from the web", "url_job", {"url": url, "allow": list(allow)})


def start_upload_import(project: Project, uploads: Iterable[tuple[str, bytes]]) -> Job:
    """Import what a browser sent, as (name, content): stored first, so that nothing is lost with the page."""
    folder = keep_uploads(project, uploads)
    return _start(project, "import", "Import of your files", "import_job", {"waiting": folder.name})


def start_scan(project: Project) -> Job:
    """Look at every new or changed picture."""
    return _start(project, "scan", "Looking at the pictures", "scan_job", {})


def start_fix(project: Project, way: str, names: Iterable[str]) -> Job:
    """Convert, flatten or trim many pictures (`studio.dataset.derived.make`)."""
    return _start(project, "fix", FIXES.get(way, way), "fix_job", {"way": way, "names": list(names)})


def start_writing_check(project: Project) -> Job:
    """Look for writing and watermarks in every picture that was not read yet."""
    return _start(project, "writing", "Looking for writing", "writing_job", {})


def go_on(job: Job) -> Job:
    """Start a job of this module again where it was stopped or killed. Raises BusyError while it lives."""
    return relaunch(job)


def give_up(project: Project, job: Job) -> None:
    """Leave the rest of an import that was stopped: what waited for it is deleted, what came in stays."""
    waiting = (files.read_json(job.folder / "payload.json") or {}).get("waiting")
    if isinstance(waiting, str) and waiting:
        drop(files.inside(incoming_dir(project), waiting))
    files.write_json(job.folder / "given-up.json", {"at": files.now()})


def unfinished_import(project: Project, jobs: Iterable[Job]) -> Job | None:
    """The newest import among `jobs` (newest first), when it was stopped, killed or failed and nobody gave it up."""
    newest = next((j for j in jobs if j.spec.kind == "import"), None)
    if newest is None or newest.state not in ("stopped", "interrupted", "failed"):
        return None
    return None if (newest.folder / "given-up.json").exists() else newest


def _start(project: Project, kind: str, title: str, function: str, payload: dict[str, Any]) -> Job:
    payload = {**payload, "workspace": str(project.workspace.root), "project": project.slug}
    return launch_call(
        project.jobs_dir / files.new_id(kind),
        f"studio.dataset.tasks:{function}",
        payload,
        kind=kind,
        title=title,
        project=project.slug,
    )


def _project(payload: dict[str, Any]) -> Project:
    return open_project(Workspace(Path(payload["workspace"])), payload["project"])


def import_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the import job runs."""
    project = _project(payload)
    waiting = payload.get("waiting")
    folder = files.inside(incoming_dir(project), waiting) if waiting else None
    sources = sorted(folder.iterdir()) if folder is not None else [Path(s) for s in payload["sources"]]
    whole = _Whole(project, worker)
    report = import_pictures(
        project, sources, begins=whole.begins, progress=whole.taken_in, should_stop=whole.should_stop
    )
    if not report.stopped:
        whole.look()
        if folder is not None:
            drop(folder)
    return report.as_dict()


def url_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the import from an address runs."""
    project = _project(payload)
    whole = _Whole(project, worker)

    def fetching(done: int, total: int | None) -> None:
        worker.progress(done / 1e6, total / 1e6 if total else None, "MB", "Fetching the ZIP, step 1 of 2")

    report = import_url(
        project,
        payload["url"],
        fetching=fetching,
        begins=whole.begins,
        progress=whole.taken_in,
        should_stop=whole.should_stop,
        allow=payload.get("allow") or (),
    )
    if not report.stopped:
        whole.look()
    return report.as_dict()


class _Whole:
    """A job's steps, with one forecast for all of them."""

    def __init__(self, project: Project, worker: Worker) -> None:
        self._project, self._worker = project, worker
        self.forecast = forecast.Forecast(worker)
        self._taking: forecast.Progress = self.forecast.teller("take in")

    def should_stop(self) -> bool:
        """Whether the user wants it to end."""
        return self._worker.should_stop

    def begins(self, sizes: Sequence[int], report: ImportReport) -> None:
        """An import knows what it will take in. What lies in the dataset unseen is looked at first, so that it is read
        once and the forecast speaks of it."""
        unseen = waiting_sizes(self._project)
        there = [stamp[0] for stamp in look(self._project.dataset_dir).pictures.values()]
        there_too = look(self._project.set_aside_dir).pictures.values()
        known = {*there, *(stamp[0] for stamp in there_too)}
        each = forecast.weights(sizes, known)
        self._expect_look(unseen)
        self.forecast.expect("take in", forecast.TAKE_IN_S * sum(each))
        taking = self.forecast.teller("take in", each)
        reached, likely = 0, sum(s not in known for s in sizes) / max(1, len(sizes))

        def compared() -> float:
            added = len(report.added) / reached if reached else likely
            return forecast.comparing(len(unseen) + added * len(sizes), len(there) - len(unseen))

        def take(done: int, total: int, message: str) -> None:
            nonlocal reached
            reached = done
            taking(done, total, message)

        self.forecast.expect("list", forecast.KNOWN_S * (len(there) + likely * len(sizes)))
        self.forecast.expect("compare", compared)
        self._taking = take
        if unseen:
            scan(self._project, self.forecast.teller("look"), self.should_stop)

    def taken_in(self, done: int, total: int, message: str) -> None:
        """An import's progress."""
        self._taking(done, total, message)

    def expect_look(self, changed: int = 0) -> None:
        """Announce looking and comparing, of what was never looked at and of so many that will be changed first."""
        unseen = waiting_sizes(self._project)
        known = len(look(self._project.dataset_dir).pictures)
        self._expect_look(unseen, changed)
        new = len(unseen) + changed
        self.forecast.expect("compare", forecast.comparing(new, known - len(unseen)))

    def _expect_look(self, unseen: Sequence[int], changed: int = 0) -> None:
        self.forecast.expect("look", forecast.LOOK_S * (sum(forecast.weights(unseen)) + changed))

    def look(self, *, compared: bool = True) -> Scan:
        """Look at every new or changed picture, and compare it with the others, so that no page has to."""
        self._expect_look(waiting_sizes(self._project))
        seen = scan(self._project, self.forecast.teller("look"), self.should_stop)
        if compared and not self.should_stop():
            compare(seen, self.forecast.teller("compare"), self.should_stop)
        return seen


def scan_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the scan job runs."""
    whole = _Whole(_project(payload), worker)
    whole.expect_look()
    seen = whole.look()
    return {"pictures": len(seen), "looked_at": seen.looked_at}


def fix_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the fix job runs."""
    project, names = _project(payload), payload["names"]
    whole = _Whole(project, worker)
    whole.forecast.expect("change", forecast.CHANGE_S * len(names))
    whole.expect_look(len(names))
    done = make(
        project, names, payload["way"], progress=whole.forecast.teller("change"), should_stop=whole.should_stop
    )  # fmt: skip
    if not whole.should_stop():
        whole.look()
    return {"changed": done.changed, "left": [f.model_dump(mode="json") for f in done.left]}


def writing_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the check for writing runs."""
    project = _project(payload)
    whole = _Whole(project, worker)
    unseen = waiting_sizes(project)
    whole.forecast.expect("look", forecast.LOOK_S * sum(forecast.weights(unseen)))
    known = lettering(project.cache_dir).lines
    unread = len(unseen) + sum(seen.sha256 not in known for _, seen in known_looks(project).values())
    whole.forecast.expect("read", forecast.READ_S * unread)
    seen = whole.look(compared=False)
    return {"read": read_writing(project, seen, whole.forecast.teller("read"), whole.should_stop)}
