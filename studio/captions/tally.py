"""What a set of captions comes to, counted once and then kept up to date by what changed.

A page asks after every edit of one caption for the tags of all, the words that nearly all share, the spellings that nearly
agree and the captions that something is wrong with. With ten thousand captions counting all again takes half a second.
"""

from __future__ import annotations

import re
import threading
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache

from studio.captions import text as words
from studio.captions.reading import Caption
from studio.captions.snapshots import Captions, changed
from studio.captions.spelling import Spellings, slips
from studio.captions.stats import folded_tags, terms

MOST = 8000
"""Tags whose spellings are compared; ten thousand captions by a tagger hold about two thousand."""
_KEPT = 12  # tallies that a process keeps
_MEASURES = 3  # kinds of length that a tally keeps

_WORD = re.compile(r"[^\W_][\w-]*")

Count = Callable[[str], int | None]
"""Tokens of a text for the base model; None when its tokenizer is not on this computer."""


@dataclass(frozen=True, slots=True)
class _Words:
    """What one text holds: flags (see Tally.named), its kind, a word that is nearly the trigger word, tags and terms."""

    flags: tuple[str, ...]
    kind: str
    misspelt: str
    tags: Mapping[str, str]
    terms: frozenset[str]


class Tally:
    """The counts of one set of captions. Used through `tally`, which keeps two threads from changing one at once.

    status: captions of each status.   kinds: how many are `tags` and how many `sentences`; those with the trigger word
    alone are neither.   terms: how many speak of each term.   written: how many have any words.
    misspelt: by picture, the word that is nearly the trigger word.
    """

    def __init__(self, trigger: str, without: Collection[str] = ()) -> None:
        self.trigger, self.without = trigger, without
        self.status: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.terms: Counter[str] = Counter()
        self.misspelt: dict[str, str] = {}
        self.written = 0
        self.guard = threading.RLock()
        self._captions: Mapping[str, Caption] = {}
        self._words: dict[str, tuple[Caption, _Words]] = {}
        self._flagged: dict[str, set[str]] = {}
        self._listed: dict[str, list[str]] = {}
        self._holders: dict[str, set[str]] = {}  # by tag in lower case: the pictures whose captions hold it
        self._spelt: dict[str, Counter[str]] = {}
        self._touched: set[str] = set()  # tags whose place among the ranked ones is not right any more
        self._shown: dict[str, tuple[int, str]] = {}
        self._ranked: list[tuple[int, str]] = []
        self._tags: list[tuple[str, int]] | None = None
        self._spellings: Spellings | None = None
        self._long: dict[tuple[Count, int], set[str]] = {}
        self._listed_long: dict[tuple[Count, int], list[str]] = {}
        self._near: tuple[list[tuple[str, str]], list[str]] | None = None

    # ---------------------------------------------------------------- asking

    def named(self, flag: str) -> list[str]:
        """Pictures, in the captions' order, whose captions are: `missing` (no file), `empty`, `absent` (no trigger word),
        `behind` (the trigger word is not first), `lines` (more than one), `garbled` (no UTF-8), `outside` (changed by another
        program), `bare` (the trigger word alone)."""
        if flag not in self._listed:
            names = self._flagged.get(flag)
            self._listed[flag] = [n for n in self._captions if n in names] if names else []
        return self._listed[flag]

    def count(self, flag: str) -> int:
        """How many `named` has."""
        return len(self._flagged.get(flag, ()))

    def in_order(self, names: Collection[str]) -> list[str]:
        """Some of the pictures in the captions' order."""
        return [n for n in self._captions if n in names] if names else []

    def tags(self) -> list[tuple[str, int]]:
        """Every tag without the trigger word, with the number of captions that hold it: most frequent first, then by
        letters. Upper and lower case count as one, written as it is most often."""
        self._rank()
        if self._tags is None:
            self._tags = [(tag, -n) for n, tag in self._ranked]
        return self._tags

    def near_misses(self) -> list[tuple[str, str]]:
        """Pairs of tags that look like two spellings of one: (the rarer, the more frequent), most frequent first."""
        return self._nearly()[0]

    def near_missed(self) -> list[str]:
        """Pictures, in order, whose captions hold the rarer tag of a pair of `near_misses`."""
        return self._nearly()[1]

    def _nearly(self) -> tuple[list[tuple[str, str]], list[str]]:
        self._rank()
        if self._near is not None:
            return self._near
        if self._spellings is None:
            self._spellings = Spellings()
        if len(self._ranked) > MOST:
            self._spellings.become(tag for _, tag in self._ranked[:MOST])
        elif len(self._spellings.tags) != len(self._ranked) or self._moved:
            now = {tag for _, tag in self._ranked}
            self._spellings.change(self._spellings.tags - now, now - self._spellings.tags)
        self._moved = False
        alike = self._spellings.pairs()
        pairs = directed(alike, dict(self.tags())) if alike else []
        self._near = (pairs, self.with_tags({rare for rare, _ in pairs}))
        return self._near

    def with_tags(self, tags: Collection[str]) -> list[str]:
        """Pictures whose captions hold any of the tags, in the captions' order."""
        found: set[str] = set()
        for tag in tags:
            found |= self._holders.get(tag.casefold(), set())
        return self.in_order(found)

    def tagged(self, tags: Collection[str], without: Collection[str]) -> list[str]:
        """Pictures whose captions hold all of the first tags and none of the others (lower case), in order."""
        found = None if not tags else set.intersection(*(self._holders.get(t, set()) for t in tags))
        gone: set[str] = set().union(*(self._holders.get(t, ()) for t in without))
        return [n for n in self._captions if (found is None or n in found) and n not in gone]

    def long_named(self, count: Count, limit: int) -> list[str]:
        """As `long`, in the captions' order."""
        if (count, limit) not in self._listed_long:
            names = self.long(count, limit)
            self._listed_long[count, limit] = self.in_order(names)
        return self._listed_long[count, limit]

    def long(self, count: Count, limit: int) -> Collection[str]:
        """Pictures whose captions have more tokens than `limit`."""
        measure = (count, limit)
        if measure not in self._long:
            while len(self._long) >= _MEASURES:
                gone = next(iter(self._long))
                self._long.pop(gone)
                self._listed_long.pop(gone, None)
            risky = {n: c.text for n, (c, _) in self._words.items() if _may_be_long(c.text, limit)}
            if ahead := getattr(count, "ahead", None):
                ahead(risky.values())
            self._long[measure] = {n for n, text in risky.items() if too_long(text, limit, count)}
        return self._long[measure]

    # ---------------------------------------------------------------- counting

    def follow(self, captions: Mapping[str, Caption]) -> None:
        """Count these captions, as far as they differ from those counted last."""
        before, self._captions = self._captions, captions
        for name in changed(before, captions):
            known, now = self._words.get(name), captions.get(name)
            if known is not None and known[0] is now:
                continue
            if (name in before) != (name in captions):
                self._listed, self._listed_long = {}, {}
            if now is None or name in self.without:
                fresh = None
            elif known is not None and _same_words(known[0], now):
                fresh = (now, known[1])
            else:
                fresh = (now, _words_of(now, self.trigger))
            self._swap(name, known, fresh)
            if fresh is not None:
                self._words[name] = fresh
            else:
                self._words.pop(name, None)

    def _swap(
        self, name: str, old: tuple[Caption, _Words] | None, new: tuple[Caption, _Words] | None
    ) -> None:
        """Count what one caption holds now instead of what it held; only what differs is touched."""
        for told, way in ((old, -1), (new, 1)):
            if told is not None:
                self.status[told[0].status] += way
                self.written += way if told[0].text else 0
        was, now = old[1] if old else _NOTHING, new[1] if new else _NOTHING
        if was is not now:
            self._swap_words(name, was, now)
        text = new[0].text if new else ""
        if old is None or old[0].text != text:
            for (count, limit), names in self._long.items():
                if too_long(text, limit, count) != (name in names):
                    names ^= {name}
                    self._listed_long.pop((count, limit), None)

    def _swap_words(self, name: str, was: _Words, now: _Words) -> None:
        for flag in set(was.flags) ^ set(now.flags):
            self._listed.pop(flag, None)
            self._flagged.setdefault(flag, set()).symmetric_difference_update({name})
        if was.kind:
            self.kinds[was.kind] -= 1
        if now.kind:
            self.kinds[now.kind] += 1
        self.misspelt.pop(name, None)
        if now.misspelt:
            self.misspelt[name] = now.misspelt
        self.terms.update(now.terms - was.terms)
        for term in was.terms - now.terms:
            self.terms[term] -= 1
            if not self.terms[term]:
                del self.terms[term]
        for key, tag in was.tags.items():
            if now.tags.get(key) != tag:
                self._touched.add(key)
                self._spelt[key][tag] -= 1
                if not self._spelt[key][tag]:
                    del self._spelt[key][tag]
                self._holders[key].discard(name)
                if not self._holders[key]:
                    del self._holders[key], self._spelt[key]
        for key, tag in now.tags.items():
            if was.tags.get(key) != tag:
                self._touched.add(key)
                spelt = self._spelt.get(key)
                if spelt is None:
                    self._spelt[key], self._holders[key] = Counter((tag,)), {name}
                    continue
                spelt[tag] += 1
                self._holders[key].add(name)

    _moved = False  # whether tags came or went since their spellings were compared

    def _rank(self) -> None:
        """Put the tags that were touched in their place."""
        if not self._touched:
            return
        self._tags = self._near = None
        whole = len(self._touched) > len(self._ranked) // 4 + 50
        for key in self._touched:
            old = self._shown.pop(key, None)
            if old is not None and not whole:
                place = bisect_left(self._ranked, (-old[0], old[1]))
                del self._ranked[place]
            spelt = self._spelt.get(key)
            new = None
            if spelt:
                tag = min(spelt, key=lambda t: (-spelt[t], t)) if len(spelt) > 1 else next(iter(spelt))
                new = self._shown[key] = (len(self._holders[key]), tag)
                if not whole:
                    insort(self._ranked, (-new[0], new[1]))
            if (old and old[1]) != (new and new[1]):
                self._moved = True
        if whole:
            self._ranked = sorted((-n, tag) for n, tag in self._shown.values())
        self._touched.clear()


def directed(pairs: Sequence[tuple[str, str]], counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs as (the rarer, the more frequent), most frequent first."""
    found = [(a, b) if counts[a] <= counts[b] else (b, a) for a, b in pairs]
    return sorted(found, key=lambda p: (-counts[p[1]], p))


def too_long(text: str, limit: int | None, count: Count) -> bool:
    """Whether the base model does not read the end of a caption."""
    return limit is not None and _may_be_long(text, limit) and (count(text) or 0) > limit


def _may_be_long(text: str, limit: int) -> bool:
    """Whether the tokenizer has to be asked: no text has more tokens than bytes, and no letter more than four of them."""
    return len(text) * 4 > limit and (len(text) > limit or len(text.encode("utf-8", "replace")) > limit)


_NOTHING = _Words((), "", "", {}, frozenset())


def _same_words(one: Caption, other: Caption) -> bool:
    """Whether two captions differ in author, date or status alone."""
    return (one.text, one.exists, one.utf8, one.outside) == (
        other.text,
        other.exists,
        other.utf8,
        other.outside,
    )


def _words_of(caption: Caption, trigger: str) -> _Words:
    text = caption.text
    flags = ["outside"] if caption.outside else []
    if not text:
        flags.append("empty" if caption.exists else "missing")
        return _Words(tuple(flags), "", "", {}, frozenset())
    if not words.leads(text, trigger):
        flags.append("behind" if trigger.casefold() in text.casefold() else "absent")
    if "\n" in text:
        flags.append("lines")
    if not caption.utf8:
        flags.append("garbled")
    rest = words.without_trigger(text, trigger)
    if not rest:
        flags.append("bare")
    return _Words(
        tuple(flags), kind_of(text, trigger), misspelt_trigger(text, trigger), folded_tags(text, trigger), terms(text, trigger)
    )  # fmt: skip


@lru_cache(maxsize=32_768)
def kind_of(text: str, trigger: str) -> str:
    """`tags` or `sentences`; empty when there is nothing but the trigger word."""
    rest = words.without_trigger(text, trigger)
    return "" if not rest else "tags" if words.looks_like_tags(rest) else "sentences"


@lru_cache(maxsize=32_768)
def misspelt_trigger(text: str, trigger: str) -> str:
    """A word of the caption that is nearly the trigger word; empty when there is none."""
    wanted = trigger.casefold()
    if len(wanted) < 5 or " " in wanted:
        return ""
    parts = words.tags(words.without_trigger(text, trigger))
    return next((found for part in parts if (found := _misspelt_in(part, wanted))), "")


@lru_cache(maxsize=65_536)  # ten thousand captions hold few different tags
def _misspelt_in(part: str, wanted: str) -> str:
    for word in _WORD.findall(part):
        # Casefolding lengthens few letters, "\u00df" to "ss" among them: most words are told apart by their length alone.
        if (abs(len(word) - len(wanted)) <= 1 or not word.isascii()) and _nearly(word.casefold(), wanted):
            return str(word)
    return ""


@lru_cache(maxsize=32_768)
def _nearly(word: str, wanted: str) -> bool:
    return word != wanted and abs(len(word) - len(wanted)) <= 1 and slips(word, wanted) == 1


# ---------------------------------------------------------------- keeping

_tallies: dict[tuple[object, str, frozenset[str]], Tally] = {}
_guard = threading.Lock()


@contextmanager
def tally(
    captions: Mapping[str, Caption] | Mapping[str, str], trigger: str, without: Collection[str] = ()
) -> Iterator[Tally]:
    """The counts of these captions, pictures in `without` left out; nobody else changes them inside the block.

    What the caption store hands out is followed from one answer to the next; anything else is counted from the start.
    """
    if not isinstance(captions, Captions):
        made = Tally(trigger, frozenset(without))
        made.follow(
            {n: c if isinstance(c, Caption) else Caption(c, exists=True) for n, c in captions.items()}
        )
        yield made
        return
    key = (captions.course, trigger, frozenset(without))
    with _guard:
        kept = _tallies.pop(key, None) or Tally(trigger, key[2])
        while len(_tallies) >= _KEPT:
            _tallies.pop(next(iter(_tallies)))
        _tallies[key] = kept
    with kept.guard:
        kept.follow(captions)
        yield kept
