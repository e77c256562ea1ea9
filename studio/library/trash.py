"""LoRAs that were taken out of the library and lie in the trash, from where they can come back."""

from __future__ import annotations

from pathlib import Path

from studio import files
from studio.workspace import Trashed, Workspace


def removed_loras(workspace: Workspace) -> list[Trashed]:
    """The LoRAs in the trash, the one taken out last first, for `register.restore`. What cannot be read is left out."""
    return workspace.trashed("library", _title)


def _title(place: Path) -> str:
    told = files.read_json(place / "entry.json")
    return "" if told is None else str(told.get("title") or place.name)
