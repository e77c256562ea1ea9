"""All captions as they were at one moment, with a short memory of which of them differ from the moment before.

Whoever counts something over ten thousand captions asks what changed since they counted last, and counts only that again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from studio.captions.caption import Caption

_REMEMBERED = 64  # steps; whoever is further behind compares everything
T = TypeVar("T")


class Course:
    """The steps from each snapshot of one project to the next, in one process."""

    def __init__(self) -> None:
        self.at = 0
        self._steps: deque[frozenset[str]] = deque(maxlen=_REMEMBERED)

    def step(self, names: Collection[str]) -> int:
        """Note which captions differ from the snapshot before; the number of the new one."""
        self._steps.append(frozenset(names))
        self.at += 1
        return self.at

    def between(self, one: int, other: int) -> frozenset[str] | None:
        """Names that may differ between two snapshots, whichever is older; None when that is forgotten."""
        first, last = sorted((one, other))
        if self.at - first > len(self._steps):
            return None
        steps = list(self._steps)[len(self._steps) - (self.at - first) : len(self._steps) - (self.at - last)]
        return frozenset().union(*steps)


class Captions(dict[str, "Caption"]):
    """The caption of every picture, by name and in name order. Never changed once it was handed out.

    course, at: whose snapshot it is, and which one; captions that did not change are the same objects in both.
    """

    def __init__(self, known: Mapping[str, Caption], course: Course, at: int) -> None:
        super().__init__(known)
        self.course, self.at = course, at


def changed(before: Mapping[str, T], after: Mapping[str, T]) -> Collection[str]:
    """Names that came, went, or whose value is another object; of two snapshots of one course without looking at all."""
    if before is after:
        return ()
    if isinstance(before, Captions) and isinstance(after, Captions) and before.course is after.course:
        names = before.course.between(before.at, after.at)
        if names is not None:
            return names
    found = [n for n, value in after.items() if before.get(n) is not value]
    if len(before) + sum(n not in before for n in found) != len(after):
        found += [n for n in before if n not in after]
    return found
