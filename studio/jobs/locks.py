"""Who lives, told by file locks: the operating system lets go of them when a process ends, however it ends.

Process ids lie: they are reused, and a killed process that nobody has waited for still answers to its id.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

from filelock import FileLock, Timeout

from studio.errors import BusyError, EnvironmentalError


def take(path: Path, timeout: float = 0.0, *, busy: str = "This job is already running.") -> FileLock:
    """Hold the lock file `path` until `release()` or the end of this process.

    timeout: seconds to go on trying. A reader that asks `held` may be in the way for an instant, so at least half
    a second is always given. Raises BusyError (its first sentence is `busy`) or EnvironmentalError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(str(path), thread_local=False)
    try:
        lock.acquire(timeout=max(timeout, 0.5), poll_interval=0.02)
    except Timeout as e:
        raise BusyError(
            busy, f"Another process holds {path}.", "Wait until it has ended, or stop it first."
        ) from e
    except (OSError, NotImplementedError) as e:
        raise EnvironmentalError(
            f"{path.name} could not be locked.",
            f"The computer answered: {getattr(e, 'strerror', None) or e}.",
            f"Check that you may write in {path.parent}. Some network disks cannot lock files: "
            "keep the workspace on a disk of this computer.",
        ) from e
    return lock


if sys.platform != "win32":
    import fcntl

    def held(path: Path) -> bool:
        """Whether a living process holds the lock. Asking is shared: two who ask never take each other for a holder."""
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            os.close(fd)
        return False

else:

    def held(path: Path) -> bool:
        """Whether a living process holds the lock. Asked three times, since another who asks looks like a holder."""
        if not path.exists():
            return False
        for _ in range(3):
            try:
                FileLock(str(path), thread_local=False).acquire(timeout=0).lock.release()
                return False
            except Timeout:
                time.sleep(0.015)
        return True
