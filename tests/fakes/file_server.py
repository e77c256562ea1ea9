"""A small file server with the habits of real ones."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

CONTENT = os.urandom(700_000)
BIG = 10_000_000


class Handler(BaseHTTPRequestHandler):
    """A file server with the habits of real ones; the first part of the path names the habit."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        state = self.server.state  # type: ignore[attr-defined]
        state["requests"].append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
        kind = self.path.strip("/").partition("?")[0]
        if kind.startswith("to-"):
            return self._redirect(state["to"][kind])
        if kind == "gone":
            return self._plain(404)
        if kind == "closed":
            return self._plain(403)
        if kind == "busy-once" and not state["seen"].get("busy"):
            state["seen"]["busy"] = True
            return self._plain(503)
        if kind == "always-busy":
            return self._plain(503)
        if self.command == "HEAD" and kind == "no-head":
            return self._plain(403)
        self._file(kind, state)
        return None

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def _redirect(self, to: str) -> None:
        self.send_response(302)
        self.send_header("location", to)
        self.send_header("content-length", "0")
        self.end_headers()

    def _file(self, kind: str, state: dict[str, Any]) -> None:
        content, etag, start = state["content"], state["etag"], 0
        end = len(content)
        asked = self.headers.get("range", "")
        fits = self.headers.get("if-range") in (None, etag)
        ranged = asked.startswith("bytes=") and kind != "no-range" and fits
        if ranged:
            first, _, last = asked.removeprefix("bytes=").partition("-")
            start, end = int(first), min(end, int(last) + 1) if last else end
        if ranged and start >= len(content):
            self.send_response(416)
            self.send_header("content-range", f"bytes */{len(content)}")
            self.send_header("content-length", "0")
            self.end_headers()
            return
        self.send_response(206 if ranged else 200)
        if ranged:
            self.send_header("content-range", f"bytes {start}-{end - 1}/{len(content)}")
        if kind != "no-etag":
            self.send_header("etag", etag)
        if kind == "no-length":
            self.send_header("connection", "close")
            self.close_connection = True
        else:
            self.send_header("content-length", str(end - start))
        self.send_header("content-type", "application/zip; charset=binary")
        self.end_headers()
        if self.command == "HEAD":
            return
        if kind.startswith("drops") or (kind == "no-etag" and state.get("drop")):
            end = min(end, start + 250_000)
            self.close_connection = True
        self.wfile.write(content[start:end])


@pytest.fixture
def server() -> Iterator[Any]:
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.state = {"requests": [], "seen": {}, "to": {}, "content": CONTENT, "etag": '"one"'}  # type: ignore[attr-defined]
    httpd.base = f"http://127.0.0.1:{httpd.server_port}"  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()
