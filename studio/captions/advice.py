"""Advice on words: spellings that nearly agree, and captions of a kind that the base model was not raised on.

Everything here is a hint for a person to judge: two tags that differ by a letter may both be meant.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING

from studio.captions.spelling import Spellings
from studio.captions.tally import MOST, directed, kind_of, tally
from studio.dataset.wording import about
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.captions.reading import Caption
    from studio.models import BaseModelEntry

Words = Mapping[str, str] | Mapping[str, "Caption"]
"""Captions by picture, or their texts."""

MIXED = 0.2
"""Share of captions of the rarer kind from which a set counts as mixed."""
_SHOWN = 6


def spelling_findings(captions: Words, trigger: str, without: Collection[str] = ()) -> list[Finding]:
    """Words that look like a misspelt trigger word, and tags that look like two spellings of one."""
    with tally(captions, trigger, without) as told:
        found = []
        if told.misspelt:
            misspelt = {n: told.misspelt[n] for n in told.in_order(told.misspelt)}
            seen = ", ".join(f"'{w}'" for w in dict.fromkeys(misspelt.values()))
            found += about(
                "warn", "trigger-misspelt", list(misspelt), f"The caption of {{0}} says {seen}, which is nearly {trigger}.",
                f"{{0}} captions say {seen}, which is nearly {trigger}.",
                "A model takes two spellings for two words, and what you teach is shared out between them.",
                f"Replace it by {trigger}, or take it out, if it is a slip.",
            )  # fmt: skip
        pairs = told.near_misses()
        if pairs:
            said = ", ".join(f"'{a}' beside '{b}'" for a, b in pairs[:_SHOWN])
            more = f" and {len(pairs) - _SHOWN} more pairs" if len(pairs) > _SHOWN else ""
            found.append(
                Finding(
                    severity="info",
                    code="term-spelling",
                    what=f"Some tags are nearly the same: {said}{more}.",
                    why="If they mean one thing, the model learns each from a part of the pictures only.",
                    fix="Merge them on the captions page, or with `lora-studio captions merge-tags`. Leave what differs.",
                    where=tuple(told.near_missed()),
                )
            )
        return found


def near_misses(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of tags that look like two spellings of one (see `studio.captions.spelling`): (the rarer, the more frequent),
    most frequent first. Of very many tags the MOST most frequent ones are looked at."""
    most = sorted(counts, key=lambda t: (-counts[t], t))[:MOST]
    return directed(Spellings(most).pairs(), counts)


# ---------------------------------------------------------------- tags or sentences


def kinds_of(texts: Iterable[str], trigger: str) -> Counter[str]:
    """How many captions are `tags` and how many `sentences`; those with the trigger word alone are neither."""
    kinds = (kind_of(text, trigger) for text in texts)
    return Counter(kind for kind in kinds if kind)


def format_findings(captions: Words, trigger: str, entry: BaseModelEntry) -> list[Finding]:
    """Captions of a kind that the base model was not raised on, and sets that mix both kinds.

    That captions should be of the base model's kind is what most trainers hold, without a measurement behind it.
    """
    with tally(captions, trigger) as told:
        counted = Counter(told.kinds)
    total = sum(counted.values())
    if total < 5:
        return []
    wants = wanted_kind(entry)
    if wants and counted[wants] < total / 2:
        given = "sentences" if wants == "tags" else "tags"
        return [
            Finding(
                severity="info",
                code="caption-format",
                what=f"{counted[given]} of {total} captions are {given}; {entry.title} was raised on {wants}.",
                why="It reads both, but knows the words of its own kind best. This is common practice, not measured.",
                fix=f"Caption again as {wants}, or prompt later in the way you captioned.",
            )
        ]
    rarer = min(counted["tags"], counted["sentences"])
    if wants and rarer >= MIXED * total:
        return [
            Finding(
                severity="info",
                code="caption-format-mixed",
                what=f"{counted['tags']} captions are tags and {counted['sentences']} are sentences.",
                why="Each kind then teaches a part of the pictures, and prompts of one kind call up less of the other.",
                fix="Bring them to one kind, if that was not meant.",
            )
        ]
    return []


def wanted_kind(entry: BaseModelEntry) -> str:
    """`tags` or `sentences` where a base model was raised on one of them; empty where either will do."""
    family = str(entry.family).lower()
    if family.startswith(("flux", "sd3")):
        return "sentences"
    # The plain SD1.5 and SDXL were raised on web captions and read either; their drawn descendants on tags.
    plain = entry.id in ("sd15", "sdxl") or entry.embedded
    return "tags" if entry.caption_style == "tags" and not plain else ""
