"""What a training backend is: a Protocol, and the plain data that goes in and comes out.

A backend is one file with one class. It says what it can train, checks settings against the computer, writes the files
its engine wants, gives the command, and finds the checkpoints. What runs is a job (see studio.jobs); a backend starts
nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from studio import files
from studio.dataset.subsets import Subset, subsets_of
from studio.errors import InputError, NotFoundError
from studio.findings import Finding
from studio.machine import Machine
from studio.models import BaseModelEntry
from studio.settings import TrainingSettings
from studio.training.lora_keys import read_header

PLAN_FILE = "plan.json"
CHECKPOINTS = "checkpoints"
SAMPLES = "samples"
STATE = "state"


class PlannedPicture(BaseModel):
    """One picture of a run as it was when the run was made.

    path:    absolute path of the picture file.
    caption: the text it is trained with, trigger word first.
    sha256:  hash of the file's content; a file that differs when the run starts is refused. Empty: not checked.
    repeats: of its own, before the setting `repeats`.
    regularisation: holds the class in place instead of teaching; counts with the setting `prior_loss_weight`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: Path
    caption: str
    sha256: str = ""
    repeats: int = Field(default=1, ge=1)
    regularisation: bool = False


class TrainingPlan(BaseModel):
    """Everything that a training job needs to know, frozen into `<run_folder>/plan.json` before it starts.

    run_folder:     the job folder; checkpoints, samples and state go below it.
    model_path:     a diffusers folder or a single .safetensors checkpoint.
    family:         geometry of the base model.
    prediction:     what the base model predicts.
    pictures:       at least one; their order matters for repeatability.
    settings:       the frozen settings.
    trigger:        the trigger word; stays first when tags are shuffled.
    output_name:    stem of the LoRA files.
    sample_prompts: what samples show; empty: two captions of the dataset (none when settings say so).
    limit_steps:    stop after this many steps (a dry run): the largest pictures come first, nothing is sampled.
    resume_from:    a state folder to start from. A run that finds a state of its own goes on from there without it.
    cache_dir:      where encoded pictures are kept between runs; None: in the run folder.
    model_title:    name of the base model, for the LoRA's metadata.
    model_hash:     hash of the base model, for the LoRA's metadata; may be empty.
    metadata:       further text fields for the LoRA file; never paths.
    engine:         where the backend's own program lies, for backends that start one (source, python, commit).
    parts:          further files of a base model that consists of several, by role (clip_l, t5xxl, ae ...).
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    run_folder: Path
    model_path: Path
    family: Literal["pocket", "sd15", "sdxl", "sd35", "flux"]
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    pictures: tuple[PlannedPicture, ...] = Field(min_length=1)
    settings: TrainingSettings
    trigger: str = ""
    output_name: str = Field(default="lora", pattern=r"^[\w][\w.\- ]{0,99}$")
    sample_prompts: tuple[str, ...] = ()
    limit_steps: int | None = Field(default=None, ge=1)
    resume_from: Path | None = None
    cache_dir: Path | None = None
    model_title: str = ""
    model_hash: str = ""
    metadata: dict[str, str] = Field(default_factory=dict)
    engine: dict[str, str] = Field(default_factory=dict)
    parts: dict[str, Path] = Field(default_factory=dict)

    @property
    def checkpoints_dir(self) -> Path:
        return self.run_folder / CHECKPOINTS

    @property
    def samples_dir(self) -> Path:
        return self.run_folder / SAMPLES

    @property
    def state_dir(self) -> Path:
        return self.run_folder / STATE

    @property
    def effective_prediction(self) -> Literal["epsilon", "v_prediction"]:
        """What the loss uses: the settings' prediction unless that is "auto"."""
        return self.prediction if self.settings.prediction == "auto" else self.settings.prediction

    @property
    def prompts(self) -> tuple[str, ...]:
        """What samples show: the plan's prompts, else the settings', else two captions far apart in the dataset."""
        told = self.sample_prompts or self.settings.sample_prompts
        if told:
            return told
        captions = list(
            dict.fromkeys(p.caption for p in self.pictures if p.caption.strip() and not p.regularisation)
        )
        return tuple(dict.fromkeys((captions[0], captions[len(captions) // 2]))) if captions else ()

    def subsets(self) -> list[Subset]:
        """The pictures grouped as they are shown, by file name."""
        return subsets_of(
            [p.path.name for p in self.pictures],
            {p.path.name: p.repeats for p in self.pictures},
            {p.path.name for p in self.pictures if p.regularisation},
            self.settings.repeats,
        )

    def fingerprint(self) -> str:
        """Hash of what decides the result: model, pictures, captions, settings. A resumed run must have the same."""
        told = self.model_dump(
            mode="json", include={"family", "prediction", "settings", "trigger", "model_hash"}
        )
        return files.fingerprint([told, [_mark(p) for p in self.pictures], self.limit_steps])

    def save(self) -> Path:
        """Write plan.json into the run folder; its path."""
        path = self.run_folder / PLAN_FILE
        files.write_json(path, self.model_dump(mode="json"))
        return path

    def _at(self, folder: Path) -> TrainingPlan:
        """The plan of a run folder that may have been moved: what lay inside of it is looked for inside of it."""
        if folder == self.run_folder:
            return self

        def moved(path: Path) -> Path:
            inside = path.is_relative_to(self.run_folder)
            return folder / path.relative_to(self.run_folder) if inside else path

        pictures = tuple(p.model_copy(update={"path": moved(p.path)}) for p in self.pictures)
        return self.model_copy(update={"run_folder": folder, "pictures": pictures})

    @classmethod
    def load(cls, run_folder: Path) -> TrainingPlan:
        """The plan of a run folder. Raises NotFoundError, or InputError when it was damaged by hand."""
        path = run_folder / PLAN_FILE
        raw = files.read_json(path)
        if raw is None:
            raise NotFoundError(
                f"There is no {PLAN_FILE} in {run_folder.name}.",
                "The folder is not a training run, or it was never written whole.",
                "Start a new run.",
            )
        try:
            return cls.model_validate(raw)._at(run_folder)
        except ValidationError as e:
            first = e.errors()[0]
            raise InputError(
                f"{PLAN_FILE} of {run_folder.name} cannot be used.",
                f"{'.'.join(map(str, first['loc'])) or 'It'}: {first['msg']}.",
                "Start a new run from the project's settings.",
            ) from e


def _mark(p: PlannedPicture) -> tuple[object, ...]:
    plain = (p.path.name, p.caption, p.sha256)
    return (*plain, p.repeats, p.regularisation) if p.repeats > 1 or p.regularisation else plain


@dataclass(frozen=True)
class Checkpoint:
    """A LoRA file of a run. epoch, step: how far training was, from the file's own metadata; final: the last one."""

    path: Path
    epoch: int
    step: int
    final: bool

    @property
    def label(self) -> str:
        """Such as "epoch 3" or "final (epoch 15)"."""
        return f"final (epoch {self.epoch})" if self.final else f"epoch {self.epoch}"


@dataclass(frozen=True)
class Sample:
    """A picture drawn during training. prompt: what was asked for; step 0 is before any training."""

    path: Path
    epoch: int
    step: int
    prompt: str


@runtime_checkable
class Backend(Protocol):
    """An engine that trains.

    id:       name in settings and on the command line.
    title:    name for people.
    families: base model families it can train.

    A backend that starts a program of its own also has `engine(workspace) -> dict[str, str]`, which says where that lies
    (for the plan) and raises EnvironmentalError when it is not here.
    """

    id: str
    title: str
    families: tuple[str, ...]

    def check(
        self, settings: TrainingSettings, machine: Machine, entry: BaseModelEntry, trigger: str = ""
    ) -> list[Finding]:
        """What speaks against these settings on this computer with this base model; [] when nothing does."""
        ...

    def native_files(self, plan: TrainingPlan) -> dict[str, str]:
        """The engine's own config files, name -> text, as the run would use them. Writes nothing."""
        ...

    def command(self, plan: TrainingPlan) -> list[str]:
        """The command line that trains `plan`, whose plan.json is already written."""
        ...

    def parse(self, line: str) -> dict[str, Any] | None:
        """An event for a line of the engine's output, or None. For engines that only speak through their log."""
        ...

    def checkpoints(self, folder: Path) -> list[Checkpoint]:
        """Whole LoRA files of a run folder, earliest first; damaged files are left out."""
        ...


def find_checkpoints(folder: Path) -> list[Checkpoint]:
    """LoRA files below `<folder>/checkpoints`, by step, the final one last.

    A file counts only when its header is readable and its size is what the header says. Epoch and step come from the
    metadata `ss_epoch` and `ss_steps`; kohya's naming `name-000003.safetensors` gives the epoch when they are missing.
    A file is read once; later looks ask only for its size and time.
    """
    found = []
    for path in sorted((folder / CHECKPOINTS).glob("*.safetensors")):
        if path.name.startswith("."):
            continue
        try:
            now = path.stat()
            found.append(_checkpoint(path, now.st_size, now.st_mtime_ns))
        except (InputError, OSError):
            continue
    return sorted(found, key=lambda c: (c.final, c.step, c.epoch))


@lru_cache(maxsize=4096)
def _checkpoint(path: Path, _size: int, _changed: int) -> Checkpoint:
    """A checkpoint as it lies there. Raises InputError when it is damaged or just being written, and then forgets it."""
    header = read_header(path)
    tail = path.stem.rpartition("-")[2]
    numbered = len(tail) == 6 and tail.isdigit()
    epoch = _number(header.metadata.get("ss_epoch")) or (int(tail) if numbered else 0)
    return Checkpoint(path, epoch, steps_trained(header.metadata, epoch), final=not numbered)


def steps_trained(metadata: Mapping[str, Any], epoch: int | None = None) -> int:
    """Steps that made a LoRA file, counted from the start of the training; 0 when its metadata do not say.

    sd-scripts counts each resumed run from 0 again; it goes on at the start of an epoch, so the number of the epoch (from 1;
    0 for unknown, None for what the metadata say) and the steps in one say what is missing.
    """
    if epoch is None:
        epoch = _number(metadata.get("ss_epoch"))
    told = _number(metadata.get("ss_steps"))
    batches = _number(metadata.get("ss_num_batches_per_epoch"))
    if not (told and batches and epoch and "ss_sd_scripts_commit_hash" in metadata):
        return told
    each = -(-batches // max(1, _number(metadata.get("ss_gradient_accumulation_steps"))))
    return max(told, (epoch - 1) * each + (told % each or each))


def find_samples(folder: Path) -> list[Sample]:
    """Pictures below `<folder>/samples`, by step. Their text lies beside them in `<name>.json`, and is read once."""
    found = []
    for path in sorted((folder / SAMPLES).glob("*.png")):
        beside = path.with_suffix(".json")
        try:
            epoch, prompt = _note(beside, beside.stat().st_mtime_ns)
        except (OSError, ValueError):
            epoch, prompt = 0, ""
        found.append(Sample(path, epoch, _number(path.stem.partition("_")[0]), prompt))
    return sorted(found, key=lambda s: (s.step, s.path.name))


@lru_cache(maxsize=8192)
def _note(path: Path, _changed: int) -> tuple[int, str]:
    """Epoch and prompt of a sample. Raises OSError, and ValueError when the file holds something else."""
    note = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(note, dict):
        raise ValueError("not a note")
    return _number(note.get("epoch")), str(note.get("prompt", ""))


def _number(text: Any) -> int:
    try:
        return int(text)
    except (TypeError, ValueError):
        return 0
