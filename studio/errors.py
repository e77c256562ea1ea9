"""The one exception family of the studio: what happened, why, and how to fix it.

Everything that a user may cause or can mend is raised as a `StudioError`. Pages show its three sentences, the
command line prints them and exits with `exit_code`; neither shows a traceback.

    StudioError
     ├── InputError        what was typed or chosen cannot be used (exit code 2); may carry many findings
     ├── NotFoundError     a named project, run, grid, picture, preset ... does not exist (exit code 3)
     ├── GateError         a gate does not pass, so training is refused (exit code 4)
     ├── BusyError         another process holds the thing (exit code 5)
     └── EnvironmentalError  the computer lacks something: disk, package, permission (exit code 6)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from studio.findings import Finding


class StudioError(Exception):
    """A problem told in three sentences.

    what: what happened, in plain words, naming the thing.
    why:  why it is a problem, or why it happened.
    fix:  what the user can do now.
    findings: the single problems, when several were found in one input (all are reported at once).
    """

    exit_code = 1

    def __init__(
        self, what: str, why: str = "", fix: str = "", findings: list[Finding] | None = None
    ) -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix
        self.findings: list[Finding] = list(findings or [])

    def __str__(self) -> str:
        lines = [self.what]
        if self.why:
            lines.append(f"Why: {self.why}")
        if self.fix:
            lines.append(f"Fix: {self.fix}")
        lines += [f"- {f.what} {f.fix}".rstrip() for f in self.findings]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, object]:
        """The error as plain data, for `--json`."""
        return {
            "error": type(self).__name__,
            "what": self.what,
            "why": self.why,
            "fix": self.fix,
            "findings": [f.model_dump(mode="json") for f in self.findings],
        }


class InputError(StudioError):
    """What was typed or chosen cannot be used."""

    exit_code = 2


class NotFoundError(StudioError):
    """A named thing does not exist."""

    exit_code = 3


class GateError(StudioError):
    """Training was asked for while a gate is missing, stale or blocked."""

    exit_code = 4


class BusyError(StudioError):
    """Another process is using the thing right now."""

    exit_code = 5


class EnvironmentalError(StudioError):
    """The computer lacks something that is needed: room on disk, a package, a permission."""

    exit_code = 6
