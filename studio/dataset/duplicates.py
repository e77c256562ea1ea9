"""Pictures that are in the set more than once: the same picture saved twice, and near copies.

Near copies are found by their layout: hashes and small grey copies without letterbox bars, also mirrored (see
`studio.dataset.near`). After the deep look (`studio.dataset.deep`) they are also found by their content, which finds
crops that the layout misses. Pairs once compared are remembered in the index; pairs that the user called different
are kept in `<project>/not_duplicates.json` and never asked about again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from studio import files
from studio.captions.store import CaptionStore
from studio.dataset import deep, near
from studio.dataset.index import Index
from studio.dataset.pixels import full_pixels
from studio.dataset.set_aside import remove_pictures
from studio.errors import InputError

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan
    from studio.project import Project

NOT_DUPLICATES = "not_duplicates.json"

Pair = tuple[str, str, str, float]
"""Two content hashes, `exact`, `near` or `deep`, and their likeness (0 to 1)."""


@dataclass(frozen=True)
class DuplicateGroup:
    """Pictures that show the same.

    kind: `exact`: pixel for pixel; `near`: resized, mirrored, recompressed, slightly changed.
    names: the suggested one first.   suggested_keep: the one to keep.   why: the reason, in words.
    likeness: of the least alike one to the suggested one, 0 to 1.
    deep:     only the deep look sees it: the same content, cut or processed differently.
    sharpest: the sharpest one, when it is clearly sharper than the suggested one; else the suggested one.
    """

    kind: Literal["exact", "near"]
    names: tuple[str, ...]
    suggested_keep: str
    why: str
    likeness: float = 1.0
    deep: bool = False
    sharpest: str = ""


_answers: dict[Path, tuple[list[Picture], Mark, list[DuplicateGroup]]] = {}
Mark = tuple[object, ...]


def mark(scan: Scan) -> Mark:
    """Changes whenever `find_duplicates` may answer otherwise for the same pictures. Costs two looks at a file."""
    return _stamp(scan.folder.parent / NOT_DUPLICATES), deep.mark(scan.cache)


def find_duplicates(scan: Scan) -> list[DuplicateGroup]:
    """Groups of duplicates, exact ones first. No picture is in two groups, and each one is a duplicate of the
    suggested one directly, never only through others."""
    now = mark(scan)
    have = _answers.get(scan.folder)
    if have is not None and have[1] == now and have[0] == scan.pictures:
        return list(have[2])
    groups = _groups(scan)
    while len(_answers) >= 16:
        _answers.pop(next(iter(_answers)))
    _answers[scan.folder] = (list(scan.pictures), now, groups)
    return list(groups)


def _groups(scan: Scan) -> list[DuplicateGroup]:
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
    apart = _apart(scan.folder.parent)
    near: dict[str, dict[str, tuple[float, bool]]] = {}
    exact: dict[str, set[str]] = {}
    for a, b, kind, likeness in (*deep.pairs(scan.cache), *pairs):  # what the layout says has the last word
        if a in first and b in first and (a, b) not in apart:
            if kind == "exact":
                exact.setdefault(a, set()).add(b)
                exact.setdefault(b, set()).add(a)
            else:
                near.setdefault(a, {})[b] = near.setdefault(b, {})[a] = (likeness, kind == "deep")
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
                likeness = min(alike[p.sha256][0] for p in others)
                only_deep = all(alike[p.sha256][1] for p in others)
                groups.append(_group("near", best, others, likeness, only_deep))
                taken |= {best.name, *(p.name for p in others)}
    return groups


def _rank(p: Picture) -> tuple[object, ...]:
    """Best first: most pixels without bars, then captioned, then sharpest, then the larger file, then by name."""
    return (-_inner(p), not p.caption, -round(p.blur, 3), -p.bytes, len(p.name), p.name)


def _inner(p: Picture) -> float:
    """Pixels without letterbox bars, and a little less: bars are measured on a small copy, and are to go anyway."""
    return p.pixels * (1 - p.bars) * 0.95 if p.bars else p.pixels


def _group(
    kind: Literal["exact", "near"],
    best: Picture,
    others: list[Picture],
    likeness: float,
    deep_only: bool = False,
) -> DuplicateGroup:
    others = sorted(others, key=_rank)
    rival = others[0]
    if rival.bars and not best.bars and best.pixels < rival.pixels:
        why = "the one without bars"
    elif best.pixels > rival.pixels:
        why = f"largest, {best.width} x {best.height}"
    elif best.caption and not rival.caption:
        why = "the one with a caption"
    elif kind == "near" and best.blur > rival.blur * 1.05:
        why = "sharpest"
    elif best.bytes > rival.bytes:
        why = "least compressed"
    else:
        why = "first by name"
    keenest = max(others, key=lambda p: p.blur)
    # At least half the pixels: a small copy looks sharper, because shrinking sharpens.
    sharper = kind == "near" and keenest.blur > best.blur * 1.25 and keenest.pixels * 2 > best.pixels
    names = (best.name, *(p.name for p in others))
    sharpest = keenest.name if sharper else best.name
    return DuplicateGroup(kind, names, best.name, why, likeness, deep_only, sharpest)


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


def keep_all(project: Project, group: DuplicateGroup) -> list[str]:
    """Say that the pictures of a group are no duplicates: all stay, and the group is not shown again. Its names.

    What is remembered are their contents, so that it holds whatever the files are called. Undone by `ask_again`.
    Raises InputError for pictures with the same content, of which keeping two teaches nothing.
    """
    shas = [_sha(project, n) for n in group.names]
    if group.kind == "exact":
        raise InputError(
            "The same picture cannot be two.",
            "These files hold the same pixels; keeping both only makes that picture count twice.",
            "Keep one, and raise its repeats if it shall count more.",
        )
    path = project.folder / NOT_DUPLICATES
    told = _apart(project.folder) | {_sorted(a, b) for a, b in combinations(shas, 2)}
    files.write_json(path, [list(p) for p in sorted(told)])
    project.decided("not duplicates", pictures=list(group.names))
    return list(group.names)


def ask_again(project: Project, names: Iterable[str] | None = None) -> int:
    """Forget that pictures (all when None) were called no duplicates; how many pairs are forgotten."""
    told = _apart(project.folder)
    chosen = None if names is None else {_sha(project, n) for n in names}
    kept = set() if chosen is None else {p for p in told if not chosen.issuperset(p)}
    if len(kept) < len(told):
        files.write_json(project.folder / NOT_DUPLICATES, [list(p) for p in sorted(kept)])
        project.decided("duplicates are asked about again", pairs=len(told) - len(kept))
    return len(told) - len(kept)


def resolve_all(project: Project, groups: Iterable[DuplicateGroup]) -> list[str]:
    """Keep the suggested picture of every group; the names set aside."""
    return [name for group in groups for name in resolve(project, group)]


def _apart(folder: Path) -> set[tuple[str, str]]:
    """Pairs of content hashes that the user called different."""
    try:
        raw = files.read_json(folder / NOT_DUPLICATES) or []
    except InputError:  # damaged by hand: then they are asked about again
        return set()
    return {_sorted(str(p[0]), str(p[1])) for p in raw if isinstance(p, list) and len(p) == 2}


def _sorted(a: str, b: str) -> tuple[str, str]:
    return (a, b) if a <= b else (b, a)


def _sha(project: Project, name: str) -> str:
    return files.sha256_file(project.dataset_dir / name)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        st = path.stat()
    except OSError:
        return (0, 0)
    return (st.st_size, st.st_mtime_ns)


# ---------------------------------------------------------------- comparing


def _compare(
    index: Index, scan: Scan, first: dict[str, Picture], new: list[str], old: list[str]
) -> list[Pair]:
    """All pairs with at least one new picture that are alike."""
    kept = index.copies()
    order = [s for s in new + old if s in kept]
    n_new = sum(s in kept for s in new)
    if not n_new:
        return []
    hashes, flips = near.words(first[s].phash for s in order), near.words(first[s].phash_flip for s in order)
    copies = near.Copies([kept[s][0] for s in order], [kept[s][1] for s in order])
    found: dict[tuple[str, str], Pair] = {}
    for (i, j), mirrored in near.close_pairs(hashes, flips, n_new):
        alike = copies.likeness(i, j, mirrored)
        for n in np.nonzero(alike >= near.LIKENESS)[0].tolist():
            a, b = sorted((order[i[n]], order[j[n]]))
            likeness = min(1.0, float(alike[n]))
            exact = not mirrored and likeness > 0.9995 and _equal(scan, first[a], first[b])
            if (a, b) not in found or exact or likeness > found[a, b][3]:
                found[a, b] = (a, b, "exact" if exact else "near", 1.0 if exact else likeness)
    return list(found.values())


def _equal(scan: Scan, a: Picture, b: Picture) -> bool:
    """Whether two pictures are equal pixel for pixel, whatever their file formats."""
    if (a.width, a.height) != (b.width, b.height):
        return False
    try:
        return bool(np.array_equal(full_pixels(scan.folder / a.name), full_pixels(scan.folder / b.name)))
    except Exception:  # noqa: BLE001  a decoder's own errors; then they are not known to be equal
        return False
