"""Waiting for a training on a terminal or in a pipe, and fetching what came out."""

from __future__ import annotations

import time
from pathlib import Path

from studio.cli.output import Out
from studio.cli.sd35l import book
from studio.cli.sd35l.group import Reply
from studio.errors import StudioError
from studio.files import human_size
from studio.replicate.api import Api
from studio.replicate.costs import money
from studio.replicate.follow import Look, ended_badly, follow
from studio.replicate.training import Training
from studio.replicate.weights import fetch, lora_name

STYLES = {"succeeded": "green", "failed": "red", "canceled": "yellow", "aborted": "red"}


def wait_and_fetch(out: Out, api: Api, training_id: str, folder: Path, *, limit: float = 0.0) -> Reply:
    """Follow a training to its end and download its LoRA; the reply of the command."""
    last = wait_for(out, api, training_id, limit=limit)
    if last is None:
        return left(out, training_id)
    bad = ended_badly(last.training)
    if bad is not None:
        raise bad
    path = fetch_to(out, api, last.training, folder)
    return Reply({**last.as_dict(), "file": str(path)})


def wait_for(out: Out, api: Api, training_id: str, *, limit: float = 0.0) -> Look | None:
    """Show a training until it has ended; None when Ctrl-C was pressed and it goes on."""
    try:
        with out.live() as line:

            def tell(now: Look) -> None:
                line.update(now.words, now.bar.step / now.bar.total if now.bar and now.bar.total else None)

            last = follow(api, training_id, tell=tell, limit=limit, wait=time.sleep)
    except KeyboardInterrupt:
        return None
    if last is not None:
        out.say(last.words, STYLES.get(last.training.status, ""))
    return last


def left(out: Out, training_id: str) -> Reply:
    """After Ctrl-C: it goes on, and these are the ways back."""
    out.say()
    out.say(f"Stopped waiting. Training {training_id} goes on at Replicate, and costs until it ends.")
    out.say(f"  Come back:  sd35l-trainer status {training_id} --follow")
    out.say(f"  Its LoRA:   sd35l-trainer download {training_id}")
    out.say(f"  End it:     sd35l-trainer cancel {training_id}")
    return Reply({"id": training_id, "left": True}, 130)


def fetch_to(out: Out, api: Api, training: Training, folder: Path) -> Path:
    """Download a training's LoRA into a folder under its own name."""
    ticket = book.ticket_of(training.id)
    noted = ticket.read() if ticket else {}
    destination = str(noted.get("destination") or training.destination or training.id)
    trigger = str(noted.get("trigger_word") or training.input.get("trigger_word") or "")
    with out.live() as line:

        def tell(done: int, whole: int | None) -> None:
            of = f" of {human_size(whole)}" if whole else ""
            line.update(f"Downloading {human_size(done)}{of}", done / whole if whole else None)

        try:
            path = fetch(api, training, folder.expanduser() / lora_name(destination, trigger), progress=tell)
        except KeyboardInterrupt:
            raise StudioError(
                "The download was stopped.", "", f"sd35l-trainer download {training.id} goes on where it was."
            ) from None
    out.good(f"{path} ({human_size(path.stat().st_size)})")
    return path


def cost_words(look: Look) -> str:
    """What it has cost so far."""
    return f"{money(look.cost)}" if look.cost else ""
