"""Where an export is written: beside its target under a hidden name, which becomes the target when all is done.

A process that dies in between leaves a hidden file or folder, never half a dataset under the name that was asked for.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from studio.errors import EnvironmentalError


class Place(Protocol):
    """A folder or an archive that is being filled. packed: whether it is an archive."""

    packed: bool

    def put(self, name: str, content: bytes) -> None:
        """Write one file; `name` is its path inside, with slashes."""

    def drop(self) -> None:
        """Leave nothing behind."""


class _Folder:
    packed = False

    def __init__(self, root: Path) -> None:
        self.root: Path | None = root

    def put(self, name: str, content: bytes) -> None:
        assert self.root is not None
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def drop(self) -> None:
        self.root = None


class _Zip:
    packed = True

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self.archive = archive
        self.dropped = False

    def put(self, name: str, content: bytes) -> None:
        # pictures are packed already; squeezing them again costs time and saves nothing
        how = zipfile.ZIP_DEFLATED if name.endswith((".txt", ".toml", ".bmp")) else zipfile.ZIP_STORED
        self.archive.writestr(name, content, how)

    def drop(self) -> None:
        self.dropped = True


@contextmanager
def export_place(target: Path) -> Iterator[Place]:
    """A place that becomes `target`, a new ZIP or folder, at the end of the block, unless it was dropped or an error came.

    Raises EnvironmentalError when the disk refuses, or when something came to lie at `target` meanwhile.
    """
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.suffix.lower() == ".zip":
            yield from _packing(target)
        else:
            yield from _filling(target)
    except OSError as e:
        raise EnvironmentalError(
            f"{target.name} could not be written; nothing was left behind.",
            f"The computer answered: {e.strerror or e}.",
            f"Check the room on the disk of {target.parent}, and that you may write there, then try again.",
        ) from e


def _filling(target: Path) -> Iterator[Place]:
    root = Path(tempfile.mkdtemp(prefix=f".{target.name[:40]}.", suffix=".tmp", dir=target.parent))
    try:
        place = _Folder(root)
        yield place
        if place.root is not None:
            if hasattr(os, "sync"):
                os.sync()
            root.chmod(0o755)
            with suppress(OSError):
                target.rmdir()  # only an empty folder goes; anything else makes the next line fail
            root.rename(target)
    finally:
        shutil.rmtree(root, ignore_errors=True)


def _packing(target: Path) -> Iterator[Place]:
    handle, name = tempfile.mkstemp(prefix=f".{target.name[:40]}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "w+b") as f:
            with zipfile.ZipFile(f, "w", allowZip64=True) as archive:
                place = _Zip(archive)
                yield place
            f.flush()
            os.fsync(f.fileno())
        if not place.dropped:
            os.chmod(name, 0o644)
            try:
                os.link(name, target)  # fails, where a rename would write over what came there meanwhile
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                if target.exists():
                    raise
                os.rename(name, target)
    finally:
        with suppress(OSError):
            os.unlink(name)
