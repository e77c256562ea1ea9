"""LoRA files where the server finds them, under names that are theirs alone.

A LoRA overwritten under the same name draws its old pictures: ComfyUI remembers what a name gave. So a file's name holds the
hash of its content, and the same content is never put there twice.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from studio import files
from studio.errors import EnvironmentalError
from studio.evaluation.comfyui.client import Client
from studio.evaluation.comfyui.graphs import PREFIX
from studio.evaluation.spec import GridLora


def unique_name(lora: GridLora) -> str:
    """The file name that a LoRA has on servers: its own name, safe on every system, and its content's hash."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "-", lora.path.stem).strip("-")[:60] or "lora"
    return f"{stem}-{lora.content}.safetensors"


def seen_as(client: Client, lora: GridLora) -> str | None:
    """What the server calls the LoRA, verbatim, wherever in its LoRA folders it lies; None when it does not see it."""
    wanted = unique_name(lora)
    return next((n for n in client.models("loras") if base_name(n) == wanted), None)


def base_name(name: str) -> str:
    """The last part of a name as a server of any system tells it."""
    return name.replace("\\", "/").rpartition("/")[2]


def lora_folder(client: Client) -> Path | None:
    """The server's LoRA folder as a folder of this computer that can be written to; None when there is none.

    The user's word counts first. A server on this computer tells where its folders are; one elsewhere may name a folder
    that exists here too by chance, so it is not believed.
    """
    told = client.server.lora_folder
    if told is not None:
        return told if told.is_dir() and os.access(told, os.W_OK) else None
    if not client.server.is_here:
        return None
    for name in client.folders("loras"):
        folder = Path(name)
        if folder.is_dir() and os.access(folder, os.W_OK):
            return folder
    return None


class Placer:
    """Puts LoRA files into a server's folder and takes away again what it put there."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.placed: list[Path] = []

    def place(self, lora: GridLora) -> str:
        """What the server calls the LoRA, put there when it is not. Raises EnvironmentalError with what to do by hand."""
        name = seen_as(self.client, lora)
        if name is not None:
            return name
        folder = lora_folder(self.client)
        if folder is None:
            raise by_hand(self.client, lora)
        target = folder / PREFIX / unique_name(lora)
        if not target.is_file() or target.stat().st_size != lora.path.stat().st_size:
            put(lora.path, target)
            self.placed.append(target)
        name = seen_as(self.client, lora)
        if name is None:
            raise EnvironmentalError(
                f"ComfyUI at {self.client.server.name} does not see {target.name}.",
                f"It was put into {target.parent}, which the server does not list.",
                "Name the server's real LoRA folder: lora-studio setup comfyui ADDRESS --lora-folder FOLDER.",
            )
        return name

    def clear(self) -> None:
        """Take away what was put there. A file that cannot be removed stays; it does no harm."""
        for target in self.placed:
            with suppress(OSError):
                target.unlink(missing_ok=True)
            with suppress(OSError):
                target.parent.rmdir()  # only when it is empty
        self.placed.clear()


def put(source: Path, target: Path) -> None:
    """Link the file, which takes no room, or copy it to another disk. The target appears whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        part.unlink(missing_ok=True)
        os.link(source, part)
        os.replace(part, target)
    except OSError:
        part.unlink(missing_ok=True)
        files.copy_atomic(source, target)


def by_hand(client: Client, lora: GridLora) -> EnvironmentalError:
    """What the user does when the server's folder cannot be reached from here."""
    return EnvironmentalError(
        f"ComfyUI at {client.server.name} does not have the LoRA '{lora.label}', and its folder cannot be reached from here.",
        "A server takes LoRA files from its own disk only.",
        f"Copy {lora.path} into its folder models/loras under the name {unique_name(lora)}, or name that folder as this computer "
        f"sees it: lora-studio setup comfyui {client.server.address} --lora-folder FOLDER.",
    )
