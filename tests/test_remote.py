"""Fetching by URL: no way into private places, nothing half-written, nothing larger than agreed."""

from __future__ import annotations

import hashlib
import io
import socket
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from studio import addresses, remote
from studio.answers import Passing
from studio.errors import EnvironmentalError, InputError, NotFoundError
from tests.fakes.file_server import BIG, CONTENT, server

__all__ = ["server"]


def _get(server: Any, kind: str, target: Path, **more: Any) -> remote.Downloaded:
    more.setdefault("max_bytes", BIG)
    more.setdefault("wait", lambda _s: None)
    return remote.download(f"{server.base}/{kind}", target, allow=(server.base,), **more)


def _asked(server: Any, header: str) -> list[str | None]:
    return [h.get(header) for _c, _p, h in server.state["requests"]]


# --- addresses


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/x.zip",
        "ftp://example.com/x.zip",
        "file:///etc/passwd",
        "example.com/x.zip",
        "",
        "https://",
        "https:///x.zip",
        "https://user@example.com/x.zip",
        "https://user:hunter2@example.com/x.zip",
        "https://127.0.0.1/x.zip",
        "https://127.1/x.zip",
        "https://2130706433/x.zip",
        "https://0x7f000001/x.zip",
        "https://0177.0.0.1/x.zip",
        "https://0.0.0.0/x.zip",
        "https://localhost/x.zip",
        "https://169.254.169.254/latest/meta-data",
        "https://10.0.0.7/x.zip",
        "https://192.168.1.1/x.zip",
        "https://100.64.0.1/x.zip",
        "https://224.0.0.1/x.zip",
        "https://255.255.255.255/x.zip",
        "https://[::1]/x.zip",
        "https://[::]/x.zip",
        "https://[::ffff:127.0.0.1]/x.zip",
        "https://[::ffff:7f00:1]/x.zip",
        "https://[::127.0.0.1]/x.zip",
        "https://[64:ff9b::7f00:1]/x.zip",
        "https://[2002:7f00:1::]/x.zip",
        "https://[fe80::1]/x.zip",
        "https://[fd00::1]/x.zip",
        "https://example.com\\@127.0.0.1/x.zip",
        "https://example.com/a b.zip",
        "https://example.com/x\n.zip",
        "https://exa mple.com/x.zip",
        "https://[::1/x.zip",
        "https://example.com:99999/x.zip",
    ],
)
def test_unsafe_addresses_are_refused(url: str) -> None:
    with pytest.raises(InputError) as told:
        remote.check_url(url)
    assert told.value.what
    assert "hunter2" not in str(told.value)


@pytest.mark.parametrize("answer", [["10.1.2.3"], ["93.184.216.34", "127.0.0.1"], ["::ffff:10.0.0.1"]])
def test_names_that_lead_into_private_places_are_refused(
    monkeypatch: pytest.MonkeyPatch, answer: list[str]
) -> None:
    _resolve(monkeypatch, answer)
    with pytest.raises(InputError, match="public internet"):
        remote.check_url("https://innocent.example/x.zip")


def test_public_addresses_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve(monkeypatch, ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
    remote.check_url("https://example.com/x.zip")
    remote.check_url("https://93.184.216.34:8443/x.zip?a=b")


def test_unknown_names_are_told() -> None:
    with pytest.raises(EnvironmentalError, match="no server called"):
        remote.check_url("https://nothing.invalid/x.zip")


def _resolve(monkeypatch: pytest.MonkeyPatch, answer: list[str]) -> None:
    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in answer]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", lookup)


def test_connects_to_the_checked_address_and_keeps_the_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is looked up once; the request goes to that address with the name in Host and TLS."""
    _resolve(monkeypatch, ["93.184.216.34"])
    seen: list[httpx.Request] = []

    def answer(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, content=b"ok")

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    with remote.client() as http:
        assert http.get("https://example.com/a?b=c").text == "ok"
    assert seen[0].url == "https://93.184.216.34/a?b=c"
    assert seen[0].headers["host"] == "example.com"
    assert seen[0].extensions["sni_hostname"] == "example.com"


def test_tries_the_next_address_when_one_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    _resolve(monkeypatch, ["93.184.216.34", "93.184.216.35"])
    seen: list[str] = []

    def answer(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        seen.append(request.url.host)
        if len(seen) == 1:
            raise httpx.ConnectError("refused")
        return httpx.Response(200)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", answer)
    with remote.client() as http:
        assert http.get("https://example.com/").status_code == 200
    assert seen == ["93.184.216.34", "93.184.216.35"]


def test_a_name_that_changes_its_answer_gains_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """DNS rebinding: public when checked, private when connected to."""
    answers = iter([["93.184.216.34"], ["127.0.0.1"], ["127.0.0.1"]])

    def lookup(host: str, port: int, **_: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in next(answers)]

    monkeypatch.setattr(addresses.socket, "getaddrinfo", lookup)
    with pytest.raises(InputError, match="public internet"):
        remote.download("https://rebind.example/x.zip", tmp_path / "x.zip", max_bytes=BIG)
    assert not list(tmp_path.iterdir())


def test_redirects_into_private_places_are_refused(server: Any, tmp_path: Path) -> None:
    for number, to in enumerate(
        [
            "http://127.0.0.1:1/x",
            "https://169.254.169.254/",
            "https://[::ffff:127.0.0.1]/",
            "file:///etc/passwd",
        ]
    ):
        server.state["to"][f"to-{number}"] = to
        with pytest.raises(InputError):
            _get(server, f"to-{number}", tmp_path / "x")
        with pytest.raises(InputError):
            remote.probe(f"{server.base}/to-{number}", allow=(server.base,))
    assert not list(tmp_path.iterdir())


def test_redirects_are_followed_but_not_forever(server: Any, tmp_path: Path) -> None:
    server.state["to"]["to-file"] = "/file"
    server.state["to"]["to-itself"] = "/to-itself"
    assert _get(server, "to-file", tmp_path / "x").size == len(CONTENT)
    with pytest.raises(InputError, match="leads on"):
        _get(server, "to-itself", tmp_path / "y")


def test_authorization_stays_with_its_host(server: Any, tmp_path: Path) -> None:
    """A redirect to another origin goes without it; `localhost` and `127.0.0.1` are two."""
    other = f"http://localhost:{server.server_port}"
    server.state["to"]["to-other"] = f"{other}/file"
    server.state["to"]["to-same"] = "/file"
    secret = {"Authorization": "Bearer abc"}
    allow = (server.base, other)
    remote.download(f"{server.base}/to-same", tmp_path / "a", max_bytes=BIG, headers=secret, allow=allow)
    assert _asked(server, "authorization") == ["Bearer abc", "Bearer abc"]
    server.state["requests"].clear()
    remote.download(f"{server.base}/to-other", tmp_path / "b", max_bytes=BIG, headers=secret, allow=allow)
    assert _asked(server, "authorization") == ["Bearer abc", None]


def test_loopback_needs_the_exact_origin(server: Any) -> None:
    with pytest.raises(InputError):
        remote.check_url(f"{server.base}/file")
    with pytest.raises(InputError):
        remote.check_url("http://127.0.0.1:1/file", allow=(server.base,))
    remote.check_url(f"{server.base}/file", allow=(server.base,))


# --- probe


@pytest.mark.parametrize("kind", ["file", "no-head", "no-range", "no-etag"])
def test_probe(server: Any, kind: str) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        z.writestr("a.txt", "x" * 5000)
    server.state["content"] = buffer.getvalue()
    told = remote.probe(f"{server.base}/{kind}", allow=(server.base,))
    assert told.is_zip
    assert told.size == len(buffer.getvalue())
    assert told.content_type == "application/zip"
    assert told.resumable == (kind != "no-range")


def test_probe_tells_what_is_wrong(server: Any) -> None:
    with pytest.raises(NotFoundError, match="is not there"):
        remote.probe(f"{server.base}/gone?signature=abcdef", allow=(server.base,))
    with pytest.raises(InputError, match="not open"):
        remote.probe(f"{server.base}/closed", allow=(server.base,))
    with pytest.raises(Passing):
        remote.probe(f"{server.base}/always-busy", allow=(server.base,))
    assert not remote.probe(f"{server.base}/file", allow=(server.base,)).is_zip


def test_messages_leave_signatures_out(server: Any) -> None:
    with pytest.raises(NotFoundError) as told:
        remote.probe(f"{server.base}/gone?signature=abcdef", allow=(server.base,))
    assert "abcdef" not in str(told.value)


def test_read_range(server: Any) -> None:
    with remote.client((server.base,)) as http:
        found = remote.read_range(f"{server.base}/file", 100, 50, http=http, allow=(server.base,))
        assert found == CONTENT[100:150]
        with pytest.raises(InputError, match="in parts"):
            remote.read_range(f"{server.base}/no-range", 100, 50, http=http, allow=(server.base,))


# --- download


def test_download_whole(server: Any, tmp_path: Path) -> None:
    told: list[tuple[int, int | None]] = []
    digest = hashlib.sha256(CONTENT).hexdigest()
    done = _get(
        server, "file", tmp_path / "x.zip", sha256=digest.upper(), progress=lambda a, b: told.append((a, b))
    )
    assert (done.size, done.sha256) == (len(CONTENT), digest)
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    assert told[-1] == (len(CONTENT), len(CONTENT))
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_dropped_connections_are_gone_on_from(server: Any, tmp_path: Path) -> None:
    _get(server, "drops", tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    assert _asked(server, "range") == [None, "bytes=250000-", "bytes=500000-"]
    assert _asked(server, "if-range") == [None, '"one"', '"one"']


def test_a_later_call_goes_on_unless_the_content_changed(server: Any, tmp_path: Path) -> None:
    target = tmp_path / "x.zip"
    stop = iter([False, True])
    with pytest.raises(remote.Stopped):
        _get(server, "drops", target, should_stop=lambda: next(stop, True))
    assert not target.exists()
    had = (tmp_path / "x.zip.part").stat().st_size
    assert 0 < had < len(CONTENT)
    server.state["requests"].clear()
    _get(server, "drops", target)
    assert _asked(server, "range")[0] == f"bytes={had}-"
    assert target.read_bytes() == CONTENT

    with pytest.raises(remote.Stopped):
        stop = iter([False, True])
        _get(server, "drops", target, should_stop=lambda: next(stop, True))
    server.state |= {"content": CONTENT[::-1], "etag": '"two"'}
    _get(server, "file", target)
    assert target.read_bytes() == CONTENT[::-1]


def test_without_a_mark_nothing_is_glued_together(server: Any, tmp_path: Path) -> None:
    server.state["drop"] = True
    with pytest.raises(Passing):
        _get(server, "no-etag", tmp_path / "x.zip")
    assert set(_asked(server, "range")) == {None}
    server.state["drop"] = False
    _get(server, "no-etag", tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_a_part_that_is_whole_already(server: Any, tmp_path: Path) -> None:
    with pytest.raises(remote.Stopped):
        _get(server, "file", tmp_path / "x.zip", should_stop=lambda: True)
    (tmp_path / "x.zip.part").write_bytes(CONTENT)
    _get(server, "file", tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == CONTENT
    (tmp_path / "x.zip.part").write_bytes(CONTENT + b"too much")
    (tmp_path / "x.zip.part.json").write_text('{"mark": "other", "etag": "x"}')
    _get(server, "file", tmp_path / "x.zip")
    assert (tmp_path / "x.zip").read_bytes() == CONTENT


def test_too_large_is_refused_by_word_and_by_count(server: Any, tmp_path: Path) -> None:
    for kind in ("file", "no-length"):
        with pytest.raises(InputError, match="too large"):
            _get(server, kind, tmp_path / "x.zip", max_bytes=300_000)
        assert not list(tmp_path.iterdir())


def test_no_length_told(server: Any, tmp_path: Path) -> None:
    assert _get(server, "no-length", tmp_path / "x.zip").size == len(CONTENT)


def test_wrong_content_is_refused(server: Any, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(b"old")
    with pytest.raises(InputError, match="expected"):
        _get(server, "file", tmp_path / "x.zip", sha256="0" * 64)
    assert (tmp_path / "x.zip").read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.zip"]


def test_passing_trouble_is_waited_out_but_not_forever(server: Any, tmp_path: Path) -> None:
    waits: list[float] = []
    _get(server, "busy-once", tmp_path / "x.zip", wait=waits.append)
    assert waits == [1.0]
    waits.clear()
    with pytest.raises(Passing):
        _get(server, "always-busy", tmp_path / "y.zip", wait=waits.append)
    assert waits == [1.0, 2.0, 4.0, 8.0]


def test_what_cannot_pass_is_not_tried_again(server: Any, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        _get(server, "gone", tmp_path / "x.zip")
    assert len(server.state["requests"]) == 1


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{s.getsockname()[1]}"
    with pytest.raises(Passing, match="failed"):
        remote.download(f"{base}/x", tmp_path / "x", max_bytes=1, allow=(base,), wait=lambda _s: None)
