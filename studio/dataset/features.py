"""Numbers by which pictures are compared for variety: the layout always, the content after the deep look.

Layout: a grey copy of 16 x 16 points, brightness and contrast taken out, beside the colours of 8 x 8 points less the
set's mean colours (what is the same in all pictures tells none apart). Content: what EfficientNet-Lite0 sees
(`studio.dataset.deep`). Both are rows of length 1, so that a product of two rows is their likeness, -1 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from studio.dataset import deep
from studio.dataset.index import Index
from studio.dataset.near import standard

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan

Floats = NDArray[np.float32]

TOO_ALIKE = {"layout": 0.8, "content": 0.8}
"""Likeness from which two pictures show nearly the same. Among 40 unrelated photographs and wallpapers 1 pair in 100
reaches it, all of them two versions of one picture; in a set of figures on white, the same pose by layout."""
UNRELATED = {"layout": 0.0, "content": 0.18, "style": 0.66}
"""Middle likeness of unrelated pictures (40 sample photographs of scikit-image and desktop wallpapers)."""


@dataclass(frozen=True)
class Features:
    """Features of n pictures.

    basis:   `layout` or `content`.
    names:   in order.   rows: n x d, unit length.   layout: the layout rows, also after the deep look.
    style:   n x s, unit length; None before the deep look.
    """

    basis: Literal["layout", "content"]
    names: tuple[str, ...]
    rows: Floats
    layout: Floats
    style: Floats | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def too_alike(self) -> float:
        return TOO_ALIKE[self.basis]


_known: dict[Path, tuple[list[Picture], frozenset[str], tuple[int, int], Features]] = {}


def features_of(scan: Scan, leave_out: frozenset[str] | set[str] = frozenset()) -> Features:
    """Features of the readable pictures but those of `leave_out`; by content when the deep look saw all of them.

    Read again only when something changed.
    """
    away, now = frozenset(leave_out), deep.mark(scan.cache)
    have = _known.get(scan.folder)
    if have is not None and have[1:3] == (away, now) and have[0] == scan.pictures:
        return have[3]
    found = _features(scan, away)
    while len(_known) >= 4:
        _known.pop(next(iter(_known)))
    _known[scan.folder] = (list(scan.pictures), away, now, found)
    return found


def _features(scan: Scan, away: frozenset[str]) -> Features:
    copies = Index(scan.cache).copies()
    chosen = [p for p in scan.readable if p.name not in away and p.sha256 in copies]
    names = tuple(p.name for p in chosen)
    layout = layout_rows([copies[p.sha256] for p in chosen])
    seen = deep.features(scan.cache) if chosen else {}
    if chosen and all(p.sha256 in seen for p in chosen):
        content = np.stack([seen[p.sha256][0] for p in chosen])
        style = np.stack([seen[p.sha256][1] for p in chosen])
        return Features("content", names, content, layout, style)
    return Features("layout", names, layout, layout)


def layout_rows(copies: list[tuple[bytes, bytes]]) -> Floats:
    """Layout features of pictures given by their grey and tint copies."""
    if not copies:
        return np.zeros((0, 1), np.float32)
    grey = np.frombuffer(b"".join(g for g, _ in copies), np.uint8).reshape(-1, 64, 64)
    small = np.concatenate(
        [
            standard(grey[n : n + 1024]).reshape(-1, 16, 4, 16, 4).mean(axis=(2, 4)).reshape(-1, 256)
            for n in range(0, len(grey), 1024)
        ]
    )
    tint = np.frombuffer(b"".join(t for _, t in copies), np.uint8).reshape(len(copies), -1)
    colours = (tint.astype(np.float32) - 128) / 200
    return unit(np.concatenate([unit(small), colours - colours.mean(axis=0)], axis=1))


def unit(rows: Floats) -> Floats:
    """Rows scaled to length 1; zero rows stay zero."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6), dtype=np.float32)


def mean_likeness(rows: Floats) -> float:
    """Mean likeness of all pairs of different rows; 0 for fewer than two. Linear in the number of rows."""
    n = len(rows)
    if n < 2:
        return 0.0
    total = float(np.square(rows.astype(np.float64).sum(axis=0)).sum())
    own = float(np.square(rows.astype(np.float64)).sum())
    return (total - own) / (n * (n - 1))
