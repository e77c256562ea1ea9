"""A run's pictures and captions as folders that sd-scripts reads: one folder for each subset."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from studio import files
from studio.dataset.subsets import subsets_of
from studio.errors import InputError
from studio.training.base import TrainingPlan

FOLDER = "images"


@dataclass(frozen=True)
class Laid:
    """One subset on disk. folder: pictures with their `.txt` captions; repeats: `num_repeats`; count: pictures in it."""

    folder: Path
    repeats: int
    regularisation: bool
    count: int


def laid_out(plan: TrainingPlan) -> list[Laid]:
    """The folders that `lay_out` makes of a plan. Writes nothing."""
    by_name = {p.path.name: p for p in plan.pictures}
    found = subsets_of(
        by_name,
        {n: p.repeats for n, p in by_name.items()},
        {n for n, p in by_name.items() if p.regularisation},
        plan.settings.repeats,
    )
    return [
        Laid(
            plan.run_folder / FOLDER / f"{'reg' if s.regularisation else 'train'}_{s.repeats}",
            s.repeats,
            s.regularisation,
            len(s.names),
        )
        for s in found
    ]


def lay_out(plan: TrainingPlan) -> list[Laid]:
    """Make the folders: pictures as hard links where the disk allows, captions as one line of UTF-8 text.

    One line, because sd-scripts reads the first line of a caption only. Made anew each time: a folder that somebody
    changed does not decide what is trained. Raises InputError when a picture is no longer what the plan says.
    """
    root = plan.run_folder / FOLDER
    # Latents that the script cached lie beside the pictures. It checks their size only, so they go as well.
    shutil.rmtree(root, ignore_errors=True)
    by_name = {p.path.name: p for p in plan.pictures}
    laid = laid_out(plan)
    subsets = subsets_of(
        by_name,
        {n: p.repeats for n, p in by_name.items()},
        {n for n, p in by_name.items() if p.regularisation},
        plan.settings.repeats,
    )
    for place, subset in zip(laid, subsets, strict=True):
        place.folder.mkdir(parents=True)
        for name in subset.names:
            picture = by_name[name]
            if not picture.path.is_file() or (
                picture.sha256 and files.sha256_file(picture.path) != picture.sha256
            ):
                raise InputError(
                    f"{name} is not the picture that this run was made with.",
                    "Its file is gone or was changed since.",
                    "Start a new run.",
                )
            target = place.folder / name
            try:
                os.link(picture.path, target)
            except OSError:
                files.copy_atomic(picture.path, target)
            caption = " ".join(picture.caption.split())
            if (
                caption
            ):  # sd-scripts stops at an empty caption file, and takes a missing one as an empty caption
                files.write_text(target.with_suffix(".txt"), f"{caption}\n")
    return laid
