"""When a picture is called otherwise: what is known under its name goes along, whatever moment a process dies at."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from studio import files
from studio.captions.store import CaptionStore
from studio.dataset import origins
from studio.dataset.folder import caption_path, captions_lock, dataset_lock
from studio.errors import BusyError, InputError

if TYPE_CHECKING:
    from pathlib import Path

    from studio.project import Project


def carry_along(project: Project, names: Mapping[str, str]) -> None:
    """Pictures are called otherwise now (old name -> new name). Their captions' author, approval and history, their
    own repeats and the mark as regularisation pictures go along; the caption file itself is moved by the caller.

    Told twice it does nothing, so that whoever finishes the work of a killed process may tell it again. Needs the
    dataset lock. Raises BusyError, EnvironmentalError.
    """
    if names:
        origins.renamed(project, names)
        CaptionStore(project).renamed(names)


def rename_pictures(project: Project, names: Mapping[str, str]) -> None:
    """Call pictures of the dataset otherwise (old name -> new name, which is free); each takes a copy of its caption.

    What is about to happen is written down first; `settle` finishes it after a kill. Needs the dataset and the
    captions lock. Raises EnvironmentalError, OSError when the disk refuses; then too `settle` goes on.
    """
    if names:
        files.write_json(_plan(project), dict(names))
        _carry_out(project, names)


def settle(project: Project) -> None:
    """Finish what a killed process left half renamed, unless somebody is changing pictures right now. Costs a look at
    one file when there is nothing to do."""
    if not _plan(project).is_file():
        return
    with suppress(BusyError, OSError), dataset_lock(project, 0.05), captions_lock(project, 0.05):
        try:
            names = files.read_json(_plan(project))
        except InputError:  # written by hand: nothing can be told from it
            names = None
        _carry_out(project, {str(a): str(b) for a, b in names.items()} if isinstance(names, dict) else {})


def _plan(project: Project) -> Path:
    return project.folder / "renaming.json"


def _carry_out(project: Project, names: Mapping[str, str]) -> None:
    """Each file, then what is known, then the plan itself goes. Begun again at any point it comes to the same end."""
    folder = project.dataset_dir
    for old, new in names.items():
        if (folder / old).is_file() and not (folder / new).exists():
            if caption_path(folder, old).is_file():
                files.copy_atomic(caption_path(folder, old), caption_path(folder, new))
            (folder / old).rename(folder / new)
    carry_along(
        project, {a: b for a, b in names.items() if (folder / b).is_file() and not (folder / a).exists()}
    )
    _plan(project).unlink(missing_ok=True)
