"""A training is started once, whatever breaks between the request and the note of its id."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest

from studio.answers import Passing
from studio.errors import InputError, NotFoundError
from studio.replicate import submit as ordering
from studio.replicate.answers import PaymentNeeded, TokenRefused
from studio.replicate.api import Api
from studio.replicate.submit import Order, Ticket, Uncertain, choose_sku, ensure_destination, submit
from tests.fakes.replicate_server import OWNER, SD35, ReplicateServer
from tests.replicate.conftest import config

DESTINATION = f"{OWNER}/boats"


def quiet(_seconds: float) -> None:
    """No pause."""


@pytest.fixture
def ticket(tmp_path: Path) -> Ticket:
    return Ticket(tmp_path / "ticket.json")


@pytest.fixture
def order(server: ReplicateServer) -> Order:
    server.models[DESTINATION] = {"versions": {}, "visibility": "private"}
    return Order(
        "lucataco/sd3.5-large-fine-tuner", SD35, DESTINATION, config().inputs, {"wandb_api_key": "w" * 40}
    )


def test_the_id_and_the_raw_answer_are_kept(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order
) -> None:
    training_id = submit(api, order, ticket, wait=quiet)
    assert training_id in server.trainings
    assert ticket.read()["id"] == training_id
    assert json.loads(ticket.raw_path.read_bytes())["id"] == training_id
    assert server.trainings[training_id]["input"]["wandb_run"] == ticket.read()["mark"]
    written = ticket.path.read_text() + ticket.raw_path.read_text()
    assert "w" * 40 not in written
    assert server.trainings[training_id]["input"]["wandb_api_key"] == "w" * 40


def test_asking_again_starts_nothing(server: ReplicateServer, api: Api, ticket: Ticket, order: Order) -> None:
    first = submit(api, order, ticket, wait=quiet)
    assert submit(api, order, ticket, wait=quiet) == first
    assert len(server.trainings) == 1


@pytest.mark.parametrize("how", ["drop", "garbage", 500, 502, 504])
def test_a_lost_answer_is_found_again(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order, how: int | str
) -> None:
    """The paid job runs, its answer did not arrive: it is found by its mark, and not started twice."""
    server.put()
    server.fail("train", how, after=True)
    found = submit(api, order, ticket, wait=quiet)
    assert server.trainings[found]["_destination"] == DESTINATION
    assert server.count("POST", "/trainings") == 1
    assert len(server.trainings) == 2


@pytest.mark.parametrize("how", ["drop", "garbage", 503])
def test_a_request_without_a_trace_is_not_repeated_by_itself(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order, how: int | str
) -> None:
    server.fail("train", how)
    with pytest.raises(Uncertain, match="not known"):
        submit(api, order, ticket, wait=quiet)
    with pytest.raises(Uncertain):
        submit(api, order, ticket, wait=quiet)
    assert server.count("POST", "/trainings") == 1
    server.skew = timedelta(minutes=11)  # after ten minutes it would be in the list
    assert submit(api, order, ticket, wait=quiet) in server.trainings
    assert server.count("POST", "/trainings") == 2
    assert len(server.trainings) == 1


def test_the_user_may_say_that_nothing_runs(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order
) -> None:
    server.fail("train", "drop")
    with pytest.raises(Uncertain):
        submit(api, order, ticket, wait=quiet)
    assert submit(api, order, ticket, wait=quiet, again=True) in server.trainings


def test_killed_before_the_request_went_out(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order
) -> None:
    """Only the ticket is there: nothing in the list, so after ten minutes it is started, with the same mark."""
    ticket.note(mark="studio-abc", sent_at=(api.now() - timedelta(minutes=12)).isoformat())
    training_id = submit(api, order, ticket, wait=quiet)
    assert server.trainings[training_id]["input"]["wandb_run"] == "studio-abc"


def test_killed_between_the_request_and_the_note(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise SystemExit("SIGKILL")

    monkeypatch.setattr(ordering, "_keep_raw", killed)
    with pytest.raises(SystemExit):
        submit(api, order, ticket, wait=quiet)
    monkeypatch.undo()
    assert ticket.id == ""
    found = submit(api, order, ticket, wait=quiet)
    assert list(server.trainings) == [found]


def test_killed_after_the_raw_answer(server: ReplicateServer, api: Api, ticket: Ticket, order: Order) -> None:
    training_id = submit(api, order, ticket, wait=quiet)
    ticket.note(id="")
    before = len(server.requests)
    assert submit(api, order, ticket, wait=quiet) == training_id
    assert len(server.requests) == before


def test_a_list_without_inputs_is_looked_through_one_by_one(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = server._shown
    monkeypatch.setattr(server, "trainings_page", lambda _c: {
        "results": [{k: v for k, v in shown(t).items() if k != "input"} for t in server.trainings.values()], "next": None})  # fmt: skip
    server.fail("train", "drop", after=True)
    assert submit(api, order, ticket, wait=quiet) in server.trainings


def test_a_run_name_of_the_user_stays_readable(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order
) -> None:
    named = Order(
        order.model, order.version, order.destination, {**order.values, "wandb_run": "blue boats"}, {}
    )
    training_id = submit(api, named, ticket, wait=quiet)
    assert server.trainings[training_id]["input"]["wandb_run"].startswith("blue boats studio-")


@pytest.mark.parametrize(
    ("how", "error"), [(401, TokenRefused), (402, PaymentNeeded), (404, NotFoundError), (422, InputError)]
)
def test_refused_means_nothing_was_started(
    server: ReplicateServer, api: Api, ticket: Ticket, order: Order, how: int, error: type[Exception]
) -> None:
    server.fail("train", how)
    with pytest.raises(error) as told:
        submit(api, order, ticket, wait=quiet)
    assert "not started" in str(told.value)
    assert server.count("POST", "/trainings") == 1
    assert submit(api, order, ticket, wait=quiet) in server.trainings  # and can be tried again at once


def test_no_connection_means_nothing_was_started(
    server: ReplicateServer, ticket: Ticket, order: Order, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://127.0.0.1:9")
    with Api("r8_x", wait=quiet) as nowhere, pytest.raises(Passing, match="connection"):
        submit(nowhere, order, ticket, wait=quiet)
    assert not ticket.read()["sent_at"]


def test_destination_is_made_private_and_only_when_allowed(server: ReplicateServer, api: Api) -> None:
    with pytest.raises(InputError, match="does not exist"):
        ensure_destination(api, DESTINATION, create=False, hardware="h100")
    assert DESTINATION not in server.models
    assert ensure_destination(api, DESTINATION, create=True, hardware="h100")
    assert server.models[DESTINATION]["visibility"] == "private"
    assert not ensure_destination(api, DESTINATION, create=True, hardware="h100")


def test_destination_made_by_a_request_whose_answer_was_lost(server: ReplicateServer, api: Api) -> None:
    server.fail("create_model", "drop", after=True)
    assert ensure_destination(api, DESTINATION, create=True, hardware="h100")
    assert server.models[DESTINATION]["visibility"] == "private"
    with pytest.raises(Exception, match="may not do this"):
        ensure_destination(api, "someone/else", create=True, hardware="h100")


@pytest.mark.parametrize(
    ("names", "wanted", "sku"),
    [
        (["CPU", "Nvidia T4 GPU", "2x Nvidia H100 GPU", "Nvidia H100 GPU"], "h100", "gpu-3"),
        (["CPU", "Nvidia A100 (80GB) GPU", "Nvidia T4 GPU"], "a100-80", "gpu-1"),
        (["CPU", "Nvidia T4 GPU", "Nvidia A100 (80GB) GPU"], "h100", "gpu-2"),  # the strongest that there is
        (["CPU", "Nvidia B300 GPU"], "h100", "gpu-1"),  # a card that nobody knew of
    ],
)
def test_the_name_of_a_card_is_asked_for(names: list[str], wanted: str, sku: str) -> None:
    listed = [{"name": n, "sku": "cpu" if n == "CPU" else f"gpu-{i}"} for i, n in enumerate(names)]
    assert choose_sku(listed, wanted) == sku
    with pytest.raises(InputError, match="no graphics card"):
        choose_sku(listed[:1], wanted)
