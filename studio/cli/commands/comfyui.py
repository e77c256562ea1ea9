"""ComfyUI: naming servers, bringing pictures back, and drawing again what failed."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio.cli.context import Context
from studio.cli.grids import show_grid
from studio.cli.jobs import find_grid
from studio.cli.parser import problem
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import existing, text
from studio.cli.watch import DETACH, WAIT, check_wait
from studio.errors import InputError, NotFoundError
from studio.files import human_memory
from studio.findings import Finding, blocking


def _check_setup(args: Namespace) -> list[Finding]:
    found = []
    if args.forget and not args.address:
        found.append(
            problem("--forget goes with an address.", "It takes one server off the list.", "Name the server.")
        )
    if args.forget and (args.lora_folder or args.model):
        found.append(
            problem(
                "--forget goes with nothing else.",
                "A server that is taken off the list needs no settings.",
                "Leave the other option out.",
            )
        )
    if args.lora_folder and not args.address:
        found.append(
            problem(
                "--lora-folder goes with an address.",
                "Each server has a folder of its own.",
                "Name the server it belongs to.",
            )
        )
    return found


def _setup(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation.comfyui import checking, servers

    ws = ctx.workspace
    if args.forget:
        servers.forget_server(ws, args.address)
        ctx.out.good("It is off the list.")
        return Reply({"servers": [s.address for s in servers.load(ws).servers]})
    if args.address:
        servers.add_server(ws, args.address, args.lora_folder)
    known = servers.load(ws).servers
    if not known:
        raise NotFoundError(
            "No ComfyUI server is known.",
            "The studio draws on a server that runs already; it does not start one.",
            "Name its address: lora-studio setup comfyui http://127.0.0.1:8188",
        )
    states = [checking.look_at(s) for s in known]
    for state in states:
        ctx.out.heading(f"ComfyUI at {state.server.address}")
        if state.version:
            memory = f", {human_memory(state.memory)}" if state.memory else ""
            ctx.out.facts(
                [
                    ("Version", state.version),
                    ("Draws on", f"{state.device}{memory}"),
                    ("Checkpoints", ", ".join(state.has.get("checkpoints", [])[:8]) or "none"),
                    (
                        "LoRA folder",
                        state.lora_folder or "cannot be reached from here; files are put there by hand",
                    ),
                ]
            )
        ctx.out.findings(state.findings)
    for word in args.model or ():
        _name_model(ctx, word, states)
    ready = [s for s in states if s.is_ready]
    data: dict[str, Any] = {
        "servers": [s.as_dict() for s in states],
        "models": servers.load(ws).models,
    }
    if not ready:
        bad = blocking(states[0].findings)[0]
        return Reply({**data, "what": bad.what, "why": bad.why, "fix": bad.fix}, code=6)
    ctx.out.good(
        "Grids can be drawn with it." if len(ready) == 1 else f"Grids are shared by {len(ready)} servers."
    )
    ctx.out.next("lora-studio evaluate --renderer comfyui")
    return Reply(data)


def _name_model(ctx: Context, word: str, states: Any) -> None:
    from studio.evaluation.comfyui import matching, servers
    from studio.models import get_model

    model_id, equals, names = word.partition("=")
    if not equals or not names.strip():
        raise InputError(
            f"'{word}' names no file.",
            "It says which file on the servers is a base model of the studio.",
            "Write it as ID=FILE, such as sd15=v1-5-pruned-emaonly.safetensors.",
        )
    entry = get_model(ctx.workspace, model_id.strip())
    parts = matching.choose_parts(
        entry, [n.strip() for n in names.split(",")], [s for s in states if s.is_ready]
    )
    servers.name_parts(ctx.workspace, entry.id, parts)
    ctx.out.say(f"{entry.title} is {', '.join(parts.values())} on the servers.")


def _bring_back(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation.comfyui import exchange
    from studio.evaluation.grid import measure_only

    project = ctx.project()
    grid = find_grid(project, args.grid or "latest")
    found = exchange.bring_back(grid, args.folder)
    ctx.out.facts(
        [
            ("Pictures taken", found.matched),
            ("Still missing", found.missing),
            ("Not taken", len(found.refused)),
        ]
    )
    for name, why in list(found.refused.items())[:12]:
        ctx.out.say(f"  {name}: {why}")
    told = {"matched": found.matched, "missing": found.missing, "refused": found.refused}
    if not found.matched:
        ctx.out.say("Nothing new came back.")
        return Reply({"project": project.slug, "grid": grid.id, **told})
    measure_only(grid)
    reply = show_grid(ctx, project, grid, args.detach)
    return Reply({**reply.data, **told}, code=reply.code)


def _retry(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation.grid import resume_grid

    project = ctx.project()
    grid = find_grid(project, args.grid or "latest")
    missing = {c.hash: c for c in grid.cells() if c.path is None}
    rows = [
        {
            "cell": c.hash,
            "checkpoint": c.checkpoint,
            "weight": c.weight,
            "prompt": c.prompt.text,
            "seed": c.seed,
            "why": c.error,
        }
        for c in missing.values()
    ]
    ctx.out.table(
        ["Cell", "Checkpoint", "Weight", "Prompt", "Why"],
        [
            [r["cell"], r["checkpoint"], f"{r['weight']:g}", r["prompt"], r["why"] or "not drawn yet"]
            for r in rows
        ],
    )
    unknown = [c for c in args.cell or () if c not in missing]
    if unknown:
        raise NotFoundError(
            f"'{unknown[0]}' is not a cell without a picture in {grid.id}.",
            "Only cells that failed or were not drawn can be tried again.",
            f"Use one of: {', '.join(list(missing)[:8])}." if missing else "All of its pictures are there.",
        )
    data = {"project": project.slug, "grid": grid.id, "missing": rows}
    if args.list or not rows:
        if not rows:
            ctx.out.good("All of its pictures are there.")
        return Reply(data)
    resume_grid(grid, args.cell or ())
    reply = show_grid(ctx, project, grid, args.detach)
    return Reply({**data, **reply.data}, code=reply.code)


_GRID = Option("--grid", "The grid; the newest when left out.", metavar="GRID", convert=text(120))

COMMANDS = (
    Command(
        "setup comfyui",
        "Computer",
        "Name a ComfyUI server that draws grids, and check what it can do.",
        _setup,
        words=(
            Word(
                "ADDRESS",
                "Where it listens, such as http://127.0.0.1:8188; left out, all known ones are checked.",
                convert=text(400),
            ),
        ),
        options=(
            Option(
                "--lora-folder",
                "Its folder models/loras as this computer sees it, when it runs elsewhere.",
                metavar="FOLDER",
                convert=existing,
            ),
            Option(
                "--model",
                "Which of its files is a base model of the studio: ID=FILE, or ID=PART:FILE,PART:FILE for one in parts "
                "(diffusion_model, clip_l, clip_g, t5xxl, vae). May be given several times.",
                metavar="ID=FILE",
                convert=text(1000),
                many=True,
            ),
            Option("--forget", "Take the server off the list."),
        ),
        details="Servers on this computer and in its network are reached over http, others over https only. Several servers share "
        "a grid. LoRA files are linked or copied into the server's folder while a grid is drawn, and taken away again.",
        examples=(
            "setup comfyui http://127.0.0.1:8188",
            "setup comfyui http://192.168.1.20:8188 --lora-folder /mnt/gpu-box/loras",
            "setup comfyui --model sd15=v1-5-pruned-emaonly.safetensors",
        ),
        check=_check_setup,
        project=False,
    ),
    Command(
        "grid bring-back",
        "Evaluation",
        "Take pictures that ComfyUI drew from saved workflows into their grid.",
        _bring_back,
        words=(Word("FOLDER", "The folder that ComfyUI saved into.", required=True, convert=existing),),
        options=(_GRID, WAIT, DETACH),
        details="A picture belongs to the cell that its name says, or the workflow that ComfyUI wrote into it. The folder is only read.",
        examples=("grid bring-back ~/ComfyUI/output/lora-studio",),
        check=check_wait,
    ),
    Command(
        "grid retry",
        "Evaluation",
        "List the pictures that a grid lacks, each with the reason, and draw them again.",
        _retry,
        words=(
            Word(
                "CELL", "The cells to draw; all that are missing when left out.", many=True, convert=text(40)
            ),
        ),
        options=(_GRID, Option("--list", "Only list them."), WAIT, DETACH),
        examples=("grid retry --list", "grid retry"),
        check=check_wait,
    ),
)
