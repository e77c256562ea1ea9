"""Pictures: bring them in, look at them, mend what is wrong."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import models
from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import did_you_mean, existing, text
from studio.errors import InputError, NotFoundError
from studio.files import human_size
from studio.findings import Finding, blocking, by_harm, summary
from studio.project import KINDS, Project

if TYPE_CHECKING:
    from studio.dataset.derived import Made
    from studio.dataset.set_aside import SetAside

GROUP = "Pictures and captions"


def source(raw: str) -> Path | str:
    """A path that is there, or an address. Raises Bad."""
    from studio.dataset.incoming import is_url

    return raw.strip() if is_url(raw) else existing(raw)


def _import(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.incoming import check_address, import_url
    from studio.dataset.intake import ImportReport, import_pictures

    project = ctx.project()
    paths = [p for p in args.path if isinstance(p, Path)]
    addresses = [a for a in args.path if isinstance(a, str)]
    for address in addresses:
        check_address(address)  # all of them before anything is fetched
    report = ImportReport()
    with ctx.out.live() as line:

        def taking(done: int, total: int, label: str) -> None:
            line.update(f"{done} of {total}: {label}", done / max(1, total))

        def fetching(done: int, total: int | None) -> None:
            size = f" of {human_size(total)}" if total else ""
            line.update(f"Fetching: {human_size(done)}{size}", done / total if total else 0.0)

        if paths:
            report.include(import_pictures(project, paths, progress=taking))
        for address in addresses:
            report.include(import_url(project, address, fetching=fetching, progress=taking))
    return imported(ctx, project, report)


def imported(ctx: Context, project: Project, report: Any) -> Reply:
    """Say what an import did. Raises InputError when nothing came of it."""
    from studio.dataset.folder import look
    from studio.dataset.subsets import marked_at_import

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
    ctx.out.findings([*report.refused, *marked_at_import(report.regularisation)])
    count = len(look(project.dataset_dir).pictures)
    low, high = KINDS[project.intent.kind]["images"]
    ctx.out.say()
    ctx.out.say(f"'{project.slug}' has {count} pictures now; {low} to {high} suit a {project.intent.kind}.")
    ctx.out.next("lora-studio audit")
    return Reply({"project": project.slug, "pictures": count, **report.as_dict()})


def _audit(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.gate import dataset_findings
    from studio.dataset.lettering import read_writing
    from studio.dataset.scan import scan
    from studio.dataset.unmeasured import unmeasured

    project = ctx.project()
    entry = models.get_model(ctx.workspace, project.intent.base_model)
    with ctx.out.live() as line:

        def looking(done: int, total: int, what: str) -> None:
            line.update(f"{what}: {done} of {total}", done / max(1, total))

        seen = scan(project, progress=looking)
        if args.writing:
            read_writing(project, seen, looking)
    missing = unmeasured(seen, entry)
    found, facts = dataset_findings(project, entry)
    found = by_harm(found)
    data: dict[str, Any] = {
        "project": project.slug,
        "pictures": len(seen),
        "facts": facts,
        "findings": [f.model_dump(mode="json") for f in found],
        "not_measured": [f.model_dump(mode="json") for f in missing],
    }
    if args.fix:
        return _fix(ctx, project, found, args, data)
    show_pictures(ctx, seen, facts)
    ctx.out.findings(found)
    for f in missing:
        ctx.out.dim(
            f"Not checked: {f.what} {'`lora-studio audit --writing` does.' if f.action else f.fix}".rstrip()
        )
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
    from studio.dataset.fixes import FIXES, fix_finding, touches
    from studio.dataset.scan import scan
    from studio.dataset.wording import named

    seen = scan(project)
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
        ctx.out.say(f"{FIXES.get(f.action, f.action)} ({touches(seen, f)}): {named(f.where, 8) or f.what}")
    applied = ctx.agreed("Do this?")
    fixed = []
    if applied:
        with ctx.out.live() as line:
            for f in chosen:
                changed = fix_finding(
                    project, f.action, f.where,
                    progress=lambda done, total, name: line.update(f"{done} of {total}: {name}", done / max(1, total)),
                )  # fmt: skip
                fixed.append({"code": f.code, "action": f.action, "changed": changed})
        ctx.out.good(
            "Done. `lora-studio restore` puts back pictures that were set aside, and the imported copies of changed ones."
        )
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
    from studio.dataset.derived import made_pictures, put_back
    from studio.dataset.folder import look
    from studio.dataset.set_aside import restore_pictures, set_aside_list

    project = ctx.project()
    aside = set_aside_list(project)
    there = look(project.dataset_dir).pictures
    made = {n: m for n, m in made_pictures(project).items() if n in there}
    if not args.picture:
        return _kept(ctx, project, aside, list(made.values()))
    outside = [n for s in aside for n in (s.file, s.name)]
    _must_exist(args.picture, [*outside, *made], "among those set aside or changed")
    back = restore_pictures(project, [n for n in args.picture if n in outside])
    for old, new in back.items():
        ctx.out.good(f"{old} is back{'' if old == new else f' as {new}'}.")
    done = put_back(project, [n for n in args.picture if n not in outside])
    for name in done.changed:
        ctx.out.good(f"{name} is as it was imported.")
    ctx.out.findings(done.left)
    left = [f.model_dump(mode="json") for f in done.left]
    return Reply({"project": project.slug, "restored": back, "as_imported": done.changed, "left": left})


def _kept(ctx: Context, project: Project, aside: list[SetAside], made: list[Made]) -> Reply:
    """List what can be restored."""
    if aside:
        ctx.out.table(["Set aside", "Why", "When"], [[s.file, s.reason, s.at] for s in aside])
    if made:
        ctx.out.table(
            ["Changed", "How", "Imported as"], [[m.name, ", ".join(m.ways), m.original] for m in made]
        )
    if not aside and not made:
        ctx.out.say("Nothing is set aside or changed.")
    return Reply(
        {
            "project": project.slug,
            "set_aside": [{"name": s.name, "file": s.file, "reason": s.reason, "at": s.at} for s in aside],
            "changed": [{"name": m.name, "imported_as": m.original, "how": list(m.ways), "at": m.at} for m in made],
        }
    )  # fmt: skip


def _discard(ctx: Context, args: Namespace) -> Reply:
    from studio.dataset.set_aside import discard, set_aside_list

    project = ctx.project()
    aside = {s.file: s for s in set_aside_list(project)}
    names = args.picture or list(aside)
    _must_exist(names, list(aside), "among those set aside")
    if not names:
        ctx.out.say("Nothing is set aside.")
        return Reply({"project": project.slug, "deleted": [], "freed": 0, "applied": False})
    size = sum(aside[n].path.stat().st_size for n in names)
    for name in names:
        ctx.out.say(f"Delete for good: {name}")
    ctx.out.say(f"That frees {human_size(size)} and cannot be undone; what you imported from stays.")
    applied = ctx.agreed("Do this?")
    freed = discard(project, names)[1] if applied else 0
    if applied:
        ctx.out.good(f"{human_size(freed)} are free again.")
    return Reply(
        {"project": project.slug, "deleted": names if applied else [], "freed": freed, "applied": applied}
    )


COMMANDS = (
    Command(
        "import",
        GROUP,
        "Copy pictures and their captions into the project.",
        _import,
        words=(
            Word(
                "PATH",
                "Pictures, folders (with everything below), ZIP archives, or https addresses of ZIP archives.",
                required=True,
                many=True,
                convert=source,
            ),
        ),
        details="The originals are only read. What is there already, by content, is not added again; what is no picture "
        "is refused by name and the rest comes in. Captions come along as .txt or .caption of the same name, or in a "
        "metadata.jsonl or kohya's meta_cap.json; N of folders called N_name becomes the repeats. A download that broke "
        "off is gone on with.",
        examples=(
            "import ~/pictures/ink",
            "import drawings.zip extra.png",
            "import https://example.org/drawings.zip",
        ),
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
            Option(
                "--writing",
                "Look for writing and watermarks, too; about a second a picture, and needs rapidocr.",
            ),
            YES,
        ),
        details="Exit code 4 when something blocks gate 1. Fixes that convert, flatten or trim keep the imported copy; "
        "`restore` puts it back.",
        examples=("audit", "audit --writing", "audit --fix bars --fix sixteen-bit", "audit --fix all --yes"),
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
        "Put back pictures that were set aside, and the imported copies of changed ones.",
        _restore,
        words=(Word("PICTURE", "Names of pictures; without any, lists what can be restored.", many=True),),
    ),
    Command(
        "discard",
        GROUP,
        "Delete pictures that were set aside, for good.",
        _discard,
        words=(Word("PICTURE", "Names of pictures; without any, all that are set aside.", many=True),),
        options=(YES,),
        details="Says how much room that frees, and asks. What you imported from is never touched.",
    ),
)
