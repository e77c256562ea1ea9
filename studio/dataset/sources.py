"""What can be imported, opened one item after the other: files, folders, ZIP archives, uploads.

Every source turns into `Item`s (possible pictures) and `Finding`s (refused by name). Nothing is extracted to disk, and
no name inside an archive is ever used as a path.
"""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from studio.dataset.archives import is_zip, list_archive
from studio.dataset.formats import refusal
from studio.dataset.items import (
    CAPTION_SUFFIXES,
    SILENT,
    SYSTEM,
    Gathered,
    Item,
    Sidecars,
    caption_of,
    of_a_length,
    repeats_of,
    take_list,
)
from studio.dataset.lists import CaptionLists, is_list
from studio.dataset.origins import says_regularisation


def is_there(path: Path) -> bool:
    """Whether there is a file or folder; False for what cannot be a path."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def gather(sources: Iterable[Path], leave_out: Iterable[Path] = ()) -> Gathered:
    """Look through files, folders (with everything below) and ZIP archives, without reading any picture.

    leave_out: folders that are passed over when they lie below a source, such as the project's own.
    """
    own = {p.resolve() for p in leave_out}
    found = Gathered()
    beside: dict[Path, Sidecars] = {}
    for source in sources:
        source = Path(source).expanduser()
        if not is_there(source):
            found.refuse(
                str(source)[:200],
                "not-found",
                "There is no file or folder of this name.",
                "Check the spelling, or drag it into the window.",
            )
        elif source.is_dir():
            _folder(found, source, own)
        elif source.is_file():
            _file(found, source, beside)
    return found


def gather_uploads(uploads: Iterable[tuple[str, bytes]]) -> Gathered:
    """The same for files that a browser sent, as (name, content); captions among them find their pictures by name."""
    found = Gathered()
    contents = {name.replace("\\", "/"): raw for name, raw in uploads}
    captions, lists = Sidecars(contents), CaptionLists()
    for name, raw in contents.items():
        if is_list(name):
            take_list(found, lists, name, name, _giver(raw), len(raw))
    for name, raw in contents.items():
        if is_zip(name, raw[:4]):
            list_archive(found, name, io.BytesIO(raw))
        elif _passed_over(name, raw[:32]):
            if _chosen_in_vain(name):
                ending = PurePosixPath(name).suffix
                found.refuse(name, "not-a-picture", f"A {ending} file is no picture.", "Leave it out.")
        else:
            texts = [
                _giver(contents[t]) for t in captions.of(name) if of_a_length(found, t, len(contents[t]))
            ]
            caption = caption_of(texts, lists.of(name))
            found.items.append(
                Item(name, len(raw), _giver(raw), caption, PurePosixPath(name).name, repeats_of(name))
            )
    return found


def _giver(raw: bytes) -> Callable[[], bytes]:
    return lambda: raw


def _passed_over(name: str, head: bytes) -> bool:
    """Files that nobody expects to become pictures: captions, lists, what systems leave behind."""
    path = PurePosixPath(name.lower())
    if path.name in SYSTEM or path.name.startswith("._") or "__macosx" in path.parts:
        return True
    return path.suffix in SILENT and refusal("x", 1, head) is not None


def _chosen_in_vain(name: str) -> bool:
    """A file that was chosen by itself, not with its folder, and that says nothing about any picture."""
    path = PurePosixPath(name.lower())
    about = (*CAPTION_SUFFIXES, ".json", ".jsonl")
    return len(path.parts) == 1 and path.suffix in SILENT.difference(about) and path.name not in SYSTEM


def _head(path: Path) -> bytes:
    with path.open("rb") as f:
        return f.read(32)


def _file(found: Gathered, path: Path, known: dict[Path, Sidecars]) -> None:
    """A file that was chosen by itself. known: the captions of folders that were listed already."""
    try:
        head = _head(path)
        if is_zip(path.name, head[:4]):
            list_archive(found, path.name, path)
            return
        parent = path.resolve().parent
        label = f"{parent.name}/{path.name}" if repeats_of(f"{parent.name}/x") else path.name
        place = f"{_called(parent)}/{path.name}"
        if path.parent not in known:
            known[path.parent] = Sidecars(os.listdir(path.parent))
        beside = known[path.parent].of(path.name)
        texts = [path.parent / n for n in beside if _readable_caption(found, n, path.parent / n)]
        found.items.append(
            Item(
                label,
                path.stat().st_size,
                path.read_bytes,
                caption_of([p.read_bytes for p in texts]),
                path.name,
                repeats_of(label),
                says_regularisation(place),
            )
        )
    except OSError as e:
        _unreadable(found, path.name, e)


def _readable_caption(found: Gathered, label: str, path: Path) -> bool:
    """Whether the words beside a picture may be read; a link is not followed."""
    try:
        info = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(info.st_mode) and of_a_length(found, label, info.st_size)


def _unreadable(found: Gathered, label: str, error: BaseException) -> None:
    reason = getattr(error, "strerror", None) or str(error) or "it cannot be read"
    found.refuse(
        label,
        "unreadable",
        f"The computer answered: {reason}.",
        "Check that you may read it, and that its disk is connected.",
    )


def _called(folder: Path) -> str:
    """The name of a folder that was chosen, with that of the one above it where it is called kohya's way: `reg/1_woman`."""
    return f"{folder.parent.name}/{folder.name}" if repeats_of(f"{folder.name}/x") else folder.name


def _folder(found: Gathered, top: Path, leave_out: set[Path]) -> None:
    # The folder's own name counts, because `10_name` or `reg` may be the one that was chosen.
    base, lists = top.resolve(), CaptionLists()
    called = _called(base)
    for root, folders, names in os.walk(
        base, followlinks=False, onerror=lambda e: _unreadable(found, str(e.filename), e)
    ):
        here = Path(root)
        for folder in sorted(folders):
            if (here / folder).is_symlink():
                found.refuse(
                    str((here / folder).relative_to(base)),
                    "link",
                    "It is a link to another folder.",
                    "Add that folder itself.",
                )
        folders[:] = sorted(
            f
            for f in folders
            if not f.startswith(".") and f.lower() not in SYSTEM and here / f not in leave_out
        )
        captions = Sidecars(names)
        for name in sorted(n for n in names if is_list(n)):
            path, label = here / name, (here / name).relative_to(base).as_posix()
            if path.is_file() and not path.is_symlink():
                take_list(found, lists, label, label, path.read_bytes, path.stat().st_size)
        for name in sorted(names):
            path = here / name
            label = path.relative_to(base).as_posix()
            if name.startswith(".") or name.lower() in SYSTEM:
                continue
            try:
                info = path.lstat()
                if stat.S_ISLNK(info.st_mode):
                    found.refuse(label, "link", "It is a link to another file.", "Add the file itself.")
                    continue
                if not stat.S_ISREG(info.st_mode):
                    continue
                head = _head(path)
            except OSError as e:
                _unreadable(found, label, e)
                continue
            if is_zip(name, head[:4]):
                list_archive(found, label, path)
            elif not _passed_over(name, head):
                above = label[: -len(name)]
                texts = [
                    here / t for t in captions.of(name) if _readable_caption(found, f"{above}{t}", here / t)
                ]
                found.items.append(
                    Item(
                        label,
                        info.st_size,
                        path.read_bytes,
                        caption_of([p.read_bytes for p in texts], lists.of(label)),
                        name,
                        repeats_of(f"{base.name}/{label}"),
                        says_regularisation(f"{called}/{label}"),
                    )
                )
