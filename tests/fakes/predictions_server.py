"""A loopback server that speaks the predictions interface of Replicate, errors included."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Predictions:
    """The server: answers to POST in `script` (status, body, headers) are used once each; then predictions are made.

    polls: how often a prediction is asked about before it has ended. end: how it ends.
    """

    address: str = ""
    token: str = "r8_testtesttesttesttest"
    script: list[tuple[int, Any, dict[str, str]]] = field(default_factory=list)
    polls: int = 1
    end: dict[str, Any] = field(default_factory=dict)
    posted: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    asked: int = 0
    cancelled: list[str] = field(default_factory=list)
    get_url: str = ""
    seen_tokens: set[str] = field(default_factory=set)


@contextmanager
def predictions_server(**options: Any) -> Iterator[Predictions]:
    """Run a server on loopback for the length of the block."""
    state = Predictions(**options)
    left: dict[str, int] = {}
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return

        def _send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for k, v in {"content-type": "application/json", **(headers or {})}.items():
                self.send_header(k, v)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def _known(self) -> bool:
            told = self.headers.get("authorization", "")
            state.seen_tokens.add(told)
            if told != f"Bearer {state.token}":
                self._send(
                    401,
                    {
                        "title": "Unauthenticated",
                        "detail": "You did not pass a valid authentication token",
                        "status": 401,
                    },
                )
                return False
            return True

        def _body(self, name: str) -> dict[str, Any]:
            url = state.get_url or f"{state.address}/predictions/{name}"
            body = {
                "id": name,
                "status": "processing",
                "output": None,
                "error": None,
                "urls": {"get": url, "cancel": f"{url}/cancel"},
            }
            if name in state.cancelled:
                return {**body, "status": "canceled"}
            if left.get(name, 0) <= 0:
                text = '{"content": ["a boat"], "style": ["ink"], "caption": "a boat"}'
                body |= {"status": "succeeded", "output": [text[:20], text[20:]], **state.end}
            return body

        def do_POST(self) -> None:
            raw = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))) or b"{}")
            if not self._known():
                return
            if self.path.endswith("/cancel"):
                state.cancelled.append(self.path.split("/")[-2])
                self._send(200, {"status": "canceled"})
                return
            with guard:
                state.posted.append((self.path, raw))
                if state.script:
                    self._send(*state.script.pop(0))
                    return
                name = f"p{len(state.posted)}"
                left[name] = state.polls
            self._send(201, self._body(name))

        def do_GET(self) -> None:
            if self._known():
                state.asked += 1
                name = self.path.split("/")[-1]
                left[name] = left.get(name, 0) - 1
                self._send(200, self._body(name))

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    state.address = f"http://127.0.0.1:{server.server_port}/v1"
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)
