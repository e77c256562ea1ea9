"""A loopback server that speaks OpenAI's chat interface with pictures, as Ollama, vLLM and LM Studio do, errors included.

The shapes of answers and errors are those that the services give. `Server.script` says how the next questions are
answered; each entry is used once, then every question is answered well.
"""

from __future__ import annotations

import base64
import io
import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from PIL import Image

GOOD = {
    "content": ["a boat", "calm sea"],
    "style": ["thin white lines", "flat blue"],
    "caption": "a boat on calm sea",
}


def completion(content: Any, *, finish: str = "stop", refusal: str | None = None) -> dict[str, Any]:
    """A chat completion with this text."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if refusal is not None:
        message["refusal"] = refusal
    return {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1795000000, "model": "looker",
        "choices": [{"index": 0, "message": message, "finish_reason": finish}],
        "usage": {"prompt_tokens": 900, "completion_tokens": 40, "total_tokens": 940},
    }  # fmt: skip


@dataclass
class Reply:
    """One scripted answer. body: a dict becomes JSON; wait: seconds before it; drop: close the connection instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    wait: float = 0.0
    drop: bool = False


@dataclass
class Asked:
    """One question as it came: the body, the pictures in it, and its headers."""

    path: str
    body: dict[str, Any]
    pictures: list[Image.Image]
    picture_bytes: list[bytes]
    headers: dict[str, str]
    at: float


@dataclass
class Server:
    """The server: its address, what it was asked, and how it shall answer."""

    address: str = ""
    script: list[Reply] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    models: tuple[str, ...] = ("looker", "reader")
    key: str = ""
    refuses: tuple[str, ...] = ()
    answer: Any = None
    wait: float = 0.0
    now: int = 0
    most_at_once: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock)

    def good(self, n: int) -> Any:
        """What the n-th question is answered: `answer`, or a caption that tells the questions apart."""
        if self.answer is not None:
            return self.answer(n) if callable(self.answer) else self.answer
        return json.dumps({**GOOD, "caption": f"a boat on calm sea {n}"})


@contextmanager
def openai_server(**options: Any) -> Iterator[Server]:
    """Run a server on loopback for the length of the block."""
    state = Server(**options)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None:
            return

        def _send(self, reply: Reply) -> None:
            time.sleep(reply.wait)
            if reply.drop:
                self.close_connection = True
                self.connection.close()
                return
            data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
            try:
                self.send_response(reply.status)
                for k, v in {"content-type": "application/json", **reply.headers}.items():
                    self.send_header(k, v)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)
            except OSError:
                return

        def _refused(self) -> Reply | None:
            if state.key and self.headers.get("authorization") != f"Bearer {state.key}":
                told = {
                    "message": "Incorrect API key provided.",
                    "type": "invalid_request_error",
                    "code": "invalid_api_key",
                }
                return Reply(401, {"error": told})
            return None

        def do_GET(self) -> None:
            refused = self._refused()
            if refused is None and self.path != "/v1/models":
                refused = Reply(404, b"404 page not found", {"content-type": "text/plain"})
            data = [{"id": m, "object": "model", "owned_by": "library"} for m in state.models]
            self._send(refused or Reply(200, {"object": "list", "data": data}))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length", 0)))
            try:
                body = json.loads(raw)
            except ValueError:
                self._send(
                    Reply(
                        400, {"error": {"message": "could not parse JSON", "type": "invalid_request_error"}}
                    )
                )
                return
            pictures = [
                base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
                for message in body.get("messages", [])
                if isinstance(message["content"], list)
                for part in message["content"]
                if part["type"] == "image_url"
            ]
            with state.guard:
                headers = {k.lower(): v for k, v in self.headers.items()}
                opened = [Image.open(io.BytesIO(p)) for p in pictures]
                state.asked.append(Asked(self.path, body, opened, pictures, headers, time.monotonic()))
                n = len(state.asked)
                state.now += 1
                state.most_at_once = max(state.most_at_once, state.now)
                scripted = state.script.pop(0) if state.script else None
            time.sleep(state.wait)
            with state.guard:
                state.now -= 1
            self._send(
                self._refused() or self._wrong(body) or scripted or Reply(200, completion(state.good(n)))
            )

        def _wrong(self, body: dict[str, Any]) -> Reply | None:
            if self.path != "/v1/chat/completions":
                return Reply(404, b"404 page not found", {"content-type": "text/plain"})
            if body.get("model") not in state.models:
                told = f'model "{body.get("model")}" not found, try pulling it first'
                return Reply(
                    404, {"error": {"message": told, "type": "not_found_error", "param": None, "code": None}}
                )
            for name in state.refuses:
                if name in body:
                    told = f"Unsupported parameter: '{name}' is not supported with this model."
                    return Reply(
                        400, {"error": {"message": told, "param": name, "code": "unsupported_parameter"}}
                    )
            return None

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
