"""The library: register a LoRA, list, show, remove, bring back."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio import files
from studio.cli.context import Context
from studio.cli.jobs import find_grid, find_run
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import did_you_mean, listed, lora_file, number, one_of, text
from studio.errors import NotFoundError
from studio.findings import Finding
from studio.lora.privacy import GROUPS

GROUP = "Evaluation"
LEAVE_OUT = Option(
    "--leave-out",
    f"What the file's metadata shall not tell: {', '.join(GROUPS)}, or none; as last chosen when left out.",
    metavar="WHAT",
    convert=lambda raw: [] if raw.strip().lower() == "none" else listed(one_of(GROUPS), "folders,paths")(raw),
)


def show_entry(ctx: Context, entry: Any) -> None:
    """A registered LoRA as a few lines."""
    ctx.out.facts(
        [
            ("LoRA", entry.slug),
            ("Title", entry.title),
            ("File", entry.file(ctx.workspace)),
            ("Kind", entry.kind),
            ("Trigger word", entry.trigger),
            ("Recommended weight", entry.weight_words),
            ("Base model", f"{entry.base_title} ({entry.base_model})"),
            ("Good for", entry.good_for),
            ("Notes", entry.notes),
            ("From", " ".join(w for w in (entry.project, entry.run or "", entry.checkpoint) if w)),
            ("Verdict", entry.verdict),
            ("Trained", f"{entry.trained[:10]}, {entry.training_words}"),
            ("Size", files.human_size(entry.size_bytes)),
        ]
    )


def as_data(ctx: Context, entry: Any) -> dict[str, Any]:
    """A registered LoRA as plain data, with where it lies."""
    from studio.library.hub.publication import published
    from studio.library.places import placed

    preview = entry.preview(ctx.workspace)
    return {
        **entry.model_dump(mode="json"),
        "file": str(entry.file(ctx.workspace)),
        "preview": str(preview) if preview else None,
        "placed": [{"file": str(p.file), "linked": p.linked} for p in placed(ctx.workspace, entry)],
        "published": published(ctx.workspace, entry),
    }


def _register(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation.grid import list_grids
    from studio.library.register import propose_good_for, register

    project = ctx.project()
    grid = run = None
    if args.lora is None:
        if args.grid is not None or (args.run is None and list_grids(project)):
            grid = find_grid(project, args.grid)
        if args.run is not None or grid is None:
            run = find_run(project, args.run)
    entry = register(
        project,
        grid,
        run,
        args.lora or args.checkpoint,
        args.weight,
        args.good_for or propose_good_for(project, grid),
        args.notes or "",
        name=args.name or "",
        on_clash=args.on_clash,
        leave_out=args.leave_out,
    )
    ctx.out.good(f"Registered as '{entry.slug}'.")
    show_entry(ctx, entry)
    ctx.out.say()
    ctx.out.say(f"The library as a page: {ctx.workspace.root / 'studio.md'}")
    return Reply({"project": project.slug, "entry": as_data(ctx, entry)})


def _check_register(args: Namespace) -> list[Finding]:
    found = []
    if args.lora is not None:
        mixed = [f"--{n}" for n in ("run", "grid", "checkpoint") if getattr(args, n)]
        if mixed:
            found.append(
                problem(
                    f"--lora does not go with {', '.join(mixed)}.",
                    "A file from elsewhere has no run, grid or checkpoint here.",
                    "Leave one of them out.",
                )
            )
        if args.weight is None:
            found.append(
                problem(
                    "--weight is missing.",
                    "No grid says which weight suits a file from elsewhere.",
                    "Add --weight NUMBER, such as --weight 0.8.",
                )
            )
    if args.weight == 0:
        found.append(
            problem("--weight cannot be 0.", "At 0 a LoRA does nothing.", "Use a weight such as 0.7.")
        )
    return found


def _library(ctx: Context, args: Namespace) -> Reply:
    from studio.library.register import list_library

    entries = list_library(ctx.workspace)
    ctx.out.table(
        ["LoRA", "Kind", "Trigger word", "Weight", "Base model", "Registered"],
        [[e.slug, e.kind, e.trigger, e.weight_words, e.base_model, e.registered[:10]] for e in entries],
    )
    if not entries:
        ctx.out.say("The library is empty.")
        ctx.out.next("lora-studio register, after a grid")
    return Reply({"library": [as_data(ctx, e) for e in entries]})


def find_entry(ctx: Context, name: str) -> Any:
    """A registered LoRA by its name. Raises NotFoundError with the nearest name."""
    from studio.library.register import get_entry, list_library

    try:
        return get_entry(ctx.workspace, name)
    except NotFoundError as e:
        known = [x.slug for x in list_library(ctx.workspace)]
        raise NotFoundError(e.what, e.why, f"{did_you_mean(name, known)} {e.fix}".strip()) from None


def _show(ctx: Context, args: Namespace) -> Reply:
    entry = find_entry(ctx, args.lora)
    show_entry(ctx, entry)
    return Reply({"entry": as_data(ctx, entry)})


def _remove(ctx: Context, args: Namespace) -> Reply:
    from studio.library.register import unregister

    entry = find_entry(ctx, args.lora)
    show_entry(ctx, entry)
    applied = ctx.agreed(f"Take '{entry.slug}' out of the library?")
    trashed = unregister(ctx.workspace, entry.slug) if applied else None
    if trashed is not None:
        ctx.out.good(f"It is in the trash: {trashed}")
        ctx.out.next(f"lora-studio library put-back {trashed.parent.name}, to bring it back")
    return Reply(
        {
            "lora": entry.slug,
            "applied": applied,
            "trash": trashed.parent.name if trashed is not None else None,
        }
    )


def _weight(ctx: Context, args: Namespace) -> Reply:
    from studio.library.weight import set_weight, undo_weight

    entry = find_entry(ctx, args.lora)
    changed = None
    if args.undo:
        changed = undo_weight(ctx.workspace, entry.slug)
    elif args.weight is not None:
        changed = set_weight(ctx.workspace, entry.slug, args.weight)
    now = changed.entry if changed else entry
    if changed and changed.before != now.weight:
        ctx.out.good(f"The weight of '{now.slug}' is {now.weight_words}; it was {changed.before:g}.")
        for path in changed.followed:
            ctx.out.dim(f"  {path} tells it too.")
        for path in changed.stays:
            ctx.out.paragraph(f"{path} was changed there and stays as it is.", "  ", "yellow")
    else:
        ctx.out.say(f"The weight of '{now.slug}' is {now.weight_words}.")
    if now.weights_before:
        ctx.out.table(
            ["Before", "Until"],
            [[w.words, w.until[:16].replace("T", " ")] for w in reversed(now.weights_before)],
        )
    return Reply(
        {
            "entry": as_data(ctx, now),
            "changed": bool(changed and changed.before != now.weight),
            "followed": [str(p) for p in changed.followed] if changed else [],
            "stays": [str(p) for p in changed.stays] if changed else [],
        }
    )


def _check_weight(args: Namespace) -> list[Finding]:
    if args.undo and args.weight is not None:
        return [
            problem(
                "--undo does not go with a weight.",
                "It sets the weight before the last change.",
                "Leave one of them out.",
            )
        ]
    return []


def _put_back(ctx: Context, args: Namespace) -> Reply:
    from studio.library.register import restore

    place = files.inside(ctx.workspace.trash_dir, args.trash)
    inner = [p.parent for p in place.glob("*/entry.json")] if place.is_dir() else []
    if not inner:
        known = [p.parent.parent.name for p in ctx.workspace.trash_dir.glob("*/*/entry.json")]
        raise NotFoundError(
            f"The trash holds no LoRA under '{args.trash}'.",
            f"It holds: {', '.join(sorted(known))}." if known else "It holds none.",
            did_you_mean(args.trash, known)
            or "`lora-studio library remove` says the name when it removes one.",
        )
    entry = restore(ctx.workspace, inner[0])
    ctx.out.good(f"'{entry.slug}' is back in the library.")
    return Reply({"entry": as_data(ctx, entry)})


COMMANDS = (
    Command(
        "register",
        GROUP,
        "Put a LoRA into the library with the weight to use.",
        _register,
        options=(
            Option(
                "--grid",
                "The grid whose verdict counts; the newest when left out.",
                metavar="GRID",
                convert=text(120),
            ),
            Option("--run", "A run, when there is no grid.", metavar="RUN", convert=text(120)),
            Option(
                "--checkpoint",
                "Epoch or label of a checkpoint; the verdict's when left out.",
                metavar="NAME",
                convert=text(120),
            ),
            Option("--lora", "A LoRA file from elsewhere.", metavar="FILE", convert=lora_file),
            Option(
                "--weight",
                "Recommended weight; the verdict's when left out.",
                metavar="NUMBER",
                convert=number(-1, 2, 0.7),
            ),
            Option("--good-for", "What it does well, in your words.", metavar="TEXT", convert=text()),
            Option("--notes", "Anything else to remember.", metavar="TEXT", convert=text()),
            Option(
                "--name", "Its title; the project's name when left out.", metavar="TEXT", convert=text(80)
            ),
            Option(
                "--on-clash",
                "When the name is taken: ask refuses, version adds -v2, replace moves the old one to the trash.",
                metavar="{ask,version,replace}",
                convert=one_of(("ask", "version", "replace")),
                default="ask",
            ),
            LEAVE_OUT,
        ),
        examples=("register", "register --weight 0.65 --notes 'faces stay clean'"),
        check=_check_register,
    ),
    Command("library list", GROUP, "List the registered LoRAs.", _library, project=False),
    Command(
        "library show",
        GROUP,
        "Show one registered LoRA.",
        _show,
        words=(Word("LORA", "Its name in the library.", required=True, convert=text(120)),),
        project=False,
    ),
    Command(
        "library weight",
        GROUP,
        "Change the recommended weight of a registered LoRA, or show the weights it had.",
        _weight,
        words=(
            Word("LORA", "Its name in the library.", required=True, convert=text(120)),
            Word("WEIGHT", "The weight to recommend; shown when left out.", convert=number(-1, 2, 0.7)),
        ),
        options=(Option("--undo", "Take back the last change."),),
        project=False,
        examples=("library weight blueprint 0.65", "library weight blueprint --undo"),
        check=_check_weight,
    ),
    Command(
        "library remove",
        GROUP,
        "Take a LoRA out of the library; it goes to the trash.",
        _remove,
        words=(Word("LORA", "Its name in the library.", required=True, convert=text(120)),),
        options=(YES,),
        project=False,
    ),
    Command(
        "library put-back",
        GROUP,
        "Bring back a LoRA from the trash.",
        _put_back,
        words=(
            Word(
                "TRASH",
                "Its name in the trash, as `library remove` told it.",
                required=True,
                convert=text(120),
            ),
        ),
        project=False,
    ),
)
