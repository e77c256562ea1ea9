"""What the disk says of a grid: its spec, cells, pictures, measurements, ratings and verdict. Nothing is started here.

<project>/grids/<id>/
  grid.json       the frozen spec
  failures.json   cells that could not be drawn, with the reason
  metrics.json    measurements per cell and per weight
  sheet.png       the contact sheet
  review.json     ratings, fault tags and notes of the person who looked
  job.json ...    the folder is a job folder too
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import NotFoundError
from studio.evaluation.review import Review
from studio.evaluation.spec import Cell, GridSpec, plan_cells, read_spec
from studio.evaluation.store import CellStore
from studio.evaluation.sweet_spot import SweetSpot, find_sweet_spot
from studio.jobs.job import Job
from studio.project import Project
from studio.workspace import Workspace


class GridFolder:
    """A grid of a project, to be read. Holds no state but the frozen spec: every property reads what the disk says now."""

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
        return Review(self.folder / "review.json")

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
