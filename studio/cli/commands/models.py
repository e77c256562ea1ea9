"""Base models."""

from __future__ import annotations

from argparse import Namespace

from studio import models
from studio.cli.context import Context
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import existing, text

GROUP = "Settings and gates"


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
)
