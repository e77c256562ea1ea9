"""LoRAs that were taken out of the library and lie in the trash, from where they can come back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from studio import files
from studio.errors import InputError
from studio.workspace import Workspace


@dataclass(frozen=True)
class Removed:
    """A LoRA in the trash. place: where it lies, for `register.restore`; at: when it was taken out, ISO 8601 UTC."""

    title: str
    place: Path
    at: str


def removed_loras(workspace: Workspace) -> list[Removed]:
    """The LoRAs in the trash, the one taken out last first. What cannot be read is left out."""
    found = []
    for gone in workspace.trashed("library"):
        try:
            told = files.read_json(gone.place / "entry.json")
            if told is not None:
                found.append(Removed(str(told.get("title") or gone.place.name), gone.place, gone.at))
        except (InputError, AttributeError, OSError):
            continue
    return found
