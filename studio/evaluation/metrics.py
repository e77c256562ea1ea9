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
- fault:    how far clipping, flatness, contrast and saturation lie outside of what base cells and training
            pictures show, 0 to 1.
- memorised: whether a cell lies nearer to one training picture (or its mirror image) than training pictures lie to each other: its
            cosine to the nearest one is above the highest cosine between two different training pictures (duplicates count as one),
            and above that of its base cell. Per weight the share of such cells. The line is drawn by the set itself, as no cosine
            has a meaning of its own; generic features miss copies that are cut or recoloured (arXiv 2409.19952). Needs three pictures.
- diversity: how much the seeds of a prompt differ (mean cosine distance of content), as a share of what they differ without the
            LoRA; 1 is as varied as the base. Needs two seeds. Broken pictures count as varied too.
- leak:     nearness of the prompt without the trigger word, as a share of that of the prompts with it.

The figures order weights and checkpoints of one grid. They are no grades, and say nothing across base models.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FAULT_NAMES = ("black", "white", "flatness", "contrast", "saturation")
MIN_SEPARATION = 1.5
"""Base and training set count as different when their means lie this many times further apart than chance would put the means
of two samples of one set."""
COLOURS = 64
"""Columns of the colour histogram."""
_TINY = 1e-9


@dataclass(frozen=True)
class Pictures:
    """Features of n pictures: content n × c, style n × s, outline n × o, faults n × 5 (levels 0..1, see FAULT_NAMES). The last
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


def unit(rows: Floats) -> Floats:
    """Rows scaled to length 1; zero rows stay zero."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, _TINY))


def pooled_deviation(*groups: Floats) -> Floats:
    """Pooled standard deviation of each column within the groups."""
    squares = np.sum([((g - g.mean(axis=0)) ** 2).sum(axis=0) for g in groups], axis=0)
    return np.asarray(np.sqrt(squares / max(1, sum(len(g) - 1 for g in groups))))


@dataclass(frozen=True)
class Axis:
    """The way from the base pictures to the training set in a feature space.

    spread: scale of each column; direction: unit vector; length: distance between the two means in that scale;
    separable: whether that distance stands out against the spread of single pictures.
    """

    spread: Floats
    direction: Floats
    length: float
    separable: bool

    @classmethod
    def between(cls, base: Floats, train: Floats) -> Axis:
        """From the mean of `base` to the mean of `train` (rows are pictures)."""
        deviation = pooled_deviation(base, train)
        # No column counts more than the middle one: where a few pictures hardly differ, chance would decide.
        spread = np.maximum(deviation, max(float(np.median(deviation)), _TINY))
        gap = (train.mean(axis=0) - base.mean(axis=0)) / spread
        length = float(np.linalg.norm(gap))
        # Expected length of the gap if both were drawn from one set.
        noise = float(np.linalg.norm(deviation / spread) * np.sqrt(1 / len(base) + 1 / len(train)))
        return cls(
            spread, gap / max(length, _TINY), length, length > MIN_SEPARATION * noise and length > _TINY
        )

    def along(self, moved: Floats) -> Floats:
        """How much of the way each row of differences goes: 1 is from base mean to training mean."""
        return (moved / self.spread) @ self.direction / max(self.length, _TINY)

    def far(self, moved: Floats) -> Floats:
        """How long each row of differences is, in units of the way."""
        return np.asarray(np.linalg.norm(moved / self.spread, axis=-1) / max(self.length, _TINY))


def kept(cells: Floats, base: Floats) -> Floats:
    """Per prompt (rows): cosine of cell and base vectors after the mean over prompts is taken away; all nan below three
    rows. Shrinking differences count as loss: the cosine is scaled by the ratio of lengths when that is below 1."""
    if len(cells) < 3:
        return np.full(len(cells), np.nan)
    c = unit(cells) - unit(cells).mean(axis=0)
    b = unit(base) - unit(base).mean(axis=0)
    c_len, b_len = np.linalg.norm(c, axis=1), np.linalg.norm(b, axis=1)
    cosine = np.sum(c * b, axis=1) / np.maximum(c_len * b_len, _TINY)
    shrink = np.minimum(1.0, c_len / np.maximum(b_len, _TINY))
    return np.asarray(np.clip(cosine * shrink, -1, 1))


def fault_score(faults: Floats, reference: Floats) -> Floats:
    """Per row, 0..1: the worst excess of a fault level over everything that the reference pictures show. A level that lies
    half of the remaining room beyond the reference's range counts as 1."""
    low, high = reference.min(axis=0), reference.max(axis=0)
    margin = 0.02
    above = (faults - high - margin) / np.maximum((1 - high) * 0.5, 0.1)
    below = (low - margin - faults) / np.maximum(low * 0.5, 0.1)
    below[:, [0, 1, 2]] = 0  # less clipping and less flatness are no faults
    return np.asarray(np.clip(np.maximum(above, below).max(axis=1), 0, 1))


def nearest(cells: Floats, train: Floats, groups: int) -> tuple[NDArray[np.intp], Floats]:
    """For each cell the nearest training picture and the cosine to it. `train` holds `groups` pictures, and may hold
    their mirror images after them (rows groups..2*groups-1), which count as the same picture."""
    if not len(train):
        return np.full(len(cells), -1), np.full(len(cells), np.nan)
    similarity = unit(cells) @ unit(train).T
    best = similarity.argmax(axis=1)
    return best % max(groups, 1), similarity[np.arange(len(cells)), best]


_SAME = 0.985
"""Cosine from which two training pictures count as copies of each other, which say nothing about how alike different ones are."""


def copy_limit(train: Floats, everything: Floats) -> float | None:
    """The cosine above which a picture is nearer to a training picture than different training pictures are to each other.
    everything: the same with mirror images after them. None below three pictures."""
    if len(train) < 3:
        return None
    similarity = unit(train) @ unit(everything).T
    own = np.arange(len(train))
    for start in range(0, similarity.shape[1], len(train)):
        similarity[own, start + own] = -1.0  # itself, and its mirror image
    different = similarity[similarity < _SAME]
    return float(different.max()) if len(different) else None


def diversity(content: Floats, cells: Sequence[Sequence[int]], base: Sequence[Sequence[int]]) -> float | None:
    """Mean distance between the seeds of a prompt as a share of the base's. cells, base: rows, one list a prompt. None when no
    prompt has two seeds, or the base's do not differ."""

    def spread(groups: Sequence[Sequence[int]]) -> float | None:
        found = []
        for group in groups:
            if len(group) > 1:
                similarity = unit(content[list(group)]) @ unit(content[list(group)]).T
                found.append(float(1 - similarity[np.triu_indices(len(group), 1)].mean()))
        return float(np.mean(found)) if found else None

    mine, without = spread(cells), spread(base)
    return None if mine is None or not without or without < 1e-6 else _round(mine / without)


def measure(
    kind: str,
    cells: Sequence[MeasuredCell],
    rows: Mapping[str, int],
    pictures: Pictures,
    pixel_change: Floats,
    train: Pictures | None,
    train_names: Sequence[str] = (),
    features: str = "",
) -> dict[str, Any]:
    """All measurements of a grid, as plain data for `metrics.json`.

    rows: cell hash -> row of `pictures`; checkpoints share the rows of their base cells. Each (checkpoint, prompt, seed) needs its cell at weight 0, others are
    left out. pixel_change: mean absolute difference to the base cell, 0..1. train: the training pictures, then
    their mirror images; None when there are none, and nearness is then not available.
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
    faults = fault_score(pictures.faults, reference) if len(reference) else np.zeros(len(pictures))
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
            "pixels": _round(pixel_change[i]),
            "effect": _round(axis.far(moved)[0]) if axis else None,
            "nearness": _round(axis.along(moved)[0]) if axis and axis.separable else None,
            "kept": None,
            "fault": _round(faults[i]),
            "nearest": name,
            "nearest_similarity": _round(similar[i]),
            "memorised": None
            if limit is None
            else bool(similar[i] > max(limit, float(similar[b])) and i != b),
        }
        by_weight[cell.checkpoint, cell.weight].append(cell)

    weights = []
    for (checkpoint, weight), group in by_weight.items():
        with_trigger = [c for c in group if c.family != "no_trigger"]
        for seed in dict.fromkeys(c.seed for c in with_trigger):
            scenes = [c for c in with_trigger if c.seed == seed and c.family != "trigger"]
            at, base_at = [rows[c.hash] for c in scenes], [base_of[c.prompt, c.seed] for c in scenes]
            views = [pictures.content, pictures.outline, *([] if kind == "style" else [pictures.colours])]
            values = np.max([kept(view[at], view[base_at]) for view in views], axis=0)
            for cell, value in zip(scenes, values, strict=True):
                per_cell[checkpoint, cell.hash]["kept"] = _round(value)
        if kind != "style":
            for cell in (c for c in group if c.family == "no_trigger"):
                pair = [rows[cell.hash], base_of[cell.prompt, cell.seed]]
                alike = [
                    np.prod(unit(view[pair]), axis=0).sum() for view in (pictures.content, pictures.outline)
                ]
                per_cell[checkpoint, cell.hash]["kept"] = _round(alike[0] * alike[1])
        summary = _summary(checkpoint, weight, group, per_cell)
        copied = [per_cell[checkpoint, c.hash]["memorised"] for c in with_trigger]
        summary["memorised"] = (
            None if limit is None or not copied else _round(sum(map(bool, copied)) / len(copied))
        )
        summary["diversity"] = diversity(
            pictures.content,
            [
                [rows[c.hash] for c in with_trigger if c.prompt == p]
                for p in dict.fromkeys(c.prompt for c in with_trigger)
            ],
            [
                [base_of[c.prompt, c.seed] for c in with_trigger if c.prompt == p]
                for p in dict.fromkeys(c.prompt for c in with_trigger)
            ],
        )
        weights.append(summary)
    return {
        "version": 2,
        "kind": kind,
        "features": features,
        "reference": {
            "training_pictures": groups,
            "separable": bool(axis and axis.separable),
            "distance": _round(axis.length) if axis else None,
            "prompts": len({c.prompt for c in usable if c.family not in ("no_trigger", "trigger")}),
            "seeds": len({c.seed for c in usable}),
        },
        "cells": {h: v for (_c, h), v in per_cell.items()},
        "weights": sorted(weights, key=lambda w: (_order(cells, w["checkpoint"]), w["weight"])),
    }


def _axis(kind: str, pictures: Pictures, train: Pictures | None, base_rows: list[int]) -> Axis | None:
    if train is None or not len(train) or not base_rows:
        return None
    if kind == "style":
        return Axis.between(pictures.style[base_rows], train.style)
    return Axis.between(pictures.content[base_rows], train.content)


def _summary(
    checkpoint: str,
    weight: float,
    group: list[MeasuredCell],
    per_cell: Mapping[tuple[str, str], dict[str, Any]],
) -> dict[str, Any]:
    with_trigger = [c for c in group if c.family not in ("no_trigger", "trigger")]
    bare = [c for c in group if c.family == "no_trigger"]

    def values(cells: Sequence[MeasuredCell], key: str) -> Floats:
        found = [per_cell[checkpoint, c.hash][key] for c in cells]
        return np.asarray([v for v in found if v is not None], dtype=np.float64)

    def mean(cells: Sequence[MeasuredCell], key: str) -> float | None:
        found = values(cells, key)
        return _round(found.mean()) if len(found) else None

    near, leak_near = mean(with_trigger, "nearness"), mean(bare, "nearness")
    paired = [c for c in with_trigger if c.prompt in {b.pair for b in bare}] or with_trigger
    paired_near = mean(paired, "nearness")
    leak = None
    if weight > 0 and bare and leak_near is not None and paired_near is not None and paired_near > 0.1:
        leak = _round(float(np.clip(leak_near / paired_near, 0, 1.5)))
    kept_mean, fault = mean(with_trigger, "kept"), mean(with_trigger, "fault") or 0.0
    spared = mean(bare, "kept")
    if kept_mean is not None and spared is not None:
        kept_mean = min(kept_mean, spared)
    near_values = values(with_trigger, "nearness")
    return {
        "checkpoint": checkpoint,
        "weight": weight,
        "cells": len(with_trigger),
        "pixels": mean(with_trigger, "pixels"),
        "effect": mean(with_trigger, "effect"),
        "nearness": near,
        "nearness_spread": _round(near_values.std()) if len(near_values) > 1 else None,
        "kept": kept_mean,
        "fault": fault,
        "damage": None if kept_mean is None else _round(float(np.clip(max(1 - kept_mean, fault), 0, 1))),
        "leak": leak,
        "nearest_similarity": mean(with_trigger, "nearest_similarity"),
    }


def _order(cells: Sequence[MeasuredCell], checkpoint: str) -> int:
    return list(dict.fromkeys(c.checkpoint for c in cells)).index(checkpoint)


def _round(value: Any) -> float | None:
    number = float(value)
    return round(number, 4) if np.isfinite(number) else None
