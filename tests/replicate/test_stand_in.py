"""The stand-in is proved by the official client: what that accepts and sends is what Replicate speaks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.replicate_server import OWNER, SD35, TOKEN, ReplicateServer, result_tar
from tests.replicate.conftest import config

replicate = pytest.importorskip("replicate", reason="the official client does not import on this Python")

VERSION = f"lucataco/sd3.5-large-fine-tuner:{SD35}"


@pytest.fixture
def client(server: ReplicateServer) -> Iterator[Any]:
    made = replicate.Client(api_token=TOKEN, base_url=server.url)
    yield made
    made._client.close()


def test_whole_life(server: ReplicateServer, client: Any, tmp_path: Path) -> None:
    with pytest.raises(replicate.exceptions.ReplicateError) as told:
        client.models.get(f"{OWNER}/boats")
    assert told.value.status == 404
    made = client.models.create(OWNER, "boats", visibility="private", hardware="gpu-h100")
    assert (made.owner, made.name, made.visibility) == (OWNER, "boats", "private")
    (tmp_path / "d.zip").write_bytes(b"PK\x05\x06" + bytes(18))
    uploaded = client.files.create(tmp_path / "d.zip")
    training = client.trainings.create(
        version=VERSION,
        destination=f"{OWNER}/boats",
        input={"input_images": uploaded.urls["get"], "steps": 1500},
    )
    assert training.status == "starting"
    seen = []
    while training.status not in ("succeeded", "failed", "canceled"):
        training.reload()
        seen.append(training.status)
    assert seen == server.life
    assert "1500/1500" in training.logs
    assert training.output["weights"].startswith(server.delivery)
    assert httpx.get(training.output["weights"]).content == result_tar()
    assert [t.id for t in client.trainings.list()] == [training.id]


def test_pages_and_cancel(server: ReplicateServer, client: Any) -> None:
    for _ in range(130):
        server.put()
    listed = [t for page in _pages(client) for t in page]
    assert len({t.id for t in listed}) == 130
    assert client.trainings.cancel(listed[0].id).status == "canceled"


def _pages(client: Any) -> list[Any]:
    found, page = [], client.trainings.list()
    found.append(page.results)
    while page.next:
        page = client.trainings.list(cursor=page.next)
        found.append(page.results)
    return found


def test_refusals(server: ReplicateServer, client: Any) -> None:
    errors = replicate.exceptions.ReplicateError
    server.models[f"{OWNER}/boats"] = {"versions": {}, "visibility": "private"}
    with pytest.raises(errors) as told:
        client.trainings.create(
            version=VERSION, destination=f"{OWNER}/boats", input={"input_images": "x", "steps": 9000}
        )
    assert told.value.status == 422
    assert "steps" in str(told.value.detail)
    server.paid = False
    with pytest.raises(errors) as told:
        client.trainings.create(version=VERSION, destination=f"{OWNER}/boats", input={"input_images": "x"})
    assert told.value.status == 402
    wrong = replicate.Client(api_token="r8_wrong", base_url=server.url)
    with pytest.raises(errors) as told:
        wrong.trainings.list()
    assert told.value.status == 401
    wrong._client.close()


def test_what_the_official_client_cannot(server: ReplicateServer, client: Any) -> None:
    """The reasons for a client of our own: a status it does not know breaks a whole listing."""
    server.put(status="aborted", completed_at="2026-11-20T10:00:00Z")
    with pytest.raises(ValueError, match="aborted"):
        client.trainings.list()


def test_both_clients_say_the_same(server: ReplicateServer, client: Any, api: Any) -> None:
    """Our request for a training is, field for field, the one that the official client sends."""
    server.models[f"{OWNER}/boats"] = {"versions": {}, "visibility": "private"}
    values = config().inputs
    client.trainings.create(version=VERSION, destination=f"{OWNER}/boats", input=values)
    api.start("lucataco/sd3.5-large-fine-tuner", SD35, f"{OWNER}/boats", values)
    theirs, ours = server.trainings.values()
    for name in ("model", "version", "input", "_destination", "status"):
        assert theirs[name] == ours[name]
    assert server.requests[0] == server.requests[1]
