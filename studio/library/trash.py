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
    for path in workspace.trash_dir.glob("*/*/entry.json"):
        try:
            note = files.read_json(path.parent.parent / "from.json") or {}
            if Path(str(note.get("from", ""))).parts[:1] != ("library",):
                continue
            title = str((files.read_json(path) or {}).get("title") or path.parent.name)
        except (InputError, AttributeError):
            continue
        found.append(Removed(title, path.parent, str(note.get("at", ""))))
    return sorted(found, key=lambda r: r.at, reverse=True)
