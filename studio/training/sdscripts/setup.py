"""Starting an installation or a check of sd-scripts as a job: what the Set-up page and `setup sd-scripts` both call."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from studio import files
from studio.errors import BusyError, EnvironmentalError, InputError
from studio.jobs import locks
from studio.jobs.job import Job
from studio.jobs.launch import launch_call
from studio.machine import detect
from studio.training.sdscripts import builds, install, versions
from studio.training.sdscripts.commands import Order, order
from studio.workspace import Workspace

_JOB = "studio.training.sdscripts.installing"
_NO_INDEX = ("pypi", "pip", "none")


def prepare(
    workspace: Workspace,
    *,
    source: str = "",
    commit: str = "",
    torch: str = "",
    torchvision: str = "",
    torch_index: str = "",
    python: Path | None = None,
    wheels: Path | None = None,
    offline: bool = False,
) -> Order:
    """What an installation would do on this computer; nothing is changed.

    torch: empty for the build that fits the graphics card, a build's id (`cu124`, `cpu`), or a version, which then needs
    `torchvision`. torch_index: an https address, or `pypi` for pip's own. wheels: a folder of packages; offline: nothing but
    that. Raises InputError, EnvironmentalError.
    """
    index = "" if torch_index.lower() in _NO_INDEX else torch_index
    if torch and torch[:1].isdigit():
        if not torchvision:
            raise InputError(
                "The version of torchvision is missing.",
                "Each PyTorch goes with one torchvision; another one stops at the first import.",
                "Add --torchvision, such as 0.21.0 for PyTorch 2.6.0 or 0.23.0 for 2.8.0.",
            )
        build = builds.custom(torch, torchvision, index)
    else:
        if torchvision:
            raise InputError(
                "--torchvision goes with a version of PyTorch.",
                "The named builds bring their own.",
                "Add --torch VERSION, or leave --torchvision out.",
            )
        build = builds.named(torch) if torch else builds.choose(detect())
        if torch_index:
            build = builds.with_index(build, index)
    if offline and wheels is None:
        raise InputError(
            "Without the internet, a folder of packages is needed.",
            "pip has to take them from somewhere.",
            "Name the folder that holds the .whl files (--wheels); `pip download` fills one on another computer.",
        )
    # What was typed is checked before any interpreter is asked.
    wanted = order(workspace, build, Path(), source=source, commit=commit, wheels=wheels, offline=offline)
    return replace(wanted, python=builds.find_python(python).path)


def start(workspace: Workspace, wanted: Order) -> Job:
    """Start the installation; it goes on where an earlier try of the same version stopped.

    Raises BusyError while one is going on, EnvironmentalError without git or without room on the disk.
    """
    versions.root(workspace).mkdir(parents=True, exist_ok=True)
    lock = locks.take(
        versions.root(workspace) / ".starting.lock", busy="sd-scripts is being installed right now."
    )
    try:
        _refuse_busy(workspace)
        if wanted.how == "git" and shutil.which("git") is None:
            raise EnvironmentalError(
                "git is not installed.",
                "It fetches sd-scripts.",
                "Install it (git-scm.com, or: sudo apt install git), or give a folder with --source.",
            )
        _refuse_full(workspace, wanted)
        versions.refuse_while_training(workspace, wanted.folder)
        used = install.current(workspace)
        if (
            used is not None
            and used.source == wanted.folder / "source"
            and versions.status(workspace).state == "ready"
        ):
            _refuse_same(wanted)
        return launch_call(
            workspace.root / "jobs" / files.new_id(versions.KIND),
            f"{_JOB}:install_job",
            {"workspace": str(workspace.root), "order": wanted.as_dict()},
            kind=versions.KIND,
            title="Installing sd-scripts",
            stop_grace_s=30.0,
        )
    finally:
        lock.release()


def start_check(workspace: Workspace) -> Job:
    """Start a check of the one in use: its scripts are imported by its own Python. Raises EnvironmentalError, BusyError."""
    install.needed(workspace)
    _refuse_busy(workspace)
    return launch_call(
        workspace.root / "jobs" / files.new_id(versions.KIND),
        f"{_JOB}:check_job",
        {"workspace": str(workspace.root)},
        kind=versions.KIND,
        title="Trying sd-scripts",
        stop_grace_s=20.0,
    )


def _refuse_busy(workspace: Workspace) -> None:
    if versions.running(workspace) is not None:
        raise BusyError(
            "sd-scripts is being installed or checked.",
            "Two at once would write into each other's files.",
            "Wait until it has ended, or stop it.",
        )


def _refuse_same(wanted: Order) -> None:
    raise InputError(
        f"Version {wanted.folder.name} is installed and in use.",
        "There is nothing to do.",
        "Check it with `lora-studio setup sd-scripts check`; for another PyTorch add --torch.",
    )


def _refuse_full(workspace: Workspace, wanted: Order) -> None:
    have = files.folder_size(wanted.folder) if (wanted.folder / "venv").is_dir() else 0
    need, free = max(0, wanted.build.room - have), files.free_bytes(workspace.root)
    if free < need:
        raise EnvironmentalError(
            "The disk has no room for sd-scripts.",
            f"It needs about {files.human_size(need)} while it is being installed, PyTorch most of it; "
            f"{files.human_size(free)} are free.",
            f"Free some room on the disk of {workspace.root}, or move the workspace with STUDIO_HOME.",
        )
