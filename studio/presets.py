"""Presets: files that fill settings. Shipped ones lie in `presets/`, the user's own in the workspace's `presets/`."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from studio import files
from studio.errors import InputError, NotFoundError
from studio.findings import Finding
from studio.machine import Machine
from studio.models import BaseModelEntry
from studio.settings import TrainingSettings, parse_settings, problems
from studio.workspace import Workspace, shipped


class Preset(BaseModel):
    """A preset.

    family:  base models it is for.
    who:     whom it suits, in one sentence.
    memory:  what it needs, in words; time: how long it takes, in words.
    source:  where its figures come from.
    pictures_per_epoch: when set, repeats are chosen so that one epoch shows about this many pictures.
    settings: values for TrainingSettings; what it leaves out keeps the default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    family: str
    summary: str
    who: str
    memory: str
    time: str
    source: str
    pictures_per_epoch: int = 0
    order: int = 50
    settings: dict[str, Any]

    @property
    def rented(self) -> bool:
        """Whether it is for training on rented computers."""
        return self.settings.get("backend") == "replicate"


def _load(path: Path) -> Preset:
    raw = files.read_yaml(path)
    try:
        preset = Preset.model_validate(raw)
    except ValidationError as e:
        found = [
            Finding(
                severity="block", code="preset-invalid", what=f"{'.'.join(map(str, p['loc']))}: {p['msg']}."
            )
            for p in e.errors()
        ]
        raise InputError(
            f"The preset {path.name} cannot be used.",
            "It does not have the form of a preset.",
            "Mend or remove the file.",
            found,
        ) from e
    bad = problems(preset.settings)
    if bad:
        raise InputError(
            f"The preset {path.name} cannot be used.",
            "Some of its settings cannot be understood.",
            "Mend or remove the file.",
            bad,
        )
    return preset


@lru_cache(maxsize=1)
def _shipped() -> tuple[Preset, ...]:
    return tuple(_load(p) for p in sorted(shipped("presets").glob("*.yaml")))


def list_presets(workspace: Workspace, family: str | None = None) -> list[Preset]:
    """Presets, for one family when given, in the order to show them. Broken files of the user's own raise InputError."""
    found = {p.id: p for p in _shipped()}
    found |= {p.id: p for p in (_load(f) for f in sorted(workspace.presets_dir.glob("*.yaml")))}
    chosen = [p for p in found.values() if family is None or p.family == family]
    return sorted(chosen, key=lambda p: (p.family, p.order, p.id))


def presets_for(workspace: Workspace, entry: BaseModelEntry) -> list[Preset]:
    """Presets for a base model: of its family, and for where it lies, here or on rented computers."""
    cloud = entry.format == "cloud"
    return [p for p in list_presets(workspace, entry.family) if p.rented == cloud]


def default_for(workspace: Workspace, entry: BaseModelEntry) -> Preset:
    """The preset to start from with a base model: the standard one, or the one for beginners where training is paid for.
    Raises NotFoundError when there is neither."""
    ends = ("-beginner", "-standard") if entry.format == "cloud" else ("-standard", "-beginner")
    offered = {p.id for p in presets_for(workspace, entry)}
    return get_preset(
        workspace, next((entry.family + e for e in ends if entry.family + e in offered), entry.family)
    )


def get_preset(workspace: Workspace, preset_id: str) -> Preset:
    """The preset of an id. Raises NotFoundError naming those that exist."""
    every = list_presets(workspace)
    for p in every:
        if p.id == preset_id:
            return p
    raise NotFoundError(
        f"There is no preset called '{preset_id}'.",
        "Neither the studio nor your workspace has it.",
        f"Use one of: {', '.join(p.id for p in every)}.",
    )


def fill(preset: Preset, entry: BaseModelEntry, pictures: int, machine: Machine) -> TrainingSettings:
    """The preset's settings for a base model, a number of pictures and a computer.

    Repeats follow from `pictures_per_epoch`; half precision is taken back on a computer without a graphics card.
    Raises InputError when the preset is for another family.
    """
    if preset.family != entry.family:
        raise InputError(
            f"The preset '{preset.id}' is for {preset.family} models.",
            f"{entry.title} is a {entry.family} model.",
            f"Choose a preset for {entry.family}.",
        )
    values = dict(preset.settings)
    if preset.pictures_per_epoch and pictures:
        values["repeats"] = repeats_for(preset, pictures)
    if machine.device == "cpu":
        values["precision"] = "no"
    if not preset.rented:
        values |= _for_machine(preset, values, machine)
    values.setdefault("resolution", entry.resolution)
    values.setdefault("bucket_step", entry.bucket_step)
    return parse_settings(values)


def repeats_for(preset: Preset, pictures: int) -> int:
    """Repeats with which an epoch shows about `pictures_per_epoch` pictures. pictures: at least 1."""
    return max(1, round(preset.pictures_per_epoch / pictures))


# Graphics memory in GiB -> blocks to swap, at 8 bits with a batch of one: the ladder of sd-scripts' notes on FLUX
# (docs/flux_train_network.md); for SD3.5 Large 16 GB without swapping (its README), and 0.21 GB for each block below that.
_SWAPS = {
    "flux": ((23, 0), (15, 8), (11, 16), (9, 22), (0, 28)),
    "sd35": ((15, 0), (11, 20), (9, 30), (0, 36)),
}


def _for_machine(preset: Preset, values: dict[str, Any], machine: Machine) -> dict[str, Any]:
    """What a preset's values become on a computer: no 8-bit arithmetic without an NVIDIA card, and as many blocks of a large
    model kept out of graphics memory as the card needs."""
    told: dict[str, Any] = {}
    if machine.device != "cuda":
        if values.get("optimizer") == "adamw8bit":
            told["optimizer"] = "adamw"
        if values.get("fp8_base"):
            told["fp8_base"] = False
        return told
    if preset.family in _SWAPS and values.get("fp8_base"):
        gib = machine.memory_bytes / 2**30
        told["blocks_to_swap"] = next(n for least, n in _SWAPS[preset.family] if gib >= least)
    return told


def default_preset(workspace: Workspace, family: str) -> Preset:
    """The preset to start from: the family's standard one, or the one for beginners where training is paid for. Raises
    NotFoundError when the family has neither."""
    offered = {p.id for p in list_presets(workspace, family)}
    return get_preset(
        workspace, next((i for i in (f"{family}-standard", f"{family}-beginner") if i in offered), family)
    )


def save_as_preset(workspace: Workspace, title: str, family: str, settings: TrainingSettings) -> Preset:
    """Keep settings as a preset of the user's own. Raises InputError when the name is taken."""
    preset_id = files.slug(title)
    if any(p.id == preset_id for p in list_presets(workspace)):
        raise InputError(
            f"There is a preset called '{preset_id}' already.",
            "Presets are told apart by their names.",
            "Choose another name.",
        )
    values = {
        k: v
        for k, v in settings.model_dump(mode="json").items()
        if v != TrainingSettings.model_fields[k].default
    }
    preset = Preset(
        id=preset_id,
        title=title.strip(),
        family=family,
        summary="Saved by you.",
        who="You.",
        memory="as its settings need",
        time="as its settings need",
        source="your own",
        settings=values,
    )
    files.write_yaml(workspace.presets_dir / f"{preset_id}.yaml", preset.model_dump(mode="json"))
    return preset
