"""What a renderer is: something that turns a grid's folder into pictures, as a job."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, runtime_checkable

from studio.evaluation.spec import GridSpec
from studio.findings import Finding
from studio.workspace import Workspace


@runtime_checkable
class Renderer(Protocol):
    """Draws the cells of a grid.

    id:       name in the spec and in settings, part of each cell's hash.
    title:    its name for people.
    families: base model families it can draw.

    The job started by `command` gets the grid's folder (which holds `grid.json`), skips the cells whose pictures are
    already in the project's cell store, stores each picture as soon as it is drawn, records what it could not draw in
    `failures.json`, and ends with the measurements and the contact sheet. See `studio.evaluation.store`.
    """

    id: str
    title: str
    families: tuple[str, ...]

    def check(self, spec: GridSpec, workspace: Workspace | None = None) -> list[Finding]:
        """What stands in the way of this grid on this computer; blocking findings refuse the start. workspace: whose
        settings count; the user's own when left out."""
        ...

    def command(self, folder: Path) -> list[str]:
        """The command line of the job that draws the grid in `folder`."""
        ...


def size_findings(spec: GridSpec, step: int) -> list[Finding]:
    """What is wrong with the size of a grid's pictures when both sides must be multiples of `step` pixels; blocking."""
    if not (spec.width % step or spec.height % step):
        return []
    return [
        Finding(
            severity="block",
            code="grid-size",
            what=f"{spec.width} x {spec.height} is not a size that this base model can draw.",
            why=f"Both sides must be multiples of {step}.",
            fix=f"Use {round(spec.width / step) * step} x {round(spec.height / step) * step}.",
        )
    ]
