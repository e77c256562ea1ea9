"""Training runs: start, stop, resume, read the log."""

from __future__ import annotations

import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from studio.cli import settings_flags
from studio.cli.commands.config import save_changes
from studio.cli.commands.gates import NAMES, Left, run_gates
from studio.cli.context import Context
from studio.cli.grids import show_grid
from studio.cli.jobs import as_data, find_job, project_jobs
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import text, whole
from studio.cli.watch import DETACH, POLL, WAIT, Watched, check_wait, say_failed, say_left, watch
from studio.errors import InputError, NotFoundError
from studio.files import human_time
from studio.project import Project
from studio.settings import problems

GROUP = "Runs"
TRAINING = "training"


def _train(ctx: Context, args: Namespace) -> Reply:
    from studio import gates, launch

    project = ctx.project()
    save_changes(ctx, project, settings_flags.from_flags(args))
    try:
        done = run_gates(ctx, project, NAMES, again=False)
    except Left as left:
        say_left(ctx.out, left.job)
        return Reply({"project": project.slug, "left": True, "job": left.job.id}, code=130)
    if not all(n in done and done[n]["passed"] for n in NAMES):
        gates.require_gates(project)  # raises GateError with every reason
    forecast = gates.forecast(project)
    run = launch.start_training(project)
    takes = f", about {human_time(forecast.seconds)}" if forecast.seconds else ""
    ctx.out.heading(f"Training started: {run.id}{takes}")
    return follow_run(ctx, project, run, args.detach)


def _again(ctx: Context, args: Namespace) -> Reply:
    from studio import compare
    from studio.training.runs import get_run

    project = ctx.project()
    run = get_run(project, args.run or "")
    found = compare.since(run, project)
    ctx.out.heading(f"Running {run.id} again")
    for d in found:
        ctx.out.say(f"  {d.what}: {d.before} then, {d.after} now")
    if not found:
        ctx.out.say("Nothing is different: same pictures, captions, settings and versions.")
    data = {"again": run.id, "differences": [vars(d) for d in found]}
    if found and not ctx.agreed("Its settings are brought back; what is listed stays as it is now. Go on?"):
        return Reply({"project": project.slug, "applied": False, **data})
    compare.bring_back(run, project)
    reply = _train(ctx, args)
    return Reply({**reply.data, "applied": True, **data}, code=reply.code)


def follow_run(ctx: Context, project: Project, run: Any, detach: bool, since: int = 0) -> Reply:
    """Watch a run unless it is left alone, and say what came of it. since: offset into its events."""
    from studio import launch

    if detach:
        ctx.out.say("It runs by itself now.")
        ctx.out.next(f"lora-studio status {run.id} --follow")
        return Reply({"project": project.slug, "run": as_data(run.job)})
    seen: Watched = watch(ctx.out, run.job, since)
    if seen.left:
        say_left(ctx.out, run.job)
        return Reply({"project": project.slug, "run": as_data(run.job), "left": True}, code=130)
    launch.write_records(project, run)
    if seen.state != "finished":
        ctx.out.say()
        error = say_failed(ctx.out, run.job)
        if run.resumable:
            ctx.out.next(f"lora-studio resume {run.id}")
        return Reply({"project": project.slug, "run": as_data(run.job), **error}, code=1)
    facts = launch.progress_facts(run)
    checkpoints = run.checkpoints()
    ctx.out.good(f"Finished: {facts['step']} steps in {human_time(facts['elapsed'])}.")
    ctx.out.facts(
        [
            ("Loss", f"{facts['first_loss']:.4f} at first, {facts['loss']:.4f} at the end"),
            ("Checkpoints", ", ".join(c.label for c in checkpoints)),
            ("LoRA", checkpoints[-1].path if checkpoints else ""),
        ]
    )
    ctx.out.next("lora-studio evaluate")
    return Reply(
        {
            "project": project.slug,
            "run": as_data(run.job),
            "facts": facts,
            "checkpoints": [
                {"path": str(c.path), "epoch": c.epoch, "step": c.step, "final": c.final} for c in checkpoints
            ],
        }
    )


def _stop(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    if args.job is not None:
        job = find_job(project, args.job)
    else:
        alive = [j for j in project_jobs(project) if j.is_alive]
        if not alive:
            raise NotFoundError(
                f"Nothing is running in '{project.slug}'.",
                "All of its jobs have ended.",
                "`lora-studio jobs --all` shows those of every project.",
            )
        if len(alive) > 1:
            raise InputError(
                "Several jobs are running.",
                f"They are: {', '.join(j.id for j in alive)}.",
                "Name the one to stop.",
            )
        job = alive[0]
    if not job.stop():
        raise InputError(
            f"{job.id} is not running.", f"It is {job.state}.", "`lora-studio jobs` shows what runs."
        )
    ctx.out.say(f"Asked {job.id} to stop; it saves its state first.")
    with ctx.out.live() as line:
        line.update("Stopping.")
        state = job.wait(timeout=0.1 if args.detach else args.timeout)
    if job.is_alive:
        ctx.out.say("It is still stopping.")
    else:
        ctx.out.good(f"It is {state}.")
        if job.spec.kind == TRAINING and state != "finished":
            ctx.out.next(f"lora-studio resume {job.id}")
    return Reply({"project": project.slug, "job": as_data(job)})


def _resume(ctx: Context, args: Namespace) -> Reply:
    from studio import launch
    from studio.training.runs import get_run, list_runs

    project = ctx.project()
    if args.run is None:
        able = [r for r in list_runs(project) if r.resumable]
        if not able:
            raise NotFoundError(
                f"No run of '{project.slug}' can be resumed.",
                "Only a stopped, failed or interrupted run has something left to do.",
                "`lora-studio train` starts a new one.",
            )
        run_id = able[0].id
    else:
        job = find_job(project, args.run)
        if job.spec.kind == "grid":
            from studio.evaluation.grid import Grid, resume_grid

            grid = Grid(job.folder)
            resume_grid(grid)
            ctx.out.heading(f"Going on with {grid.id}")
            return show_grid(ctx, project, grid, args.detach)
        if job.spec.kind != TRAINING:
            raise InputError(
                f"{job.id} cannot be resumed.",
                f"It is a {job.spec.kind.replace('-', ' ')}; only runs and grids can go on where they were.",
                "Start it again.",
            )
        run_id = job.id
    since = get_run(project, run_id).job.events()[1]
    run = launch.resume_run(project, run_id)
    ctx.out.heading(f"Going on with {run.id}")
    return follow_run(ctx, project, run, args.detach, since)


def _log(ctx: Context, args: Namespace) -> Reply:
    project = ctx.project()
    if args.job is not None:
        job = find_job(project, args.job)
    else:
        jobs = project_jobs(project)
        if not jobs:
            raise NotFoundError(
                f"'{project.slug}' has no log yet.",
                "Nothing was run so far.",
                "Start with `lora-studio gates`.",
            )
        job = jobs[0]
    lines = job.log_tail(args.lines * 400).splitlines()[-args.lines :]
    for line in lines:
        ctx.out.say(line)
    left = False
    if args.follow and not ctx.out.json:
        left = _follow_log(ctx, job)
    return Reply(
        {"project": project.slug, "job": job.id, "state": job.state, "lines": lines},
        code=130 if left else 0,
    )


def _follow_log(ctx: Context, job: Any) -> bool:
    """Print what is added to the log until the job ends; whether Ctrl-C broke it off."""
    path: Path = job.folder / "log.txt"
    try:
        place = path.stat().st_size if path.exists() else 0
        while True:
            alive = job.is_alive
            size = path.stat().st_size if path.exists() else 0
            if size < place:
                place = 0  # the log was shortened
            if size > place:
                with path.open("rb") as f:
                    f.seek(place)
                    added = f.read(size - place)
                place = size
                ctx.out.console.print(added.decode("utf-8", "replace"), end="", soft_wrap=True)
            if not alive:
                return False
            time.sleep(POLL)
    except KeyboardInterrupt:
        say_left(ctx.out, job)
        return True


COMMANDS = (
    Command(
        "train",
        GROUP,
        "Run the gates that need it, then train, showing the loss as it falls.",
        _train,
        options=(WAIT, DETACH, *settings_flags.setting_options()),
        details="Settings given as flags are saved first, as `config set` does. Training runs in a process of its own: "
        "closing this terminal or pressing Ctrl-C does not end it.",
        examples=("train", "train --epochs 10 --rank 16", "train --detach"),
        check=lambda args: check_wait(args) + problems(settings_flags.from_flags(args)),
    ),
    Command(
        "run-again",
        GROUP,
        "Train once more as a run was trained; says first what is different now.",
        _again,
        words=(Word("RUN", "Which one; the newest when left out.", convert=text(120)),),
        options=(WAIT, DETACH, YES),
        details="The settings come from the run's own record. Pictures, captions, base model and versions are those of now; "
        "each that differs is listed before anything starts. The four gates are passed as for any run.",
        examples=("run-again", "run-again --yes --detach"),
        check=check_wait,
    ),
    Command(
        "stop",
        GROUP,
        "Stop a running job; a training run saves its state first.",
        _stop,
        words=(Word("JOB", "Which one; needed when several run.", convert=text(120)),),
        options=(
            Option("--detach", "Do not wait until it has stopped."),
            Option(
                "--timeout",
                "How long to wait for it. It goes on stopping by itself after that.",
                metavar="SECONDS",
                convert=whole(1, 3600, 90),
                default=90,
            ),
        ),
    ),
    Command(
        "resume",
        GROUP,
        "Go on with a stopped or interrupted run, or grid.",
        _resume,
        words=(Word("RUN", "Which one; the newest that can be resumed when left out.", convert=text(120)),),
        options=(WAIT, DETACH),
        check=check_wait,
    ),
    Command(
        "log",
        GROUP,
        "Show the log of a job; the newest when none is named.",
        _log,
        words=(Word("JOB", "A run, grid or other job.", convert=text(120)),),
        options=(
            Option("--follow", "Keep printing until the job ends.", short="-f"),
            Option(
                "--lines",
                "How many lines of the end.",
                metavar="N",
                convert=whole(1, 100_000, 40),
                default=40,
            ),
        ),
    ),
)
