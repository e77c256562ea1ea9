"""Base models: the shipped manifest (`data/models.yaml`), the user's own entries, and where their files lie."""

from __future__ import annotations

import hashlib
import json
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from studio import files
from studio.errors import InputError, NotFoundError
from studio.workspace import Workspace, shipped

Family = Literal["pocket", "sd15", "sdxl", "sd35", "flux"]


class BaseModelEntry(BaseModel):
    """One base model.

    id:           short name used in projects and on the command line.
    family:       which geometry it has; a backend trains families.
    format:       `diffusers` (a folder), `checkpoint` (one .safetensors file), or `cloud` (it only lies where it is rented).
    path:         where the user keeps it; None for one that is shipped or expected in the workspace.
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
    resolution: int
    bucket_step: int = 64
    prediction: Literal["epsilon", "v_prediction", "flow"] = "epsilon"
    caption_style: Literal["tags", "sentences"] = "sentences"
    size_bytes: int = 0
    embedded: bool = False
    summary: str = ""

    def location(self, workspace: Workspace) -> Path | None:
        """Where its files are on this computer; None when they are not here. For one in the cloud the description of its
        trainer stands for them: nothing of it is ever needed here."""
        if self.format == "cloud":
            return shipped("data", "replicate.yaml")
        if self.embedded:
            place = shipped("data", self.id)
        elif self.path is not None:
            place = self.path
        else:
            place = workspace.models_dir / self.source.rsplit(", ", 1)[-1]
        there = (place / "model_index.json").is_file() if self.format == "diffusers" else place.is_file()
        return place if there else None


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
    workspace: Workspace, path: Path, title: str = "", caption_style: str = ""
) -> BaseModelEntry:
    """Add a base model that the user has: a diffusers folder or a .safetensors checkpoint. The file stays where it is.

    Its family is read from its own headers, never guessed from the name. Raises InputError when it is not a base
    model that the studio can train.
    """
    path = path.expanduser().resolve()
    if not path.exists():
        raise InputError(
            f"There is nothing at {path}.",
            "The path may be misspelt, or the disk not connected.",
            "Give the full path of a .safetensors file or of a diffusers folder.",
        )
    family, prediction = _identify(path)
    base = next(m for m in _shipped_entries() if m.family == family)
    taken = {m.id for m in list_models(workspace)}
    model_id = stem = files.slug(title or path.stem)
    n = 2
    while model_id in taken:
        model_id, n = f"{stem}-{n}", n + 1
    entry = base.model_copy(
        update={
            "id": model_id,
            "title": title or path.stem,
            "format": "diffusers" if path.is_dir() else "checkpoint",
            "path": path,
            "licence": "unknown: see where you got it",
            "source": "",
            "sha256": "",
            "embedded": False,
            "prediction": prediction,
            "size_bytes": files.folder_size(path) if path.is_dir() else path.stat().st_size,
            "summary": "Added by you.",
            "caption_style": caption_style or base.caption_style,
        }
    )
    entry = BaseModelEntry.model_validate(entry.model_dump())
    listed = workspace.models_dir / "models.yaml"
    files.write_yaml(listed, {"models": [m.model_dump(mode="json") for m in [*_entries(listed), entry]]})
    return entry


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


def tensor_header(path: Path) -> dict[str, Any]:
    """The JSON header of a .safetensors file: tensor names, shapes, types. Reads the header only; loads no tensor.

    Raises InputError for a file that is not whole or is no safetensors file. Layout: 8 bytes little-endian length,
    then that many bytes of JSON, then the tensors (the safetensors format, huggingface/safetensors).
    """
    advice = "Download the file again, or choose the .safetensors version of it."
    try:
        size = path.stat().st_size
        with path.open("rb") as f:
            head = f.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if head[:2] in (b"PK", b"\x80\x02", b"\x80\x04"):
                raise InputError(
                    f"{path.name} is a pickle file (.ckpt / .pt), not safetensors.",
                    "Such files can run any program when they are loaded, so the studio never opens them.",
                    advice,
                )
            if not 2 <= length <= min(size - 8, 100_000_000):
                raise InputError(
                    f"{path.name} is not a safetensors file, or only a part of one.",
                    "Its first bytes do not say how long its header is.",
                    advice,
                )
            header = json.loads(f.read(length))
    except OSError as e:
        raise InputError(
            f"{path.name} cannot be read.",
            str(e.strerror or e),
            "Check that the file exists and that you may read it.",
        ) from e
    except ValueError as e:
        raise InputError(
            f"{path.name} has a damaged header.", "Its table of contents is not readable.", advice
        ) from e
    ends = [int(v["data_offsets"][1]) for k, v in header.items() if k != "__metadata__"]
    if 8 + length + max(ends, default=0) != size:
        raise InputError(
            f"{path.name} is not whole.",
            f"It should have {8 + length + max(ends, default=0):,} bytes and has {size:,}.",
            advice,
        )
    return dict(header)


def _identify(path: Path) -> tuple[Family, str]:
    """Family and prediction type of a diffusers folder or a checkpoint, from what it says of itself."""
    if path.is_dir():
        index = files.read_json(path / "model_index.json")
        if not isinstance(index, dict):
            raise InputError(
                f"{path.name} is not a base model.",
                "The folder holds no model_index.json, so it is no diffusers model.",
                "Choose the folder that holds model_index.json, unet and text_encoder; or a .safetensors file.",
            )
        unet = files.read_json(path / "unet" / "config.json") or {}
        scheduler = files.read_json(path / "scheduler" / "scheduler_config.json") or {}
        prediction = str(scheduler.get("prediction_type", "epsilon"))
        families: dict[int, Family] = {768: "sd15", 2048: "sdxl"}
        width = unet.get("cross_attention_dim")
        if width not in families:
            raise InputError(
                f"{path.name} is of a kind that cannot be trained here.",
                f"Its text width is {width}; SD1.5 has 768, SDXL 2048.",
                "Choose an SD1.5 or SDXL model.",
            )
        return families[width], prediction
    header = tensor_header(path)
    names = header.keys()
    if any("lora_" in n for n in names):
        raise InputError(
            f"{path.name} is a LoRA, not a base model.",
            "It holds only small changes to a base model.",
            "Choose the base model that it was made for.",
        )
    if any(n.startswith("conditioner.embedders.1") for n in names):
        return "sdxl", "v_prediction" if "v_pred" in names else "epsilon"
    if any(n.startswith("cond_stage_model.transformer") for n in names):
        return "sd15", "epsilon"
    raise InputError(
        f"{path.name} is of a kind that cannot be trained here.",
        "Its tensors are named neither like SD1.5 nor like SDXL.",
        "Choose an SD1.5 or SDXL checkpoint.",
    )


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
