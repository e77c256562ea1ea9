"""Doctor: what this computer has, and what it lacks."""

from __future__ import annotations

import sys
from argparse import Namespace

from studio import __version__, files, machine, models
from studio.cli.context import Context
from studio.cli.spec import Command, Option, Reply
from studio.findings import Finding, blocking, summary

NEEDED = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors")
ROOM_BLOCK = 200_000_000  # bytes: a pocket run with its checkpoints and grid fits in this
ROOM_WARN = 5_000_000_000  # bytes: an SD1.5 run with checkpoints and states


def look(ctx: Context) -> tuple[machine.Machine, list[Finding]]:
    """This computer, and findings about it."""
    m = machine.detect()
    found = []
    missing = [p for p in NEEDED if p not in m.packages]
    if missing:
        found.append(
            Finding(
                severity="block",
                code="package-missing",
                what=f"Packages are missing: {', '.join(missing)}.",
                why="The built-in backend trains and draws with them.",
                fix=f"{sys.executable} -m pip install -r requirements.txt",
                where=tuple(missing),
            )
        )
    free = files.free_bytes(ctx.workspace.root)
    if free < ROOM_WARN:
        found.append(
            Finding(
                severity="block" if free < ROOM_BLOCK else "warn",
                code="disk-low",
                what=f"{files.human_size(free)} are free on the disk of the workspace.",
                why="Checkpoints, states and pictures need room; a full disk ends a run.",
                fix="Free some room, or move the workspace with --home or STUDIO_HOME.",
            )
        )
    pocket = next((e for e in models.list_models(ctx.workspace) if e.embedded), None)
    if pocket is None or pocket.location(ctx.workspace) is None:
        found.append(
            Finding(
                severity="block",
                code="pocket-missing",
                what="The built-in base model is not here.",
                why="Its folder data/pocket is missing or was changed.",
                fix="Get the studio's files again.",
            )
        )
    if not m.gpus:
        found.append(
            Finding(
                severity="info",
                code="no-gpu",
                what="No graphics card was found.",
                why="SD1.5 and SDXL take hours to days without one; the pocket model takes about a minute.",
                fix="Use the pocket model here, or a computer with an NVIDIA card for the large ones.",
            )
        )
    return m, found


def load() -> list[Finding]:
    """Whether the backend's packages really load, asked in a process of its own."""
    from studio import environment

    return environment.package_findings(environment.probe(NEEDED))


def _doctor(ctx: Context, args: Namespace) -> Reply:
    m, found = look(ctx)
    if args.load and not any(f.code == "package-missing" for f in found):
        found += load()
    entries = models.list_models(ctx.workspace)
    here = [e.id for e in entries if e.location(ctx.workspace) is not None]
    ctx.out.facts(
        [
            ("LoRA Studio", __version__),
            ("Python", f"{m.python} ({sys.executable})"),
            ("System", m.system),
            ("Computer", m.words),
            *[(name, version) for name, version in m.packages.items()],
            ("Workspace", ctx.workspace.root),
            ("Free disk", files.human_size(files.free_bytes(ctx.workspace.root))),
            ("Base models", ", ".join(here) or "none"),
        ]
    )
    ctx.out.findings(found)
    ctx.out.say()
    blocked = blocking(found)
    if blocked:
        ctx.out.say(f"Not ready: {summary(found)}.", "bold red")
    else:
        ctx.out.good("Ready: this computer can train the pocket model and draw its grid.")
    return Reply(
        {
            "version": __version__,
            "machine": m.as_dict(),
            "workspace": str(ctx.workspace.root),
            "free_bytes": files.free_bytes(ctx.workspace.root),
            "models_here": here,
            "findings": [f.model_dump(mode="json") for f in found],
        },
        code=6 if blocked else 0,
    )


COMMANDS = (
    Command(
        "doctor",
        "Help",
        "Look at this computer: what is here, and what is missing.",
        _doctor,
        options=(Option("--load", "Also load PyTorch and its companions, which takes some seconds."),),
        project=False,
    ),
)
