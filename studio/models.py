"""Base models: the shipped manifest (`data/models.yaml`), the user's own entries, and where their files lie."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files
from studio.errors import InputError, NotFoundError
from studio.findings import Finding
from studio.modelfiles import checking
from studio.modelfiles.header import tensor_header
from studio.modelfiles.kinds import PART_WORDS
from studio.workspace import Workspace, shipped

__all__ = [
    "BaseModelEntry",
    "Family",
    "ModelFile",
    "add_local_model",
    "file_findings",
    "forget_local_model",
    "get_model",
    "list_models",
    "model_fingerprint",
    "tensor_header",
]

Family = Literal["pocket", "sd15", "sdxl", "sd35", "flux"]
Part = Literal["model", "clip_l", "clip_g", "t5xxl", "ae", "t5_tokenizer"]
# Under these names parts are looked for, in the workspace's folder of models and beside the model's own file.
_PART_NAMES: dict[str, tuple[str, ...]] = {
    "clip_l": ("clip_l.safetensors",),
    "clip_g": ("clip_g.safetensors",),
    "t5xxl": ("t5xxl_fp16.safetensors", "t5xxl.safetensors", "t5xxl_fp8_e4m3fn.safetensors"),
    "ae": ("ae.safetensors", "flux_ae.safetensors"),
}


class ModelFile(BaseModel):
    """One file of a base model as it can be downloaded.

    part:     `model` for the model itself, else which part of it; `t5_tokenizer` is T5's word table.
    folder:   below the workspace's folder of models, where it is kept; for files that tools look for by a common name.
    repo, revision, path: where it lies on the hub.
    bytes, sha256: what has to arrive. gated: the hub asks to sign in and to accept the licence first.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    part: Part = "model"
    repo: str
    path: str
    revision: str = "main"
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    gated: bool = False
    folder: str = Field(default="", pattern="^[a-z0-9-]*$")

    @property
    def name(self) -> str:
        """Name of the file in the workspace's folder of models, with the folder below it where it has one."""
        own = self.path.rpartition("/")[2]
        return f"{self.folder}/{own}" if self.folder else own


UPLOADED = "Your pictures are uploaded to Replicate."
"""What has to be said wherever a rented base model (format `cloud`) can be chosen."""


class BaseModelEntry(BaseModel):
    """One base model.

    id:           short name used in projects and on the command line.
    family:       which geometry it has; a backend trains families.
    format:       `diffusers` (a folder), `checkpoint` (one .safetensors file), or `cloud` (it only lies where it is rented).
    path:         where the user keeps it; None for one that is shipped or expected in the workspace.
    files:        what is downloaded for it, the model itself first; none when it cannot be downloaded here.
    parts:        where the user keeps its text encoders and autoencoder, by part.
    complete:     its file holds its text encoders, so no other file is needed.
    resolution:   pixels of a side it was trained at; bucket_step: pixels that bucket sides are multiples of.
    prediction:   what it predicts; decides the loss.
    caption_style: how captions for it are written.
    size_bytes:   about how large its files are.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    family: Family
    format: Literal["diffusers", "checkpoint", "cloud"]
    licence: str = "unknown: see where you got it"
    source: str = ""
    sha256: str = ""
    path: Path | None = None
    files: tuple[ModelFile, ...] = ()
    parts: Mapping[str, Path] = {}
    complete: bool = False
    resolution: int
    bucket_step: int = 64
    prediction: Literal["epsilon", "v_prediction", "flow"] = "epsilon"
    caption_style: Literal["tags", "sentences"] = "sentences"
    size_bytes: int = 0
    embedded: bool = False
    summary: str = ""

    @property
    def needs(self) -> tuple[str, ...]:
        """The parts that have to lie beside the model's own file, such as `clip_l`."""
        return (
            checking.PARTS.get(self.family, ()) if self.format == "checkpoint" and not self.complete else ()
        )

    @property
    def download_bytes(self) -> int:
        """Bytes of everything that is downloaded for it; 0 when it cannot be downloaded here."""
        return sum(f.bytes for f in self.files)

    @property
    def gated(self) -> bool:
        """Whether the hub asks to sign in and to accept a licence before one of its files may be downloaded."""
        return any(f.gated for f in self.files)

    def main_place(self, workspace: Workspace) -> Path:
        """Where the model's own file or folder is, or would be looked for."""
        if self.embedded:
            return shipped("data", self.id)
        if self.path is not None:
            return self.path
        name = self.files[0].name if self.files else self.source.rsplit(", ", 1)[-1]
        return workspace.models_dir / name

    def part_paths(self, workspace: Workspace) -> dict[str, Path]:
        """The parts that are on this computer, by name (`clip_l`, `clip_g`, `t5xxl`, `ae`); only those that it needs."""
        found = {}
        beside = [self.path.parent] if self.path is not None else []
        for part in self.needs:
            names = [f.name for f in self.files if f.part == part] or list(_PART_NAMES[part])
            places = [self.parts[part]] if part in self.parts else []
            places += [folder / n for folder in (*beside, workspace.models_dir) for n in names]
            for place in places:
                if place.is_file():
                    found[part] = place
                    break
        return found

    def missing(self, workspace: Workspace) -> tuple[str, ...]:
        """What of it is not on this computer: `model` and the parts that it needs."""
        place = self.main_place(workspace)
        there = (place / "model_index.json").is_file() if self.format == "diffusers" else place.is_file()
        lacking = () if there else ("model",)
        needs = self.needs
        if not needs:
            return lacking
        here = self.part_paths(workspace)
        return (*lacking, *(p for p in needs if p not in here))

    def location(self, workspace: Workspace) -> Path | None:
        """Where its own file or folder is; None when that or a part that it needs is not on this computer.

        For one in the cloud the description of its trainer stands for them: nothing of it is ever needed here.
        """
        if self.format == "cloud":
            return shipped("data", "replicate.yaml")
        return None if self.missing(workspace) else self.main_place(workspace)


def _entries(path: Path) -> list[BaseModelEntry]:
    raw = files.read_yaml(path) or {}
    try:
        return [BaseModelEntry.model_validate(m) for m in raw.get("models", [])]
    except (ValidationError, AttributeError) as e:
        detail = e.errors()[0]["msg"] if isinstance(e, ValidationError) else "it is not a list of models"
        raise InputError(
            f"{path.name} cannot be used.",
            f"{detail} ({path})",
            "Mend that line, or remove the file and add the model again.",
        ) from e


@lru_cache(maxsize=1)
def _shipped_entries() -> tuple[BaseModelEntry, ...]:
    return tuple(_entries(shipped("data", "models.yaml")))


def list_models(workspace: Workspace) -> list[BaseModelEntry]:
    """All base models, the user's own first after the built-in one; an own entry replaces a shipped one of its id."""
    own = _entries(workspace.models_dir / "models.yaml")
    own_ids = {m.id for m in own}
    known = [m for m in _shipped_entries() if m.id not in own_ids]
    return [m for m in known if m.embedded] + own + [m for m in known if not m.embedded]


def get_model(workspace: Workspace, model_id: str) -> BaseModelEntry:
    """The entry of an id. Raises NotFoundError naming those that exist."""
    models = list_models(workspace)
    for m in models:
        if m.id == model_id:
            return m
    raise NotFoundError(
        f"There is no base model called '{model_id}'.",
        "It is neither built in nor added on this computer.",
        f"Use one of: {', '.join(m.id for m in models)}; or add a file of yours on the Set-up page.",
    )


def add_local_model(
    workspace: Workspace,
    path: Path,
    title: str = "",
    caption_style: str = "",
    *,
    prediction: str = "",
    parts: Mapping[str, Path] | None = None,
) -> BaseModelEntry:
    """Add a base model that the user has: a diffusers folder or a .safetensors checkpoint. The files stay where they are.

    Its family is read from its own headers, never guessed from the name.
    prediction: `epsilon` or `v_prediction` when the file does not say it itself.
    parts: text encoders and autoencoder of SD3.5 and FLUX; those not named are looked for beside the file and in the
    workspace. Raises InputError, with every problem at once, when it is not a base model that the studio can train.
    """
    if path.parts and path.parts[0].lower() in ("http:", "https:"):
        raise InputError(
            "That is an address, not a file on this computer.",
            "A base model of your own is trained from where it lies.",
            "Download it, then give the path of the file. Models of the list are downloaded by their own button.",
        )
    path = path.expanduser().resolve()
    if not path.exists():
        raise InputError(
            f"There is nothing at {path}.",
            "The path may be misspelt, or the disk not connected.",
            "Give the full path of a .safetensors file or of a diffusers folder.",
        )
    found = checking.base_model(path)
    family = checking.TRAINABLE[found.family]
    told = found.prediction if found.sure or not prediction or found.prediction == "flow" else prediction
    if prediction and prediction != told:
        raise InputError(
            f"{path.name} says itself that it is trained with {told}.",
            "Trained the other way, its LoRAs turn pictures to noise.",
            "Leave the prediction out.",
        )
    own = {k: p.expanduser().resolve() for k, p in (parts or {}).items()}
    _check_parts(family, path.name, own)
    base = next(m for m in _shipped_entries() if m.family == family)
    taken = {m.id for m in list_models(workspace)}
    model_id = stem = files.slug(title or path.stem)
    n = 2
    while model_id in taken:
        model_id, n = f"{stem}-{n}", n + 1
    entry = BaseModelEntry(
        id=model_id,
        title=title or path.stem,
        family=base.family,
        format="diffusers" if path.is_dir() else "checkpoint",
        path=path,
        parts=own,
        complete=family == "sd35" and found.has_text,
        resolution=base.resolution,
        bucket_step=base.bucket_step,
        prediction=told,  # type: ignore[arg-type]  # pydantic checks the word
        size_bytes=files.folder_size(path) if path.is_dir() else path.stat().st_size,
        summary="Added by you.",
        caption_style=caption_style or base.caption_style,  # type: ignore[arg-type]
    )
    listed = workspace.models_dir / "models.yaml"
    files.write_yaml(listed, {"models": [m.model_dump(mode="json") for m in [*_entries(listed), entry]]})
    return entry


def _check_parts(family: str, name: str, parts: Mapping[str, Path]) -> None:
    """Every problem of the parts that the user named, at once."""
    wanted = checking.PARTS.get(family, ())
    found = []
    for part, place in parts.items():
        if part not in wanted:
            found.append(
                Finding(
                    severity="block",
                    code="part-unneeded",
                    what=f"{name} takes no {part}.",
                    why="A model of its family needs no such file beside it.",
                    fix="Leave it out.",
                )
            )
        else:
            found += checking.part_mismatch(place, part, name)
    if found:
        raise InputError(found[0].what, found[0].why, found[0].fix, found if len(found) > 1 else None)


def file_findings(workspace: Workspace, entry: BaseModelEntry) -> list[Finding]:
    """What is wrong with a base model's files on this computer: missing, not whole, of another family, a wrong part.

    Reads headers only, each once as long as its file stays the same. [] when it can be trained with; for one in the cloud
    and for the built-in one there is nothing to look at.
    """
    if entry.format == "cloud" or entry.embedded:
        return []
    missing = entry.missing(workspace)
    found = [_absent(workspace, entry, missing)] if missing else []
    if "model" not in missing:
        found += checking.mismatch(entry.main_place(workspace), entry.family, entry.prediction, entry.title)
    for part, place in entry.part_paths(workspace).items():
        found += checking.part_mismatch(place, part, entry.title)
    return found


def _absent(workspace: Workspace, entry: BaseModelEntry, missing: tuple[str, ...]) -> Finding:
    parts = [PART_WORDS[p] for p in missing if p != "model"]
    if "model" in missing:
        what = f"The base model {entry.title} is not on this computer."
        why = f"It was looked for at {entry.main_place(workspace)}."
    else:
        what = f"{entry.title} lacks {', '.join(parts)}."
        why = "Its own file is here, but it is trained together with these."
    fix = "Choose another base model, or add the file again from where it lies now."
    if entry.files:
        fix = f"Download it on the Set-up page, or with: lora-studio models download {entry.id}"
    elif "model" not in missing:
        names = ", ".join(_PART_NAMES[p][0] for p in missing)
        fix = (
            f"Put {names} beside its file or into {workspace.models_dir}, or download a model of its family."
        )
    return Finding(severity="block", code="model-absent", what=what, why=why, fix=fix, where=missing)


def forget_local_model(workspace: Workspace, model_id: str) -> None:
    """Take a model of the user's own off the list; its files are not touched. Raises NotFoundError."""
    listed = workspace.models_dir / "models.yaml"
    own = _entries(listed)
    if model_id not in {m.id for m in own}:
        raise NotFoundError(
            f"'{model_id}' is not a base model that you added.",
            "Shipped entries stay listed.",
            f"Yours are: {', '.join(m.id for m in own) or 'none'}.",
        )
    files.write_yaml(listed, {"models": [m.model_dump(mode="json") for m in own if m.id != model_id]})


def model_fingerprint(place: Path) -> str:
    """A cheap stable mark of a model's files: names, sizes and, for safetensors, their headers. 16 hex digits.

    Reading gigabytes at each gate would cost a minute; a changed model changes a header or a size in practice, and the
    full hash is checked at download.
    """
    digest = hashlib.sha256()
    found = sorted(p for p in place.rglob("*") if p.is_file()) if place.is_dir() else [place]
    for p in found:
        digest.update(f"{p.relative_to(place) if place.is_dir() else p.name}:{p.stat().st_size}\n".encode())
        if p.suffix == ".safetensors":
            with p.open("rb") as f:
                head = f.read(8)
                digest.update(
                    head + f.read(min(struct.unpack("<Q", head)[0], 10_000_000) if len(head) == 8 else 0)
                )
                f.seek(max(0, p.stat().st_size - 65536))
                digest.update(f.read())
    return digest.hexdigest()[:16]
