"""Working the queue off: a job of its own, which starts each run when its turn comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from studio import files, gates, launch
from studio.errors import BusyError, EnvironmentalError, GateError, StudioError
from studio.estimate import MARGIN
from studio.jobs import locks
from studio.jobs.job import Job, active_jobs
from studio.jobs.launch import launch_call
from studio.jobs.lifeline import Worker
from studio.machine import Gpu, card_env, detect
from studio.project import Project, open_project
from studio.queue.book import Item, items, update
from studio.settings import TrainingSettings, parse_settings
from studio.training.runs import Run, list_runs
from studio.workspace import Workspace

KIND = "queue"
LOCK = "queue-runner.lock"
LOOK_EVERY_S = 2.0


def runner_job(workspace: Workspace) -> Job | None:
    """The job that works the queue off; None when nobody does."""
    return next((j for j in active_jobs(workspace) if j.spec.kind == KIND), None)


def wake(workspace: Workspace) -> Job | None:
    """See to it that somebody works the queue off when something waits: after adding, and at the start of the app.

    The job that does; None when nothing waits. Two who ask at once start one.
    """
    if not any(not i.over for i in items(workspace)):
        return None
    at_work = runner_job(workspace)
    if at_work is not None:
        return at_work
    folder = workspace.root / "jobs" / files.new_id("queue")
    return launch_call(
        folder,
        "studio.queue.runner:serve",
        {"workspace": str(workspace.root)},
        kind=KIND,
        title="Queue",
        stop_grace_s=20.0,
    )


def serve(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """Start what waits, one on each card, until nothing waits or runs any more. What it did, by outcome."""
    workspace = Workspace(Path(payload["workspace"]))
    try:
        lock = locks.take(workspace.root / LOCK, busy="The queue is being worked off already.")
    except BusyError:
        return {"already": True}
    try:
        done = {"started": 0, "refused": 0}
        for item in items(workspace):
            if item.state == "checking":
                _take_up(workspace, item)
        while not worker.should_stop:
            settle(workspace)
            now = items(workspace)
            if all(i.over for i in now):
                break
            due, gpu = _next(workspace, now)
            if due is not None:
                worker.progress(0, None, "", f"Starting {due.title}")
                done["started" if start(workspace, due, gpu) else "refused"] += 1
                continue
            worker.progress(0, None, "", f"{sum(i.state == 'waiting' for i in now)} waiting")
            worker.sleep(LOOK_EVERY_S)
        return done
    finally:
        lock.release()


def _take_up(workspace: Workspace, item: Item) -> None:
    """A run that was about to start when the last runner ended: it has started, or it waits again; its gates remember what
    they found."""
    with suppress(StudioError, OSError):
        for run in list_runs(open_project(workspace, item.project)):
            if run.manifest.get("queued") == item.id and (run.folder / "job.json").exists():
                update(workspace, item.id, state="running", run=run.id, gpu=run.manifest.get("gpu"))
                return
    update(workspace, item.id, state="waiting")


def settle(workspace: Workspace) -> None:
    """Note the end of runs that have ended."""
    for item in items(workspace):
        if item.state != "running":
            continue
        try:
            run = Run(open_project(workspace, item.project).runs_dir / item.run)
            state, error = run.job.state, run.job.error
        except StudioError as e:
            update(workspace, item.id, state="failed", why=e.what)
            continue
        if state == "finished":
            update(workspace, item.id, state="finished", why="")
        elif not run.job.is_alive:
            update(
                workspace, item.id, state="failed", why=str((error or {}).get("what") or f"It was {state}.")
            )


def _next(workspace: Workspace, now: list[Item]) -> tuple[Item | None, int | None]:
    """What to start now and on which card; None when nothing waits or no card is free.

    Where the cards differ in size, a run that needs a larger one than is free waits for it, and the next that fits goes first.
    """
    waits = [i for i in now if i.state == "waiting"]
    if not waits:
        return None, None
    cards, taken = detect().gpus, launch.busy_cards(workspace)
    if len(cards) < 2:
        return (None, None) if taken else (waits[0], None)
    if None in taken:  # a run that was started by hand may use any card
        return None, None
    busy = {n for n in taken if n is not None}
    alike = len({c.vram_bytes for c in cards}) == 1
    for item in waits:
        card = suitable(0 if alike else _needs(workspace, item), cards, busy)
        if card is not None:
            return item, card
    return None, None


def suitable(need: int, cards: tuple[Gpu, ...], busy: set[int]) -> int | None:
    """The free card for a run that needs `need` bytes: the smallest that is large enough. None: it has to wait.

    What is too large for every card gets the largest, where its gates say so.
    """
    largest = max(c.vram_bytes for c in cards)
    fitting = [c for c in cards if c.vram_bytes >= min(need, largest)]
    free = [c for c in fitting if c.index not in busy]
    return min(free, key=lambda c: (c.vram_bytes, c.index)).index if free else None


def _needs(workspace: Workspace, item: Item) -> int:
    """Memory that a card must have for a queued run, in bytes, the margin included; 0 when that cannot be said."""
    try:
        project = open_project(workspace, item.project)
        told = gates.forecast(project, parse_settings(dict(item.settings)))
    except (StudioError, KeyError, OSError):
        return 0
    return round(told.memory_bytes / (1 - MARGIN))


@contextmanager
def _on_card(gpu: int | None) -> Iterator[None]:
    """Show this process and the jobs that it starts meanwhile this card alone: the gates judge by its memory."""
    wanted = {} if gpu is None else card_env(gpu)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value


@contextmanager
def _with_settings(project: Project, item: Item) -> Iterator[list[TrainingSettings]]:
    """The project with the settings of the queued run, and with its own again afterwards, unless somebody chose others
    meanwhile. Yields the settings that count as the run's; a gate that changes them is noted there."""
    mine, preset, follow = project.settings, project.preset, project.repeats_follow
    wanted = parse_settings(dict(item.settings))
    used = [wanted]
    if wanted == mine:
        yield used
        return
    project.save_settings(wanted, item.preset, repeats_follow=False)
    project.decided("settings of a queued run", item=item.id, settings=item.settings)
    try:
        yield used
    finally:
        if project.settings in used:
            project.save_settings(mine, preset, repeats_follow=follow)


def start(workspace: Workspace, item: Item, gpu: int | None) -> bool:
    """Run the gates that are not fresh, then start the run; whether it started. What refused it stands in the list."""
    update(workspace, item.id, state="checking", why="")
    try:
        project = open_project(workspace, item.project)
        with _on_card(gpu), _with_settings(project, item) as used:
            for gate in gates.GATES:
                if gates.state(project, gate).state != "passed" and not gates.run_gate(project, gate).passed:
                    break
                used.append(project.settings)
            run = launch.start_training(project, gpu=gpu, queued=item.id)
    except BusyError:
        # Somebody started a training by hand while the gates ran; this one waits on.
        update(workspace, item.id, state="waiting")
        return False
    except (GateError, EnvironmentalError, StudioError) as e:
        reasons = "; ".join(f.what for f in e.findings if f.severity == "block")
        update(workspace, item.id, state="refused", why=f"{e.what} {reasons}".strip())
        return False
    update(workspace, item.id, state="running", run=run.id, gpu=gpu)
    return True
