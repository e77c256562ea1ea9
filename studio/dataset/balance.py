"""Content and style: does the set show one thing in many ways, as teaching it needs?

A style is learned apart from its contents when contents vary and the manner stays. A character is learned apart from
its surroundings when it stays the same and the rest varies. Both are estimated here from features of the pictures and
from the captions; what the figures cannot tell is said with them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from studio.captions.stats import term_shares, terms
from studio.dataset.curation import curated
from studio.dataset.features import UNRELATED, Features, mean_likeness
from studio.dataset.origins import regularisation_pictures

if TYPE_CHECKING:
    from studio.dataset.scan import Scan
    from studio.project import Project

FUSED, COMMON = 0.85, 0.60
"""Share of captions from which a term counts as fused with the trigger word, or as about to be."""
FEWEST = 4
"""Pictures below which nothing is measured."""

Level = Literal["good", "mixed", "poor", "unknown"]


@dataclass(frozen=True)
class Measure:
    """One figure. value: 0 to 1, None when it was not measured.   words: what it says.   how: what it rests on."""

    title: str
    value: float | None
    level: Level
    words: str
    how: str


@dataclass(frozen=True)
class Balance:
    """measures: the figures.   fused, common: terms with the share of captions that hold them.

    cannot_know: what no figure here can tell, in words.
    """

    kind: str
    basis: str
    measures: tuple[Measure, ...]
    fused: Mapping[str, float]
    common: Mapping[str, float]
    cannot_know: tuple[str, ...]


def balance(project: Project, seen: Scan) -> Balance:
    """Content and style of a project's training pictures and their captions."""
    features = curated(project, seen)
    given = (id(features), project.intent.kind, project.intent.trigger)
    # The features are kept with the answer, so that no others can bear their number meanwhile.
    return seen.facts.once("balance", lambda: (features, _balance(project, seen, features)), *given)[1]


def _balance(project: Project, seen: Scan, features: Features) -> Balance:
    kind = project.intent.kind
    away = regularisation_pictures(project)
    captions = [p.caption for p in seen.readable if p.name not in away]
    shares = term_shares(captions, project.intent.trigger, COMMON) if len(captions) >= FEWEST else {}
    if len(features) < FEWEST:
        few = "There are too few pictures to tell."
        measures: list[Measure] = [Measure("Variety", None, "unknown", few, f"needs {FEWEST} pictures")]
    elif kind == "style":
        measures = [
            _contents(features),
            _manner(features),
            *_share(features),
            _words(captions, project.intent.trigger),
        ]
    else:
        measures = [
            _identity(features, kind),
            _surroundings(features),
            _words(captions, project.intent.trigger),
        ]
    return Balance(
        kind,
        features.basis,
        tuple(measures),
        {t: s for t, s in shares.items() if s >= FUSED},
        {t: s for t, s in shares.items() if s < FUSED},
        _cannot_know(kind, features.basis),
    )


def _apart(likeness: float, unrelated: float) -> float:
    """0 for all the same, 1 for as different as unrelated pictures are."""
    return min(1.0, max(0.0, (1 - likeness) / (1 - unrelated)))


def _level(value: float, good: float, mixed: float) -> Level:
    return "good" if value >= good else "mixed" if value >= mixed else "poor"


_HOW = {
    "layout": "where light, dark and colours lie on the pictures; the deep look measures what is on them",
    "content": "what an image network sees on the pictures",
}


def _contents(features: Features) -> Measure:
    value = _apart(mean_likeness(features.rows), UNRELATED[features.basis])
    level = _level(value, 0.5, 0.3)
    words = {
        "good": "The pictures show different things, so that the style can be told from them.",
        "mixed": "The pictures share much of what they show. It may come along with the style.",
        "poor": "The pictures show nearly the same thing. The style and the thing will be learned as one.",
    }[level]
    return Measure("Variety of contents", value, level, words, _HOW[features.basis])


def _manner(features: Features) -> Measure:
    title = "Sameness of style"
    if features.style is None:
        return Measure(
            title, None, "unknown", "Not measured yet. The deep look measures it.", "needs the deep look"
        )
    value = 1 - _apart(mean_likeness(features.style), UNRELATED["style"])
    level = _level(value, 0.7, 0.4)
    words = {
        "good": "The pictures are drawn alike.",
        "mixed": "The manner varies. What is learned lies somewhere in the middle.",
        "poor": "The pictures are drawn as differently as unrelated ones. There may be several styles in the set.",
    }[level]
    return Measure(
        title, value, level, words, "lines, textures and colours as early layers of an image network see them"
    )


def _share(features: Features) -> list[Measure]:
    if features.style is None:
        return []
    content = _apart(mean_likeness(features.rows), UNRELATED["content"])
    style = _apart(mean_likeness(features.style), UNRELATED["style"])
    if content + style < 0.02:
        return []
    value = content / (content + style)
    level = _level(value, 0.7, 0.5)
    words = f"Of what differs between the pictures, {value:.0%} is content and {1 - value:.0%} is style."
    return [
        Measure(
            "Content in the variation",
            value,
            level,
            words,
            "both beside how far unrelated pictures lie apart",
        )
    ]


def _identity(features: Features, kind: str) -> Measure:
    title = f"Sameness of the {kind}"
    if features.basis != "content":
        return Measure(
            title, None, "unknown", "Not measured yet. The deep look measures it.", "needs the deep look"
        )
    value = 1 - _apart(mean_likeness(features.rows), UNRELATED["content"])
    level = _level(value, 0.35, 0.15)
    words = {
        "good": f"The pictures have much in common, as those of one {kind} do.",
        "mixed": f"The pictures have little in common for one {kind}. Different clothes, distances and places do that, too.",
        "poor": f"The pictures have as little in common as unrelated ones. Look whether all show the same {kind}.",
    }[level]
    return Measure(title, value, level, words, _HOW["content"])


def _surroundings(features: Features) -> Measure:
    value = _apart(mean_likeness(features.layout), UNRELATED["layout"])
    level = _level(value, 0.45, 0.25)
    words = {
        "good": "Poses, distances and places vary.",
        "mixed": "Many pictures are composed alike. Pose and place may become a part of what is learned.",
        "poor": "The pictures are composed nearly alike. Pose, place and ground will be learned as a part of it.",
    }[level]
    return Measure("Variety of pose and place", value, level, words, _HOW["layout"])


def _words(captions: list[str], trigger: str) -> Measure:
    title, how = "Variety of captions", "share of captions that name something no other caption names"
    written = [terms(c, trigger) for c in captions if c.strip()]
    if len(written) < FEWEST:
        return Measure(title, None, "unknown", "There are too few captions to tell.", how)
    counts: dict[str, int] = {}
    for found in written:
        for term in found:
            counts[term] = counts.get(term, 0) + 1
    value = sum(any(counts[t] == 1 for t in found) for found in written) / len(written)
    level = _level(value, 0.5, 0.25)
    words = {
        "good": "The captions tell the pictures apart.",
        "mixed": "Many captions say what others say, too.",
        "poor": "The captions hardly tell the pictures apart. What they do not name is learned as a part of the trigger word.",
    }[level]
    return Measure(title, value, level, words, how)


def _cannot_know(kind: str, basis: str) -> tuple[str, ...]:
    told = [
        "Which of the things that stay the same you want to teach. That is yours to say, in the captions.",
        "Whether a word in a caption is true of its picture.",
    ]
    if kind == "style":
        told.append("What makes the style yours: the figures see lines, textures and colours, not intent.")
    else:
        told.append(f"Whether it is the same {kind}: no face or detail is recognised here.")
    if basis == "content":
        told.append("Drawings as well as photographs: the network was trained on photographs.")
    else:
        told.append("What is on the pictures. Only their layout was measured so far.")
    return tuple(told)
