"""Copies or links of a registered LoRA in the folders of ComfyUI, A1111 and Forge, with what their browsers read beside it.

<folder>/<name>.safetensors     the LoRA
<folder>/<name>.json            A1111 and Forge: activation text, preferred weight
<folder>/<name>.preview.png     the picture that A1111, Forge and ComfyUI's managers show
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from studio import files
from studio.errors import EnvironmentalError, InputError, NotFoundError
from studio.library.entry import LibraryEntry
from studio.workspace import Workspace

BELOW = ("models/loras", "models/Lora")
"""Where ComfyUI, and A1111 and Forge, keep LoRAs below their own folder."""


@dataclass(frozen=True)
class Placed:
    """A LoRA in another program's folder. linked: whether it shares the library's bytes (a hard link) or is a copy."""

    file: Path
    linked: bool


def lora_folder(place: Path) -> Path:
    """The folder for LoRAs: `place` itself, or the one below it when it is the folder of ComfyUI, A1111 or Forge.

    Raises NotFoundError when there is no such folder.
    """
    place = place.expanduser()
    if not place.is_dir():
        raise NotFoundError(f"There is no folder at {place}.", "It was moved, or its name is spelled differently.",
                            "Give the folder of ComfyUI, A1111 or Forge, or their folder for LoRAs.")  # fmt: skip
    return next((place / b for b in BELOW if (place / b).is_dir()), place)


def put_into(workspace: Workspace, entry: LibraryEntry, place: Path, *, link: bool = False) -> Placed:
    """Put a registered LoRA and what lies beside it into another program's folder. The same file again changes nothing.

    link: share the bytes where the disk allows it, else copy. Raises NotFoundError when folder or file are missing, InputError when
    another file has that name, EnvironmentalError when the folder cannot be written.
    """
    folder, source = lora_folder(place), entry.file(workspace)
    if not source.is_file():
        raise NotFoundError(
            f"The file of {entry.title} is gone.", f"Nothing lies at {source}.", "Register it again."
        )
    target = folder / source.name
    linked = False
    try:
        if not target.exists():
            linked = link and _linked(source, target)
            if not linked:
                files.copy_atomic(source, target)
        elif files.sha256_file(target) != files.sha256_file(source):
            raise InputError(f"{target} is there already, and is another file.", "The studio overwrites nothing.",
                             "Move that file away, or register the LoRA under another name.")  # fmt: skip
        else:
            linked = target.samefile(source)
        for name in (f"{entry.name}.json", f"{entry.name}.preview.png"):
            beside = source.with_name(name)
            if beside.is_file() and not (folder / name).exists():
                files.copy_atomic(beside, folder / name)
    except OSError as e:
        raise EnvironmentalError(f"{entry.title} could not be put into {folder}.", f"The computer answered: {e.strerror or e}.",
                                 "Check that you may write there, and that there is room.") from e  # fmt: skip
    return Placed(target, linked)


def _linked(source: Path, target: Path) -> bool:
    try:
        os.link(source, target)
    except OSError:
        return False  # another disk, or a file system without links
    return True
