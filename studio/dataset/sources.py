"""What can be imported, opened one item after the other: files, folders, ZIP archives, uploads.

Every source turns into `Item`s (possible pictures) and `Finding`s (refused by name). Nothing is extracted to disk, and
no name inside an archive is ever used as a path.
"""

from __future__ import annotations

import io
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from studio.captions.text import decode
from studio.dataset.formats import MAX_FILE_BYTES, refusal
from studio.findings import Finding

MAX_ENTRIES = 100_000
"""Entries of the largest archive taken in."""
MAX_UNPACKED = 100_000_000_000
"""Bytes that one archive may unpack to in all."""
MAX_RATIO = 200
"""How many times larger than packed an entry beyond RATIO_FROM bytes may become."""
RATIO_FROM = 100_000_000
MAX_CAPTION_BYTES = 200_000

_CAPTIONS = (".txt", ".caption")
_SILENT = frozenset(
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
_SYSTEM = frozenset({"thumbs.db", "desktop.ini", ".ds_store", "__macosx"})


@dataclass(frozen=True)
class Item:
    """One possible picture.

    label:   how it is called in messages: its path inside the source.
    size:    bytes it is said to have.
    read:    gives its bytes; raises OSError, zipfile.BadZipFile, NotImplementedError, RuntimeError or EOFError.
    caption: gives the text beside it, or None.
    name:    the file's own name.
    repeats: from a folder named kohya's way (`10_name`); 0 when there is none.
    """

    label: str
    size: int
    read: Callable[[], bytes]
    caption: Callable[[], str | None]
    name: str
    repeats: int = 0


@dataclass
class Gathered:
    """All items of the sources, and what was refused already."""

    items: list[Item] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)
    _close: list[Callable[[], None]] = field(default_factory=list)

    def refuse(self, label: str, code: str, why: str, fix: str) -> None:
        self.refused.append(refused(label, code, why, fix))

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


def gather(sources: Iterable[Path], leave_out: Iterable[Path] = ()) -> Gathered:
    """Look through files, folders (with everything below) and ZIP archives, without reading any picture.

    leave_out: folders that are passed over when they lie below a source, such as the project's own.
    """
    own = {p.resolve() for p in leave_out}
    found = Gathered()
    for source in sources:
        source = Path(source).expanduser()
        if source.is_dir():
            _folder(found, source, own)
        elif source.is_file():
            _file(found, source)
        else:
            found.refuse(
                str(source),
                "not-found",
                "There is no file or folder of this name.",
                "Check the spelling, or drag it into the window.",
            )
    return found


def gather_uploads(uploads: Iterable[tuple[str, bytes]]) -> Gathered:
    """The same for files that a browser sent, as (name, content); captions among them find their pictures by name."""
    found = Gathered()
    contents = {name.replace("\\", "/"): raw for name, raw in uploads}
    captions = _Sidecars(contents)
    for name, raw in contents.items():
        if _is_zip(name, raw[:4]):
            _archive(found, name, io.BytesIO(raw))
        elif not _passed_over(name, raw[:32]):
            texts = [_giver(contents[t]) for t in captions.of(name)]
            found.items.append(
                Item(
                    name, len(raw), _giver(raw), _caption_of(texts), PurePosixPath(name).name, _repeats(name)
                )
            )
    return found


def _giver(raw: bytes) -> Callable[[], bytes]:
    return lambda: raw


class _Sidecars:
    """The caption files of a folder or archive, found by their picture's name; its exact letters come first."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = {n for n in names if n.lower().endswith(_CAPTIONS)}
        self._folded = {n.lower(): n for n in sorted(self._names)}

    def of(self, picture: str) -> list[str]:
        """Names of the files that may hold this picture's caption, the likeliest first."""
        stem = os.path.splitext(picture)[0]
        wanted = [f"{base}{suffix}" for base in (stem, picture) for suffix in _CAPTIONS]
        exact = [w for w in wanted if w in self._names]
        return exact or [self._folded[w.lower()] for w in wanted if w.lower() in self._folded]


def _caption_of(readers: list[Callable[[], bytes]]) -> Callable[[], str | None]:
    """The first readable, non-empty text of several; an empty one when all are empty; None without any."""

    def text() -> str | None:
        best = None
        for reader in readers:
            try:
                best = decode(reader()[:MAX_CAPTION_BYTES])[0]
            except (OSError, zipfile.BadZipFile, RuntimeError, EOFError, NotImplementedError):
                continue
            if best:
                return best
        return best

    return text


def _repeats(label: str) -> int:
    """N of the nearest parent folder called `N_name`, as kohya's folders are; 0 without one."""
    for part in reversed(PurePosixPath(label).parts[:-1]):
        match = re.fullmatch(r"(\d{1,4})_.+", part)
        if match:
            return min(1000, int(match[1]))
    return 0


def _is_zip(name: str, head: bytes) -> bool:
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06") and PurePosixPath(name.lower()).suffix in (".zip", "")


def _passed_over(name: str, head: bytes) -> bool:
    """Files that nobody expects to become pictures: captions, lists, what systems leave behind."""
    path = PurePosixPath(name.lower())
    if path.name in _SYSTEM or path.name.startswith("._") or "__macosx" in path.parts:
        return True
    return path.suffix in _SILENT and refusal("x", 1, head) is not None


def _head(path: Path) -> bytes:
    with path.open("rb") as f:
        return f.read(32)


def _file(found: Gathered, path: Path) -> None:
    try:
        head = _head(path)
        if _is_zip(path.name, head[:4]):
            _archive(found, path.name, path)
            return
        parent = path.resolve().parent
        label = f"{parent.name}/{path.name}" if _repeats(f"{parent.name}/x") else path.name
        texts = [
            p
            for n in (path.stem, path.name)
            for s in _CAPTIONS
            if (p := path.parent / f"{n}{s}").is_file() and not p.is_symlink()
        ]
        found.items.append(
            Item(
                label,
                path.stat().st_size,
                path.read_bytes,
                _caption_of([p.read_bytes for p in texts]),
                path.name,
                _repeats(label),
            )
        )
    except OSError as e:
        _unreadable(found, path.name, e)


def _unreadable(found: Gathered, label: str, error: BaseException) -> None:
    reason = getattr(error, "strerror", None) or str(error) or "it cannot be read"
    found.refuse(
        label,
        "unreadable",
        f"The computer answered: {reason}.",
        "Check that you may read it, and that its disk is connected.",
    )


def _folder(found: Gathered, top: Path, leave_out: set[Path]) -> None:
    # The folder's own name counts, because `10_name` may be the one that was chosen.
    base = top.resolve()
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
            if not f.startswith(".") and f.lower() not in _SYSTEM and here / f not in leave_out
        )
        captions = _Sidecars(names)
        for name in sorted(names):
            path = here / name
            label = path.relative_to(base).as_posix()
            if name.startswith(".") or name.lower() in _SYSTEM:
                continue
            try:
                info = path.lstat()
                if stat.S_ISLNK(info.st_mode):
                    if not name.lower().endswith(_CAPTIONS):
                        found.refuse(label, "link", "It is a link to another file.", "Add the file itself.")
                    continue
                if not stat.S_ISREG(info.st_mode):
                    continue
                head = _head(path)
            except OSError as e:
                _unreadable(found, label, e)
                continue
            if _is_zip(name, head[:4]):
                _archive(found, label, path)
            elif not _passed_over(name, head):
                texts = [here / t for t in captions.of(name) if not (here / t).is_symlink()]
                found.items.append(
                    Item(
                        label,
                        info.st_size,
                        path.read_bytes,
                        _caption_of([p.read_bytes for p in texts]),
                        name,
                        _repeats(f"{base.name}/{label}"),
                    )
                )


def _archive(found: Gathered, label: str, source: Path | io.BytesIO) -> None:
    """List a ZIP. Entries that are links, encrypted, too large or that try to leave the archive are refused by name."""
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as e:
        found.refuse(
            label, "archive-damaged", f"It cannot be opened as a ZIP: {e}.", "Download or pack it again."
        )
        return
    found._close.append(archive.close)
    entries = archive.infolist()
    total = sum(e.file_size for e in entries)
    if len(entries) > MAX_ENTRIES or total > MAX_UNPACKED:
        found.refuse(
            label,
            "archive-too-large",
            f"It holds {len(entries):,} entries that unpack to {total / 1e9:,.0f} GB.",
            "Unpack it yourself and add the folder of pictures.",
        )
        return
    names = {id(e): _entry_name(e) for e in entries}
    texts = {names[id(e)]: e for e in entries if e.file_size <= MAX_CAPTION_BYTES}
    captions = _Sidecars(texts)
    for entry in entries:
        name = names[id(entry)]
        if entry.is_dir() or name.endswith("/"):
            continue
        shown = f"{label}: {name}"
        path = PurePosixPath(name)
        if path.name.startswith(".") or "__macosx" in (p.lower() for p in path.parts):
            continue
        if stat.S_ISLNK(entry.external_attr >> 16):
            found.refuse(shown, "link", "It is a link, which could point anywhere.", "Pack the file itself.")
        elif path.is_absolute() or ".." in path.parts or re.match(r"^[A-Za-z]:", name):
            found.refuse(
                shown, "outside", "Its name points outside of the archive.", "Pack it again with plain names."
            )
        elif entry.flag_bits & 0x1:
            found.refuse(
                shown,
                "encrypted",
                "It is protected by a password.",
                "Unpack the archive yourself and add the folder.",
            )
        elif entry.file_size > MAX_FILE_BYTES or (
            entry.file_size > RATIO_FROM and entry.file_size > MAX_RATIO * max(1, entry.compress_size)
        ):
            found.refuse(
                shown,
                "archive-bomb",
                f"It would grow from {entry.compress_size:,} to {entry.file_size:,} bytes.",
                "If it is really a picture, add it by itself.",
            )
        elif path.suffix.lower() == ".zip":
            found.refuse(
                shown,
                "archive-nested",
                "It is an archive inside an archive.",
                "Unpack it and add the pictures.",
            )
        elif path.name.lower() not in _SYSTEM and path.suffix.lower() not in _SILENT:
            inside = [_entry_reader(archive, texts[t]) for t in captions.of(name)]
            found.items.append(
                Item(
                    shown,
                    entry.file_size,
                    _entry_reader(archive, entry),
                    _caption_of(inside),
                    path.name,
                    _repeats(name),
                )
            )


def _entry_name(entry: zipfile.ZipInfo) -> str:
    """An entry's name with forward slashes; older packers wrote UTF-8 without saying so."""
    name = entry.filename
    if not entry.flag_bits & 0x800:
        with suppress(UnicodeEncodeError, UnicodeDecodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _entry_reader(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], bytes]:
    def read() -> bytes:
        with archive.open(entry) as f:  # never yields more than the size it declares, and checks the checksum
            return f.read(MAX_FILE_BYTES + 1)

    return read


def items_size(items: Iterable[Item]) -> int:
    """Bytes that the items are said to have in all."""
    return sum(i.size for i in items)
