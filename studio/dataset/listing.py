"""What lies in a dataset folder, listed: pictures, captions and their stamps."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".avif", ".gif", ".heic", ".heif"}
)
CAPTION_SUFFIX = ".txt"
GRAIN_NS = 50_000_000
"""Two changes within so many ns may bear the same time: the clock of a file system moves in steps."""

Stamp = tuple[int, int, int]
"""Size in bytes, time of the last change in ns, inode: while it stays equal, the content is taken as unchanged."""


@dataclass(frozen=True)
class Listing:
    """What one look at the folder found.

    pictures:   stamp of each picture, by file name, in name order.
    captions:   stamp of each `.txt`, by stem.
    subfolders: names of folders inside; their content is not part of the dataset.
    newest:     the latest change of any of the files, ns since the epoch.
    since:      the captions of an earlier listing, and the stems that differ from them; None when nobody counted.
    """

    pictures: dict[str, Stamp] = field(default_factory=dict)
    captions: dict[str, Stamp] = field(default_factory=dict)
    subfolders: tuple[str, ...] = ()
    newest: int = 0
    since: tuple[dict[str, Stamp], frozenset[str]] | None = field(default=None, compare=False, repr=False)

    @property
    def files(self) -> int:
        """How many files were listed."""
        return len(self.pictures) + len(self.captions)

    @property
    def settled(self) -> bool:
        """Whether equal stamps can be trusted: a file changed within the clock's grain could change again unseen."""
        return self.newest < time.time_ns() - GRAIN_NS


def list_folder(folder: Path) -> Listing:
    """List `folder` without opening a file; an empty listing when it does not exist. About 3 µs a file."""
    pictures: dict[str, Stamp] = {}
    captions: dict[str, Stamp] = {}
    subfolders = []
    newest = 0
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                kind, key = _kind(entry.name)
                if not kind:
                    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        subfolders.append(entry.name)
                    continue
                try:
                    if not entry.is_file():
                        continue
                    st = entry.stat()
                except OSError:
                    continue
                newest = max(newest, st.st_mtime_ns)
                (captions if kind == "caption" else pictures)[key] = (st.st_size, st.st_mtime_ns, st.st_ino)
    except FileNotFoundError:
        pass
    return Listing(dict(sorted(pictures.items())), captions, tuple(sorted(subfolders)), newest)


def relist(before: Listing, folder: Path, names: Iterable[str]) -> Listing:
    """`before` with the files of these names looked at again; the others are taken as they were."""
    pictures, captions, newest = before.pictures, before.captions, before.newest
    resort, differing = False, set()
    for name in names:
        kind, key = _kind(name)
        if not kind:
            continue
        try:
            st = os.stat(f"{folder}/{name}")
            stamp: Stamp | None = (st.st_size, st.st_mtime_ns, st.st_ino)
            newest = max(newest, st.st_mtime_ns)
        except OSError:
            stamp = None
        if stamp == (captions if kind == "caption" else pictures).get(key):
            continue
        if kind == "caption":
            if captions is before.captions:
                captions = dict(captions)
            differing.add(key)
            target = captions
        else:
            if pictures is before.pictures:
                pictures = dict(pictures)
            resort = resort or (stamp is not None and key not in pictures)
            target = pictures
        if stamp is None:
            del target[key]
        else:
            target[key] = stamp
    if captions is before.captions and pictures is before.pictures:
        return before if newest == before.newest else replace(before, newest=newest)
    if resort:
        pictures = dict(sorted(pictures.items()))
    since = (before.captions, frozenset(differing)) if captions is not before.captions else before.since
    return Listing(pictures, captions, before.subfolders, newest, since)


def merged(before: Listing, found: Listing) -> Listing:
    """`found`, made of the same objects as `before` wherever nothing changed, so that whoever compares it with what
    they remember sees that by identity: the listing, each of its two tables, and each stamp."""
    if found == before:
        return before
    return Listing(
        _same(before.pictures, found.pictures),
        _same(before.captions, found.captions),
        found.subfolders,
        found.newest,
    )


def _same(before: dict[str, Stamp], found: dict[str, Stamp]) -> dict[str, Stamp]:
    if found is before or found == before:
        return before
    kept = {}
    for name, stamp in found.items():
        have = before.get(name)
        kept[name] = have if have == stamp else stamp
    return kept


def _kind(name: str) -> tuple[str, str]:
    """`picture` and its name, `caption` and its stem; two empty words for what is neither."""
    if name.startswith("."):
        return "", ""
    stem, dot, suffix = name.rpartition(".")
    if not dot:
        return "", ""
    if suffix == "txt":
        return "caption", stem
    return ("picture", name) if f".{suffix.lower()}" in PICTURE_SUFFIXES else ("", "")


def stem_of(name: str) -> str:
    """The part of a picture's name that it shares with its caption."""
    return os.path.splitext(name)[0]


def caption_path(folder: Path, name: str) -> Path:
    """Where the caption of picture `name` lies, whether or not it exists."""
    return folder / (stem_of(name) + CAPTION_SUFFIX)
