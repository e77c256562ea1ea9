"""Setting pictures aside: out of the dataset, with their captions, and back again. Nothing is deleted.

`<project>/set_aside/list.json` says what lies there and why. It is written before a picture moves, so that a process
that dies half-way leaves a state from which the next call goes on.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio import files
from studio.dataset.derived import copies_size, forget
from studio.dataset.folder import caption_path, captions_lock, dataset_lock, look, stem_of, wrote
from studio.dataset.formats import same_stem
from studio.dataset.unchanged import Unchanged
from studio.errors import BusyError, EnvironmentalError, NotFoundError

if TYPE_CHECKING:
    from studio.project import Project


@dataclass(frozen=True)
class SetAside:
    """One picture that was set aside.

    name: its name in the dataset.  file: its name in the set-aside folder, which is the name to restore it by.
    reason: why, in words.  at: when.  path: where it lies.
    """

    name: str
    file: str
    reason: str
    at: str
    path: Path


def set_aside_list(project: Project) -> list[SetAside]:
    """What was set aside, newest first."""
    folder = project.set_aside_dir
    there, notes = look(folder).pictures, _known_notes.of(folder / "list.json")
    have = _listed.get(folder)
    if have is None or have[0] is not there or have[1] is not notes:  # a page asks several times
        while len(_listed) >= _LISTED:
            _listed.pop(next(iter(_listed)), None)
        have = _listed[folder] = (there, notes, _list(folder, there, notes))
    return list(have[2])


_LISTED = 16
_listed: dict[Path, tuple[object, object, list[SetAside]]] = {}


def _list(folder: Path, there: Collection[str], notes: Iterable[Mapping[str, str]]) -> list[SetAside]:
    found = [
        SetAside(n["name"], n["file"], n["reason"], n["at"], folder / n["file"]) for n in notes if n["file"] in there
    ]  # fmt: skip
    known = {s.file for s in found}
    for name in there:  # put there by hand
        if name not in known:
            found.append(SetAside(name, name, "", "", folder / name))
    return sorted(found, key=lambda s: s.at, reverse=True)


def remove_pictures(project: Project, names: Iterable[str], reason: str = "") -> list[str]:
    """Set pictures aside, with their captions; the names of those moved. Undone by `restore_pictures`.

    Raises NotFoundError when one does not exist (nothing is moved then), BusyError, EnvironmentalError.
    """
    names = list(dict.fromkeys(names))
    with dataset_lock(project), captions_lock(project):
        _settle(project)
        there = look(project.dataset_dir).pictures
        missing = [n for n in names if n not in there]
        if missing:
            raise NotFoundError(
                f"There is no picture called '{missing[0]}' in this project.",
                "It was set aside, renamed or never imported.",
                "Look at the dataset page for the pictures that are there.",
            )
        if not names:
            return []
        taken = {same_stem(stem_of(n)) for n in _in_folder(project.set_aside_dir)}
        notes = _notes(project)
        moves = []
        for name in names:
            file = free_name(name, taken)
            taken.add(same_stem(stem_of(file)))
            notes.append({"name": name, "file": file, "reason": reason, "at": files.now()})
            moves.append((name, file))
        _save(project, notes)
        try:
            for name, file in moves:
                _move(project.dataset_dir, name, project.set_aside_dir, file)
        finally:
            wrote(project.dataset_dir, [f for n in names for f in (n, f"{stem_of(n)}.txt")])
    project.decided("pictures set aside", pictures=names, reason=reason)
    return names


def restore_pictures(project: Project, names: Iterable[str]) -> dict[str, str]:
    """Put pictures back that were set aside, by their name or their file in the set-aside folder.

    Returns the name that each has in the dataset now, by the name asked for; it differs when the old name is taken.
    Raises NotFoundError when one is not there (nothing is moved then).
    """
    names = list(dict.fromkeys(names))
    with dataset_lock(project), captions_lock(project):
        _settle(project)
        aside = set_aside_list(project)
        chosen: dict[str, SetAside] = {}
        for name in names:
            match = next((s for s in aside if s.file == name), None) or next(
                (s for s in aside if s.name == name), None
            )
            if match is None:
                raise NotFoundError(
                    f"'{name}' was not set aside.",
                    "It is in the dataset, or it never was.",
                    "Look at the list of pictures set aside.",
                )
            chosen[name] = match
        taken = {same_stem(stem_of(n)) for n in _in_folder(project.dataset_dir)}
        back: dict[str, str] = {}
        for name, item in chosen.items():
            target = free_name(item.name, taken)
            taken.add(same_stem(stem_of(target)))
            _move(project.set_aside_dir, item.file, project.dataset_dir, target)
            back[name] = target
        gone = {s.file for s in chosen.values()}
        _save(project, [n for n in _notes(project) if n["file"] not in gone])
    project.decided("pictures restored", pictures=list(back.values()))
    return back


def discard(project: Project, names: Iterable[str] | None = None) -> tuple[list[str], int]:
    """Delete pictures that were set aside, with their captions, for good; by their file in the set-aside folder, or
    all of them. The files deleted, and the bytes that became free.

    Imported copies that only such a picture was made from go with it. Raises NotFoundError when one is not there
    (nothing is deleted then), BusyError, EnvironmentalError.
    """
    with dataset_lock(project), captions_lock(project):
        _settle(project)
        aside = {s.file: s for s in set_aside_list(project)}
        wanted = list(aside) if names is None else list(dict.fromkeys(names))
        missing = [n for n in wanted if n not in aside]
        if missing:
            raise NotFoundError(
                f"'{missing[0]}' was not set aside.",
                "It is in the dataset, or it was deleted before.",
                "Look at the list of pictures set aside.",
            )
        freed, contents = 0, set()
        try:
            for file in wanted:
                path = aside[file].path
                contents.add(files.sha256_file(path))
                caption = caption_path(project.set_aside_dir, file)
                freed += path.stat().st_size
                path.unlink()
                caption.unlink(missing_ok=True)
        except OSError as e:
            raise EnvironmentalError(
                "A picture could not be deleted.",
                f"The computer answered: {e.strerror or e}.",
                f"Check that you may write in {project.set_aside_dir}, then try again.",
            ) from e
        _save(project, [n for n in _notes(project) if n["file"] not in wanted])
        freed += forget(project, contents)
    if wanted:
        project.decided("set-aside pictures deleted", pictures=wanted)
    return wanted, freed


def room_taken(project: Project) -> int:
    """Bytes of all pictures that are set aside, with the imported copies behind them: what `discard` makes free."""
    aside = [s for s in set_aside_list(project) if s.path.is_file()]
    return sum(s.path.stat().st_size for s in aside) + copies_size(project, {s.name: s.path for s in aside})


def settle(project: Project) -> None:
    """Finish what a killed process left half-moved, unless somebody is moving pictures right now. Costs a look at two
    files when there is nothing to do and nothing changed."""
    notes = _known_notes.of(project.set_aside_dir / "list.json")
    if not notes or look(project.set_aside_dir).pictures.keys() >= {n["file"] for n in notes}:
        return
    with suppress(BusyError), dataset_lock(project, 0.05), captions_lock(project, 0.05):
        _settle(project)


def free_name(name: str, taken: set[str]) -> str:
    """`name`, or `name-2`, `name-3` ..., such that its stem is not among `taken` (keys made by `same_stem`)."""
    stem, suffix = os.path.splitext(name)
    candidate, n = stem, 2
    while same_stem(candidate) in taken:
        candidate, n = f"{stem}-{n}", n + 1
    return candidate + suffix


def _in_folder(folder: Path) -> list[str]:
    """Names whose stems are in use: pictures, and captions that lost their picture."""
    listing = look(folder)
    return [*listing.pictures, *(f"{s}.txt" for s in listing.captions)]


def _read_notes(path: Path) -> list[dict[str, str]]:
    keys = ("name", "file", "reason", "at")
    raw = files.read_json(path) or []
    return [{k: str(n.get(k, "")) for k in keys} for n in raw if isinstance(n, dict) and n.get("file")]


_known_notes: Unchanged[list[dict[str, str]]] = Unchanged(_read_notes, [])


def _notes(project: Project) -> list[dict[str, str]]:
    return list(_known_notes.of(project.set_aside_dir / "list.json"))


def _save(project: Project, notes: list[dict[str, str]]) -> None:
    files.write_json(project.set_aside_dir / "list.json", notes)


def _move(from_folder: Path, name: str, to_folder: Path, target: str) -> None:
    """Move a picture's caption, then the picture: as long as the picture is there, so is the work to be done."""
    try:
        caption = caption_path(from_folder, name)
        if caption.is_file():
            os.replace(caption, caption_path(to_folder, target))
        os.replace(from_folder / name, to_folder / target)
    except OSError as e:
        raise EnvironmentalError(
            f"{name} could not be moved.",
            f"The computer answered: {e.strerror or e}.",
            f"Close programs that have it open, and check that you may write in {to_folder}.",
        ) from e


def _settle(project: Project) -> None:
    """Finish a move that was interrupted between a caption and its picture: the picture decides where both belong."""
    notes, kept = _notes(project), []
    pictures = look(project.dataset_dir).pictures
    for note in notes:
        aside, there = project.set_aside_dir / note["file"], project.dataset_dir / note["name"]
        stray, home = (
            caption_path(project.set_aside_dir, note["file"]),
            caption_path(project.dataset_dir, note["name"]),
        )
        if aside.is_file():
            kept.append(note)
            if (
                not stray.exists()
                and home.is_file()
                and not any(stem_of(n) == stem_of(note["name"]) for n in pictures)
            ):
                os.replace(home, stray)
            continue
        if there.is_file() and stray.is_file() and not home.exists():
            os.replace(stray, home)
    if len(kept) != len(notes):
        _save(project, kept)
