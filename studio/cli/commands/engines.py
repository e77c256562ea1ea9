"""Engines beside the built-in one: which are set up, and setting one up."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from studio.cli.context import Context
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import text
from studio.findings import Finding

GROUP = "Computer"


def _check(args: Namespace) -> list[Finding]:
    if args.python and not args.folder:
        return [
            Finding(
                severity="block",
                code="folder-missing",
                what="--python goes with a folder.",
                why="It names the Python of the sd-scripts in that folder.",
                fix="Add the folder: setup sd-scripts FOLDER --python PYTHON.",
            )
        ]
    if args.forget and args.folder:
        return [
            Finding(
                severity="block",
                code="forget-folder",
                what="--forget takes no folder.",
                why="There is one sd-scripts in use at a time, and that one is forgotten.",
                fix="Leave the folder out, or leave --forget out.",
            )
        ]
    return []


def _setup(ctx: Context, args: Namespace) -> Reply:
    from studio.training.sdscripts import install, options

    ws = ctx.workspace
    if args.forget:
        install.forget(ws)
        ctx.out.good("The kohya backend is not set up any more. The folder of sd-scripts stays as it is.")
        return Reply({"installed": None})
    if args.folder:
        install.adopt(ws, Path(args.folder), Path(args.python) if args.python else None)
    used = install.needed(ws)
    ctx.out.say("Asking sd-scripts; the first time this takes a minute.")
    found: list[Finding] = []
    facts: dict[str, Any] = {}
    for family in ("sd15", "sdxl"):
        some, facts = install.findings(ws, family)
        found += [f for f in some if f not in found]
    ctx.out.heading("sd-scripts")
    ctx.out.facts(
        [
            ("Folder", used.source),
            ("Python", used.python),
            ("Version", used.commit[:8] or "unknown"),
            ("Known to the studio", options.commit()[:8]),
            ("PyTorch", facts.get("torch", "")),
            ("Graphics card", facts.get("gpu", "none")),
        ]
    )
    ctx.out.findings(found)
    bad = [f for f in found if f.severity == "block"]
    data: dict[str, Any] = {
        "installed": used.as_dict(),
        "known": options.commit(),
        "facts": facts,
        "findings": [f.model_dump(mode="json") for f in found],
    }
    if bad:
        return Reply({**data, "what": bad[0].what, "why": bad[0].why, "fix": bad[0].fix}, code=6)
    ctx.out.good("It can be used.")
    ctx.out.next("lora-studio config set backend=kohya")
    return Reply(data)


COMMANDS = (
    Command(
        "setup sd-scripts",
        GROUP,
        "Use kohya's sd-scripts that are on this computer, and check that they work.",
        _setup,
        words=(
            Word(
                "FOLDER",
                "The folder that git cloned; left out, the one in use is checked.",
                convert=text(4000),
            ),
        ),
        options=(
            Option(
                "--python",
                "The Python of its environment; otherwise venv or .venv inside of the folder.",
                metavar="FILE",
                convert=text(4000),
            ),
            Option("--forget", "Use it no more. Nothing is deleted."),
        ),
        details="Nothing in the folder is changed. The kohya backend then starts it in its own environment.",
        examples=("setup sd-scripts ~/sd-scripts", "setup sd-scripts"),
        check=_check,
        project=False,
    ),
)
