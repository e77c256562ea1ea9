"""The deep look: pictures compared by what a network sees in them. Optional, a job, about 0.1 CPU seconds a picture.

The network is EfficientNet-Lite0, which comes whole inside a package (no download). Its pooled features find copies
that the layout misses, above all crops, and tell pictures of different content apart better than small copies do; they
miss greyscale copies, which the layout finds. The server only reads what the job wrote, and never loads the network.

What the job finds lies in `<cache>/deep.sqlite`, by content hash. It can be deleted at any time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from studio import files
from studio.dataset.apart import Apart
from studio.dataset.index import Index
from studio.dataset.near import Copies
from studio.errors import BusyError, InputError
from studio.jobs.job import list_jobs
from studio.jobs.launch import launch_call

if TYPE_CHECKING:
    from studio.dataset.scan import Scan
    from studio.jobs.job import Job
    from studio.project import Project

KIND = "deep-look"
SECONDS = 0.1
"""CPU seconds a picture, reading it included, on a plain computer core."""
ALIKE = 0.94
"""Cosine of the content features from which two pictures count as near copies."""
VERSION = 1
LEFT_OUT = ""
"""Rests when pictures of a large family were not compared with one another, because the user called them different."""
_BLOCK = 1024
FAMILY = 24
"""So many pictures alike to one are compared with that one only, not with one another: of ten thousand frames of one
scene all pairs would be fifty million."""

Floats = NDArray[np.float32]
# Came later than the other tables, which stay as they are.
_RESTING = "CREATE TABLE IF NOT EXISTS resting (sha256 TEXT PRIMARY KEY, middle TEXT) WITHOUT ROWID;"
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS seen (sha256 TEXT PRIMARY KEY, content BLOB, style BLOB) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pairs (a TEXT, b TEXT, likeness REAL, PRIMARY KEY (a, b)) WITHOUT ROWID;
{_RESTING}
PRAGMA user_version = {VERSION};
"""


def _path(cache: Path) -> Path:
    return cache / "deep.sqlite"


def mark(cache: Path) -> tuple[int, int]:
    """Changes when the deep look found something new."""
    try:
        st = _path(cache).stat()
    except OSError:
        return (0, 0)
    return (st.st_size, st.st_mtime_ns)


@contextmanager
def _open(cache: Path) -> Iterator[sqlite3.Connection]:
    cache.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(_path(cache), timeout=30)
    with closing(db), db:
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            tables = "".join(f"DROP TABLE IF EXISTS {t};" for t in ("seen", "pairs", "resting"))
            db.executescript(tables + _SCHEMA)
        else:
            db.execute(_RESTING)
        yield db


def _read(cache: Path, query: str) -> list[tuple[object, ...]]:
    """Rows; [] when nothing was looked at yet. A damaged file is thrown away."""
    if not _path(cache).is_file():
        return []
    try:
        with _open(cache) as db:
            return db.execute(query).fetchall()
    except sqlite3.DatabaseError:
        _path(cache).unlink(missing_ok=True)
        return []


def pairs(cache: Path) -> list[tuple[str, str, str, float]]:
    """Near copies by content: two content hashes in order, `deep`, their likeness."""
    rows = _read(cache, "SELECT a, b, likeness FROM pairs")
    return [(str(a), str(b), "deep", float(v)) for a, b, v in rows]  # type: ignore[arg-type]


def known(cache: Path) -> set[str]:
    """Content hashes of the pictures that were looked at."""
    return {str(row[0]) for row in _read(cache, "SELECT sha256 FROM seen")}


def features(cache: Path) -> dict[str, tuple[Floats, Floats]]:
    """Content and style features (unit length) by content hash."""
    found = {}
    for sha, content, style in _read(cache, "SELECT sha256, content, style FROM seen"):
        found[str(sha)] = (_vector(content), _vector(style))
    return found


def _vector(raw: object) -> Floats:
    values = np.frombuffer(bytes(raw), dtype=np.float16).astype(np.float32)  # type: ignore[call-overload]
    length = float(np.linalg.norm(values))
    return np.asarray(values / length if length else values)


def missing(scan: Scan) -> list[str]:
    """Names of readable pictures that the deep look has not seen, one for each content."""

    def make() -> list[str]:
        seen = known(scan.cache)
        todo = {p.sha256: p.name for p in reversed(scan.readable) if p.sha256 not in seen}
        return sorted(todo.values())

    return list(scan.shown.once("missing to the deep look", make, mark(scan.cache)))


def put(cache: Path, items: Iterable[tuple[str, Floats, Floats]]) -> None:
    """Store features by content hash; one transaction."""
    rows = [(s, c.astype(np.float16).tobytes(), t.astype(np.float16).tobytes()) for s, c, t in items]
    with _open(cache) as db:
        db.executemany("INSERT OR REPLACE INTO seen VALUES (?, ?, ?)", rows)


def put_pairs(
    cache: Path, found: Iterable[tuple[str, str, float]], resting: Mapping[str, str] | None = None
) -> None:
    """Replace what is known about near copies. resting: as `resting` answers."""
    with _open(cache) as db:
        db.execute("DELETE FROM pairs")
        db.execute("DELETE FROM resting")
        db.executemany("INSERT OR REPLACE INTO pairs VALUES (?, ?, ?)", list(found))
        db.executemany("INSERT OR REPLACE INTO resting VALUES (?, ?)", list((resting or {}).items()))


def resting(cache: Path) -> dict[str, str]:
    """Pictures of large families, each with the one in the middle, which alone it was compared with."""
    return {str(s): str(m) for s, m in _read(cache, "SELECT sha256, middle FROM resting")}


def compare(cache: Path, order: Sequence[str], apart: Apart) -> int:
    """Find near copies by content among those of these content hashes, best first, that were looked at; how many pairs.

    Things of one shape in two colours are told apart by their colours. Around a picture with many alike to it they are
    compared with it only, and what the user called different (`apart`) in such a family is left out.
    """
    copies, vectors = Index(cache).copies(), features(cache)
    order = [s for s in order if s in copies and s in vectors]
    if not order:
        return 0
    rows = np.stack([vectors[s][0] for s in order])
    colours = Copies([copies[s][0] for s in order], [copies[s][1] for s in order])
    found: list[tuple[str, str, float]] = []
    at: dict[str, str] = {}
    asleep = np.zeros(len(rows), np.bool_)
    sets = np.array([apart.largest(s) for s in order], np.int64)
    for i, others, cosines in _alike(rows, asleep):
        if sets[i] >= 0:
            ask = sets[others] != sets[i]
            if len(ask) - int(ask.sum()) >= FAMILY:  # a crowd that was called different is not even looked at
                at |= {LEFT_OUT: ""}
                others, cosines = others[ask], cosines[ask]
        at_i = np.full(len(others), i)
        same = colours.same_colours(at_i, others) | colours.same_colours(at_i, others, mirrored=True)
        others, cosines = others[same], cosines[same]
        middle, family = order[i], len(others) >= FAMILY
        if family and sets[i] >= 0:
            ask = sets[others] != sets[i]
            at |= {} if ask.all() else {LEFT_OUT: ""}
            others, cosines = others[ask], cosines[ask]
        for n, likeness in zip(others.tolist(), cosines.tolist(), strict=True):
            found.append((*sorted((middle, order[n])), min(1.0, likeness)))
            if family and (middle, order[n]) not in apart:
                at[order[n]], asleep[n] = middle, True
    put_pairs(cache, found, at)
    return len(found)


def _alike(rows: Floats, asleep: NDArray[np.bool_]) -> Iterator[tuple[int, NDArray[np.int64], Floats]]:
    """Of each row that is not `asleep` when its turn comes, the later ones that are not either and whose cosine is at
    least ALIKE, with it. Who asks may put rows to sleep meanwhile."""
    start = 0
    while start < len(rows):
        part = start + np.nonzero(~asleep[start:])[0][:_BLOCK]
        if not len(part):
            return
        # In the beginning few at a time: most of a large family need never be asked.
        part = part[: 32 if start == 0 else _BLOCK]
        awake = start + np.nonzero(~asleep[start:])[0]
        cosines = rows[part] @ rows[awake].T
        for k, i in enumerate(part.tolist()):
            if asleep[i]:
                continue
            near = (cosines[k] >= ALIKE) & (awake > i) & ~asleep[awake]
            if near.any():
                yield i, awake[near], cosines[k][near]
        start = int(part[-1]) + 1


# ---------------------------------------------------------------- the job


def running(project: Project) -> Job | None:
    """The deep look that is going on; None when there is none."""
    return next((j for j in list_jobs(project.jobs_dir) if j.spec.kind == KIND and j.is_alive), None)


def start(project: Project, scan: Scan) -> Job:
    """Look at every picture not seen yet, in the background. Interrupted, it goes on where it was.

    Raises BusyError when one is going on, InputError when there is nothing to look at.
    """
    if running(project) is not None:
        raise BusyError("A deep look is going on.", "Two would do the same work.", "Wait for it, or stop it.")
    if not scan.readable:
        raise InputError(
            "There are no pictures to look at.", "The dataset is empty.", "Add pictures on the dataset page."
        )
    return launch_call(
        project.jobs_dir / files.new_id(KIND),
        "studio.dataset.workers.deep_look:run",
        {"workspace": str(project.workspace.root), "project": project.slug},
        kind=KIND,
        title="Deep look at the pictures",
        project=project.slug,
    )
