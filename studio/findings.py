"""Findings: the one way in which the studio says that it noticed something.

Audit, gates, run anomalies and diagnosis all speak in findings, so that a page, a report and `--json` show
them alike.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from pydantic import BaseModel, ConfigDict

Severity = Literal["block", "warn", "info"]
_HARM: dict[str, int] = {"block": 0, "warn": 1, "info": 2}


class Finding(BaseModel):
    """One thing noticed.

    severity: `block` stops a gate, `warn` deserves a look, `info` is good to know.
    code:     stable machine name in kebab-case, such as `caption-missing`.
    what / why / fix: plain sentences; `fix` names the action that mends it.
    where:    names of the pictures, settings fields or files concerned.
    action:   name of the one-click remedy that a page may offer, such as `add-trigger`; empty when there is none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    severity: Severity
    code: str
    what: str
    why: str = ""
    fix: str = ""
    where: tuple[str, ...] = ()
    action: str = ""


def by_harm(findings: Iterable[Finding]) -> list[Finding]:
    """The findings, blocking ones first, otherwise in the order given."""
    return sorted(findings, key=lambda f: _HARM[f.severity])


def blocking(findings: Iterable[Finding]) -> list[Finding]:
    """Only those that stop a gate."""
    return [f for f in findings if f.severity == "block"]


def summary(findings: Iterable[Finding]) -> str:
    """A short count such as "2 blocking, 1 warning"; "nothing found" when empty."""
    counts = {"block": 0, "warn": 0, "info": 0}
    for f in findings:
        counts[f.severity] += 1
    parts = []
    if counts["block"]:
        parts.append(f"{counts['block']} blocking")
    if counts["warn"]:
        parts.append(f"{counts['warn']} warning{'s' if counts['warn'] != 1 else ''}")
    if counts["info"]:
        parts.append(f"{counts['info']} note{'s' if counts['info'] != 1 else ''}")
    return ", ".join(parts) or "nothing found"
