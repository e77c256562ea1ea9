"""Plain words for the ways in which a process fails: what happened, why, and how to fix it."""

from __future__ import annotations

import errno
import re
import signal
import sys
from typing import Any

from studio.errors import EnvironmentalError, StudioError

_EXCEPTION_LINE = re.compile(
    r"^(?P<kind>(?:\w+\.)*[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Failure))(?::\s*(?P<text>.*))?$"
)
# Said by launchers about the process below them; the cause stands further up.
_DIED = re.compile(r"died with <Signals\.(SIG\w+)")
_ECHOES = ("CalledProcessError", "ChildFailedError", "BrokenPipeError", "KeyboardInterrupt")


def _error(what: str, why: str, fix: str, kind: str = "EnvironmentalError") -> dict[str, Any]:
    return {"error": kind, "what": what, "why": why, "fix": fix, "findings": []}


def of_exception(error: BaseException) -> dict[str, Any]:
    """An exception as error data: a StudioError as it is, anything else in plain words."""
    if isinstance(error, StudioError):
        return error.as_dict()
    kind, text = type(error).__name__, str(error).strip()
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        text = f"No space left on device {text}"
    return _of_words(kind, text) or unexpected(kind, text)


def unexpected(kind: str, text: str) -> dict[str, Any]:
    """An error that nobody foresaw."""
    first = text.splitlines()[0] if text else ""
    return _error(
        "Something unexpected went wrong.",
        f"{kind}: {first}" if first else f"{kind}.",
        "Look at the end of the log for the details. If it happens again with the same settings, report it with the log.",
        "UnexpectedError",
    )


def _of_words(kind: str, text: str) -> dict[str, Any] | None:
    """Known causes, by the exception's kind and text; None when it is none of them."""
    low = f"{kind}: {text}".lower()
    missing = re.search(r"no module named ['\"]?([\w.]+)", low)
    if missing:
        name = re.search(r"[Nn]o module named ['\"]?([\w.]+)", text)
        package = name.group(1) if name else missing.group(1)
        return _error(
            f"The Python package '{package}' is not installed.",
            "The work needs it.",
            f"Run `{_python()} -m pip install -r requirements.txt` in the studio's folder, then start again.",
        )
    if (
        "cuda out of memory" in low
        or "cuda error: out of memory" in low
        or "outofmemoryerror" in low
        or "hip out of memory" in low
    ):
        return _error(
            "The graphics card ran out of memory.",
            text.splitlines()[0][:300] if text else "The settings need more than it has.",
            "Lower the batch size or the resolution, or turn on gradient checkpointing. Close other programs that use "
            "the graphics card.",
        )
    if kind == "MemoryError" or "can't allocate memory" in low or "cannot allocate memory" in low:
        return _memory("Python could not get the memory it asked for.")
    if "no space left" in low or "disk quota exceeded" in low or "enospc" in low:
        return _error(
            "The disk is full.",
            text.splitlines()[0][:300] if text else "Nothing more could be written.",
            "Free some room on the disk of the workspace, then start again; what was saved before is still there.",
        )
    if kind == "PermissionError" or "permission denied" in low:
        return _error(
            "A file or folder may not be used.",
            f"The computer answered: {text.splitlines()[0][:300] if text else 'permission denied'}.",
            "Change its permissions so that you may read and write it, then start again.",
        )
    if kind == "FileNotFoundError":
        return _error(
            "A file is missing.",
            f"The computer answered: {text.splitlines()[0][:300] if text else 'no such file'}.",
            "Put it back, or choose another one, then start again.",
        )
    if "dll load failed" in low or "cannot open shared object file" in low:
        return _error(
            "A package is installed, but cannot be loaded.",
            text.splitlines()[0][:300],
            f"Install it again: `{_python()} -m pip install --force-reinstall -r requirements.txt`.",
        )
    return None


def _python() -> str:
    return "py" if sys.platform == "win32" else "python"


def _memory(why: str) -> dict[str, Any]:
    return _error(
        "The computer ran out of memory.",
        why,
        "Close other programs, or lower the batch size or the resolution, then start again.",
    )


def signal_name(number: int) -> str:
    """Name of a signal, such as "SIGKILL"."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def of_signal(name: str, out_of_memory: bool | None) -> dict[str, Any]:
    """Why a process that was ended by a signal ended.

    out_of_memory: whether the system says that it ended a process for lack of memory meanwhile; None when it cannot
    tell.
    """
    if name == "SIGKILL":
        if out_of_memory:
            return _memory("The system ended the job because no memory was left.")
        likely = (
            "Most often that is the system, when memory runs out."
            if out_of_memory is None
            else "The system reported no lack of memory, so it was probably ended by hand or by another program."
        )
        return _error(
            "The job was killed.",
            f"Something ended its process at once. {likely}",
            "Start it again; what was saved before is kept. If it happens again, close other programs, or lower the "
            "batch size or the resolution.",
            "KilledError",
        )
    reasons = {
        "SIGSEGV": "A compiled part of a package touched memory that is not its own.",
        "SIGBUS": "Memory shared between processes could not be used; often a file or /dev/shm is full.",
        "SIGILL": "A package uses instructions that this processor does not have.",
        "SIGFPE": "A compiled part of a package divided by zero.",
        "SIGABRT": "A compiled part of a package gave up.",
        "SIGTERM": "Another program, or the system shutting down, asked it to end.",
        "SIGXCPU": "It used more processor time than this account may.",
    }
    return _error(
        f"The job's process ended with {name}.",
        reasons.get(name, "It was ended from outside."),
        "Start it again. If that does not help, look at the end of the log and check that the packages are those of "
        "requirements.txt.",
        "KilledError",
    )


def of_log(lines: list[str], code: int, out_of_memory: bool | None = None) -> dict[str, Any]:
    """Why a program that left no word of its own failed, from its exit code and the last lines of its log."""
    for line in reversed(lines):
        found = _EXCEPTION_LINE.match(line.strip())
        if not found:
            continue
        kind = found["kind"].rsplit(".", 1)[-1]
        died = _DIED.search(found["text"] or "")
        if died:
            return of_signal(died[1], out_of_memory)
        if kind in _ECHOES:
            continue
        text = found["text"] or ""
        return _of_words(kind, text) or unexpected(kind, text)
    known = _of_words("", " ".join(lines[-5:]))
    if known:
        return known
    last = next((ln.strip() for ln in reversed(lines) if ln.strip()), "")
    return _error(
        f"The program ended with code {code}.",
        f"Its last line was: {last[:300]}" if last else "It printed nothing.",
        "Look at the end of the log for the details.",
        "ProgramError",
    )


def of_start(command: list[str], error: OSError) -> dict[str, Any]:
    """Why a program could not even be started."""
    return EnvironmentalError(
        f"'{command[0]}' could not be started.",
        f"The computer answered: {error.strerror or error}{f' ({error.filename})' if error.filename else ''}.",
        "Check that it is installed and may be run, then start again.",
    ).as_dict()
