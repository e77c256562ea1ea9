"""Projects: make one, list them, choose one."""

from __future__ import annotations

import re
from argparse import Namespace
from typing import Any

from studio import choices, files, models
from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import did_you_mean, one_of, text
from studio.errors import InputError, NotFoundError
from studio.findings import Finding
from studio.interview import change_trigger, check_trigger, suggest_trigger
from studio.project import KINDS, Intent, create_project, trigger_problems


def _new(ctx: Context, args: Namespace) -> Reply:
    name = args.name_word or args.name
    trigger = args.trigger or suggest_trigger(name, ctx.workspace, args.base_model)
    entries = models.list_models(ctx.workspace)
    if args.base_model not in {m.id for m in entries}:
        near = did_you_mean(args.base_model, [m.id for m in entries])
        raise NotFoundError(
            f"There is no base model called '{args.base_model}'.",
            "It is neither built in nor added on this computer.",
            f"{near} Use one of: {', '.join(m.id for m in entries)}.".strip(),
        )
    intent = Intent(
        kind=args.kind,
        name=name,
        trigger=trigger,
        description=args.description or "",
        base_model=args.base_model,
        notes=args.notes or "",
    )
    project = create_project(ctx.workspace, intent)
    warnings = check_trigger(trigger, ctx.workspace, args.base_model)
    kind = KINDS[args.kind]
    low, high = kind["images"]
    ctx.out.good(f"Made the project '{project.slug}'.")
    ctx.out.facts(
        [
            ("Teaches", f"{kind['title'].lower()}: {kind['words']}"),
            ("Trigger word", f"{trigger}{'' if args.trigger else ' (proposed; change it with --trigger)'}"),
            ("Base model", models.get_model(ctx.workspace, args.base_model).title),
            ("Pictures", f"{low} to {high}. {kind['why']}"),
            ("Folder", project.folder),
        ]
    )
    ctx.out.findings(warnings)
    ctx.out.next("lora-studio import FOLDER")
    return Reply(
        {
            "project": project.slug,
            "folder": str(project.folder),
            "intent": intent.model_dump(mode="json"),
            "findings": [f.model_dump(mode="json") for f in warnings],
        }
    )


def _check_new(args: Namespace) -> list[Finding]:
    found = []
    name = args.name_word or args.name
    if name is None:
        found.append(
            problem(
                "NAME is missing.",
                "A project is called something.",
                'Type for example `lora-studio new "Ink landscapes" --kind style`.',
            )
        )
    if args.name_word and args.name and args.name_word != args.name:
        found.append(
            problem(
                f"Two names are given: '{args.name_word}' and '{args.name}'.",
                "A project has one; words with spaces between them need quotes.",
                "Keep one of them.",
            )
        )
    if name and not re.search(r"\w", name):
        found.append(
            problem(
                f"'{name}' cannot be a project's name.",
                "It has no letter or digit, so no folder can be named after it.",
                "Use a name such as 'Ink landscapes'.",
            )
        )
    if args.trigger:
        found += [f for f in trigger_problems(args.trigger) if f.severity == "block"]
    return found


def _projects(ctx: Context, args: Namespace) -> Reply:
    slugs = ctx.workspace.project_slugs()
    last = str(ctx.workspace.preferences().get("last_project", ""))
    rows: list[dict[str, Any]] = []
    for slug in slugs:
        project = ctx.named(slug)
        row: dict[str, Any] = {"project": slug, "current": slug == last, "folder": str(project.folder)}
        try:
            intent = project.intent
            row |= {
                "name": intent.name,
                "kind": intent.kind,
                "trigger": intent.trigger,
                "base_model": intent.base_model,
                "error": None,
            }
        except InputError as e:
            row |= {"name": slug, "kind": "", "trigger": "", "base_model": "", "error": e.as_dict()}
        rows.append(row)
    ctx.out.table(
        ["", "Project", "Name", "Kind", "Trigger word", "Base model"],
        [
            [
                "*" if r["current"] else "",
                r["project"],
                r["name"],
                r["kind"] or "cannot be read",
                r["trigger"],
                r["base_model"],
            ]
            for r in rows
        ],
    )
    if not rows:
        ctx.out.say(f"There is no project yet in {ctx.workspace.root}.")
        ctx.out.next("lora-studio new NAME --kind style   or   lora-studio demo")
    elif any(r["current"] for r in rows):
        ctx.out.dim("* is meant when no -p is given.")
    return Reply({"workspace": str(ctx.workspace.root), "projects": rows})


def _open(ctx: Context, args: Namespace) -> Reply:
    from studio.cli.commands.status import project_status

    if args.slug and args.project and args.slug != args.project:
        raise InputError(
            "Two projects are named.", f"They are {args.slug} and {args.project}.", "Name one of them."
        )
    project = ctx.named(args.slug) if args.slug else ctx.project()
    _ = project.intent  # a project that cannot be read does not become the current one
    ctx.workspace.remember(last_project=project.slug)
    ctx.out.good(f"'{project.slug}' is the current project now.")
    return project_status(ctx, project)


def _edit(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    intent = project.intent
    wanted = {n: getattr(args, n) for n in EDITABLE if getattr(args, n) is not None}
    changes = {n: v for n, v in wanted.items() if v != getattr(intent, n)}
    if "base_model" in changes:
        known = [m.id for m in models.list_models(ctx.workspace)]
        if changes["base_model"] not in known:
            raise NotFoundError(
                f"There is no base model called '{changes['base_model']}'.",
                "It is neither built in nor added on this computer.",
                f"{did_you_mean(changes['base_model'], known)} Use one of: {', '.join(known)}.".strip(),
            )
    ctx.out.table(["What", "Before", "After"], [[n, getattr(intent, n), v] for n, v in changes.items()])
    if "trigger" in changes:
        ctx.out.findings(check_trigger(changes["trigger"], ctx.workspace, intent.base_model))
        ctx.out.say(
            "Every caption gets the new trigger word in front; `lora-studio captions undo` takes that back."
        )
    data: dict[str, Any] = {"project": project.slug, "changes": changes, "applied": False, "preset": None}
    if not changes:
        ctx.out.say("Nothing would change.")
        return Reply(data)
    if not ctx.agreed("Apply this?"):
        return Reply(data)
    plain = {n: v for n, v in changes.items() if n in ("name", "description", "notes", "kind")}
    if plain:
        project.save_intent(intent.model_copy(update=plain))
        project.decided("intent changed", **plain)
    if "trigger" in changes:
        change_trigger(project, changes["trigger"])
    if "base_model" in changes:
        preset = choices.choose_base_model(project, changes["base_model"])
        if preset is not None:
            data["preset"] = preset.id
            ctx.out.say(f"The settings are those of '{preset.id}' now, which suit the base model.")
    ctx.out.good("Done. Gates that looked at this have to be run again.")
    return Reply({**data, "applied": True, "intent": project.intent.model_dump(mode="json")})


EDITABLE = ("name", "kind", "trigger", "base_model", "description", "notes")


def _check_edit(args: Namespace) -> list[Finding]:
    if all(getattr(args, n) is None for n in EDITABLE):
        return [
            problem(
                "Nothing to change was given.",
                "edit changes what is named.",
                "Write for example `lora-studio edit --trigger inkscape02`.",
            )
        ]
    return [f for f in trigger_problems(args.trigger) if f.severity == "block"] if args.trigger else []


def _delete(ctx: Context, args: Namespace) -> Reply:
    from studio.shelf import delete_project

    project = ctx.named(args.slug)
    size = files.human_size(files.folder_size(project.folder))
    ctx.out.say(f"'{project.slug}' with its pictures, captions, runs and grids ({size}) goes to the trash.")
    ctx.out.say("What it registered stays in the library.")
    applied = ctx.agreed(f"Delete '{project.slug}'?")
    trashed = delete_project(project) if applied else None
    if trashed is not None:
        ctx.out.good("Deleted.")
        ctx.out.next(f"lora-studio put-back {trashed.parent.name}, to bring it back")
    return Reply(
        {
            "project": project.slug,
            "applied": applied,
            "trash": trashed.parent.name if trashed is not None else None,
        }
    )


def _put_back(ctx: Context, args: Namespace) -> Reply:
    from studio.shelf import deleted_projects, put_back

    deleted = deleted_projects(ctx.workspace)
    rows = [
        {"trash": d.place.parent.name, "project": d.place.name, "name": d.name, "at": d.at} for d in deleted
    ]
    if args.name is None:
        ctx.out.table(
            ["In the trash", "Project", "Deleted"], [[r["trash"], r["name"], r["at"]] for r in rows]
        )
        if not rows:
            ctx.out.say("No project is in the trash.")
        return Reply({"deleted": rows})
    fitting = [d for d in deleted if args.name in (d.place.parent.name, d.place.name, d.name)]
    if not fitting:
        known = [r["project"] for r in rows]
        raise NotFoundError(
            f"No project '{args.name}' is in the trash.",
            f"It holds: {', '.join(known)}." if known else "It holds no project.",
            f"{did_you_mean(args.name, known)} `lora-studio put-back` lists them.".strip(),
        )
    project = put_back(ctx.workspace, fitting[0].place)
    ctx.workspace.remember(last_project=project.slug)
    ctx.out.good(f"'{project.slug}' is back.")
    return Reply({"project": project.slug})


COMMANDS = (
    Command(
        "new",
        "Projects",
        "Make a project: what to teach, and the word that calls it up.",
        _new,
        words=(
            Word(
                "NAME",
                "How the project is called; in quotes if it has spaces.",
                convert=text(80),
                dest_name="name_word",
            ),
        ),
        options=(
            Option("--name", "The same as an option.", metavar="TEXT", convert=text(80)),
            Option(
                "--kind",
                " ".join(f"{k}: {v['words']}" for k, v in KINDS.items()),
                metavar="{" + ",".join(KINDS) + "}",
                convert=one_of(KINDS),
                required=True,
            ),
            Option(
                "--trigger",
                "The trigger word; leads every caption. Proposed from the name when left out.",
                metavar="WORD",
                convert=text(200),
            ),
            Option(
                "--base-model",
                "Id of a base model; `lora-studio models` lists them.",
                metavar="ID",
                convert=text(80),
                default="pocket",
            ),
            Option("--description", "What is taught, in your words.", metavar="TEXT", convert=text()),
            Option("--notes", "Anything else to remember.", metavar="TEXT", convert=text()),
        ),
        details="The project becomes the current one: the commands that follow mean it when no -p is given.",
        examples=('new "Ink landscapes" --kind style --trigger inkscape01',),
        check=_check_new,
        project=False,
    ),
    Command(
        "projects",
        "Projects",
        "List the projects of the workspace.",
        _projects,
        project=False,
    ),
    Command(
        "open",
        "Projects",
        "Make a project the current one and show where it stands.",
        _open,
        words=(Word("SLUG", "The project's short name."),),
        examples=("open ink-landscapes",),
    ),
    Command(
        "edit",
        "Projects",
        "Change a project's name, trigger word, base model or description.",
        _edit,
        options=(
            Option("--name", "How it is called; its short name stays.", metavar="TEXT", convert=text(80)),
            Option("--kind", "What it teaches.", metavar="{" + ",".join(KINDS) + "}", convert=one_of(KINDS)),
            Option(
                "--trigger", "Another trigger word, also in every caption.", metavar="WORD", convert=text(200)
            ),
            Option(
                "--base-model",
                "Another base model; of another family, it brings its own settings.",
                metavar="ID",
                convert=text(80),
            ),
            Option("--description", "What is taught, in your words.", metavar="TEXT", convert=text()),
            Option("--notes", "Anything else to remember.", metavar="TEXT", convert=text()),
            YES,
        ),
        details="Shows what would change first; --yes applies it.",
        check=_check_edit,
    ),
    Command(
        "delete",
        "Projects",
        "Move a project with everything in it to the trash.",
        _delete,
        words=(Word("SLUG", "The project's short name.", required=True),),
        options=(YES,),
        details="Refused while a job of it runs. `lora-studio put-back` brings it back.",
        project=False,
    ),
    Command(
        "put-back",
        "Projects",
        "Bring a deleted project back; lists them when none is named.",
        _put_back,
        words=(Word("NAME", "Its name, or its place in the trash."),),
        project=False,
    ),
)
