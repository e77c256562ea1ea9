"""Tags that look like two spellings of one, found again at once when a tag comes or goes.

Two tags are alike when nothing but spaces, hyphens, underscores or a plural differs; or one letter of a word of SHORTEST
letters and more, added, left out, changed or swapped, while the first letters and all digits are the same.
"""

from __future__ import annotations

import re
from bisect import insort
from collections.abc import Iterable
from functools import lru_cache

SHORTEST = 6
"""Letters from which a word with one letter changed counts as nearly the same; below, too many are other words."""


class Spellings:
    """The tags of a set of captions, with the pairs among them that are alike.

    What a tag is compared with is found through all texts with one letter less (two texts one slip apart have one in
    common), so that a tag that comes or goes costs a few look-ups, however many there are.
    """

    def __init__(self, tags: Iterable[str] = ()) -> None:
        self.tags: set[str] = set()
        self._groups: dict[str, list[str]] = {}  # by bare spelling, sorted; the first stands for all
        self._around: dict[
            str, set[str]
        ] = {}  # those that stand for a group, by each text with one letter less
        self._match: dict[str, str] = {}
        self._pairs: tuple[tuple[str, str], ...] | None = None
        self.become(tags)

    def become(self, tags: Iterable[str]) -> None:
        """Hold exactly these tags."""
        wanted = set(tags)
        for tag in sorted(self.tags - wanted):
            self._remove(tag)
        for tag in sorted(wanted - self.tags):
            self._add(tag)

    def change(self, gone: Iterable[str], came: Iterable[str]) -> None:
        """Let some tags go, then take others in."""
        for tag in gone:
            if tag in self.tags:
                self._remove(tag)
        for tag in came:
            if tag not in self.tags:
                self._add(tag)

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Each tag that is like another one, with that one; each tag is the first of one pair at most."""
        if self._pairs is None:
            same = [(tag, group[0]) for group in self._groups.values() for tag in group[1:]]
            self._pairs = tuple(sorted([*same, *self._match.items()]))
        return self._pairs

    def _add(self, tag: str) -> None:
        self.tags.add(tag)
        self._pairs = None
        group = self._groups.setdefault(bare(tag), [])
        insort(group, tag)
        if group[0] == tag:
            if len(group) > 1:
                self._leave(group[1])
            self._stand(tag)

    def _remove(self, tag: str) -> None:
        self.tags.remove(tag)
        self._pairs = None
        key = bare(tag)
        group = self._groups[key]
        first = group[0] == tag
        group.remove(tag)
        if first:
            self._leave(tag)
            if group:
                self._stand(group[0])
        if not group:
            del self._groups[key]

    def _stand(self, tag: str) -> None:
        """A tag stands for its group from now on, and is compared with those of the other groups."""
        if len(bare(tag)) < SHORTEST:
            return
        for other in self._near(tag):
            first, second = (other, tag) if other < tag else (tag, other)
            if first < self._match.get(second, "\U0010ffff"):
                self._match[second] = first
        for cut in _cuts(tag.casefold()):
            self._around.setdefault(cut, set()).add(tag)

    def _leave(self, tag: str) -> None:
        if len(bare(tag)) < SHORTEST:
            return
        for cut in _cuts(tag.casefold()):
            around = self._around[cut]
            around.discard(tag)
            if not around:
                del self._around[cut]
        self._match.pop(tag, None)
        for other in self._near(tag):
            if self._match.get(other) == tag:
                earlier = [k for k in self._near(other) if k < other]
                if earlier:
                    self._match[other] = min(earlier)
                else:
                    del self._match[other]

    def _near(self, tag: str) -> list[str]:
        """Those standing for a group that are one slip away, without the tag itself."""
        folded = tag.casefold()
        found = {known for cut in _cuts(folded) for known in self._around.get(cut, ())}
        found.discard(tag)
        return [k for k in found if _one_slip(folded, k.casefold())]


@lru_cache(maxsize=32_768)
def bare(tag: str) -> str:
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
    return re.findall(r"\d", x) == re.findall(r"\d", y) and slips(x, y) == 1


def slips(a: str, b: str) -> int:
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
