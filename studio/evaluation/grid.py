"""Starting, resuming and finding grids. What lies in a grid's folder: `studio.evaluation.grid_folder`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from studio import files
from studio.errors import BusyError, InputError, NotFoundError, StudioError
from studio.evaluation.grid_folder import GridFolder
from studio.evaluation.plan import GridCost, choose_checkpoints, grid_cost, grid_lora, plan_grid
from studio.evaluation.registry import get_renderer
from studio.evaluation.report import record, write_report
from studio.evaluation.review import Review
from studio.evaluation.spec import (
    DEFAULT_WEIGHTS,
    FAMILY_WORDS,
    Cell,
    GridLora,
    GridPrompt,
    GridSpec,
    cell_hash,
    plan_cells,
)
from studio.findings import blocking
from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch, relaunch
from studio.project import Project

__all__ = [
    "DEFAULT_WEIGHTS",
    "FAMILY_WORDS",
    "Cell",
    "Grid",
    "GridCost",
    "GridLora",
    "GridPrompt",
    "GridSpec",
    "cell_hash",
    "choose_checkpoints",
    "get_grid",
    "grid_cost",
    "grid_lora",
    "list_grids",
    "measure_only",
    "plan_cells",
    "plan_grid",
    "resume_grid",
    "start_grid",
]


class Grid(GridFolder):
    """A grid of a project, whose report and record follow what is said about it."""

    @property
    def review(self) -> Review:
        """The person's ratings, tags and notes."""
        return Review(self.folder / "review.json", self._record)

    def _record(self) -> None:
        """Let the report and the project's record say what the ratings say now. A disk that refuses costs no rating."""
        with suppress(OSError, StudioError):
            write_report(self)
            record(self)


def start_grid(project: Project, spec: GridSpec) -> Job:
    """Freeze the spec and start the job that draws it.

    Raises InputError when the renderer cannot draw it here; all reasons are in its findings.
    """
    renderer = get_renderer(spec.renderer)
    bad = blocking(renderer.check(spec, project.workspace))
    if bad:
        if len(bad) == 1:
            raise InputError(bad[0].what, bad[0].why, bad[0].fix)
        raise InputError(
            "This grid cannot be drawn.", "There is more than one reason.", "Mend these first.", bad
        )
    folder = project.grids_dir / spec.id
    files.write_text(folder / "grid.json", spec.model_dump_json(indent=2) + "\n")
    job = launch(folder, _job_of(spec, renderer.command(folder)))
    project.decided(
        "grid started",
        grid=spec.id,
        run=spec.run,
        weights=list(spec.weights),
        checkpoints=[lora.label for lora in spec.lora_files],
    )
    return job


def resume_grid(grid: Grid, only: Sequence[str] = ()) -> Job:
    """Go on with a grid that was stopped, failed in parts or was cut off; finished cells are not drawn again.

    only: hashes of the cells to draw, when not all that are missing. Raises BusyError while it is being drawn.
    """
    left = {h: why for h, why in grid.failures.items() if h not in only} if only else {}
    return _run_again(grid, list(only), left)


def measure_only(grid: Grid) -> Job:
    """Measure what is there without drawing, such as pictures that were brought back. Raises BusyError while it is drawn."""
    return _run_again(grid, ["none"], grid.failures)


def _run_again(grid: Grid, words: list[str], failures: dict[str, str]) -> Job:
    job = grid.job
    if job.is_alive:
        raise BusyError(
            "This grid is being drawn right now.",
            "Two jobs would draw the same cells.",
            "Wait, or stop it first.",
        )
    files.write_json(grid.folder / "failures.json", failures)
    command = [*get_renderer(grid.spec.renderer).command(grid.folder), *words]
    if not (grid.folder / "job.json").is_file():  # only its workflows were saved so far
        return launch(grid.folder, _job_of(grid.spec, command))
    return relaunch(job, command)


def _job_of(spec: GridSpec, command: list[str]) -> JobSpec:
    count = len({c.hash for c in plan_cells(spec)})
    return JobSpec(kind="grid", title=f"Grid of {count} pictures", command=command, project=spec.project)


def list_grids(project: Project) -> list[Grid]:
    """The project's grids, newest first."""
    found = sorted(project.grids_dir.glob("*/grid.json"), key=lambda p: p.parent.name, reverse=True)
    return [Grid(p.parent) for p in found]


def get_grid(project: Project, grid_id: str = "latest") -> Grid:
    """A grid by its id, or the newest one. Raises NotFoundError naming those that exist."""
    known = list_grids(project)
    if known and grid_id in ("", "latest"):
        return known[0]
    for grid in known:
        if grid.id == grid_id:
            return grid
    raise NotFoundError(
        f"There is no grid called '{grid_id}'." if known else "This project has no grid yet.",
        "Nothing was drawn under that name.",
        f"Use one of: {', '.join(g.id for g in known)}." if known else "Draw one: `lora-studio evaluate`.",
    )
