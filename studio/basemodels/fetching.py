"""One pinned file of a model, fetched inside a job: base models, taggers and models that measure come the same way."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio import remote

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker

_MEGA = 1_000_000


@dataclass(frozen=True)
class Wanted:
    """A file to fetch. url: where it lies; target: where it belongs; bytes, sha256: what it has to be; headers: what is sent along."""

    url: str
    target: Path
    bytes: int
    sha256: str
    headers: Mapping[str, str] | None = None

    @property
    def is_here(self) -> bool:
        """Whether it is there in full length; its hash was checked when it came."""
        return self.target.is_file() and self.target.stat().st_size == self.bytes


def fetch(worker: Worker, file: Wanted, before: int, whole: int, allow: Collection[str]) -> bool:
    """Fetch a file unless it is here; it takes its name only when its hash is right, and goes on where it was. Whether it came now.

    before, whole: bytes of the model that are here, and all of them, for the progress. allow: origins besides public https ones.
    Raises JobStopped when the job is stopped (what arrived stays) and what `remote.download` raises.
    """
    if file.is_here:
        return False

    def tell(done: int, _whole: int | None) -> None:
        words = f"{'Checking' if done >= file.bytes else 'Downloading'} {file.target.name}"
        worker.progress(round((before + done) / _MEGA, 1), round(whole / _MEGA, 1), "MB", words)

    try:
        remote.download(
            file.url, file.target, max_bytes=file.bytes, sha256=file.sha256, headers=file.headers, progress=tell,
            should_stop=lambda: worker.should_stop, allow=allow, wait=worker.sleep,
        )  # fmt: skip
    except remote.Stopped:
        worker.check()
        raise
    return True
