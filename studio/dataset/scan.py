"""The scan: every picture of the dataset, looked at once; only what changed on disk is looked at again."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from studio.captions.snapshots import changed
from studio.captions.store import Caption, CaptionStore
from studio.dataset import derived, renaming
from studio.dataset.folder import Listing, Stamp, look
from studio.dataset.index import Index
from studio.dataset.pixels import Look, cpu_threads, look_at
from studio.dataset.set_aside import SetAside as SetAside
from studio.dataset.set_aside import remove_pictures as remove_pictures
from studio.dataset.set_aside import restore_pictures as restore_pictures
from studio.dataset.set_aside import set_aside_list as set_aside_list
from studio.dataset.set_aside import settle

if TYPE_CHECKING:
    from studio.project import Project

T = TypeVar("T")
Progress = Callable[[int, int, str], None]
"""Called as progress(done, total, message); never from two threads at once."""

_BATCH = 64  # pictures a transaction: what a kill costs at most
_SAVE_S = 2.0
_KEPT = 12  # answers of one key of a memo


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of the dataset.

    name:    file name inside the dataset folder; its identity everywhere.
    width, height: pixels as shown (after EXIF rotation); 0 when it cannot be decoded.
    bytes:   size of the file.   sha256: of the file's content.
    error:   why it cannot be decoded, in words; None when it can.
    phash, phash_flip: 256-bit perceptual hashes, of the picture and of its mirror image.
    blur:    sharpness measure, to be compared within one set only: low means blurred.
    light:   mean brightness, 0 to 1.
    frames:  more than 1 for an animation.
    depth, profile, bars, ground, burnt, drowned: as in `studio.dataset.pixels.Look`.
    caption: its text; empty when there is none.
    thumb:   a WebP of at most 256 px a side; does not exist when there is an error.
    """

    name: str
    width: int
    height: int
    mode: str
    format: str
    bytes: int
    sha256: str
    error: str | None
    phash: int
    phash_flip: int
    blur: float
    light: float
    frames: int
    exif_rotated: bool
    has_alpha: bool
    caption: str
    thumb: Path
    depth: int = 8
    profile: str = ""
    bars: float = 0.0
    ground: float = 0.0
    burnt: float = 0.0
    drowned: float = 0.0

    @property
    def pixels(self) -> int:
        return self.width * self.height


class Memo:
    """Answers that hold as long as what they were made of is the same. Two scans with one memo are of the same state."""

    def __init__(self) -> None:
        self._answers: dict[object, tuple[tuple[tuple[object, ...], Any], ...]] = {}

    def once(self, key: object, make: Callable[[], T], *given: object) -> T:
        """What `make` answers, asked only once as long as the objects `given` are equal to those of the last time."""
        return self._one_of(1, key, make, given)

    def each(self, key: object, make: Callable[[], T], *given: object) -> T:
        """`once`, but the last few answers of a key are kept: a page asks for the settings of each preset in turn."""
        return self._one_of(_KEPT, key, make, given)

    def _one_of(self, most: int, key: object, make: Callable[[], T], given: tuple[object, ...]) -> T:
        have = self._answers.get(key, ())
        for known, answer in have:
            if known == given:
                return answer  # type: ignore[no-any-return]
        found = make()
        self._answers[key] = ((given, found), *have[: most - 1])
        return found


@dataclass(frozen=True)
class Scan:
    """All pictures as they were at one moment, in name order.

    looked_at: how many files were read in this scan; the others were known.
    subfolders: folders inside the dataset folder, whose pictures do not count.
    facts:   answers about these pictures and their captions; the next scan has another memo when anything changed.
    shown:   answers about what the pictures show, their names and files; kept while only captions change.
    """

    folder: Path
    cache: Path
    pictures: list[Picture] = field(default_factory=list)
    looked_at: int = 0
    subfolders: tuple[str, ...] = ()
    facts: Memo = field(default_factory=Memo, compare=False, repr=False)
    shown: Memo = field(default_factory=Memo, compare=False, repr=False)

    def __iter__(self) -> Iterator[Picture]:
        return iter(self.pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def readable(self) -> list[Picture]:
        """Pictures that can be decoded."""
        return [p for p in self.pictures if p.error is None]

    @property
    def captioned(self) -> list[bool]:
        """Of each picture, whether it has a caption."""
        return self.facts.once("captioned", lambda: [bool(p.caption) for p in self.pictures])

    def get(self, name: str) -> Picture | None:
        """The picture of a name; None when there is none."""
        return self.facts.once("by name", lambda: {p.name: p for p in self.pictures}).get(name)


@dataclass
class _Known:
    """What this process read of one index, so that a page's rerun costs a directory listing only."""

    token: tuple[int, int] = (0, 0)
    rows: dict[str, tuple[Stamp, Look]] = field(default_factory=dict)
    answer: tuple[Listing, Mapping[str, Caption], Scan] | None = None


_known: dict[Path, _Known] = {}
_guard = threading.Lock()


def thumb_path(cache: Path, sha256: str) -> Path:
    """Where the thumbnail of a picture with this content lies."""
    return cache / "thumbs" / f"{sha256}.webp"


def known_looks(project: Project) -> dict[str, tuple[Stamp, Look]]:
    """What the index says, without looking at any picture. Read again only when the index changed."""
    index = Index(project.cache_dir)
    return _known_of(index).rows


def _known_of(index: Index) -> _Known:
    with _guard:
        token = index.mark("looks")
        if token == (0, 0):
            _known.pop(index.path, None)
            return _Known()
        have = _known.get(index.path)
        if have is None or have.token != token:
            have = _Known(token, index.rows())
            while len(_known) >= 16:
                _known.pop(next(iter(_known)))
            _known[index.path] = have
        return have


def scan(
    project: Project, progress: Progress | None = None, should_stop: Callable[[], bool] | None = None
) -> Scan:
    """Look at every new or changed picture and return all of them.

    Interrupted at any moment it goes on where it was. With `should_stop` answering True it ends early, and pictures
    not yet looked at are missing in the answer. Uses one thread a core.
    """
    settle(project)
    derived.settle(project)
    renaming.settle(project)
    listing = look(project.dataset_dir)
    captions = CaptionStore(project).of(listing)
    known = _known_of(Index(project.cache_dir))
    if known.answer is not None and known.answer[0] == listing and known.answer[1] is captions:
        return replace(known.answer[2], pictures=list(known.answer[2].pictures))
    if known.answer is not None and _only_words(known.answer[0], listing):
        return _recaptioned(known, listing, captions)
    cache = project.cache_dir
    fresh, todo = _parted(listing, known, cache)
    if todo:
        fresh |= _look_at_all(project, todo, progress, should_stop)
    gone = [n for n in known.rows if n not in listing.pictures]
    if gone:
        with suppress(sqlite3.DatabaseError):
            Index(cache).drop(gone)
    pictures = []
    folder = cache / "thumbs"
    for name, stamp in listing.pictures.items():
        found = fresh.get(name)
        if found is None:
            continue
        seen, caption = found[1], captions.get(name)
        pictures.append(
            Picture(
                name, seen.width, seen.height, seen.mode, seen.format, stamp[0], seen.sha256, seen.error or None, seen.phash,
                seen.phash_flip, seen.sharpness, seen.light, seen.frames, seen.exif_rotated, seen.has_alpha,
                caption.text if caption else "", folder / f"{seen.sha256}.webp", seen.depth, seen.profile, seen.bars,
                seen.ground, seen.burnt, seen.drowned,
            )
        )  # fmt: skip
    answer = Scan(project.dataset_dir, cache, pictures, len(todo), listing.subfolders)
    if not todo and not gone:
        known.answer = (listing, captions, answer)
    return replace(answer, pictures=list(pictures))


def waiting_sizes(project: Project) -> list[int]:
    """Sizes in bytes of the pictures that the next `scan` has to look at."""
    listing = look(project.dataset_dir)
    known = _known_of(Index(project.cache_dir))
    return [stamp[0] for _, stamp in _parted(listing, known, project.cache_dir)[1]]


def _parted(
    listing: Listing, known: _Known, cache: Path
) -> tuple[dict[str, tuple[Stamp, Look]], list[tuple[str, Stamp]]]:
    """What is known of the pictures as they lie there now, and those that have to be looked at."""
    thumbs = _thumbs(cache)
    fresh: dict[str, tuple[Stamp, Look]] = {}
    todo: list[tuple[str, Stamp]] = []
    for name, stamp in listing.pictures.items():
        have = known.rows.get(name)
        if have is not None and have[0] == stamp and (have[1].error or have[1].sha256 in thumbs):
            fresh[name] = have
        else:
            todo.append((name, stamp))
    return fresh, todo


def _only_words(before: Listing, now: Listing) -> bool:
    """Whether nothing but captions changed."""
    return before.pictures is now.pictures and before.subfolders == now.subfolders


def _recaptioned(known: _Known, listing: Listing, captions: Mapping[str, Caption]) -> Scan:
    """The last answer with other captions: most are the same objects, and so are most pictures then."""
    assert known.answer is not None
    _, old, last = known.answer
    pictures = list(last.pictures)
    places = last.shown.once("places", lambda: {p.name: n for n, p in enumerate(last.pictures)})
    written, same = last.captioned, True  # whether each has a caption: mostly stays as it is
    for name in changed(old, captions):
        n, now = places.get(name), captions.get(name)
        if n is None or (text := now.text if now else "") == pictures[n].caption:
            continue
        if bool(text) != bool(pictures[n].caption):
            written = list(written) if written is last.captioned else written
            written[n] = bool(text)
        pictures[n], same = replace(pictures[n], caption=text), False
    answer = replace(last, pictures=pictures, facts=last.facts if same else Memo())
    if not same:
        answer.facts.once("captioned", lambda: written)
    known.answer = (listing, captions, answer)
    return replace(answer, pictures=list(pictures))


def _thumbs(cache: Path) -> set[str]:
    """Content hashes of the thumbnails that are there."""
    try:
        return {n[:-5] for n in os.listdir(cache / "thumbs") if n.endswith(".webp")}
    except FileNotFoundError:
        return set()


def _look_at_all(
    project: Project,
    todo: list[tuple[str, Stamp]],
    progress: Progress | None,
    should_stop: Callable[[], bool] | None,
) -> dict[str, tuple[Stamp, Look]]:
    """Look at files in parallel; store the results in batches as they come.

    In an order that has nothing to do with their names: large and small ones mixed, so that the pace so far tells the
    pace to come.
    """
    index = Index(project.cache_dir)
    thumbs = project.cache_dir / "thumbs"
    thumbs.mkdir(parents=True, exist_ok=True)
    found: dict[str, tuple[Stamp, Look]] = {}
    unsaved: list[tuple[str, Stamp, Look]] = []
    saved_at = time.monotonic()
    threads = min(cpu_threads(), len(todo))

    def one(name: str, stamp: Stamp) -> tuple[str, Stamp, Look] | None:
        try:
            seen = look_at(project.dataset_dir / name)
        except FileNotFoundError:
            return None
        except OSError as e:
            seen = Look("", f"It cannot be read: {e.strerror or e}.")
        if seen.thumb:
            put_thumb(thumb_path(project.cache_dir, seen.sha256), seen.thumb)
        return name, stamp, seen

    with ThreadPoolExecutor(threads, thread_name_prefix="scan") as pool:
        rest = iter(sorted(todo, key=lambda t: zlib.crc32(t[0].encode("utf-8", "surrogateescape"))))
        running: set[Future[tuple[str, Stamp, Look] | None]] = set()
        for name, stamp in rest:
            running.add(pool.submit(one, name, stamp))
            if len(running) >= threads * 3:
                break
        while running:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            stop = should_stop is not None and should_stop()
            for future in finished:
                result = future.result()
                if result is not None:
                    name, stamp, seen = result
                    found[name] = (stamp, _without_bulk(seen))
                    unsaved.append(result)
                if not stop and (following := next(rest, None)) is not None:
                    running.add(pool.submit(one, *following))
            if len(unsaved) >= _BATCH or time.monotonic() - saved_at > _SAVE_S or not running:
                index.put(unsaved)
                unsaved, saved_at = [], time.monotonic()
            if progress is not None:
                progress(len(found), len(todo), "Looking at the pictures")
    return found


def _without_bulk(seen: Look) -> Look:
    """A look without the bytes that are only needed on disk."""
    return replace(seen, thumb=b"", grey=b"", tint=b"")


def put_thumb(path: Path, content: bytes) -> None:
    """Write a thumbnail whole or not at all; not flushed, since it can be made again."""
    if path.exists():
        return
    handle, name = tempfile.mkstemp(suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as f:
            f.write(content)
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError:
        with suppress(OSError):
            os.unlink(name)
        raise
