"""Findings about pictures, worded for one and for many."""

from __future__ import annotations

from collections.abc import Sequence

from studio.findings import Finding, Severity


def named(names: Sequence[str], most: int = 3) -> str:
    """Names for a sentence: "a.png, b.png and 5 more"."""
    if len(names) <= most:
        return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def quoted(terms: Sequence[str]) -> str:
    """Terms for a sentence: 'dog', 'white ground'."""
    return ", ".join(f"'{t}'" for t in terms)


def _some(names: Sequence[str], one: str, many: str) -> str:
    """A sentence about pictures: `one` may hold {0}, the name; `many` holds {0}, the number."""
    return one.format(names[0]) if len(names) == 1 else many.format(len(names))


def about(
    severity: Severity,
    code: str,
    names: Sequence[str],
    one: str,
    many: str,
    why: str,
    fix: str,
    action: str = "",
) -> list[Finding]:
    """One finding about all of `names`; none when there are none."""
    if not names:
        return []
    return [
        Finding(
            severity=severity,
            code=code,
            what=_some(names, one, many),
            why=why,
            fix=fix,
            where=tuple(names),
            action=action,
        )
    ]
