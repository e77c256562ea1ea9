"""Running the tools of an installation (git, venv, pip): every line to the log, stopped when the job is."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from studio.errors import EnvironmentalError

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker

_LAST_LINES = 60
_TERM_PATIENCE_S = 10.0
_TICK_S = 1.0
# What would lead git or pip somewhere else than they are told.
_DROPPED = ("PYTHON", "VIRTUAL_ENV", "STUDIO_", "GIT_", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_ROOT")


class Failed(Exception):
    """A tool ended with an error. code: its exit code; lines: the last that it said."""

    def __init__(self, code: int, lines: list[str]) -> None:
        super().__init__(f"exit code {code}")
        self.code, self.lines = code, lines

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def tool_environment(folder: Path) -> dict[str, str]:
    """The environment of the tools: downloads and temporary files stay in `folder`, nothing is asked."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(_DROPPED)}
    temporary = folder / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    return {
        **kept,
        "TMPDIR": str(temporary), "TEMP": str(temporary), "TMP": str(temporary),
        "PIP_CACHE_DIR": str(folder / "downloads"), "PIP_NO_INPUT": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PYTHONNOUSERSITE": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1",
        "GIT_TERMINAL_PROMPT": "0", "GIT_ALLOW_PROTOCOL": "https:file", "GCM_INTERACTIVE": "never", "LC_ALL": "C",
    }  # fmt: skip


def run(
    worker: Worker,
    line: list[str],
    *,
    cwd: Path,
    env: dict[str, str],
    on_line: Callable[[str], object] | None = None,
    on_tick: Callable[[], object] | None = None,
    quiet: bool = False,
) -> None:
    """Run a tool to its end; each of its lines goes to the log and to `on_line`.

    on_tick: called about once a second, also while the tool says nothing. quiet: the command itself is not logged. Raises Failed, EnvironmentalError when the tool is not here, JobStopped.
    """
    if not quiet:
        print("$", " ".join(line), flush=True)
    last: deque[str] = deque(maxlen=_LAST_LINES)
    try:
        process = subprocess.Popen(
            line, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0
        )  # fmt: skip
    except OSError as e:
        raise EnvironmentalError(
            f"{Path(line[0]).name} could not be started.",
            f"The computer answered: {e.strerror or e}.",
            "Install git (git-scm.com, or: sudo apt install git), then try again."
            if line[0] == "git"
            else "Check that it is there and that you may start it, then try again.",
        ) from e

    def read() -> None:
        assert process.stdout is not None
        rest = b""
        while piece := os.read(process.stdout.fileno(), 65536):
            *whole, rest = (rest + piece).replace(b"\r", b"\n").split(b"\n")
            for raw in whole:
                told(raw.decode("utf-8", "replace").rstrip())
        if rest:
            told(rest.decode("utf-8", "replace").rstrip())

    def told(text: str) -> None:
        if not text:
            return
        last.append(text)
        print(text, flush=True)
        if on_line is not None:
            on_line(text)

    reader = threading.Thread(target=read, name="tool-output", daemon=True)
    reader.start()
    ticked = time.monotonic()
    try:
        while process.poll() is None:
            if worker.sleep(0.1):
                break
            if on_tick is not None and time.monotonic() - ticked >= _TICK_S:
                ticked = time.monotonic()
                on_tick()
    finally:
        _end(process)
        reader.join(timeout=5.0)
        if not reader.is_alive() and process.stdout is not None:
            process.stdout.close()
    worker.check()
    if process.returncode:
        raise Failed(process.returncode, list(last))


def _end(process: subprocess.Popen[bytes]) -> None:
    """See that it has ended; what it started is ended by the job's supervisor."""
    if process.poll() is not None:
        return
    process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(_TERM_PATIENCE_S)
        return
    process.kill()
    process.wait()
