"""Writing captions so that nothing is lost: one step of the history at a time, all of it or none of it.

The texts before and after are written down first (`studio.captions.journal`), then the files, then the mark that it is
done. Whoever comes next finishes what a killed process left half-way.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio import files
from studio.captions.journal import Entry, Note, Status, Step, Way, mark_of
from studio.captions.reading import NO_STAMP, CaptionReader, caption_from
from studio.dataset.folder import CAPTION_SUFFIX, caption_path, captions_lock, look, stem_of, will_tell, wrote
from studio.errors import BusyError, EnvironmentalError, InputError, StudioError
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.project import Project

LONGEST = 20_000
"""Characters of the longest caption; more is no caption but a text in the wrong place."""
_AT_ONCE = 8  # captions that are written at the same time
_SYNC_EACH = 20  # up to so many captions each is flushed by itself; beyond, the whole disk once


@dataclass(frozen=True)
class EditResult:
    """What one write did: its name in the history, the pictures changed, and findings for those left alone.

    kept / there: of an engine's write, the captions that a person wrote or chose, and those that it had written before.
    """

    what: str = ""
    changed: tuple[str, ...] = ()
    skipped: tuple[Finding, ...] = ()
    kept: tuple[str, ...] = ()
    there: tuple[str, ...] = ()


class CaptionWriter(CaptionReader):
    """How captions are written; what may be written is for `CaptionStore` to say."""

    def __init__(self, project: Project) -> None:
        super().__init__(project)
        self._recover()

    def _kept(self, name: str, before: str, after: str) -> Step:
        """A step that changes the text and keeps author and status."""
        note = self._notes.get(name)
        known = caption_from((NO_STAMP, before, True), note)
        status: Status = "approved" if known.status == "approved" else "needs review"
        now = Note(known.author, files.now(), status, mark_of(after), known.engine, known.made_with)
        return Step(name, before, after, note, now)

    def _writing(self) -> _Writing:
        return _Writing(self)

    def _those_there(self, names: Iterable[str]) -> Collection[str]:
        """Those of the names that are pictures of the dataset; one look at the folder is cheaper than many at its files."""
        wanted = list(names)
        if len(wanted) > 200:
            return look(self.folder).pictures.keys() & set(wanted)
        return {n for n in wanted if self._is_there(n)}

    def _all_must_exist(self, names: Iterable[str]) -> None:
        """Raise NotFoundError for the first name that is no picture."""
        wanted = list(names)
        there = self._those_there(wanted)
        for name in wanted:
            if name not in there:
                self._must_exist(name)

    def _commit(
        self, what: str, author: str, steps: list[Step], skipped: list[Finding], group: str = ""
    ) -> EditResult:
        steps = [s for s in steps if s.before != s.after or _says(s.was) != _says(s.now)]
        if not steps:
            return EditResult(what, (), tuple(skipped))
        entry = Entry(files.new_id("edit"), files.now(), what, author, tuple(steps), group)
        self._run("edit", entry, frozenset(s.name for s in steps))
        return EditResult(what, tuple(s.name for s in steps), tuple(skipped))

    def _again(self, way: Way) -> EditResult:
        with self._writing():
            journal = self._cache.journal
            stack = journal.done if way == "undo" else journal.undone
            if not stack:
                return EditResult(f"nothing to {way}")
            what, group = stack[-1].what, stack[-1].group
            changed: dict[str, None] = {}
            skipped: list[Finding] = []
            while True:
                changed |= dict.fromkeys(self._one_step(way, stack[-1], skipped))
                stack = journal.done if way == "undo" else journal.undone  # may be another list by now
                if not group or not stack or stack[-1].group != group:
                    break
            return EditResult(what, tuple(changed), tuple(skipped))

    def _one_step(self, way: Way, entry: Entry, skipped: list[Finding]) -> list[str]:
        names = []
        there = self._those_there(s.name for s in entry.steps)
        for step, expected, _ in entry.way(way):
            if step.name not in there:
                skipped.append(gone(step.name))
            elif (self._read(step.name) or "") != (expected or ""):
                skipped.append(changed_meanwhile(step.name))
            else:
                names.append(step.name)
        self._run(way, entry, frozenset(names))
        return names

    def _run(self, way: Way, entry: Entry, names: frozenset[str]) -> None:
        """Write down, write, mark as done; after an error everything is put back."""
        journal = self._cache.journal
        journal.begin(way, entry, names)
        try:
            # An approval changes no word, so that its file stays as it is.
            self._write(
                [
                    (s.name, b)
                    for s, a, b in entry.way(way)
                    if s.name in names and (a != b or not self._holds(s.name, b))
                ]
            )
        except StudioError:
            with suppress(StudioError):
                self._write([(s.name, a) for s, a, b in entry.way(way) if s.name in names and a != b])
                journal.end(entry, aborted=True)
            raise
        journal.end(entry)

    def _holds(self, name: str, text: str | None) -> bool:
        """Whether a caption file is byte for byte what writing this text would make of it."""
        try:
            return text is not None and caption_path(self.folder, name).read_bytes() == text.encode("utf-8")
        except (OSError, UnicodeEncodeError):
            return False

    def _write(self, texts: list[tuple[str, str | None]]) -> None:
        """Write the files, and tell those who remember the folder which ones."""
        self._write_files(texts)
        if texts:
            wrote(self.folder, [stem_of(name) + CAPTION_SUFFIX for name, _ in texts])

    def _write_files(self, texts: list[tuple[str, str | None]]) -> None:
        if len(texts) <= _SYNC_EACH:
            for name, text in texts:
                if text is None:
                    _take_away(self.folder, name)
                else:
                    files.write_text(caption_path(self.folder, name), text)
            return
        folder = str(self.folder)
        jobs = [(folder, name, text, n) for n, (name, text) in enumerate(texts)]
        # A rename over a file waits for the disk; several at once wait together. All have ended when the block has,
        # also after an error, so that putting back finds no late writer.
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for _ in pool.map(_replace_one, jobs, chunksize=64):
                pass
        if hasattr(os, "sync"):
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
        way, entry, names = journal.pending.way, journal.pending.entry, journal.pending.names
        rest = []
        there = self._those_there(names)
        for step, before, after in entry.way(way):
            if step.name in names and step.name in there and self._read(step.name) == before:
                rest.append((step.name, after))
        self._write(rest)
        journal.end(entry)


class _Writing:
    """The captions lock, with the journal read up to its end and an interrupted edit finished first."""

    def __init__(self, store: CaptionWriter) -> None:
        self._store = store
        self._lock = captions_lock(store.project)

    def __enter__(self) -> None:
        self._lock.__enter__()
        will_tell(self._store.folder)
        self._store._cache.guard.acquire()
        try:
            self._store._finish_pending()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        self._store._cache.guard.release()
        self._lock.__exit__(None, None, None)


def must_be_a_caption(name: str, text: str) -> None:
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


def _says(note: Note | None) -> tuple[str, ...] | None:
    return None if note is None else (note.author, note.status, note.mark, note.engine, note.made_with)


def changed_meanwhile(name: str) -> Finding:
    return Finding(
        severity="warn",
        code="caption-changed",
        what=f"The caption of {name} was changed meanwhile.",
        why="Writing now would lose those words.",
        fix="Look at the caption as it is now, then edit it again.",
        where=(name,),
    )


def _replace_one(job: tuple[str, str, str | None, int]) -> None:
    """Write and rename without flushing; the caller flushes once for all. Its temporary name is its number: the lock
    lets one writer in, and what a killed one left is written over by the next."""
    folder, name, text, number = job
    if text is None:
        _take_away(Path(folder), name)
        return
    target, temporary = f"{folder}/{stem_of(name)}{CAPTION_SUFFIX}", f"{folder}/.caption-{number}.tmp"
    try:
        with open(temporary, "wb", opener=_private_open) as f:
            f.write(text.encode("utf-8"))
        os.replace(temporary, target)
    except OSError as e:
        with suppress(OSError):
            os.unlink(temporary)
        raise _refused(target, e) from e


def _private_open(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o644)


def _take_away(folder: Path, name: str) -> None:
    path = caption_path(folder, name)
    try:
        path.unlink(missing_ok=True)
    except OSError as e:
        raise _refused(str(path), e) from e


def _refused(path: str, error: OSError) -> EnvironmentalError:
    return EnvironmentalError(
        f"{os.path.basename(path)} could not be written.",
        f"The computer answered: {error.strerror or error}.",
        f"Free some room on the disk of {os.path.dirname(path)}, or check that you may write there, then try again.",
    )
