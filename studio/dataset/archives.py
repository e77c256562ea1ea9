"""ZIP archives as a source: listed, never extracted; no name inside is ever used as a path."""

from __future__ import annotations

import io
import re
import stat
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path, PurePosixPath

from studio.dataset.formats import MAX_FILE_BYTES
from studio.dataset.items import (
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

MAX_ENTRIES = 100_000
"""Entries of the largest archive taken in."""
MAX_UNPACKED = 100_000_000_000
"""Bytes that one archive may unpack to in all."""
MAX_RATIO = 200
"""How many times larger than packed an entry beyond RATIO_FROM bytes may become."""
RATIO_FROM = 100_000_000


def is_zip(name: str, head: bytes) -> bool:
    return head[:4] in (b"PK\x03\x04", b"PK\x05\x06") and PurePosixPath(name.lower()).suffix in (".zip", "")


def list_archive(found: Gathered, label: str, source: Path | io.BytesIO) -> None:
    """List a ZIP. Entries that are links, encrypted, too large or that try to leave the archive are refused by name."""
    try:
        archive = zipfile.ZipFile(source)
    except (zipfile.BadZipFile, OSError, NotImplementedError, ValueError) as e:
        found.refuse(
            label, "archive-damaged", f"It cannot be opened as a ZIP: {e}.", "Download or pack it again."
        )
        return
    found.at_end(archive.close)
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
    texts = {names[id(e)]: e for e in entries if not stat.S_ISLNK(e.external_attr >> 16)}
    captions, lists = Sidecars(texts), CaptionLists()
    for entry in entries:
        name = names[id(entry)]
        if is_list(name) and not entry.is_dir() and "__macosx" not in name.lower():
            take_list(found, lists, name, f"{label}: {name}", _entry_reader(archive, entry), entry.file_size)
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
        elif path.name.lower() not in SYSTEM and path.suffix.lower() not in SILENT:
            inside = [
                _entry_reader(archive, texts[t])
                for t in captions.of(name)
                if of_a_length(found, f"{label}: {t}", texts[t].file_size)
            ]
            found.items.append(
                Item(
                    shown,
                    entry.file_size,
                    _entry_reader(archive, entry),
                    caption_of(inside, lists.of(name)),
                    path.name,
                    repeats_of(name),
                    says_regularisation(f"{PurePosixPath(label).stem}/{name}"),
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
