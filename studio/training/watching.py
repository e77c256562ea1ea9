"""Looking after a run while it trains: silence, and a disk that fills up. Each is a finding, told once, while it happens."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from studio import files
from studio.files import human_size
from studio.findings import Finding
from studio.training import anomalies

LOOK_EVERY_S = 5.0
# A checkpoint and the state beside it are written whole before older ones go, and the log and the events go on meanwhile.
SAVES_KEPT_FREE = 2
# Below this many bytes browsers and the system itself begin to fail, whatever the run needs.
LEAST_FREE = 1_000_000_000


def disk_nearly_full(free: int, save_bytes: int) -> Finding | None:
    """Whether the next saves may not find room. free: bytes on the disk; save_bytes: one checkpoint and its state."""
    needed = max(LEAST_FREE, SAVES_KEPT_FREE * save_bytes)
    if free >= needed:
        return None
    return Finding(
        severity="warn",
        code="disk-nearly-full",
        what=f"Only {human_size(free)} are free on the disk.",
        why=f"A checkpoint and its state take {human_size(save_bytes)} here. When one cannot be written, the run fails and only "
        "what was saved before is left.",
        fix="Free some room now; the run goes on meanwhile. Old runs and their checkpoints are the largest.",
    )


class Watch:
    """Looks every few seconds, in a thread of its own, until it is closed.

    folder: of the run. tell: called with each finding, once for each code.
    save_bytes: of one checkpoint and its state.
    """

    def __init__(self, folder: Path, tell: Callable[[Finding], None], save_bytes: int = 0) -> None:
        self.folder, self.tell, self.save_bytes = folder, tell, save_bytes
        self._heard = time.monotonic()
        self._pace: float | None = None
        self._told: set[str] = set()
        self._over = threading.Event()

    def heard(self, pace: float | None = None) -> None:
        """Something moved: a step, a sample, a picture read. pace: seconds of a step, once they are known."""
        self._heard = time.monotonic()
        self._pace = pace or self._pace

    def look(self, now: float | None = None) -> list[Finding]:
        """What is odd at this moment and was not told yet. now: of the monotonic clock."""
        silent = (time.monotonic() if now is None else now) - self._heard
        found = [
            anomalies.stalled(silent, self._pace),
            disk_nearly_full(files.free_bytes(self.folder), self.save_bytes),
        ]
        new = [f for f in found if f is not None and f.code not in self._told]
        self._told |= {f.code for f in new}
        return new

    def __enter__(self) -> Watch:
        threading.Thread(target=self._run, name="run-watch", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _run(self) -> None:
        while not self._over.wait(LOOK_EVERY_S):
            for finding in self.look():
                self.tell(finding)
