"""Presets and settings."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from studio import choices, files, gates, models, presets
from studio.cli import settings_flags
from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import Bad, did_you_mean, folder, text
from studio.errors import NotFoundError
from studio.findings import Finding
from studio.project import Project
from studio.settings import changed, knobs, parse_settings, unusual
from studio.training.sdscripts import options

GROUP = "Settings and gates"


# --- presets
def get_preset(ctx: Context, preset_id: str) -> presets.Preset:
    """A preset by id, with the nearest name when there is none. Raises NotFoundError."""
    known = [p.id for p in presets.list_presets(ctx.workspace)]
    if preset_id not in known:
        raise NotFoundError(
            f"There is no preset called '{preset_id}'.",
            "Neither the studio nor your workspace has it.",
            f"{did_you_mean(preset_id, known)} Use one of: {', '.join(known)}.".strip(),
        )
    return presets.get_preset(ctx.workspace, preset_id)


def _presets(ctx: Context, args: Namespace) -> Reply:
    family = args.family
    if family is None and not args.all and ctx.workspace.project_slugs():
        project = ctx.project()
        family = models.get_model(ctx.workspace, project.intent.base_model).family
    found = presets.list_presets(ctx.workspace, None if args.all else family)
    if not found:
        families = sorted({p.family for p in presets.list_presets(ctx.workspace)})
        raise NotFoundError(
            f"There are no presets for '{family}'.",
            "No preset names that family.",
            f"{did_you_mean(str(family), families)} Use one of: {', '.join(families)}.".strip(),
        )
    for p in found:
        ctx.out.say()
        ctx.out.say(f"{p.id}: {p.title}", "bold")
        ctx.out.paragraph(p.summary, "  ")
        ctx.out.paragraph(f"For: {p.who}", "  ")
        ctx.out.paragraph(f"Needs: {p.memory}. Takes: {p.time}.", "  ", "dim")
    ctx.out.next("lora-studio config reset --preset ID")
    return Reply({"presets": [p.model_dump(mode="json") for p in found]})


# --- settings
def words_of(value: Any) -> str:
    """A setting's value as a person writes it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return " | ".join(map(str, value)) or "none"
    return str(value)


def show_changes(ctx: Context, changes: dict[str, tuple[Any, Any]]) -> None:
    """Settings before and after, as a table."""
    ctx.out.table(
        ["Setting", "Before", "After"],
        [[knobs()[n].title, words_of(a), words_of(b)] for n, (a, b) in changes.items()],
    )


def _show(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    settings = project.settings
    every = choices.listed(project)
    shown = [c for c in every if args.all or c.knob.level == "basic" or c.origin == "yours"]
    ctx.out.facts([("Project", project.slug), ("Preset", project.preset or "none: built-in defaults")])
    for group in dict.fromkeys(c.knob.group for c in shown):
        ctx.out.heading(group)
        ctx.out.table(
            ["Setting", "Value", "From", "Range"],
            [
                [
                    c.knob.name,
                    words_of(c.value) + (f" ({c.knob.zero})" if c.knob.zero and c.value == 0 else ""),
                    c.origin,
                    c.knob.range_words,
                ]
                for c in shown
                if c.knob.group == group
            ],
        )
    found = unusual(settings)
    ctx.out.findings(found)
    if not args.all:
        ctx.out.say()
        ctx.out.dim("Only the basic settings and your own; --all shows every one.")
    return Reply(
        {
            "project": project.slug,
            "preset": project.preset,
            "settings": settings.model_dump(mode="json"),
            "origin": {c.knob.name: c.origin for c in every},
            "changed": {c.knob.name: [c.usual, c.value] for c in every if c.origin == "yours"},
            "findings": [f.model_dump(mode="json") for f in found],
        }
    )


def save_changes(ctx: Context, project: Project, values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Store some settings over the project's own, and those that follow from them; what differs now, shown.

    Raises InputError with every problem.
    """
    if not values:
        return {}
    before = project.settings
    followed = choices.change(project, values)
    differing = changed(project.settings, before)
    show_changes(ctx, differing)
    for f in followed:
        ctx.out.dim(f"{knobs()[f.name].title} follows. {f.why}")
    return differing


def _set(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    differing = save_changes(ctx, project, settings_flags.given(args))
    told = choices.remarks(project)
    found = [f for f in told if set(f.where) & differing.keys()]
    if differing:
        ctx.out.good(f"Saved in {project.folder / 'settings.yaml'}.")
    else:
        ctx.out.say("These settings had these values already.")
    ctx.out.findings(found)
    return Reply(
        {
            "project": project.slug,
            "changed": {n: list(v) for n, v in differing.items()},
            "settings": project.settings.model_dump(mode="json"),
            "findings": [f.model_dump(mode="json") for f in found],
        }
    )


def _check_set(args: Namespace) -> list[Finding]:
    found = settings_flags.check(args)
    if not found and not settings_flags.given(args):
        found.append(
            problem(
                "No setting was given.",
                "config set changes the settings that are named.",
                "Write for example `lora-studio config set rank=16 epochs=20`.",
            )
        )
    return found


def setting_name(raw: str) -> str:
    """The name of a setting, spelt with hyphens or underscores. Raises values.Bad."""
    name = raw.strip().lstrip("-").replace("-", "_")
    if name not in knobs():
        raise Bad(
            "There is no such setting.",
            f"{did_you_mean(name, knobs())} `lora-studio config show --all` lists them.".strip(),
        )
    return name


def _reset(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    before, preset_id = project.settings, project.preset
    if args.name:
        usual = choices.reference(project)
        after = parse_settings({**before.model_dump(), **{n: getattr(usual, n) for n in args.name}})
        what = f"{len(args.name)} settings"
    else:
        preset = (
            get_preset(ctx, args.preset)
            if args.preset
            else presets.default_for(ctx.workspace, choices.entry_of(project))
        )
        after, preset_id = choices.preset_settings(project, preset), preset.id
        what = f"the settings of '{preset.id}'"
    differing = changed(after, before)
    show_changes(ctx, differing)
    if not differing:
        ctx.out.say("The settings are these already.")
    applied = not differing or ctx.agreed(f"Go back to {what}?")
    if applied:
        if args.name:
            choices.reset(project, args.name)
        else:
            choices.choose_preset(project, preset_id)
        ctx.out.good("Done.")
    return Reply(
        {
            "project": project.slug,
            "preset": project.preset,
            "applied": applied,
            "changed": {n: list(v) for n, v in differing.items()},
        }
    )


def _check_reset(args: Namespace) -> list[Finding]:
    if args.name and args.preset:
        return [
            problem(
                "Settings and --preset were both given.",
                "Either some settings go back to their usual values, or a preset fills all of them.",
                "Keep one of them.",
            )
        ]
    return []


def _native(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    native = gates.native_files(project)
    if not native:
        raise NotFoundError(
            "There is no run to describe yet.",
            "The project has no pictures.",
            "Import some: lora-studio import FOLDER",
        )
    for name, content in native.items():
        ctx.out.heading(name)
        ctx.out.say(content.rstrip())
    saved = []
    if args.save is not None:
        for name, content in native.items():
            place = files.inside(args.save, name)
            files.write_text(place, content)
            saved.append(str(place))
            ctx.out.good(f"Saved {place}")
    return Reply({"project": project.slug, "files": native, "saved": saved})


def _import(ctx: Context, args: Namespace) -> Reply:
    from studio.training.sdscripts.importing import read_file

    project = ctx.project()
    family = choices.entry_of(project).family
    told = read_file(Path(args.file).expanduser(), family if family in options.SCRIPTS else "sd15")
    choices.check_takes_configs(project)
    ctx.out.heading(told.kind)
    differing = choices.import_changes(project, told)
    show_changes(ctx, differing)
    if told.left:
        ctx.out.heading("Not carried over")
        ctx.out.table(["Name", "Value", "Why"], [[x.name, words_of(x.value), x.why] for x in told.left])
    if told.same:
        ctx.out.dim(f"{told.same} further lines say what would be so anyway.")
    ctx.out.findings(told.findings)
    applied = bool(differing) and ctx.agreed("Take these settings over?")
    if applied:
        choices.take_over(project, told)
        ctx.out.good(f"Saved in {project.folder / 'settings.yaml'}.")
    elif not differing:
        ctx.out.say("The settings are these already.")
    return Reply(
        {
            "project": project.slug,
            "applied": applied,
            "changed": {n: list(v) for n, v in differing.items()},
            "imported": told.as_dict(),
        }
    )


COMMANDS = (
    Command(
        "presets",
        GROUP,
        "List the presets that fit the project's base model.",
        _presets,
        options=(
            Option(
                "--family", "Only presets for this family of base models.", metavar="FAMILY", convert=text(40)
            ),
            Option("--all", "Presets for every family."),
        ),
    ),
    Command(
        "config show",
        GROUP,
        "Show the settings of the next run.",
        _show,
        options=(Option("--all", "Every setting, not only the basic and the changed ones."),),
    ),
    Command(
        "config set",
        GROUP,
        "Change settings of the next run.",
        _set,
        words=(Word("NAME=VALUE", "Settings with their values, such as rank=16.", many=True),),
        options=settings_flags.setting_options(),
        details="Write settings as name=value or as flags; both mean the same. Either all of them are saved or none. A new rank takes alpha along, and a new optimizer its learning rate, unless you name those too.",
        examples=("config set rank=16 epochs=20", "config set --optimizer prodigy --learning-rate 1"),
        check=_check_set,
    ),
    Command(
        "config reset",
        GROUP,
        "Fill the settings from a preset, or take some back to their usual values.",
        _reset,
        words=(
            Word(
                "NAME",
                "Settings to take back; all of them when none is named.",
                many=True,
                convert=setting_name,
            ),
        ),
        options=(
            Option(
                "--preset",
                "The preset's id; the standard one of the base model's family when left out.",
                metavar="ID",
                convert=text(80),
            ),
            YES,
        ),
        details="Shows what would change first.",
        examples=("config reset --preset pocket-quick --yes", "config reset rank alpha"),
        check=_check_reset,
    ),
    Command(
        "config import",
        GROUP,
        "Take settings over from a config of sd-scripts or kohya_ss.",
        _import,
        words=(
            Word(
                "FILE",
                "A .toml of sd-scripts (training or dataset) or a .json that kohya_ss saved.",
                required=True,
                convert=text(4000),
            ),
        ),
        options=(YES,),
        details="Shows what would change, and names everything that stays behind with the reason. What the file leaves to the "
        "scripts' defaults is taken over as well, since the studio's own defaults differ. The backend becomes kohya.",
        examples=("config import lora.toml", "config import my-sdxl.json --yes"),
    ),
    Command(
        "config native",
        GROUP,
        "Show the backend's own config files for the next run.",
        _native,
        options=(Option("--save", "Also write them into this folder.", metavar="FOLDER", convert=folder),),
    ),
)
