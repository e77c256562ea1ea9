"""The history of captions: one JSON line a change, from which who wrote what and undo / redo follow.

An edit is written down, with the text before and after of every picture, before any caption is touched, and marked
done afterwards. A process that dies in between leaves an edit without its mark; the store then finishes it. The file
is append-only and is shortened to its newest half when it grows beyond `LIMIT_BYTES`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from studio import files
from studio.errors import EnvironmentalError

LIMIT_BYTES = 32_000_000
Status = Literal["empty", "needs review", "approved"]
Way = Literal["edit", "undo", "redo"]


def mark_of(text: str | None) -> str:
    """A short hash by which a text is recognised again; empty for no caption."""
    return "" if text is None else hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


@dataclass(frozen=True)
class Note:
    """What is known about one caption: who wrote it, when, whether it was approved, and which text that was.

    engine: the engine whose words it began with, also after a person corrected them; empty when there was none.
    made_with: the key of that engine's settings in `Journal.makers`.
    """

    author: str
    updated: str
    status: Status
    mark: str
    engine: str = ""
    made_with: str = ""

    def plain(self) -> dict[str, str]:
        """As data for the file, without what is empty."""
        return {k: v for k, v in vars(self).items() if v or k not in ("engine", "made_with")}


@dataclass(frozen=True)
class Step:
    """One picture's part of an edit. A text of None means that there is no caption file."""

    name: str
    before: str | None
    after: str | None
    was: Note | None
    now: Note | None


@dataclass(frozen=True)
class Entry:
    """One edit, undone and redone as a whole.

    group: edits next to each other with the same group, such as the batches of one tagging job, are undone together.
    """

    id: str
    at: str
    what: str
    author: str
    steps: tuple[Step, ...]
    group: str = ""

    def way(self, way: Way) -> list[tuple[Step, str | None, str | None]]:
        """Per picture: the step, the text that is expected to be there, the text to write."""
        return [(s, s.after, s.before) if way == "undo" else (s, s.before, s.after) for s in self.steps]


@dataclass(frozen=True)
class Event:
    """Something that happened to captions: an edit, or an edit taken back or done again, on `names`."""

    way: Way
    at: str
    entry: Entry
    names: frozenset[str]


@dataclass
class Journal:
    """The journal of one project, as far as it has been read.

    notes: the newest note of each picture.   done / undone: the undo and the redo stack, newest last.
    pending: a change without its mark.       events: everything that happened, oldest first.
    makers: engine settings by key, so that ten thousand captions do not repeat them.
    log: names whose note may have changed, in the order of the changes; another list when everything may have.
    """

    path: Path
    notes: dict[str, Note] = field(default_factory=dict)
    done: list[Entry] = field(default_factory=list)
    undone: list[Entry] = field(default_factory=list)
    pending: Event | None = None
    events: list[Event] = field(default_factory=list)
    makers: dict[str, dict[str, Any]] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    _offset: int = 0
    _inode: int = 0

    @property
    def version(self) -> tuple[int, int]:
        """Changes whenever something was added."""
        return self._inode, self._offset

    def refresh(self) -> None:
        """Read what was added since the last call, by whichever process."""
        try:
            st = self.path.stat()
        except FileNotFoundError:
            st = None
        if st is None and not self._inode:
            return  # captions that nobody has edited yet: what is known stays the same object
        if st is None or st.st_size < self._offset or (self._inode and st.st_ino != self._inode):
            self.__init__(self.path)  # type: ignore[misc]  # begin again
        if st is None or st.st_size == self._offset:
            return
        self._inode = st.st_ino
        records, self._offset = files.read_jsonl(self.path, self._offset)
        for record in records:
            try:
                self._take(record)
            except (KeyError, TypeError, ValueError):
                continue  # a line written by hand, or by a later version

    def _take(self, record: dict[str, Any]) -> None:
        op = record["op"]
        if op == "edit":
            entry = _entry(record)
            self.pending = Event("edit", entry.at, entry, frozenset(s.name for s in entry.steps))
        elif op in ("undo", "redo"):
            stack = self.done if op == "undo" else self.undone
            if stack and stack[-1].id == record["id"]:
                self.pending = Event(
                    op, record.get("at", stack[-1].at), stack[-1], frozenset(record["names"])
                )
        elif op == "done" and self.pending and self.pending.entry.id == record["id"]:
            self._finish(self.pending)
            self.pending = None
        elif op == "abort":
            self.pending = None
        elif op == "renamed":
            self._take_names({str(a): str(b) for a, b in record["names"].items()})
        elif op == "maker":
            self.makers[record["key"]] = dict(record["settings"])
        elif op == "state":
            self.notes = {n: Note(**v) for n, v in record["notes"].items()}
            self.makers = dict(record.get("makers", {}))
            self.done, self.undone, self.pending, self.events, self.log = [], [], None, [], []
        elif op == "kept":
            entry = _entry(record)
            self.done.append(entry)
            self.events.append(Event("edit", entry.at, entry, frozenset(s.name for s in entry.steps)))

    def _finish(self, event: Event) -> None:
        entry = event.entry
        self.log += event.names
        for step in entry.steps:
            if step.name in event.names:
                note = step.was if event.way == "undo" else step.now
                if note is None:
                    self.notes.pop(step.name, None)
                else:
                    self.notes[step.name] = note
        if event.way == "edit":
            self.done.append(entry)
            self.undone = []
        elif event.way == "undo":
            self.undone.append(self.done.pop())
        else:
            self.done.append(self.undone.pop())
        self.events.append(event)

    def _take_names(self, names: Mapping[str, str]) -> None:
        """Pictures are called otherwise now: what is known of them, and their part of each edit, goes along."""
        self.log = []
        moved = {new: self.notes.pop(old, None) for old, new in names.items()}
        for name, note in moved.items():
            if note is None:
                self.notes.pop(name, None)
            else:
                self.notes[name] = note
        fresh: dict[int, Entry] = {}

        def entry(known: Entry) -> Entry:
            if id(known) not in fresh:
                fresh[id(known)] = _renamed(known, names)
            return fresh[id(known)]

        self.done = [entry(e) for e in self.done]
        self.undone = [entry(e) for e in self.undone]
        self.events = [
            e
            if names.keys().isdisjoint(e.names) and e.names.isdisjoint(names.values())
            else replace(e, entry=entry(e.entry), names=_names(e.names, names))
            for e in self.events
        ]

    def knows(self, name: str) -> bool:
        """Whether anything is known of the caption of a picture of this name."""
        return name in self.notes or any(name in e.names for e in self.events)

    def renamed(self, names: Mapping[str, str]) -> None:
        """Write down that pictures are called otherwise now. Call with the captions lock held, after `refresh`."""
        self._append({"op": "renamed", "names": dict(names), "at": files.now()})
        self.refresh()

    def events_of(self, name: str) -> list[Event]:
        """What happened to one picture's caption, oldest first."""
        return [e for e in self.events if name in e.names]

    def maker(self, settings: Mapping[str, Any]) -> str:
        """The key under which an engine's settings are remembered; they are written down when they are new.
        Call with the captions lock held, after `refresh`."""
        key = files.fingerprint(dict(settings))[:12]
        if key not in self.makers:
            self._append({"op": "maker", "key": key, "settings": dict(settings)})
            self.refresh()
        return key

    def begin(self, way: Way, entry: Entry, names: frozenset[str]) -> None:
        """Write down, durably, what is about to happen. Call with the captions lock held, after `refresh`."""
        if way == "edit":
            if self._offset > LIMIT_BYTES:
                self._shorten()
            self._append({"op": "edit", **_plain(entry)})
        else:
            self._append({"op": way, "id": entry.id, "at": files.now(), "names": sorted(names)})
        self.refresh()

    def end(self, entry: Entry, *, aborted: bool = False) -> None:
        """Mark the change as done, or as taken back."""
        self._append({"op": "abort" if aborted else "done", "id": entry.id})
        self.refresh()

    def _append(self, record: dict[str, Any]) -> None:
        line = (json.dumps(record, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self.path.open("a+b") as f:
                size = f.seek(0, os.SEEK_END)
                if size:  # a line cut short by a crash must not swallow this one
                    f.seek(size - 1)
                    if f.read(1) != b"\n":
                        line = b"\n" + line
                f.write(line)
                f.flush()
                os.fsync(f.fileno())
        except OSError as e:
            raise EnvironmentalError(
                "The history of the captions could not be written, so nothing was changed.",
                f"The computer answered: {e.strerror or e}.",
                f"Free some room on the disk of {self.path.parent}, or check that you may write there, then try again.",
            ) from e

    def _shorten(self) -> None:
        """Replace the file by the notes and the newest edits that fit in half of the limit."""
        kept: list[bytes] = []
        room = LIMIT_BYTES // 2
        for entry in reversed(self.done):
            line = (json.dumps({"op": "kept", **_plain(entry)}, ensure_ascii=False) + "\n").encode(
                "utf-8", "surrogatepass"
            )
            room -= len(line)
            if room < 0:
                break
            kept.append(line)
        state = {"op": "state", "notes": {n: v.plain() for n, v in self.notes.items()}, "makers": self.makers}
        head = (json.dumps(state, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
        files.write_bytes(self.path, head + b"".join(reversed(kept)))
        self.__init__(self.path)  # type: ignore[misc]
        self.refresh()


def _names(known: frozenset[str], names: Mapping[str, str]) -> frozenset[str]:
    """`known` with its pictures' new names; a picture that is gone gives way to the one that took its name."""
    return (known - names.keys() - set(names.values())) | {names[n] for n in known & names.keys()}


def _renamed(entry: Entry, names: Mapping[str, str]) -> Entry:
    """An edit with its pictures' new names, as `_names`."""
    taken = set(names.values())
    if not any(s.name in names or s.name in taken for s in entry.steps):
        return entry
    steps = tuple(
        replace(s, name=names.get(s.name, s.name))
        for s in entry.steps
        if s.name in names or s.name not in taken
    )
    return replace(entry, steps=steps)


def _plain(entry: Entry) -> dict[str, Any]:
    steps = []
    for s in entry.steps:
        plain: dict[str, Any] = {"name": s.name, "before": s.before, "after": s.after}
        plain |= {k: n.plain() for k, n in (("was", s.was), ("now", s.now)) if n is not None}
        steps.append(plain)
    plain = {"id": entry.id, "at": entry.at, "what": entry.what, "author": entry.author, "steps": steps}
    return plain | ({"group": entry.group} if entry.group else {})


def _entry(record: dict[str, Any]) -> Entry:
    def note(plain: dict[str, Any] | None) -> Note | None:
        return Note(**plain) if plain else None

    steps = tuple(
        Step(s["name"], s["before"], s["after"], note(s.get("was")), note(s.get("now")))
        for s in record["steps"]
    )
    return Entry(record["id"], record["at"], record["what"], record["author"], steps, record.get("group", ""))
