"""What an import finds in its sources: possible pictures, their captions, and what was refused by name."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from studio.captions.text import decode
from studio.dataset.formats import same_stem
from studio.dataset.lists import MAX_LIST_BYTES, CaptionLists, must_be_list
from studio.findings import Finding

MAX_CAPTION_BYTES = 80_000
"""Bytes of the longest caption file: more letters than a caption may have (`studio.captions.writing.LONGEST`), in any script."""

IN_PART = "captions-in-part"
"""Code of the finding that tells of lines of a caption list that cannot be read."""
CAPTION_SUFFIXES = (".txt", ".caption")
SILENT = frozenset(
    [
        ".txt",
        ".caption",
        ".json",
        ".jsonl",
        ".toml",
        ".yaml",
        ".yml",
        ".csv",
        ".md",
        ".npz",
        ".safetensors",
        ".ini",
        ".db",
        ".url",
        ".lnk",
        ".html",
    ]
)
SYSTEM = frozenset({"thumbs.db", "desktop.ini", ".ds_store", "__macosx"})
UNREADABLE = (OSError, zipfile.BadZipFile, RuntimeError, EOFError, NotImplementedError, zlib.error)


@dataclass(frozen=True)
class Item:
    """One possible picture.

    label:   how it is called in messages: its path inside the source.
    size:    bytes it is said to have.
    read:    gives its bytes; raises OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError or EOFError.
    caption: gives the text beside it, or None.
    name:    the file's own name.
    repeats: from a folder named kohya's way (`10_name`); 0 when there is none.
    regularisation: it lies in a folder called so, such as `reg`.
    """

    label: str
    size: int
    read: Callable[[], bytes]
    caption: Callable[[], str | None]
    name: str
    repeats: int = 0
    regularisation: bool = False


@dataclass
class Gathered:
    """All items of the sources, and what was refused already."""

    items: list[Item] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)
    _close: list[Callable[[], None]] = field(default_factory=list)

    def refuse(self, label: str, code: str, why: str, fix: str) -> None:
        self.refused.append(refused(label, code, why, fix))

    def at_end(self, close: Callable[[], None]) -> None:
        """Call this when the import is over."""
        self._close.append(close)

    def __enter__(self) -> Gathered:
        return self

    def __exit__(self, *_: object) -> None:
        for close in self._close:
            close()


def refused(label: str, code: str, why: str, fix: str) -> Finding:
    """A file that was not taken in."""
    return Finding(
        severity="warn", code=code, what=f"{label} was not taken in.", why=why, fix=fix, where=(label,)
    )


class Sidecars:
    """The caption files of a folder or archive, found by their picture's name; its exact letters come first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {n for n in names if n.lower().endswith(CAPTION_SUFFIXES)}
        self._folded = {
            same_stem(n): n for n in sorted(self._names)
        }  # macOS writes letters and their accents apart

    def of(self, picture: str) -> list[str]:
        """Names of the files that may hold this picture's caption, the likeliest first."""
        stem = os.path.splitext(picture)[0]
        wanted = [f"{base}{suffix}" for base in (stem, picture) for suffix in CAPTION_SUFFIXES]
        exact = [w for w in wanted if w in self._names]
        return exact or [self._folded[w] for w in map(same_stem, wanted) if w in self._folded]


def of_a_length(found: Gathered, shown: str, size: int) -> bool:
    """Whether a caption file may be read; a longer one is no caption, and told by name."""
    if size > MAX_CAPTION_BYTES:
        found.refuse(
            shown,
            "caption-too-long",
            f"It holds {size:,} bytes, more than any caption: {MAX_CAPTION_BYTES:,} are the limit.",
            "Shorten it to what the picture shows and import it again; the picture is there, and takes the words then.",
        )
    return size <= MAX_CAPTION_BYTES


def caption_of(
    readers: list[Callable[[], bytes]], listed: Callable[[], str | None] | None = None
) -> Callable[[], str | None]:
    """The first readable, non-empty text of several files, or what a caption list says; an empty text when all are
    empty; None without any."""

    def text() -> str | None:
        best = None
        for reader in readers:
            try:
                best = decode(reader())[0]
            except UNREADABLE:
                continue
            if best:
                return best
        return (listed() if listed is not None else None) or best

    return text


def take_list(
    found: Gathered, lists: CaptionLists, label: str, shown: str, read: Callable[[], bytes], size: int
) -> None:
    """Read a caption list; an unreadable one is told only when its name says that it is one, lines of one always."""
    bad = None
    with suppress(*UNREADABLE):
        bad = lists.add(label, read()) if size <= MAX_LIST_BYTES else None
    if bad:
        which = ", ".join(map(str, bad[:8])) + (f" and {len(bad) - 8} more" if len(bad) > 8 else "")
        found.refused.append(
            Finding(
                severity="warn", code=IN_PART, where=(shown,),
                what=f"{shown} was read in part.",
                why=f"Line{'s' if len(bad) > 1 else ''} {which} cannot be read; the captions of the other lines came along.",
                fix='Mend what stands there, such as {"file_name": "a.png", "text": "a cat"} in UTF-8, and import it again.',
            )
        )  # fmt: skip
    elif bad is None and must_be_list(label):
        found.refuse(
            shown,
            "captions-unreadable",
            "It is called like a list of captions, and none could be read from it.",
            'It should hold lines such as {"file_name": "a.png", "text": "a cat"}, in UTF-8.',
        )


def repeats_of(label: str) -> int:
    """N of the nearest parent folder called `N_name`, as kohya's folders are; 0 without one."""
    for part in reversed(PurePosixPath(label).parts[:-1]):
        match = re.fullmatch(r"(\d{1,4})_.+", part)
        if match:
            return min(1000, int(match[1]))
    return 0


def items_size(items: Iterable[Item]) -> int:
    """Bytes that the items are said to have in all."""
    return sum(i.size for i in items)
