"""Reading and writing files so that nothing is lost.

Every write goes to a temporary file in the same folder, is flushed to disk and then renamed over the target: a
crash, a full disk or a second writer leaves either the old content or the new, never half of it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import yaml

from studio.errors import EnvironmentalError, InputError

_WINDOWS_RESERVED = {
    "con",
    "prn",
    "aux",
    "nul",
    *(f"com{i}" for i in range(10)),
    *(f"lpt{i}" for i in range(10)),
}


def now() -> str:
    """The present moment, ISO 8601 in UTC to the second: the one time format in files."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@contextmanager
def atomic_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a temporary neighbour of `path` for writing bytes; on success it replaces `path`, on error it is removed.

    Raises EnvironmentalError when the disk is full or the folder cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as f:
            yield f
            f.flush()
            os.fsync(f.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as e:
        with suppress(OSError):
            temporary.unlink()
        raise EnvironmentalError(
            f"{path.name} could not be written.",
            f"The computer answered: {e.strerror or e}.",
            f"Free some room on the disk of {path.parent}, or check that you may write there, then try again.",
        ) from e
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable; not possible, and not needed, on Windows."""
    if os.name == "nt":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_bytes(path: Path, content: bytes) -> None:
    """Write bytes atomically."""
    with atomic_file(path) as f:
        f.write(content)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically, line ends as given."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically, indented so that a person can read it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def write_yaml(path: Path, content: Any) -> None:
    """Write YAML atomically, in the order given."""
    write_text(path, yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110))


def _parsed(path: Path, parse: Callable[[str], Any], kind: str) -> Any:
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, yaml.YAMLError) as e:
        raise InputError(
            f"{path.name} cannot be read as {kind}.",
            f"{str(e).splitlines()[0]} ({path})",
            "Restore the file from a backup, or delete it and set its contents again in the studio.",
        ) from e


def read_json(path: Path) -> Any:
    """The file's JSON, or None when there is no such file. Raises InputError when it is not JSON."""
    return _parsed(path, json.loads, "JSON")


def _load_yaml(text: str) -> Any:
    # libyaml reads the same language ten times faster; pages read these files at every click.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))


def read_yaml(path: Path) -> Any:
    """The file's YAML (safe loader), or None when there is no such file. Raises InputError when it is not YAML."""
    return _parsed(path, _load_yaml, "YAML")


def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """Add one line to a JSON-lines file with a single write, so that two writers never mix their lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(record, ensure_ascii=False, default=str) + "\n").encode("utf-8")
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(fd, line)
    finally:
        os.close(fd)


def read_jsonl(path: Path, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """Whole records from byte `offset` on, and the offset to go on from.

    A half-written last line is left for the next call; a line that is not JSON is skipped.
    """
    try:
        with path.open("rb") as f:
            f.seek(offset)
            chunk = f.read()
    except FileNotFoundError:
        return [], offset
    end = chunk.rfind(b"\n") + 1
    records = []
    for line in chunk[:end].splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records, offset + end


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file's content, read in pieces."""
    with path.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def ends_hash(path: Path) -> str:
    """Hex SHA-256 of a large file's size, beginning, middle and end: enough to notice another model, in a millisecond."""
    piece = 1 << 18
    size = path.stat().st_size
    seen = hashlib.sha256(str(size).encode())
    with path.open("rb") as f:
        for at in (0, size // 2, max(0, size - piece)):
            f.seek(at)
            seen.update(f.read(piece))
    return seen.hexdigest()


def fingerprint(value: Any) -> str:
    """A short stable hash (16 hex digits) of plain data; equal data gives equal fingerprints across runs."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:16]


def new_id(prefix: str) -> str:
    """A unique, sortable name such as `run-20261121-140301-3f9a`."""
    return f"{prefix}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"


def slug(text: str, fallback: str = "untitled") -> str:
    """A folder name that every file system takes: lower-case letters of any script, digits and hyphens, <= 60."""
    text = unicodedata.normalize("NFKC", text).strip().lower()
    text = re.sub(r"[^\w]+", "-", text, flags=re.UNICODE).replace("_", "-").strip("-")
    text = re.sub(r"-{2,}", "-", text)[:60].strip("-")
    return f"{text}-1" if text in _WINDOWS_RESERVED else (text or fallback)


def inside(folder: Path, name: str) -> Path:
    """`folder / name`, refused when it would lie outside of `folder` (.., absolute names, links that lead out).

    Raises InputError.
    """
    root = folder.resolve()
    target = (root / name).resolve()
    if target != root and root not in target.parents:
        raise InputError(
            f"'{name}' lies outside of its folder.",
            "The studio only touches files inside the workspace.",
            "Use a plain name without '..' or a leading slash.",
        )
    return target


def copy_atomic(source: Path, target: Path) -> None:
    """Copy a file's bytes to `target` atomically; the original is only read."""
    with source.open("rb") as s, atomic_file(target) as t:
        shutil.copyfileobj(s, t, 1024 * 1024)


def folder_size(folder: Path) -> int:
    """Bytes used by all files below `folder`, links not followed."""
    total = 0
    for root, _dirs, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += os.lstat(os.path.join(root, name)).st_size
    return total


def free_bytes(path: Path) -> int:
    """Free bytes on the disk that holds `path` or its nearest existing parent."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return shutil.disk_usage(path).free


def human_size(count: float) -> str:
    """Bytes for people: `812 KB`, `6.5 GB` (powers of 1000, as disks are sold)."""
    for unit in ("bytes", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if count >= 100 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def human_memory(count: float) -> str:
    """Bytes of memory for people: `812 MB`, `6.5 GB`, `24 GB` (powers of 1024, as memory and graphics cards are sold: a card
    with "24 GB" has 24 GB here too)."""
    for unit in ("bytes", "KB", "MB"):
        if round(count) < 1024:
            return f"{count:.0f} {unit}" if count >= 100 or unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    # A computer with 24 GB tells 23.6: the system keeps a little for itself.
    return f"{count:.1f} GB".replace(".0 GB", " GB")


def human_time(seconds: float) -> str:
    """Seconds for people: `45 s`, `3 min`, `1 h 20 min`."""
    seconds = max(0.0, seconds)
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes % 60 else f"{minutes // 60} h"


def human_span(least: float, most: float) -> str:
    """Two lengths of time in seconds for people: `3 to 5 min`, `50 s to 2 min`, or one where they read the same."""
    few, many = human_time(least), human_time(most)
    if few == many:
        return few
    (one, *unit), (_, *other) = few.split(" "), many.split(" ")
    return f"{one if unit == other and len(unit) == 1 else few} to {many}"
