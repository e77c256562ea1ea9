"""Captions by an engine: choose it, look at five samples, then let it write the rest."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio.cli.autocaption_options import PLACES, SET_OPTIONS
from studio.cli.commands.captions import picture
from studio.cli.context import Context
from studio.cli.jobs import as_data
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import text
from studio.cli.watch import say_failed, say_left, watch
from studio.errors import NotFoundError, StudioError
from studio.files import human_size, human_time
from studio.findings import Finding
from studio.project import Project

GROUP = "Pictures and captions"
DETACH = Option("--detach", "Start it and come back at once.", short="-d")


def _models(ctx: Context, args: Namespace) -> Reply:
    from studio.captions.taggers import downloadable

    project = ctx.project() if args.service or args.project is not None else None
    rows = [
        {
            "id": t.id, "title": t.title, "bytes": t.size_bytes, "licence": t.licence, "summary": t.summary,
            "here": t.is_here(ctx.workspace), "folder": str(t.folder(ctx.workspace)),
        }
        for t in downloadable()
    ]  # fmt: skip
    data: dict[str, Any] = {"taggers": rows}
    ctx.out.table(
        ["Id", "Title", "Size", "Here", "Licence"],
        [
            [
                r["id"],
                r["title"],
                human_size(int(str(r["bytes"]))),
                "yes" if r["here"] else "no",
                r["licence"],
            ]
            for r in rows
        ],
        right=(2,),
    )
    if args.service and project is not None:
        from studio.captions import auto, offered

        own = auto.load(project).endpoint
        data["service"] = {"address": own.address, "models": offered.service_models(project)}
        ctx.out.heading(f"Models of {own.address}")
        for name in data["service"]["models"]:
            ctx.out.say(f"  {name}")
    else:
        ctx.out.next("lora-studio autocaption download ID; a tagger in a folder of yours needs no download.")
    return Reply(data)


def _download(ctx: Context, args: Namespace) -> Reply:
    from studio.captions.batch import start_download

    job = start_download(ctx.workspace, args.id)
    return _follow(ctx, job, args.detach, lambda result: ctx.out.good(f"It lies in {result['folder']}."))


def _follow(ctx: Context, job: Any, detach: bool, well: Any) -> Reply:
    """Watch a job unless it is left alone; `well` says what came of it."""
    if detach:
        ctx.out.say(f"{job.spec.title}: started as {job.id}.")
        return Reply({"job": as_data(job)})
    ctx.out.heading(job.spec.title)
    seen = watch(ctx.out, job)
    if seen.left:
        say_left(ctx.out, job)
        return Reply({"job": as_data(job), "left": True}, code=130)
    if seen.state != "finished":
        return Reply({"job": as_data(job), **say_failed(ctx.out, job)}, code=1)
    well(dict(job.result or {}))
    return Reply({"job": as_data(job), "result": job.result})


def _set(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import auto

    project = ctx.project()
    known = auto.load(project).model_dump(mode="json")
    given = {k: getattr(args, k) for k in PLACES if getattr(args, k, None) is not None}
    for name, value in given.items():
        part, key = PLACES[name]
        (known[part] if part else known)[key] = value
    if args.side is not None:
        for part in ("endpoint", "local", "replicate"):
            known[part]["side"] = args.side
    if args.model is not None:
        place = "folder" if known["engine"] == "local" else "model"
        known[known["engine"]][place] = args.model
    made = auto.parsed(known)
    if given or args.side is not None or args.model is not None:
        auto.save(project, made)
        ctx.out.good("Saved.")
    own = getattr(made, made.engine).model_dump(mode="json")
    if made.engine != "tagger":
        own |= made.words.model_dump(mode="json")
    ctx.out.facts([("engine", auto.ENGINES[made.engine][0]), ("mode", made.mode), *own.items()])
    problem_now = None
    try:
        auto.ready(project, made)
    except StudioError as e:
        problem_now = e.as_dict()
        ctx.out.say(f"It cannot be asked yet: {e.what} {e.fix}", "yellow")
    else:
        ctx.out.next("lora-studio autocaption samples")
    return Reply({"project": project.slug, "settings": made.model_dump(mode="json"), "problem": problem_now})


def _samples(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import auto
    from studio.captions.batch import start_samples

    project = ctx.project()
    if where := auto.sent_to(auto.load(project)):
        ctx.out.say(f"Five pictures are sent to {where}.")
    job = start_samples(project)
    reply = _follow(ctx, job, args.detach, lambda _: None)
    if reply.code == 0 and not args.detach:
        reply.data["samples"] = _show_samples(ctx, project)
    return Reply({"project": project.slug, **reply.data}, reply.code)


def _show_samples(ctx: Context, project: Project) -> list[dict[str, Any]]:
    from studio.captions import samples

    made = samples.load(project)
    if made is None:
        raise NotFoundError(
            "There are no samples yet.",
            "None were made.",
            "Make them with `lora-studio autocaption samples`.",
        )
    trigger = project.intent.trigger
    for s in made.items:
        ctx.out.say()
        ctx.out.say(f"{s.name}  ({samples.VERDICT_WORDS[s.verdict]})", "bold")
        ctx.out.paragraph(f"{trigger}, {s.text or s.proposal.caption}" if not s.trouble else s.trouble, "  ")
        ctx.out.paragraph(
            f"Content: {', '.join(s.proposal.content)}" if s.proposal.content else "", "  ", "dim"
        )
        ctx.out.paragraph(f"Style: {', '.join(s.proposal.style)}" if s.proposal.style else "", "  ", "dim")
    if made.open:
        first = made.open[0].name
        ctx.out.next(f"lora-studio autocaption review {first} --approve (or --adjust TEXT, or --skip)")
    return [s.as_dict() for s in made.items]


def _review(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import samples
    from studio.captions.store import CaptionStore

    project = ctx.project()
    if not args.picture:
        return Reply({"project": project.slug, "samples": _show_samples(ctx, project)})
    made = samples.load(project)
    if made is None:
        raise NotFoundError(
            "There are no samples yet.",
            "None were made.",
            "Make them with `lora-studio autocaption samples`.",
        )
    store = CaptionStore(project)
    names = [picture(store, n) for n in args.picture]
    for name in names:
        made.get(name)  # all of them, before any verdict is written
    verdict = "approved" if args.approve else "skipped" if args.skip else "adjusted"
    for name in names:
        made = samples.review(project, name, verdict, args.adjust or "")  # type: ignore[arg-type]
        ctx.out.say(f"{name}: {samples.VERDICT_WORDS[made.get(name).verdict]}")
    if made.open:
        ctx.out.say(
            f"{len(made.open)} of {len(made.items)} wait for you: {', '.join(s.name for s in made.open)}"
        )
    else:
        ctx.out.next("lora-studio autocaption run")
    return Reply(
        {"project": project.slug, "samples": [s.as_dict() for s in made.items], "open": len(made.open)}
    )


def _check_review(args: Namespace) -> list[Finding]:
    given = [n for n in ("approve", "skip", "adjust") if getattr(args, n, None)]
    words = args.picture or []
    if len(given) > 1:
        names = " and ".join(f"--{n}" for n in given)
        return [
            problem(f"{names} do not go together.", "A sample has one verdict.", "Leave one of them out.")
        ]
    if words and not given:
        fix = "Add --approve, --adjust TEXT or --skip."
        return [problem("The verdict is missing.", "A sample is approved, adjusted or skipped.", fix)]
    if given and not words:
        return [
            problem(
                "PICTURE is missing.", "Each sample is judged by itself.", "Name the picture of the sample."
            )
        ]
    if given == ["adjust"] and len(words) > 1:
        return [
            problem("--adjust is for one picture.", "Each caption has its own words.", "Name one picture.")
        ]
    return []


def _run(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import auto, samples
    from studio.captions.batch import plan, start_batch
    from studio.captions.store import CaptionStore

    project = ctx.project()
    engine = auto.ready(project)
    samples.require(project, engine)
    store = CaptionStore(project)
    names = [picture(store, n) for n in args.picture] if args.picture else None
    todo = plan(project, engine, names)
    data: dict[str, Any] = {
        "project": project.slug, "engine": engine.author, "counts": todo.plan.counts, "seconds": todo.seconds,
        "started": False,
    }  # fmt: skip
    ctx.out.say(todo.plan.words)
    if where := auto.sent_to(engine.auto):
        ctx.out.say(f"The pictures are sent to {where}.")
    if todo.seconds:
        ctx.out.say(f"It takes about {human_time(todo.seconds)}.")
    if not todo.plan.write:
        ctx.out.say("There is nothing to write.")
        return Reply(data)
    if not ctx.agreed(f"{todo.label}?"):
        return Reply(data)
    job = start_batch(project, names)

    def well(result: dict[str, Any]) -> None:
        ctx.out.good(f"{result['written']} captions written. `lora-studio captions undo` takes them back.")
        for e in result["errors"][:12]:
            ctx.out.say(f"{e['what']} {e['why']} {e['fix']}".strip(), "yellow")
        if len(result["errors"]) > 12:
            ctx.out.dim(f"and {len(result['errors']) - 12} more; --json holds all.")

    reply = _follow(ctx, job, args.detach, well)
    return Reply({**data, "started": True, **reply.data}, reply.code)


def _status(ctx: Context, args: Namespace) -> Reply:
    from studio.captions import auto, samples
    from studio.captions.batch import last_job, plan

    project = ctx.project()
    chosen = auto.load(project)
    data: dict[str, Any] = {
        "project": project.slug,
        "engine": chosen.engine,
        "settings": chosen.model_dump(mode="json"),
    }
    facts: list[tuple[str, object]] = [("Engine", auto.ENGINES[chosen.engine][0])]
    try:
        engine = auto.ready(project, chosen)
    except StudioError as e:
        data |= {"ready": False, "problem": e.as_dict()}
        facts += [("Ready", f"no: {e.what}"), ("Fix", e.fix)]
    else:
        review = samples.state(project, engine)
        facts += [("Ready", f"yes: {engine.author}"), ("Samples", review.words)]
        data |= {"ready": True, "author": engine.author, "review": review.state, "review_words": review.words}
        from studio.dataset.folder import look

        if look(project.dataset_dir).pictures:
            todo = plan(project, engine)
            facts.append(("Captions", todo.plan.words))
            data |= {"counts": todo.plan.counts, "seconds": todo.seconds}
    job = last_job(project)
    data["job"] = as_data(job) if job is not None else None
    facts.append(("Last job", f"{job.id}: {job.state}" if job is not None else "none"))
    ctx.out.facts(facts)
    return Reply(data)


COMMANDS = (
    Command(
        "autocaption set",
        GROUP,
        "Choose what writes captions, and how; shows the choices when nothing is given.",
        _set,
        options=SET_OPTIONS,
        examples=(
            "autocaption set --engine tagger --model wd-swinv2-v3 --exclude 'signature, watermark'",
            "autocaption set --engine endpoint --address http://localhost:11434/v1 --model qwen2.5vl",
        ),
    ),
    Command(
        "autocaption models",
        GROUP,
        "List taggers that can be downloaded; --service lists the models of the description service.",
        _models,
        options=(Option("--service", "Ask the description service which models it has."),),
    ),
    Command(
        "autocaption download",
        GROUP,
        "Download a tagger; goes on where an earlier download stopped.",
        _download,
        words=(Word("ID", "The tagger's id.", required=True, convert=text(80)),),
        options=(DETACH,),
        examples=("autocaption download wd-swinv2-v3",),
        project=False,
    ),
    Command(
        "autocaption samples",
        GROUP,
        "Make five sample captions of pictures that differ; nothing is written into the dataset.",
        _samples,
        options=(DETACH,),
    ),
    Command(
        "autocaption review",
        GROUP,
        "Approve, adjust or skip samples; shows them when none is named.",
        _review,
        words=(Word("PICTURE", "Pictures of the samples.", many=True, convert=text(300)),),
        options=(
            Option("--approve", "The caption is right."),
            Option("--adjust", "The caption as it should be.", metavar="TEXT", convert=text(5000)),
            Option("--skip", "Leave this one as it is."),
        ),
        details="All five need a verdict before `autocaption run` may write the rest.",
        examples=(
            "autocaption review 012.png --approve",
            'autocaption review 014.png --adjust "a boat on a lake"',
        ),
        check=_check_review,
    ),
    Command(
        "autocaption run",
        GROUP,
        "Write captions with the reviewed engine: all pictures, or those named.",
        _run,
        words=(Word("PICTURE", "Names of pictures.", many=True, convert=text(300)),),
        options=(DETACH, YES),
        details="Says first how many will be written, kept because a person wrote them, or are there already. "
        "Goes on where an earlier run was stopped.",
        examples=("autocaption run --yes",),
    ),
    Command("autocaption status", GROUP, "Where captions by an engine stand.", _status),
)
