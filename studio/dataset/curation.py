"""A recommended subset: fewer pictures that show as much, with the reason for each.

Pictures are chosen one after the other, each time the one that makes the whole set best represented: the sum over all
pictures of the likeness to the closest chosen one grows most. That is facility location, for which this greedy choice
reaches at least 63 % of the best possible value (Nemhauser, Wolsey, Fisher 1978, Mathematical Programming 14); the
thought that a subset should cover the set is that of core-sets (Sener and Savarese 2018, arXiv 1708.00489). Among
equals the sharper and larger picture wins.

It is a recommendation. Whether fewer pictures teach better is not settled: published experiments found more pictures
of the same quality better for longer runs, many guides find otherwise. Leaving out near copies is the safe part.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.dataset.clusters import Cluster, clusters, effective_number
from studio.dataset.features import Features, features_of
from studio.dataset.origins import regularisation_pictures
from studio.dataset.set_aside import remove_pictures
from studio.errors import InputError
from studio.project import KINDS

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan
    from studio.project import Project

PICTURES_PER_EPOCH = 100
"""What common practice aims at with images x repeats (kohya colab notebooks: 100 for SDXL, 200 to 400 for SD1.5)."""
MOST_REPEATS = 20
QUALITY = 0.1
"""How much the better picture counts among equals, as a share of what it adds."""
UNIQUE = 0.5
"""Likeness below which a picture counts as showing something of its own."""
_CANDIDATES = 2000
_REASON = "not in the recommended subset"


@dataclass(frozen=True)
class Choice:
    """One picture. stands_for: how many pictures it is the closest kept one of, itself included.

    like: the kept picture closest to one that is left out; likeness: to it, 0 to 1.   why: in words.
    """

    name: str
    keep: bool
    why: str
    stands_for: int = 1
    like: str = ""
    likeness: float = 1.0


@dataclass(frozen=True)
class Recommendation:
    """choices: kept ones in the order in which they were chosen, then those left out, most alike first.

    coverage: mean likeness of every picture to the closest kept one, 0 to 1.
    effective: how many completely different pictures all are worth, and the kept ones (see `effective_number`).
    """

    choices: tuple[Choice, ...]
    coverage: float
    effective: tuple[float, float]
    basis: str

    @property
    def kept(self) -> list[str]:
        return [c.name for c in self.choices if c.keep]

    @property
    def left_out(self) -> list[str]:
        return [c.name for c in self.choices if not c.keep]


def curated(project: Project, seen: Scan) -> Features:
    """Features of the pictures that teach; regularisation pictures are another set and stay out of it."""
    return features_of(seen, regularisation_pictures(project))


def suggested_size(kind: str, count: int, groups: list[Cluster]) -> int:
    """How many pictures to keep: one of each cluster, within what suits the kind."""
    low, high = KINDS[kind]["images"]
    return int(min(count, max(min(low, count), min(high, len(groups)))))


def recommend(project: Project, seen: Scan, size: int | None = None) -> Recommendation:
    """The subset of `size` pictures that represents all best; the suggested size when None.

    Raises InputError when the size is not from 1 to the number of readable training pictures.
    """
    features = curated(project, seen)
    count = len(features)
    if count == 0:
        raise InputError(
            "There are no pictures to choose from.",
            "None can be read, or all are for regularisation.",
            "Add pictures.",
        )
    if size is None:
        size = suggested_size(project.intent.kind, count, clusters(features))
    if not 1 <= size <= count:
        raise InputError(
            f"A subset of {size} cannot be chosen.",
            f"There are {count} training pictures that can be read.",
            f"Use a whole number from 1 to {count}.",
        )
    # The features are kept with the answer, so that no others can bear their number meanwhile.
    return seen.facts.once(
        "recommended", lambda: (features, _recommended(seen, features, size)), id(features), size
    )[1]


def _recommended(seen: Scan, features: Features, size: int) -> Recommendation:
    pictures = {p.name: p for p in seen.readable}
    quality = _quality([pictures[n] for n in features.names])
    chosen, closest, likeness = _greedy(features, size, quality)
    coverage = float(np.clip(likeness, 0, 1).mean())
    kept_rows = features.rows[chosen]
    told = _told(features, pictures, chosen, closest, likeness)
    effective = (effective_number(features.rows), effective_number(kept_rows))
    return Recommendation(tuple(told), coverage, effective, features.basis)


def _quality(pictures: list[Picture]) -> np.ndarray:
    """0 to 1: rank by sharpness and by size, in equal parts."""
    n = len(pictures)
    sharp = np.argsort(np.argsort([p.blur for p in pictures], kind="stable"))
    large = np.argsort(np.argsort([p.pixels for p in pictures], kind="stable"))
    return (sharp + large) / max(1, 2 * (n - 1))


def _greedy(features: Features, size: int, quality: np.ndarray) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Numbers of the chosen pictures, and for each picture the closest chosen one and the likeness to it."""
    rows, n = features.rows, len(features)
    candidates = np.arange(n)
    if n > _CANDIDATES:  # those nobody is too much like, the best of each cluster first
        number = {name: i for i, name in enumerate(features.names)}
        best = [max((number[m] for m in c.names), key=lambda i: quality[i]) for c in clusters(features)]
        rest = np.setdiff1d(candidates, best)
        spare = (
            rest[np.linspace(0, len(rest) - 1, max(0, size - len(best))).astype(int)] if len(rest) else rest
        )
        step = max(1, len(best) // _CANDIDATES)
        candidates = np.concatenate(
            [np.array(best[::step] if len(best) // step >= size else best), spare]
        ).astype(int)
    alike = np.clip(rows[candidates] @ rows.T, 0, None)  # candidates x n
    reach = np.zeros(n, np.float32)
    chosen: list[int] = []
    bonus = 1 + QUALITY * quality[candidates]
    # Gains only shrink as more are chosen, so a stale one is worked out again before it wins (lazy greedy, Minoux 1978).
    queue = [(-float(g), k) for k, g in enumerate(alike.sum(axis=1) * bonus)]
    heapq.heapify(queue)
    while len(chosen) < size:
        _, k = heapq.heappop(queue)
        now = (-float(np.maximum(alike[k] - reach, 0).sum() * bonus[k]), k)
        if queue and now > queue[0]:
            heapq.heappush(queue, now)
            continue
        chosen.append(int(candidates[k]))
        reach = np.maximum(reach, alike[k])
    among = rows @ rows[chosen].T
    among[chosen, np.arange(len(chosen))] = 2  # a chosen one stands for itself, whatever else is equal to it
    nearest = among.argmax(axis=1)
    return chosen, np.array(chosen)[nearest], np.minimum(among[np.arange(n), nearest], 1)


def _told(
    features: Features,
    pictures: dict[str, Picture],
    chosen: list[int],
    closest: np.ndarray,
    likeness: np.ndarray,
) -> list[Choice]:
    names = features.names
    follows = np.bincount(closest, minlength=len(names))
    kept_rows = features.rows[chosen] @ features.rows[chosen].T
    np.fill_diagonal(kept_rows, -1)
    twins = np.bincount(closest[likeness >= features.too_alike], minlength=len(names))
    told = []
    for order, i in enumerate(chosen):
        others, twin = int(follows[i]) - 1, int(twins[i]) - 1
        if twin > 0:
            why = (
                "stands for one picture that looks like it"
                if twin == 1
                else f"stands for {twin} pictures that look like it"
            )
        elif others:
            why = "the closest to one other" if others == 1 else f"the closest to {others} others"
        elif len(chosen) == 1 or float(kept_rows[order].max()) < UNIQUE:
            why = "shows something that no other picture shows"
        else:
            why = "adds variety"
        told.append(Choice(names[i], True, why, int(follows[i])))
    out = []
    for i in sorted(set(range(len(names))) - set(chosen), key=lambda i: (-float(likeness[i]), names[i])):
        mine, theirs = pictures[names[i]], pictures[names[int(closest[i])]]
        share = max(0.0, float(likeness[i]))
        if share >= features.too_alike:
            better = (
                "larger"
                if theirs.pixels > mine.pixels * 1.1
                else "sharper"
                if theirs.blur > mine.blur * 1.1
                else ""
            )
            why = f"{share:.0%} like {theirs.name}, which is kept" + (f" and {better}" if better else "")
        else:
            why = f"left out for the size of the set; closest is {theirs.name}, {share:.0%} alike"
        out.append(Choice(names[i], False, why, 0, theirs.name, share))
    return told + out


def apply(project: Project, recommendation: Recommendation, keep: set[str] | None = None) -> list[str]:
    """Set aside what is left out, but what the user wants to `keep`; the names. Undone by `restore_pictures`."""
    gone = [
        n for n in recommendation.left_out if n not in (keep or ()) and (project.dataset_dir / n).is_file()
    ]
    return remove_pictures(project, gone, _REASON) if gone else []


def suggested_repeats(count: int) -> int:
    """Repeats at which an epoch shows about PICTURES_PER_EPOCH pictures. Common practice, no more."""
    return max(1, min(MOST_REPEATS, round(PICTURES_PER_EPOCH / count))) if count else 1
