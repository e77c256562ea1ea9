"""Writing many files into one folder: each whole or not at all, the disk told once for a batch instead of once a file.

Files are written under temporary names; a batch is then flushed file by file, which costs little once all of it is on
its way, renamed in the order given, and made durable with one flush of the folder. A process that dies leaves only
whole files under their final names.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from studio.errors import EnvironmentalError

FILES, BYTES = 128, 256_000_000
"""A batch is stored when it holds so many files or bytes."""


class Batch:
    """Use as a context manager; on leaving, what was put is stored, also after an error."""

    def __init__(self, folder: Path, stored: Callable[[list[str]], None] | None = None) -> None:
        """stored: told the names of each batch once its files lie under them."""
        self._folder = folder
        self._stored = stored
        self._waiting: list[tuple[str, str]] = []
        self._bytes = 0

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.flush()

    def put(self, name: str, content: bytes) -> None:
        """Write a file, to appear as `name` with the batch. Raises EnvironmentalError when the disk refuses."""
        temporary = ""
        try:
            handle, temporary = tempfile.mkstemp(prefix=".import-", suffix=".tmp", dir=self._folder)
            with os.fdopen(handle, "wb") as f:
                f.write(content)
            os.chmod(temporary, 0o644)
        except OSError as e:
            with suppress(OSError):
                os.unlink(temporary)
            raise _refused(name, self._folder, e) from e
        self._waiting.append((temporary, name))
        self._bytes += len(content)
        if len(self._waiting) >= FILES or self._bytes >= BYTES:
            self.flush()

    def flush(self) -> None:
        """Store what waits."""
        waiting, self._waiting, self._bytes = self._waiting, [], 0
        name = ""
        try:
            if (
                len(waiting) > 8
            ):  # together, because a journalling file system commits many at the price of one
                with ThreadPoolExecutor(16) as pool:
                    list(pool.map(_to_disk, (temporary for temporary, _ in waiting)))
            else:
                for temporary, _ in waiting:
                    _to_disk(temporary)
            for temporary, name in waiting:
                os.replace(temporary, self._folder / name)
            if waiting and os.name != "nt":
                _to_disk(str(self._folder), os.O_RDONLY)
        except OSError as e:
            for temporary, _ in waiting:
                with suppress(OSError):
                    os.unlink(temporary)
            raise _refused(name, self._folder, e) from e
        if self._stored is not None and waiting:
            self._stored([name for _, name in waiting])


def _to_disk(path: str, flags: int = os.O_RDWR) -> None:
    fd = os.open(path, flags)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _refused(name: str, folder: Path, error: OSError) -> EnvironmentalError:
    return EnvironmentalError(
        f"{name} could not be written.",
        f"The computer answered: {error.strerror or error}.",
        f"Free some room on the disk of {folder}, or check that you may write there, then import again: what came in stays.",
    )
