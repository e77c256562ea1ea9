"""What was measured on a registered LoRA, and preparing a new grid for it with its base model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files, models
from studio.errors import InputError, NotFoundError, StudioError
from studio.evaluation.grid import Grid, list_grids
from studio.evaluation.plan import GridCost, grid_cost, grid_lora, plan_grid
from studio.evaluation.spec import DEFAULT_WEIGHTS, GridSpec, lora_content
from studio.library.entry import LibraryEntry
from studio.project import Intent, Project, create_project, open_project
from studio.workspace import Workspace


@dataclass(frozen=True)
class Evaluation:
    """The newest measured grid that shows exactly this LoRA (its tensors; metadata does not count).

    label: how it is called there; weight: the drawn weight nearest to the recommended one; row: the measurements at that weight.
    """

    grid: Grid
    label: str
    weight: float
    row: dict[str, Any]


@dataclass(frozen=True)
class Prepared:
    """A grid that could be drawn now. project: where it goes; a new one when the LoRA has none here."""

    project: Project
    spec: GridSpec
    cost: GridCost


def evaluation(workspace: Workspace, entry: LibraryEntry) -> Evaluation | None:
    """What was measured on this LoRA; None when nothing was, or its file or project are gone."""
    project, file = _project_of(workspace, entry), entry.file(workspace)
    if project is None or not file.is_file():
        return None
    try:
        content = lora_content(file)
    except InputError:
        return None
    for grid in list_grids(project):
        try:
            found = _row(grid, content, entry.weight)
        except StudioError:
            continue  # a grid damaged by hand hides no other
        if found is not None:
            return found
    return None


def pictures(found: Evaluation, most: int = 12) -> dict[str, Path]:
    """Prompt -> the drawn picture of this LoRA at the weight of the evaluation, one seed, in the grid's order."""
    out: dict[str, Path] = {}
    for cell in found.grid.cells():
        if cell.checkpoint == found.label and cell.weight == found.weight and cell.path is not None:
            out.setdefault(cell.prompt.text, cell.path)
    return dict(list(out.items())[:most])


def prepare_grid(
    workspace: Workspace, entry: LibraryEntry, weights: Sequence[float] = (), **drawing: Any
) -> Prepared:
    """A grid for this LoRA with its base model. Draws nothing; `studio.evaluation.grid.start_grid` does.

    A LoRA from elsewhere, or one whose project is gone or has another base model by now, gets a project for its evaluations.
    weights: besides the recommended one; the usual ones when empty. drawing: as `plan_grid` takes it (renderer, drawn_with ...).
    Raises NotFoundError when the file or the base model are gone, InputError when nothing can be drawn with them.
    """
    file = entry.file(workspace)
    if not file.is_file():
        raise NotFoundError(
            f"The file of {entry.title} is gone.", f"Nothing lies at {file}.", "Register it again."
        )
    project = evaluation_project(workspace, entry)
    asked = {*(weights or DEFAULT_WEIGHTS), entry.weight}
    spec = plan_grid(
        project, lora_files=[grid_lora(file, entry.title)], weights=tuple(sorted(asked)), **drawing
    )
    return Prepared(project, spec, grid_cost(project, spec))


def evaluation_project(workspace: Workspace, entry: LibraryEntry) -> Project:
    """The project whose grids show this LoRA: its own, or one made for it. Raises InputError or NotFoundError."""
    project = _project_of(workspace, entry)
    if project is not None and project.intent.base_model == entry.base_model:
        return project
    if not entry.base_model:
        raise InputError(
            f"{entry.title} cannot be evaluated.",
            "The studio does not know a base model of its family, and a grid is drawn with one.",
            "Add the base model on the Set-up page, then bring the LoRA in again and choose it.",
        )
    if not entry.trigger:
        raise InputError(
            f"{entry.title} has no trigger word.",
            "The prompts of a grid call the LoRA up with it.",
            "Bring the file in again with a word that calls it up, such as one of its caption words.",
        )
    models.get_model(workspace, entry.base_model)
    for slug in workspace.project_slugs():
        known = open_project(workspace, slug)
        try:
            same = known.intent.notes == _mark(entry) and known.intent.base_model == entry.base_model
        except StudioError:
            continue
        if same:
            return known
    made = create_project(
        workspace,
        Intent(
            kind=entry.kind,
            name=entry.title[:80],
            trigger=entry.trigger,
            description=entry.good_for,
            base_model=entry.base_model,
            notes=_mark(entry),
        ),
    )
    _adopt(workspace, entry, made)
    return made


def _mark(entry: LibraryEntry) -> str:
    return f"For the evaluation of '{entry.slug}' from the library."


def _adopt(workspace: Workspace, entry: LibraryEntry, project: Project) -> None:
    """Let the entry know its new project, so that its grids are found later."""
    changed = entry.model_copy(update={"project": project.slug})
    files.write_json(entry.folder(workspace) / "entry.json", changed.model_dump(mode="json"))


def _project_of(workspace: Workspace, entry: LibraryEntry) -> Project | None:
    if not entry.project:
        return None
    try:
        return open_project(workspace, entry.project)
    except StudioError:
        return None


def _row(grid: Grid, content: str, weight: float) -> Evaluation | None:
    lora = next((x for x in grid.spec.lora_files if x.content == content), None)
    metrics = grid.metrics if lora is not None else None
    if lora is None or metrics is None:
        return None
    rows = [r for r in metrics.get("weights", ()) if r.get("checkpoint") == lora.label and r.get("weight")]
    if not rows:
        return None
    best = min(rows, key=lambda r: abs(float(r["weight"]) - weight))
    return Evaluation(grid, lora.label, float(best["weight"]), best)
