"""The versions of sd-scripts in the workspace, side by side, and which one is in use.

<workspace>/backends/
  sd-scripts.json              the one in use, and the one before (see install.py)
  sd-scripts/<version>/        one version: source/ (its files), venv/ (its environment), install.json (what was done)

A version is complete in itself: a run that was made with one goes on with it after an update. install.json is written
after each step, so that an installation that was cut off goes on where it was.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from studio import files
from studio.errors import BusyError, EnvironmentalError, NotFoundError
from studio.jobs import disk
from studio.jobs.job import Job, active_jobs, list_jobs
from studio.training.sdscripts import builds, install
from studio.training.sdscripts.install import Install, python_in
from studio.workspace import Workspace

KIND = "setup-sd-scripts"
STEPS = ("source", "venv", "torch", "requirements", "check")
INSTALL_LINE = "lora-studio setup sd-scripts install"

State = Literal["absent", "installing", "interrupted", "ready", "broken"]


def root(workspace: Workspace) -> Path:
    """Folder of all versions."""
    return workspace.root / "backends" / "sd-scripts"


@dataclass(frozen=True)
class Version:
    """One version in the workspace. done: the steps that are behind it; facts: what its check saw (torch, gpu ...)."""

    name: str
    folder: Path
    commit: str
    origin: str
    done: tuple[str, ...]
    in_use: bool
    at: str
    facts: dict[str, Any] = field(default_factory=dict)
    problem: dict[str, str] = field(default_factory=dict)
    size_bytes: int = 0

    @property
    def ready(self) -> bool:
        """Whether every step, the check included, went well and its files are still there."""
        return "check" in self.done and self.install is not None

    @property
    def install(self) -> Install | None:
        """How it is started; None when its files are not all there."""
        python = python_in(self.folder)
        source = self.folder / "source"
        if python is None or not (source / "train_network.py").is_file():
            return None
        return Install(source, python, self.commit)

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "folder": str(self.folder), "commit": self.commit, "origin": self.origin,
            "ready": self.ready, "in_use": self.in_use, "at": self.at, "facts": self.facts, "problem": self.problem,
            "size_bytes": self.size_bytes,
        }  # fmt: skip


def versions(workspace: Workspace) -> list[Version]:
    """All versions in the workspace, the newest first; those that are not finished included."""
    used = install.current(workspace)
    found = []
    if root(workspace).is_dir():
        for folder in root(workspace).iterdir():
            raw = _raw(folder) if folder.is_dir() else None
            if raw is None:
                continue
            found.append(
                Version(
                    folder.name, folder, str(raw.get("commit", "")), str(raw.get("origin", "")),
                    tuple(raw.get("done", ())), used is not None and used.source == folder / "source", str(raw.get("at", "")),
                    dict(raw.get("facts") or {}), dict(raw.get("problem") or {}), int(raw.get("size_bytes") or 0),
                )
            )  # fmt: skip
    return sorted(found, key=lambda v: v.at, reverse=True)


def _raw(folder: Path) -> dict[str, Any] | None:
    try:
        raw = files.read_json(folder / "install.json")
    except Exception:  # noqa: BLE001 - a damaged note is a version that is not finished
        return {}
    return raw if isinstance(raw, dict) else None


def version(workspace: Workspace, name: str) -> Version:
    """A version by its name, or by the beginning of its commit (four letters or more). Raises NotFoundError."""
    known = versions(workspace)
    fitting = [v for v in known if name in (v.name, v.commit) or (len(name) >= 4 and v.name.startswith(name))]
    if len(fitting) == 1:
        return fitting[0]
    raise NotFoundError(
        f"There is no version '{name}' of sd-scripts here."
        if not fitting
        else f"'{name}' fits several versions.",
        f"In the workspace are: {', '.join(v.name for v in known) or 'none'}.",
        "Name one of them." if known else f"Install one: {INSTALL_LINE}",
    )


def running(workspace: Workspace) -> Job | None:
    """The installation or check that is going on; None when there is none."""
    job = newest_job(workspace)
    return job if job is not None and job.is_alive else None


def newest_job(workspace: Workspace) -> Job | None:
    """The newest installation or check, also one that has ended; None when there was none."""
    for job in list_jobs(workspace.root / "jobs"):
        if job.raw.get("kind") == KIND:
            return job
    return None


@dataclass(frozen=True)
class Status:
    """Where sd-scripts stands in this workspace.

    reason, fix: why it is not ready and what to do, in words; command: the line that does it.
    update: the commit that the studio would update to; "" when the one in use is that one, or is the user's own.
    previous: commit or folder of the one to roll back to; "" when there is none.
    """

    state: State
    used: Install | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    reason: str = ""
    fix: str = ""
    command: str = ""
    own: bool = False
    update: str = ""
    previous: str = ""
    job: Job | None = None

    def as_dict(self) -> dict[str, Any]:
        return {
            "state": self.state, "installed": self.used.as_dict() if self.used else None, "facts": self.facts,
            "reason": self.reason, "fix": self.fix, "line": self.command, "own": self.own, "update": self.update,
            "previous": self.previous, "job": self.job.id if self.job else None,
        }  # fmt: skip


def status(workspace: Workspace) -> Status:
    """Where sd-scripts stands, from files alone: nothing is started, so a page may ask at every drawing."""
    at_work = running(workspace)
    used = install.current(workspace)
    note = install.note(workspace)
    own = used is not None and root(workspace) not in used.source.parents
    previous = note.get("previous") or {}
    told = str(previous.get("commit", ""))[:8] or str(previous.get("source", ""))
    if at_work is not None:
        return Status("installing", used, dict(note.get("facts") or {}), own=own, previous=told, job=at_work)
    last = newest_job(workspace)
    unfinished = next((v for v in versions(workspace) if not v.ready and not v.in_use), None)
    if used is None:
        if unfinished is None:
            return Status("absent", fix="Install it; it takes some minutes.", command=INSTALL_LINE)
        if unfinished.problem:
            return Status(
                "broken", None, unfinished.facts, unfinished.problem.get("what", "") + " " + unfinished.problem.get("why", ""),
                unfinished.problem.get("fix", ""), INSTALL_LINE, job=last,
            )  # fmt: skip
        return Status(
            "interrupted", None, {}, "The installation was cut off or stopped.", "Go on; what was downloaded is kept.",
            INSTALL_LINE, job=last,
        )  # fmt: skip
    pin = builds.recipe().commit
    update = pin if used.commit and used.commit != pin and not own else ""
    reason, fix = _broken(used, note, own)
    if reason:
        line = f'lora-studio setup sd-scripts "{used.source}"' if own else INSTALL_LINE
        return Status(
            "broken", used, dict(note.get("facts") or {}), reason, fix, line, own, update, told, last
        )
    return Status(
        "ready", used, dict(note.get("facts") or {}), own=own, update=update, previous=told, job=last
    )


def _broken(used: Install, note: dict[str, Any], own: bool) -> tuple[str, str]:
    again = "Name its folder again, or install one in the workspace." if own else "Install it again."
    if not used.source.is_dir():
        return f"Its folder {used.source} is gone.", again
    if not (used.source / "train_network.py").is_file():
        return f"{used.source} holds no train_network.py any more.", again
    if not used.python.is_file():
        return f"Its Python {used.python} is gone, or the Python that it was made with is.", again
    problem = note.get("problem") or {}
    return str(problem.get("what", "")), str(problem.get("fix", ""))


def switch(workspace: Workspace, to: Install, facts: dict[str, Any] | None = None) -> None:
    """Use another one; the one before is remembered for a roll-back."""
    install.use(workspace, to, facts)


def roll_back(workspace: Workspace) -> Install:
    """Use the one before again. Calling it twice comes back. Raises NotFoundError, BusyError, EnvironmentalError."""
    _idle(workspace)
    previous = install.note(workspace).get("previous") or {}
    if not previous.get("source"):
        raise NotFoundError(
            "There is no version to roll back to.",
            "Only one version of sd-scripts has been in use in this workspace.",
            f"Install another one beside it: {INSTALL_LINE} --commit COMMIT",
        )
    to = Install(Path(previous["source"]), Path(previous["python"]), str(previous.get("commit", "")))
    if not (to.source / "train_network.py").is_file() or not to.python.is_file():
        raise EnvironmentalError(
            "The version before is not there any more.",
            f"{to.source} or its Python is gone.",
            f"Install it again: {INSTALL_LINE}" + (f" --commit {to.commit}" if to.commit else ""),
        )
    switch(workspace, to, previous.get("facts"))
    return to


def use_version(workspace: Workspace, name: str) -> Install:
    """Use a version that is in the workspace. Raises NotFoundError, EnvironmentalError when it is not finished."""
    _idle(workspace)
    found = version(workspace, name)
    if not found.ready or found.install is None:
        raise EnvironmentalError(
            f"Version {found.name} is not finished.",
            found.problem.get("what") or "Its installation was cut off or stopped.",
            f"Go on with it: {INSTALL_LINE} --commit {found.commit or found.name}",
        )
    switch(workspace, found.install, found.facts)
    return found.install


def remove(workspace: Workspace, name: str) -> Path:
    """Move a version that is not in use to the workspace's trash; where it lies now. Raises NotFoundError, BusyError."""
    _idle(workspace)
    found = version(workspace, name)
    if found.in_use:
        raise BusyError(
            f"Version {found.name} is in use.",
            "Without it the kohya backend could not train.",
            "Roll back or use another version first; or forget it: lora-studio setup sd-scripts --forget",
        )
    refuse_while_training(workspace, found.folder)
    return workspace.to_trash(found.folder)


def refuse_while_training(workspace: Workspace, folder: Path) -> None:
    """Raise BusyError when a run or dry run is at work with the version in `folder`."""
    for job in active_jobs(workspace):
        plan = disk.read_json(job.folder / "plan.json") or {}
        source = str((plan.get("engine") or {}).get("source", ""))
        if source and Path(source) == folder / "source":
            raise BusyError(
                f"{job.spec.title} is at work with version {folder.name}.",
                "Its programs would change under it.",
                "Wait until it has ended, or stop it.",
            )


def _idle(workspace: Workspace) -> None:
    if running(workspace) is not None:
        raise BusyError(
            "sd-scripts is being installed or checked.",
            "Two at once would write into each other's files.",
            "Wait until it has ended, or stop it.",
        )


def candidates() -> list[Path]:
    """Folders of sd-scripts that lie where people usually put them, outside of the workspace; nothing is started."""
    home = Path.home()
    places = [home / "sd-scripts", home / "kohya_ss" / "sd-scripts", home / "kohya-ss" / "sd-scripts",
              home / "Documents" / "sd-scripts", home / "Documents" / "kohya_ss" / "sd-scripts", Path("C:/kohya_ss/sd-scripts")]  # fmt: skip
    return [
        p for p in places if (p / "train_network.py").is_file() and (p / "sdxl_train_network.py").is_file()
    ]
