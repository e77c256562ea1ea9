"""A grid on disk: its cells, measurements, verdict and contact sheet; starting, resuming and finding grids.

<project>/grids/<id>/
  grid.json       the frozen spec
  failures.json   cells that could not be drawn, with the reason
  metrics.json    measurements per cell and per weight
  sheet.png       the contact sheet
  review.json     ratings, fault tags and notes of the person who looked
  job.json ...    the folder is a job folder too
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import BusyError, InputError, NotFoundError, StudioError
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
    read_spec,
)
from studio.evaluation.store import CellStore
from studio.evaluation.sweet_spot import SweetSpot, find_sweet_spot
from studio.findings import blocking
from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch, relaunch
from studio.project import Project
from studio.workspace import Workspace

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


class Grid:
    """A grid of a project. Holds no state but the frozen spec: every property reads what the disk says now."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def id(self) -> str:
        return self.folder.name

    @property
    def spec(self) -> GridSpec:
        """The frozen spec. Raises NotFoundError when the folder holds no grid."""
        return self._planned[0]

    @cached_property
    def _planned(self) -> tuple[GridSpec, tuple[Cell, ...]]:
        path = self.folder / "grid.json"
        try:
            stat = path.stat()
        except OSError as e:
            raise NotFoundError(
                f"There is no grid called '{self.id}'.",
                "Its folder holds no grid.json.",
                "Choose another grid, or draw a new one.",
            ) from e
        return _planned(path, stat.st_size, stat.st_mtime_ns)

    @cached_property
    def project(self) -> Project:
        """The project that the grid belongs to, found from where its folder lies."""
        folder = self.folder.resolve().parents[1]
        return Project(Workspace(folder.parents[1]), folder.name)

    @property
    def job(self) -> Job:
        """The job that draws it."""
        return Job(self.folder)

    @property
    def review(self) -> Review:
        """The person's ratings, tags and notes."""
        return Review(self.folder / "review.json", self._record)

    def _record(self) -> None:
        """Let the report and the project's record say what the ratings say now. A disk that refuses costs no rating."""
        with suppress(OSError, StudioError):
            write_report(self)
            record(self)

    def cells(self) -> list[Cell]:
        """All cells in reading order (checkpoint, seed, prompt, weight), each with its picture when it is there."""
        store = CellStore(self.project)
        known, failed = store.known(), self.failures
        return [
            replace(
                c,
                path=store.path(c.hash) if c.hash in known else None,
                error=None if c.hash in known else failed.get(c.hash),
            )
            for c in self._planned[1]
        ]

    @property
    def failures(self) -> dict[str, str]:
        """Cell hash -> why it could not be drawn."""
        found = files.read_json(self.folder / "failures.json")
        return {str(k): str(v) for k, v in found.items()} if isinstance(found, dict) else {}

    @property
    def metrics(self) -> dict[str, Any] | None:
        """The measurements, as `studio.evaluation.metrics.measure` made them; None until they are there. To be read only."""
        path = self.folder / "metrics.json"
        try:
            stat = path.stat()
        except OSError:
            return None
        return _metrics(path, stat.st_size, stat.st_mtime_ns)

    @property
    def verdict(self) -> SweetSpot | None:
        """The sweet spot from the measurements and the ratings as they are now; None until there are measurements."""
        metrics = self.metrics
        if metrics is None:
            return None
        cells = self.cells()
        drawn = len({c.hash for c in cells if c.weight > 0 and c.path is not None})
        return find_sweet_spot(metrics, self.review.ratings_by_weight(cells), drawn)

    @property
    def sheet(self) -> Path | None:
        """The contact sheet (PNG); None until it is there."""
        path = self.folder / "sheet.png"
        return path if path.is_file() else None

    @property
    def done(self) -> bool:
        """Whether every cell has its picture and the measurements are there."""
        drawn = CellStore(self.project).known()
        return (self.folder / "metrics.json").is_file() and all(c.hash in drawn for c in self._planned[1])


@lru_cache(maxsize=32)
def _planned(path: Path, _size: int, _mtime: int) -> tuple[GridSpec, tuple[Cell, ...]]:
    """A frozen spec and its cells, whose names take a hash each: worked out once, not at each look at the page."""
    spec = read_spec(path)
    if spec is None:  # taken away since it was found
        raise NotFoundError(
            f"There is no grid called '{path.parent.name}'.",
            "Its folder holds no grid.json.",
            "Choose another grid, or draw a new one.",
        )
    return spec, tuple(plan_cells(spec))


@lru_cache(maxsize=8)
def _metrics(path: Path, _size: int, _mtime: int) -> dict[str, Any] | None:
    found = files.read_json(path)
    return found if isinstance(found, dict) else None


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
