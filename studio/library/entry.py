"""What the library knows of a registered LoRA, and finding the entries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from studio import files
from studio.errors import InputError, NotFoundError
from studio.project import Kind
from studio.workspace import Workspace


class EarlierWeight(BaseModel):
    """A weight that was recommended before, with its range. until: when another took its place, ISO 8601 UTC."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    weight: float
    weight_low: float | None = None
    weight_high: float | None = None
    until: str = ""

    @property
    def words(self) -> str:
        """The weight and its range: "0.6 (0.5 to 0.7)"."""
        return weight_words(self.weight, self.weight_low, self.weight_high)


def weight_words(weight: float, low: float | None, high: float | None) -> str:
    """A weight and the range that works, where it is known and is one: "0.6 (0.5 to 0.7)"."""
    return (
        f"{weight:g}" if low is None or high is None or low == high else f"{weight:g} ({low:g} to {high:g})"
    )


class LibraryEntry(BaseModel):
    """A registered LoRA: `library/<slug>/entry.json`.

    slug:        its folder, unique in the library.
    name:        stem of its files.
    trigger:     the word that calls it up.
    weight:      recommended weight; weight_low and weight_high: the range that works.
    weights_before: what was recommended before it was changed in the library, the last one last.
    base_model:  id and title of the model it was trained on; family decides where it fits.
    good_for:    what it does well, in the user's words.
    trained:     when training ended, params: how it was trained, in words and numbers.
    project, run, grid, checkpoint: where it comes from.
    verdict:     the grid's verdict in one sentence when it was registered.
    brought_from: name of the file that it was brought in from; "" when it was trained here.
    left_out:    what the file's metadata does not tell (`studio.lora.privacy.GROUPS`).
    sha256:      of the file in the library.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    slug: str
    name: str
    title: str
    kind: Kind
    trigger: str
    weight: float
    weight_low: float | None = None
    weight_high: float | None = None
    weights_before: tuple[EarlierWeight, ...] = ()
    base_model: str
    base_title: str
    family: str
    good_for: str = ""
    notes: str = ""
    trained: str = ""
    registered: str
    params: dict[str, Any] = {}
    project: str = ""
    run: str | None = None
    grid: str | None = None
    checkpoint: str = ""
    verdict: str = ""
    brought_from: str = ""
    left_out: tuple[str, ...] = ()
    sha256: str = ""
    size_bytes: int = 0

    def folder(self, workspace: Workspace) -> Path:
        """Its folder in the library."""
        return workspace.library_dir / self.slug

    def file(self, workspace: Workspace) -> Path:
        """The LoRA itself."""
        return self.folder(workspace) / f"{self.name}.safetensors"

    def preview(self, workspace: Workspace) -> Path | None:
        """Its preview picture, named as A1111 and Forge look for it; None when there is none."""
        path = self.folder(workspace) / f"{self.name}.preview.png"
        return path if path.is_file() else None

    @property
    def only_here(self) -> bool:
        """Whether only LoRA Studio can draw with it: other programs do not know the built-in base model."""
        return self.family == "pocket"

    @property
    def training_words(self) -> str:
        """How it was trained, in one line: preset, epochs, rank."""
        parts = []
        if self.params.get("preset"):
            parts.append(str(self.params["preset"]))
        if self.params.get("epochs"):
            parts.append(f"{self.params['epochs']} epochs")
        if self.params.get("rank"):
            parts.append(f"rank {self.params['rank']}")
        return ", ".join(parts) or "unknown"

    @property
    def weight_words(self) -> str:
        """The recommended weight and its range: "0.6 (0.5 to 0.7)"."""
        return weight_words(self.weight, self.weight_low, self.weight_high)


def list_library(workspace: Workspace) -> list[LibraryEntry]:
    """All registered LoRAs, newest first. Entries damaged by hand are left out here; `get_entry` says what is wrong."""
    found = []
    for path in workspace.library_dir.glob("*/entry.json"):
        try:
            found.append(_read(path))
        except InputError:
            continue
    return sorted(found, key=lambda e: (e.registered, e.slug), reverse=True)


def get_entry(workspace: Workspace, slug: str) -> LibraryEntry:
    """One registered LoRA by its slug or name. Raises NotFoundError naming those that exist, or InputError."""
    path = workspace.library_dir / files.slug(slug) / "entry.json"
    if path.is_file():
        return _read(path)
    known = list_library(workspace)
    for entry in known:
        if slug in (entry.name, entry.title):
            return entry
    raise NotFoundError(
        f"The library holds no LoRA called '{slug}'.",
        "It was not registered, or it was removed.",
        f"Use one of: {', '.join(e.slug for e in known) or 'none yet; register one after a grid'}.",
    )


def _read(path: Path) -> LibraryEntry:
    try:
        return LibraryEntry.model_validate(files.read_json(path))
    except ValidationError as e:
        first = e.errors()[0]
        raise InputError(
            f"The library entry '{path.parent.name}' cannot be read.",
            f"{'.'.join(map(str, first['loc'])) or 'It'}: {first['msg']}.",
            f"Mend {path} by hand, or register the LoRA again.",
        ) from e
