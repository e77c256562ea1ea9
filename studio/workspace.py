"""The workspace: the folder that holds everything a user makes.

<workspace>/                 `STUDIO_HOME`, else `lora-studio` in the user's home
  projects/<slug>/           one project each (see studio.project)
  trash/<id>/                removed things, kept until emptied
  models/                    base models and `models.yaml` for the user's own entries
  presets/                   the user's own presets
  library/<slug>/            registered LoRAs
  studio.md                  the library as one readable page
  preferences.json           last mode (easy / advanced), last project
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import InputError, NotFoundError

_PACKAGE = Path(__file__).resolve().parent


def shipped(*parts: str) -> Path:
    """A file or folder that comes with the studio: `shipped("data", "pocket")`, `shipped("presets")`.

    In a checkout they lie beside the package; `pip install` puts them into `studio/_shipped`.
    """
    installed = _PACKAGE / "_shipped"
    return (installed if installed.is_dir() else _PACKAGE.parent).joinpath(*parts)


def default_home() -> Path:
    """Where the workspace lies: `STUDIO_HOME` when set, else `~/lora-studio`."""
    told = os.environ.get("STUDIO_HOME", "").strip()
    return Path(told).expanduser().resolve() if told else Path.home() / "lora-studio"


@dataclass(frozen=True)
class Trashed:
    """Something in the trash. name: how people call it; place: where it lies, for `Workspace.put_back`; at: when it was removed,
    ISO 8601 UTC."""

    name: str
    place: Path
    at: str


@dataclass(frozen=True)
class Workspace:
    """A workspace at `root`. Making the object creates nothing; folders appear when first written to."""

    root: Path

    @classmethod
    def default(cls) -> Workspace:
        """The workspace of this user."""
        return cls(default_home())

    @property
    def projects_dir(self) -> Path:
        return self.root / "projects"

    @property
    def models_dir(self) -> Path:
        return self.root / "models"

    @property
    def presets_dir(self) -> Path:
        return self.root / "presets"

    @property
    def library_dir(self) -> Path:
        return self.root / "library"

    @property
    def trash_dir(self) -> Path:
        return self.root / "trash"

    def project_slugs(self) -> list[str]:
        """Slugs of all projects, the one changed last first."""
        found = list(self.projects_dir.glob("*/project.yaml"))
        return [p.parent.name for p in sorted(found, key=lambda p: -p.stat().st_mtime)]

    def project_dir(self, slug: str) -> Path:
        """Folder of an existing project. Raises NotFoundError (naming those that exist) or InputError."""
        if not slug or files.slug(slug) != slug:
            raise InputError(
                f"'{slug}' is not a project name.",
                "Project names are lower-case letters, digits and hyphens.",
                f"Use one of: {', '.join(self.project_slugs()) or 'none yet; make one with `lora-studio new`'}.",
            )
        folder = self.projects_dir / slug
        if not (folder / "project.yaml").is_file():
            raise NotFoundError(
                f"There is no project called '{slug}'.",
                f"The workspace {self.root} does not hold it.",
                f"Use one of: {', '.join(self.project_slugs()) or 'none yet; make one with `lora-studio new`'}.",
            )
        return folder

    def preferences(self) -> dict[str, Any]:
        """Small choices that are remembered between visits; {} at first."""
        try:
            found = files.read_json(self.root / "preferences.json")
        except InputError:
            return {}
        return found if isinstance(found, dict) else {}

    def remember(self, **choices: Any) -> None:
        """Store small choices, such as `mode="easy"`, beside the ones already known."""
        known = self.preferences()
        if any(known.get(k) != v for k, v in choices.items()):
            files.write_json(self.root / "preferences.json", {**known, **choices})

    def to_trash(self, folder: Path) -> Path:
        """Move a folder or file of this workspace to the trash; its new place, from which it can be put back."""
        source = files.inside(self.root, str(folder.resolve().relative_to(self.root.resolve())))
        place = self.trash_dir / files.new_id("removed")
        place.mkdir(parents=True)
        files.write_json(
            place / "from.json", {"from": str(source.relative_to(self.root.resolve())), "at": files.now()}
        )
        target = place / source.name
        os.replace(source, target)
        return target

    def trashed(self, room: str, named: Callable[[Path], str]) -> list[Trashed]:
        """What came from the folder `room` ("projects", "library"), the newest removal first.

        named: how a thing is called, asked with where it lies; "" for one that is none. What cannot be read is left out.
        """
        found = []
        for note in self.trash_dir.glob("*/from.json"):
            try:
                told = files.read_json(note) or {}
                origin, at = Path(str(told.get("from", ""))), str(told.get("at", ""))
                place = note.parent / origin.name
                if origin.parts[:1] == (room,) and place.exists() and (name := named(place)):
                    found.append(Trashed(name, place, at))
            except (InputError, AttributeError, OSError):
                continue
        return sorted(found, key=lambda t: t.at, reverse=True)

    def put_back(self, trashed: Path) -> Path:
        """Undo `to_trash`. Raises InputError when something else took the old place meanwhile."""
        note = files.read_json(trashed.parent / "from.json") or {}
        target = files.inside(self.root, str(note.get("from", trashed.name)))
        if target.exists():
            raise InputError(
                f"'{target.name}' cannot be put back.",
                "Something else has that name now.",
                "Rename that first, then undo again.",
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(trashed, target)
        (trashed.parent / "from.json").unlink(missing_ok=True)
        trashed.parent.rmdir()
        return target
