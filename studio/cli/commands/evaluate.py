"""Grids: draw one, read its verdict."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict, is_dataclass
from typing import Any

from studio.cli.commands.runs import DETACH, WAIT, check_wait
from studio.cli.context import Context
from studio.cli.jobs import as_data
from studio.cli.parser import problem
from studio.cli.spec import Command, Option, Reply
from studio.cli.values import did_you_mean, existing, listed, number, text, whole
from studio.cli.watch import say_failed, say_left, watch
from studio.errors import NotFoundError
from studio.files import human_time
from studio.findings import Finding
from studio.project import Project

GROUP = "Evaluation"


def plain(value: Any) -> Any:
    """Dataclasses and models as plain data."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def find_run(project: Project, name: str | None) -> Any:
    """A run by id or the end of one; the newest with a checkpoint when none is named. Raises NotFoundError."""
    from studio.training.runs import get_run, list_runs

    if name is None:
        for run in list_runs(project):
            if run.checkpoints():
                return run
        get_run(project)  # raises when there is none at all
        raise NotFoundError(
            f"No run of '{project.slug}' has written a checkpoint yet.",
            "A grid is drawn with a LoRA file.",
            "Wait for the first checkpoint, or look at `lora-studio status`.",
        )
    runs = list_runs(project)
    fitting = [r for r in runs if r.id == name] or [r for r in runs if len(name) >= 4 and r.id.endswith(name)]
    if len(fitting) == 1:
        return fitting[0]
    names = [r.id for r in runs]
    raise NotFoundError(
        f"There is no run called '{name}' in '{project.slug}'.",
        f"Its runs are: {', '.join(names)}." if names else "Nothing was trained so far.",
        f"{did_you_mean(name, names)} Name one of them.".strip()
        if names
        else "Start one with `lora-studio train`.",
    )


def find_grid(project: Project, name: str | None) -> Any:
    """A grid by id or the end of one; the newest when none is named. Raises NotFoundError."""
    from studio.evaluation.grid import get_grid, list_grids

    if name is None:
        return get_grid(project)
    known = [g.id for g in list_grids(project)]
    fitting = [g for g in known if g == name] or [g for g in known if len(name) >= 4 and g.endswith(name)]
    if len(fitting) == 1:
        return get_grid(project, fitting[0])
    raise NotFoundError(
        f"There is no grid called '{name}' in '{project.slug}'.",
        f"Its grids are: {', '.join(known)}." if known else "Nothing was drawn so far.",
        f"{did_you_mean(name, known)} Name one of them.".strip()
        if known
        else "Draw one: `lora-studio evaluate`.",
    )


def _check(args: Namespace) -> list[Finding]:
    found = check_wait(args)
    if args.grid:
        drawing = ("run", "lora", "weights", "prompt", "seeds", "checkpoints", "steps", "guidance")
        mixed = [f"--{n}" for n in drawing if getattr(args, n)]
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
        **({"seeds": args.seeds} if args.seeds else {}),
        steps=args.steps,
        guidance=args.guidance,
    )
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
    start_grid(project, spec)
    return show_grid(ctx, project, Grid(project.grids_dir / spec.id), args.detach)


def show_grid(ctx: Context, project: Project, grid: Any, detach: bool) -> Reply:
    """Watch a grid while it is drawn, then show its contact sheet and its verdict."""
    job = grid.job
    if detach:
        ctx.out.say("It is being drawn by itself now.")
        ctx.out.next(f"lora-studio evaluate --grid {grid.id}")
        return Reply({"project": project.slug, "grid": grid.id, "job": as_data(job)})
    if job.is_alive and watch(ctx.out, job).left:
        say_left(ctx.out, job)
        return Reply({"project": project.slug, "grid": grid.id, "job": as_data(job), "left": True}, code=130)
    data: dict[str, Any] = {
        "project": project.slug,
        "grid": grid.id,
        "job": as_data(job),
        "sheet": str(grid.sheet) if grid.sheet else None,
        "spec": plain(grid.spec),
    }
    if job.state != "finished":
        error = say_failed(ctx.out, job)
        ctx.out.next(f"lora-studio resume {grid.id}")
        return Reply({**data, **error}, code=1)
    verdict = grid.verdict
    data["verdict"] = plain(verdict)
    ctx.out.good(f"The contact sheet: {grid.sheet}")
    if verdict is not None:
        show_verdict(ctx, verdict)
        ctx.out.next("lora-studio register")
    return Reply(data)


def show_verdict(ctx: Context, verdict: Any) -> None:
    """The sweet spot, its reasons, and the measurements by weight."""
    ctx.out.say()
    ctx.out.paragraph(verdict.headline, "", "bold green" if verdict.weight is not None else "bold yellow")
    for reason in verdict.reasons:
        ctx.out.paragraph(f"- {reason}", "  ")
    ctx.out.dim(f"  Confidence: {verdict.confidence}, from {verdict.by}.")
    rows = [plain(r) for r in verdict.per_weight]
    if rows:
        ctx.out.say()
        ctx.out.table(
            ["Weight", "Effect", "Nearness", "Damage", "In words"],
            [
                [
                    f"{r['weight']:g}",
                    *[_figure(r.get(k)) for k in ("effect", "nearness", "damage")],
                    r.get("words", ""),
                ]
                for r in rows
            ],
            right=(0, 1, 2, 3),
        )


def _figure(value: Any) -> str:
    return "" if value is None else f"{float(value):.2f}"


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


def lora_file(raw: str) -> Any:
    """A .safetensors file that is there. Raises values.Bad."""
    from studio.cli.values import Bad

    path = existing(raw)
    if path.suffix.lower() != ".safetensors" or not path.is_file():
        raise Bad("It is not a .safetensors file.", "Give the path of a LoRA file.")
    return path


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
                "--grid", "Show this grid again instead of drawing one.", metavar="GRID", convert=text(120)
            ),
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
