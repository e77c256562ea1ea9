"""The dataset folder as it lies on disk: which files are pictures, which are captions.

The layout is kohya's: `name.png` with its caption in `name.txt` beside it, all in one folder. Because the caption is
found by the stem, two pictures must not share one.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from studio.dataset.listing import CAPTION_SUFFIX as CAPTION_SUFFIX
from studio.dataset.listing import PICTURE_SUFFIXES as PICTURE_SUFFIXES
from studio.dataset.listing import Listing as Listing
from studio.dataset.listing import Stamp as Stamp
from studio.dataset.listing import caption_path as caption_path
from studio.dataset.listing import stem_of as stem_of
from studio.dataset.watch import full_look as full_look
from studio.dataset.watch import look as look
from studio.dataset.watch import one_look as one_look
from studio.dataset.watch import will_tell as will_tell
from studio.dataset.watch import writing
from studio.dataset.watch import wrote as wrote
from studio.errors import BusyError

if TYPE_CHECKING:
    from studio.project import Project

_mine = threading.local()  # of each thread: the locks it holds


@contextmanager
def dataset_lock(project: Project, wait_s: float = 30.0) -> Iterator[None]:
    """The lock that whoever adds, moves or removes pictures holds. A thread that holds it may take it again.

    Raises BusyError when another thread or process keeps it for longer than `wait_s` seconds.
    """
    with _locked(
        project.folder / ".dataset.lock",
        wait_s,
        "The pictures of this project are being changed by another task.",
    ):
        yield


@contextmanager
def captions_lock(project: Project, wait_s: float = 30.0) -> Iterator[None]:
    """The lock around every write to captions; otherwise like `dataset_lock`. Taken after it, never before."""
    with _locked(
        project.folder / ".captions.lock",
        wait_s,
        "The captions of this project are being changed by another task.",
    ):
        yield


@contextmanager
def _locked(path: Path, wait_s: float, busy: str) -> Iterator[None]:
    held: dict[Path, FileLock] = _mine.__dict__.setdefault("held", {})
    lock = held.get(path) or held.setdefault(path, FileLock(str(path)))
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout as e:
        raise BusyError(
            busy,
            "Two writers at once could lose each other's work.",
            "Wait until it has finished, then try again.",
        ) from e
    try:
        with writing(path.parent):  # a writer goes by what lies there now
            yield
    finally:
        lock.release()
