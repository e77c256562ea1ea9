"""The verdict on a grid: which weight of which checkpoint to use, why, and how sure that is.

Pure arithmetic on `metrics.json` and the person's ratings. Ratings win over measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from studio.evaluation.curve import (
    BARELY,
    CLEARLY,
    FLOODED,
    LEAKY,
    Curve,
    best_weight,
    good_range,
    nearest_drawn,
)
from studio.evaluation.verdict_words import NOUN, SCENE, column_words, kept_words, room_words

State = Literal["found", "undertrained", "overdone", "unknown"]
Confidence = Literal["high", "medium", "low"]

POOR = 0.3
"""Score below which no weight of a checkpoint is worth naming: what was taught hardly shows, or the pictures suffer."""
CONFIDENCE_WORDS: dict[Confidence, str] = {"high": "sure", "medium": "fairly sure", "low": "unsure"}


@dataclass(frozen=True)
class SweetSpot:
    """A verdict.

    state:      found; undertrained (hardly any effect); overdone (damage before effect); unknown (cannot be measured).
    weight:     the weight to use, or None when the studio does not know.
    low, high:  the range that works, or None.
    checkpoint: label of the LoRA file to use, or None.
    confidence: high, medium or low; from how many pictures agree and how clearly.
    headline:   the verdict in one sentence.
    reasons:    why, one plain sentence each.
    per_weight: for the recommended checkpoint, one entry a weight: weight, effect, nearness, damage, words, sweet.
    by:         "measurements" or "your ratings".
    follows:    for a verdict from ratings, on how many of them it rests and what the measurements alone said (also the
                first of the reasons); else "".
    """

    state: State
    weight: float | None
    low: float | None
    high: float | None
    checkpoint: str | None
    confidence: Confidence
    headline: str
    reasons: list[str] = field(default_factory=list)
    per_weight: list[dict[str, Any]] = field(default_factory=list)
    by: str = "measurements"
    follows: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json` and `verdict.json`."""
        return asdict(self)


def find_sweet_spot(
    metrics: Mapping[str, Any],
    ratings: Mapping[tuple[str, float], Sequence[int]] | None = None,
    pictures: int | None = None,
) -> SweetSpot:
    """The verdict from a grid's measurements (as `metrics.measure` makes them) and ratings by (checkpoint, weight).

    pictures: how many pictures with the LoRA could be rated; None when that is not known.
    """
    kind = str(metrics.get("kind", "style"))
    curves = _curves(metrics)
    if not curves:
        return SweetSpot("unknown", None, None, None, None, "low", "There is nothing to judge yet.")
    rated = _from_ratings(kind, curves, ratings or {})
    if rated is not None:
        follows = _follows(find_sweet_spot(metrics), ratings or {}, pictures)
        return replace(rated, follows=follows, reasons=[follows, *rated.reasons])
    unknown = _not_measurable(kind, metrics, curves)
    if unknown is not None:
        return unknown

    best = {c.checkpoint: best_weight(c) for c in curves}
    top = max(curves, key=lambda c: best[c.checkpoint][1])
    best_near, best_score = top.at("nearness", best[top.checkpoint][0]), best[top.checkpoint][1]
    # The earliest checkpoint that is as good and as near: less seen, less copied.
    curve = next(
        c
        for c in curves
        if best[c.checkpoint][1] >= best_score - 0.05
        and c.at("nearness", best[c.checkpoint][0]) >= best_near - 0.05 * abs(best_near)
    )
    weight, score = best[curve.checkpoint]
    reach = max(curve.at("nearness", w) for w in curve.weights)
    if max(c.at("nearness", w) for c in curves for w in c.weights) < BARELY * 2:
        return _undertrained(kind, max(curves, key=lambda c: max(c.at("nearness", w) for w in c.weights)))
    # Nothing drawn is weak enough: all of the effect is there at the lowest weight, and the subjects suffer already.
    first = curve.weights[0]
    flooded = curve.at("nearness", first) >= 0.75 * curve.enough and curve.at("kept", first) < FLOODED
    if reach >= CLEARLY and (score < POOR or flooded):
        return _overdone(kind, curve)
    return _found(kind, metrics, curves, curve, weight, score)


def _curves(metrics: Mapping[str, Any]) -> list[Curve]:
    names = list(dict.fromkeys(str(r["checkpoint"]) for r in metrics.get("weights", ())))
    curves = []
    for name in names:
        rows = [dict(r) for r in metrics["weights"] if r["checkpoint"] == name and r["weight"] > 0]
        if rows:
            curves.append(Curve(name, sorted(rows, key=lambda r: float(r["weight"]))))
    best = max((c.reach for c in curves if np.isfinite(c.reach)), default=None)
    return [replace(c, best_reach=best) for c in curves]


def _per_weight(kind: str, curve: Curve, sweet: float | None) -> list[dict[str, Any]]:
    drawn = nearest_drawn(curve.weights, sweet) if sweet is not None else None
    return [
        {
            "weight": r["weight"],
            "effect": r["effect"],
            "nearness": r["nearness"],
            "damage": r["damage"],
            "kept": r["kept"],
            "fault": r["fault"],
            "leak": r["leak"],
            "score": round(curve.score(float(r["weight"])), 3) if r["kept"] is not None else None,
            "words": column_words(kind, r, r["weight"] == drawn),
            "sweet": r["weight"] == drawn,
        }
        for r in curve.rows
    ]


def per_checkpoint(metrics: Mapping[str, Any], verdict: SweetSpot) -> dict[str, list[dict[str, Any]]]:
    """Every checkpoint's weights above 0 as `SweetSpot.per_weight` has those of the recommended one.

    `sweet` marks one weight of the recommended checkpoint; of the others their own best one, where the measurements found the
    verdict and single out a weight there too. Where the ratings decided, what was not rated has no best.
    """
    kind = str(metrics.get("kind", "style"))
    found: dict[str, list[dict[str, Any]]] = {}
    for curve in _curves(metrics):
        if curve.checkpoint == verdict.checkpoint:
            found[curve.checkpoint] = verdict.per_weight
            continue
        own = None
        # One weight that can be scored means that all can: those between are read off the line.
        if (
            verdict.state == "found"
            and verdict.by == "measurements"
            and np.isfinite(curve.score(curve.weights[0]))
        ):
            weight, score = best_weight(curve)
            own = weight if score >= POOR else None
        found[curve.checkpoint] = _per_weight(kind, curve, own)
    return found


def _percent(share: float) -> str:
    return f"{round(100 * max(0.0, share))}%"


def _found(
    kind: str, metrics: Mapping[str, Any], curves: list[Curve], curve: Curve, weight: float, score: float
) -> SweetSpot:
    noun, scene = NOUN.get(kind, "style"), SCENE.get(kind, "subjects")
    low, high = good_range(curve, weight)
    near, keep = curve.at("nearness", weight), curve.at("kept", weight)
    state_of_scene = kept_words(keep)
    reasons = [
        f"At {weight:g} the pictures have gone {_percent(near)} of the way from the base model to your pictures, "
        f"and the {scene} are {state_of_scene}."
    ]
    below = [w for w in curve.weights if w < low]
    if below:
        reasons.append(
            f"Below {low:g} the {noun} is weaker: {_percent(curve.at('nearness', below[-1]))} at {below[-1]:g}."
        )
    room = room_words(kind, curve, weight, high)
    if room:
        reasons.append(room)
    if curve.at("nearness", curve.weights[0]) >= 0.75 * curve.enough:
        reasons.append(
            f"Nearly all of the {noun} is there at {curve.weights[0]:g} already: the LoRA is strong. An earlier checkpoint or half the "
            "learning rate leaves more room to choose."
        )
    if len(curves) > 1:
        others = ", ".join(
            f"{c.checkpoint} reaches {best_weight(c)[1]:.2f}" for c in curves if c is not curve
        )
        reasons.append(
            f"Of the checkpoints, {curve.checkpoint} scores best or as well ({score:.2f}; {others})."
        )
    leak = curve.at("leak", weight)
    if np.isfinite(leak) and leak >= LEAKY:
        reasons.append(
            f"It also changes pictures without the trigger word ({_percent(leak)} of the effect). Harmless if you only "
            "use it on purpose."
        )
    confidence, doubt = _confidence(metrics, curve, score)
    if doubt:
        reasons.append(doubt)
    name = f" with {curve.checkpoint}" if len(curves) > 1 else ""
    headline = f"Use {weight:g}{name}: the {noun} is {'clearly there' if near >= CLEARLY else 'there'}, {scene} {state_of_scene}."
    return SweetSpot(
        "found",
        weight,
        low,
        high,
        curve.checkpoint,
        confidence,
        headline,
        reasons,
        _per_weight(kind, curve, weight),
    )


def _confidence(metrics: Mapping[str, Any], curve: Curve, score: float) -> tuple[Confidence, str]:
    reference = metrics.get("reference", {})
    pictures = int(reference.get("prompts", 0)) * int(reference.get("seeds", 1))
    nears = [curve.at("nearness", w) for w in curve.weights]
    bumps = sum(b < a - 0.1 for a, b in pairwise(nears))
    seeds = int(reference.get("seeds", 1))
    if score < 0.5 or pictures < 3 or bumps > 1:
        return (
            "low",
            "The measurements do not single out a weight; look at the pictures and rate some of them.",
        )
    if seeds < 2:
        return "medium", "Seen with one seed only; a second seed makes it surer."
    if pictures < 10 or score < 0.75 or bumps:
        return "medium", ""
    return "high", ""


def _undertrained(kind: str, curve: Curve) -> SweetSpot:
    noun, top = NOUN.get(kind, "style"), curve.weights[-1]
    return SweetSpot(
        "undertrained",
        top,
        None,
        None,
        curve.checkpoint,
        "medium",
        f"Trained too little: even at {top:g} the {noun} hardly shows.",
        [
            f"At {top:g} the pictures have gone only {_percent(curve.at('nearness', top))} of the way from the base model to "
            "your pictures.",
            "Train longer (more epochs), or raise the learning rate; then draw the grid again.",
        ],
        _per_weight(kind, curve, None),
    )


def _overdone(kind: str, curve: Curve) -> SweetSpot:
    noun, scene = NOUN.get(kind, "style"), SCENE.get(kind, "subjects")
    weight, _score = best_weight(curve)
    return SweetSpot(
        "overdone",
        weight,
        None,
        None,
        curve.checkpoint,
        "low",
        f"Overdone: wherever the {noun} shows, the {scene} suffer.",
        [
            f"{weight:g} is the least bad weight: there the pictures have gone {_percent(curve.at('nearness', weight))} of the way "
            f"to yours, but keep only {_percent(curve.at('kept', weight))} of what tells the {scene} apart.",
            "Use an earlier checkpoint, or train again with fewer epochs or half the learning rate.",
        ],
        _per_weight(kind, curve, None),
    )


def _not_measurable(kind: str, metrics: Mapping[str, Any], curves: list[Curve]) -> SweetSpot | None:
    reference, reasons = metrics.get("reference", {}), []
    if not reference.get("training_pictures"):
        reasons.append("There are no training pictures to compare with.")
    elif not reference.get("separable"):
        reasons.append(
            "In the measured features your pictures hardly differ from what the base model draws already, so the effect cannot "
            "be placed."
        )
    if all(r["kept"] is None for c in curves for r in c.rows):
        reasons.append("With fewer than three prompts it cannot be measured whether subjects are kept.")
    if not reasons:
        return None
    curve = curves[-1]
    pixels = curve.rows[-1].get("pixels")
    if pixels is not None and pixels < 0.01:
        reasons.insert(
            0,
            f"At {curve.weights[-1]:g} the pictures are almost those of the base model: the LoRA does very little.",
        )
    return SweetSpot(
        "unknown",
        None,
        None,
        None,
        None,
        "low",
        "The measurements cannot say which weight is best: rate some cells, and your ratings decide.",
        reasons,
        _per_weight(kind, curve, None),
    )


def _follows(
    measured: SweetSpot, ratings: Mapping[tuple[str, float], Sequence[int]], pictures: int | None
) -> str:
    """That ratings decide, how many they are, and what they overrule: two of them are enough, and that must be seen."""
    count = sum(len(given) for key, given in ratings.items() if key[1] > 0)
    of = f"{count} of {pictures} pictures" if pictures else f"{count} pictures"
    words = f"This follows your ratings so far ({of})"
    if measured.weight is None:
        return f"{words}."
    sure = CONFIDENCE_WORDS[measured.confidence]
    if measured.state != "found":
        return f"{words}; the measurements alone say {measured.state} ({sure})."
    return f"{words}; the measurements alone say {measured.weight:g} ({sure})."


def _from_ratings(
    kind: str, curves: list[Curve], ratings: Mapping[tuple[str, float], Sequence[int]]
) -> SweetSpot | None:
    """The verdict from ratings once at least two weights above 0 were rated; None before."""
    known = {c.checkpoint: c for c in curves}
    means = {
        key: float(np.mean(given))
        for key, given in ratings.items()
        if key[1] > 0 and given and key[0] in known
    }
    if len(means) < 2:
        return None
    top = max(means.values())
    tied = [key for key, mean in means.items() if mean >= top - 1e-9]

    def measured(key: tuple[str, float]) -> float:
        score = known[key[0]].score(key[1])
        return score if np.isfinite(score) else 0.0

    checkpoint, weight = max(tied, key=lambda k: (measured(k), -k[1]))
    curve = known[checkpoint]
    good = sorted(w for (c, w), mean in means.items() if c == checkpoint and mean >= max(top - 0.5, 3))
    count = sum(len(v) for k, v in ratings.items() if k in means)
    reasons = [
        f"You rated {weight:g} with {checkpoint} {top:.1f} of 5 on average, the best of {len(means)} rated columns "
        f"({count} ratings)."
    ]
    if top < 3:
        reasons.append("Even the best column is below 3: consider another checkpoint or a new run.")
    confidence: Confidence = (
        "high" if count >= 8 and top >= 4 else "medium" if count >= 4 and top >= 3 else "low"
    )
    return SweetSpot(
        "found",
        weight,
        good[0] if good else weight,
        good[-1] if good else weight,
        checkpoint,
        confidence,
        f"Use {weight:g}{f' with {checkpoint}' if len(curves) > 1 else ''}: you rated it best.",
        reasons,
        _per_weight(kind, curve, weight),
        by="your ratings",
    )
