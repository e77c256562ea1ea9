"""Where each picture came from, and how often it is repeated: `<project>/pictures.json`.

Repeats come from kohya's `N_name` folders. A picture without an entry has one repeat.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio import files
from studio.dataset.folder import look

if TYPE_CHECKING:
    from studio.project import Project


@dataclass(frozen=True)
class Origin:
    """source: what the file was called.  added: when it came in.  repeats: 0 when nothing was said."""

    source: str
    added: str
    repeats: int = 0


_read: dict[Path, tuple[tuple[int, int, int], dict[str, Origin]]] = {}


def all_origins(project: Project) -> dict[str, Origin]:
    """What is known, by picture name. The file is read again only when it changed."""
    path = project.folder / "pictures.json"
    try:
        st = path.stat()
    except FileNotFoundError:
        return {}
    stamp = (st.st_size, st.st_mtime_ns, st.st_ino)
    have = _read.get(path)
    if have is None or have[0] != stamp:
        raw = files.read_json(path) or {}
        found = {
            n: Origin(str(o.get("source", "")), str(o.get("added", "")), int(o.get("repeats", 0)))
            for n, o in raw.items()
        }
        if len(_read) > 16:
            _read.clear()
        have = _read[path] = (stamp, found)
    return dict(have[1])


def add(project: Project, new: Mapping[str, Origin]) -> None:
    """Remember origins; a picture that is known keeps its first one, but takes new repeats. Needs the dataset lock."""
    if not new:
        return
    known = all_origins(project)
    for name, origin in new.items():
        old = known.get(name)
        known[name] = origin if old is None else Origin(old.source, old.added, origin.repeats or old.repeats)
    plain = {
        n: {"source": o.source, "added": o.added, **({"repeats": o.repeats} if o.repeats else {})}
        for n, o in sorted(known.items())
    }
    files.write_json(project.folder / "pictures.json", plain)


def picture_repeats(project: Project) -> dict[str, int]:
    """Repeats of the pictures in the dataset that came from an `N_name` folder; others are not in it."""
    found = {n: o.repeats for n, o in all_origins(project).items() if o.repeats > 0}
    if not found:
        return {}
    there = look(project.dataset_dir).pictures
    return {n: r for n, r in found.items() if n in there}
