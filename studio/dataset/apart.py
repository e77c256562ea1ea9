"""Pictures that the user called different: kept in `<project>/not_duplicates.json`, by content, and not asked about again.

The file holds lists of content hashes; the pictures of one list are all different from one another.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from studio import files
from studio.errors import InputError

NOT_DUPLICATES = "not_duplicates.json"
_SPLIT = 50_000  # pairs written out at most when a few of a long list are asked about again


class Apart:
    """What the user said of one project. folder: of the project."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NOT_DUPLICATES
        try:
            raw = files.read_json(self._path) or []
        except InputError:  # damaged by hand: then they are asked about again
            raw = []
        self.sets = [frozenset(map(str, s)) for s in raw if isinstance(s, list) and len(s) >= 2]
        self._of: dict[str, set[int]] = {}
        for n, some in enumerate(self.sets):
            for sha in some:
                self._of.setdefault(sha, set()).add(n)

    def __contains__(self, pair: tuple[str, str]) -> bool:
        """Whether two pictures were called different."""
        a = self._of.get(pair[0])
        return a is not None and not a.isdisjoint(self._of.get(pair[1], ()))

    def __bool__(self) -> bool:
        return bool(self.sets)

    def largest(self, sha: str) -> int:
        """Number of the largest set a picture is in; -1 when it is in none."""
        return max(self._of.get(sha, ()), key=lambda n: len(self.sets[n]), default=-1)

    def add(self, shas: Collection[str]) -> None:
        """Pictures are all different from one another."""
        self._save([*self.sets, frozenset(shas)])

    def forget(self, shas: Collection[str] | None) -> int:
        """Forget that these pictures (all when None) are different from one another; how many pairs are forgotten."""
        kept: list[frozenset[str]] = []
        gone = 0
        for some in self.sets:
            asked = some if shas is None else some & frozenset(shas)
            if len(asked) < 2:
                kept.append(some)
                continue
            gone += len(asked) * (len(asked) - 1) // 2
            rest = some - asked
            if len(rest) >= 2:
                kept.append(rest)
            if len(asked) * len(rest) <= _SPLIT:
                kept += [frozenset((a, b)) for a in asked for b in rest]
        if gone:
            self._save(kept)
        return gone

    def _save(self, sets: list[frozenset[str]]) -> None:
        unique = {tuple(sorted(s)) for s in sets}
        files.write_json(self._path, [list(s) for s in sorted(unique)])
