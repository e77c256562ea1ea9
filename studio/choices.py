"""Choosing settings for a project: what follows from a choice, what was chosen and what is a default.

The config page and its review are drawn from here. Every change is stored at once and written into the history.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from studio import models, presets
from studio.dataset.subsets import teaching_count
from studio.errors import InputError, NotFoundError, StudioError
from studio.estimate import estimate
from studio.findings import Finding
from studio.machine import Machine, detect
from studio.models import BaseModelEntry
from studio.project import Project
from studio.settings import Knob, TrainingSettings, changed, knobs, parse_settings, unusual
from studio.settings.optimizers import DECAY_SHARE, RATE_SHARE
from studio.training.diffusers_checks import USUAL_RATE
from studio.training.registry import backends, get_backend, is_rented
from studio.training.sdscripts import extra, install, options
from studio.training.sdscripts.importing import Imported
from studio.workspace import Workspace

# Basic settings which Easy mode does not ask for, because another choice answers them: repeats follow from the preset and
# the number of pictures, the learning rate from the optimizer. With preset and base model that leaves six questions, and a
# seventh, the backend, where there is more than one to choose from.
ANSWERED = frozenset(("repeats", "learning_rate"))

Origin = Literal["default", "preset", "yours"]


@dataclass(frozen=True)
class Followed:
    """A setting that was changed along with the one that was asked for. why: one sentence."""

    name: str
    before: Any
    after: Any
    why: str


@dataclass(frozen=True)
class Choice:
    """A setting as it stands. usual: what it would be without the user; origin: who decided the value."""

    knob: Knob
    value: Any
    usual: Any
    origin: Origin


READ_BY = {"Cloud": "replicate", "sd-scripts": "kohya"}
"""Groups of settings that only one backend reads."""

RENTED_ASKS = ("cloud_destination", "cloud_create", "cloud_spending_limit")


def easy_knobs(rented: bool = False) -> list[Knob]:
    """The settings that Easy mode asks for. rented: also what a run on rented computers needs to know."""
    known = knobs()
    asked = [k for k in known.values() if k.level == "basic" and k.name not in ANSWERED]
    return asked + [known[n] for n in RENTED_ASKS] if rented else asked


def backends_for(project: Project) -> list[str]:
    """Backends on this computer that can train the project's base model, and the one that is chosen; the built-in one first.
    sd-scripts counts once it is set up."""
    entry, now = entry_of(project), project.settings.backend
    found = []
    for backend in backends():
        fits = entry.family in backend.families and (entry.format == "cloud") == is_rented(backend.id)
        fits = fits and not (backend.id == "diffusers" and entry.prediction == "flow")
        ready = backend.id != "kohya" or install.current(project.workspace) is not None
        if backend.id == now or (fits and ready):
            found.append(backend.id)
    return found


def easy_asks(project: Project) -> list[Knob]:
    """What Easy mode asks for in this project: `easy_knobs`, and the backend where there is a choice."""
    backend = knobs()["backend"]
    offered = backends_for(project)
    asked = easy_knobs(project.settings.backend == "replicate")
    if len(offered) < 2 or project.settings.backend == "replicate":
        return asked
    return [dataclasses.replace(backend, choices={b: backend.choices[b] for b in offered}), *asked]


def entry_of(project: Project) -> BaseModelEntry:
    """The project's base model. Raises NotFoundError when it is not listed any more."""
    return models.get_model(project.workspace, project.intent.base_model)


def uploads(project: Project) -> bool:
    """Whether training sends the pictures away: the base model is rented."""
    try:
        return entry_of(project).format == "cloud"
    except NotFoundError:
        return False


def preset_settings(project: Project, preset: presets.Preset) -> TrainingSettings:
    """What a preset means for this project on this computer. A preset that names no backend keeps the project's own, when
    that can train the base model. Raises InputError when it is for another family."""
    entry = entry_of(project)
    filled = presets.fill(preset, entry, teaching_count(project), detect())
    now = project.settings.backend
    if "backend" in preset.settings or not project.settings_chosen or is_rented(now):
        return filled
    return filled.model_copy(update={"backend": now}) if entry.family in get_backend(now).families else filled


def current_preset(project: Project) -> presets.Preset | None:
    """The preset that the settings came from; None when none was chosen or its file is gone."""
    try:
        return presets.get_preset(project.workspace, project.preset) if project.preset else None
    except NotFoundError:
        return None


def reference(project: Project) -> TrainingSettings:
    """The settings as they would be without changes by the user: the preset's, else those of the family's standard one."""
    entry = entry_of(project)
    preset = current_preset(project)
    if preset is None or preset.family != entry.family:
        preset = presets.default_for(project.workspace, entry)
    return preset_settings(project, preset)


def choose_preset(project: Project, preset_id: str) -> TrainingSettings:
    """Fill the settings from a preset and store them. Raises NotFoundError, InputError."""
    preset = presets.get_preset(project.workspace, preset_id)
    settings = preset_settings(project, preset)
    project.save_settings(settings, preset.id, repeats_follow=True)
    project.decided("preset chosen", preset=preset.id)
    return settings


def follow_pictures(project: Project) -> None:
    """Fit the preset's repeats to the number of pictures there are now, unless somebody has set them: a preset chosen before
    the pictures came could not know how many. Does nothing where the settings or the preset cannot be read."""
    try:
        preset = current_preset(project) if project.repeats_follow else None
        pictures = teaching_count(project) if preset and preset.pictures_per_epoch else 0
        if preset is None or not pictures:
            return
        before, after = project.settings, presets.repeats_for(preset, pictures)
        if before.repeats == after:
            return
        project.save_settings(before.model_copy(update={"repeats": after}), repeats_follow=True)
        project.decided("repeats follow the pictures", repeats=after, pictures=pictures)
    except StudioError:
        return  # whoever reads them next says what is wrong with them


def first_settings(project: Project) -> TrainingSettings:
    """The project's settings; before any were chosen, those of its family's standard preset, which is stored with that."""
    if (project.folder / "settings.yaml").exists():
        return project.settings
    return choose_preset(project, presets.default_for(project.workspace, entry_of(project)).id)


def choose_base_model(project: Project, model_id: str) -> presets.Preset | None:
    """Take another base model. When it is of another family, or no settings were chosen yet, the like preset of that family
    is applied and returned, because learning rate, resolution and memory differ; else None. Raises NotFoundError."""
    entry, intent = models.get_model(project.workspace, model_id), project.intent
    if entry.id == intent.base_model:
        return None
    before = entry_of(project) if _known(project) else None
    project.save_intent(intent.model_copy(update={"base_model": entry.id}))
    project.decided("base model chosen", base_model=entry.id)
    alike = before is not None and before.family == entry.family
    if before and alike and (before.format == "cloud") == (entry.format == "cloud") and project.preset:
        return None
    length = project.preset.rpartition("-")[2]
    offered = presets.presets_for(project.workspace, entry)
    preset = next((p for p in offered if p.id == f"{entry.family}-{length}"), None)
    preset = preset or presets.default_for(project.workspace, entry)
    choose_preset(project, preset.id)
    return preset


def _known(project: Project) -> bool:
    return any(m.id == project.intent.base_model for m in models.list_models(project.workspace))


def change(project: Project, values: dict[str, Any], *, follow_rank: bool = True) -> list[Followed]:
    """Store some settings, and those that have to follow; what followed.

    A new optimizer takes its learning rate along. follow_rank: a new rank takes alpha along, so that the strength of what
    is learned stays as it was. A setting that is named in `values` itself never follows.
    Raises InputError carrying every problem at once; nothing is stored then.
    """
    before = project.settings
    asked = parse_settings({**before.model_dump(), **values})
    _without_secrets(asked)
    followed = [f for f in _follow(project, before, asked, follow_rank) if f.name not in values]
    after = parse_settings({**asked.model_dump(), **{f.name: f.after for f in followed}})
    differing = changed(after, before)
    fixed = "repeats" in values and project.repeats_follow
    if differing or fixed:
        project.save_settings(after, repeats_follow=False if fixed else None)
    if differing:
        project.decided("settings changed", changes={n: [str(a), str(b)] for n, (a, b) in differing.items()})
    return followed


def _without_secrets(settings: TrainingSettings) -> None:
    """Raises InputError when an option holds a token or a key, which would stand in the settings' file and in the history."""
    names = extra.secrets_in(settings.extra_options)
    if not names:
        return
    named = ", ".join(f"'{n}'" for n in names if n)
    raise InputError(
        "This was not stored: it looks like a secret.",
        f"{named or 'A line'} under Further options holds an access token or a key. Settings are written into files, the history "
        "and the record of each run, and those are shared.",
        "Remove it. A training sends nothing anywhere and needs no token; downloads take theirs from the environment or the "
        "keyring, as the set-up page says.",
    )


def _follow(
    project: Project, before: TrainingSettings, asked: TrainingSettings, follow_rank: bool
) -> list[Followed]:
    found = []
    if asked.optimizer != before.optimizer:
        rate = _rate_for(project, before, asked.optimizer)
        if rate != before.learning_rate:
            why = (
                "Prodigy finds the rate by itself and wants 1."
                if asked.optimizer == "prodigy"
                else f"This is the rate that goes with {asked.optimizer}."
            )
            found.append(Followed("learning_rate", before.learning_rate, rate, why))
        if asked.optimizer == "prodigy" and before.text_encoder_lr:
            found.append(
                Followed(
                    "text_encoder_lr", before.text_encoder_lr, 0.0, "Prodigy keeps one rate for everything."
                )
            )
        decay = (
            before.weight_decay
            / DECAY_SHARE.get(before.optimizer, 1.0)
            * DECAY_SHARE.get(asked.optimizer, 1.0)
        )
        decay = float(f"{min(1.0, decay):.3g}")
        if decay != before.weight_decay:
            found.append(
                Followed("weight_decay", before.weight_decay, decay, "Rate times decay stays as it was.")
            )
        if asked.optimizer == "adafactor" and entry_of(project).family == "flux" and before.max_grad_norm:
            found.append(
                Followed(
                    "max_grad_norm", before.max_grad_norm, 0.0, "For FLUX Adafactor goes without clipping."
                )
            )
    if follow_rank and asked.rank != before.rank:
        alpha = float(f"{before.alpha / before.rank * asked.rank:.3g}")
        alpha = min(512.0, max(alpha, 0.01))
        if alpha != before.alpha:
            found.append(Followed("alpha", before.alpha, alpha, "It keeps its share of the rank."))
    return found


def _rate_for(project: Project, before: TrainingSettings, optimizer: str) -> float:
    """The learning rate for another optimizer that goes as far as the present one. Prodigy's 1 says nothing about that, so
    the preset's rate is taken after it."""
    if optimizer == "prodigy":
        return 1.0
    known = before if before.optimizer in RATE_SHARE else reference(project)
    if known.optimizer not in RATE_SHARE:  # a preset of the user's own may be for Prodigy, too
        plain = USUAL_RATE.get(entry_of(project).family, 1e-4)
    else:
        plain = known.learning_rate / RATE_SHARE[known.optimizer]
    return float(f"{plain * RATE_SHARE[optimizer]:.3g}")


def check_takes_configs(project: Project) -> None:
    """Raises InputError when sd-scripts cannot train the project's base model: nobody would read an imported config."""
    entry = entry_of(project)
    if entry.format == "cloud":
        raise InputError(
            f"A config of sd-scripts cannot be taken over for {entry.title}.",
            "This base model is rented: Replicate trains it with its own program, which does not read such a file.",
            "Choose a base model that lies on this computer, then take the file over.",
        )
    if entry.family not in options.SCRIPTS:
        raise InputError(
            f"{entry.title} cannot be trained with sd-scripts.",
            "The file's settings would have nobody to read them.",
            "Choose another base model first.",
        )


def import_changes(project: Project, told: Imported) -> dict[str, tuple[Any, Any]]:
    """What taking over another program's config would change: setting -> (value now, value then). Raises InputError."""
    return changed(_imported(project, told), project.settings)


def _imported(project: Project, told: Imported) -> TrainingSettings:
    check_takes_configs(project)
    return parse_settings(
        {**project.settings.model_dump(), "extra_options": (), **told.values, "backend": "kohya"}
    )


def take_over(project: Project, told: Imported) -> None:
    """Store what was read from another program's config, to be trained by sd-scripts; `put_back` undoes it. Raises InputError."""
    asked = _imported(project, told)
    _without_secrets(asked)
    project.save_settings(asked, repeats_follow=False if "repeats" in told.values else None)
    project.decided("settings imported", kind=told.kind, left=[x.name for x in told.left])


def put_back(project: Project, settings: TrainingSettings, repeats_follow: bool = False) -> None:
    """Store settings that were there before, and whether their repeats followed the pictures."""
    project.save_settings(settings, repeats_follow=repeats_follow)
    project.decided("settings put back")


def reset(project: Project, names: list[str]) -> None:
    """Take settings back to what they would be without the user. Raises KeyError for an unknown name."""
    usual = reference(project)
    change(project, {n: getattr(usual, knobs()[n].name) for n in names}, follow_rank=False)
    if "repeats" in names:
        project.save_settings(project.settings, repeats_follow=current_preset(project) is not None)


def remarks(project: Project, settings: TrainingSettings | None = None) -> list[Finding]:
    """What blocks these settings or is worth a look: values outside of their usual range, and what the backend says against
    them. The config gate says it too, but while choosing is when it can be mended."""
    now = settings or project.settings
    told = [*unusual(now), *get_backend(now.backend).check(now, detect(), entry_of(project))]
    return [f for f in told if f.severity != "info"]


def listed(project: Project, settings: TrainingSettings | None = None) -> list[Choice]:
    """Every setting in the order of the form, each with who decided it."""
    now, usual, plain = settings or project.settings, reference(project), TrainingSettings()
    found = []
    for knob in knobs().values():
        if READ_BY.get(knob.group, now.backend) != now.backend:
            continue  # nobody would read them
        value, expected = getattr(now, knob.name), getattr(usual, knob.name)
        origin: Origin = "yours"
        if value == expected:
            origin = "default" if value == getattr(plain, knob.name) else "preset"
        found.append(Choice(knob, value, expected, origin))
    return found


@dataclass(frozen=True)
class Ability:
    """What a computer is enough for. state: well, tight (only with savings), slow (no graphics card), not."""

    family: str
    state: Literal["well", "tight", "slow", "not"]
    words: str


def abilities(workspace: Workspace, machine: Machine) -> list[Ability]:
    """For each family, whether its standard preset fits this computer's memory with the usual margin, and whether a graphics
    card makes it quick enough."""
    found = [Ability("pocket", "well", "The pocket model trains in about a minute, here and everywhere.")]
    for family, title in (("sd15", "SD1.5"), ("sdxl", "SDXL")):
        settings = parse_settings(dict(presets.default_preset(workspace, family).settings))
        if machine.device == "cpu":
            found.append(
                Ability(family, "slow", f"{title} would take hours to days without an NVIDIA graphics card.")
            )
            continue
        saving = settings.model_copy(update={"batch_size": 1, "gradient_checkpointing": True})
        if estimate(family, settings, [20]).fits(machine.memory_bytes):
            found.append(Ability(family, "well", f"{title} trains well."))
        elif estimate(family, saving, [20]).fits(machine.memory_bytes):
            found.append(
                Ability(family, "tight", f"{title} trains with gradient checkpointing and a batch of one.")
            )
        else:
            found.append(Ability(family, "not", f"{title} does not fit into the card's memory."))
    return found
