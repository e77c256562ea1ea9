"""Descriptions through Replicate's predictions: what is sent, waited for, and never sent twice."""

from __future__ import annotations

import base64
import io
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.captions import auto
from studio.captions.auto import AutoSettings, ReplicateSettings
from studio.captions.describe import WordSettings
from studio.captions.proposals import Answer, Ask, Proposal, Trouble
from studio.captions.workers.asking import Refused
from studio.captions.workers.replicate import MOST_PICTURE_BYTES, ReplicateEngine
from studio.errors import InputError
from studio.project import Project
from tests.captions.auto.conftest import painted
from tests.fakes.predictions_server import Predictions, predictions_server

TOKEN = "r8_testtesttesttesttest"


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", TOKEN)


@pytest.fixture
def asks(tmp_path: Path) -> list[Ask]:
    return [Ask(p.name, p, "0" * 64) for p in sorted(painted(tmp_path / "p").glob("*.png"))]


def answers(server: Predictions, asks: list[Ask], stop: Any = None, **settings: Any) -> list[Answer]:
    own = ReplicateSettings(**{"model": "owner/looker", **settings})
    waits: list[float] = []

    def pause(seconds: float) -> bool:
        waits.append(seconds)
        time.sleep(0.005)
        return bool(stop and stop())

    origin = server.address.removesuffix("/v1")
    made = ReplicateEngine(
        own, "What is it?", "sentences", WordSettings(), pause, api=server.address, allow=(origin,)
    )
    made._waits.hold = lambda seconds: waits.append(seconds)  # type: ignore[method-assign]
    with made as opened:
        return list(opened.caption(asks, stop or (lambda: False)))


def test_a_prediction(asks: list[Ask], tmp_path: Path) -> None:
    noise = tmp_path / "noise.png"
    Image.effect_noise((1100, 1050), 120).convert("RGB").save(noise)
    with predictions_server(polls=2) as server:
        found = answers(server, [Ask("noise.png", noise)], picture="img", question="text")
    assert isinstance(found[0], Proposal) and (found[0].caption, found[0].content) == ("a boat", ("a boat",))
    path, body = server.posted[0]
    assert path == "/v1/models/owner/looker/predictions" and "What is it?" in body["input"]["text"]
    data = base64.b64decode(body["input"]["img"].partition("base64,")[2])
    assert len(data) <= MOST_PICTURE_BYTES and max(Image.open(io.BytesIO(data)).size) <= 1024
    assert server.asked == 2


def test_a_version_of_a_community_model(asks: list[Ask]) -> None:
    with predictions_server() as server:
        answers(server, asks[:1], model="owner/looker:abc123")
    assert server.posted[0][0] == "/v1/predictions" and server.posted[0][1]["version"] == "abc123"


def test_only_what_was_not_taken_is_sent_again(asks: list[Ask]) -> None:
    busy: tuple[int, Any, dict[str, str]] = (429, {"detail": "Request was throttled."}, {"retry-after": "3"})
    with predictions_server(script=[busy]) as server:
        assert isinstance(answers(server, asks[:1])[0], Proposal)
        assert len(server.posted) == 2
    with predictions_server(script=[(500, {"detail": "oops"}, {})]) as server:
        with pytest.raises(Refused):
            answers(server, asks[:1])
        assert len(server.posted) == 1, "it may be running and paid"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((402, {"detail": "Insufficient credit"}, {}), "no credit"),
        ((404, {"detail": "The requested resource could not be found."}, {}), "no model 'owner/looker'"),
        ((422, {"detail": "- input: image is required"}, {}), "does not take this question"),
        ((401, {"detail": "bad token r8_testtesttesttesttest"}, {}), "refuses the token"),
        ((429, {"detail": "limit"}, {"retry-after": "7200"}), "wait 120 minutes"),
        ((201, b"<html>", {}), "cannot be read"),
    ],
)
def test_what_ends_everything(asks: list[Ask], answer: Any, words: str) -> None:
    with predictions_server(script=[answer]) as server, pytest.raises(Refused) as e:
        answers(server, asks)
    assert words in e.value.what and e.value.fix and TOKEN not in str(e.value)


def test_a_prediction_that_fails_concerns_one_picture(asks: list[Ask]) -> None:
    with predictions_server(
        end={"status": "failed", "output": None, "error": "CUDA out of memory"}
    ) as server:
        found = answers(server, asks[:1])
    assert isinstance(found[0], Trouble) and "CUDA out of memory" in found[0].why
    with predictions_server(end={"status": "aborted", "output": None}) as server:
        assert "aborted" in answers(server, asks[:1])[0].why  # type: ignore[union-attr]


def test_the_token_never_follows_a_foreign_address(asks: list[Ask]) -> None:
    with (
        predictions_server() as other,
        predictions_server(get_url=other.address + "/predictions/p1") as server,
    ):
        assert isinstance(answers(server, asks[:1])[0], Proposal)
    assert other.seen_tokens == set()


def test_stopping_cancels_what_runs(asks: list[Ask]) -> None:
    with predictions_server(polls=10_000) as server:
        assert answers(server, asks[:2], stop=lambda: server.asked > 2) == []
        end = time.monotonic() + 3
        while not server.cancelled and time.monotonic() < end:
            time.sleep(0.02)
        assert server.cancelled


def test_settings_are_checked_first(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "",
        "looker",
        "owner/",
        "owner/look er",
        "https://replicate.com/owner/looker",
        "owner/looker:",
    ):
        with pytest.raises(InputError, match=r"Replicate|named"):
            auto.ready(project, AutoSettings(engine="replicate", replicate=ReplicateSettings(model=name)))
    good = AutoSettings(engine="replicate", replicate=ReplicateSettings(model="owner/looker"))
    assert auto.ready(project, good).author == "looker" and auto.ready(project, good).secrets == (
        "REPLICATE_API_TOKEN",
    )
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    monkeypatch.setattr("studio.secrets.find_secret", lambda *_: None)
    with pytest.raises(InputError, match="no token"):
        auto.ready(project, good)
