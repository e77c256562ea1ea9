"""Grids: draw one, read its verdict."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio.cli.context import Context
from studio.cli.grids import show_grid
from studio.cli.jobs import find_grid, find_run
from studio.cli.parser import problem
from studio.cli.spec import Command, Option, Reply
from studio.cli.values import folder, listed, lora_file, number, one_of, text, whole
from studio.cli.watch import DETACH, WAIT, check_wait
from studio.cli.workflows import save_workflows
from studio.evaluation.prompts import CHOOSABLE
from studio.files import human_time
from studio.findings import Finding
from studio.project import Project

GROUP = "Evaluation"


def _check(args: Namespace) -> list[Finding]:
    found = check_wait(args)
    if args.grid:
        drawing = (
            "run",
            "lora",
            "weights",
            "prompt",
            "families",
            "plan",
            "seeds",
            "checkpoints",
            "steps",
            "guidance",
            "clip_skip",
            "renderer",
            "workflows",
        )
        mixed = [f"--{n.replace('_', '-')}" for n in drawing if getattr(args, n)]
        if mixed:
            found.append(
                problem(
                    f"--grid does not go with {', '.join(mixed)}.",
                    "--grid shows a grid that is there already; the others describe a new one.",
                    "Leave one of them out.",
                )
            )
    if args.run and args.lora:
        found.append(
            problem(
                "--run and --lora were both given.",
                "A grid evaluates a run's checkpoints or files from elsewhere.",
                "Keep one of them.",
            )
        )
    if args.checkpoints and args.lora:
        found.append(
            problem(
                "--checkpoints does not go with --lora.", "A file is its own checkpoint.", "Leave it out."
            )
        )
    return found


def _evaluate(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation.comfy import drawing_options
    from studio.evaluation.grid import Grid, grid_cost, plan_grid, start_grid

    project = ctx.project()
    if args.list:
        return _list(ctx, project)
    if args.grid:
        return show_grid(ctx, project, find_grid(project, args.grid), detach=False)
    run = None if args.lora else find_run(project, args.run)
    chosen = args.checkpoints or ["final"]
    spec = plan_grid(
        project,
        run,
        checkpoints=chosen[0] if chosen[0] in ("final", "spread", "all") and len(chosen) == 1 else chosen,
        lora_files=args.lora or (),
        **({"weights": args.weights} if args.weights else {}),
        prompts=args.prompt or None,
        families=args.families,
        **({"seeds": args.seeds} if args.seeds else {}),
        steps=args.steps,
        guidance=args.guidance,
        clip_skip=args.clip_skip,
        **(
            drawing_options(project, "comfyui" if args.workflows else args.renderer, ask=not args.workflows)
            if args.renderer or args.workflows
            else {}
        ),
    )
    if args.workflows:
        return save_workflows(ctx, project, spec, args.workflows)
    cost = grid_cost(project, spec)
    takes = f", about {human_time(cost.seconds)}" if cost.seconds else ""
    there = f" ({cost.there} are drawn already)" if cost.there else ""
    ctx.out.heading(f"{cost.cells} pictures{there}{takes}")
    ctx.out.facts(
        [
            ("LoRA", ", ".join(f.label for f in spec.lora_files)),
            ("Weights", ", ".join(f"{w:g}" for w in spec.weights)),
            ("Prompts", " | ".join(p.text for p in spec.prompts)),
            ("Seeds", ", ".join(map(str, spec.seeds))),
        ]
    )
    if args.plan:
        return Reply(
            {
                "project": project.slug,
                "cells": cost.cells,
                "there": cost.there,
                "to_render": cost.to_render,
                "seconds": cost.seconds,
                "basis": cost.basis,
                "prompts": [p.model_dump(mode="json") for p in spec.prompts],
            }
        )
    start_grid(project, spec)
    return show_grid(ctx, project, Grid(project.grids_dir / spec.id), args.detach)


def _list(ctx: Context, project: Project) -> Reply:
    from studio.evaluation.grid import list_grids

    grids = list_grids(project)
    rows: list[dict[str, Any]] = []
    for g in grids:
        verdict = g.verdict
        rows.append(
            {
                "grid": g.id,
                "state": g.job.state,
                "run": g.spec.run,
                "weights": list(g.spec.weights),
                "recommended": None if verdict is None else verdict.weight,
                "sheet": str(g.sheet) if g.sheet else None,
            }
        )
    ctx.out.table(
        ["Grid", "State", "Run", "Weights", "Recommended"],
        [
            [
                r["grid"],
                r["state"],
                r["run"] or "",
                ", ".join(f"{w:g}" for w in r["weights"]),
                r["recommended"],
            ]
            for r in rows
        ],
    )
    if not rows:
        ctx.out.say(f"'{project.slug}' has no grid yet.")
        ctx.out.next("lora-studio evaluate")
    return Reply({"project": project.slug, "grids": rows})


COMMANDS = (
    Command(
        "evaluate",
        GROUP,
        "Draw a grid of weights and prompts, and find the weight to use.",
        _evaluate,
        options=(
            Option(
                "--run", "The run to evaluate; the newest when left out.", metavar="RUN", convert=text(120)
            ),
            Option(
                "--checkpoints",
                "Which of its checkpoints: final, spread (early, middle, last), all, or epochs such as 2,5.",
                metavar="LIST",
                convert=listed(text(120), "2,5"),
            ),
            Option(
                "--lora",
                "A LoRA file from elsewhere instead of a run; may be given several times.",
                metavar="FILE",
                convert=lora_file,
                many=True,
            ),
            Option(
                "--weights",
                "Weights across; 0 is always added. 0, 0.3, 0.5, 0.7, 0.9 and 1 when left out.",
                metavar="LIST",
                convert=listed(number(-2, 4, 0.7), "0.3,0.5,0.7"),
            ),
            Option(
                "--prompt",
                "A prompt of your own instead of the standard ones; may be given several times. {trigger} is filled in.",
                metavar="TEXT",
                convert=text(1000),
                many=True,
            ),
            Option(
                "--families",
                "Kinds of prompts, all of each: standard, scene, caption, trigger, no_trigger. --prompt adds your own.",
                metavar="LIST",
                convert=listed(one_of(CHOOSABLE), "standard,no_trigger"),
            ),
            Option(
                "--seeds",
                "Seeds; the same seed draws the same picture. 1 when left out.",
                metavar="LIST",
                convert=listed(whole(0, 2**32 - 1, 1), "1,2"),
            ),
            Option("--steps", "Drawing steps of each picture.", metavar="N", convert=whole(1, 200, 20)),
            Option(
                "--guidance", "How strictly prompts are followed.", metavar="NUMBER", convert=number(1, 30, 4)
            ),
            Option(
                "--clip-skip",
                "The layer of the text encoder that is read, counted from the end: 2 for most anime models. "
                "As the LoRA was trained when left out; SD1.5 and SDXL only.",
                metavar="N",
                convert=whole(1, 4, 2),
            ),
            Option(
                "--renderer",
                "What draws: diffusers (built in) or comfyui.",
                metavar="NAME",
                convert=one_of(("diffusers", "comfyui")),
            ),
            Option(
                "--workflows",
                "Save ComfyUI workflows into this new folder instead of drawing.",
                metavar="FOLDER",
                convert=folder,
            ),
            Option(
                "--grid", "Show this grid again instead of drawing one.", metavar="GRID", convert=text(120)
            ),
            Option("--plan", "Only say what the grid would cost."),
            Option("--list", "List the project's grids."),
            WAIT,
            DETACH,
        ),
        details="Pictures that were drawn before are not drawn again. The verdict weighs how strong the effect is against "
        "the base model, how near it comes to the training pictures, and what it damages.",
        examples=(
            "evaluate",
            "evaluate --checkpoints spread --weights 0.4,0.6,0.8",
            "evaluate --grid latest",
        ),
        check=_check,
    ),
)
