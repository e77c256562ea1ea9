"""Counting words: tags and how often they occur, terms that are fused with the trigger."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from studio.captions import text as words
from studio.captions.tokens import token_count as token_count
from studio.captions.tokens import token_counter as token_counter
from studio.captions.tokens import token_limit as token_limit

if TYPE_CHECKING:
    from studio.captions.store import Caption

# Words that say nothing about what a picture shows.
_LITTLE = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "or",
        "of",
        "in",
        "on",
        "at",
        "to",
        "with",
        "without",
        "by",
        "for",
        "from",
        "as",
        "is",
        "are",
        "be",
        "it",
        "its",
        "this",
        "that",
        "these",
        "those",
        "there",
        "his",
        "her",
        "their",
        "one",
        "two",
        "some",
        "very",
        "near",
        "over",
        "under",
        "into",
        "onto",
        "up",
        "down",
        "out",
        "off",
        "against",
        "while",
        "who",
        "which",
        "has",
        "have",
    ]
)


def _texts(captions: Mapping[str, Caption] | Mapping[str, str] | Iterable[str]) -> list[str]:
    values = captions.values() if isinstance(captions, Mapping) else captions
    return [v if isinstance(v, str) else v.text for v in values]


def tag_counts(
    captions: Mapping[str, Caption] | Mapping[str, str] | Iterable[str], trigger: str = ""
) -> Counter[str]:
    """How many captions hold each comma-separated tag, the trigger word left out; upper and lower case count as one,
    written as first met. Most frequent first through `.most_common()`."""
    counts: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for text in _texts(captions):
        for key, tag in folded_tags(text, trigger).items():
            counts[spelling.setdefault(key, tag)] += 1
    return counts


_PARTS = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")


@lru_cache(maxsize=65_536)
def folded_tags(text: str, trigger: str = "") -> Mapping[str, str]:
    """The tags of a caption without its leading trigger word: by lower case, each as it is first written. Kept by text,
    since a page asks for those of all captions after every edit of one."""
    found: dict[str, str] = {}
    for tag in words.tags(words.without_trigger(text, trigger)):
        found.setdefault(tag.casefold(), tag)
    return found


@lru_cache(maxsize=65_536)
def terms(text: str, trigger: str = "") -> frozenset[str]:
    """What a caption speaks of, in lower case: its short tags as they are, and the words of longer phrases."""
    found = set().union(*map(_terms_of_one, words.tags(words.without_trigger(text, trigger))))
    return frozenset(found - {trigger.casefold()})


@lru_cache(maxsize=65_536)  # ten thousand captions hold few different tags
def _terms_of_one(tag: str) -> frozenset[str]:
    tag = tag.casefold().strip(" .;:!?")
    parts = _PARTS.findall(tag)
    found = {p for p in parts if p not in _LITTLE and len(p) > 1}
    return frozenset(found | {tag} if 0 < len(parts) <= 3 else found)


def term_shares(
    captions: Mapping[str, Caption] | Mapping[str, str] | Iterable[str],
    trigger: str = "",
    at_least: float = 0.6,
) -> dict[str, float]:
    """Share (0 to 1) of non-empty captions that speak of each term, most frequent first; rarer terms than `at_least`
    are left out, and so is a term that is a part of an equally frequent longer one."""
    texts = [t for t in _texts(captions) if t]
    return shares_of(Counter(term for t in texts for term in terms(t, trigger)), len(texts), at_least)


def shares_of(counts: Mapping[str, int], texts: int, at_least: float = 0.6) -> dict[str, float]:
    """`term_shares` from the number of captions that speak of each term, out of `texts` captions."""
    frequent = [(t, n) for t, n in counts.items() if n >= at_least * texts]
    kept: dict[str, float] = {}
    for term, n in sorted(frequent, key=lambda c: (-c[1], -len(c[0]), c[0])):
        if not any(counts[k] == n and re.search(rf"\b{re.escape(term)}\b", k) for k in kept):
            kept[term] = n / texts
    return kept
