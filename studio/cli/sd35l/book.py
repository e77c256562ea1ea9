"""What `sd35l-trainer` keeps on this computer: config files, and one ticket for each training it started."""

from __future__ import annotations

import os
from pathlib import Path

from studio.errors import InputError
from studio.replicate.submit import Ticket, new_mark


def config_dir() -> Path:
    """SD35L_CONFIG_DIR, else sd35l-trainer in the user's configuration folder. Nothing is made by asking."""
    told = os.environ.get("SD35L_CONFIG_DIR", "").strip()
    if told:
        return Path(told).expanduser()
    base = os.environ.get("XDG_CONFIG_HOME", "").strip()
    return (Path(base) if base else Path.home() / ".config") / "sd35l-trainer"


def config_path(name: str) -> Path:
    """The config file that a name means: a path, or a file in the configuration folder."""
    path = Path(name).expanduser()
    if path.is_file() or path.parent != Path("."):
        return path
    kept = config_dir()
    tries = [kept / name, *(kept / f"{name}{end}" for end in (".yaml", ".yml", ".json"))]
    return next((p for p in tries if p.is_file()), path)


def _tickets() -> list[Ticket]:
    found = []
    for path in sorted((config_dir() / "trainings").glob("studio-*.json")):
        ticket = Ticket(path)
        try:
            ticket.read()
        except InputError:
            continue  # damaged by hand: it can neither be matched nor trusted
        found.append(ticket)
    return found


def ticket_of(training_id: str) -> Ticket | None:
    """The ticket of a training that was started from here."""
    return next((t for t in _tickets() if t.id == training_id), None)


def unsettled(destination: str) -> Ticket | None:
    """A ticket for this destination whose request went out and whose training is not known."""
    for ticket in reversed(_tickets()):
        known = ticket.read()
        if not ticket.id and known.get("sent_at") and known.get("destination") == destination:
            return ticket
    return None


def new_ticket() -> Ticket:
    """A fresh ticket with a mark of its own."""
    mark = new_mark()
    ticket = Ticket(config_dir() / "trainings" / f"{mark}.json")
    ticket.note(mark=mark)
    return ticket
