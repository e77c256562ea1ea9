"""The dataset folder as it lies on disk: which files are pictures, which are captions.

The layout is kohya's: `name.png` with its caption in `name.txt` beside it, all in one folder. Because the caption is
found by the stem, two pictures must not share one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from studio.errors import BusyError

if TYPE_CHECKING:
    from studio.project import Project

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".heic", ".heif"}
)
CAPTION_SUFFIX = ".txt"

Stamp = tuple[int, int, int]
"""Size in bytes, time of the last change in ns, inode: while it stays equal, the content is taken as unchanged."""


_mine = threading.local()  # of each thread: the locks it holds, and its looks


@dataclass(frozen=True)
class Listing:
    """What one look at the folder found.

    pictures:   stamp of each picture, by file name, in name order.
    captions:   stamp of each `.txt`, by stem.
    subfolders: names of folders inside; their content is not part of the dataset.
    newest:     the latest change of any of the files, ns since the epoch.
    """

    pictures: dict[str, Stamp] = field(default_factory=dict)
    captions: dict[str, Stamp] = field(default_factory=dict)
    subfolders: tuple[str, ...] = ()
    newest: int = 0

    @property
    def settled(self) -> bool:
        """Whether equal stamps can be trusted: a file changed within the clock's grain could change again unseen."""
        return self.newest < time.time_ns() - 50_000_000


_last: dict[Path, Listing] = {}


def look(folder: Path) -> Listing:
    """List `folder` without opening a file; an empty listing when it does not exist. About 3 µs a file."""
    looks = _looks()
    if looks is not None and folder in looks:
        return looks[folder]
    found, known = _look(folder), _last.get(folder)
    if known == found:
        found = (
            known  # the same object, so that whoever compares it with what they remember need not look inside
        )
    else:
        if len(_last) >= 16:
            _last.clear()
        _last[folder] = found
    if looks is not None:
        looks[folder] = found
    return found


@contextmanager
def one_look() -> Iterator[None]:
    """Inside, this thread lists each folder once, however many parts of a page ask for it. A write of the studio under
    one of the locks below makes it look again; what other programs write meanwhile is seen by the next page."""
    outer = _looks()
    _mine.looks = {}
    try:
        yield
    finally:
        _mine.looks = outer


def _looks() -> dict[Path, Listing] | None:
    found: dict[Path, Listing] | None = getattr(_mine, "looks", None)
    return found


def _look(folder: Path) -> Listing:
    pictures: dict[str, Stamp] = {}
    captions: dict[str, Stamp] = {}
    subfolders = []
    newest = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                stem, dot, suffix = entry.name.rpartition(".")
                is_caption = suffix == "txt" and dot == "."
                if not is_caption and (not dot or f".{suffix.lower()}" not in PICTURE_SUFFIXES):
                    if entry.is_dir(follow_symlinks=False):
                        subfolders.append(entry.name)
                    continue
                try:
                    if not entry.is_file():
                        continue
                    st = entry.stat()
                except OSError:
                    continue
                stamp = (st.st_size, st.st_mtime_ns, st.st_ino)
                newest = max(newest, st.st_mtime_ns)
                if is_caption:
                    captions[stem] = stamp
                else:
                    pictures[entry.name] = stamp
    except FileNotFoundError:
        pass
    return Listing(dict(sorted(pictures.items())), captions, tuple(sorted(subfolders)), newest)


def stem_of(name: str) -> str:
    """The part of a picture's name that it shares with its caption."""
    return os.path.splitext(name)[0]


def caption_path(folder: Path, name: str) -> Path:
    """Where the caption of picture `name` lies, whether or not it exists."""
    return folder / (stem_of(name) + CAPTION_SUFFIX)


@contextmanager
def dataset_lock(project: Project, wait_s: float = 30.0) -> Iterator[None]:
    """The lock that whoever adds, moves or removes pictures holds. A thread that holds it may take it again.

    Raises BusyError when another thread or process keeps it for longer than `wait_s` seconds.
    """
    with _locked(
        project.folder / ".dataset.lock",
        wait_s,
        "The pictures of this project are being changed by another task.",
    ):
        yield


@contextmanager
def captions_lock(project: Project, wait_s: float = 30.0) -> Iterator[None]:
    """The lock around every write to captions; otherwise like `dataset_lock`. Taken after it, never before."""
    with _locked(
        project.folder / ".captions.lock",
        wait_s,
        "The captions of this project are being changed by another task.",
    ):
        yield


@contextmanager
def _locked(path: Path, wait_s: float, busy: str) -> Iterator[None]:
    held: dict[Path, FileLock] = _mine.__dict__.setdefault("held", {})
    lock = held.get(path) or held.setdefault(path, FileLock(str(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as e:
        raise BusyError(
            busy,
            "Two writers at once could lose each other's work.",
            "Wait until it has finished, then try again.",
        ) from e
    try:
        yield
    finally:
        (_looks() or {}).clear()
        lock.release()
