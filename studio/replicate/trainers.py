"""What Replicate's trainers take and cost, from data/replicate.yaml: the one source of names, ranges and prices."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from studio import files
from studio.errors import NotFoundError
from studio.workspace import shipped

Kind = Literal["int", "float", "choice", "sizes", "bool", "text"]


class Parameter(BaseModel):
    """One input of a trainer. limits: refused outside; usual: warned outside; choices: the only values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    kind: Kind
    help: str
    limits: tuple[float, float] | None = None
    usual: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()

    @property
    def range_words(self) -> str:
        """Limits in words, such as "3 to 6000, usually 1000 to 2000"."""
        if self.choices:
            return " or ".join(self.choices)
        parts = [f"{self.limits[0]:g} to {self.limits[1]:g}"] if self.limits else []
        parts += [f"usually {self.usual[0]:g} to {self.usual[1]:g}"] if self.usual else []
        return ", ".join(parts)


class Trainer(BaseModel):
    """A trainer on Replicate.

    model:   owner/name; version: 64 hex digits, empty for the newest.
    family:  of base model (see studio.models); hardware: key of the price list.
    own_defaults: what the trainer takes for what is left out, and the names it knows.
    defaults: what the studio starts from.
    seconds_per_step: of one step at batch 1, low and high; seconds_to_start: before the first step.
    captions_itself: whether it can write captions.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    family: str
    model: str
    version: str
    hardware: str
    captions_itself: bool
    seconds_per_step: tuple[float, float]
    seconds_to_start: tuple[float, float]
    own_defaults: dict[str, Any]
    defaults: dict[str, Any]

    @property
    def names(self) -> tuple[str, ...]:
        """Inputs it knows, besides the dataset and the secrets."""
        return tuple(self.own_defaults)


class Preset(BaseModel):
    """A named set of values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    summary: str
    values: dict[str, Any]


class Catalogue(BaseModel):
    """data/replicate.yaml. Prices in dollars a second; sizes in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    api: str
    prices_read: str
    prices_from: str
    prices: dict[str, float]
    upload_limit_bytes: int
    warn_dataset_bytes: int
    parameters: dict[str, Parameter]
    trainers: tuple[Trainer, ...]
    presets: dict[str, Preset]

    def trainer(self, trainer_id: str) -> Trainer:
        """The trainer of an id. Raises NotFoundError."""
        for t in self.trainers:
            if trainer_id in (t.id, t.model):
                return t
        raise NotFoundError(
            f"There is no trainer called '{trainer_id}'.",
            "The studio knows two trainers on Replicate.",
            f"Use one of: {', '.join(t.id for t in self.trainers)}.",
        )

    def for_family(self, family: str) -> Trainer | None:
        """The trainer of a family of base models; None when there is none."""
        return next((t for t in self.trainers if t.family == family), None)

    def price(self, trainer: Trainer) -> float:
        """Dollars a second."""
        return self.prices[trainer.hardware]


@lru_cache(maxsize=1)
def catalogue() -> Catalogue:
    """What is known of Replicate."""
    return Catalogue.model_validate(files.read_yaml(shipped("data", "replicate.yaml")))
