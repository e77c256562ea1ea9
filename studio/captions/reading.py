"""Reading the captions of a project: what each says, who wrote it, what can be undone.

Texts are read again only when their file changed, so that a page can ask for all of them at every rerun.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from studio.captions import text as words
from studio.captions.caption import IMPORTED as IMPORTED
from studio.captions.caption import NO_STAMP as NO_STAMP
from studio.captions.caption import PERSON as PERSON
from studio.captions.caption import Caption as Caption
from studio.captions.caption import caption_from as caption_from
from studio.captions.journal import Entry, Journal, Note
from studio.captions.snapshots import Captions, Course
from studio.captions.versions import Version, versions_of
from studio.dataset.folder import Listing, Stamp, caption_path, look, stem_of
from studio.errors import NotFoundError

if TYPE_CHECKING:
    from studio.project import Project

_NONE = Caption()
_Text = tuple[Stamp, str, bool]  # what a caption file said when it had that stamp, and whether in UTF-8


@dataclass
class _Answer:
    """What `CaptionReader.of` said, and what it rests on: the listing, and how far the journal had been read."""

    listing: Listing
    log: list[str]
    read: int
    found: Captions


@dataclass
class _Cache:
    """What this process read of one project: texts by stem with the stamp they had, and the journal.

    fresh: stems whose file was written within the clock's grain when it was read: it could change again without its
    stamp showing it, so it is read once more.
    pictures: names of the pictures of the last listing, by stem.
    """

    journal: Journal
    texts: dict[str, _Text] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    pictures: dict[str, list[str]] = field(default_factory=dict)
    made: dict[str, tuple[_Text | None, Note | None, Caption]] = field(default_factory=dict)
    answer: _Answer | None = None
    course: Course = field(default_factory=Course)
    guard: threading.RLock = field(default_factory=threading.RLock)


_caches: dict[Path, _Cache] = {}
_caches_guard = threading.Lock()


def _cache_of(project: Project) -> _Cache:
    with _caches_guard:
        path = project.folder / "captions" / "history.jsonl"
        if path not in _caches:
            while len(_caches) >= 16:
                _caches.pop(next(iter(_caches)))
            _caches[path] = _Cache(Journal(path))
        return _caches[path]


class CaptionReader:
    """The captions of one project, for reading. Cheap to make; holds nothing that the disk does not say."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.folder = project.dataset_dir
        self._folder = str(self.folder)
        self._cache = _cache_of(project)

    @property
    def trigger(self) -> str:
        """The word that leads every caption."""
        return self.project.intent.trigger

    def all(self) -> dict[str, Caption]:
        """The caption of every picture in the dataset, in name order; pictures without one are there as `empty`.

        Only files that changed since the last call of this process are read again.
        """
        return dict(self.of(look(self.folder)))

    def of(self, listing: Listing) -> Mapping[str, Caption]:
        """`all` for a listing of the dataset folder that was just taken. The same object while nothing changes, and the
        same captions in it where they did not."""
        with self._cache.guard:
            cache, journal = self._cache, self._cache.journal
            journal.refresh()
            last = cache.answer
            if last is None or last.log is not journal.log or not _same_names(last.listing, listing):
                return self._anew(listing)
            stems = cache.fresh | _differing(last.listing.captions, listing)
            if not stems and last.read == len(journal.log):
                last.listing = listing
                return last.found
            names = {n for stem in stems for n in cache.pictures.get(stem, ())}
            names.update(n for n in journal.log[last.read :] if n in last.found)
            self._read_texts(listing.captions, stems)
            found = self._changed(last.found, names)
            cache.answer = _Answer(listing, journal.log, len(journal.log), found)
            return found

    def _anew(self, listing: Listing) -> Captions:
        """The answer after pictures came or went, or the journal began again; captions that stay are the same objects."""
        cache, journal, names = self._cache, self._cache.journal, listing.pictures.keys()
        known = {stem: text[0] for stem, text in cache.texts.items()}
        self._read_texts(listing.captions, cache.fresh | _other_stamps(known, listing.captions))
        cache.pictures = {}
        for name in names:
            cache.pictures.setdefault(stem_of(name), []).append(name)
        before = cache.answer.found if cache.answer else Captions({}, cache.course, cache.course.at)
        if before.keys() != names:
            came_or_gone = cache.course.step(before.keys() ^ names)
            before = Captions({n: before.get(n, _NONE) for n in names}, cache.course, came_or_gone)
            cache.made = {n: cache.made[n] for n in names if n in cache.made}
        found = self._changed(before, names)
        cache.answer = _Answer(listing, journal.log, len(journal.log), found)
        return found

    def _changed(self, known: Captions, names: Iterable[str]) -> Captions:
        """A snapshot that says what is known now of some of the pictures; the same one when that is what it says."""
        texts, made, journal = self._cache.texts, self._cache.made, self._cache.journal
        fresh = {}
        for name in names:
            text, note = texts.get(stem_of(name)), journal.notes.get(name)
            have = made.get(name)
            if have is None or have[0] is not text or have[1] is not note:
                have = made[name] = (text, note, caption_from(text, note, journal.makers))
            if have[2] != known[name]:
                fresh[name] = have[2]
        if not fresh:
            return known
        found = Captions(known, self._cache.course, self._cache.course.step(fresh))
        found.update(fresh)
        return found

    def get(self, name: str) -> Caption:
        """One picture's caption. Raises NotFoundError when there is no such picture."""
        self._must_exist(name)
        with self._cache.guard:
            self._cache.journal.refresh()
            path = caption_path(self.folder, name)
            try:
                st = path.stat()
                found = ((st.st_size, st.st_mtime_ns, st.st_ino), *words.decode(path.read_bytes()))
            except FileNotFoundError:
                return caption_from(None, self._cache.journal.notes.get(name))
            return caption_from(found, self._cache.journal.notes.get(name), self._cache.journal.makers)

    def orphans(self) -> list[str]:
        """Caption files that belong to no picture."""
        listing = look(self.folder)
        with self._cache.guard:
            self.of(listing)
            pictures = self._cache.pictures
            return sorted(f"{stem}.txt" for stem in listing.captions if stem not in pictures)

    def history(self, name: str | None = None) -> list[Entry]:
        """Edits that can be undone, oldest first; with a name, those that touched this picture."""
        with self._cache.guard:
            self._cache.journal.refresh()
            done = list(self._cache.journal.done)
        return [e for e in done if name is None or any(s.name == name for s in e.steps)]

    def versions(self, name: str) -> list[Version]:
        """What the caption of one picture said, who wrote it and when, oldest first; the last one is what it says now.

        Raises NotFoundError when there is no such picture.
        """
        now = self.get(name)
        with self._cache.guard:
            journal = self._cache.journal
            return versions_of(name, journal.events_of(name), now, journal.makers)

    @property
    def can_undo(self) -> str:
        """What `undo` would take back, in words; empty when there is nothing."""
        with self._cache.guard:
            self._cache.journal.refresh()
            done = self._cache.journal.done
            return done[-1].what if done else ""

    @property
    def can_redo(self) -> str:
        """What `redo` would do again, in words; empty when there is nothing."""
        with self._cache.guard:
            self._cache.journal.refresh()
            undone = self._cache.journal.undone
            return undone[-1].what if undone else ""

    @property
    def _notes(self) -> dict[str, Note]:
        return self._cache.journal.notes

    def _is_there(self, name: str) -> bool:
        return bool(name) and os.path.basename(name) == name and (self.folder / name).is_file()

    def _must_exist(self, name: str) -> None:
        if not self._is_there(name):
            raise NotFoundError(
                f"There is no picture called '{name}' in this project.",
                "It was set aside, renamed or never imported.",
                "Look at the dataset page for the pictures that are there.",
            )

    def _read_texts(self, stamps: Mapping[str, Stamp], stems: Iterable[str]) -> None:
        """Read some texts again."""
        texts, fresh = self._cache.texts, set()
        # A file written within the clock's grain could change again without its stamp showing it: read it next time.
        newest = time.time_ns() - 50_000_000
        for stem in stems:
            stamp = stamps.get(stem)
            try:
                if stamp is None:
                    raise FileNotFoundError
                with open(f"{self._folder}/{stem}.txt", "rb") as f:
                    texts[stem] = (stamp, *words.decode(f.read()))
            except OSError:
                texts.pop(stem, None)
                continue
            if stamp[1] >= newest:
                fresh.add(stem)
        self._cache.fresh = fresh

    def _read(self, name: str) -> str | None:
        try:
            with open(f"{self._folder}/{stem_of(name)}.txt", "rb") as f:
                return words.decode(f.read())[0]
        except FileNotFoundError:
            return None


def _same_names(one: Listing, other: Listing) -> bool:
    return one.pictures is other.pictures or one.pictures.keys() == other.pictures.keys()


def _differing(before: Mapping[str, Stamp], now: Listing) -> set[str]:
    """Stems whose stamp is not what it was; told by the listing when it followed from these by what we wrote."""
    if now.since is not None and now.since[0] is before:
        return set(now.since[1])
    return _other_stamps(before, now.captions)


def _other_stamps(before: Mapping[str, Stamp], now: Mapping[str, Stamp]) -> set[str]:
    """Stems whose stamp is not what it was."""
    if before is now:
        return set()
    found = {stem for stem, stamp in now.items() if before.get(stem) != stamp}
    if len(before) + sum(stem not in before for stem in found) != len(now):
        found |= before.keys() - now.keys()
    return found
