"""Looking at a dataset folder, as often as a page asks, without asking the disk about every file every time.

Outside of a page every look lists the folder anew: gates, jobs, launches and the command line go by what lies there at
that moment. Inside `one_look`, which is a page being drawn, a large folder is remembered between pages:

- files that came, went or were replaced change the time of the folder itself, which is asked at every look;
- files that another program changed in place do not; for them the folder is listed again in the background, every
  few seconds and only while somebody looks. After a longer silence the next look lists it before it answers.

Holding one of the locks of `studio.dataset.folder`, and inside `full_look`, every look lists. What the studio writes
itself it tells with `wrote`, which looks at those files only. Small folders are listed at every look.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from studio.dataset.listing import Listing, list_folder, merged, relist

MANY = 1500
"""Files from which a folder is remembered between two pages; listing fewer takes some 5 ms."""
AT_LEAST_S = 2.0
"""Seconds between two listings in the background, at least."""
SHARE = 40
"""They are so many times as far apart as one takes, so that watching costs a fortieth of a core at most."""
AT_MOST_S = 30.0
IDLE_S = 60.0
"""Seconds after the last look for which the watching goes on."""
_FOLDERS = 16  # remembered at most

_here = threading.local()  # of each thread: its looks, and how many full looks and locks it is inside of


@dataclass
class _Snapshot:
    """A folder as it was listed last.

    mark:    time and inode of the folder just before that.
    checked: when the last listing of all files began, s (monotonic).   wanted: when somebody asked last.
    every:   seconds after which it is listed again.
    """

    listing: Listing
    mark: tuple[int, int]
    checked: float
    wanted: float
    every: float


_snapshots: dict[Path, _Snapshot] = {}
_guard = threading.RLock()
_wake = threading.Event()
_watcher: threading.Thread | None = None
_under_way: dict[Path, list[list[str]]] = {}
"""Of each folder that is being listed: for each such listing, the files that we wrote since it began."""


def look(folder: Path) -> Listing:
    """What lies in `folder`; an empty listing when it does not exist. The same object while nothing changes.

    About 3 µs a file; inside `one_look` a few µs in all, and then what a program changed in place is noticed some
    seconds later.
    """
    looks: dict[Path, Listing] | None = getattr(_here, "looks", None)
    if looks is None or getattr(_here, "full", False):
        return _list(folder)
    found = looks.get(folder)
    if found is None:
        found = looks[folder] = _remembered(folder) or _list(folder)
    return found


@contextmanager
def one_look() -> Iterator[None]:
    """Inside, which is a page being drawn, this thread sees one state of each folder, however many parts of the page
    ask for it; only what the studio itself writes meanwhile is seen at once."""
    outer = getattr(_here, "looks", None)
    _here.looks = {}
    try:
        yield
    finally:
        _here.looks = outer


@contextmanager
def full_look() -> Iterator[None]:
    """Inside, every look asks the disk about every file, also on a page: for whatever writes, judges or trains."""
    _here.full = getattr(_here, "full", 0) + 1
    try:
        yield
    finally:
        _here.full -= 1
        forget_looks()


def on_a_page() -> bool:
    """Whether a page is being drawn, which must not wait for long; not so where something is written or judged."""
    return getattr(_here, "looks", None) is not None and not getattr(_here, "full", 0)


def forget_looks() -> None:
    """What this page has seen so far may not be so any more: its next look asks again."""
    looks = getattr(_here, "looks", None)
    if looks:
        looks.clear()


def wrote(folder: Path, names: Iterable[str]) -> None:
    """Told by whoever of the studio has just written, replaced or removed files of `folder`, holding its lock: only
    those are looked at again. Needed for speed alone; without it the next look lists the folder."""
    names = list(names)
    forget_looks()
    if getattr(_here, "writers", 0):
        _told().add(folder)
    with _guard:
        for told in _under_way.get(folder, ()):
            told += names
        have = _snapshots.get(folder)
        if have is None or have.listing.files < MANY:
            return
        have.mark = _mark(folder)
        have.listing = relist(have.listing, folder, names)


def will_tell(folder: Path) -> None:
    """Said by whoever has just taken a lock and tells of every file with `wrote`: then a write of nothing, such as
    approving what is approved, has the folder not listed again. Not believed when another writer holds a lock around."""
    if getattr(_here, "writers", 0) == 1:
        _told().add(folder)


@contextmanager
def writing(root: Path) -> Iterator[None]:
    """Inside, files in the folders of `root` are being written: every look lists. Folders of which `wrote` did not
    tell are listed again afterwards, whatever their time says."""
    _here.writers = getattr(_here, "writers", 0) + 1
    try:
        with full_look():
            yield
    finally:
        _here.writers -= 1
        if not _here.writers:
            with _guard:
                for folder, have in _snapshots.items():
                    if folder.parent == root and folder not in _told():
                        have.checked = float("-inf")
            _told().clear()


def _told() -> set[Path]:
    """Folders of which this thread told what it wrote, since it began to write."""
    found: set[Path] = _here.__dict__.setdefault("told", set())
    return found


def _mark(folder: Path) -> tuple[int, int]:
    try:
        st = os.stat(folder)
    except OSError:
        return (0, 0)
    return (st.st_mtime_ns, st.st_ino)


def _remembered(folder: Path) -> Listing | None:
    """What is known of a large folder, when that is still so as far as its own time tells."""
    with _guard:
        have = _snapshots.get(folder)
        if have is None or have.listing.files < MANY:
            return None
        now = time.monotonic()
        silent, have.wanted = now - have.wanted > IDLE_S, now
        if silent or now - have.checked > 2 * have.every + 1 or _mark(folder) != have.mark:
            return None
        _watch()
        return have.listing


def _list(folder: Path) -> Listing:
    """List the folder now, and remember it."""
    told: list[str] = []
    with _guard:
        _under_way.setdefault(folder, []).append(told)
    try:
        mark, began, cpu = _mark(folder), time.monotonic(), time.thread_time()
        found = list_folder(folder)
        cost = time.thread_time() - cpu
        with _guard:
            have = _snapshots.get(folder)
            if told and have is not None:  # else the next look would list again for what we wrote meanwhile
                found, mark = relist(found, folder, told), have.mark
            if have is not None:
                found = merged(have.listing, found)
                if have.checked > began:
                    return found  # another thread looked later
            elif len(_snapshots) >= _FOLDERS:
                _snapshots.pop(min(_snapshots, key=lambda f: _snapshots[f].wanted))
            every = min(max(AT_LEAST_S, SHARE * cost), AT_MOST_S)
            wanted = have.wanted if have is not None else began
            _snapshots[folder] = _Snapshot(found, mark, began, wanted, every)
        return found
    finally:
        with _guard:
            left = [other for other in _under_way[folder] if other is not told]
            if left:
                _under_way[folder] = left
            else:
                del _under_way[folder]


# ---------------------------------------------------------------- watching


def _watch() -> None:
    """See to it that somebody lists what is looked at. Called with the guard held."""
    global _watcher
    if _watcher is None:
        _wake.clear()
        _watcher = threading.Thread(target=_watching, name="dataset-watch", daemon=True)
        _watcher.start()


def _watching() -> None:
    global _watcher
    while True:
        with _guard:
            now = time.monotonic()
            looked_at = {
                f: s.checked + s.every
                for f, s in _snapshots.items()
                if s.listing.files >= MANY and now - s.wanted <= IDLE_S
            }
            if not looked_at:
                _watcher = None
                return
        for folder, due in looked_at.items():
            if due <= now:
                try:
                    _list(folder)
                except OSError:  # such as a network drive that went away: the page's own look will say so
                    with _guard:
                        _snapshots.pop(folder, None)
        if _wake.wait(max(0.1, min(looked_at.values()) - time.monotonic())):
            with _guard:
                _watcher = None
                return


def stop_watching() -> None:
    """End the watching and wait until it has ended; the next look at a large folder begins it again."""
    thread = _watcher
    _wake.set()
    if thread is not None:
        thread.join()
