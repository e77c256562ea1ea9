"""Pictures that are in the set more than once: the same picture saved twice, and near copies.

Near copies are found by their layout: hashes and small grey copies without letterbox bars, also mirrored (see
`studio.dataset.near`). After the deep look (`studio.dataset.deep`) they are also found by their content, which finds
crops that the layout misses. Pairs once compared are remembered in the index; pairs that the user called different
are kept in `<project>/not_duplicates.json` (`studio.dataset.apart`) and never asked about again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from studio import files
from studio.captions.store import CaptionStore
from studio.dataset import deep, pairing
from studio.dataset.apart import NOT_DUPLICATES, Apart
from studio.dataset.index import Index
from studio.dataset.origins import ORIGINS, for_regularisation
from studio.dataset.scan import scan as all_pictures
from studio.dataset.set_aside import remove_pictures
from studio.dataset.watch import on_a_page
from studio.errors import InputError

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan
    from studio.project import Project

AT_ONCE = 400
"""Pictures that are compared with all others while a page waits; for more there is the job of `studio.dataset.tasks`."""


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


@dataclass
class _Answer:
    """What was found in a project, and in which scan. waiting: how many pictures were not compared yet."""

    scan: Scan
    mark: Mark
    groups: list[DuplicateGroup]
    waiting: int


_answers: dict[Path, _Answer] = {}
Mark = tuple[object, ...]


def mark(scan: Scan) -> Mark:
    """Changes whenever `find_duplicates` may answer otherwise for the same pictures. Costs four looks at a file."""
    return (
        _stamp(scan.folder.parent / ORIGINS),
        _stamp(scan.folder.parent / NOT_DUPLICATES),
        deep.mark(scan.cache),
        Index(scan.cache).mark("pairs"),
    )


def find_duplicates(scan: Scan) -> list[DuplicateGroup]:
    """Groups of duplicates, exact ones first. No picture is in two groups, and each one is a duplicate of the
    suggested one directly, never only through others.

    Pictures not compared yet are compared first; on a page only when they are few (see `waiting`).
    """
    return list(_answer(scan).groups)


def waiting(scan: Scan) -> int:
    """How many pictures `find_duplicates` has not compared, because there are too many of them for a page."""
    return _answer(scan).waiting


def compare(
    scan: Scan,
    progress: Callable[[int, int, str], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> bool:
    """Compare all pictures that were not compared yet; what a job runs. False when it was stopped.

    progress: told (done, total, message) in pictures.
    """

    def tell(done: int, total: int) -> bool:
        if progress is not None:
            progress(done, total, "Looking for copies among the pictures")
        return should_stop is None or not should_stop()

    by_sha = _by_content(scan)
    first = {sha: same[0] for sha, same in by_sha.items()}
    known = Index(scan.cache).pairs()
    return pairing.compare_all(scan, known, first, _rank, Apart(scan.folder.parent), tell) is not None


def _answer(scan: Scan) -> _Answer:
    now = mark(scan)
    have = _answers.get(scan.folder)
    # Of the captions it matters only whether there is one.
    same = have is not None and have.mark == now and (
        (have.scan.shown is scan.shown and have.scan.captioned == scan.captioned) or have.scan.pictures == scan.pictures
    )  # fmt: skip
    if have is not None and same and (not have.waiting or on_a_page()):
        return have
    groups, left = _groups(scan)
    while len(_answers) >= 16:
        _answers.pop(next(iter(_answers)))
    found = _answers[scan.folder] = _Answer(
        replace(scan, pictures=list(scan.pictures)), mark(scan), groups, left
    )
    return found


def _by_content(scan: Scan) -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = {}
    for p in scan.readable:
        found.setdefault(p.sha256, []).append(p)
    return found


def _groups(scan: Scan) -> tuple[list[DuplicateGroup], int]:
    """The groups, and how many pictures were not compared."""
    by_sha = _by_content(scan)
    first = {sha: same[0] for sha, same in by_sha.items()}
    known, apart = Index(scan.cache).pairs(), Apart(scan.folder.parent)
    left = len(pairing.waiting(known, first, apart))
    if left and not (left > AT_ONCE and on_a_page()):
        pairing.compare_all(scan, known, first, _rank, apart)
        left = 0
    families = deep.resting(scan.cache)
    # Who rests was compared with the one in the middle alone; when that is gone, the others are compared anew.
    if any(s in first and (m not in first or (s, m) in apart) for s, m in families.items()):
        deep.compare(scan.cache, best_first(scan), apart)
        families = deep.resting(scan.cache)
    near: dict[str, dict[str, tuple[float, bool]]] = {}
    exact: dict[str, set[str]] = {}
    for a, b, kind, likeness in (
        *deep.pairs(scan.cache),
        *known.found,
    ):  # what the layout says has the last word
        if a in first and b in first and (a, b) not in apart:
            if kind == "exact":
                exact.setdefault(a, set()).add(b)
                exact.setdefault(b, set()).add(a)
            else:
                near.setdefault(a, {})[b] = near.setdefault(b, {})[a] = (likeness, kind == "deep")
    extra = for_regularisation(scan.folder.parent)
    ranked = sorted(scan.readable, key=lambda p: (p.name in extra, *_rank(p)))
    used: set[str] = set()
    groups = []
    # Those that rest were compared with the one in the middle only, so it is the one to keep.
    middles = {m for s, m in (*known.resting.items(), *families.items()) if s in first and m in first}
    in_order = [p for p in ranked if p.sha256 in middles] + [p for p in ranked if p.sha256 not in middles]
    for best in in_order:
        if best.name not in used:
            same = [
                p
                for sha in (best.sha256, *exact.get(best.sha256, ()))
                for p in by_sha[sha]
                if p.name not in used
            ]
            if len(same) > 1:
                groups.append(_group("exact", best, [p for p in same if p is not best], extra))
                used |= {p.name for p in same}
    exactly = {g.suggested_keep for g in groups}
    taken: set[str] = {n for g in groups for n in g.names} - exactly
    for best in in_order:
        if best.name not in taken:
            alike = near.get(best.sha256, {})
            others = [p for sha in alike for p in by_sha[sha] if p.name not in taken and p is not best]
            if others:
                likeness = min(alike[p.sha256][0] for p in others)
                only_deep = all(alike[p.sha256][1] for p in others)
                groups.append(_group("near", best, others, extra, likeness, only_deep))
                taken |= {best.name, *(p.name for p in others)}
    place = {p.name: n for n, p in enumerate(ranked)}
    groups.sort(key=lambda g: (g.kind != "exact", place[g.suggested_keep]))
    return groups, left


def best_first(scan: Scan) -> list[str]:
    """Content hashes of the readable pictures, that of the best one first."""
    return list(dict.fromkeys(p.sha256 for p in sorted(scan.readable, key=_rank)))


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
    extra: Collection[str],
    likeness: float = 1.0,
    deep_only: bool = False,
) -> DuplicateGroup:
    others = sorted(others, key=_rank)
    rival = others[0]
    if rival.name in extra and best.name not in extra:
        why = "the one that is taught; the other is for regularisation"
    elif rival.bars and not best.bars and best.pixels < rival.pixels:
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
            told = next((n for n in gone if store.get(n).text), None)
            if told is not None:
                store.hand_on(told, one)
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
    Apart(project.folder).add(shas)
    project.decided("not duplicates", pictures=list(group.names))
    return list(group.names)


def ask_again(project: Project, names: Iterable[str] | None = None) -> int:
    """Forget that pictures (all when None) were called no duplicates; how many pairs are forgotten."""
    chosen = None if names is None else {_sha(project, n) for n in names}
    gone = Apart(project.folder).forget(chosen)
    if gone:
        # Pictures called different were not compared with one another any more.
        index = Index(project.cache_dir)
        index.forget_compared(index.pairs().compared if chosen is None else chosen)
        if deep.LEFT_OUT in deep.resting(project.cache_dir):
            deep.compare(project.cache_dir, best_first(all_pictures(project)), Apart(project.folder))
        project.decided("duplicates are asked about again", pairs=gone)
    return gone


def resolve_all(project: Project, groups: Iterable[DuplicateGroup]) -> list[str]:
    """Keep the suggested picture of every group; the names set aside."""
    return [name for group in groups for name in resolve(project, group)]


def _sha(project: Project, name: str) -> str:
    return files.sha256_file(project.dataset_dir / name)


def _stamp(path: Path) -> tuple[int, int]:
    try:
        st = path.stat()
    except OSError:
        return (0, 0)
    return (st.st_size, st.st_mtime_ns)
