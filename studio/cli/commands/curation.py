"""Duplicates, the deep look, variety and buckets: what the tabs of the dataset page do."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply
from studio.cli.values import did_you_mean, text, whole
from studio.cli.watch import DETACH, say_failed, say_left, watch
from studio.errors import NotFoundError
from studio.files import human_time
from studio.findings import Finding
from studio.project import Project

GROUP = "Pictures and captions"


def scanned(ctx: Context) -> Any:
    """A scan of the project, its progress shown."""
    from studio.dataset.scan import scan

    project = ctx.project()
    _ = project.intent  # a damaged project is told before anything is looked at
    with ctx.out.live() as line:
        return scan(
            project,
            progress=lambda done, total, what: line.update(
                f"{what}: {done} of {total}", done / max(1, total)
            ),
        )


# ---------------------------------------------------------------- duplicates


def _duplicates(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset import duplicates

    project, seen = ctx.project(), scanned(ctx)
    data: dict[str, Any] = {"project": project.slug}
    if args.ask_again:
        data["asked_again"] = duplicates.ask_again(project)
        ctx.out.good(f"{data['asked_again']} pairs that were called different are compared again.")
    groups = duplicates.find_duplicates(seen)
    data["groups"] = [
        {
            "kind": "deep" if g.deep else g.kind, "pictures": list(g.names), "suggested": g.suggested_keep, "why": g.why,
            "likeness": round(g.likeness, 4), "sharpest": g.sharpest,
        }
        for g in groups
    ]  # fmt: skip
    if args.keep or args.apart:
        return _decide(ctx, project, groups, args, data)
    if not groups:
        ctx.out.good("No picture is there twice.")
        return Reply(data)
    words = {"exact": "same", "near": "near", "deep": "content"}
    for g in groups:
        picture = {p.name: p for p in seen}
        kind = words["deep" if g.deep else g.kind]
        ctx.out.table(
            ["Picture", "Size", "Alike", ""],
            [
                [
                    n, f"{picture[n].width} x {picture[n].height}", f"{g.likeness:.0%} {kind}",
                    f"suggested: {g.why}" if n == g.suggested_keep else "sharper" if n == g.sharpest else "",
                ]
                for n in g.names
            ],
        )  # fmt: skip
    extra = sum(len(g.names) - 1 for g in groups)
    ctx.out.say(f"{len(groups)} groups, {extra} pictures more than needed.")
    if not args.keep_best:
        ctx.out.next("lora-studio duplicates --keep-best")
        return Reply(data)
    applied = ctx.agreed(f"Keep the suggested picture of each group and set {extra} aside?")
    gone = duplicates.resolve_all(project, groups) if applied else []
    if applied:
        ctx.out.good(f"{len(gone)} set aside. `lora-studio restore` brings them back.")
    return Reply({**data, "applied": applied, "set_aside": gone})


def _decide(
    ctx: Context, project: Project, groups: list[Any], args: Namespace, data: dict[str, Any]
) -> Reply:
    """--keep: these stay and the others of their groups go; --apart: the groups of these are no duplicates."""
    from studio.dataset import duplicates

    asked = args.keep or args.apart
    must_be_among(asked, [n for g in groups for n in g.names], "among the duplicates")
    touched = [g for g in groups if set(asked) & set(g.names)]
    gone: list[str] = []
    if args.apart:
        for g in touched:
            ctx.out.say(f"Not duplicates: {', '.join(g.names)}")
        applied = ctx.agreed("Keep all of them, and not ask again?")
        kept = [n for g in touched for n in duplicates.keep_all(project, g)] if applied else []
        return Reply({**data, "applied": applied, "apart": kept})
    for g in touched:
        ctx.out.say(f"Set aside: {', '.join(n for n in g.names if n not in asked) or 'nothing'}")
    applied = ctx.agreed("Do this?")
    if applied:
        for g in touched:
            gone += duplicates.resolve(project, g, [n for n in g.names if n in asked])
        ctx.out.good(f"{len(gone)} set aside. `lora-studio restore` brings them back.")
    return Reply({**data, "applied": applied, "set_aside": gone})


def _check_duplicates(args: Namespace) -> list[Finding]:
    given = [n for n in ("keep", "apart", "keep_best") if getattr(args, n)]
    if len(given) > 1:
        names = " and ".join(f"--{n.replace('_', '-')}" for n in given)
        return [problem(f"{names} were both given.", "They decide different things.", "Use one of them.")]
    return []


# ---------------------------------------------------------------- deep look


def _deep(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset import deep

    project, seen = ctx.project(), scanned(ctx)
    todo = deep.missing(seen)
    data: dict[str, Any] = {"project": project.slug, "to_look_at": len(todo)}
    if seen.readable and not todo:
        ctx.out.good("The deep look has seen every picture.")
        ctx.out.next("lora-studio duplicates")
        return Reply({**data, "started": False})
    job = deep.start(project, seen)
    data |= {"started": True, "job": job.id}
    ctx.out.say(f"{len(todo)} pictures, about {human_time(2 + deep.SECONDS * len(todo))}.")
    if args.detach:
        ctx.out.next(f"lora-studio status {job.id} --follow")
        return Reply(data)
    ended = watch(ctx.out, job)
    if ended.left:
        say_left(ctx.out, job)
        return Reply(data)
    data["state"] = ended.state
    if ended.state != "finished":
        return Reply({**data, "error": say_failed(ctx.out, job)}, code=1)
    data |= dict(job.result or {})
    ctx.out.good(
        f"{data.get('looked_at', 0)} pictures looked at, {data.get('pairs', 0)} pairs of near copies by content."
    )
    ctx.out.next("lora-studio variety")
    return Reply(data)


# ---------------------------------------------------------------- variety


def _variety(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.balance import balance
    from studio.dataset.clusters import clusters
    from studio.dataset.curation import curated, recommend, suggested_repeats
    from studio.dataset.subsets import teaching_count

    project, seen = ctx.project(), scanned(ctx)
    found = recommend(project, seen, args.keep)
    groups = [c for c in clusters(curated(project, seen)) if len(c.names) > 1]
    told = balance(project, seen)
    repeats = suggested_repeats(teaching_count(project))
    ctx.out.facts(
        [
            ("Measured by", found.basis),
            ("Training pictures", len(found.choices)),
            ("Worth", f"{found.effective[0]:.1f} completely different pictures"),
            ("Too much alike", f"{sum(len(c.names) for c in groups)} in {len(groups)} clusters"),
            ("Recommended", f"{len(found.kept)}, which represent the set to {found.coverage:.0%}"),
            ("Repeats by common practice", repeats),
        ]
    )
    for m in told.measures:
        ctx.out.say(f"{m.title}{'' if m.value is None else f' {m.value:.0%}'}: {m.words}")
    for terms, words in ((told.fused, "Fused with the trigger word"), (told.common, "Begin to fuse")):
        if terms:
            ctx.out.say(f"{words}: {', '.join(f'{t} ({s:.0%})' for t, s in terms.items())}", "yellow")
    ctx.out.say("What these figures cannot know:")
    for line in told.cannot_know:
        ctx.out.dim(f"  {line}")
    out = [c for c in found.choices if not c.keep]
    ctx.out.table(
        ["Picture", "", "Why"], [[c.name, "keep" if c.keep else "leave out", c.why] for c in found.choices]
    )
    data: dict[str, Any] = {
        "project": project.slug, "basis": found.basis, "effective_number": found.effective[0], "coverage": found.coverage,
        "suggested_repeats": repeats,
        "clusters": [{"pictures": list(c.names), "likeness": c.likeness} for c in groups],
        "choices": [vars(c) for c in found.choices],
        "balance": {
            "measures": [vars(m) for m in told.measures], "fused": dict(told.fused), "common": dict(told.common),
            "cannot_know": list(told.cannot_know),
        },
    }  # fmt: skip
    if not args.apply:
        if out:
            ctx.out.next("lora-studio variety --apply")
        return Reply(data)
    return _apply(ctx, project, found, args, data)


def _apply(ctx: Context, project: Project, found: Any, args: Namespace, data: dict[str, Any]) -> Reply:
    from studio.dataset.curation import apply

    if not found.left_out:
        ctx.out.say("Nothing is left out.")
        return Reply({**data, "applied": False, "set_aside": []})
    applied = ctx.agreed(f"Set the {len(found.left_out)} left out aside?")
    gone = apply(project, found) if applied else []
    if applied:
        ctx.out.good(f"{len(gone)} set aside. `lora-studio restore` brings them back.")
    return Reply({**data, "applied": applied, "set_aside": gone})


# ---------------------------------------------------------------- buckets


def _buckets(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.buckets import place
    from studio.dataset.subsets import bucket_steps
    from studio.estimate import plan_steps
    from studio.guidance import planned_settings
    from studio.settings import parse_settings

    project, seen = ctx.project(), scanned(ctx)
    settings = planned_settings(project)
    asked = {"resolution": args.resolution, "bucket_step": args.step, "batch_size": args.batch_size}
    if any(v is not None for v in asked.values()):
        settings = parse_settings(
            {**settings.model_dump(), **{k: v for k, v in asked.items() if v is not None}}
        )
    found = bucket_steps(project, seen, settings)
    plan = plan_steps([b.shown for b in found], settings)
    kept = {p.name: place(p.width, p.height, settings) for p in seen.readable}
    if not found:
        ctx.out.say("No picture that teaches can be read yet.")
    ctx.out.table(
        ["Bucket", "Pictures", "Shown", "Batches", "Last batch", "Most cropped"],
        [
            [
                f"{b.width} x {b.height}", len(b.names), b.shown, b.batches, f"{b.last} of {settings.batch_size}",
                "{} ({:.0%} kept)".format(*min(((n, kept[n].kept) for n in b.names), key=lambda x: x[1])),
            ]
            for b in found
        ],
    )  # fmt: skip
    ctx.out.say(f"{plan.steps_per_epoch} steps an epoch, {plan.total_steps} in all.")
    return Reply(
        {
            "project": project.slug,
            "resolution": settings.resolution,
            "bucket_step": settings.bucket_step,
            "batch_size": settings.batch_size,
            "buckets": [vars(b) for b in found],
            "crops": {
                n: {"bucket": p.bucket, "resized": p.resized, "left": p.left, "top": p.top, "kept": p.kept}
                for n, p in kept.items()
            },
            "steps_per_epoch": plan.steps_per_epoch,
            "total_steps": plan.total_steps,
        }
    )


def must_be_among(names: list[str], known: list[str], where: str) -> None:
    for name in names:
        if name not in known:
            raise NotFoundError(
                f"There is no picture called '{name}' {where}.",
                "It was renamed, set aside or never imported.",
                did_you_mean(name, known) or "`lora-studio captions list` shows the names.",
            )


COMMANDS: tuple[Command, ...] = (
    Command(
        "duplicates",
        GROUP,
        "Show pictures that are there more than once, and keep the best of them.",
        _duplicates,
        options=(
            Option("--keep-best", "Keep the suggested picture of every group, set the others aside."),
            Option(
                "--keep",
                "Keep this picture of its group, set the others aside.",
                metavar="PICTURE",
                convert=text(255),
                many=True,
            ),
            Option(
                "--apart",
                "The pictures of this one's group are no duplicates; not asked again.",
                metavar="PICTURE",
                convert=text(255),
                many=True,
            ),
            Option("--ask-again", "Forget what was called no duplicates."),
            YES,
        ),
        check=_check_duplicates,
        examples=("duplicates", "duplicates --keep-best --yes"),
    ),
    Command(
        "deep-look",
        GROUP,
        "Compare what is on the pictures: finds crops, measures variety and style.",
        _deep,
        options=(DETACH,),
        details="Runs on this computer, about a tenth of a second a picture. Nothing is downloaded.",
    ),
    Command(
        "variety",
        GROUP,
        "Say how varied the pictures are, and recommend a subset with reasons.",
        _variety,
        options=(
            Option(
                "--keep",
                "How many pictures the subset shall have.",
                metavar="N",
                convert=whole(1, 100_000, 25),
            ),
            Option("--apply", "Set the others aside."),
            YES,
        ),
        examples=("variety", "variety --keep 25 --apply --yes"),
    ),
    Command(
        "buckets",
        GROUP,
        "Show into which sizes the pictures are scaled, what is cropped and how many steps that makes.",
        _buckets,
        options=(
            Option("--resolution", "Instead of the setting.", metavar="PX", convert=whole(32, 4096, 1024)),
            Option("--step", "Bucket step instead of the setting.", metavar="PX", convert=whole(8, 512, 64)),
            Option("--batch-size", "Instead of the setting.", metavar="N", convert=whole(1, 256, 4)),
        ),
    ),
)
