"""Planning a grid: which checkpoints, weights, prompts and seeds, and what that costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from studio import files, models
from studio.errors import InputError, NotFoundError
from studio.evaluation import clip_skip as clip_skips
from studio.evaluation import prompts as prompt_sets
from studio.evaluation.spec import (
    DEFAULT_WEIGHTS,
    GridLora,
    GridPrompt,
    GridSpec,
    Sampler,
    lora_content,
    plan_cells,
)
from studio.evaluation.store import CellStore
from studio.project import Project
from studio.workspace import Workspace

CheckpointChoice = Literal["final", "spread", "all"]

# How each family is drawn unless told otherwise. Pocket: its model card. SD1.5 / SDXL: the defaults of diffusers'
# pipelines for guidance (7.5 and 5), with 25 steps of DPM-Solver++ 2M, which its authors show to be converged.
_DRAWING: dict[str, dict[str, Any]] = {
    "pocket": {"steps": 20, "guidance": 4.0, "sampler": "model"},
    "sd15": {"steps": 25, "guidance": 7.5, "sampler": "dpmpp_2m"},
    "sdxl": {"steps": 25, "guidance": 5.0, "sampler": "dpmpp_2m"},
    # ComfyUI's own templates for these models.
    "sd35": {"steps": 20, "guidance": 4.0, "sampler": "euler"},
    "flux": {"steps": 20, "guidance": 3.5, "sampler": "euler"},
}

MOST_CELLS = 4000
"""Pictures of one grid at most: a contact sheet of 16,000 px a side gives each of 4,000 some 250 px, and no person rates more."""
MOST_SEEDS = 32
LEAST_WEIGHT, MOST_WEIGHT = -2.0, 4.0
"""As in `studio.evaluation.spec`: beyond, no LoRA was ever meant to work."""

_SECONDS_PER_STEP = {"pocket": 0.02}
"""Seconds one cell takes for one step on two processor cores, before this computer has drawn a grid of its own."""


class CheckpointLike(Protocol):
    """What a grid needs to know of a checkpoint."""

    @property
    def path(self) -> Path: ...
    @property
    def epoch(self) -> int | None: ...
    @property
    def step(self) -> int | None: ...
    @property
    def final(self) -> bool: ...


class RunLike(Protocol):
    """What a grid needs to know of a run."""

    @property
    def id(self) -> str: ...
    def checkpoints(self) -> Sequence[CheckpointLike]: ...


@dataclass(frozen=True)
class GridCost:
    """What a grid costs before it starts.

    cells:     pictures on it, the base column counted once.
    there:     how many of them are in the store already.
    to_render: how many are left to draw.
    seconds:   forecast for those, or None when this computer has not drawn anything alike yet.
    basis:     where the forecast comes from, in words.
    """

    cells: int
    there: int
    to_render: int
    seconds: float | None
    basis: str


def _label(checkpoint: CheckpointLike) -> str:
    told = getattr(checkpoint, "label", "")
    if told:
        return str(told)
    if checkpoint.final:
        return "final"
    return f"epoch {checkpoint.epoch}" if checkpoint.epoch else f"step {checkpoint.step or 0}"


def grid_lora(
    path: Path, label: str = "", *, epoch: int | None = None, step: int | None = None, final: bool = False
) -> GridLora:
    """A LoRA file as an axis entry, its content hashed. Raises InputError when it is no whole safetensors file."""
    path = path.expanduser().resolve()
    return GridLora(
        path=path, label=label or path.stem, epoch=epoch, step=step, final=final, content=lora_content(path)
    )


def choose_checkpoints(
    found: Sequence[CheckpointLike], choice: CheckpointChoice | Sequence[str | int]
) -> list[GridLora]:
    """Checkpoints of a run as grid axis, early to late.

    `final`: the last one; `spread`: early, middle and last (the middle one is often better than the last); `all`; or a
    list of epochs, labels or file names. Raises NotFoundError naming those that exist.
    """
    ordered = sorted(found, key=lambda c: (c.final, c.step or 0, c.epoch or 0))
    if not ordered:
        raise NotFoundError(
            "This run has no checkpoint yet.",
            "A grid is drawn with a LoRA file, and the run has not written one.",
            "Wait for the first checkpoint, or choose another run.",
        )
    if choice == "final":
        picked = ordered[-1:]
    elif choice == "all":
        picked = list(ordered)
    elif choice == "spread":
        places = sorted({0, (len(ordered) - 1) // 2, len(ordered) - 1})
        picked = [ordered[i] for i in places]
    else:
        wanted = [str(c).strip() for c in choice]
        names = {id(c): {_label(c), str(c.epoch), c.path.name, c.path.stem, str(c.path)} for c in ordered}
        unknown = [w for w in wanted if not any(w in n for n in names.values())]
        if unknown:
            raise NotFoundError(
                f"There is no checkpoint '{unknown[0]}'.",
                "The run wrote others, or removed it to keep only the last ones.",
                f"Use one of: {', '.join(_label(c) for c in ordered)}.",
            )
        picked = [c for c in ordered if any(w in names[id(c)] for w in wanted)]
    return [
        grid_lora(c.path, _label(c), epoch=c.epoch or None, step=c.step or None, final=c.final)
        for c in picked
    ]


def plan_grid(
    project: Project,
    run: RunLike | None = None,
    *,
    checkpoints: CheckpointChoice | Sequence[str | int] = "final",
    lora_files: Sequence[Path | GridLora] = (),
    weights: Sequence[float] = DEFAULT_WEIGHTS,
    prompts: Sequence[str | GridPrompt] | None = None,
    families: Sequence[str] | None = None,
    seeds: Sequence[int] = (1,),
    renderer: str = "diffusers",
    steps: int | None = None,
    guidance: float | None = None,
    width: int | None = None,
    height: int | None = None,
    sampler: Sampler | None = None,
    clip_skip: int | None = None,
    negative: str | None = None,
    drawn_with: Mapping[str, str] | None = None,
) -> GridSpec:
    """A grid for a run's checkpoints, or for LoRA files from elsewhere (`lora_files`).

    Weight 0 is always added. Prompts default to the standard set of the project's kind, a training caption, the
    trigger word alone and one prompt without it; `families` (see `prompts.CHOOSABLE`) takes all of some kinds instead, to which
    `prompts` are added. clip_skip: as the LoRAs were trained with when None. Nothing is written; `start_grid` starts it.
    Raises InputError with what is wrong, NotFoundError when the run has no such checkpoint.
    """
    intent = project.intent
    entry = models.get_model(project.workspace, intent.base_model)
    place = entry.location(project.workspace)
    if place is None and drawn_with:
        place = project.workspace.models_dir  # it lies on the server only, under the names in `drawn_with`
    if place is None:
        raise InputError(
            f"The base model '{entry.title}' is not on this computer.",
            "A grid draws with the base model and lays the LoRA over it.",
            "Add it on the Set-up page.",
        )
    loras = [x if isinstance(x, GridLora) else grid_lora(x) for x in lora_files]
    if run is not None:
        loras = [*choose_checkpoints(run.checkpoints(), checkpoints), *loras]
    if not loras:
        raise InputError(
            "There is nothing to evaluate.",
            "Neither a run nor a LoRA file was named.",
            "Choose a finished run, or give the path of a .safetensors file.",
        )
    given = prompts or ()
    rows = [
        *(grid_prompts(project, families) if families or prompts is None else ()),
        *(p for p in given if isinstance(p, GridPrompt)),
        *prompt_sets.own_prompts([p for p in given if isinstance(p, str)], intent.trigger),
    ]
    rows = list({p.text: p for p in reversed(rows)}.values())[::-1]  # what is written twice is drawn once
    check_size(len(loras), len(set(weights) | {0.0}), len(rows), len(set(seeds)))
    drawing = _drawing(entry.family)
    if negative is None:
        negative = prompt_sets.prompt_set(intent.kind, entry.family).negative
    try:
        return GridSpec(
            id=files.new_id("grid"),
            project=project.slug,
            kind=intent.kind,
            trigger=intent.trigger,
            run=run.id if run is not None else None,
            base_model=entry.id,
            base_path=place,
            base_fingerprint=(
                files.fingerprint([entry.id, dict(drawn_with)])
                if drawn_with and entry.location(project.workspace) is None
                else models.model_fingerprint(place)
            ),
            family=entry.family,
            prediction=entry.prediction,
            lora_files=tuple(loras),
            weights=tuple(weights),
            prompts=tuple(rows),
            seeds=tuple(seeds),
            negative=negative,
            renderer=renderer,
            sampler=sampler or drawing["sampler"],
            steps=drawing["steps"] if steps is None else steps,
            guidance=drawing["guidance"] if guidance is None else guidance,
            width=width or entry.resolution,
            height=height or entry.resolution,
            clip_skip=clip_skips.chosen(entry.family, clip_skip, [x.path for x in loras]),
            drawn_with=dict(drawn_with or {}),
        )
    except ValidationError as e:
        problems = [
            f"{'.'.join(map(str, p['loc']))}: {p['msg'].removeprefix('Value error, ')}" for p in e.errors()
        ]
        raise InputError(
            "This grid cannot be drawn.",
            "; ".join(problems) + ".",
            "Change those values and try again.",
        ) from e


def _drawing(family: str) -> dict[str, Any]:
    return _DRAWING.get(family, _DRAWING["sd15"])


def grid_prompts(project: Project, families: Sequence[str] | None = None) -> list[GridPrompt]:
    """The prompts that a grid of the project draws: about seven, or all of some kinds. Raises InputError for kinds that there
    are none of."""
    entry = models.get_model(project.workspace, project.intent.base_model)
    if families:
        return prompt_sets.family_prompts(project, entry.family, entry.caption_style, families)
    return prompt_sets.default_prompts(project, entry.family, entry.caption_style)


def drawing_defaults(project: Project) -> tuple[int, float]:
    """Steps and guidance with which the project's base model is drawn unless told otherwise."""
    drawing = _drawing(models.get_model(project.workspace, project.intent.base_model).family)
    return int(drawing["steps"]), float(drawing["guidance"])


def check_size(checkpoints: int, weights: int, prompts: int, seeds: int) -> None:
    """Raises InputError for a grid of more than MOST_CELLS pictures."""
    count = checkpoints * weights * prompts * seeds
    if count > MOST_CELLS:
        raise InputError(
            f"This grid would have {count:,} pictures.",
            f"{checkpoints} checkpoints × {weights} weights × {prompts} prompts × {seeds} seeds. Nobody looks at more than "
            f"{MOST_CELLS:,}, and a contact sheet of them shows nothing any more.",
            "Leave out checkpoints, weights, prompts or seeds. Several grids share what they have in common.",
        )


def parse_weights(text: str) -> tuple[float, ...]:
    """Weights as people write them: "0.45, 1.3", separated by commas or blanks. Raises InputError that names every word
    that is none."""
    found, bad = [], []
    for word in text.replace(";", " ").replace(",", " ").split():
        try:
            value = float(word)
        except ValueError:
            value = math.nan
        if math.isfinite(value) and LEAST_WEIGHT <= value <= MOST_WEIGHT:
            found.append(round(value, 3))
        else:
            bad.append(word[:30])
    if bad:
        raise InputError(
            f"{_named(bad)} {'is no weight' if len(bad) == 1 else 'are no weights'}.",
            f"Weights are numbers from {LEAST_WEIGHT:g} to {MOST_WEIGHT:g}.",
            "Write them with a point, separated by commas: 0.45, 1.3.",
        )
    return tuple(dict.fromkeys(found))


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as people write them: "1, 2, 42" or "1-4". Raises InputError that names every word that is none, and for more
    than MOST_SEEDS."""
    found: list[int] = []
    bad = []
    for word in text.replace(";", " ").replace(",", " ").split():
        low, dash, high = word.partition("-")
        if not all(part.isascii() and part.isdigit() for part in ((low, high) if dash else (low,))):
            bad.append(word[:30])
            continue
        first, last = int(low), int(high or low)
        if last < first or last >= 2**32:
            bad.append(word[:30])
            continue
        found += range(first, min(last, first + MOST_SEEDS) + 1)
    if bad:
        raise InputError(
            f"{_named(bad)} {'is no seed' if len(bad) == 1 else 'are no seeds'}.",
            f"Seeds are whole numbers from 0 to {2**32 - 1:,}.",
            "Write them separated by commas, or as a range: 1, 2, 42 or 1-4.",
        )
    seeds = tuple(dict.fromkeys(found))
    if len(seeds) > MOST_SEEDS:
        raise InputError(
            "These are too many seeds.", f"A grid takes at most {MOST_SEEDS}.", "Two to four say enough."
        )
    return seeds


def _named(words: Sequence[str]) -> str:
    shown = ", ".join(f"'{w}'" for w in words[:5])
    return f"{shown} and {len(words) - 5} more" if len(words) > 5 else shown


def with_weight(spec: GridSpec, weight: float) -> GridSpec:
    """The same grid with one more weight, as a new grid: what was drawn before is not drawn again. Raises ValueError for a
    weight outside of -2 to 4."""
    told = spec.model_dump() | {"id": files.new_id("grid"), "created": files.now()}
    return GridSpec.model_validate(told | {"weights": (*spec.weights, weight)})


def grid_cost(project: Project, spec: GridSpec) -> GridCost:
    """Cells, how many are drawn already, and the time the rest will take."""
    store = CellStore(project)
    hashes = {c.hash for c in plan_cells(spec)}
    there = sum(store.has(h) for h in hashes)
    per_step, basis = seconds_per_step(project.workspace, spec)
    left = len(hashes) - there
    seconds = 0.0 if not left else None if per_step is None else left * spec.steps * per_step + 8.0
    return GridCost(len(hashes), there, left, seconds, basis)


def _speed_key(spec: GridSpec) -> str:
    return f"{spec.renderer} {spec.family} {spec.width}x{spec.height}"


def seconds_per_step(workspace: Workspace, spec: GridSpec) -> tuple[float | None, str]:
    """Seconds for one step of one cell, and where the number comes from."""
    try:
        known = files.read_json(workspace.root / "render_speed.json") or {}
    except InputError:
        known = {}
    measured = known.get(_speed_key(spec)) if isinstance(known, dict) else None
    if isinstance(measured, int | float) and measured > 0:
        return float(measured), "measured on this computer"
    if spec.family in _SECONDS_PER_STEP and spec.renderer == "diffusers":
        scale = spec.width * spec.height / (64 * 64)
        return _SECONDS_PER_STEP[spec.family] * scale, "measured on two processor cores"
    return None, "not measured yet on this computer"


def remember_speed(workspace: Workspace, spec: GridSpec, value: float) -> None:
    """Store the measured seconds of one step of one cell, for later forecasts."""
    path = workspace.root / "render_speed.json"
    try:
        known = files.read_json(path) or {}
    except InputError:
        known = {}
    files.write_json(path, {**(known if isinstance(known, dict) else {}), _speed_key(spec): round(value, 5)})
