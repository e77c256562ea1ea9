"""The dataset's side of gate 1: findings and facts, and a fingerprint that is cheap to take."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.captions.store import Caption, CaptionStore
from studio.dataset.audit import audit
from studio.dataset.buckets import bucket_preview
from studio.dataset.duplicates import find_duplicates
from studio.dataset.fixes import FIXES as FIXES
from studio.dataset.fixes import fix_finding as fix_finding
from studio.dataset.folder import Listing, Stamp, look
from studio.dataset.origins import picture_repeats, regularisation_pictures
from studio.dataset.scan import known_looks, scan
from studio.dataset.set_aside import set_aside_list
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.dataset.scan import Scan
    from studio.models import BaseModelEntry
    from studio.project import Project


def dataset_findings(
    project: Project, entry: BaseModelEntry | None = None
) -> tuple[list[Finding], dict[str, Any]]:
    """The audit's findings and the facts they rest on. Looks at pictures that changed since the last scan.

    facts: pictures, readable, captioned, approved, exact_duplicates, near_duplicates, set_aside, bytes, average_size
    ([width, height] or None), smallest_size, largest_size, buckets ([[width, height, count], ...]), repeats.
    """
    seen = scan(project)
    captions = CaptionStore(project).of(look(project.dataset_dir))
    groups = find_duplicates(seen)
    measured = seen.shown.once("sizes", lambda: _sizes(seen))
    captioned, approved = seen.facts.once("how many written", lambda: _written(captions), captions)
    facts: dict[str, Any] = {
        "pictures": len(seen),
        "readable": measured["readable"],
        "captioned": captioned,
        "approved": approved,
        "exact_duplicates": sum(len(g.names) - 1 for g in groups if g.kind == "exact"),
        "near_duplicates": sum(len(g.names) - 1 for g in groups if g.kind == "near"),
        "set_aside": len(set_aside_list(project)),
        **{k: measured[k] for k in ("bytes", "average_size", "smallest_size", "largest_size")},
        "buckets": [[b.width, b.height, len(b.names)] for b in bucket_preview(seen, project.settings)],
        "repeats": sorted(set(picture_repeats(project).values())),
        "regularisation": len(regularisation_pictures(project)),
    }
    return audit(project, seen, entry), facts


def _sizes(seen: Scan) -> dict[str, Any]:
    """Facts about the files and sizes of the pictures."""
    sizes = sorted(((p.width, p.height) for p in seen.readable), key=lambda s: s[0] * s[1])
    return {
        "readable": len(sizes),
        "bytes": sum(p.bytes for p in seen),
        "average_size": [round(sum(s[i] for s in sizes) / len(sizes)) for i in (0, 1)] if sizes else None,
        "smallest_size": list(sizes[0]) if sizes else None,
        "largest_size": list(sizes[-1]) if sizes else None,
    }


def _written(captions: Mapping[str, Caption]) -> tuple[int, int]:
    """How many captions there are, and how many of all are approved."""
    return sum(bool(c.text) for c in captions.values()), sum(
        c.status == "approved" for c in captions.values()
    )


_hashed: dict[tuple[Path, Stamp], str] = {}
_fingerprints: dict[Path, tuple[Mapping[str, Caption], Listing, str, dict[str, int | str], str]] = {}


def dataset_fingerprint(project: Project) -> str:
    """A short hash of what is taught: names and contents of the pictures, their captions and repeats, the trigger.

    Cheap at 10,000 pictures: a file is read only when its size, time or inode changed. The same before and after a
    scan, and on another computer with the same files.
    """
    trigger = project.intent.trigger
    extra = regularisation_pictures(project)
    # A mark for regularisation is told with the repeats, so that projects without one keep their fingerprint.
    repeats: dict[str, int | str] = {**picture_repeats(project)}
    repeats |= {n: f"{repeats.get(n, 1)} regularisation" for n in extra}
    listing = look(project.dataset_dir)
    captions, known = CaptionStore(project).of(listing), known_looks(project)
    have = _fingerprints.get(project.folder)
    if have is not None and have[0] is captions and have[1:4] == (listing, trigger, repeats):
        return have[4]
    digest = hashlib.sha256(f"trigger {trigger}\n".encode())
    for name, stamp in listing.pictures.items():
        seen = known.get(name)
        sha = seen[1].sha256 if seen is not None and seen[0] == stamp else ""
        caption = captions.get(name)
        text = (
            hashlib.sha256(caption.text.encode("utf-8", "replace")).hexdigest()
            if caption and caption.exists
            else "-"
        )
        line = (
            f"{name}\0{sha or _content(project.dataset_dir / name, stamp)}\0{text}\0{repeats.get(name, 1)}\n"
        )
        digest.update(line.encode("utf-8", "surrogatepass"))
    answer = digest.hexdigest()[:16]
    if len(_fingerprints) > 16:
        _fingerprints.clear()
    _fingerprints[project.folder] = (captions, listing, trigger, repeats, answer)
    return answer


def _content(path: Path, stamp: Stamp) -> str:
    """Content hash of a picture that no scan has seen yet, remembered while it stays the same."""
    key = (path, stamp)
    if key not in _hashed:
        if len(_hashed) > 50_000:
            _hashed.clear()
        try:
            _hashed[key] = files.sha256_file(path)
        except OSError as e:
            return f"unreadable {e.errno}"
    return _hashed[key]
