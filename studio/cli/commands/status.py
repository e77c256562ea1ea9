"""Where things stand: the project, its jobs, one job."""

from __future__ import annotations

from argparse import Namespace
from typing import Any

from studio import guidance
from studio.cli.context import Context
from studio.cli.jobs import KIND_WORDS, as_data, find_job, project_jobs
from studio.cli.spec import Command, Option, Reply, Word
from studio.cli.values import text, whole
from studio.cli.watch import progress_words, say_failed, say_left, watch
from studio.project import Project

GROUP = "Runs"
# What `studio.guidance` calls the next step -> the command that does it; by the step when its words have no entry.
NEXT_COMMAND = {
    "dataset": "lora-studio audit",
    "captions": "lora-studio captions list",
    "config": "lora-studio config show",
    "run": "lora-studio train",
    "evaluation": "lora-studio evaluate",
    "Add pictures": "lora-studio import FOLDER",
    "Mend the captions": "lora-studio audit",
    "Write the missing captions": "lora-studio captions list --only empty",
    "Choose a preset": "lora-studio config reset",
    "Watch it learn": "lora-studio status --follow",
    "See what happened": "lora-studio log, then lora-studio resume",
    "Watch the grid": "lora-studio status --follow",
    "Choose the weight and register": "lora-studio register",
}


def _command_for(step: guidance.Step) -> str:
    if step.state == "done":
        return "lora-studio library"
    return NEXT_COMMAND.get(step.next_words) or NEXT_COMMAND[step.name]


def project_status(ctx: Context, project: Project) -> Reply:
    """Where a project stands, and the command that comes next."""
    from studio import gates

    intent = project.intent
    steps = guidance.steps(project)
    states = gates.states(project)
    alive = [j for j in project_jobs(project) if j.is_alive]
    following = guidance.next_step(project)
    command = _command_for(following)
    ctx.out.say(intent.name, "bold")
    ctx.out.facts(
        [
            ("Project", project.slug),
            ("Kind", intent.kind),
            ("Trigger word", intent.trigger),
            ("Base model", intent.base_model),
            ("Folder", project.folder),
        ]
    )
    ctx.out.heading("Steps")
    ctx.out.table(
        ["Step", "State", "There", "Missing"],
        [[s.title, s.state, s.done_words, s.missing_words] for s in steps],
    )
    ctx.out.heading("Gates")
    ctx.out.table(["Gate", "State", ""], [[s.title, s.state, s.reason] for s in states.values()])
    if alive:
        ctx.out.heading("Running now")
        ctx.out.table(["Job", "", ""], [[j.id, j.spec.title, progress_words(j)] for j in alive])
    ctx.out.next(command)
    return Reply(
        {
            "project": project.slug,
            "intent": intent.model_dump(mode="json"),
            "steps": [vars(s) for s in steps],
            "gates": {g: {"state": s.state, "reason": s.reason} for g, s in states.items()},
            "running": [as_data(j) for j in alive],
            "next": command,
        }
    )


def _status(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    if args.job is None and not args.follow:
        return project_status(ctx, project)
    if args.job is not None:
        job = find_job(project, args.job)
    else:
        alive = [j for j in project_jobs(project) if j.is_alive]
        if not alive:
            ctx.out.say(f"Nothing is running in '{project.slug}'.")
            return Reply({"project": project.slug, "job": None})
        job = alive[0]
    left = False
    if args.follow and job.is_alive:
        left = watch(ctx.out, job, since=job.events()[1]).left
    data = as_data(job)
    ctx.out.facts(
        [
            ("Job", job.id),
            ("What", job.spec.title),
            ("State", job.state),
            ("Where it is", progress_words(job)),
            ("Started", job.created),
            ("Folder", job.folder),
        ]
    )
    if left:
        say_left(ctx.out, job)
        return Reply({"project": project.slug, "job": data, "left": True}, code=130)
    code = 0
    if job.state in ("failed", "interrupted", "stopped"):
        ctx.out.say()
        say_failed(ctx.out, job)
        code = 1 if args.follow else 0
        if job.spec.kind == "training":
            ctx.out.next(f"lora-studio resume {job.id}")
    return Reply({"project": project.slug, "job": data}, code=code)


def _jobs(ctx: Context, args: Namespace) -> Reply:
    projects = [ctx.named(s) for s in ctx.workspace.project_slugs()] if args.all else [ctx.project()]
    jobs = [j for p in projects for j in project_jobs(p)]
    jobs.sort(key=lambda j: (j.created, j.id), reverse=True)
    shown = jobs[: args.limit]
    ctx.out.table(
        ["Job", "What", "Project", "State", "Where it is"],
        [
            [
                j.id,
                KIND_WORDS.get(j.spec.kind, j.spec.kind),
                j.spec.project or "",
                j.state,
                progress_words(j) if j.is_alive else "",
            ]
            for j in shown
        ],
    )
    if not jobs:
        ctx.out.say("There are no jobs yet.")
    elif len(jobs) > len(shown):
        ctx.out.dim(f"and {len(jobs) - len(shown)} older ones; --limit {len(jobs)} shows them.")
    data: list[dict[str, Any]] = [as_data(j) for j in shown]
    return Reply({"jobs": data, "total": len(jobs)})


COMMANDS = (
    Command(
        "status",
        GROUP,
        "Show where the project, or one job, stands and what comes next.",
        _status,
        words=(Word("JOB", "A run, grid or other job; the end of its name is enough.", convert=text(120)),),
        options=(Option("--follow", "Keep showing it until it ends. Ctrl-C leaves it running."),),
        examples=("status", "status --follow"),
    ),
    Command(
        "jobs",
        GROUP,
        "List runs, grids and other jobs, newest first.",
        _jobs,
        options=(
            Option("--all", "Of all projects."),
            Option(
                "--limit",
                "How many to show.",
                metavar="N",
                convert=whole(1, 100_000, 20),
                default=20,
            ),
        ),
    ),
)
