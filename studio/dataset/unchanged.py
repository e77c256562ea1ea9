"""A file's content, made sense of once and read again only when the file changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
_MOST = 16
"""Files that are remembered: one a project, and few projects are looked at side by side."""


class Unchanged(Generic[T]):
    """What one kind of file says, for any number of projects.

    read: makes sense of a file that is there.   nothing: the answer when there is none.
    Answers are the same object as long as a file keeps its size, time and inode; they are not to be changed.
    """

    def __init__(self, read: Callable[[Path], T], nothing: T) -> None:
        self._read, self._nothing = read, nothing
        self._known: dict[Path, tuple[tuple[int, int, int], T]] = {}

    def of(self, path: Path) -> T:
        """What the file says now. Raises what `read` raises."""
        try:
            st = path.stat()
        except FileNotFoundError:
            return self._nothing
        stamp = (st.st_size, st.st_mtime_ns, st.st_ino)
        have = self._known.get(path)
        if have is None or have[0] != stamp:
            found = self._read(path)
            while len(self._known) >= _MOST:
                self._known.pop(next(iter(self._known)), None)
            have = self._known[path] = (stamp, found)
        return have[1]
