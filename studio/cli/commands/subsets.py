"""Repeats of single pictures and regularisation pictures."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio.cli.commands.curation import GROUP, must_be_among, scanned
from studio.cli.context import Context
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import whole
from studio.errors import InputError
from studio.project import Project


def _chosen(project: Project, patterns: list[str]) -> list[str]:
    """Names that the words fit: each a name or a pattern. Raises NotFoundError for one that fits none."""
    from studio.dataset.folder import look
    from studio.dataset.subsets import matching

    there = list(look(project.dataset_dir).pictures)
    found: list[str] = []
    for p in patterns:
        fits = [p] if p in there else matching(there, p)
        if not fits:
            must_be_among([p], there, f"in '{project.slug}'")
        found += fits
    return list(dict.fromkeys(found))


def _subsets(ctx: Context, data: dict[str, Any]) -> Reply:
    from studio.captions.store import CaptionStore
    from studio.dataset.subsets import project_subsets, subset_findings, times_shown
    from studio.guidance import planned_settings

    project, seen = ctx.project(), scanned(ctx)
    settings = planned_settings(project)
    groups = project_subsets(project, settings, [p.name for p in seen.readable])
    shown = times_shown(groups)
    ctx.out.table(
        ["Pictures", "For", "Repeats", "Shown", "Not used", "Such as"],
        [
            [
                len(s.names), "regularisation" if s.regularisation else "training", s.repeats,
                sum(shown.get(n, 0) for n in s.names), sum(n not in shown for n in s.names), ", ".join(s.names[:2]),
            ]
            for s in groups
        ],
    )  # fmt: skip
    found = subset_findings(project, settings, CaptionStore(project).all())
    ctx.out.findings(found)
    return Reply(
        {
            **data,
            "subsets": [{**vars(s), "shown": sum(shown.get(n, 0) for n in s.names)} for s in groups],
            "findings": [f.model_dump(mode="json") for f in found],
        }
    )


def _regularisation(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.subsets import REGULARISATION, mark_regularisation

    project = ctx.project()
    data: dict[str, Any] = {"project": project.slug}
    if args.picture:
        names = _chosen(project, args.picture)
        data["changed"] = mark_regularisation(project, names, on=not args.off)
        purpose = "training" if args.off else "regularisation"
        ctx.out.good(f"{len(data['changed'])} of {len(names)} pictures are now for {purpose}.")
    elif args.off:
        raise InputError(
            "--off was given without a picture.",
            "It takes the mark off pictures.",
            "Name them, such as 'reg_*'.",
        )
    else:
        for line in REGULARISATION:
            ctx.out.dim(line)
    return _subsets(ctx, data)


def _repeats(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.subsets import set_repeats

    project = ctx.project()
    data: dict[str, Any] = {"project": project.slug}
    if args.picture and args.times is None:
        raise InputError(
            "--times is missing.", "It says how often they are shown.", "Add it, such as --times 3."
        )
    if args.times is not None:
        if not args.picture:
            raise InputError(
                "--times was given without a picture.", "It is for single pictures.",
                "Name them, or set repeats for all with `lora-studio config set repeats=3`.",
            )  # fmt: skip
        names = _chosen(project, args.picture)
        data["changed"] = set_repeats(project, names, args.times)
        ctx.out.good(
            f"{len(data['changed'])} of {len(names)} pictures have {args.times} repeats of their own now."
        )
    return _subsets(ctx, data)


_PICTURES = Word("PICTURE", "Names of pictures, or patterns such as 'reg_*'.", many=True)

COMMANDS: tuple[Command, ...] = (
    Command(
        "regularisation",
        GROUP,
        "Say which pictures hold the class in place instead of teaching; mark them.",
        _regularisation,
        words=(_PICTURES,),
        options=(Option("--off", "Take the mark off."),),
        examples=("regularisation 'reg_*'", "regularisation --off 'reg_*'"),
    ),
    Command(
        "repeats",
        GROUP,
        "Say how often each picture is shown; give single pictures repeats of their own.",
        _repeats,
        words=(_PICTURES,),
        options=(Option("--times", "Repeats of these pictures, times the setting.", metavar="N", convert=whole(1, 1000, 3)),),
        examples=("repeats 'face_*' --times 3",),
    ),
)  # fmt: skip
