"""Pictures: bring them in, look at them, mend what is wrong."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio import models
from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import did_you_mean, existing, text
from studio.errors import InputError, NotFoundError
from studio.findings import Finding, blocking, by_harm, summary
from studio.project import KINDS, Project

GROUP = "Pictures and captions"


def _import(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.intake import import_pictures

    project = ctx.project()
    with ctx.out.live() as line:
        report = import_pictures(
            project,
            args.path,
            progress=lambda done, total, label: line.update(
                f"{done} of {total}: {label}", done / max(1, total)
            ),
        )
    return imported(ctx, project, report)


def imported(ctx: Context, project: Project, report: Any) -> Reply:
    """Say what an import did. Raises InputError when nothing came of it."""
    from studio.dataset.folder import look

    if not report.added and not report.already_there and not report.stopped:
        raise InputError(
            "No picture came in.",
            "None of the files could be taken." if report.refused else "There is no picture there.",
            "See what is written beside each one."
            if report.refused
            else "Name a folder, a ZIP or files with pictures: PNG, JPEG, WebP and others.",
            report.refused,
        )
    ctx.out.good(report.words)
    for source, name in list(report.already_there.items())[:10]:
        ctx.out.dim(f"  {source} is the same picture as {name}")
    ctx.out.findings(report.refused)
    count = len(look(project.dataset_dir).pictures)
    low, high = KINDS[project.intent.kind]["images"]
    ctx.out.say()
    ctx.out.say(f"'{project.slug}' has {count} pictures now; {low} to {high} suit a {project.intent.kind}.")
    ctx.out.next("lora-studio audit")
    return Reply({"project": project.slug, "pictures": count, **report.as_dict()})


def _audit(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.gate import dataset_findings
    from studio.dataset.scan import scan

    project = ctx.project()
    entry = models.get_model(ctx.workspace, project.intent.base_model)
    with ctx.out.live() as line:
        seen = scan(
            project,
            progress=lambda done, total, what: line.update(
                f"{what}: {done} of {total}", done / max(1, total)
            ),
        )
    found, facts = dataset_findings(project, entry)
    found = by_harm(found)
    data: dict[str, Any] = {
        "project": project.slug,
        "pictures": len(seen),
        "facts": facts,
        "findings": [f.model_dump(mode="json") for f in found],
    }
    if args.fix:
        return _fix(ctx, project, found, args, data)
    show_pictures(ctx, seen, facts)
    ctx.out.findings(found)
    ctx.out.say()
    if blocking(found):
        ctx.out.say(f"NO-GO: {summary(found)}.", "bold red")
    else:
        ctx.out.good(f"GO: {summary(found)}.")
    offers = list(dict.fromkeys(f.code for f in found if f.action))
    ctx.out.next(f"lora-studio audit --fix {offers[0]}" if offers else "lora-studio captions list")
    return Reply(data, code=4 if blocking(found) else 0)


def show_pictures(ctx: Context, seen: Any, facts: dict[str, Any]) -> None:
    """The dataset in a few figures."""
    readable = seen.readable
    sizes = sorted({(p.width, p.height) for p in readable}, key=lambda s: s[0] * s[1])
    span = ""
    if sizes:
        (w1, h1), (w2, h2) = sizes[0], sizes[-1]
        span = f"{w1} x {h1} px" if sizes[0] == sizes[-1] else f"{w1} x {h1} to {w2} x {h2} px"
    ctx.out.facts(
        [
            ("Pictures", len(seen)),
            ("Readable", len(readable)),
            ("With a caption", sum(bool(p.caption) for p in seen)),
            ("Sizes", span),
            ("Buckets", ", ".join(f"{n} at {w} x {h}" for w, h, n in facts["buckets"])),
            ("Set aside", facts["set_aside"] or ""),
        ]
    )


def _fix(
    ctx: Context, project: Project, found: list[Finding], args: Namespace, data: dict[str, Any]
) -> Reply:
    from studio.dataset.gate import FIXES, fix_finding

    able = [f for f in found if f.action]
    codes = list(dict.fromkeys(f.code for f in able))
    if args.fix == ["all"]:
        wanted = codes
    else:
        wanted = list(dict.fromkeys(args.fix))
        unknown = [c for c in wanted if c not in codes]
        if unknown:
            known = ", ".join(codes) or "nothing here"
            raise NotFoundError(
                f"'{unknown[0]}' is not among the findings that can be mended by themselves.",
                f"Those are: {known}.",
                f"{did_you_mean(unknown[0], codes)} `lora-studio audit` lists all findings.".strip(),
            )
    chosen = [f for f in able if f.code in wanted]
    if not chosen:
        ctx.out.say("There is nothing that can be mended by itself.")
        return Reply({**data, "applied": False, "fixed": []})
    for f in chosen:
        ctx.out.say(f"{FIXES.get(f.action, f.action)}: {', '.join(f.where) or f.what}")
    applied = ctx.agreed("Do this?")
    fixed = []
    if applied:
        for f in chosen:
            changed = fix_finding(project, f.action, f.where)
            fixed.append({"code": f.code, "action": f.action, "changed": changed})
        ctx.out.good("Done. Pictures that were set aside can be put back with `lora-studio restore`.")
        ctx.out.next("lora-studio audit")
    return Reply({**data, "applied": applied, "fixed": fixed})


def _set_aside(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.folder import look
    from studio.dataset.set_aside import remove_pictures

    project = ctx.project()
    there = look(project.dataset_dir).pictures
    _must_exist(args.picture, list(there), f"in '{project.slug}'")
    for name in args.picture:
        ctx.out.say(f"Set aside: {name}")
    applied = ctx.agreed("Do this?")
    if applied:
        remove_pictures(project, args.picture, reason=args.reason or "by hand")
        ctx.out.good("They are out of the dataset now, and kept.")
    return Reply({"project": project.slug, "pictures": args.picture, "applied": applied})


def _must_exist(names: list[str], known: list[str], where: str) -> None:
    missing = [n for n in names if n not in known]
    if not missing:
        return
    found = [
        problem(
            f"There is no picture called '{n}' {where}.",
            "It was renamed, set aside or never imported.",
            did_you_mean(n, known) or "`lora-studio captions list` shows their names.",
            n,
        )
        for n in missing
    ]
    first = found[0]
    raise NotFoundError(first.what, first.why, first.fix, found if len(found) > 1 else None)


def _restore(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.set_aside import restore_pictures, set_aside_list

    project = ctx.project()
    aside = set_aside_list(project)
    if not args.picture:
        ctx.out.table(["Picture", "Why", "When"], [[s.file, s.reason, s.at] for s in aside])
        if not aside:
            ctx.out.say("Nothing is set aside.")
        return Reply(
            {
                "project": project.slug,
                "set_aside": [
                    {"name": s.name, "file": s.file, "reason": s.reason, "at": s.at} for s in aside
                ],
            }
        )
    _must_exist(args.picture, [n for s in aside for n in (s.file, s.name)], "among those set aside")
    back = restore_pictures(project, args.picture)
    for old, new in back.items():
        ctx.out.good(f"{old} is back{'' if old == new else f' as {new}'}.")
    return Reply({"project": project.slug, "restored": back})


COMMANDS = (
    Command(
        "import",
        GROUP,
        "Copy pictures and the captions beside them into the project.",
        _import,
        words=(
            Word(
                "PATH",
                "Pictures, folders (with everything below) or ZIP archives.",
                required=True,
                many=True,
                convert=existing,
            ),
        ),
        details="The originals are only read. What is there already, by content, is not added again; what is no picture "
        "is refused by name and the rest comes in.",
        examples=("import ~/pictures/ink", "import drawings.zip extra.png"),
    ),
    Command(
        "audit",
        GROUP,
        "Look at every picture and caption and say what is wrong.",
        _audit,
        options=(
            Option(
                "--fix",
                "Mend the findings of this code; 'all' for each that can be mended by itself.",
                metavar="CODE",
                convert=text(80),
                many=True,
            ),
            YES,
        ),
        details="Exit code 4 when something blocks gate 1.",
        examples=("audit", "audit --fix all --yes"),
    ),
    Command(
        "set-aside",
        GROUP,
        "Take pictures out of the dataset; they are kept.",
        _set_aside,
        words=(Word("PICTURE", "Names of pictures.", required=True, many=True),),
        options=(Option("--reason", "Why, for the record.", metavar="TEXT", convert=text(200)), YES),
    ),
    Command(
        "restore",
        GROUP,
        "Put back pictures that were set aside; lists them when none is named.",
        _restore,
        words=(Word("PICTURE", "Names of pictures.", many=True),),
    ),
)
