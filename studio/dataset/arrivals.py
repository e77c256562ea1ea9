"""Looking at pictures while they come in: their bytes are in memory anyway, so that they are read and hashed once.

What is seen goes into the index as soon as the picture lies under its final name, so the scan after an import has
nothing left to do, and an import's forecast holds for all of the work.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

from studio.dataset.folder import Stamp
from studio.dataset.index import Index
from studio.dataset.pixels import Look, cpu_threads, measure
from studio.dataset.scan import put_thumb, thumb_path

if TYPE_CHECKING:
    from types import TracebackType

    from studio.project import Project


class Arrivals:
    """Use as a context manager around an import."""

    def __init__(self, project: Project) -> None:
        self._project = project
        self._index = Index(project.cache_dir)
        self._threads = cpu_threads()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="arrivals")
        self._looks: dict[str, Future[Look]] = {}
        self._open: list[Future[Look]] = []
        (project.cache_dir / "thumbs").mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Arrivals:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def came(self, name: str, raw: bytes, sha: str) -> None:
        """A picture is about to be stored as `name`. Waits while too many are being looked at, to bound memory."""
        future = self._pool.submit(measure, raw, sha)
        self._looks[name] = future
        self._open = [f for f in self._open if not f.done()]
        while len(self._open) >= self._threads * 2:
            self._open.pop(0).exception()
        self._open.append(future)

    def stored(self, names: list[str]) -> None:
        """Files lie under their final names now."""
        rows: list[tuple[str, Stamp, Look]] = []
        for name in names:
            future = self._looks.pop(name, None)
            if future is None:
                continue  # a caption
            # What goes wrong here is no loss: the next scan looks at the picture.
            with suppress(Exception):
                seen = future.result()
                if seen.thumb:
                    put_thumb(thumb_path(self._project.cache_dir, seen.sha256), seen.thumb)
                st = (self._project.dataset_dir / name).stat()
                rows.append((name, (st.st_size, st.st_mtime_ns, st.st_ino), seen))
        if rows:
            with suppress(Exception):
                self._index.put(rows)
