"""What a grid is made of: LoRA files × weights × prompts × seeds, and the hash that names each cell.

A cell's hash covers everything that decides its picture. Two grids that ask for the same picture share one file, and
a grid that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from studio import files
from studio.errors import InputError
from studio.models import tensor_header
from studio.project import Kind

DEFAULT_WEIGHTS = (0.0, 0.3, 0.5, 0.7, 0.9, 1.0)
"""0 is the base column; the others are the seed's five weights."""

PromptFamily = Literal["standard", "caption", "trigger", "scene", "no_trigger", "own"]
FAMILY_WORDS: dict[str, str] = {
    "standard": "standard prompt",
    "caption": "caption of a training picture",
    "trigger": "trigger word only",
    "scene": "new scene",
    "no_trigger": "without the trigger word",
    "own": "your prompt",
}
Sampler = Literal["model", "ddim", "euler", "dpmpp_2m"]
"""Samplers that add no noise on the way, so that a picture does not depend on what shares its batch. `model` is the
scheduler that comes with the base model."""

_HASH_VERSION = 1


class GridPrompt(BaseModel):
    """One row of the grid.

    id:     short name, unique in the grid.
    text:   what is drawn, the trigger word already filled in.
    family: what the prompt is there to show.
    pair:   for `no_trigger`: id of the prompt that says the same with the trigger word; else empty.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    text: str
    family: PromptFamily = "own"
    pair: str = ""


class GridLora(BaseModel):
    """One LoRA file, usually a checkpoint.

    label:   how people call it, such as "epoch 4" or "final".
    content: hash of its tensors; the metadata in the file does not count.
    final:   whether it is the last checkpoint of its run.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    label: str
    epoch: int | None = None
    step: int | None = None
    final: bool = False
    content: str = ""


class GridSpec(BaseModel):
    """Everything that decides a grid's pictures, frozen in `grid.json` when the grid starts."""

    model_config = ConfigDict(extra="forbid")

    id: str
    project: str
    kind: Kind = "style"
    trigger: str = ""
    run: str | None = None
    created: str = Field(default_factory=files.now)
    base_model: str
    base_path: Path
    base_fingerprint: str
    family: str
    prediction: str = "epsilon"
    lora_files: tuple[GridLora, ...]
    weights: tuple[float, ...] = DEFAULT_WEIGHTS
    prompts: tuple[GridPrompt, ...]
    seeds: tuple[int, ...] = (1,)
    negative: str = ""
    renderer: str = "diffusers"
    sampler: Sampler = "model"
    steps: int = Field(default=20, ge=1, le=200)
    guidance: float = Field(default=4.0, ge=1.0, le=30.0)
    width: int = Field(default=64, ge=16, le=4096)
    height: int = Field(default=64, ge=16, le=4096)
    clip_skip: int = Field(default=1, ge=1, le=4)
    drawn_with: dict[str, str] = Field(default_factory=dict)
    """For renderers on a server: what it calls the base model's files, by part. Empty when they lie here."""

    @field_validator("weights")
    @classmethod
    def _with_base(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        """Sorted, once each, and always with the base column: without it no effect can be seen or measured."""
        wild = [w for w in value if not -2.0 <= w <= 4.0]
        if wild:
            raise ValueError(f"weights must lie between -2 and 4, not {wild[0]:g}")
        rounded = {round(float(w), 3) for w in value}
        if not rounded - {0.0}:
            raise ValueError("a grid needs at least one weight other than 0")
        return tuple(sorted({0.0, *rounded}))

    @field_validator("prompts")
    @classmethod
    def _some(cls, value: tuple[GridPrompt, ...]) -> tuple[GridPrompt, ...]:
        if not value:
            raise ValueError("a grid needs at least one prompt")
        if len({p.id for p in value}) != len(value):
            raise ValueError("two prompts have the same id")
        return value

    @field_validator("lora_files")
    @classmethod
    def _one(cls, value: tuple[GridLora, ...]) -> tuple[GridLora, ...]:
        if not value:
            raise ValueError("a grid needs at least one LoRA file")
        return value

    @field_validator("seeds")
    @classmethod
    def _seeds(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("a grid needs at least one seed")
        return tuple(dict.fromkeys(value))

    def prompt(self, prompt_id: str) -> GridPrompt:
        """The prompt of an id. Raises KeyError."""
        return next(p for p in self.prompts if p.id == prompt_id)


@dataclass(frozen=True)
class Cell:
    """One picture of the grid, and whether it is there.

    checkpoint: label of the LoRA file; at weight 0 all checkpoints share one picture.
    path:       the picture when it has been rendered, else None.
    error:      why it could not be rendered, in words, else None.
    """

    hash: str
    weight: float
    prompt: GridPrompt
    seed: int
    checkpoint: str
    path: Path | None = None
    error: str | None = None


def cell_hash(spec: GridSpec, lora: GridLora, weight: float, prompt: GridPrompt, seed: int) -> str:
    """The name of a cell's picture: 16 hex digits over all that decides it. At weight 0 the LoRA does not count."""
    return files.fingerprint(
        {
            "v": _HASH_VERSION,
            "base": spec.base_fingerprint,
            "prediction": spec.prediction,
            "lora": lora.content if weight else None,
            "weight": round(weight, 3),
            "prompt": prompt.text,
            "negative": spec.negative,
            "seed": seed,
            "renderer": spec.renderer,
            "sampler": spec.sampler,
            "steps": spec.steps,
            "guidance": spec.guidance,
            "size": [spec.width, spec.height],
            "clip_skip": spec.clip_skip,
            # Only where it is said, so that pictures drawn before it could be said keep their names.
            **({"drawn_with": spec.drawn_with} if spec.drawn_with else {}),
        }
    )


def plan_cells(spec: GridSpec) -> list[Cell]:
    """All cells in reading order: checkpoint, seed, prompt, weight. Cells of weight 0 appear once per checkpoint
    with the same hash."""
    return [
        Cell(cell_hash(spec, lora, weight, prompt, seed), weight, prompt, seed, lora.label)
        for lora in spec.lora_files
        for seed in spec.seeds
        for prompt in spec.prompts
        for weight in spec.weights
    ]


def lora_content(path: Path) -> str:
    """Hash of a LoRA's tensors: 16 hex digits over names, shapes, types and bytes; its metadata does not count, so that a
    renamed or relabelled copy draws nothing again. Raises InputError when it is no whole safetensors file."""
    stat = path.stat() if path.is_file() else None
    if stat is None:
        raise InputError(
            f"There is no LoRA file at {path}.",
            "It was moved, or the run has not written it yet.",
            "Choose a checkpoint of a finished run, or give the full path of a .safetensors file.",
        )
    return _lora_content(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _lora_content(path: Path, _size: int, _mtime: int) -> str:
    header = tensor_header(path)
    header.pop("__metadata__", None)
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    with path.open("rb") as f:
        f.seek(struct.unpack("<Q", f.read(8))[0], 1)
        while piece := f.read(1024 * 1024):
            digest.update(piece)
    return digest.hexdigest()[:16]


def read_spec(path: Path) -> GridSpec | None:
    """The frozen spec of a grid's folder; None when there is none. Raises InputError when it was damaged by hand."""
    raw: Any = files.read_json(path)
    return None if raw is None else GridSpec.model_validate(raw)
