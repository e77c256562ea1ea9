"""Measurements on a grid, from picture features; plain arithmetic on arrays, no pictures and no models in here.

Each picture comes as three vectors (`studio.evaluation.workers.features` makes them):

- content: EfficientNet-Lite0's pooled features (1280 numbers): what is on the picture. Blind to who exactly it is, to
  hands and to fine texture; trained on photographs, so weaker on drawings.
- outline: where edges run and in which direction, blind to colour and to light on dark or dark on light.
- style: means and spreads of its early feature maps (the statistics that style transfer matches: Huang and Belongie
  2017, arXiv 1703.06868) beside a colour histogram: how it is drawn. Blind to composition.

What is measured, at each weight, always as the difference to the base cell of the same prompt and seed:

- effect:   how far the pictures moved from the base, 0 at the base, 1 when as far as the training set lies from it.
- nearness: how much of the way from the base to the training set they moved, 0 at the base, 1 when there, in the middle
            of all prompts (style vectors for a style, content vectors for a character or an object). Movement
            in other directions does not count.
- kept:     whether the pictures still differ from each other as the base's pictures do: cosine between the vectors of cell
            and base cell after the mean over prompts is taken from each, for outline and for content, the better of the two
            (a style changes what a photograph network sees; a new pose changes outlines). 1 at the base; it falls when subjects
            are lost or all prompts give the same picture. Needs three prompts. For a character or an object, whose prompts
            differ in their scenes, colours count as a third way, and what happens to prompts without the trigger word (cosine with
            the base cell of content times that of outline) counts too: the lower of the two.
- fault:    how far clipping, flatness, contrast, saturation and sharpness lie outside of what base cells and training
            pictures show, 0 to 1; faults: which of them, negative where there is too little of it.
- memorised: whether a cell lies nearer to one training picture (or its mirror image) than training pictures lie to each other: its
            cosine to the nearest one is above the highest cosine between two different training pictures (duplicates count as one),
            and above that of its base cell. Per weight the share of such cells. The line is drawn by the set itself, as no cosine
            has a meaning of its own; generic features miss copies that are cut or recoloured (arXiv 2409.19952). Needs three pictures.
- diversity: how much the seeds of a prompt differ (mean cosine distance of content), as a share of what they differ without the
            LoRA; 1 is as varied as the base. Needs two seeds. Broken pictures count as varied too.
- leak:     nearness of the prompt without the trigger word, as a share of that of the prompts with it.

Measures of other models (CLIP, DINO, CCIP) are handed in ready-made, see `studio.evaluation.likeness`.
spread: for each measure its lowest and its highest value over the seeds, each seed taken alone; none with one seed.

The figures order weights and checkpoints of one grid. They are no grades, and say nothing across base models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from studio.evaluation.ways import (
    FAULT_NAMES,
    Axis,
    Floats,
    copy_limit,
    diversity,
    fault_excess,
    fault_score,
    kept,
    nearest,
    rounded,
    unit,
)

__all__ = [
    "COLOURS", "FAULT_NAMES", "Axis", "Floats", "MeasuredCell", "Pictures", "copy_limit", "diversity", "fault_score",
    "kept", "measure", "nearest", "unit",
]  # fmt: skip
COLOURS = 64
"""Columns of the colour histogram."""
VERSION = 3
PerCell = Mapping[tuple[str, str], dict[str, Any]]


@dataclass(frozen=True)
class Pictures:
    """Features of n pictures: content n × c, style n × s, outline n × o, faults n × 6 (levels 0..1, see FAULT_NAMES). The last
    COLOURS columns of style are the colour histogram."""

    content: Floats
    style: Floats
    outline: Floats
    faults: Floats

    @property
    def colours(self) -> Floats:
        """The colour histograms."""
        return self.style[:, -COLOURS:]

    def __len__(self) -> int:
        return len(self.content)


@dataclass(frozen=True)
class MeasuredCell:
    """Where a row of the features belongs on the grid."""

    hash: str
    checkpoint: str
    weight: float
    prompt: str
    family: str
    seed: int
    pair: str = ""


@dataclass(frozen=True)
class Extra:
    """What other models measured: measure -> one figure a row of the grid's pictures; models: what they were, for the record."""

    figures: Mapping[str, Sequence[float | bool | None]]
    models: Mapping[str, Mapping[str, str]]


_NONE = Extra({}, {})


def measure(
    kind: str,
    cells: Sequence[MeasuredCell],
    rows: Mapping[str, int],
    pictures: Pictures,
    pixel_change: Floats,
    train: Pictures | None,
    train_names: Sequence[str] = (),
    features: str = "",
    extra: Extra = _NONE,
) -> dict[str, Any]:
    """All measurements of a grid, as plain data for `metrics.json`.

    rows: cell hash -> row of `pictures`; checkpoints share the rows of their base cells. Each (checkpoint, prompt, seed) needs
    its cell at weight 0, others are left out. pixel_change: mean absolute difference to the base cell, 0..1. train: the
    training pictures, then their mirror images; None when there are none, and nearness is then not available.
    """
    base_of = {(c.prompt, c.seed): rows[c.hash] for c in cells if c.weight == 0}
    usable = [c for c in cells if (c.prompt, c.seed) in base_of]
    base_rows = sorted({base_of[c.prompt, c.seed] for c in usable if c.family != "no_trigger"})
    axis = _axis(kind, pictures, train, base_rows)
    space = pictures.style if kind == "style" else pictures.content
    groups = len(train_names) or (len(train) if train is not None else 0)

    reference = pictures.faults[base_rows] if base_rows else pictures.faults[:0]
    if train is not None and len(train):
        reference = np.concatenate([reference, train.faults]) if len(reference) else train.faults
    excess = fault_excess(pictures.faults, reference) if len(reference) else np.zeros_like(pictures.faults)
    limit = copy_limit(train.content[:groups], train.content) if train is not None else None
    near, similar = nearest(
        pictures.content, train.content if train is not None else pictures.content[:0], groups
    )

    per_cell: dict[tuple[str, str], dict[str, Any]] = {}
    by_weight: dict[tuple[str, float], list[MeasuredCell]] = defaultdict(list)
    for cell in usable:
        i, b = rows[cell.hash], base_of[cell.prompt, cell.seed]
        moved = (space[i] - space[b])[None]
        name = train_names[int(near[i])] if len(train_names) and near[i] >= 0 else ""
        per_cell[cell.checkpoint, cell.hash] = {
            "pixels": rounded(pixel_change[i]),
            "effect": rounded(axis.far(moved)[0]) if axis else None,
            "nearness": rounded(axis.along(moved)[0]) if axis and axis.separable else None,
            "kept": None,
            "fault": rounded(np.abs(excess[i]).max()),
            "faults": {n: rounded(v) for n, v in zip(FAULT_NAMES, excess[i], strict=False) if v},
            "nearest": name,
            "nearest_similarity": rounded(similar[i]),
            "memorised": None
            if limit is None
            else bool(similar[i] > max(limit, float(similar[b])) and i != b),
            **{key: _plain(values[i]) for key, values in extra.figures.items()},
        }
        by_weight[cell.checkpoint, cell.weight].append(cell)

    weights = []
    for (checkpoint, weight), group in by_weight.items():
        _kept(kind, checkpoint, group, pictures, rows, base_of, per_cell)
        weights.append(_column(checkpoint, weight, group, pictures, rows, base_of, per_cell, extra))
    return {
        "version": VERSION,
        "kind": kind,
        "features": features,
        "models": {role: dict(told) for role, told in extra.models.items()},
        "reference": {
            "training_pictures": groups,
            "separable": bool(axis and axis.separable),
            "distance": rounded(axis.length) if axis else None,
            "copy_limit": rounded(limit),
            "prompts": len({c.prompt for c in usable if c.family not in ("no_trigger", "trigger")}),
            "seeds": len({c.seed for c in usable}),
        },
        "cells": {h: v for (_c, h), v in per_cell.items()},
        "weights": sorted(weights, key=lambda w: (_order(cells, w["checkpoint"]), w["weight"])),
    }


def _plain(value: float | bool | None) -> float | bool | None:
    return value if value is None or isinstance(value, bool) else rounded(value)


def _axis(kind: str, pictures: Pictures, train: Pictures | None, base_rows: list[int]) -> Axis | None:
    if train is None or not len(train) or not base_rows:
        return None
    if kind == "style":
        return Axis.between(pictures.style[base_rows], train.style)
    return Axis.between(pictures.content[base_rows], train.content)


def _kept(
    kind: str,
    checkpoint: str,
    group: Sequence[MeasuredCell],
    pictures: Pictures,
    rows: Mapping[str, int],
    base_of: Mapping[tuple[str, int], int],
    per_cell: PerCell,
) -> None:
    """Fill in what is kept, which is told from all prompts of a column and seed together."""
    with_trigger = [c for c in group if c.family != "no_trigger"]
    for seed in dict.fromkeys(c.seed for c in with_trigger):
        scenes = [c for c in with_trigger if c.seed == seed and c.family != "trigger"]
        if not scenes:
            continue
        at, base_at = [rows[c.hash] for c in scenes], [base_of[c.prompt, c.seed] for c in scenes]
        views = [pictures.content, pictures.outline, *([] if kind == "style" else [pictures.colours])]
        values = np.max([kept(view[at], view[base_at]) for view in views], axis=0)
        for cell, value in zip(scenes, values, strict=True):
            per_cell[checkpoint, cell.hash]["kept"] = rounded(value)
    if kind == "style":
        return
    for cell in (c for c in group if c.family == "no_trigger"):
        pair = [rows[cell.hash], base_of[cell.prompt, cell.seed]]
        alike = [np.prod(unit(view[pair]), axis=0).sum() for view in (pictures.content, pictures.outline)]
        per_cell[checkpoint, cell.hash]["kept"] = rounded(alike[0] * alike[1])


def _column(
    checkpoint: str,
    weight: float,
    group: list[MeasuredCell],
    pictures: Pictures,
    rows: Mapping[str, int],
    base_of: Mapping[tuple[str, int], int],
    per_cell: PerCell,
    extra: Extra,
) -> dict[str, Any]:
    """One weight of one checkpoint: its measures, and their spread over the seeds."""
    told = _figures(checkpoint, weight, group, per_cell, extra)
    seeds = list(dict.fromkeys(c.seed for c in group))
    alone = [
        _figures(checkpoint, weight, [c for c in group if c.seed == seed], per_cell, extra) for seed in seeds
    ]
    spread = {}
    for key in told if len(seeds) > 1 else ():
        values = [a[key] for a in alone if a[key] is not None]
        if len(values) > 1:
            spread[key] = [min(values), max(values)]
    with_trigger = [c for c in group if c.family != "no_trigger"]
    prompts = list(dict.fromkeys(c.prompt for c in with_trigger))
    drawn = [[rows[c.hash] for c in with_trigger if c.prompt == p] for p in prompts]
    base = [[base_of[c.prompt, c.seed] for c in with_trigger if c.prompt == p] for p in prompts]
    scenes = [c for c in with_trigger if c.family != "trigger"]
    near = _values(checkpoint, scenes, "nearness", per_cell)
    return {
        "checkpoint": checkpoint,
        "weight": weight,
        "cells": len(scenes),
        **told,
        "diversity": diversity(pictures.content, drawn, base),
        "nearness_spread": rounded(near.std()) if len(near) > 1 else None,
        "nearest_similarity": _mean(checkpoint, scenes, "nearest_similarity", per_cell),
        "faults": _faults(checkpoint, scenes, per_cell),
        "spread": spread,
    }


def _values(checkpoint: str, cells: Sequence[MeasuredCell], key: str, per_cell: PerCell) -> Floats:
    found = [per_cell[checkpoint, c.hash][key] for c in cells]
    return np.asarray([v for v in found if v is not None], dtype=np.float64)


def _mean(checkpoint: str, cells: Sequence[MeasuredCell], key: str, per_cell: PerCell) -> float | None:
    found = _values(checkpoint, cells, key, per_cell)
    return rounded(found.mean()) if len(found) else None


def _faults(checkpoint: str, cells: Sequence[MeasuredCell], per_cell: PerCell) -> dict[str, float]:
    """Mean of each fault over the cells, signed; those that do not occur are left out."""
    sums: dict[str, float] = defaultdict(float)
    for cell in cells:
        for name, value in per_cell[checkpoint, cell.hash]["faults"].items():
            sums[name] += float(value or 0)
    return {n: round(v / len(cells), 4) for n, v in sums.items()}


def _figures(
    checkpoint: str, weight: float, group: Sequence[MeasuredCell], per_cell: PerCell, extra: Extra
) -> dict[str, Any]:
    """The measures of some cells of a column."""
    with_trigger = [c for c in group if c.family != "no_trigger"]
    scenes = [c for c in with_trigger if c.family != "trigger"]
    bare = [c for c in group if c.family == "no_trigger"]

    def mean(cells: Sequence[MeasuredCell], key: str) -> float | None:
        return _mean(checkpoint, cells, key, per_cell)

    leak_near = mean(bare, "nearness")
    paired_near = mean([c for c in scenes if c.prompt in {b.pair for b in bare}] or scenes, "nearness")
    leak = None
    if weight > 0 and bare and leak_near is not None and paired_near is not None and paired_near > 0.1:
        leak = rounded(float(np.clip(leak_near / paired_near, 0, 1.5)))
    kept_mean, fault = mean(scenes, "kept"), mean(scenes, "fault") or 0.0
    spared = mean(bare, "kept")
    if kept_mean is not None and spared is not None:
        kept_mean = min(kept_mean, spared)
    return {
        "pixels": mean(scenes, "pixels"),
        "effect": mean(scenes, "effect"),
        "nearness": mean(scenes, "nearness"),
        "kept": kept_mean,
        "fault": fault,
        "damage": None if kept_mean is None else rounded(float(np.clip(max(1 - kept_mean, fault), 0, 1))),
        "leak": leak,
        "memorised": mean(with_trigger, "memorised"),
        **{k: mean(with_trigger if k.endswith("copies") else scenes, k) for k in extra.figures},
    }


def _order(cells: Sequence[MeasuredCell], checkpoint: str) -> int:
    return list(dict.fromkeys(c.checkpoint for c in cells)).index(checkpoint)
