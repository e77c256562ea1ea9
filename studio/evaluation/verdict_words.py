"""The words of a verdict and of the columns of its grid: one set of thresholds, so that they never contradict each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from studio.evaluation.curve import BARELY, CLEAR, CLEARLY, FAULTY, LOST, SOFT, STRONG, Curve

NOUN = {"style": "style", "character": "likeness", "object": "object"}
SCENE = {"style": "subjects", "character": "scenes", "object": "scenes"}


def scene_words(kept: float) -> str:
    """What happens to the subjects: clear, soften, suffer or lost; kept as `curve` has it."""
    return "clear" if kept >= CLEAR else "soften" if kept >= SOFT else "suffer" if kept >= LOST else "lost"


def column_words(kind: str, row: Mapping[str, Any], sweet: bool) -> str:
    """One weight in words, after the seed's "Style clearly present, faces clean"."""
    noun, scene = NOUN.get(kind, "style"), SCENE.get(kind, "subjects")
    near, keep, fault = row.get("nearness"), row.get("kept"), float(row.get("fault") or 0)
    if near is None:
        first = f"{noun.capitalize()} cannot be measured"
    elif near < BARELY:
        first = f"{noun.capitalize()} barely visible"
    elif near < CLEARLY:
        first = f"{noun.capitalize()} begins to show"
    elif near < STRONG:
        first = f"{noun.capitalize()} clearly present"
    else:
        first = f"Strong {noun}"
    second = "" if keep is None else f"{scene} {scene_words(keep)}"
    if fault >= FAULTY:
        second = f"{second}, picture faults" if second else "picture faults"
    text = f"{first}, {second}" if second else first
    return f"{text}: sweet spot" if sweet else text


def kept_words(kept: float) -> str:
    """How the subjects are at the recommended weight, as the end of a sentence."""
    return {
        "clear": "still clear",
        "soften": "a little softer than the base model's",
        "suffer": "worse than the base model's",
        "lost": "lost",
    }[scene_words(kept)]


def room_words(kind: str, curve: Curve, weight: float, high: float) -> str:
    """What happens above the recommended weight and above the range that works; "" when nothing is worth saying."""
    noun, scene = NOUN.get(kind, "style"), SCENE.get(kind, "subjects")
    above = [w for w in curve.weights if w > high]
    looked = above or [w for w in curve.weights if w >= weight]
    worst = min((curve.at("kept", w) for w in looked), default=1.0)
    faults = max((curve.at("fault", w) for w in looked), default=0.0)
    if above:
        if worst < CLEAR:
            does = {"soften": "soften", "suffer": "suffer", "lost": "are lost step by step"}
            return f"Above {high:g} the {scene} {does[scene_words(worst)]}."
        if faults >= FAULTY:
            return f"Above {high:g} picture faults begin."
        if worst < curve.at("kept", weight) - 0.03:
            return f"Above {high:g} the {scene} stay clear, but keep less detail."
        return f"Above {high:g} the {noun} gains nothing."
    if high < 0.95:
        return ""
    if all(curve.at("kept", w) >= CLEAR and not curve.at("fault", w) >= FAULTY for w in curve.weights):
        return "Even at the highest weight nothing breaks, so there is room on both sides."
    told = []
    if worst < CLEAR:
        told.append(f"the {scene} {'are lost' if worst < LOST else scene_words(worst)}")
    if faults >= FAULTY:
        told.append("there are picture faults")
    but = f", but near that {' and '.join(told)}" if told else ""
    return f"It works up to {curve.weights[-1]:g}, the highest weight drawn{but}."
