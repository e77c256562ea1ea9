"""From a tagger's probabilities to a caption: thresholds, kinds of tags, spelling, exclusions. Pure functions.

Thresholds .35 (general) and .85 (character) are those that the authors of the WD taggers use; MCut takes the middle of
the largest gap between the sorted scores instead (Largeron, Moulin and Gery, "MCut: a thresholding strategy for
multi-label classification", 2012).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from studio.captions.edits import KAOMOJI
from studio.captions.taggers import CHARACTER, RATING, Tag

LEAST_CHARACTER = 0.15
"""MCut never goes below this for characters: with no character in the picture its largest gap lies in the noise."""
MOST_EXCLUDED = 500
Resize = Literal["bicubic", "area"]


class TaggerSettings(BaseModel):
    """How tags are chosen.

    model:       id of the list of taggers, or the absolute path of a folder.
    general:     least probability of a general tag, 0 to 1. character: of a character's name.
    mcut:        find both thresholds for each picture by its largest gap instead.
    exclude:     tags that are never written; upper and lower case, spaces and underscores count as equal.
    underscores: keep `long_hair` as it is; otherwise `long hair`. Kaomoji such as `>_<` always stay.
    order:       `confidence`: characters first, then the surest tags; `model`: as the table lists them.
    rating:      write the most likely rating (general, sensitive ...) as the last tag.
    batch:       pictures at once, 1 to 64; a model that takes one at a time gets one.
    resize:      how a picture is brought to the model's size: `bicubic`, as the authors of the taggers do, or `area`, as
                 the tagging script of sd-scripts does.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = "wd-swinv2-v3"
    general: float = Field(default=0.35, ge=0.0, le=1.0)
    character: float = Field(default=0.85, ge=0.0, le=1.0)
    mcut: bool = False
    exclude: tuple[str, ...] = ()
    underscores: bool = False
    order: Literal["confidence", "model"] = "confidence"
    rating: bool = False
    batch: int = Field(default=4, ge=1, le=64)
    resize: Resize = "bicubic"

    @field_validator("exclude")
    @classmethod
    def _exclude(cls, tags: tuple[str, ...]) -> tuple[str, ...]:
        kept = tuple(dict.fromkeys(t.strip() for t in tags if t.strip()))
        if len(kept) > MOST_EXCLUDED:
            raise ValueError(f"at most {MOST_EXCLUDED} tags can be excluded")
        return kept


def spelled(name: str, underscores: bool = False) -> str:
    """A tag as it is written into captions."""
    return name if underscores or name in KAOMOJI else name.replace("_", " ")


def _plain(name: str) -> str:
    return name.strip().casefold().replace("_", " ")


def mcut(scores: Sequence[float] | NDArray[np.float32]) -> float:
    """The middle of the largest gap between the sorted scores; 1 for fewer than two."""
    ordered = np.sort(np.asarray(scores, dtype=np.float64))[::-1]
    if ordered.size < 2:
        return 1.0
    gap = int((ordered[:-1] - ordered[1:]).argmax())
    return float((ordered[gap] + ordered[gap + 1]) / 2)


class Chooser:
    """Chooses the tags of one picture after the other; what does not depend on the picture is worked out once."""

    def __init__(self, tags: Sequence[Tag], settings: TaggerSettings) -> None:
        self._settings = settings
        excluded = {_plain(t) for t in settings.exclude}
        category = np.array([t.category for t in tags])
        allowed = np.array([_plain(t.name) not in excluded for t in tags])
        self._names = [spelled(t.name, settings.underscores) for t in tags]
        self._rating = np.flatnonzero((category == RATING) & allowed)
        self._character = np.flatnonzero(category == CHARACTER)
        self._general = np.flatnonzero((category != RATING) & (category != CHARACTER))
        self._allowed = allowed

    def tags(self, scores: NDArray[np.float32]) -> list[tuple[str, float]]:
        """The tags to write, with their probabilities."""
        own = self._settings
        general, character = own.general, own.character
        if own.mcut:
            general = mcut(scores[self._general])
            character = max(LEAST_CHARACTER, mcut(scores[self._character]))
        chosen = [
            [int(i) for i in part if scores[i] >= least and self._allowed[i]]
            for part, least in ((self._character, character), (self._general, general))
        ]
        if own.order == "confidence":
            order = [i for part in chosen for i in sorted(part, key=lambda i: -float(scores[i]))]
        else:
            order = sorted(i for part in chosen for i in part)
        if own.rating and self._rating.size:
            order.append(int(self._rating[scores[self._rating].argmax()]))
        return [(self._names[i], float(scores[i])) for i in order]


def caption_of(tags: Sequence[tuple[str, float]]) -> str:
    """Tags as a caption."""
    return ", ".join(dict.fromkeys(name for name, _ in tags))
