"""The versions of one caption: what it said, since when, and who wrote it. Read from the history of the project."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from studio.captions.caption import IMPORTED, Caption
from studio.captions.journal import Event, Note, Way, mark_of

_TOLD: dict[Way, str] = {"edit": "", "undo": "taken back: ", "redo": "done again: "}


@dataclass(frozen=True)
class Version:
    """One version of a caption.

    number: 1 for the oldest that is known; the name to restore it by.
    text:   the words; empty when there was no caption.
    at:     since when, ISO 8601 UTC; empty for the oldest when that is not known.
    by:     who wrote it, in words.   what: the edit that made it, in words.
    author, engine, settings: as in `Caption`.
    current: whether the caption says this now.
    """

    number: int
    text: str
    at: str
    by: str
    what: str
    author: str
    engine: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    current: bool = False


def versions_of(
    name: str, events: Iterable[Event], now: Caption, makers: Mapping[str, Mapping[str, Any]]
) -> list[Version]:
    """The versions of the caption of picture `name`, oldest first; approving a caption makes no new version."""
    found: list[tuple[str, str, Note | None, str]] = []  # text, at, note, what

    def add(text: str | None, at: str, note: Note | None, what: str) -> None:
        text = text or ""
        sure = note if note is not None and note.mark == mark_of(text) else None
        if found and found[-1][0] == text:
            return
        found.append((text, at, sure, what))

    for event in events:
        if name not in event.names:
            continue
        step = next(s for s in event.entry.steps if s.name == name)
        before, after = (step.after, step.before) if event.way == "undo" else (step.before, step.after)
        note_before, note_after = (step.now, step.was) if event.way == "undo" else (step.was, step.now)
        if found or before:  # words that another program put in between are a version too
            known = note_before is not None and note_before.mark == mark_of(before)
            add(before, note_before.updated if known and note_before else "", note_before, "")
        add(after, event.at, note_after, _TOLD[event.way] + event.entry.what)
    note = Note(now.author, now.updated, now.status, mark_of(now.text), now.engine, now.made_with)
    if now.exists or found:
        add(now.text, now.updated, None if now.outside else note, "")
    versions = []
    for number, (text, at, sure, what) in enumerate(found, 1):
        author = sure.author if sure else (IMPORTED if number == 1 else "")
        then = Caption(
            text,
            author,
            at,
            outside=not author,
            engine=sure.engine if sure else "",
            made_with=sure.made_with if sure else "",
        )
        versions.append(
            Version(
                number, text, at, then.by if text else "no caption", what, author, then.engine,
                makers.get(then.made_with, {}), number == len(found),
            )
        )  # fmt: skip
    return versions
