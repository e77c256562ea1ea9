"""Runs that wait for their turn: one on each graphics card at a time (one in all without a card), in the order of the list.

    book     the list on disk: <workspace>/queue.json
    runner   the job that starts them, each behind its four gates

The list outlives everything; the job that works it off is started when something is added, and again when the app or the
command line finds runs waiting and nobody at work, as after a reboot.
"""

from studio.queue.book import Item, add, items, move, remove, waiting
from studio.queue.runner import runner_job, wake

__all__ = ["Item", "add", "items", "move", "remove", "runner_job", "waiting", "wake"]
