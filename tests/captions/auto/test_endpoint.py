"""A description service that speaks OpenAI's interface: what is sent, and what each of its errors comes to."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio.captions import auto, describe, offered, samples
from studio.captions.auto import AutoSettings, EndpointSettings
from studio.captions.batch import start_batch
from studio.captions.describe import WordSettings
from studio.captions.proposals import Answer, Ask, Proposal, Trouble
from studio.captions.service import base_of, checked
from studio.captions.store import CaptionStore
from studio.captions.workers.asking import Refused
from studio.captions.workers.endpoint import EndpointEngine
from studio.errors import EnvironmentalError, InputError, StudioError
from studio.project import Project
from tests.captions.auto.conftest import painted, reviewed
from tests.fakes.openai_server import Reply, Server, completion, openai_server

QUESTION = describe.prompt("style", "sentences", WordSettings())


@pytest.fixture
def asks(tmp_path: Path) -> list[Ask]:
    folder = painted(tmp_path / "p")
    return [Ask(p.name, p, "0" * 64) for p in sorted(folder.glob("*.png"))]


def engine(server: Server, waited: list[float] | None = None, **settings: Any) -> EndpointEngine:
    """An engine whose waits are only noted."""
    told = waited if waited is not None else []

    def pause(seconds: float) -> bool:
        told.append(seconds)
        time.sleep(min(seconds, 0.01))
        return False

    own = EndpointSettings(**{"address": server.address, "model": "looker", "timeout_s": 5.0, **settings})
    made = EndpointEngine(own, QUESTION, "sentences", WordSettings(), pause)
    made._waits.hold = lambda seconds: told.append(seconds)  # type: ignore[method-assign]
    return made


def answers(made: EndpointEngine, asks: list[Ask]) -> list[Answer]:
    with made as opened:
        return list(opened.caption(asks, lambda: False))


def test_what_is_asked(asks: list[Ask], tmp_path: Path) -> None:
    large = tmp_path / "large.png"
    Image.new("RGBA", (3000, 1500), (0, 0, 255, 0)).save(large)
    with openai_server() as server:
        found = answers(engine(server), [Ask("large.png", large, "ab")])
    first = found[0]
    assert isinstance(first, Proposal)
    assert (first.caption, first.content, first.style) == (
        "a boat on calm sea 1", ("a boat", "calm sea"), ("thin white lines", "flat blue"),
    )  # fmt: skip
    asked = server.asked[0]
    assert asked.path == "/v1/chat/completions"
    assert asked.pictures[0].size == (1024, 512) and asked.pictures[0].format == "JPEG"
    assert min(asked.pictures[0].getpixel((5, 5))) > 250, "transparency becomes white"  # type: ignore[type-var,arg-type]
    user = asked.body["messages"][1]["content"]
    assert user[0]["text"] == QUESTION and user[1]["image_url"]["url"].startswith("data:image/jpeg;base64,")
    assert asked.body["model"] == "looker" and "authorization" not in asked.headers


def test_exif_turns_the_picture_and_stays_behind(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a secret place"
    Image.new("RGB", (80, 40), "red").save(path, exif=exif)
    with openai_server() as server:
        answers(engine(server), [Ask("turned.jpg", path)])
    assert server.asked[0].pictures[0].size == (40, 80)
    assert b"secret place" not in server.asked[0].picture_bytes[0]


def test_several_at_once(asks: list[Ask]) -> None:
    with openai_server(wait=0.1) as server:
        found = answers(engine(server, at_once=3), asks)
    assert {a.name for a in found} == {a.name for a in asks} and all(isinstance(a, Proposal) for a in found)
    assert server.most_at_once == 3


def test_rate_limits_are_heeded(asks: list[Ask]) -> None:
    waited: list[float] = []
    limited = Reply(429, {"error": {"message": "Rate limit reached for requests"}}, {"retry-after": "7"})
    with openai_server(script=[limited, Reply(429, {"error": {"message": "slow"}})]) as server:
        found = answers(engine(server, waited), asks[:1])
    assert isinstance(found[0], Proposal) and len(server.asked) == 3
    assert 7.0 in waited, "Retry-After is what is waited"


def test_what_passes_by_itself_is_tried_again(asks: list[Ask]) -> None:
    waited: list[float] = []
    script = [
        Reply(503, {"error": "model is loading"}), Reply(502, b"<html>Bad gateway</html>"), Reply(drop=True), Reply(wait=0.6, body=completion("late")),
    ]  # fmt: skip
    with openai_server(script=script) as server:
        made = engine(server, waited)
        with made as opened:
            import httpx

            opened._http.timeout = httpx.Timeout(0.3)  # type: ignore[union-attr]
            found = list(opened.caption(asks[:1], lambda: False))
    assert isinstance(found[0], Proposal) and len(server.asked) == 5
    assert [w for w in waited if w >= 1] == [1.0, 2.0, 4.0, 8.0], "each wait is longer"


@pytest.mark.parametrize(
    ("reply", "words", "fix"),
    [
        (Reply(401, {"error": {"message": "Incorrect API key provided: sk-12*", "code": "invalid_api_key"}}), "wants a key", "OPENAI_API_KEY"),
        (Reply(403, {"error": "forbidden"}), "wants a key", "OPENAI_API_KEY"),
        (Reply(404, {"error": {"message": "model 'x' not found"}}), "no model called 'looker'", "ollama pull"),
        (Reply(404, b"404 page not found"), "does not speak OpenAI's interface", "/v1"),
        (Reply(200, b"<html>Welcome to nginx</html>"), "does not speak", "/v1"),
        (Reply(200, {"hello": "world"}), "does not speak", "/v1"),
        (Reply(307, b"", {"location": "http://127.0.0.1:1/"}), "sends elsewhere", "address"),
        (Reply(429, {"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}), "no credit", "credit"),
        (Reply(429, {"error": {"message": "wait"}}, {"retry-after": "3600"}), "wait 60 minutes", "later"),
        (Reply(400, {"error": {"message": "looker is not a multimodal model"}}), "cannot look at pictures", "vision model"),
    ],
)  # fmt: skip
def test_what_ends_everything(asks: list[Ask], reply: Reply, words: str, fix: str) -> None:
    with openai_server(script=[reply] * 3) as server, pytest.raises(Refused) as e:
        answers(engine(server), asks)
    assert words in e.value.what and fix in e.value.fix and e.value.why
    assert len(server.asked) <= 2


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (
            Reply(400, {"error": {"message": "This model's maximum context length is 2048 tokens"}}),
            "context length",
        ),
        (Reply(400, {"error": {"message": "invalid image data", "code": "invalid_image"}}), "invalid image"),
        (Reply(413, b""), "413"),
        (Reply(200, completion(None, refusal="I can't help with that.")), "can't help"),
        (Reply(200, completion("", finish="content_filter")), "filters"),
    ],
)
def test_what_concerns_one_picture(asks: list[Ask], reply: Reply, words: str) -> None:
    with openai_server(script=[reply]) as server:
        found = answers(engine(server), asks[:2])
    assert isinstance(found[0], Trouble) and words in f"{found[0].what} {found[0].why}" and found[0].fix
    assert isinstance(found[1], Proposal), "the next picture is asked about all the same"


def test_a_malformed_answer_is_asked_for_once_more(asks: list[Ask]) -> None:
    good = json.dumps({"content": ["x"], "style": [], "caption": "fine"})
    with openai_server(
        script=[Reply(200, completion("I see a nice picture.")), Reply(200, completion(good))]
    ) as server:
        found = answers(engine(server), asks[:1])
        assert isinstance(found[0], Proposal) and found[0].caption == "fine"
    with openai_server(answer='{"content": ["a", "b"') as server:
        found = answers(engine(server), asks[:1])
        assert isinstance(found[0], Trouble) and "cut off" in found[0].why and len(server.asked) == 2


def test_parameters_that_a_service_refuses_are_left_out(asks: list[Ask]) -> None:
    with openai_server(refuses=("response_format", "temperature", "max_tokens")) as server:
        found = answers(engine(server), asks[:3])
    assert all(isinstance(a, Proposal) for a in found)
    assert len(server.asked) == 6, "three refusals, learned once"
    assert "max_completion_tokens" in server.asked[-1].body and "temperature" not in server.asked[-1].body


def test_nobody_there(asks: list[Ask]) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    with pytest.raises(Refused, match="does not answer"):
        answers(engine(Server(address=f"http://127.0.0.1:{port}/v1")), asks)


def test_stopping_does_not_wait_for_answers(asks: list[Ask]) -> None:
    with openai_server(wait=3.0) as server:
        began = time.monotonic()
        with engine(server, at_once=2) as opened:
            assert list(opened.caption(asks, lambda: time.monotonic() - began > 0.3)) == []
        assert time.monotonic() - began < 2


def test_the_key_goes_only_where_it_belongs(asks: list[Ask], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secretsecretsecret1234")
    with openai_server() as server:
        answers(engine(server), asks[:1])
        assert "authorization" not in server.asked[0].headers, "not over http unless told"
        server.key = "sk-secretsecretsecret1234"
        assert isinstance(answers(engine(server, key="always"), asks[:1])[0], Proposal)
        server.script = [Reply(401, {"error": {"message": "bad key sk-secretsecretsecret1234"}})]
        with pytest.raises(Refused, match="refuses the key") as e:
            answers(engine(server, key="always"), asks[:1])
        assert "sk-secret" not in str(e.value)


def test_the_models_of_a_service(project: Project) -> None:
    with openai_server() as server:
        auto.save(project, AutoSettings(engine="endpoint", endpoint=EndpointSettings(address=server.address)))
        assert offered.service_models(project) == ["looker", "reader"]
        with pytest.raises(InputError, match="No model is named"):
            auto.ready(project)
        auto.save(
            project,
            AutoSettings(engine="endpoint", endpoint=EndpointSettings(address=server.address[:-3] + "/api")),
        )
        with pytest.raises(StudioError, match="does not speak"):
            offered.service_models(project)


# ---------------------------------------------------------------- addresses


@pytest.mark.parametrize(
    ("typed", "base"),
    [
        ("http://localhost:11434", "http://localhost:11434/v1"),
        (" http://127.0.0.1:1234/v1/ ", "http://127.0.0.1:1234/v1"),
        ("http://[::1]:8000/v1/chat/completions", "http://[::1]:8000/v1"),
        ("http://localhost:1234/v1/models", "http://localhost:1234/v1"),
    ],
)
def test_addresses_on_this_computer(typed: str, base: str) -> None:
    assert base_of(typed) == base
    assert checked(typed)[0] == base and len(checked(typed)[1]) == 1


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "no address"),
        ("localhost:11434", "not the address"),
        ("ftp://localhost/v1", "ftp://"),
        ("file:///etc/passwd", "file://"),
        ("http://user:pw@localhost:1/v1", "user name"),
        ("http://8.8.8.8/v1", "not https"),
        ("http://192.168.1.20:8000/v1", "private network"),
        ("http://10.0.0.1/v1", "private network"),
        ("https://192.168.1.20/v1", "private network"),
        ("http://169.254.169.254/latest/meta-data", "no address of a service"),
        ("http://0.0.0.0:11434/v1", "no address of a service"),
        ("http://[fe80::1]/v1", "no address of a service"),
        ("http://[fd00:ec2::254]/v1", "no address of a service"),
        ("http://100.100.100.200/v1", "no address of a service"),
        ("http://224.0.0.1/v1", "no address of a service"),
        ("http://[::ffff:169.254.169.254]/v1", "no address of a service"),
        ("http://localhost:1/v1?key=abc", "question mark"),
        ("http://local host/v1", "space"),
    ],
)
def test_addresses_that_are_not_asked(typed: str, words: str) -> None:
    with pytest.raises(InputError) as e:
        checked(typed)
    assert words in e.value.what and e.value.fix


def test_where_pictures_go_is_said() -> None:
    def where(address: str) -> str:
        return auto.sent_to(AutoSettings(engine="endpoint", endpoint=EndpointSettings(address=address)))

    assert where("http://localhost:11434/v1") == where("http://[::1]:1") == where("http://127.0.0.1:1") == ""
    assert (
        where("https://api.example.com/v1") == "api.example.com"
        and where("http://192.168.1.2/v1") == "192.168.1.2"
    )
    assert (
        auto.sent_to(AutoSettings(engine="replicate")) == "replicate.com"
        and auto.sent_to(AutoSettings()) == ""
    )


def test_the_own_network_only_when_told() -> None:
    assert checked("http://192.168.1.20:8000/v1", own_network=True)[1]
    assert checked("https://8.8.8.8/v1")[1] == ()
    for never in (
        "http://169.254.169.254/v1",
        "http://[fe80::1]/v1",
        "http://8.8.8.8/v1",
        "http://100.100.100.200/v1",
    ):
        with pytest.raises(InputError):
            checked(never, own_network=True)
    with pytest.raises(EnvironmentalError, match="no server called"):
        checked("https://no-such-host.invalid/v1")


# ---------------------------------------------------------------- as a job


@pytest.mark.usefixtures("inline")
def test_descriptions_as_a_job(project: Project) -> None:
    """Samples, review, batch; approved captions are shown to the model; a caption changed by a person stays."""
    with openai_server() as server:
        own = EndpointSettings(address=server.address, model="looker", at_once=2)
        auto.save(project, AutoSettings(engine="endpoint", endpoint=own))
        made = reviewed(project)
        assert made.items[0].proposal.content == ("a boat", "calm sea")
        server.script = [Reply(400, {"error": {"message": "invalid image"}})]
        job = start_batch(project)
        assert job.wait(60) == "finished", job.error
        assert job.result["written"] == 1 and len(job.result["errors"]) == 1
        question = server.asked[-1].body["messages"][1]["content"][0]["text"]
        assert made.examples[0] in question, "the approved captions show the manner"
        asked = len(server.asked)
        job = start_batch(project)
        assert job.wait(60) == "finished", job.error
        assert len(server.asked) == asked + 1, "only the picture that failed is asked about again"
        every = CaptionStore(project).all()
        assert all(
            c.text.startswith("mirastyle, a boat on calm sea") and c.author == "looker"
            for c in every.values()
        )
        auto.save(
            project, AutoSettings(engine="endpoint", endpoint=own, words=WordSettings(hint="say hello"))
        )
        assert samples.state(project, auto.ready(project)).state == "stale"


@pytest.mark.usefixtures("inline")
def test_a_service_that_goes_away_fails_with_words(project: Project) -> None:
    with openai_server() as server:
        auto.save(
            project,
            AutoSettings(
                engine="endpoint", endpoint=EndpointSettings(address=server.address, model="looker")
            ),
        )
        reviewed(project)
        server.script = [Reply(401, {"error": {"message": "no"}})] * 4
        job = start_batch(project)
        assert job.wait(60) == "failed"
        assert job.error is not None and "wants a key" in job.error["what"] and job.error["fix"]
