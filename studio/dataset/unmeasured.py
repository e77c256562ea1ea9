"""What the audit did not measure, said as such: a zero would look like a clean bill."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.dataset.duplicates import waiting
from studio.dataset.faults import COMPARE_FROM
from studio.dataset.lettering import available, token, unread
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.dataset.scan import Scan
    from studio.models import BaseModelEntry

READ_WRITING = "read-writing"
"""`Finding.action` that starts the check for writing."""
COMPARE = "compare"
"""`Finding.action` that compares the pictures with one another."""


def unmeasured(scan: Scan, entry: BaseModelEntry | None) -> list[Finding]:
    """One note for each thing that was not checked, with what would check it. Nothing of it is part of a verdict."""
    given = (entry is None, token(scan.cache), waiting(scan))
    return list(scan.shown.once("unmeasured", lambda: _unmeasured(scan, entry), *given))


def _unmeasured(scan: Scan, entry: BaseModelEntry | None) -> list[Finding]:
    found: list[Finding] = []
    broken = [p.name for p in scan if p.error is not None]
    if broken:
        found.append(_note("broken", f"{len(broken)} of {len(scan)} pictures cannot be read, so nothing else was checked of them.", "", tuple(broken)))  # fmt: skip
    if entry is None:
        found.append(_note("size", "Sizes were not compared with the base model.", "Choose a base model that the studio knows."))  # fmt: skip
    alone = waiting(scan)
    if alone:
        found.append(_note("copies", f"{alone} of {len(scan)} pictures were not compared with the others, so copies among them are not known.",
                           "Comparing takes some seconds for ten thousand pictures.", (), COMPARE))  # fmt: skip
    few = sum(p.blur > 0.0 for p in scan.readable)
    if 0 < few < COMPARE_FROM:
        found.append(
            _note("compared", "Blur and exposure were not checked.", f"They are compared within the set, which takes {COMPARE_FROM} pictures.")
        )  # fmt: skip
    unread_ones = unread(scan)
    if unread_ones and available():
        found.append(
            _note("writing", f"Writing and watermarks were not looked for in {len(unread_ones)} of {len(scan.readable)} pictures.",
                  "Reading takes about a second a picture.", tuple(unread_ones), READ_WRITING)
        )  # fmt: skip
    elif unread_ones:
        found.append(
            _note("writing", "Writing and watermarks were not looked for.",
                  'That needs an extra: `pip install "lora-studio[text]"`, or `pip install rapidocr onnxruntime`.')
        )  # fmt: skip
    return found


def _note(code: str, what: str, fix: str = "", where: tuple[str, ...] = (), action: str = "") -> Finding:
    return Finding(
        severity="info", code=f"not-measured-{code}", what=what, fix=fix, where=where, action=action
    )
