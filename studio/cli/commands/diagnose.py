"""What went wrong and what to change for the next run; which run came from which."""

from __future__ import annotations

from argparse import Namespace

from studio.cli.context import Context
from studio.cli.jobs import find_grid, find_run
from studio.cli.parser import problem
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import listed, text
from studio.findings import Finding

GROUP = "Evaluation"


def _diagnose(ctx: Context, args: Namespace) -> Reply:
    from studio.diagnosis import engine

    project = ctx.project()
    if args.undo:
        engine.undo_next(project)
        ctx.out.good("The settings are as they were before.")
        return Reply({"project": project.slug, "settings": project.settings.model_dump(mode="json")})
    run = find_run(project, args.run) if args.run else None
    grid = find_grid(project, args.grid) if args.grid else engine.newest_grid(project, run)
    run = run or engine.run_of(project, grid)
    if args.fix:
        told = engine.prepare_next(project, [str(s) for s in args.fix], run, grid)
        ctx.out.good("The next run is prepared. These settings change, and nothing else:")
        ctx.out.table(["Setting", "Run", "Next", "Why"], [list(x) for x in engine.in_words(told.changes)])
        if told.back:
            ctx.out.say(engine.back_words(told.back))
        ctx.out.next("lora-studio gates, then lora-studio train; `lora-studio diagnose --undo` takes it back")
        return Reply(
            {
                "project": project.slug,
                "run": run.id if run else None,
                "changes": {k: [c.before, c.after] for k, c in told.changes.items()},
                "reasons": {k: c.why for k, c in told.changes.items()},
                "back": {k: list(v) for k, v in told.back.items()},
            }
        )
    if args.symptom:
        found = [engine.explain(project, args.symptom, run, grid)]
    else:
        found = engine.diagnose(project, grid, run)
    for one in found:
        ctx.out.heading(f"{one.row.see}  ({one.row.id}, {one.basis})")
        for sentence in one.evidence:
            ctx.out.say(f"  {sentence}")
        ctx.out.facts(
            [("Causes", "; ".join(one.row.causes)), ("Be sure", one.row.confirm), ("Change", one.row.fix),
             ("Now", one.at_once), ("Seen here", one.row.measured),
             *((("Next run" if n == 0 else ""), f"{t}: {a} -> {b}. {why}") for n, (t, a, b, why) in enumerate(engine.in_words(one.changes))),
             ("Where", f"the {one.row.place} page" if one.row.place else ""), ("Sources", "; ".join(one.row.sources))]
        )  # fmt: skip
    if not found:
        ctx.out.say(
            "Nothing stands out. Rate and mark pictures: `lora-studio rate`, or name a symptom with --symptom."
        )
    elif any(one.changes for one in found):
        ctx.out.next(f"lora-studio diagnose --fix {next(o.row.id for o in found if o.changes)}")
    return Reply({"project": project.slug, "grid": grid.id if grid else None, "run": run.id if run else None,
                  "diagnoses": [one.as_dict() for one in found]})  # fmt: skip


def _check(args: Namespace) -> list[Finding]:
    if args.undo and (args.fix or args.symptom or args.grid or args.run):
        return [problem("--undo goes alone.", "It takes back what --fix did last.", "Leave the others out.")]
    if args.fix and args.symptom:
        return [
            problem(
                "--fix does not go with --symptom.",
                "--fix names the symptoms itself.",
                "Leave one of them out.",
            )
        ]
    return []


def _lineage(ctx: Context, args: Namespace) -> Reply:
    from studio.diagnosis.lineage import compared, drawn, lineage

    project = ctx.project()
    if args.run:
        nodes = {n.run: n for n in lineage(project)}
        after = find_run(project, args.run)
        parent = args.against or nodes[after.id].parent
        if not parent:
            ctx.out.say(f"{after.id} is a first run; there is nothing to compare it with.")
            return Reply(
                {"project": project.slug, "run": after.id, "against": None, "settings": [], "pictures": {}}
            )
        before = find_run(project, parent)
        found, pictures = compared(before, after)
        ctx.out.heading(f"{before.id} -> {after.id}")
        ctx.out.table(["What", "Before", "After"], [[d.what, d.before, d.after] for d in found])
        for word, names in (
            ("Added", pictures.added),
            ("Taken out", pictures.removed),
            ("Captioned anew", pictures.recaptioned),
        ):
            if names:
                ctx.out.say(f"{word}: {', '.join(names[:12])}{' and more' if len(names) > 12 else ''}")
        if not found and not pictures:
            ctx.out.say("Nothing differs.")
        return Reply({"project": project.slug, "run": after.id, "against": before.id, "settings": [vars(d) for d in found],
                      "pictures": {k: list(v) for k, v in vars(pictures).items()}})  # fmt: skip
    tree = lineage(project)
    ctx.out.table(
        ["Run", "State", "To mend", "Verdict", "Rating"],
        [
            ["  " * depth + n.run, n.state, "; ".join(n.symptoms), n.verdict, n.rating or ""]
            for depth, n in drawn(tree)
        ],
    )
    if not tree:
        ctx.out.say(f"'{project.slug}' has no run yet.")
    return Reply({"project": project.slug, "runs": [n.as_dict() for n in tree]})


def _check_lineage(args: Namespace) -> list[Finding]:
    if args.against and not args.run:
        return [
            problem("--against needs a run.", "It says what a run is compared with.", "Name the run first.")
        ]
    return []


COMMANDS = (
    Command("diagnose", GROUP, "Say what is wrong with a LoRA, why, and what to change.", _diagnose, options=(
        Option("--grid", "The grid to judge by; the newest when left out.", metavar="GRID", convert=text(120)),
        Option("--run", "The run to judge; the grid's when left out.", metavar="RUN", convert=text(120)),
        Option("--symptom", "Explain this symptom (a name, or its number in the guide) whatever was noticed.", metavar="NAME", convert=text(60)),
        Option("--fix", "Prepare the next run with the changes that these symptoms ask for.", metavar="LIST", convert=listed(text(60), "burnt,leaks")),
        Option("--undo", "Take the last preparation back."),
    ), examples=("diagnose", "diagnose --fix burnt", "diagnose --symptom copies"), check=_check,
        details="Reads your ratings and marks, the measurements, the loss, the dataset and the settings. It changes nothing without --fix."),
    Command("lineage", GROUP, "Show which run came from which, what changed, and what came out.", _lineage,
        words=(Word("RUN", "Show what this run changed against the one that it came from.", convert=text(120)),),
        options=(Option("--against", "Compare with this run instead.", metavar="RUN", convert=text(120)),), check=_check_lineage),
)  # fmt: skip
