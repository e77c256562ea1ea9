"""Pictures that are in the set more than once: the same picture saved twice, and near copies.

Near copies are found by a 256-bit perceptual hash of the picture and of its mirror image (Hamming distance at most
HASH_DISTANCE) and then verified by the correlation of small grey copies (at least LIKENESS), which keeps different
subjects on the same plain ground apart, and by their colours. Pairs once compared are remembered in the index.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from studio.captions.store import CaptionStore
from studio.dataset.index import Index
from studio.dataset.pixels import full_pixels
from studio.dataset.set_aside import remove_pictures
from studio.errors import InputError

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan
    from studio.project import Project

HASH_DISTANCE = 64
"""Bits of 256 that two hashes may differ in."""
LIKENESS = 0.95
"""Correlation of the grey copies from which two pictures count as near copies."""
SAME_COLOURS = 0.5
"""Cosine between the colours of two pictures below which they are different things of one shape."""
COLOURLESS = 32.0
"""Length of a picture's colours (an average of 4 of 128 a point) below which it is grey and has none to compare."""
_BLOCK = 512

Pair = tuple[str, str, str, float]
"""Two content hashes, `exact` or `near`, and their likeness (0 to 1)."""


@dataclass(frozen=True)
class DuplicateGroup:
    """Pictures that show the same.

    kind: `exact`: pixel for pixel; `near`: resized, mirrored, recompressed, slightly changed.
    names: the suggested one first.   suggested_keep: the one to keep.   why: the reason, in words.
    likeness: of the least alike one to the suggested one, 0 to 1.
    """

    kind: Literal["exact", "near"]
    names: tuple[str, ...]
    suggested_keep: str
    why: str
    likeness: float = 1.0


def find_duplicates(scan: Scan) -> list[DuplicateGroup]:
    """Groups of duplicates, exact ones first. No picture is in two groups, and each one is a duplicate of the
    suggested one directly, never only through others."""
    index = Index(scan.cache)
    pictures = scan.readable
    by_sha: dict[str, list[Picture]] = {}
    for p in pictures:
        by_sha.setdefault(p.sha256, []).append(p)
    first = {sha: same[0] for sha, same in by_sha.items()}
    compared, pairs = index.pairs()
    new = [sha for sha in first if sha not in compared]
    if new:
        old = [sha for sha in first if sha in compared]
        found = _compare(index, scan, first, new, old)
        index.put_pairs(new, found)
        pairs = pairs + found
    near: dict[str, dict[str, float]] = {}
    exact: dict[str, set[str]] = {}
    for a, b, kind, likeness in pairs:
        if a in first and b in first:
            if kind == "exact":
                exact.setdefault(a, set()).add(b)
                exact.setdefault(b, set()).add(a)
            else:
                near.setdefault(a, {})[b] = likeness
                near.setdefault(b, {})[a] = likeness
    ranked = sorted(pictures, key=_rank)
    used: set[str] = set()
    groups = []
    for best in ranked:
        if best.name not in used:
            same = [
                p
                for sha in (best.sha256, *exact.get(best.sha256, ()))
                for p in by_sha[sha]
                if p.name not in used
            ]
            if len(same) > 1:
                groups.append(_group("exact", best, [p for p in same if p is not best], 1.0))
                used |= {p.name for p in same}
    exactly = {g.suggested_keep for g in groups}
    taken: set[str] = {n for g in groups for n in g.names} - exactly
    for best in ranked:
        if best.name not in taken:
            alike = near.get(best.sha256, {})
            others = [p for sha in alike for p in by_sha[sha] if p.name not in taken and p is not best]
            if others:
                groups.append(_group("near", best, others, min(alike[p.sha256] for p in others)))
                taken |= {best.name, *(p.name for p in others)}
    return groups


def _rank(p: Picture) -> tuple[object, ...]:
    """Best first: most pixels, then captioned, then sharpest, then the larger file, then by name."""
    return (-p.pixels, not p.caption, -round(p.blur, 3), -p.bytes, len(p.name), p.name)


def _group(
    kind: Literal["exact", "near"], best: Picture, others: list[Picture], likeness: float
) -> DuplicateGroup:
    others = sorted(others, key=_rank)
    rival = others[0]
    if best.pixels > rival.pixels:
        why = f"largest, {best.width} x {best.height}"
    elif best.caption and not rival.caption:
        why = "the one with a caption"
    elif kind == "near" and best.blur > rival.blur * 1.05:
        why = "sharpest"
    elif best.bytes > rival.bytes:
        why = "least compressed"
    else:
        why = "the same as the others; first by name"
    return DuplicateGroup(kind, (best.name, *(p.name for p in others)), best.name, why, likeness)


def resolve(project: Project, group: DuplicateGroup, keep: str | Iterable[str] | None = None) -> list[str]:
    """Keep one picture of a group (or several) and set the others aside; the names set aside.

    keep: the suggested one when None. When a single kept one has no caption, it gets that of a set-aside one.
    Undone by `restore_pictures`. Raises InputError when `keep` is not in the group.
    """
    kept = {group.suggested_keep} if keep is None else {keep} if isinstance(keep, str) else set(keep)
    if not kept or not kept <= set(group.names):
        raise InputError(
            f"'{', '.join(sorted(kept - set(group.names))) or 'nothing'}' cannot be kept.",
            "It is not one of these duplicates.",
            f"Choose among: {', '.join(group.names)}.",
        )
    gone = [n for n in group.names if n not in kept and (project.dataset_dir / n).is_file()]
    if len(kept) == 1 and gone:
        store, one = CaptionStore(project), next(iter(kept))
        if (project.dataset_dir / one).is_file() and not store.get(one).text:
            for name in gone:
                caption = store.get(name)
                if caption.text:
                    store.set(one, caption.text, caption.author, expected="")
                    break
    return remove_pictures(
        project,
        gone,
        f"{'same' if group.kind == 'exact' else 'nearly the same'} picture as {', '.join(sorted(kept))}",
    )


# ---------------------------------------------------------------- comparing


def _compare(
    index: Index, scan: Scan, first: dict[str, Picture], new: list[str], old: list[str]
) -> list[Pair]:
    """All pairs with at least one new picture that are alike."""
    order = new + old
    hashes = _words(first[s].phash for s in order)
    flips = _words(first[s].phash_flip for s in order)
    candidates = [(order[i], order[j], mirrored) for i, j, mirrored in _close(hashes, flips, len(new))]
    if not candidates:
        return []
    copies = index.copies()
    wanted = {sha for a, b, _ in candidates for sha in (a, b) if sha in copies}
    grey = {sha: _standard(copies[sha][0]) for sha in wanted}
    found: dict[tuple[str, str], Pair] = {}
    for a, b, mirrored in candidates:
        if a not in grey or b not in grey:
            continue
        likeness = float((grey[a] * (grey[b][:, ::-1] if mirrored else grey[b])).mean())
        if likeness < LIKENESS or not _same_colours(copies[a][1], copies[b][1], mirrored):
            continue
        a, b = sorted((a, b))
        exact = not mirrored and likeness > 0.9995 and _equal(scan, first[a], first[b])
        if (a, b) not in found or exact or likeness > found[a, b][3]:
            found[a, b] = (a, b, "exact" if exact else "near", 1.0 if exact else likeness)
    return list(found.values())


def _words(hashes: Iterable[int]) -> NDArray[np.uint64]:
    """256-bit integers as rows of four 64-bit words."""
    packed = b"".join(h.to_bytes(32, "big") for h in hashes)
    return np.frombuffer(packed, dtype=">u8").astype(np.uint64).reshape(-1, 4)


def _close(
    hashes: NDArray[np.uint64], flips: NDArray[np.uint64], n_new: int
) -> Iterable[tuple[int, int, bool]]:
    """Index pairs (i < j, i new) within HASH_DISTANCE, as they are or with one mirrored. Quadratic in blocks."""
    edges = [*range(0, n_new, _BLOCK), n_new]
    for start, stop in pairwise(edges):
        for other, mirrored in ((hashes, False), (flips, True)):
            distance = np.zeros((stop - start, len(other) - start), dtype=np.uint16)
            for word in range(4):
                distance += np.bitwise_count(hashes[start:stop, word, None] ^ other[None, start:, word])
            rows, columns = np.nonzero(distance <= HASH_DISTANCE)
            for r, c in zip(rows.tolist(), columns.tolist(), strict=True):
                if r < c:
                    yield start + r, start + c, mirrored


def _standard(raw: bytes) -> NDArray[np.float32]:
    """A grey copy with mean 0 and variance 1, so that the mean of a product is the correlation."""
    values = np.frombuffer(raw, dtype=np.uint8).astype(np.float32).reshape(64, 64)
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 1e-3 else np.zeros_like(values)


def _same_colours(a: bytes, b: bytes, mirrored: bool) -> bool:
    """False for one thing in two colours, such as a red and a blue shoe. A grey copy counts as the same."""
    one, other = (np.frombuffer(t, dtype=np.uint8).reshape(8, 8, 2).astype(np.float32) - 128 for t in (a, b))
    if mirrored:
        other = other[:, ::-1]
    sizes = float(np.linalg.norm(one)), float(np.linalg.norm(other))
    return min(sizes) < COLOURLESS or float((one * other).sum()) / (sizes[0] * sizes[1]) >= SAME_COLOURS


def _equal(scan: Scan, a: Picture, b: Picture) -> bool:
    """Whether two pictures are equal pixel for pixel, whatever their file formats."""
    if (a.width, a.height) != (b.width, b.height):
        return False
    try:
        return bool(np.array_equal(full_pixels(scan.folder / a.name), full_pixels(scan.folder / b.name)))
    except Exception:  # noqa: BLE001  a decoder's own errors; then they are not known to be equal
        return False
