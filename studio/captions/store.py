"""The captions of a project: kohya's `.txt` beside each picture, plus who wrote what and a history with undo.

The `.txt` files are the truth. Every write by the studio puts the trigger word first, is written down in
`<project>/captions/history.jsonl` before it happens, and holds a lock, so that two tabs, a crash or a killed process
lose no text. A caption changed by another program is shown as it is, marked `outside`, and never overwritten by undo.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio import files
from studio.captions import text as words
from studio.captions.journal import Entry, Note, Status, Step, Way, mark_of
from studio.captions.reading import IMPORTED as IMPORTED
from studio.captions.reading import NO_STAMP, CaptionReader, caption_from
from studio.captions.reading import PERSON as PERSON
from studio.captions.reading import Caption as Caption
from studio.dataset.folder import caption_path, captions_lock, look
from studio.errors import BusyError, EnvironmentalError, InputError, StudioError
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.project import Project

LONGEST = 20_000
"""Characters of the longest caption; more is no caption but a text in the wrong place."""
_SYNC_EACH = 20  # up to so many captions each is flushed by itself; beyond, the whole disk once


@dataclass(frozen=True)
class EditResult:
    """What one write did: its name in the history, the pictures changed, and findings for those left alone."""

    what: str = ""
    changed: tuple[str, ...] = ()
    skipped: tuple[Finding, ...] = ()


class CaptionStore(CaptionReader):
    """The captions of one project. Cheap to make; holds nothing that the disk does not say."""

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self._recover()

    # ---------------------------------------------------------------- writing

    def set(self, name: str, text: str, author: str = PERSON, *, expected: str | None = None) -> EditResult:
        """Write one caption; the trigger word is put first. An empty text takes the caption away.

        expected: the text the writer saw. When the caption says something else by now, nothing is written and
                  BusyError is raised: another tab was faster.
        Raises NotFoundError when there is no such picture, EnvironmentalError when the disk refuses.
        """
        seen = None if expected is None else {name: expected}
        result = self.set_many({name: text}, author, what=f"caption of {name}", expected=seen)
        if result.skipped:
            first = result.skipped[0]
            raise BusyError(first.what, first.why, first.fix)
        return result

    def set_many(
        self,
        texts: Mapping[str, str],
        author: str = PERSON,
        *,
        what: str = "",
        expected: Mapping[str, str] | None = None,
        status: Status | None = None,
    ) -> EditResult:
        """Write many captions as one step of the history: all of them, or after an error none.

        texts: by picture name. expected: as in `set`, by name; a caption changed meanwhile is left alone and reported
        in `skipped`. status: of the written captions; otherwise a person's words are approved and an engine's
        need review.
        Raises NotFoundError when a picture does not exist, InputError when a text is no caption, EnvironmentalError.
        """
        trigger = self.trigger
        with self._writing():
            for name, text in texts.items():
                self._must_exist(name)
                _must_be_a_caption(name, text)
            steps, skipped = [], []
            for name, text in texts.items():
                current = self._read(name)
                if (
                    expected is not None
                    and name in expected
                    and (current or "") != words.clean(expected[name])
                ):
                    skipped.append(_changed_meanwhile(name))
                    continue
                text = words.clean(text)
                after = words.with_trigger(text, trigger) if text else None
                now = Note(
                    author,
                    files.now(),
                    status or ("approved" if author == PERSON else "needs review"),
                    mark_of(after),
                )
                steps.append(
                    Step(name, current, after, self._notes.get(name), now if after is not None else None)
                )
            return self._commit(what or f"{len(steps)} captions", author, steps, skipped)

    def approve(self, names: Iterable[str]) -> EditResult:
        """Mark captions as approved. Empty ones stay as they are."""
        with self._writing():
            steps = []
            for name in names:
                self._must_exist(name)
                text, note = self._read(name), self._notes.get(name)
                if text and not (note and note.status == "approved" and note.mark == mark_of(text)):
                    known = caption_from((NO_STAMP, text, True), note)
                    now = Note(known.author, files.now(), "approved", mark_of(text))
                    steps.append(Step(name, text, text, note, now))
            return self._commit(f"{len(steps)} approved", PERSON, steps, [])

    def add_trigger(self, names: Iterable[str] | None = None) -> EditResult:
        """Put the trigger word first in captions that another program wrote; author and status stay."""
        trigger = self.trigger
        chosen = list(self.all()) if names is None else list(names)
        with self._writing():
            steps = []
            for name in chosen:
                text = self._read(name)
                if text and not words.leads(text, trigger):
                    steps.append(self._kept(name, text, words.with_trigger(text, trigger)))
            return self._commit(f"trigger word added to {len(steps)}", PERSON, steps, [])

    def retrigger(self, old: str, new: str) -> EditResult:
        """After the trigger word changed: replace the leading `old` by `new` in every caption, as one undoable step.

        Captions that did not start with `old` get `new` in front; empty ones stay empty. Author and status stay.
        """
        with self._writing():
            steps = []
            for name in look(self.folder).pictures:
                text = self._read(name)
                if not text:
                    continue
                after = words.with_trigger(words.without_trigger(text, old), new)
                if after != text:
                    steps.append(self._kept(name, text, after))
            return self._commit(f"trigger word {old} replaced by {new}", PERSON, steps, [])

    def rewrite(self, names: Iterable[str], what: str, change: words.Change) -> EditResult:
        """Write `change(text)` for captions that exist, keeping who wrote them; used by the one-click fixes."""
        with self._writing():
            steps = []
            for name in names:
                self._must_exist(name)
                text = self._read(name)
                if text is not None:
                    steps.append(self._kept(name, text, words.with_trigger(change(text), self.trigger)))
            return self._commit(what, PERSON, steps, [])

    def to_utf8(self, names: Iterable[str]) -> EditResult:
        """Write captions again as plain UTF-8, word for word; not a step of the history, since no word changes."""
        names = list(names)
        with self._writing():
            self._write([(n, text) for n in names if (text := self._read(n)) is not None])
        return EditResult(f"{len(names)} captions written as UTF-8", tuple(names))

    def undo(self) -> EditResult:
        """Take back the last edit. Captions that changed since then, or whose picture is gone, are left alone and
        reported in `skipped`. Does nothing when there is no edit."""
        return self._again("undo")

    def redo(self) -> EditResult:
        """Do the last undone edit again; like `undo`."""
        return self._again("redo")

    # ---------------------------------------------------------------- inside

    def _kept(self, name: str, before: str, after: str) -> Step:
        """A step that changes the text and keeps author and status."""
        note = self._notes.get(name)
        known = caption_from((NO_STAMP, before, True), note)
        now = Note(
            known.author,
            files.now(),
            "approved" if known.status == "approved" else "needs review",
            mark_of(after),
        )
        return Step(name, before, after, note, now)

    def _writing(self) -> _Writing:
        return _Writing(self)

    def _commit(self, what: str, author: str, steps: list[Step], skipped: list[Finding]) -> EditResult:
        steps = [s for s in steps if s.before != s.after or _says(s.was) != _says(s.now)]
        if not steps:
            return EditResult(what, (), tuple(skipped))
        entry = Entry(files.new_id("edit"), files.now(), what, author, tuple(steps))
        self._run("edit", entry, frozenset(s.name for s in steps))
        return EditResult(what, tuple(s.name for s in steps), tuple(skipped))

    def _again(self, way: Way) -> EditResult:
        with self._writing():
            stack = self._cache.journal.done if way == "undo" else self._cache.journal.undone
            if not stack:
                return EditResult(f"nothing to {way}")
            entry, names, skipped = stack[-1], [], []
            for step, expected, _ in entry.way(way):
                if not (self.folder / step.name).is_file():
                    skipped.append(gone(step.name))
                elif (self._read(step.name) or "") != (expected or ""):
                    skipped.append(_changed_meanwhile(step.name))
                else:
                    names.append(step.name)
            self._run(way, entry, frozenset(names))
            return EditResult(entry.what, tuple(names), tuple(skipped))

    def _run(self, way: Way, entry: Entry, names: frozenset[str]) -> None:
        """Write down, write, mark as done; after an error everything is put back."""
        journal = self._cache.journal
        journal.begin(way, entry, names)
        try:
            self._write([(s.name, after) for s, _, after in entry.way(way) if s.name in names])
        except StudioError:
            with suppress(StudioError):
                self._write([(s.name, before) for s, before, _ in entry.way(way) if s.name in names])
                journal.end(entry, aborted=True)
            raise
        journal.end(entry)

    def _write(self, texts: list[tuple[str, str | None]]) -> None:
        each = len(texts) <= _SYNC_EACH
        for name, text in texts:
            path = caption_path(self.folder, name)
            if text is None:
                path.unlink(missing_ok=True)
            elif each:
                files.write_text(path, text)
            else:
                _replace(path, text)
        if not each and hasattr(os, "sync"):
            os.sync()

    def _recover(self) -> None:
        """Finish an edit whose process died half-way, unless somebody is writing right now."""
        with self._cache.guard:
            self._cache.journal.refresh()
            if self._cache.journal.pending is None:
                return
        with suppress(BusyError), captions_lock(self.project, 0.05), self._cache.guard:
            self._finish_pending()

    def _finish_pending(self) -> None:
        journal = self._cache.journal
        journal.refresh()
        if journal.pending is None:
            return
        way, entry, names = journal.pending
        rest = []
        for step, before, after in entry.way(way):
            if step.name in names and (self.folder / step.name).is_file() and self._read(step.name) == before:
                rest.append((step.name, after))
        self._write(rest)
        journal.end(entry)


class _Writing:
    """The captions lock, with the journal read up to its end and an interrupted edit finished first."""

    def __init__(self, store: CaptionStore) -> None:
        self._store = store
        self._lock = captions_lock(store.project)

    def __enter__(self) -> None:
        self._lock.__enter__()
        self._store._cache.guard.acquire()
        try:
            self._store._finish_pending()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._store._cache.guard.release()
        self._lock.__exit__(None, None, None)


def _must_be_a_caption(name: str, text: str) -> None:
    if len(text) > LONGEST:
        raise InputError(
            f"The caption of {name} would have {len(text):,} characters.",
            "No model reads that much; it looks like a text that belongs elsewhere.",
            f"Shorten it to what the picture shows; {LONGEST:,} characters are the limit.",
        )


def gone(name: str) -> Finding:
    """A picture whose caption cannot be written because it is no longer there."""
    return Finding(
        severity="warn",
        code="picture-gone",
        what=f"{name} is no longer in the dataset.",
        why="Its caption went with it.",
        fix="Restore the picture first.",
        where=(name,),
    )


def _says(note: Note | None) -> tuple[str, str, str] | None:
    return None if note is None else (note.author, note.status, note.mark)


def _changed_meanwhile(name: str) -> Finding:
    return Finding(
        severity="warn",
        code="caption-changed",
        what=f"The caption of {name} was changed meanwhile.",
        why="Writing now would lose those words.",
        fix="Look at the caption as it is now, then edit it again.",
        where=(name,),
    )


def _replace(path: Path, text: str) -> None:
    """Write and rename without flushing; the caller flushes once for all."""
    handle, name = tempfile.mkstemp(prefix=f".{path.stem[:40]}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="") as f:
            f.write(text)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as e:
        with suppress(OSError):
            os.unlink(name)
        raise EnvironmentalError(
            f"{path.name} could not be written.",
            f"The computer answered: {e.strerror or e}.",
            f"Free some room on the disk of {path.parent}, then try again.",
        ) from e
