"""What an import works from when it does not lie on this computer yet: a ZIP at an https address, files of a browser.

They wait in `<project>/incoming/` until every picture has come in; a job that was stopped or killed goes on from there.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from studio import files
from studio.dataset.archives import MAX_UNPACKED
from studio.dataset.formats import refusal
from studio.dataset.intake import SPARE_BYTES, Begins, ImportReport, import_pictures
from studio.errors import InputError

if TYPE_CHECKING:
    from studio.project import Project

BytesProgress = Callable[[int, int | None], None]
Progress = Callable[[int, int, str], None]


def incoming_dir(project: Project) -> Path:
    """Where files wait."""
    return project.folder / "incoming"


def is_url(text: str) -> bool:
    """Whether this is meant as an address rather than as a path."""
    return re.match(r"^[A-Za-z][A-Za-z0-9+.-]*://", text.strip()) is not None


def check_address(url: str, *, allow: Collection[str] = ()) -> None:
    """Return when a ZIP may be fetched from here: https, and a public address. Raises InputError."""
    from studio import remote

    remote.check_url(url, allow=allow)


def import_url(
    project: Project,
    url: str,
    *,
    fetching: BytesProgress | None = None,
    begins: Begins | None = None,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
    allow: Collection[str] = (),
) -> ImportReport:
    """Fetch a ZIP (or one picture) and import it. A download that broke off is gone on with.

    fetching: told (bytes so far, bytes in all or None) while it arrives; begins, progress: as for `import_pictures`.
    allow:    origins that are let through although they are not public; for tests.
    Raises InputError (unsafe address, too large, no ZIP), NotFoundError, EnvironmentalError, BusyError.
    """
    from studio import remote

    url = url.strip()
    target = _place(project, url)
    if not target.is_file():
        room = max(1, files.free_bytes(project.folder) - SPARE_BYTES)
        try:
            remote.download(
                url,
                target,
                max_bytes=min(MAX_UNPACKED, room),
                progress=fetching,
                should_stop=should_stop,
                allow=allow,
            )
        except remote.Stopped:
            return ImportReport(stopped=True)
    _must_be_of_use(target, url)
    report = import_pictures(project, [target], begins=begins, progress=progress, should_stop=should_stop)
    if not report.stopped:
        drop(target.parent)
    return report


def _place(project: Project, url: str) -> Path:
    """Where the file of an address arrives: the same place each time, so that a broken download goes on."""
    key = hashlib.sha256(url.encode("utf-8", "replace")).hexdigest()[:16]
    last = unquote(urlsplit(url).path.rstrip("/").rsplit("/", 1)[-1])
    name = re.sub(r"[^\w.-]+", "_", last)[-60:].strip(".") or "download"
    return incoming_dir(project) / key / name


def _must_be_of_use(path: Path, url: str) -> None:
    with path.open("rb") as f:
        head = f.read(32)
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        if path.suffix.lower() not in (".zip", ""):
            path.rename(path.with_suffix(".zip"))
        return
    if refusal("", max(1, len(head)), head) is None:
        return
    page = head.lstrip()[:1] == b"<"
    drop(path.parent)
    raise InputError(
        f"There is no ZIP at {urlsplit(url).hostname}{urlsplit(url).path}.",
        "The server sent a web page instead." if page else "What arrived is neither a ZIP nor a picture.",
        "Copy the address of the download itself, not of the page with its button. It must work without signing in.",
    )


def keep_uploads(project: Project, uploads: Iterable[tuple[str, bytes]]) -> Path:
    """Store what a browser sent, as a folder to import from; the names stay what they were, whatever they are.

    Raises EnvironmentalError when the disk refuses.
    """
    folder = incoming_dir(project) / files.new_id("upload")
    folder.mkdir(parents=True, exist_ok=True)
    loose: list[tuple[str, bytes]] = []
    n = 0
    for name, raw in uploads:
        if raw[:4] in (b"PK\x03\x04", b"PK\x05\x06") and name.lower().endswith(".zip"):
            n += 1
            base = re.sub(r"[^\w.-]+", "_", name.replace("\\", "/").rsplit("/", 1)[-1])[-60:]
            files.write_bytes(folder / f"{n}-{base}", raw)
        else:
            loose.append((name, raw))
    if loose:
        # One uncompressed archive holds names that no file system would take, and is as quick as copying.
        with (
            files.atomic_file(folder / "files.zip") as f,
            zipfile.ZipFile(f, "w", zipfile.ZIP_STORED) as pack,
        ):
            for name, raw in loose:
                pack.writestr(name.replace("\\", "/"), raw)
    return folder


def drop(folder: Path) -> None:
    """Delete what waited, when all of it has come in or the user does not want the rest."""
    shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.parent.rmdir()  # only when nothing else waits
