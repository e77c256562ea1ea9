"""A project: one LoRA to be, as a folder that a person can read.

<project>/
  project.yaml          intent: kind, name, trigger word, description, base model
  settings.yaml         the training settings of the next run, and the preset they came from
  dataset/              the pictures and their `.txt` captions, in kohya's layout
  set_aside/            pictures taken out of the dataset, with their captions
  gates/<gate>.json     the verdicts
  runs/<id>/            one folder a run (a job folder)
  grids/<id>/           one folder a grid (a job folder)
  jobs/<id>/            all other jobs
  records/*.md          the record in words; history.jsonl: every decision, one a line
  cache/                thumbnails and the scan index; may be deleted at any time
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files
from studio.errors import InputError
from studio.findings import Finding
from studio.settings import TrainingSettings, parse_settings
from studio.workspace import Workspace

Kind = Literal["character", "style", "object"]

KINDS: dict[str, dict[str, Any]] = {
    # Recommended counts: seed interview (character 15-40, style 20-100, object 10-30).
    "character": {
        "title": "A character",
        "words": "One face, body or outfit, recognisable in any scene.",
        "images": (15, 40),
        "why": "Enough angles and moods to learn who it is; more of the same pose teaches the pose instead.",
    },
    "style": {
        "title": "A style",
        "words": "A way of drawing: brush, line, colour, light. Not what is drawn.",
        "images": (20, 100),
        "why": "Many different subjects in one style, so that the model can tell the style from the subjects.",
    },
    "object": {
        "title": "An object",
        "words": "One thing, such as a product, a logo or a piece of clothing.",
        "images": (10, 30),
        "why": "A few clear views from all sides, in different places.",
    },
}

# Words that every base model already has a strong meaning for: a trigger among them would fight that meaning.
COMMON_WORDS = frozenset(
    [
        "a",
        "an",
        "the",
        "and",
        "of",
        "in",
        "on",
        "at",
        "with",
        "man",
        "woman",
        "boy",
        "girl",
        "person",
        "people",
        "child",
        "cat",
        "dog",
        "horse",
        "bird",
        "car",
        "house",
        "tree",
        "flower",
        "sky",
        "sea",
        "city",
        "street",
        "red",
        "green",
        "blue",
        "yellow",
        "black",
        "white",
        "photo",
        "picture",
        "image",
        "art",
        "style",
        "character",
        "object",
        "drawing",
        "painting",
        "sketch",
        "anime",
        "cartoon",
        "portrait",
        "landscape",
        "light",
        "dark",
        "big",
        "small",
        "old",
        "new",
        "happy",
        "sad",
        "beautiful",
        "style1",
        "test",
        "lora",
        "model",
        "face",
        "hair",
        "eyes",
    ]
)


class Intent(BaseModel):
    """What the user wants to teach.

    kind:        character, style or object.
    name:        how the project is called, 1 to 80 characters.
    trigger:     the word that calls the LoRA up; leads every caption.
    description: what is taught, in the user's words.
    base_model:  id of an entry of the manifest (studio.models).
    notes:       content-style notes from the interview.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    name: str = Field(min_length=1, max_length=80)
    trigger: str
    description: str = ""
    base_model: str = "pocket"
    notes: str = ""
    created: str = Field(default_factory=files.now)


def trigger_problems(trigger: str) -> list[Finding]:
    """What is wrong with a trigger word: blocking findings for what cannot work, warnings for what works badly."""
    found = []
    if not trigger.strip():
        return [
            Finding(
                severity="block",
                code="trigger-empty",
                what="There is no trigger word.",
                why="Without it nothing calls up what you teach.",
                fix="Choose one made-up word, such as 'mirastyle'.",
            )
        ]
    if trigger != trigger.strip() or not re.fullmatch(r"[\w][\w\- ]*", trigger) or "," in trigger:
        found.append(
            Finding(
                severity="block",
                code="trigger-characters",
                what=f"'{trigger}' cannot be a trigger word.",
                why="Commas separate tags, and brackets or colons change weights in prompts.",
                fix="Use letters and digits only, such as 'mirastyle'.",
            )
        )
    elif len(trigger) > 40:
        found.append(
            Finding(
                severity="block",
                code="trigger-long",
                what="The trigger word is longer than 40 characters.",
                why="It takes the room of the rest of the caption.",
                fix="Use one short made-up word.",
            )
        )
    elif trigger.lower() in COMMON_WORDS:
        found.append(
            Finding(
                severity="block",
                code="trigger-common",
                what=f"'{trigger}' is an everyday word.",
                why="The base model already knows it; the LoRA would change every picture in which it occurs.",
                fix=f"Make it yours: '{trigger.lower()[:3]}{'xq'}' or 'my{trigger.lower()}01'.",
            )
        )
    elif " " in trigger:
        found.append(
            Finding(
                severity="warn",
                code="trigger-spaces",
                what="The trigger is more than one word.",
                why="Each word keeps its own meaning for the model.",
                fix="Join them: " + trigger.replace(" ", "") + ".",
            )
        )
    elif len(trigger) < 4:
        found.append(
            Finding(
                severity="warn",
                code="trigger-short",
                what=f"'{trigger}' is very short.",
                why="Short letter groups often mean something already.",
                fix="Use five to twelve letters.",
            )
        )
    return found


def propose_trigger(name: str) -> str:
    """A trigger word for a name: its letters run together, consonants first, never an everyday word."""
    letters = re.sub(r"[^a-z0-9]", "", name.lower())
    if not letters:
        return "mylora01"
    short = letters[0] + re.sub(r"[aeiou]", "", letters[1:]) if len(letters) > 8 else letters
    short = short[:12]
    return f"{short}01" if len(short) < 4 or short in COMMON_WORDS else short


@dataclass(frozen=True)
class Project:
    """A project on disk. Holds no state: each property reads what the disk says now."""

    workspace: Workspace
    slug: str

    @property
    def folder(self) -> Path:
        return self.workspace.projects_dir / self.slug

    @property
    def dataset_dir(self) -> Path:
        return self.folder / "dataset"

    @property
    def set_aside_dir(self) -> Path:
        return self.folder / "set_aside"

    @property
    def gates_dir(self) -> Path:
        return self.folder / "gates"

    @property
    def runs_dir(self) -> Path:
        return self.folder / "runs"

    @property
    def grids_dir(self) -> Path:
        return self.folder / "grids"

    @property
    def jobs_dir(self) -> Path:
        return self.folder / "jobs"

    @property
    def records_dir(self) -> Path:
        return self.folder / "records"

    @property
    def cache_dir(self) -> Path:
        return self.folder / "cache"

    @property
    def intent(self) -> Intent:
        """What the user wants. Raises InputError when project.yaml was damaged by hand."""
        raw = files.read_yaml(self.folder / "project.yaml")
        try:
            return Intent.model_validate(raw)
        except ValidationError as e:
            first = e.errors()[0]
            raise InputError(
                f"project.yaml of '{self.slug}' cannot be used.",
                f"{'.'.join(map(str, first['loc'])) or 'It'}: {first['msg']}.",
                f"Mend it by hand: {self.folder / 'project.yaml'}",
            ) from e

    def save_intent(self, intent: Intent) -> None:
        """Store the intent. Raises InputError when the trigger word cannot work."""
        bad = [f for f in trigger_problems(intent.trigger) if f.severity == "block"]
        if bad:
            raise InputError(bad[0].what, bad[0].why, bad[0].fix, bad if len(bad) > 1 else None)
        files.write_yaml(self.folder / "project.yaml", intent.model_dump(mode="json"))

    @property
    def settings(self) -> TrainingSettings:
        """The settings of the next run; the built-in defaults before any were chosen. Raises InputError when the
        file was damaged by hand."""
        raw = files.read_yaml(self.folder / "settings.yaml") or {}
        return parse_settings(dict(raw.get("settings") or {}))

    @property
    def settings_chosen(self) -> bool:
        """Whether settings were ever stored for this project."""
        return (self.folder / "settings.yaml").is_file()

    @property
    def preset(self) -> str:
        """Id of the preset that the settings came from; empty when none was chosen."""
        raw = files.read_yaml(self.folder / "settings.yaml") or {}
        return str(raw.get("preset", ""))

    @property
    def repeats_follow(self) -> bool:
        """Whether the repeats came from the preset and still follow the number of pictures; nobody has set them since."""
        raw = files.read_yaml(self.folder / "settings.yaml") or {}
        return raw.get("repeats_follow") is True

    def save_settings(
        self, settings: TrainingSettings, preset: str | None = None, *, repeats_follow: bool | None = None
    ) -> None:
        """Store the settings of the next run (and, when given, the preset they came from).

        repeats_follow: whether the repeats go on following the number of pictures; unsaid, they do when they did before
        and are the same.
        """
        if repeats_follow is None:
            repeats_follow = self.repeats_follow and self.settings.repeats == settings.repeats
        files.write_yaml(
            self.folder / "settings.yaml",
            {
                "preset": self.preset if preset is None else preset,
                "repeats_follow": repeats_follow,
                "settings": settings.model_dump(mode="json"),
            },
        )

    def decided(self, what: str, **details: Any) -> None:
        """Add a decision to the project's history."""
        files.append_jsonl(self.records_dir / "history.jsonl", {"at": files.now(), "what": what, **details})

    def history(self) -> list[dict[str, Any]]:
        """Every decision, oldest first."""
        return files.read_jsonl(self.records_dir / "history.jsonl")[0]


def create_project(workspace: Workspace, intent: Intent) -> Project:
    """Make a project. Its slug comes from the name; a number is added when the slug is taken.

    Raises InputError when the trigger word cannot work.
    """
    base = files.slug(intent.name)
    slug, n = base, 2
    while (workspace.projects_dir / slug).exists():
        slug, n = f"{base}-{n}", n + 1
    project = Project(workspace, slug)
    project.save_intent(intent)
    for folder in (project.dataset_dir, project.records_dir):
        folder.mkdir(parents=True, exist_ok=True)
    project.decided("project created", **intent.model_dump(mode="json", exclude={"created"}))
    workspace.remember(last_project=slug)
    return project


def open_project(workspace: Workspace, slug: str) -> Project:
    """An existing project. Raises NotFoundError (naming those that exist) or InputError."""
    workspace.project_dir(slug)
    return Project(workspace, slug)
