"""Which run came from which, what was changed for it, and what came out: a tree that is read from the runs and the history."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from studio import files
from studio.compare import Difference, differences
from studio.diagnosis.engine import CAME_FROM, TAKEN_BACK
from studio.diagnosis.rows import all_rows
from studio.errors import StudioError
from studio.evaluation.grid import Grid, list_grids
from studio.project import Project
from studio.training.runs import Run, list_runs


@dataclass(frozen=True)
class Node:
    """A run in the tree.

    parent:   the run that it came from; "" for a first one.
    prepared: whether it was prepared from its parent by a diagnosis (else it is simply the run before).
    symptoms: what was to be mended, in words.
    verdict:  the newest grid's verdict in one sentence; "" when it was not evaluated.
    """

    run: str
    created: str
    state: str
    parent: str
    prepared: bool
    symptoms: tuple[str, ...] = ()
    grid: str = ""
    verdict: str = ""
    weight: float | None = None
    rating: float | None = None
    children: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        return {**vars(self), "symptoms": list(self.symptoms)}


def lineage(project: Project) -> list[Node]:
    """Every run, oldest first, parents before children."""
    runs = sorted(list_runs(project), key=lambda r: (str(r.manifest.get("created", "")), r.id))
    prepared = [e for e in project.history() if e.get("what") in (CAME_FROM, TAKEN_BACK)]
    grids: dict[str, Grid] = {}
    for grid in list_grids(project):
        if grid.spec.run:
            grids.setdefault(grid.spec.run, grid)
    words = {r.id: r.see for r in all_rows()}
    nodes: dict[str, Node] = {}
    before = ""
    for run in runs:
        created = str(run.manifest.get("created", ""))
        event = _event(prepared, before, set(nodes))
        parent = str(event["run"]) if event else str(run.manifest.get("came_from") or "") or before
        node = Node(
            run=run.id,
            created=created,
            state=str(run.job.state),
            parent=parent if parent in nodes else "",
            prepared=event is not None,
            symptoms=tuple(words.get(str(s), str(s)) for s in (event or {}).get("symptoms", ())),
            **_result(grids.get(run.id)),
        )
        nodes[run.id] = node
        if node.parent:
            nodes[node.parent].children.append(run.id)
        before = run.id
    return list(nodes.values())


def _event(history: list[dict[str, Any]], before: str, known: set[str]) -> dict[str, Any] | None:
    """The last preparation that was made while `before` was the newest run, and not taken back."""
    found: list[dict[str, Any]] = []
    for event in history:
        if str(event.get("newest", "")) == before:
            if event["what"] == CAME_FROM:
                found.append(event)
            elif found:
                found.pop()
    return next((e for e in reversed(found) if e.get("run") in known), None)


def _result(grid: Grid | None) -> dict[str, Any]:
    if grid is None:
        return {}
    try:
        verdict = grid.verdict
        ratings = [r.rating for r in grid.review.all().values() if r.rating]
    except (StudioError, OSError):
        return {"grid": grid.id}
    return {
        "grid": grid.id,
        "verdict": verdict.headline if verdict else "",
        "weight": verdict.weight if verdict else None,
        "rating": round(sum(ratings) / len(ratings), 2) if ratings else None,
    }


def drawn(nodes: list[Node]) -> list[tuple[int, Node]]:
    """The tree as (depth, node), each parent directly before its children."""
    known = {n.run: n for n in nodes}
    lines: list[tuple[int, Node]] = []
    waiting = [(0, n) for n in reversed(nodes) if not n.parent]
    while waiting:
        depth, node = waiting.pop()
        lines.append((depth, node))
        # A chain stays on its level; only branches go in.
        deeper = depth + 1 if len(node.children) > 1 else depth
        waiting += [(deeper, known[c]) for c in reversed(node.children)]
    return lines


@dataclass(frozen=True)
class PictureChanges:
    """Which training pictures differ between two runs."""

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    recaptioned: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.recaptioned)


def compared(before: Run, after: Run) -> tuple[list[Difference], PictureChanges]:
    """What differs between two runs: settings and versions, and the pictures and captions one by one."""
    a, b = _captions(before), _captions(after)
    pictures = PictureChanges(
        tuple(sorted(b.keys() - a.keys())),
        tuple(sorted(a.keys() - b.keys())),
        tuple(sorted(n for n in a.keys() & b.keys() if a[n] != b[n])),
    )
    return differences(before, after), pictures


def _captions(run: Run) -> dict[str, str]:
    raw = files.read_json(run.folder / "plan.json")
    found = raw.get("pictures") if isinstance(raw, dict) else None
    return {
        str(p.get("path", "")).replace("\\", "/").rpartition("/")[2]: str(p.get("caption", ""))
        for p in found or ()
        if isinstance(p, dict)
    }
