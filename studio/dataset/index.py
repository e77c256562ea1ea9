"""The scan index: what is known about each picture, in SQLite. It can be deleted at any time and is made again.

One row a picture, valid as long as the file's stamp (size, time, inode) is the same. A damaged or foreign file is
thrown away.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from studio.dataset.folder import Stamp
from studio.dataset.pixels import Look

VERSION = 7
"""Goes up whenever a measure changes its meaning, so that old rows are not believed."""

_COLUMNS = (
    "sha256", "error", "width", "height", "mode", "format", "frames", "exif_rotated", "has_alpha", "phash", "phash_flip",
    "sharpness", "light", "depth", "profile", "bars", "ground", "burnt", "drowned", "grey", "tint",
)  # fmt: skip
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS pictures (
  name TEXT PRIMARY KEY, size INTEGER, mtime INTEGER, inode INTEGER, sha256 TEXT, error TEXT, width INTEGER,
  height INTEGER, mode TEXT, format TEXT, frames INTEGER, exif_rotated INTEGER, has_alpha INTEGER, phash BLOB,
  phash_flip BLOB, sharpness REAL, light REAL, depth INTEGER, profile TEXT, bars REAL, ground REAL, burnt REAL,
  drowned REAL, grey BLOB, tint BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS compared (sha256 TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pairs (a TEXT, b TEXT, kind TEXT, likeness REAL, PRIMARY KEY (a, b)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS resting (sha256 TEXT PRIMARY KEY, middle TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS changes (what TEXT PRIMARY KEY, n INTEGER) WITHOUT ROWID;
INSERT OR IGNORE INTO changes VALUES ('born', 1 + abs(random() % 1000000007));
PRAGMA user_version = {VERSION};
"""


_marks: dict[Path, tuple[tuple[int, int, int], dict[str, int]]] = {}
_CHANGED = "INSERT INTO changes VALUES (?, 1) ON CONFLICT (what) DO UPDATE SET n = n + 1"


@dataclass
class Pairs:
    """Which pictures were compared with each other, all by their content hash.

    compared: those that were.   found: pairs that are alike: a, b, `exact` or `near`, likeness.
    resting:  those that were compared with one picture only, of which they are copies (`studio.dataset.stars`).
    """

    compared: set[str] = field(default_factory=set)
    found: list[tuple[str, str, str, float]] = field(default_factory=list)
    resting: dict[str, str] = field(default_factory=dict)


class Index:
    """The index of one project, kept in `<cache>/scan.sqlite`."""

    def __init__(self, cache: Path) -> None:
        self.path = cache / "scan.sqlite"
        cache.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        """A connection whose work is committed at the end. A file that is no index of this version is replaced."""
        for attempt in (1, 2):
            db = sqlite3.connect(self.path, timeout=30)
            try:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                if version not in (0, VERSION):
                    raise sqlite3.DatabaseError("another version")
                if version == 0:
                    db.executescript(_SCHEMA)
                db.execute("SELECT name, grey FROM pictures LIMIT 1").fetchall()
                break
            except sqlite3.OperationalError as e:
                db.close()
                if attempt == 2 or "locked" in str(e):
                    raise
                self.forget()
            except sqlite3.DatabaseError:
                db.close()
                if attempt == 2:
                    raise
                self.forget()
        with closing(db), db:
            yield db

    def forget(self) -> None:
        """Throw the index away."""
        for suffix in ("", "-journal", "-wal", "-shm"):
            with suppress(FileNotFoundError):
                self.path.with_name(self.path.name + suffix).unlink()

    def _safely(self, query: str, values: Iterable[object] = ()) -> list[tuple[object, ...]]:
        """A query's rows; when the file turns out damaged in the middle, it is thrown away and the answer is empty."""
        try:
            with self._open() as db:
                return db.execute(query, tuple(values)).fetchall()
        except sqlite3.DatabaseError:
            self.forget()
            return []

    def rows(self) -> dict[str, tuple[Stamp, Look]]:
        """Stamp and look of every known picture, by name; without the grey copies."""
        wanted = ", ".join(c if c not in ("grey", "tint") else "x''" for c in _COLUMNS)
        found: dict[str, tuple[Stamp, Look]] = {}
        for row in self._safely(f"SELECT name, size, mtime, inode, {wanted} FROM pictures"):
            name, size, mtime, inode, *rest = row
            found[str(name)] = ((int(size), int(mtime), int(inode)), _look(rest))  # type: ignore[call-overload]
        return found

    def put(self, items: Iterable[tuple[str, Stamp, Look]]) -> None:
        """Store looks; one transaction."""
        marks = ", ".join("?" * (4 + len(_COLUMNS)))
        rows = [(name, *stamp, *_values(look)) for name, stamp, look in items]
        with self._open() as db:
            db.executemany(f"INSERT OR REPLACE INTO pictures VALUES ({marks})", rows)
            db.execute(_CHANGED, ("looks",))

    def drop(self, names: Iterable[str]) -> None:
        """Forget pictures that are gone."""
        with self._open() as db:
            db.executemany("DELETE FROM pictures WHERE name = ?", [(n,) for n in names])
            db.execute(_CHANGED, ("looks",))

    def copies(self) -> dict[str, tuple[bytes, bytes]]:
        """The grey and the tint copy of every readable picture, by content hash."""
        rows = self._safely("SELECT sha256, grey, tint FROM pictures WHERE error = ''")
        return {str(sha): (bytes(grey), bytes(tint)) for sha, grey, tint in rows}  # type: ignore[call-overload]

    def pairs(self) -> Pairs:
        """What was compared, and what was found."""
        compared = {str(row[0]) for row in self._safely("SELECT sha256 FROM compared")}
        pairs = self._safely("SELECT a, b, kind, likeness FROM pairs")
        resting = self._safely("SELECT sha256, middle FROM resting")
        return Pairs(
            compared,
            [(str(a), str(b), str(k), float(v)) for a, b, k, v in pairs],  # type: ignore[arg-type]
            {str(s): str(m) for s, m in resting},
        )

    def mark(self, what: Literal["looks", "pairs"]) -> tuple[int, int]:
        """Changes whenever `rows` or `pairs` may answer otherwise. Costs a look at the file; (0, 0) without one."""
        try:
            st = self.path.stat()
        except FileNotFoundError:
            return (0, 0)
        token = (st.st_size, st.st_mtime_ns, st.st_ino)
        have = _marks.get(self.path)
        if have is None or have[0] != token:
            rows = self._safely("SELECT what, n FROM changes")
            while len(_marks) >= 16:
                _marks.pop(next(iter(_marks)))
            have = _marks[self.path] = (token, {str(w): int(str(n)) for w, n in rows})
        return have[1].get("born", 0), have[1].get(what, 0)

    def put_pairs(self, new: Pairs) -> None:
        """Add to `pairs`; one transaction."""
        with self._open() as db:
            db.executemany("INSERT OR IGNORE INTO compared VALUES (?)", [(sha,) for sha in new.compared])
            db.executemany("DELETE FROM resting WHERE sha256 = ?", [(sha,) for sha in new.compared])
            db.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?, ?)", new.found)
            db.executemany("INSERT OR REPLACE INTO resting VALUES (?, ?)", list(new.resting.items()))
            db.execute(_CHANGED, ("pairs",))

    def forget_compared(self, shas: Iterable[str]) -> None:
        """Compare pictures anew, by their content hashes."""
        with self._open() as db:
            db.executemany("DELETE FROM compared WHERE sha256 = ?", [(sha,) for sha in shas])
            db.execute(_CHANGED, ("pairs",))


def _values(look: Look) -> tuple[object, ...]:
    return tuple(
        getattr(look, c).to_bytes(32, "big") if c in ("phash", "phash_flip") else getattr(look, c)
        for c in _COLUMNS
    )


def _look(values: list[object]) -> Look:
    known = dict(zip(_COLUMNS, values, strict=True))
    for key in ("phash", "phash_flip"):
        known[key] = int.from_bytes(bytes(known[key]), "big")  # type: ignore[call-overload]
    known["exif_rotated"], known["has_alpha"] = bool(known["exif_rotated"]), bool(known["has_alpha"])
    return Look(**known)  # type: ignore[arg-type]
