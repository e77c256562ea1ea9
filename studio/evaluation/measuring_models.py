"""Models that add measures to a grid: CLIP, DINO and CCIP, from a folder of the user's or downloaded; which are in use.

None is needed, and none is loaded here. The choice is `measuring.yaml` in the workspace.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files
from studio.errors import InputError, NotFoundError, StudioError
from studio.evaluation.measuring_check import CONFIG, ROLES, MeasuringModel, Role, check_folder
from studio.workspace import Workspace, shipped

__all__ = [
    "CONFIG", "ROLES", "ROLE_WORDS", "Chosen", "MeasuringEntry", "MeasuringModel", "Role", "check_folder", "choose", "chosen",
    "downloadable", "entry", "forget", "role_of",
]  # fmt: skip
ROLE_WORDS: dict[Role, str] = {
    "clip": "whether prompts are followed, and likeness by kind",
    "dino": "likeness to your pictures, and copies",
    "ccip": "whether it is the same drawn character",
}


class ModelPart(BaseModel):
    """One file to download: its path in the repository, bytes and hash."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str
    bytes: int = Field(gt=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")

    @property
    def name(self) -> str:
        """Its name in the folder here."""
        return self.path.rpartition("/")[2]


class MeasuringEntry(BaseModel):
    """A model that can be downloaded (`data/measuring.yaml`). Its files lie in `models/measuring/<id>` afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    role: Role
    title: str
    repo: str
    revision: str
    licence: str
    summary: str
    files: tuple[ModelPart, ...]
    config: dict[str, Any] | None = None

    @property
    def size_bytes(self) -> int:
        return sum(f.bytes for f in self.files)

    def folder(self, workspace: Workspace) -> Path:
        """Where its files belong on this computer."""
        return workspace.models_dir / "measuring" / self.id

    def is_here(self, workspace: Workspace) -> bool:
        """Whether all its files are here in full length; their hashes were checked when they came."""
        folder = self.folder(workspace)
        try:
            return all((folder / f.name).stat().st_size == f.bytes for f in self.files)
        except OSError:
            return False


@dataclass(frozen=True)
class Chosen:
    """What is chosen for a role: the model, or why it cannot be used now; neither when nothing is chosen."""

    role: Role
    model: MeasuringModel | None = None
    error: StudioError | None = None

    @property
    def state(self) -> Literal["ready", "broken", "absent"]:
        return "ready" if self.model else "broken" if self.error else "absent"


@lru_cache(maxsize=1)
def downloadable() -> tuple[MeasuringEntry, ...]:
    """The models of the shipped list."""
    raw = files.read_yaml(shipped("data", "measuring.yaml")) or {}
    try:
        return tuple(MeasuringEntry.model_validate(m) for m in raw["models"])
    except (ValidationError, KeyError, TypeError) as e:
        raise InputError("data/measuring.yaml cannot be used.", str(e), "Install the studio again.") from e


def entry(model_id: str) -> MeasuringEntry:
    """An entry of the list. Raises NotFoundError."""
    for found in downloadable():
        if found.id == model_id:
            return found
    raise NotFoundError(
        f"There is no model called '{model_id}' to measure with.",
        "It is not on the list of those that can be downloaded.",
        f"Use one of: {', '.join(m.id for m in downloadable())}; or give the folder of a model that you have.",
    )


def role_of(word: str) -> Role:
    """A role by its name. Raises InputError."""
    for role in ROLES:
        if word == role:
            return role
    raise InputError(
        f"'{word}' is no kind of model to measure with.",
        "Each kind adds its own measures.",
        f"Use one of: {', '.join(ROLES)}.",
    )


def _place(workspace: Workspace) -> Path:
    return workspace.root / "measuring.yaml"


def _stored(workspace: Workspace) -> dict[str, str]:
    raw = files.read_yaml(_place(workspace))
    return {str(k): str(v) for k, v in raw.items() if k in ROLES and v} if isinstance(raw, Mapping) else {}


def chosen(workspace: Workspace) -> dict[Role, Chosen]:
    """What is in use for each role, checked again as its files lie there now."""
    stored = _stored(workspace)
    found: dict[Role, Chosen] = {}
    for role in ROLES:
        if role not in stored:
            found[role] = Chosen(role)
            continue
        try:
            found[role] = Chosen(role, check_folder(role, Path(stored[role])))
        except StudioError as e:
            found[role] = Chosen(role, error=e)
    return found


def choose(workspace: Workspace, role: Role, folder: Path | str) -> MeasuringModel:
    """Use a folder from now on, once it was checked. Raises InputError with every problem at once; then nothing changes."""
    text = str(folder).strip().strip("'\"")
    if not text:
        raise InputError(
            "No folder is named.",
            f"A {role.upper()} model is a folder with its weights.",
            "Give its full path, or download one.",
        )
    known = {m.id: m for m in downloadable()}
    if text in known:
        if known[text].role != role:
            raise InputError(
                f"{known[text].title} is no {role.upper()} model.",
                f"It measures as {known[text].role.upper()}.",
                f"Choose it for {known[text].role}.",
            )
        text = str(known[text].folder(workspace))
    path = Path(text).expanduser()
    if not path.is_absolute():
        raise InputError(
            f"'{text}' is not a full path.",
            "Where it starts depends on where the studio was started.",
            "Give the full path of the folder.",
        )
    model = check_folder(role, path.resolve())
    files.write_yaml(_place(workspace), {**_stored(workspace), role: str(model.folder)})
    return model


def forget(workspace: Workspace, role: Role) -> None:
    """Use no model for a role any more. Its files stay. Raises NotFoundError when none was chosen."""
    stored = _stored(workspace)
    if role not in stored:
        raise NotFoundError(
            f"No {role.upper()} model is in use.", "There is nothing to take off.", "Choose one first."
        )
    files.write_yaml(_place(workspace), {k: v for k, v in stored.items() if k != role})
