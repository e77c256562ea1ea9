"""What was measured on a grid, measuring it again, and the models that measure."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from studio.cli.context import Context
from studio.cli.jobs import as_data, find_grid
from studio.cli.parser import problem
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import number, one_of, text
from studio.cli.watch import DETACH, WAIT, check_wait, say_failed, say_left, watch
from studio.errors import NotFoundError
from studio.files import human_size
from studio.findings import Finding

GROUP = "Evaluation"


def _check(args: Namespace) -> list[Finding]:
    found = check_wait(args)
    given = [f"--{n}" for n in ("grid", "over", "weight", "checkpoint", "again") if getattr(args, n)]
    if args.explain and given:
        found.append(
            problem(
                f"--explain does not go with {', '.join(given)}.",
                "It tells what the measures mean, on any grid.",
                "Leave the others out.",
            )
        )
    if args.weight is not None and args.over != "checkpoint":
        found.append(
            problem(
                "--weight goes with --over checkpoint.",
                "Over the weight all weights are shown.",
                "Add --over checkpoint, or leave --weight out.",
            )
        )
    if args.checkpoint and args.over == "checkpoint":
        found.append(
            problem(
                "--checkpoint does not go with --over checkpoint.",
                "Over the checkpoints all of them are shown.",
                "Leave one of them out.",
            )
        )
    return found


def _measure(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation import measures
    from studio.evaluation.grid import measure_only

    if args.explain:
        return _explain(ctx)
    project = ctx.project()
    grid = find_grid(project, args.grid)
    if args.again:
        job = measure_only(grid)
        if args.detach:
            ctx.out.say("It is being measured by itself now.")
            ctx.out.next(f"lora-studio measure --grid {grid.id}")
            return Reply({"project": project.slug, "grid": grid.id, "job": as_data(job)})
        if watch(ctx.out, job).left:
            say_left(ctx.out, job)
            return Reply(
                {"project": project.slug, "grid": grid.id, "job": as_data(job), "left": True}, code=130
            )
        if job.state != "finished":
            error = say_failed(ctx.out, job)
            return Reply({"project": project.slug, "grid": grid.id, "job": as_data(job), **error}, code=1)
    metrics = grid.metrics
    if metrics is None:
        raise NotFoundError(
            "This grid was not measured yet.",
            "It is being drawn, or was stopped before.",
            f"Measure what is there: lora-studio measure --grid {grid.id} --again",
        )
    labels = [x.label for x in grid.spec.lora_files]
    if args.over == "checkpoint":
        weight = args.weight if args.weight is not None else (grid.verdict.weight if grid.verdict else None)
        drawn = [w for w in grid.spec.weights if w]
        near = min(drawn, key=lambda w: abs(w - (weight if weight is not None else drawn[-1])))
        if args.weight is not None and abs(near - args.weight) > 1e-9:
            raise NotFoundError(
                f"Weight {args.weight:g} is not on this grid.",
                "Only what was drawn is measured.",
                f"Use one of: {', '.join(f'{w:g}' for w in drawn)}.",
            )
        rows, title = measures.over_checkpoints(metrics, near), f"At weight {near:g}"
    else:
        chosen = args.checkpoint or (
            grid.verdict.checkpoint if grid.verdict and grid.verdict.checkpoint else labels[-1]
        )
        if chosen not in labels:
            raise NotFoundError(
                f"There is no checkpoint '{chosen}' on this grid.",
                "It holds others.",
                f"Use one of: {', '.join(labels)}.",
            )
        rows, title = measures.over_weights(metrics, chosen), chosen
    told = measures.shown(metrics)
    have = [m for m in told if any(r.get(m.id) is not None for r in rows)]
    ctx.out.heading(f"{grid.id}: {title}")
    first = "Checkpoint" if args.over == "checkpoint" else "Weight"
    for m in have:  # one table a measure: eleven columns fit no terminal
        ctx.out.say()
        ctx.out.table(
            [first, m.title],
            [
                [
                    r["checkpoint"] if args.over == "checkpoint" else f"{r['weight']:g}",
                    measures.with_spread(m, r),
                ]
                for r in rows
            ],
        )
    lacking = {m.id: measures.lacking(metrics, m) for m in told if m not in have}
    for m in told:
        if m.id in lacking:
            ctx.out.say(f"{m.title}: {lacking[m.id]}")
    seeds = int((metrics.get("reference") or {}).get("seeds", 1))
    ctx.out.dim(
        f"Measured with {measures.BUILT_IN}; in brackets from the lowest to the highest of {seeds} seeds."
        if seeds > 1
        else f"Measured with {measures.BUILT_IN}; one seed, so no spread is known."
    )
    ctx.out.next("lora-studio measure --explain tells what each measure means and cannot see")
    return Reply({"project": project.slug, "grid": grid.id, "over": args.over or "weight", "rows": rows,
                  "models": metrics.get("models") or {}, "features": metrics.get("features"), "not_available": lacking})  # fmt: skip


def _explain(ctx: Context) -> Reply:
    from studio.evaluation.measures import MEASURES

    for m in MEASURES:
        ctx.out.heading(m.title)
        ctx.out.facts(
            [("Says", m.says), ("Cannot see", m.unseen), ("From", m.source), ("Needs", m.needs),
             ("Model", m.model.upper() or "built in")]
        )  # fmt: skip
    return Reply({"measures": [{**vars(m)} for m in MEASURES]})


def _check_setup(args: Namespace) -> list[Finding]:
    found = []
    if args.folder and args.forget:
        found.append(
            problem(
                "--forget takes no folder.",
                "It takes the model of a kind out of use.",
                "Leave one of them out.",
            )
        )
    if args.download and (args.folder or args.forget or args.role):
        found.append(
            problem(
                "--download goes alone.",
                "The list says which kind a model is, and it is in use when it is here.",
                "Leave the others out.",
            )
        )
    if args.forget and not args.role:
        found.append(
            problem(
                "--forget needs a kind.",
                "It takes the model of a kind out of use.",
                "Name clip, dino or ccip.",
            )
        )
    if args.role and not args.folder and not args.forget:
        found.append(
            problem(
                "The folder is missing.",
                f"There is one model in use for {args.role}, and it lies in a folder.",
                "Give its full path, or download one with --download.",
            )
        )
    return found


def _setup(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation import measuring_models as models
    from studio.evaluation.measuring_download import start_download

    ws = ctx.workspace
    if args.download:
        job = start_download(ws, args.download)
        if watch(ctx.out, job).left:
            say_left(ctx.out, job)
            return Reply({"job": as_data(job), "left": True}, code=130)
        if job.state != "finished":
            return Reply({"job": as_data(job), **say_failed(ctx.out, job)}, code=1)
        ctx.out.good(f"{models.entry(args.download).title} is here and in use.")
    elif args.forget:
        models.forget(ws, models.role_of(args.role))
        ctx.out.good("It is out of use; its files stay.")
    elif args.role:
        model = models.choose(ws, models.role_of(args.role), args.folder)
        ctx.out.good(f"{model.title} measures from now on. Grids that are there: lora-studio measure --again")
    now = models.chosen(ws)
    words = {"ready": "in use", "broken": "cannot be used", "absent": "not chosen"}
    ctx.out.table(
        ["Kind", "Says", "State", "Folder"],
        [
            [
                role,
                models.ROLE_WORDS[role],
                words[c.state],
                str(c.model.folder) if c.model else c.error.what if c.error else "",
            ]
            for role, c in now.items()
        ],
    )
    here = {m.id: m.is_here(ws) for m in models.downloadable()}
    ctx.out.table(
        ["To download", "Kind", "Size", "Licence", "Here"],
        [
            [m.id, m.role, human_size(m.size_bytes), m.licence, "yes" if here[m.id] else ""]
            for m in models.downloadable()
        ],
    )
    return Reply(
        {
            "in_use": {role: _as_data(c) for role, c in now.items()},
            "downloadable": [
                {"id": m.id, "role": m.role, "bytes": m.size_bytes, "here": here[m.id]}
                for m in models.downloadable()
            ],
        }
    )


def _as_data(found: Any) -> dict[str, Any]:
    folder: Path | None = found.model.folder if found.model else None
    return {
        "state": found.state,
        "folder": str(folder) if folder else None,
        "problem": f"{found.error.what} {found.error.why}".strip() if found.error else None,
    }


COMMANDS = (
    Command("measure", GROUP, "Show every measure of a grid with its spread over the seeds, over the weights or the checkpoints.", _measure, options=(
        Option("--grid", "The grid; the newest when left out.", metavar="GRID", convert=text(120)),
        Option("--over", "What the figures are shown over: weight or checkpoint.", metavar="WHAT", convert=one_of(("weight", "checkpoint"))),
        Option("--checkpoint", "The checkpoint whose weights are shown; the recommended one when left out.", metavar="NAME", convert=text(120)),
        Option("--weight", "With --over checkpoint: the weight; the drawn one nearest to the recommended one when left out.", metavar="NUMBER", convert=number(-2, 4, 0.7)),
        Option("--again", "Measure it again first, with the models that are in use now. Nothing is drawn, and nothing is measured twice."),
        Option("--explain", "Tell what each measure means, what it cannot see and where it comes from."),
        WAIT, DETACH,
    ), examples=("measure", "measure --over checkpoint", "measure --again", "measure --explain"), check=_check),
    Command("setup measuring", "Computer", "Choose models that add measures to grids: CLIP, DINO, CCIP. None is needed.", _setup, words=(
        Word("KIND", "clip, dino or ccip; without it, what is in use is shown.", convert=one_of(("clip", "dino", "ccip")), dest_name="role"),
        Word("FOLDER", "Its full path, or the name of a downloaded one.", convert=text(4000)),
    ), options=(
        Option("--download", "Download a model of the list, checked by its hash; it is in use then.", metavar="ID", convert=text(60)),
        Option("--forget", "Take the model of a kind out of use. Its files stay."),
    ), examples=("setup measuring", "setup measuring clip /models/clip-vit-base-patch32", "setup measuring --download dinov2-small"), check=_check_setup, project=False,
        details="Weights must be safetensors (CCIP: ONNX). Without a model its measures are shown as not available; no other figure stands in for them."),
)  # fmt: skip
