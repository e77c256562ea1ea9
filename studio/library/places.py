"""Copies or links of a registered LoRA in the folders of ComfyUI, A1111 and Forge, with what their browsers read beside it.

<folder>/<name>.safetensors     the LoRA
<folder>/<name>.json            A1111 and Forge: activation text, preferred weight, version, notes
<folder>/<name>.preview.png     the picture that A1111, Forge and ComfyUI show

What was written is noted in `<library>/<slug>/placed.json`, so that it can be taken back later, byte for byte checked.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from studio import files
from studio.errors import EnvironmentalError, InputError, NotFoundError
from studio.library.entry import LibraryEntry
from studio.workspace import Workspace

BELOW = ("models/loras", "models/Lora")
"""Where ComfyUI, and A1111 and Forge, keep LoRAs below their own folder."""
_PREFERENCE = "lora_places"
_NOTE = "placed.json"

Action = Literal["copy", "link", "same", "taken"]
ACTION_WORDS: dict[str, str] = {
    "copy": "is copied",
    "link": "is linked: it shares the library's bytes",
    "same": "is there already",
    "taken": "is another file, and stays as it is",
}


@dataclass(frozen=True)
class Place:
    """Another program's folder for LoRAs, as the user named it once. link: share the bytes where the disk allows it."""

    name: str
    folder: Path
    link: bool = False


@dataclass(frozen=True)
class Piece:
    """One file that would be written. what: what it is for."""

    target: Path
    source: Path
    what: str
    size: int
    action: Action


@dataclass(frozen=True)
class Placed:
    """A LoRA in another program's folder. linked: whether it shares the library's bytes (a hard link) or is a copy; written: what
    was added there; skipped: what was left alone because another file has its name."""

    file: Path
    linked: bool
    written: tuple[Path, ...] = ()
    skipped: tuple[Path, ...] = ()


def lora_folder(place: Path) -> Path:
    """The folder for LoRAs: `place` itself, or the one below it when it is the folder of ComfyUI, A1111 or Forge.

    Raises NotFoundError when there is no such folder.
    """
    place = place.expanduser()
    if not place.is_dir():
        raise NotFoundError(f"There is no folder at {place}.", "It was moved, or its name is spelled differently.",
                            "Give the folder of ComfyUI, A1111 or Forge, or their folder for LoRAs.")  # fmt: skip
    return next((place / b for b in BELOW if (place / b).is_dir()), place)


def places(workspace: Workspace) -> list[Place]:
    """The folders that the user named, in the order of naming."""
    told = workspace.preferences().get(_PREFERENCE)
    found = []
    for item in told if isinstance(told, list) else ():
        if isinstance(item, dict) and item.get("folder"):
            folder = Path(str(item["folder"]))
            found.append(Place(str(item.get("name") or folder.name), folder, bool(item.get("link"))))
    return found


def add_place(workspace: Workspace, folder: Path, name: str = "", *, link: bool = False) -> Place:
    """Remember a folder; its name is guessed from the program when empty. Naming a folder again changes its name and `link`.

    Raises NotFoundError when there is no such folder, InputError for one of the studio's own or a name that is taken.
    """
    inner = lora_folder(folder).resolve()
    root = workspace.root.resolve()
    if inner == root or root in inner.parents:
        raise InputError(f"{inner} belongs to the studio itself.", "The library keeps its LoRAs there already.",
                         "Choose the folder of ComfyUI, A1111 or Forge.")  # fmt: skip
    others = [p for p in places(workspace) if p.folder != inner]
    name = " ".join((name or _guessed(folder.expanduser(), inner)).split())[:40]
    if any(p.name.lower() == name.lower() for p in others):
        raise InputError(f"There is a place called '{name}' already.", "Names tell the places apart.", "Give it another name.")  # fmt: skip
    place = Place(name, inner, link)
    _keep(workspace, [*others, place])
    return place


def forget_place(workspace: Workspace, name: str) -> None:
    """Forget a folder; what was put there stays. Raises NotFoundError."""
    gone = get_place(workspace, name)
    _keep(workspace, [p for p in places(workspace) if p != gone])


def get_place(workspace: Workspace, name: str) -> Place:
    """A place by its name. Raises NotFoundError naming those that exist."""
    known = places(workspace)
    found = next((p for p in known if p.name.lower() == name.strip().lower()), None)
    if found is None:
        raise NotFoundError(
            f"There is no place called '{name}'.",
            f"There are: {', '.join(p.name for p in known)}." if known else "None was named yet.",
            "Name one: lora-studio library places add FOLDER",
        )
    return found


def plan(workspace: Workspace, entry: LibraryEntry, place: Path, *, link: bool = False) -> list[Piece]:
    """What `put_into` would write; nothing is written. Raises NotFoundError when folder or file are missing."""
    folder, source = lora_folder(place), entry.file(workspace)
    if not source.is_file():
        raise NotFoundError(
            f"The file of {entry.title} is gone.", f"Nothing lies at {source}.", "Register it again."
        )
    parts = [
        (source, "the LoRA"),
        (source.with_suffix(".json"), "trigger word and weight, for A1111 and Forge"),
        (source.with_name(f"{entry.name}.preview.png"), "the picture in their browsers"),
    ]
    found = []
    for path, what in parts:
        if path.is_file():
            target = folder / path.name
            action: Action = "link" if link and path == source and _one_disk(source, folder) else "copy"
            if target.exists():
                action = "same" if _equal(path, target) else "taken"
            found.append(Piece(target, path, what, path.stat().st_size, action))
    return found


def put_into(workspace: Workspace, entry: LibraryEntry, place: Path, *, link: bool = False) -> Placed:
    """Put a registered LoRA and what lies beside it into another program's folder. The same file again changes nothing.

    link: share the bytes where the disk allows it, else copy. Raises NotFoundError when folder or file are missing, InputError when
    another file has that name, EnvironmentalError when the folder cannot be written.
    """
    pieces = plan(workspace, entry, place, link=link)
    lora = pieces[0]
    if lora.action == "taken":
        raise InputError(f"{lora.target} is there already, and is another file.", "The studio overwrites nothing.",
                         "Move that file away, or register the LoRA under another name.")  # fmt: skip
    written: dict[str, str] = {}
    try:
        for piece in pieces:
            if (piece.action == "link" and not _linked(piece.source, piece.target)) or piece.action == "copy":
                files.copy_atomic(piece.source, piece.target)
            if piece.action in ("copy", "link"):
                written[piece.target.name] = files.sha256_file(piece.source)
    except OSError as e:
        raise EnvironmentalError(f"{entry.title} could not be put into {lora.target.parent}.", f"The computer answered: {e.strerror or e}.",
                                 "Check that you may write there, and that there is room.") from e  # fmt: skip
    finally:
        if written:
            _note(workspace, entry, lora.target.parent, written)
    return Placed(
        lora.target,
        lora.target.samefile(lora.source),
        tuple(lora.target.with_name(n) for n in written),
        tuple(p.target for p in pieces if p.action == "taken"),
    )


def placed(workspace: Workspace, entry: LibraryEntry) -> list[Placed]:
    """Where this LoRA was put and still lies, as noted when it was written."""
    found = []
    for folder, written in _noted(workspace, entry).items():
        file = Path(folder) / f"{entry.name}.safetensors"
        there = tuple(Path(folder) / n for n in written if (Path(folder) / n).is_file())
        if there:
            source = entry.file(workspace)
            same = file.is_file() and source.is_file() and file.samefile(source)
            found.append(Placed(file, same, there))
    return found


def take_back(workspace: Workspace, entry: LibraryEntry, place: Path) -> Placed:
    """Undo `put_into`: take away what it wrote there, as far as it is unchanged since; the library keeps its own.

    `written` of the result says what was taken away, `skipped` what was changed meanwhile and stays. Raises NotFoundError when nothing
    of this LoRA was put there, EnvironmentalError when the folder cannot be written.
    """
    inner = lora_folder(place).resolve()
    notes = _noted(workspace, entry)
    note = next((f for f in notes if Path(f).resolve() == inner), None)
    if note is None:
        known = ", ".join(notes) or "nowhere"
        raise NotFoundError(f"The studio put nothing of {entry.title} into {inner}.", f"It was put: {known}.",
                            "Name one of these, or take the file away by hand.")  # fmt: skip
    gone, kept = [], []
    try:
        for name, sha256 in notes[note].items():
            path = Path(note) / Path(name).name
            if not path.is_file():
                continue
            if files.sha256_file(path) != sha256:
                kept.append(path)
                continue
            path.unlink()
            gone.append(path)
    except OSError as e:
        raise EnvironmentalError(f"{entry.title} could not be taken out of {inner}.", f"The computer answered: {e.strerror or e}.",
                                 "Close the program that uses it, then try again.") from e  # fmt: skip
    left = {f: w for f, w in notes.items() if f != note}
    files.write_json(entry.folder(workspace) / _NOTE, left)
    return Placed(Path(note) / f"{entry.name}.safetensors", False, tuple(gone), tuple(kept))


@dataclass(frozen=True)
class Standing:
    """What the studio put into a folder and nobody changed since: names of files; linked: those that share the library's bytes.
    changed: those that are something else by now."""

    folder: Path
    names: tuple[str, ...]
    linked: frozenset[str] = frozenset()
    changed: tuple[Path, ...] = ()


def standing(workspace: Workspace, entry: LibraryEntry) -> list[Standing]:
    """Where this LoRA was put and what of it is unchanged, to be asked before the library's own files change."""
    found = []
    for folder, written in _noted(workspace, entry).items():
        names, linked, changed = [], set(), []
        for name, sha256 in written.items():
            path, own = Path(folder) / Path(name).name, entry.folder(workspace) / Path(name).name
            if not path.is_file():
                continue
            if own.is_file() and path.samefile(own):
                linked.add(path.name)
            elif files.sha256_file(path) != sha256:
                changed.append(path)
                continue
            names.append(path.name)
        found.append(Standing(Path(folder), tuple(names), frozenset(linked), tuple(changed)))
    return found


def follow(
    workspace: Workspace, entry: LibraryEntry, before: list[Standing]
) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """Bring what other programs have up to the library's files, linked where it was linked: what followed, and what stays as it is
    because it was changed there or cannot be written."""
    followed: list[Path] = []
    stays: list[Path] = []
    for there in before:
        stays += there.changed
        written: dict[str, str] = {}
        for name in there.names:
            own, target = entry.folder(workspace) / name, there.folder / name
            if not own.is_file() or _equal(own, target):
                continue
            try:
                fresh = target.with_name(f".{name}.new")
                if name in there.linked and _linked(own, fresh):
                    fresh.replace(target)
                else:
                    files.copy_atomic(own, target)
            except OSError:
                stays.append(target)
                continue
            written[name] = files.sha256_file(own)
            followed.append(target)
        if written:
            _note(workspace, entry, there.folder, written)
    return tuple(followed), tuple(stays)


def _guessed(told: Path, inner: Path) -> str:
    """The program's name: the folder above `models/loras` or `models/Lora`, else the folder's own."""
    parts = inner.parts
    if len(parts) > 3 and parts[-2] == "models" and parts[-1].lower() in ("loras", "lora"):
        return parts[-3]
    return told.name or inner.name


def _keep(workspace: Workspace, known: list[Place]) -> None:
    workspace.remember(**{_PREFERENCE: [{**asdict(p), "folder": str(p.folder)} for p in known]})


def _noted(workspace: Workspace, entry: LibraryEntry) -> dict[str, dict[str, str]]:
    """folder -> name of a written file -> SHA-256 of what was written."""
    try:
        told: Any = files.read_json(entry.folder(workspace) / _NOTE)
    except InputError:
        return {}
    return {str(f): dict(w) for f, w in told.items() if isinstance(w, dict)} if isinstance(told, dict) else {}


def _note(workspace: Workspace, entry: LibraryEntry, folder: Path, written: dict[str, str]) -> None:
    known = _noted(workspace, entry)
    known[str(folder)] = {**known.get(str(folder), {}), **written}
    files.write_json(entry.folder(workspace) / _NOTE, known)


def _equal(one: Path, other: Path) -> bool:
    if one.stat().st_size != other.stat().st_size:
        return False
    return one.samefile(other) or files.sha256_file(one) == files.sha256_file(other)


def _one_disk(source: Path, folder: Path) -> bool:
    return source.stat().st_dev == folder.stat().st_dev


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False  # a file system without links
    return True
