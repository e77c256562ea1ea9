"""LoRA files from elsewhere: looked at, and put into the library with what their user knows of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studio import files, models
from studio.errors import InputError, NotFoundError, StudioError
from studio.findings import Finding
from studio.library.entry import LibraryEntry
from studio.library.folder import OnClash, free_slug, place
from studio.library.page import write_page
from studio.lora.info import LoraInfo, describe
from studio.models import BaseModelEntry
from studio.project import KINDS, Kind
from studio.workspace import Workspace

FAMILY_WORDS: dict[str, str] = {
    "pocket": "the built-in model",
    "sd15": "Stable Diffusion 1.5",
    "sd2": "Stable Diffusion 2",
    "sdxl": "SDXL",
    "sd3": "Stable Diffusion 3",
    "sd35": "Stable Diffusion 3.5",
    "flux": "FLUX.1",
    "": "a model that the file does not tell",
}
MAX_PREVIEW_SIDE = 1600
"""Pixels of the longer side that a preview keeps."""


@dataclass(frozen=True)
class Proposal:
    """What the file itself says, as a first answer to each question. models: those that it can be for, the likeliest first."""

    info: LoraInfo
    title: str
    trigger: str
    models: tuple[BaseModelEntry, ...]


def propose(workspace: Workspace, file: Path) -> Proposal:
    """Look at a file and propose how to register it. Raises InputError when it is no LoRA, NotFoundError when it is not there."""
    info = _looked_at(file)
    known = [
        m for m in models.list_models(workspace) if not info.family or same_family(m.family, info.family)
    ]
    known.sort(key=lambda m: (m.format == "cloud", bool(m.missing(workspace))))
    title = (
        info.metadata.get("modelspec.title", "").strip() or info.metadata.get("ss_output_name", "").strip()
    )
    return Proposal(info, (title or file.stem).replace("_", " ")[:80], info.trigger, tuple(known))


def same_family(one: str, other: str) -> bool:
    """Whether both mean the same architecture; files of SD3.5 call themselves SD3."""
    alike = {"sd35": "sd3"}
    return alike.get(one, one) == alike.get(other, other)


def bring_in(
    workspace: Workspace,
    file: Path,
    *,
    kind: Kind,
    weight: float,
    title: str = "",
    trigger: str = "",
    base_model: str = "",
    good_for: str = "",
    notes: str = "",
    preview: Path | None = None,
    on_clash: OnClash = "ask",
    leave_out: Iterable[str] = (),
) -> LibraryEntry:
    """Copy a LoRA file from elsewhere into the library; the file itself is only read.

    weight: -1 to 2, not 0. base_model: id of the model that it is for; "" for the likeliest one. preview: a picture to show.
    Raises InputError with everything that is wrong, NotFoundError when the file or the base model are not there.
    """
    info = _looked_at(file)
    problems: list[Finding] = []

    def problem(where: str, what: str, fix: str) -> None:
        problems.append(Finding(severity="block", code=f"lora-{where}", what=what, fix=fix, where=(where,)))

    if not -1 <= weight <= 2 or weight == 0:
        problem(
            "weight", f"{weight:g} cannot be recommended as a weight.", "Use a weight between 0.1 and 1.5."
        )
    if kind not in KINDS:
        problem("kind", f"'{kind}' is no kind of LoRA.", f"Use one of: {', '.join(KINDS)}.")
    if base_model:
        model: BaseModelEntry | None = models.get_model(workspace, base_model)
    else:
        model = next(iter(propose(workspace, file).models if info.family else ()), None)
    if model is not None and info.family and not same_family(model.family, info.family):
        problem("base_model", f"The file is for {FAMILY_WORDS.get(info.family, info.family)}, and {model.title} is of another family.",
                "Choose a base model of its own family.")  # fmt: skip
    picture = _preview_of(preview, problem) if preview is not None else None
    if len(problems) == 1:
        raise InputError(f"{file.name} cannot be brought in.", problems[0].what, problems[0].fix)
    if problems:
        raise InputError(f"{file.name} cannot be brought in.", "There is more than one reason.", "Mend these first.", problems)  # fmt: skip
    title = " ".join((title or propose(workspace, file).title).split())[:80] or file.stem[:80]
    slug = free_slug(workspace, files.slug(title), on_clash)
    entry = LibraryEntry(
        slug=slug,
        name=slug,
        title=title if slug == files.slug(title) else f"{title} {slug.rpartition('-')[2]}",
        kind=kind,
        trigger=" ".join(trigger.split())[:200],
        weight=round(weight, 3),
        base_model=model.id if model else "",
        base_title=model.title if model else FAMILY_WORDS.get(info.family, info.family),
        family=model.family if model else info.family,
        good_for=" ".join(good_for.split()),
        notes=notes.strip(),
        trained=info.date or datetime.fromtimestamp(file.stat().st_mtime, UTC).isoformat(timespec="seconds"),
        registered=files.now(),
        params=_params(info),
        brought_from=file.name,
    )
    entry = place(workspace, entry, file, leave_out, picture, on_clash=on_clash)
    write_page(workspace)
    return entry


def keep_upload(workspace: Workspace, name: str, content: bytes) -> Path:
    """Store an uploaded file in `<workspace>/loras` under a free name, after its header was checked.

    Raises InputError when it is no whole LoRA; nothing is kept then.
    """
    stem, suffix = Path(name).stem, Path(name).suffix.lower()
    folder = workspace.root / "loras"
    if suffix != ".safetensors":
        raise InputError(f"{name} is not a .safetensors file.", "Other formats can run code when they are loaded, so the studio never opens them.",
                         "Choose the .safetensors version of it.")  # fmt: skip
    stem, n = (files.slug(stem) or "lora")[:100], 1
    while (target := folder / f"{stem}{'' if n == 1 else f'-{n}'}.safetensors").exists():
        if target.stat().st_size == len(content) and target.read_bytes() == content:
            return target
        n += 1
    files.write_bytes(target, content)
    try:
        describe(target)
    except StudioError:
        target.unlink()
        raise
    return target


def _looked_at(file: Path) -> LoraInfo:
    if not file.is_file():
        raise NotFoundError(f"There is no file at {file}.", "It was moved, or its name is spelled differently.",
                            "Give the full path of a .safetensors file.")  # fmt: skip
    return describe(file)


def _params(info: LoraInfo) -> dict[str, Any]:
    told = {"epochs": "Epochs", "steps": "Steps", "learning_rate": "Learning rate", "optimizer": "Optimizer"}
    found: dict[str, Any] = {k: info.trained[label] for k, label in told.items() if label in info.trained}
    if info.ranks:
        found["rank"] = max(info.ranks)
    if info.alphas:
        found["alpha"] = max(info.alphas)
    return found


def _preview_of(picture: Path, problem: Callable[[str, str, str], None]) -> Callable[[Path], None] | None:
    """What writes the picture as a PNG without its metadata; None after saying why it cannot be used."""
    from PIL import Image, ImageOps

    try:
        with Image.open(picture) as opened:
            shown = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        problem(
            "preview", f"{picture.name} cannot be opened as a picture.", "Choose a PNG, JPEG or WebP file."
        )
        return None
    shown.thumbnail((MAX_PREVIEW_SIDE, MAX_PREVIEW_SIDE))

    def write(target: Path) -> None:
        with files.atomic_file(target) as out:
            shown.save(out, "PNG")

    return write
