"""What is done with registered LoRAs: bring in, compare, measure again, put into other programs, publish."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from studio import files
from studio.cli.commands.library import LEAVE_OUT, as_data, find_entry, show_entry
from studio.cli.context import Context
from studio.cli.grids import show_grid
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import Bad, existing, listed, lora_file, number, one_of, text, whole
from studio.cli.watch import DETACH, say_failed, watch
from studio.errors import InputError, StudioError
from studio.findings import Finding
from studio.project import KINDS

GROUP = "Evaluation"
LORA = Word("LORA", "Its name in the library.", required=True, convert=text(120))


def _repo(raw: str) -> str:
    from studio.library.hub.publication import checked_repo

    try:
        return checked_repo(raw)
    except StudioError as e:
        raise Bad(e.why, e.fix) from None


def _add(ctx: Context, args: Namespace) -> Reply:
    from studio.library.bring_in import bring_in, propose
    from studio.lora import privacy

    told = propose(ctx.workspace, args.file)
    entry = bring_in(
        ctx.workspace,
        args.file,
        kind=args.kind,
        weight=args.weight,
        title=args.name or "",
        trigger=told.trigger if args.trigger is None else args.trigger,
        base_model=args.base_model or "",
        good_for=args.good_for or "",
        notes=args.notes or "",
        preview=args.preview,
        on_clash=args.on_clash,
        leave_out=privacy.remembered(ctx.workspace) if args.leave_out is None else args.leave_out,
    )
    ctx.out.good(f"Brought in as '{entry.slug}'.")
    show_entry(ctx, entry)
    return Reply({"entry": as_data(ctx, entry)})


def _compare(ctx: Context, args: Namespace) -> Reply:
    from studio.library.compare import compare

    found = compare(ctx.workspace, [find_entry(ctx, name) for name in args.loras])
    rows = [r for r in found.rows if r.differs or not args.differences]
    ctx.out.table(["", *(e.title for e in found.entries)], [[r.label, *r.values] for r in rows])
    for line in found.cautions:
        ctx.out.dim(line)
    return Reply(
        {
            "loras": [e.slug for e in found.entries],
            "rows": [{"group": r.group, "label": r.label, "values": list(r.values), "differs": r.differs} for r in rows],
            "pictures": {p: [str(x) for x in shown] for p, shown in found.shared.items()},
            "cautions": list(found.cautions),
        }
    )  # fmt: skip


def _evaluate(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation.comfy import drawing_options
    from studio.evaluation.grid import Grid, start_grid
    from studio.library.evaluations import evaluation_project, prepare_grid

    entry = find_entry(ctx, args.lora)
    drawing: dict[str, Any] = {}
    if args.renderer:
        project = evaluation_project(ctx.workspace, entry)
        drawing = drawing_options(project, args.renderer, ask=True)
    ready = prepare_grid(ctx.workspace, entry, args.weights or (), **drawing)
    cost = ready.cost
    takes = f", about {files.human_time(cost.seconds)}" if cost.seconds else ""
    ctx.out.heading(f"{cost.cells} pictures ({cost.there} are drawn already){takes}")
    ctx.out.facts(
        [
            ("LoRA", entry.title), ("Base model", entry.base_title), ("Project", ready.project.slug),
            ("Weights", ", ".join(f"{w:g}" for w in ready.spec.weights)), ("Prompts", " | ".join(p.text for p in ready.spec.prompts)),
        ]
    )  # fmt: skip
    told = {"lora": entry.slug, "project": ready.project.slug, "cells": cost.cells, "there": cost.there, "to_render": cost.to_render,
            "seconds": cost.seconds}  # fmt: skip
    if args.plan:
        return Reply(told)
    start_grid(ready.project, ready.spec)
    shown = show_grid(ctx, ready.project, Grid(ready.project.grids_dir / ready.spec.id), args.detach)
    return Reply({**told, **shown.data}, shown.code)


def _place_of(ctx: Context, told: str) -> tuple[Path, bool]:
    """A folder, or the name of a place that was named once; and whether links are wanted there."""
    from studio.library.places import get_place, places

    known = {p.name.lower(): p for p in places(ctx.workspace)}
    if told.strip().lower() in known:
        place = known[told.strip().lower()]
        return place.folder, place.link
    try:
        return existing(told), False
    except Bad as e:
        if known or "/" not in told:
            get_place(ctx.workspace, told)
        raise InputError(f"FOLDER '{told}' cannot be used.", e.why, e.fix) from None


def _copy(ctx: Context, args: Namespace) -> Reply:
    from studio.library.places import ACTION_WORDS, plan, put_into

    entry = find_entry(ctx, args.lora)
    folder, link = _place_of(ctx, args.folder)
    link = link if args.link is None else args.link
    if args.dry_run:
        pieces = plan(ctx.workspace, entry, folder, link=link)
        for piece in pieces:
            ctx.out.say(
                f"{piece.target} ({files.human_size(piece.size)}, {piece.what}) {ACTION_WORDS[piece.action]}"
            )
        return Reply(
            {"files": [{"target": str(p.target), "bytes": p.size, "action": p.action} for p in pieces]}
        )
    placed = put_into(ctx.workspace, entry, folder, link=link)
    ctx.out.good(f"{'Linked' if placed.linked else 'Copied'} to {placed.file}.")
    for path in placed.skipped:
        ctx.out.dim(f"{path.name} is another file there, and stays as it is.")
    ctx.out.next(f'lora-studio library take-back {entry.slug} "{args.folder}", to undo it')
    return Reply(
        {"file": str(placed.file), "linked": placed.linked, "written": [str(p) for p in placed.written],
         "skipped": [str(p) for p in placed.skipped]}
    )  # fmt: skip


def _take_back(ctx: Context, args: Namespace) -> Reply:
    from studio.library.places import take_back

    entry = find_entry(ctx, args.lora)
    gone = take_back(ctx.workspace, entry, _place_of(ctx, args.folder)[0])
    ctx.out.good(f"Taken away: {', '.join(p.name for p in gone.written) or 'nothing was left'}.")
    for path in gone.skipped:
        ctx.out.dim(f"{path} was changed since, and stays.")
    return Reply({"removed": [str(p) for p in gone.written], "kept": [str(p) for p in gone.skipped]})


def _places(ctx: Context, args: Namespace) -> Reply:
    from studio.library.places import add_place, forget_place, places

    if args.forget:
        forget_place(ctx.workspace, args.forget)
        ctx.out.good(f"'{args.forget}' is forgotten; what lies there stays.")
    if args.folder is not None:
        place = add_place(ctx.workspace, args.folder, args.name or "", link=bool(args.link))
        ctx.out.good(f"'{place.name}' is {place.folder}.")
    known = places(ctx.workspace)
    ctx.out.table(
        ["Place", "Folder", "How"], [[p.name, p.folder, "links" if p.link else "copies"] for p in known]
    )
    if not known:
        ctx.out.next("lora-studio library places FOLDER, to name one")
    return Reply({"places": [{"name": p.name, "folder": str(p.folder), "link": p.link} for p in known]})


def _check_places(args: Namespace) -> list[Finding]:
    if args.folder is None and (args.name or args.link):
        return [
            problem(
                "FOLDER is missing.", "--name and --link say something about a folder.", "Add the folder."
            )
        ]
    if args.forget and args.folder is not None:
        return [
            problem(
                "--forget goes alone.", "A folder that is named is not forgotten.", "Leave one of them out."
            )
        ]
    return []


def _publish(ctx: Context, args: Namespace) -> Reply:
    from studio.library.hub.publication import publication
    from studio.library.hub.tasks import need_token, start_publish

    entry = find_entry(ctx, args.lora)
    choices = {"licence": args.licence or "", "leave_out": args.leave_out, "most_pictures": args.pictures}
    what = publication(ctx.workspace, entry, args.repo, private=not args.public, **choices)
    ctx.out.heading(f"{what.repo}, {'private' if what.private else 'public'}")
    ctx.out.table(["File", "Size", ""], [[f.path, files.human_size(f.size), f.what] for f in what.files])
    ctx.out.say()
    ctx.out.say(what.card)
    ctx.out.findings(list(what.cautions))
    if args.dry_run:
        return Reply({**what.as_dict(), "applied": False})
    need_token(ctx.workspace)
    who = "everybody can see it" if args.public else "only you can see it"
    if not ctx.agreed(f"Send these {files.human_size(what.size_bytes)} to {what.repo} ({who})?"):
        return Reply({**what.as_dict(), "applied": False})
    job = start_publish(ctx.workspace, entry, what, update=bool(args.update), **choices)
    if args.detach:
        ctx.out.good(f"It goes on as job {job.id}.")
        return Reply({**what.as_dict(), "applied": True, "job": job.id, "state": job.state})
    ended = watch(ctx.out, job)
    told = {**what.as_dict(), "applied": True, "job": job.id, "state": job.state}
    if ended.state == "finished":
        result = dict(job.result or {})
        ctx.out.good(f"Published: {result['url']}")
        return Reply({**told, "result": result})
    if not ended.left:
        say_failed(ctx.out, job)
    return Reply({**told, "error": dict(job.error or {})}, 1)


COMMANDS = (
    Command(
        "library add", GROUP, "Bring a LoRA file from elsewhere into the library.", _add,
        words=(Word("FILE", "A LoRA file (.safetensors).", required=True, convert=lora_file),),
        options=(
            Option("--kind", "What it teaches.", metavar=f"{{{','.join(KINDS)}}}", convert=one_of(KINDS), required=True),
            Option("--weight", "Recommended weight.", metavar="NUMBER", convert=number(-1, 2, 0.8), default=0.8),
            Option("--trigger", "The word that calls it up; what the file tells when left out.", metavar="WORD", convert=text(200)),
            Option("--base-model", "The model that it is for; the likeliest of its family when left out.", metavar="MODEL", convert=text(120)),
            Option("--name", "Its title; what the file tells when left out.", metavar="TEXT", convert=text(80)),
            Option("--good-for", "What it does well, in your words.", metavar="TEXT", convert=text()),
            Option("--notes", "Anything else to remember.", metavar="TEXT", convert=text()),
            Option("--preview", "A picture to show.", metavar="FILE", convert=existing),
            Option("--on-clash", "When the name is taken: ask refuses, version adds -v2, replace moves the old one to the trash.",
                   metavar="{ask,version,replace}", convert=one_of(("ask", "version", "replace")), default="ask"),
            LEAVE_OUT,
        ),
        examples=("library add ~/Downloads/ink.safetensors --kind style --weight 0.8",), project=False,
        details="The file is only read. Pickle files (.ckpt, .pt, .bin) are refused: they can run code.",
    ),
    Command(
        "library compare", GROUP, "Show two to four registered LoRAs side by side: settings, weight, measurements.", _compare,
        words=(Word("LORA", "Names in the library.", required=True, many=True, convert=text(120), dest_name="loras"),),
        options=(Option("--differences", "Only what differs."),),
        examples=("library compare ink ink-v2 --differences",), project=False,
    ),
    Command(
        "library evaluate", GROUP, "Draw and measure a new grid of a registered LoRA with its base model.", _evaluate, words=(LORA,),
        options=(
            Option("--weights", "Weights to draw besides the recommended one.", metavar="LIST", convert=listed(number(-2, 4, 0.6), "0.4,0.6,0.8")),
            Option("--renderer", "What draws.", metavar="{diffusers,comfyui}", convert=one_of(("diffusers", "comfyui"))),
            Option("--plan", "Only say what it would draw, and what that takes."), DETACH,
        ),
        examples=("library evaluate ink --plan",), project=False,
        details="A LoRA from elsewhere gets a project of its own for its grids.",
    ),
    Command(
        "library places", GROUP, "Name the folders of ComfyUI, A1111 and Forge once; list or forget them.", _places,
        words=(Word("FOLDER", "The program's folder, or its folder for LoRAs, to remember.", convert=existing),),
        options=(
            Option("--name", "What to call it; the program's name when left out.", metavar="TEXT", convert=text(40)),
            Option("--link", "Put links there instead of copies, where the disk allows it."),
            Option("--forget", "Forget a place; what lies there stays.", metavar="NAME", convert=text(40)),
        ),
        examples=("library places ~/ComfyUI --link", "library places"), check=_check_places, project=False,
    ),
    Command(
        "library copy", GROUP, "Put a registered LoRA into the folder of ComfyUI, A1111 or Forge, with its preview and weight.", _copy,
        words=(LORA, Word("FOLDER", "The program's folder, or a place named with `library places`.", required=True, convert=text(4000))),
        options=(
            Option("--link", "Share the bytes instead of copying, where the disk allows it.", negatable=True),
            Option("--dry-run", "Only say what would be written."),
        ),
        examples=("library copy my-style ~/ComfyUI", "library copy my-style ComfyUI --dry-run"), project=False,
    ),
    Command(
        "library take-back", GROUP, "Take a LoRA out of another program's folder again, as far as it is unchanged.", _take_back,
        words=(LORA, Word("FOLDER", "The program's folder, or a place named with `library places`.", required=True, convert=text(4000))),
        examples=("library take-back my-style ComfyUI",), project=False,
    ),
    Command(
        "library publish", GROUP, "Publish a registered LoRA to the Hugging Face hub with a model card; private unless told otherwise.", _publish,
        words=(LORA, Word("REPO", "Where to: ACCOUNT/NAME.", required=True, convert=_repo)),
        options=(
            Option("--public", "Let everybody see and download it."),
            Option("--licence", "The hub's name of a licence; the base model's when left out.", metavar="ID", convert=text(60)),
            Option("--pictures", "How many pictures to show on the card.", metavar="N", convert=whole(0, 6, 4), default=4),
            Option("--update", "Write into a repository that is there already."),
            LEAVE_OUT,
            Option("--dry-run", "Only show the card and the files; ask no server."), DETACH, YES,
        ),
        examples=("library publish ink ann/ink-wash --dry-run",), project=False,
        details="The token is looked for in HF_TOKEN, in secrets.toml and in the system's keyring, and needs the right to write. "
        "Nothing is sent before you agree. Folder names and paths never go along.",
    ),
)  # fmt: skip
