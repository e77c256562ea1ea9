"""Judging a grid's pictures from the command line, and the report of it."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

from studio.cli.context import Context
from studio.cli.jobs import find_grid
from studio.cli.parser import problem
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import Bad, did_you_mean, number, one_of, text, whole
from studio.errors import NotFoundError
from studio.evaluation.review import FAULTS
from studio.findings import Finding

GROUP = "Evaluation"
GRID = Option("--grid", "The grid; the newest when left out.", metavar="GRID", convert=text(120))


def _rate(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    grid = find_grid(project, args.grid)
    cells = [c for c in grid.cells() if c.path is not None]
    given = grid.review.all()
    if args.cell is None:
        rows: list[dict[str, Any]] = []
        for c in cells:
            said = given.get(c.hash)
            rows.append({"cell": c.hash, "checkpoint": c.checkpoint, "weight": c.weight, "prompt": c.prompt.id, "text": c.prompt.text, "seed": c.seed,
                         "rating": said.rating if said else None, "tags": list(said.tags) if said else [], "note": said.note if said else "",
                         "picture": str(c.path)})  # fmt: skip
        ctx.out.table(["Cell", "Checkpoint", "Weight", "Prompt", "Seed", "Rating", "Marks"],
                      [[r["cell"], r["checkpoint"], f"{r['weight']:g}", r["prompt"], r["seed"], r["rating"] or "", ", ".join(r["tags"])] for r in rows])  # fmt: skip
        return Reply({"project": project.slug, "grid": grid.id, "cells": rows})
    cell = next((c for c in cells if c.hash == args.cell), None)
    if cell is None:
        raise NotFoundError(f"This grid has no picture '{args.cell}'.", "Pictures are named by 16 letters and digits.",
                            f"{did_you_mean(args.cell, [c.hash for c in cells])} `lora-studio rate` lists them.".strip())  # fmt: skip
    review = grid.review
    if args.rating is not None:
        review.rate(cell.hash, args.rating or None)
    for tag in args.tag or ():
        review.tag(cell.hash, tag)
    for tag in args.untag or ():
        review.tag(cell.hash, tag, on=False)
    if args.note is not None:
        review.note(cell.hash, args.note)
    said = review.get(cell.hash)
    ctx.out.good(
        f"{cell.prompt.text} at {cell.weight:g}: {said.rating or 'no rating'}{', ' if said.tags else ''}{', '.join(said.tags)}"
    )
    verdict = grid.verdict
    if verdict is not None:
        ctx.out.say(verdict.headline)
    return Reply({"project": project.slug, "grid": grid.id, "cell": cell.hash, "rating": said.rating, "tags": list(said.tags), "note": said.note,
                  "verdict": verdict.as_dict() if verdict else None})  # fmt: skip


def _check_rate(args: Namespace) -> list[Finding]:
    if args.cell is None and (args.rating is not None or args.tag or args.untag or args.note is not None):
        return [
            problem(
                "No picture was named.",
                "A rating belongs to one picture.",
                "Name it: `lora-studio rate CELL --rating 4`.",
            )
        ]
    return []


def _report(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation.html_report import export

    project = ctx.project()
    grid = find_grid(project, args.grid)
    path = export(grid, args.out)
    ctx.out.good(f"Written: {path}")
    return Reply({"project": project.slug, "grid": grid.id, "file": str(path)})


def _target(raw: str) -> Path:
    if not raw.strip() or "\x00" in raw:
        raise Bad("It is empty.", "Give the path of a file ending in .html, .md or .png.")
    return Path(raw).expanduser()


def _blind(ctx: Context, args: Namespace) -> Reply:
    from studio.evaluation.blind import BlindTest, doubt_words, standing_words

    project = ctx.project()
    grid = find_grid(project, args.grid)
    labels = [x.label for x in grid.spec.lora_files]
    for name in (args.first, args.second):
        if name not in labels:
            raise NotFoundError(
                f"This grid has no checkpoint '{name}'.",
                "Only those on the grid can be compared.",
                f"Use one of: {', '.join(labels)}.",
            )
    usual = grid.verdict.weight if grid.verdict and grid.verdict.weight else 1.0
    weight = (
        args.weight
        if args.weight is not None
        else min((w for w in grid.spec.weights if w), key=lambda w: abs(w - usual))
    )
    test = BlindTest(grid.folder, (args.first, weight), (args.second, weight))
    cells = grid.cells()
    pair = test.next(cells)
    if args.answer and pair is not None:
        test.judge(pair, args.answer)
        pair = test.next(cells)
    standing = test.standing(cells)
    ctx.out.say(f"{standing.judged} of {standing.judged + standing.left} judged at weight {weight:g}.")
    if pair is not None:
        ctx.out.facts(
            [("Prompt", pair.left.prompt.text), ("Left", pair.left.path), ("Right", pair.right.path)]
        )
        ctx.out.next("the same line with --answer left, right or alike")
    else:
        ctx.out.say(standing_words(standing, args.first, args.second))
        ctx.out.paragraph(doubt_words(standing, args.first))
    hidden = pair is not None
    return Reply({"project": project.slug, "grid": grid.id, "weight": weight, "judged": standing.judged, "left_to_judge": standing.left,
                  "pair": {"prompt": pair.left.prompt.text, "left": str(pair.left.path), "right": str(pair.right.path)} if pair else None,
                  "result": None if hidden else vars(standing)})  # fmt: skip


COMMANDS = (
    Command("rate", GROUP, "List a grid's pictures, or rate one, mark its faults, note something.", _rate,
            words=(Word("CELL", "The picture, as the list names it.", convert=text(40)),),
            options=(GRID, Option("--rating", "1 (unusable) to 5 (just right); 0 takes it back.", metavar="N", convert=whole(0, 5, 4)),
                     Option("--tag", f"Mark a fault: {', '.join(FAULTS)}. May be given several times.", metavar="FAULT", convert=one_of(FAULTS), many=True),
                     Option("--untag", "Take a mark away.", metavar="FAULT", convert=one_of(FAULTS), many=True),
                     Option("--note", "A note on it.", metavar="TEXT", convert=text(2000))),
            examples=("rate", "rate 0123456789abcdef --rating 4 --tag blurry"), check=_check_rate),
    Command("report", GROUP, "Write a grid's review as HTML (with its pictures), Markdown or contact sheet.", _report,
            words=(Word("OUT", "File to write: .html, .md or .png.", required=True, convert=_target),), options=(GRID,),
            examples=("report review.html",)),
    Command("blind", GROUP, "Compare two checkpoints without knowing which is which.", _blind,
            words=(Word("FIRST", "A checkpoint of the grid.", required=True, convert=text(80)), Word("SECOND", "Another one.", required=True, convert=text(80))),
            options=(GRID, Option("--weight", "At this weight; the recommended one when left out.", metavar="NUMBER", convert=number(-2, 4, 0.7)),
                     Option("--answer", "Which of the two shown pictures is better.", metavar="{left,right,alike}", convert=one_of(("left", "right", "alike")))),
            examples=("blind 'epoch 2' final --answer left",)),
)  # fmt: skip
