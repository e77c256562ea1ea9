"""Runs that wait for their turn."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING

from studio.cli import settings_flags
from studio.cli.commands.config import save_changes
from studio.cli.context import Context
from studio.cli.spec import Command, Reply, Word
from studio.cli.values import text, whole
from studio.settings import problems

if TYPE_CHECKING:
    from studio.queue import Item

GROUP = "Runs"
STATES = {"waiting": "waits", "checking": "its gates are checked", "running": "trains", "finished": "finished",
          "failed": "failed", "refused": "was not started"}  # fmt: skip


def _list(ctx: Context, args: Namespace) -> Reply:
    return _reply(ctx, None)


def _add(ctx: Context, args: Namespace) -> Reply:
    from studio import queue

    project = ctx.project()
    save_changes(ctx, project, settings_flags.from_flags(args))
    item = queue.add(project)
    ctx.out.good(f"Queued as {item.id}.")
    return _reply(ctx, item)


def _move(ctx: Context, args: Namespace) -> Reply:
    from studio import queue

    item = queue.move(ctx.workspace, args.item, args.place)
    ctx.out.good(f"Moved {item.id}.")
    return _reply(ctx, item)


def _remove(ctx: Context, args: Namespace) -> Reply:
    from studio import queue

    item = queue.remove(ctx.workspace, args.item)
    ctx.out.good(f"Took {item.id} off the queue.")
    return _reply(ctx, item)


def _reply(ctx: Context, changed: Item | None) -> Reply:
    """Show the queue, and see to it that somebody works it off."""
    from studio import queue

    runner = queue.wake(ctx.workspace)
    now = queue.items(ctx.workspace)
    if not now:
        ctx.out.say("Nothing is queued.")
        ctx.out.next("lora-studio queue add")
    place = 0
    for item in now:
        place += item.state == "waiting"
        number = f"{place}." if item.state == "waiting" else ""
        why = f" {item.why}" if item.why else ""
        ctx.out.say(f"{number:>3} {item.id}  {item.project}  {item.title}: {STATES[item.state]}.{why}")
    return Reply(
        {
            "items": [i.as_dict() for i in now],
            "changed": changed.as_dict() if changed is not None else None,
            "runner": runner.id if runner is not None else None,
        }
    )


NAME = Word(
    "NAME", "The queued run, as `queue list` names it.", dest_name="item", convert=text(60), required=True
)

COMMANDS = (
    Command(
        "queue list",
        GROUP,
        "Show the runs that wait for their turn, and how the last ones ended.",
        _list,
        details="One run trains on each graphics card at a time; without a card, one in all. The list outlives this terminal "
        "and a restart of the computer; it goes on when the app, or one of these commands, is started again.",
        project=False,
    ),
    Command(
        "queue add",
        GROUP,
        "Queue a run, which starts when the ones before it have ended.",
        _add,
        options=settings_flags.setting_options(),
        details="It keeps the settings that it was queued with. The four gates are passed when its turn comes; when one does "
        "not pass, the run is left out and the list says why.",
        examples=("queue add", "queue add --rank 32"),
        check=lambda args: problems(settings_flags.from_flags(args)),
    ),
    Command(
        "queue move",
        GROUP,
        "Put a queued run at another place.",
        _move,
        words=(
            NAME,
            Word(
                "PLACE",
                "Among those that wait; 1 is the next.",
                dest_name="place",
                convert=whole(1, 1000, 1),
                required=True,
            ),
        ),
        project=False,
    ),
    Command("queue remove", GROUP, "Take a run off the queue.", _remove, words=(NAME,), project=False),
)
