"""Advice on words: spellings that nearly agree, and captions of a kind that the base model was not raised on.

Everything here is a hint for a person to judge: two tags that differ by a letter may both be meant.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from studio.captions import text as words
from studio.captions.stats import folded_tags, tag_counts
from studio.dataset.wording import about
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.models import BaseModelEntry

SHORTEST = 6
"""Letters from which a word with one letter changed counts as nearly the same; below, too many are other words."""
MOST = 8000
"""Tags that are compared; ten thousand captions by a tagger hold about two thousand."""
MIXED = 0.2
"""Share of captions of the rarer kind from which a set counts as mixed."""
_SHOWN = 6


def spelling_findings(captions: Mapping[str, str], trigger: str) -> list[Finding]:
    """Words that look like a misspelt trigger word, and tags that look like two spellings of one."""
    found = []
    misspelt = {n: w for n, t in captions.items() if (w := _misspelt_trigger(t, trigger))}
    if misspelt:
        seen = ", ".join(f"'{w}'" for w in dict.fromkeys(misspelt.values()))
        found += about(
            "warn", "trigger-misspelt", list(misspelt), f"The caption of {{0}} says {seen}, which is nearly {trigger}.",
            f"{{0}} captions say {seen}, which is nearly {trigger}.",
            "A model takes two spellings for two words, and what you teach is shared out between them.",
            f"Replace it by {trigger}, or take it out, if it is a slip.",
        )  # fmt: skip
    pairs = near_misses(tag_counts(captions, trigger))
    if pairs:
        told = ", ".join(f"'{a}' beside '{b}'" for a, b in pairs[:_SHOWN])
        more = f" and {len(pairs) - _SHOWN} more pairs" if len(pairs) > _SHOWN else ""
        rare = {a.casefold() for a, _ in pairs}
        where = [n for n, t in captions.items() if rare & folded_tags(t, trigger).keys()]
        found.append(
            Finding(
                severity="info",
                code="term-spelling",
                what=f"Some tags are nearly the same: {told}{more}.",
                why="If they mean one thing, the model learns each from a part of the pictures only.",
                fix="Merge them on the captions page, or with `lora-studio captions merge-tags`. Leave what differs.",
                where=tuple(where),
            )
        )
    return found


def near_misses(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs of tags that look like two spellings of one: (the rarer, the more frequent), most frequent first.

    Alike but for spaces, hyphens and underscores; alike but for a plural; or one letter of a word of SHORTEST letters
    and more added, left out, changed or swapped, while the first letters and all digits are the same. Of very many tags
    the MOST most frequent ones are looked at.
    """
    most = sorted(counts, key=lambda t: (-counts[t], t))[:MOST]
    directed = [(a, b) if counts[a] <= counts[b] else (b, a) for a, b in _alike(frozenset(most))]
    return sorted(directed, key=lambda p: (-counts[p[1]], p))


@lru_cache(maxsize=4)
def _alike(tags: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """The pairs, whatever their counts: an edit of one caption seldom changes which tags there are."""
    joined: dict[str, str] = {}
    around: dict[str, list[str]] = {}
    pairs: list[tuple[str, str]] = []
    for tag in sorted(tags):
        key = _bare(tag)
        if key in joined:
            pairs.append((tag, joined[key]))
            continue
        joined[key] = tag
        folded = tag.casefold()
        if len(key) < SHORTEST:
            continue
        cuts = _cuts(folded)
        near = {known for cut in cuts for known in around.get(cut, ())}
        match = next((k for k in sorted(near) if _one_slip(folded, k.casefold())), None)
        if match is not None:
            pairs.append((tag, match))
        for cut in cuts:
            around.setdefault(cut, []).append(tag)
    return tuple(pairs)


@lru_cache(maxsize=32_768)
def _bare(tag: str) -> str:
    """The tag without what spellings differ in: case, spaces, hyphens, underscores, a plural's s."""
    parts = re.split(r"[\s_\-]+", tag.casefold().strip(" ."))
    return "".join(p[:-1] if len(p) > 3 and p.endswith("s") and not p.endswith("ss") else p for p in parts)


def _cuts(text: str) -> set[str]:
    """The text and all texts with one letter less: two texts one slip apart have one in common."""
    return {text} | {text[:i] + text[i + 1 :] for i in range(len(text))}


def _one_slip(a: str, b: str) -> bool:
    """Whether one long word of `a` and `b` differs by one letter, and nothing else does."""
    ours, theirs = re.split(r"[\s_\-]+", a), re.split(r"[\s_\-]+", b)
    if len(ours) != len(theirs):
        return False
    differing = [(x, y) for x, y in zip(ours, theirs, strict=True) if x != y]
    if len(differing) != 1:
        return False
    x, y = differing[0]
    if min(len(x), len(y)) < SHORTEST - 1 or max(len(x), len(y)) < SHORTEST or x[0] != y[0]:
        return False
    return re.findall(r"\d", x) == re.findall(r"\d", y) and _slips(x, y) == 1


def _slips(a: str, b: str) -> int:
    """0 for equal words, 1 when one letter was added, left out, changed or swapped with its neighbour, else 2."""
    if a == b:
        return 0
    if abs(len(a) - len(b)) > 1:
        return 2
    i = 0
    while i < min(len(a), len(b)) and a[i] == b[i]:
        i += 1
    rest = (a[i + 1 :] == b[i:], a[i:] == b[i + 1 :], a[i + 1 :] == b[i + 1 :])
    swapped = a[i : i + 2] == b[i : i + 2][::-1] and a[i + 2 :] == b[i + 2 :]
    return 1 if any(rest) or swapped else 2


@lru_cache(maxsize=32_768)
def _misspelt_trigger(text: str, trigger: str) -> str:
    """A word of the caption that is nearly the trigger word; empty when there is none."""
    wanted = trigger.casefold()
    if len(wanted) < 5 or " " in wanted:
        return ""
    for match in re.finditer(r"[^\W_][\w-]*", words.without_trigger(text, trigger)):
        word = match.group()
        folded = word.casefold()
        if folded != wanted and abs(len(folded) - len(wanted)) <= 1 and _slips(folded, wanted) == 1:
            return word
    return ""


# ---------------------------------------------------------------- tags or sentences


def kinds_of(texts: Iterable[str], trigger: str) -> Counter[str]:
    """How many captions are `tags` and how many `sentences`; those with the trigger word alone are neither."""
    counted: Counter[str] = Counter()
    for text in texts:
        rest = words.without_trigger(text, trigger)
        if rest:
            counted["tags" if words.looks_like_tags(rest) else "sentences"] += 1
    return counted


def format_findings(captions: Mapping[str, str], trigger: str, entry: BaseModelEntry) -> list[Finding]:
    """Captions of a kind that the base model was not raised on, and sets that mix both kinds.

    That captions should be of the base model's kind is what most trainers hold, without a measurement behind it.
    """
    counted = kinds_of(captions.values(), trigger)
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
