"""Which captions a page or a command shows, and in which order: by words, tags, length, tokens, status and author."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

from studio.captions.reading import IMPORTED, PERSON, Caption
from studio.captions.tally import Count, tally
from studio.captions.tally import too_long as too_long
from studio.captions.tokens import Reader
from studio.errors import InputError

Show = Literal["all", "empty", "needs review", "approved"]
SHOW: dict[Show, str] = {
    "all": "All",
    "empty": "Uncaptioned",
    "needs review": "Needs review",
    "approved": "Approved",
}
"""Every status that can be filtered by, with its name in the app."""

By = Literal["anyone", "person", "machine", "import"]
BY: dict[By, str] = {
    "anyone": "Anyone",
    "person": "You",
    "machine": "An engine",
    "import": "Came with the picture",
}
"""Who wrote a caption, as it can be filtered by."""

Order = Literal["name", "shortest", "longest", "newest", "oldest"]
ORDER: dict[Order, str] = {
    "name": "Name",
    "shortest": "Shortest first",
    "longest": "Longest first",
    "newest": "Last changed first",
    "oldest": "Longest unchanged first",
}
"""Every order with its name in the app."""

_REMEMBERED = 200_000  # texts whose tokens are kept


@dataclass(frozen=True)
class Filter:
    """What is let through; the default lets everything through.

    query: words that occur in the file name or the caption, upper and lower case alike.
    tags / without: tags that a caption must, or must not, all hold.
    show: its status.   by: who wrote it.
    outside: only those that another program changed.   long: only those with more than `limit` tokens.
    letters, tokens: least and most, both included; tokens that cannot be counted let nothing through.
    limit: tokens that the base model reads; None when it is not known, and then nothing is `long`.
    """

    query: str = ""
    tags: frozenset[str] = frozenset()
    without: frozenset[str] = frozenset()
    show: Show = "all"
    by: By = "anyone"
    outside: bool = False
    long: bool = False
    letters: tuple[int, int] | None = None
    tokens: tuple[int, int] | None = None
    limit: int | None = None

    def __post_init__(self) -> None:
        for what, span in (("letters", self.letters), ("tokens", self.tokens)):
            if span is not None and not 0 <= span[0] <= span[1]:
                raise InputError(
                    f"{span[0]} to {span[1]} {what} is no range.",
                    "The first number is the least and the second the most.",
                    "Give the smaller number first, from 0 on.",
                )
        if self.show not in SHOW or self.by not in BY:
            raise InputError(
                f"Captions cannot be filtered by '{self.show if self.show not in SHOW else self.by}'.",
                "That is neither a status nor an author.",
                f"Use one of: {', '.join((*SHOW, *BY))}.",
            )


class _Counter:
    """The tokens of texts for one text encoder, each text counted once."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._known: dict[str, int] = {}

    def __call__(self, text: str) -> int | None:
        found = self._known.get(text)
        if found is None:
            found = self._reader.count(text)
            if found is not None:
                self._keep({text: found})
        return found

    def ahead(self, texts: Iterable[str]) -> None:
        """Count many texts in one go, which takes the tokenizer a third less than one by one."""
        fresh = [t for t in dict.fromkeys(texts) if t not in self._known]
        found = self._reader.counts(fresh) if fresh else None
        if found is not None:
            self._keep(dict(zip(fresh, found, strict=True)))

    def _keep(self, found: Mapping[str, int]) -> None:
        if len(self._known) + len(found) > _REMEMBERED:
            self._known.clear()
        self._known.update(found)


@lru_cache(maxsize=8)
def counter(reader: Reader) -> Count:
    """The tokens of texts for one text encoder; each text is counted once, as long as this process lives."""
    return _Counter(reader)


@dataclass(frozen=True)
class Overview:
    """What a whole set of captions comes to.

    show: how many captions each status lets through.   tags: (tag, captions that hold it), most frequent first.
    outside: how many another program changed.          long: how many have more tokens than the model reads.
    """

    show: Mapping[Show, int]
    tags: tuple[tuple[str, int], ...]
    outside: int
    long: int

    @cached_property
    def counts(self) -> Mapping[str, int]:
        """How many captions hold each tag, in the order of `tags`."""
        return dict(self.tags)


_known: list[tuple[Mapping[str, Caption], str, int | None, Count | None, Overview]] = []


def overview(
    captions: Mapping[str, Caption], trigger: str, limit: int | None = None, count: Count | None = None
) -> Overview:
    """Count a set of captions. The same mapping, as `CaptionStore.of` gives it while nothing changes, is counted once."""
    for known in list(_known):
        if known[0] is captions and known[1:4] == (trigger, limit, count):
            return known[4]
    with tally(captions, trigger) as told:
        show: dict[Show, int] = {status: told.status[status] for status in SHOW} | {"all": len(captions)}
        long = 0 if count is None or limit is None else len(told.long(count, limit))
        found = Overview(show, tuple(told.tags()), told.count("outside"), long)
    _known.insert(0, (captions, trigger, limit, count, found))
    del _known[4:]
    return found


def fitting(captions: Mapping[str, Caption], wanted: Filter, trigger: str, count: Count) -> list[str]:
    """The names that the filter lets through, in the order of `captions`."""
    if wanted == Filter(limit=wanted.limit):
        return list(captions)
    query = wanted.query.strip().casefold()
    found = []
    for name, caption in _by_tags(captions, wanted, trigger):
        text = caption.text
        if query and query not in name.casefold() and query not in text.casefold():
            continue
        if wanted.show not in ("all", caption.status) or (wanted.outside and not caption.outside):
            continue
        if wanted.by != "anyone" and not _by(caption, wanted.by):
            continue
        if wanted.letters and not wanted.letters[0] <= len(text) <= wanted.letters[1]:
            continue
        if wanted.tokens:
            n = count(text)
            if n is None or not wanted.tokens[0] <= n <= wanted.tokens[1]:
                continue
        if wanted.long and not too_long(text, wanted.limit, count):
            continue
        found.append(name)
    return found


def _by_tags(captions: Mapping[str, Caption], wanted: Filter, trigger: str) -> Iterable[tuple[str, Caption]]:
    """The captions that have the tags that are wanted, and none of those that are not."""
    if not wanted.tags and not wanted.without:
        return captions.items()
    with tally(captions, trigger) as told:
        names = told.tagged(_folded(wanted.tags), _folded(wanted.without))
    return [(n, captions[n]) for n in names]


def ordered(captions: Mapping[str, Caption], names: list[str], order: Order) -> list[str]:
    """The names in another order; those that tie stay as they were."""
    if order == "name":
        return names
    if order in ("shortest", "longest"):
        return sorted(names, key=lambda n: len(captions[n].text), reverse=order == "longest")
    return sorted(names, key=lambda n: captions[n].updated, reverse=order == "newest")


def _by(caption: Caption, by: By) -> bool:
    if by == "machine":
        return caption.by_machine
    return bool(caption.text) and caption.author == (PERSON if by == "person" else IMPORTED)


def _folded(tags: Collection[str]) -> frozenset[str]:
    return frozenset(t.casefold() for t in tags)
