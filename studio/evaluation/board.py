"""What a window needs to know to show a grid and have it judged: plain data, as small as nine hundred cells allow.

A cell is its place in a list (rows of prompts, weights across), one list a checkpoint and seed. Pictures are named, not sent:
the browser fetches those that come into view.
"""

from __future__ import annotations

from typing import Any

from studio.evaluation.grid import Grid
from studio.evaluation.review import FAULTS
from studio.evaluation.spec import FAMILY_WORDS, Cell
from studio.evaluation.store import CellStore
from studio.evaluation.sweet_spot import SweetSpot, per_checkpoint

RATED = ("unusable", "poor", "fair", "good", "just right")
"""What the ratings 1 to 5 mean."""


def board(grid: Grid) -> dict[str, Any]:
    """A grid as it is on the disk now.

    cells:    one list a checkpoint and seed, in that order: "hash.version" for a picture that is there, "hash" for others.
    said:     hash -> [rating or 0, tags, note].
    measured: hash -> [nearness, subject kept, faults (percent or null), number of the nearest training picture or null, copy].
    columns:  checkpoint -> what its weights do, in words, for each that was measured.
    best:     checkpoint -> [weight, word]: "best" or "nearest" for the verdict's, "best here" for the others' own.
    advised:  the checkpoint of the verdict, or the one that was drawn last.
    """
    spec = grid.spec
    versions = CellStore(grid.project).versions()
    cells = grid.cells()
    each = len(spec.prompts) * len(spec.weights)
    verdict = grid.verdict
    words, best = _columns(grid, verdict)
    near, measured = _measured(grid)
    return {
        "grid": grid.id,
        "weights": list(spec.weights),
        "prompts": [[p.text, FAMILY_WORDS[p.family]] for p in spec.prompts],
        "checkpoints": [x.label for x in spec.lora_files],
        "seeds": list(spec.seeds),
        "size": [spec.width, spec.height],
        "cells": [
            [_named(c, versions) for c in cells[start : start + each]] for start in range(0, len(cells), each)
        ],
        "errors": {c.hash: c.error for c in cells if c.error},
        "said": {h: [r.rating or 0, list(r.tags), r.note] for h, r in grid.review.all().items()},
        "near": near,
        "measured": measured,
        "columns": words,
        "best": best,
        "advised": verdict.checkpoint if verdict else _newest(cells),
        "faults": [[k, v] for k, v in FAULTS.items()],
        "rated": list(RATED),
    }


def _columns(grid: Grid, verdict: SweetSpot | None) -> tuple[dict[str, list[str]], dict[str, list[Any]]]:
    """Checkpoint -> what each weight does; and checkpoint -> its best weight and how that is called."""
    words: dict[str, list[str]] = {}
    best: dict[str, list[Any]] = {}
    if verdict is None or grid.metrics is None:
        return words, best
    for checkpoint, rows in per_checkpoint(grid.metrics, verdict).items():
        told = {r["weight"]: r for r in rows}
        words[checkpoint] = [
            "the base model" if w == 0 else str(told.get(w, {}).get("words", "")).replace(": sweet spot", "")
            for w in grid.spec.weights
        ]
        sweet = next((w for w, r in told.items() if r["sweet"]), None)
        if sweet is not None:
            advised = checkpoint == verdict.checkpoint
            word = "best here" if not advised else "best" if sweet == verdict.weight else "nearest"
            best[checkpoint] = [sweet, word]
    return words, best


def _newest(cells: list[Cell]) -> str | None:
    there = [c.checkpoint for c in cells if c.weight and c.path is not None]
    return there[-1] if there else cells[0].checkpoint if cells else None


def _named(cell: Cell, versions: dict[str, int]) -> str:
    version = versions.get(cell.hash)
    return cell.hash if version is None else f"{cell.hash}.{version}"


def _measured(grid: Grid) -> tuple[list[str], dict[str, list[Any]]]:
    """Names of training pictures that are the nearest to some cell; and what was measured, by hash."""

    def percent(value: float | None) -> int | None:
        return None if value is None else round(100 * value)

    names: dict[str, int] = {}
    out: dict[str, list[Any]] = {}
    for name, found in ((grid.metrics or {}).get("cells") or {}).items():
        near = str(found.get("nearest") or "")
        place = names.setdefault(near, len(names)) if near else None
        out[name] = [
            percent(found.get("nearness")),
            None if found.get("kept") is None else max(0, round(100 * found["kept"])),
            percent(found.get("fault")) or 0,
            place,
            bool(found.get("memorised")),
        ]
    return list(names), out
