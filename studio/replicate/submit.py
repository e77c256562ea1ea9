"""Starting a paid training exactly once, whatever breaks.

Before the request goes out a ticket is on the disk, with a mark of our own that travels along in the input `wandb_run`
(which the trainers ignore without a W&B key). The answer's bytes are on the disk before they are read. When the answer
is lost, the trainings of the account are searched for the mark: found, it is taken up; not found although the request
may have arrived, nobody starts a second one silently.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from studio import files
from studio.answers import Passing
from studio.errors import InputError, StudioError
from studio.replicate.api import Api, unsent
from studio.replicate.training import id_in, is_id

MARK = "wandb_run"
SECRET_INPUTS = ("wandb_api_key", "hf_token")
SEARCH_PAUSES = (2.0, 5.0, 10.0, 20.0)
"""Seconds between looks for a training whose answer was lost: it may appear in the list a little later."""
SETTLED = timedelta(minutes=10)
"""After this long a request that left no trace in the list did not start anything."""


class Uncertain(StudioError):
    """It is not known whether a training was started; starting another could cost twice."""

    exit_code = 5


@dataclass(frozen=True)
class Order:
    """What shall be trained. values: inputs without secrets; hidden: secret inputs, never written."""

    model: str
    version: str
    destination: str
    values: dict[str, Any]
    hidden: dict[str, str]


class Ticket:
    """What is known on this computer of one paid training: a small JSON file, and the raw answer beside it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def raw_path(self) -> Path:
        return self.path.with_suffix(".answer.txt")

    def read(self) -> dict[str, Any]:
        """Its content; {} before anything was ordered."""
        found = files.read_json(self.path)
        return found if isinstance(found, dict) else {}

    def note(self, **more: Any) -> None:
        """Add to it, at once and atomically."""
        files.write_json(self.path, {**self.read(), **more})

    @property
    def id(self) -> str:
        """The training's id, from the ticket or, when it was not noted any more, from the raw answer."""
        told = str(self.read().get("id") or "")
        if not told and self.raw_path.exists():
            told = id_in(self.raw_path.read_bytes())
        return told if is_id(told) else ""


def new_mark() -> str:
    """A mark that no other training has."""
    return f"studio-{secrets.token_hex(6)}"


def submit(
    api: Api,
    order: Order,
    ticket: Ticket,
    *,
    wait: Callable[[float], object],
    again: bool = False,
) -> str:
    """Start the order, or take up what an earlier try with this ticket started; the training's id.

    again: start anew although an earlier request may have arrived: the user has looked and says so.

    Raises Uncertain when that is not known, and whatever Replicate refuses.
    """
    if ticket.id:
        return ticket.id
    before = ticket.read()
    if before.get("sent_at"):
        found = look_for(api, before)
        if found:
            ticket.note(id=found, taken_up=files.now())
            return found
        age = api.now() - _moment(str(before["sent_at"]))
        if age < SETTLED and not again:
            raise _uncertain(before)
    mark = str(before.get("mark") or new_mark())
    values = dict(order.values)
    # A name that the user gave the W&B run stays readable; the mark follows it.
    values[MARK] = f"{values[MARK]} {mark}" if values.get(MARK) else mark
    ticket.note(
        mark=mark,
        sent_at=api.now().isoformat(timespec="seconds"),
        model=order.model,
        version=order.version,
        destination=order.destination,
        input=values,
        id="",
    )
    try:
        answer = api.start(order.model, order.version, order.destination, {**values, **order.hidden})
    except Passing as e:
        if unsent(e):
            ticket.note(sent_at="")
            raise
        return _lost(api, ticket, wait, e)
    except StudioError:
        ticket.note(sent_at="")  # refused: nothing was started
        raise
    _keep_raw(ticket, answer.content)
    told = id_in(answer.content)
    if not told:
        return _lost(api, ticket, wait, None)
    ticket.note(id=told)
    return told


def _keep_raw(ticket: Ticket, content: bytes) -> None:
    """The answer as it came, before anything reads it; only that inputs that are secret are not echoed in it is up to
    Replicate, so the text is blotted first."""
    from studio.jobs.environment import Blotter

    files.write_bytes(ticket.raw_path, Blotter().clean(content)[:200_000])


def _lost(api: Api, ticket: Ticket, wait: Callable[[float], object], cause: Exception | None) -> str:
    """The request went out and its answer is lost: search for it."""
    for pause in SEARCH_PAUSES:
        wait(pause)
        try:
            found = look_for(api, ticket.read())
        except Passing:
            continue
        if found:
            ticket.note(id=found, taken_up=files.now())
            return found
    raise _uncertain(ticket.read()) from cause


def look_for(api: Api, known: dict[str, Any]) -> str:
    """The id of the training that carries the ticket's mark; "" when the account has none."""
    sent = _moment(str(known.get("sent_at") or ""))
    mark = str(known.get("mark") or "")
    for training in api.trainings(limit=1000):
        created = training.when("created_at")
        if created is not None and created < sent - timedelta(hours=1):
            break  # newest first: older ones cannot be it
        inputs = training.input or api.training(training.id).input  # a list may leave the inputs out
        if mark and mark in str(inputs.get(MARK, "")):
            return training.id
    return ""


def _uncertain(known: dict[str, Any]) -> Uncertain:
    return Uncertain(
        "It is not known whether the training was started.",
        "The request went out, but its answer was lost, and Replicate's list does not show it so far. Starting another "
        "one now could cost twice.",
        f"Look at replicate.com/trainings for {known.get('destination')}, or try again in ten minutes: it is then taken "
        "up when it exists, and started when it does not.",
    )


def _moment(text: str) -> datetime:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return datetime.now(UTC)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def ensure_destination(api: Api, name: str, *, create: bool, hardware: str) -> bool:
    """See that the destination model is there; make it private when it is missing and `create` says so. True when made.

    hardware: key of the price list, such as "h100": what the model runs on when someone draws with it, to be changed on its
    page at any time. Raises InputError when the model is missing and may not be made.
    """
    if api.model(name) is not None:
        return False
    if not create:
        raise InputError(
            f"The destination {name} does not exist on Replicate.",
            "A training needs a model to put its result into. It would be made private, and it costs nothing by itself.",
            "Allow it to be made (--create-destination, or the setting in the app), or name one that exists.",
        )
    sku = choose_sku(api.hardware(), hardware)
    api.create_model(name, hardware=sku, description="A LoRA trained with LoRA Studio.")
    return True


def choose_sku(listed: Sequence[Mapping[str, str]], wanted: str) -> str:
    """Replicate's own name (SKU) for a key of the price list. Its names change, so they are asked for and not known.

    listed: entries with `name` and `sku`.   wanted: "h100", "a100-80", "l40s", "t4".
    The plain card is taken before a bundle of several; without the wanted one the strongest graphics card that is listed.
    Raises InputError when no graphics card is listed.
    """
    cards = [h for h in listed if "gpu" in f"{h['sku']} {h['name']}".lower()]
    for model in dict.fromkeys((wanted.split("-")[0], "h100", "a100", "l40s", "a40")):
        named = [h for h in cards if re.search(rf"\b{model}\b", h["name"], re.I)]
        if named:
            return min(named, key=lambda h: (bool(re.search(r"\b\d+x\b", h["name"], re.I)), len(h["sku"])))[
                "sku"
            ]
    if cards:
        return cards[-1]["sku"]
    raise InputError(
        "Replicate lists no graphics card for a new model.",
        "A destination model needs one to be drawn with.",
        "Make the destination by hand at replicate.com/create, then name it.",
    )
