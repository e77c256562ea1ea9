"""Captions that come in one file for many pictures: `metadata.jsonl`, kohya's `meta_cap.json` and their relatives.

Read are JSON lines and lists of records (`{"file_name": "a.png", "text": "a cat"}`, as the Hugging Face image folder has
them), and objects by picture (`{"set/a": {"caption": "a cat", "tags": "cat, sofa"}}`, as sd-scripts' fine-tuning scripts
write them). A list counts for its own folder and everything below it; a `.txt` beside the picture goes before it.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath
from typing import Any

MAX_LIST_BYTES = 64_000_000
"""Bytes of the largest caption list that is read: a hundred thousand long captions."""
LIST_SUFFIXES = (".jsonl", ".json")
_NAMES = ("file_name", "filename", "file", "image", "image_path", "img", "path", "name")
_TEXTS = ("text", "caption", "prompt", "description")


def is_list(name: str) -> bool:
    """Whether a file may be a caption list, by its name."""
    path = PurePosixPath(name.lower())
    return path.suffix in LIST_SUFFIXES and not path.name.startswith(".")


def must_be_list(name: str) -> bool:
    """Whether a file is called as only caption lists are, so that an unreadable one is worth a word."""
    base = PurePosixPath(name.lower()).name
    return base.startswith(("metadata.", "meta_cap", "meta_clean", "meta_lat", "captions."))


def _key(path: str) -> str:
    text = unicodedata.normalize("NFC", path.replace("\\", "/")).casefold()
    return text[2:] if text.startswith("./") else text


def _without_suffix(key: str) -> str:
    stem, dot, suffix = key.rpartition(".")
    return stem if dot and "/" not in suffix and len(suffix) <= 5 else key


def _text_of(record: Mapping[str, Any]) -> str:
    """Caption and tags of a record; both, joined by a comma, as sd-scripts joins them when both are there."""
    caption = next((record[k] for k in _TEXTS if isinstance(record.get(k), str)), "")
    tags = record.get("tags")
    if isinstance(tags, list):
        tags = ", ".join(str(t) for t in tags)
    parts = [p.strip() for p in (caption, tags) if isinstance(p, str) and p.strip()]
    return ", ".join(parts)


def parse_list(raw: bytes) -> tuple[dict[str, str], list[int]] | None:
    """Texts by the picture's name as the list writes it, and the numbers, from 1, of lines that cannot be read; None when
    this is no caption list."""
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raw = raw.decode("utf-16", "replace").encode("utf-8", "replace")
    found: dict[str, str] = {}
    bad: list[int] = []
    try:
        data = json.loads(raw.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        data = []
        for number, line in enumerate(raw.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
            if line.strip():
                try:
                    data.append(json.loads(line.decode("utf-8")))
                except (ValueError, RecursionError):
                    bad.append(number)
    if isinstance(data, dict):
        if any(isinstance(data.get(n), str) for n in _NAMES):
            data = [data]  # one record
        else:
            for name, value in data.items():
                said = (
                    value.strip()
                    if isinstance(value, str)
                    else _text_of(value)
                    if isinstance(value, dict)
                    else ""
                )
                if said:
                    found[str(name)] = said
            return (found, bad) if found else None
    if not isinstance(data, list):
        return None
    for record in data:
        if isinstance(record, dict):
            name = next((record[k] for k in _NAMES if isinstance(record.get(k), str)), "")
            said = _text_of(record)
            if name and said:
                found[name] = said
    return (found, bad) if found else None


class CaptionLists:
    """The lists of one source. Labels are paths inside the source, with forward slashes."""

    def __init__(self) -> None:
        self._by_folder: dict[str, list[_Texts]] = {}

    def add(self, label: str, raw: bytes) -> list[int] | None:
        """Take in a file; the numbers of its lines that cannot be read, or None when it is no caption list."""
        told = parse_list(raw)
        if told is None:
            return None
        self._by_folder.setdefault(_key(_parent(label)), []).append(_Texts(told[0]))
        return told[1]

    def of(self, label: str) -> Callable[[], str | None] | None:
        """What gives the text of a picture; None when no list can know it."""
        if not self._by_folder:
            return None
        return lambda: self._text(label)

    def _text(self, label: str) -> str | None:
        key = _key(label)
        folder = _parent(key)
        while True:
            for texts in self._by_folder.get(folder, ()):
                said = texts.of(key[len(folder) + 1 :] if folder else key)
                if said:
                    return said
            if not folder:
                return None
            folder = _parent(folder)


def _parent(path: str) -> str:
    return path.rpartition("/")[0]


class _Texts:
    def __init__(self, found: Mapping[str, str]) -> None:
        self._exact = {_key(n): t for n, t in found.items()}
        self._stems = {_without_suffix(k): t for k, t in self._exact.items()}
        # Lists made elsewhere hold whole paths of another computer: the file's own name decides, when it is unique.
        names: dict[str, str | None] = {}
        for key, text in self._exact.items():
            base = _without_suffix(key.rpartition("/")[2])
            names[base] = text if base not in names or names[base] == text else None
        self._names = names

    def of(self, relative: str) -> str | None:
        stem = _without_suffix(relative)
        return (
            self._exact.get(relative)
            or self._exact.get(stem)
            or self._stems.get(stem)
            or self._names.get(stem.rpartition("/")[2])
        )
