"""The words of one caption: reading its bytes, finding its tags, keeping the trigger word in front. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache

Change = Callable[[str], str]
"""A function from a caption's old words to its new ones."""

_AFTER = re.compile(r"^\s*[,;]?\s*")
_SENTENCE = re.compile(r"[^\W\d_]{2}[.!?](?:\s|$)")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def decode(raw: bytes) -> tuple[str, bool]:
    """A caption file's bytes as text, and whether they were UTF-8, which is the only thing trainers read.

    Tried in turn: UTF-8 with or without a mark, UTF-16 with a mark, Windows-1252. Never fails.
    """
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return clean(raw.decode("utf-16", errors="replace")), False
    try:
        return clean(raw.decode("utf-8-sig")), not raw.startswith(b"\xef\xbb\xbf")
    except UnicodeDecodeError:
        return clean(raw.decode("cp1252", errors="replace")), False


def clean(text: str) -> str:
    """Text with one kind of line end, without control characters or space around it."""
    return _CONTROL.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).strip()


def tags(text: str) -> list[str]:
    """The comma-separated parts of a caption, trimmed, empty ones left out."""
    return list(_parts(text))


@lru_cache(maxsize=8)  # whoever counts a caption asks several times in a row
def _parts(text: str) -> tuple[str, ...]:
    return tuple(part for p in text.replace("\n", ",").split(",") if (part := p.strip()))


@lru_cache(maxsize=64)
def _leading(trigger: str) -> re.Pattern[str]:
    return re.compile(re.escape(trigger) + r"(?![\w-])", re.IGNORECASE)


def leads(text: str, trigger: str) -> bool:
    """Whether the caption starts with the trigger word as a word of its own; upper and lower case count as equal."""
    return bool(trigger) and _leading(trigger).match(text.lstrip()) is not None


@lru_cache(maxsize=8)
def without_trigger(text: str, trigger: str) -> str:
    """The caption after its leading trigger word; the whole caption when it does not lead."""
    text = text.lstrip()
    if not leads(text, trigger):
        return text
    return _AFTER.sub("", text[len(trigger) :], count=1)


def with_trigger(text: str, trigger: str) -> str:
    """The caption with the trigger word in front, written exactly so. A caption that has it already stays as it is.

    A tag equal to the trigger further back moves to the front; inside a sentence it also stays where it is.
    """
    text = clean(text)
    if not trigger:
        return text
    if leads(text, trigger):
        return trigger + text[len(trigger) :]
    rest = re.sub(
        rf"(?:^|(?<=[,\n]))[^\S\n]*{re.escape(trigger)}[^\S\n]*(?:,|(?=\n)|$)", "", text, flags=re.IGNORECASE
    ).strip(" \t\n,")
    return f"{trigger}, {rest}" if rest else trigger


def looks_like_tags(text: str) -> bool:
    """Whether a text is a list of tags rather than sentences: comma-separated parts of few words each.

    A part of a tag list has at most four words on the average, and no part ends like a sentence. One single word
    counts as a tag. Judged without knowing any vocabulary, so short sentences with many commas may pass for tags.
    """
    parts = tags(text)
    if not parts or _SENTENCE.search(text):
        return False
    lengths = [len(p.split()) for p in parts]
    return sum(lengths) / len(parts) <= (4 if len(parts) > 1 else 3)
