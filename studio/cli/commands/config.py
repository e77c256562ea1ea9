"""Base models, presets and settings."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio import machine, models, presets
from studio.cli import settings_flags
from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import did_you_mean, existing, text
from studio.errors import NotFoundError
from studio.findings import Finding
from studio.project import Project
from studio.settings import TrainingSettings, changed, knobs, parse_settings, unusual

GROUP = "Settings and gates"


# --- base models
def _models(ctx: Context, args: Namespace) -> Reply:
    rows = []
    for m in models.list_models(ctx.workspace):
        place = m.location(ctx.workspace)
        rows.append({**m.model_dump(mode="json"), "here": place is not None, "location": str(place or "")})
    ctx.out.table(
        ["Id", "Title", "Family", "Resolution", "Here", "Licence"],
        [
            [
                r["id"],
                r["title"],
                r["family"],
                f"{r['resolution']} px",
                "yes" if r["here"] else "no",
                r["licence"],
            ]
            for r in rows
        ],
    )
    return Reply({"models": rows})


def _add_model(ctx: Context, args: Namespace) -> Reply:
    entry = models.add_local_model(ctx.workspace, args.path, args.title or "")
    ctx.out.good(f"Added '{entry.id}': a {entry.family} model. The file stays where it is.")
    ctx.out.next(f'lora-studio new "My style" --kind style --base-model {entry.id}')
    return Reply({"model": entry.model_dump(mode="json")})


def _forget_model(ctx: Context, args: Namespace) -> Reply:
    models.forget_local_model(ctx.workspace, args.id)
    ctx.out.good(f"'{args.id}' is off the list. Its files were not touched.")
    return Reply({"forgotten": args.id})


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


def preset_settings(project: Project, preset: presets.Preset) -> TrainingSettings:
    """What a preset means for this project on this computer."""
    from studio.dataset.folder import look

    entry = models.get_model(project.workspace, project.intent.base_model)
    count = len(look(project.dataset_dir).pictures)
    return presets.fill(preset, entry, count, machine.detect())


def _show(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    settings = project.settings
    reference = TrainingSettings()
    if project.preset:
        with_preset = [p for p in presets.list_presets(ctx.workspace) if p.id == project.preset]
        if with_preset:
            reference = preset_settings(project, with_preset[0])
    differing = changed(settings, reference)
    shown = [k for k in knobs().values() if args.all or k.level == "basic" or k.name in differing]
    ctx.out.facts([("Project", project.slug), ("Preset", project.preset or "none: built-in defaults")])
    for group in dict.fromkeys(k.group for k in shown):
        ctx.out.heading(group)
        ctx.out.table(
            ["Setting", "Value", "", "Usual"],
            [
                [
                    k.name,
                    words_of(getattr(settings, k.name)),
                    "changed" if k.name in differing else "",
                    k.range_words,
                ]
                for k in shown
                if k.group == group
            ],
        )
    found = unusual(settings)
    ctx.out.findings(found)
    if not args.all:
        ctx.out.say()
        ctx.out.dim("Only the basic and the changed settings; --all shows every one.")
    return Reply(
        {
            "project": project.slug,
            "preset": project.preset,
            "settings": settings.model_dump(mode="json"),
            "changed": {n: list(v) for n, v in differing.items()},
            "findings": [f.model_dump(mode="json") for f in found],
        }
    )


def save_changes(ctx: Context, project: Project, values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Store some settings over the project's own; what differs now. Raises InputError with every problem."""
    before = project.settings
    after = parse_settings({**before.model_dump(), **values})
    differing = changed(after, before)
    if differing:
        project.save_settings(after)
        project.decided("settings changed", changes={n: [str(a), str(b)] for n, (a, b) in differing.items()})
    return differing


def _set(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    differing = save_changes(ctx, project, settings_flags.given(args))
    found = [f for f in unusual(project.settings) if set(f.where) & differing.keys()]
    if differing:
        show_changes(ctx, differing)
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


def _reset(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    entry = models.get_model(ctx.workspace, project.intent.base_model)
    before = project.settings
    if args.preset:
        preset = get_preset(ctx, args.preset)
    else:
        preset = presets.default_preset(ctx.workspace, entry.family)
    after = preset_settings(project, preset)
    differing = changed(after, before)
    show_changes(ctx, differing)
    if not differing:
        ctx.out.say(f"The settings are those of '{preset.id}' already.")
        if project.preset != preset.id:
            project.save_settings(after, preset.id)
        applied = True
    else:
        applied = ctx.agreed(f"Replace {len(differing)} settings with those of '{preset.id}'?")
    if applied and differing:
        project.save_settings(after, preset.id)
        project.decided("preset chosen", preset=preset.id)
        ctx.out.good(f"The settings are those of '{preset.id}' now.")
    return Reply(
        {
            "project": project.slug,
            "preset": preset.id,
            "applied": applied,
            "changed": {n: list(v) for n, v in differing.items()},
        }
    )


COMMANDS = (
    Command(
        "models list",
        GROUP,
        "List the base models and whether they are on this computer.",
        _models,
        project=False,
    ),
    Command(
        "models add",
        GROUP,
        "Add a base model that you have; the file stays where it is.",
        _add_model,
        words=(
            Word("PATH", "A .safetensors checkpoint or a diffusers folder.", required=True, convert=existing),
        ),
        options=(Option("--title", "How to call it.", metavar="TEXT", convert=text(80)),),
        examples=("models add ~/models/sd15.safetensors",),
        project=False,
    ),
    Command(
        "models forget",
        GROUP,
        "Take a base model that you added off the list; its files stay.",
        _forget_model,
        words=(Word("ID", "The base model's id.", required=True, convert=text(80)),),
        project=False,
    ),
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
        details="Write settings as name=value or as flags; both mean the same. Either all of them are saved or none.",
        examples=("config set rank=16 epochs=20", "config set --optimizer prodigy --learning-rate 1"),
        check=_check_set,
    ),
    Command(
        "config reset",
        GROUP,
        "Fill the settings from a preset.",
        _reset,
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
        examples=("config reset --preset pocket-quick --yes",),
    ),
)
