"""An entry's folder in the library: built aside and moved in whole.

<workspace>/library/<slug>/
  <name>.safetensors    the LoRA, its own metadata joined by title, trigger word and recommended weight
  <name>.json           what A1111 and Forge read beside a LoRA: activation text, preferred weight
  <name>.preview.png    the picture that A1111, Forge, ComfyUI and the library page show
  entry.json            what the library knows of it
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Literal

from studio import files
from studio.errors import InputError
from studio.library.entry import LibraryEntry
from studio.lora import privacy
from studio.lora.file import metadata_of, rewrite
from studio.workspace import Workspace

OnClash = Literal["ask", "version", "replace"]

# modelspec.architecture of the Stability AI model metadata standard 1.0.0 as sd-scripts writes it, and the "sd version" that
# A1111 and Forge know (names of their enumeration; Forge has no name for SD3).
_ARCHITECTURE = {
    "pocket": ("lora-studio-pocket/lora", "Unknown"),
    "sd15": ("stable-diffusion-v1/lora", "SD1"),
    "sd2": ("stable-diffusion-v2-768-v/lora", "SD2"),
    "sdxl": ("stable-diffusion-xl-v1-base/lora", "SDXL"),
    "sd35": ("stable-diffusion-3-5-large/lora", "Unknown"),
    "flux": ("flux-1-dev/lora", "Flux"),
}


def free_slug(workspace: Workspace, slug: str, on_clash: OnClash) -> str:
    """The folder name to use: `slug`, or `slug-v2` and so on. Raises InputError when it is taken and nobody was asked."""
    if on_clash == "replace" or not (workspace.library_dir / slug).exists():
        return slug
    n = 2
    while (workspace.library_dir / f"{slug}-v{n}").exists():
        n += 1
    if on_clash == "version":
        return f"{slug}-v{n}"
    raise InputError(
        f"The library already holds a LoRA called '{slug}'.",
        "Two LoRAs cannot share a name, and the studio overwrites nothing unasked.",
        f"Register it as a new version ('{slug}-v{n}'), replace the old one, or choose another name.",
    )


def place(
    workspace: Workspace,
    entry: LibraryEntry,
    source: Path,
    leave_out: Iterable[str],
    preview: Callable[[Path], None] | None = None,
    *,
    on_clash: OnClash = "ask",
) -> LibraryEntry:
    """Build the folder aside and move it in as a whole, so that the library never shows half an entry.

    leave_out: what the file's metadata shall not tell (`privacy.GROUPS`). preview: writes the picture to the path it is given.
    on_clash: `replace` moves the entry of that name to the trash, once the new one is whole.
    """
    workspace.library_dir.mkdir(parents=True, exist_ok=True)
    groups = privacy.checked(leave_out)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=workspace.library_dir) as aside:
        folder = Path(aside) / entry.slug
        lora = folder / f"{entry.name}.safetensors"
        told = metadata_of(source)
        rewrite(source, lora, privacy.without({**told, **modelspec(entry, told)}, groups))
        entry = entry.model_copy(
            update={
                "sha256": files.sha256_file(lora),
                "size_bytes": lora.stat().st_size,
                "left_out": groups,
            }
        )
        files.write_json(folder / f"{entry.name}.json", sidecar(entry))
        if preview is not None:
            preview(folder / f"{entry.name}.preview.png")
        files.write_json(folder / "entry.json", entry.model_dump(mode="json"))
        there = workspace.library_dir / entry.slug
        if on_clash == "replace" and there.exists():
            workspace.to_trash(there)
        try:
            folder.rename(workspace.library_dir / entry.slug)
        except OSError as e:
            raise InputError(
                f"The library already holds a LoRA called '{entry.slug}'.",
                "It appeared while this one was being copied.",
                "Try again with another name.",
            ) from e
    return entry


def modelspec(entry: LibraryEntry, told: dict[str, str]) -> dict[str, str]:
    """Fields of the Stability AI model metadata standard, which model browsers read. told: what the file says already; its own
    word on the architecture is more exact and stays."""
    architecture, _version = _ARCHITECTURE.get(entry.family, (f"{entry.family}/lora", "Unknown"))
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": told.get("modelspec.architecture") or architecture,
        "modelspec.title": entry.title,
        "modelspec.trigger_phrase": entry.trigger,
        "modelspec.description": entry.good_for,
        "modelspec.usage_hint": f"weight {entry.weight_words}",
        "modelspec.date": entry.trained,
        # A1111 and Forge may call a LoRA by this name instead of its file's; two versions of one project would share it.
        "ss_output_name": entry.name,
        "lora_studio.recommended_weight": f"{entry.weight:g}",
    }


def sidecar(entry: LibraryEntry) -> dict[str, Any]:
    """The JSON that A1111's and Forge's LoRA cards read (extensions-builtin/Lora)."""
    _architecture, version = _ARCHITECTURE.get(entry.family, ("", "Unknown"))
    return {
        "description": entry.good_for,
        "sd version": version,
        "activation text": entry.trigger,
        "preferred weight": entry.weight,
        "negative text": "",
        "notes": entry.notes or entry.verdict,
    }
