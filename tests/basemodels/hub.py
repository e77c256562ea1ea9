"""A stand-in for the hub: files below /REPO/resolve/main/PATH, ranges, gated repositories, and the troubles of real servers."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "hf_" + "a" * 34
NEWCOMER = "hf_" + "b" * 34  # known, but the licence was not accepted


class Hub:
    """What the server has and does.

    files: path -> content. gated: repositories that ask for TOKEN. cdn: where downloads are led to. cut: answers end after
    so many bytes, `cuts` times. asked: (path, headers) of every GET.
    """

    def __init__(self, base: str = "") -> None:
        self.base = base
        self.files: dict[str, bytes] = {}
        self.gated: set[str] = set()
        self.cut = 0
        self.cuts = 0
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[tuple[str, dict[str, str]]] = []

    def put(self, repo: str, path: str, content: bytes) -> dict[str, Any]:
        """Offer a file; how a manifest describes it."""
        self.files[f"/{repo}/resolve/main/{path}"] = content
        return {
            "repo": repo,
            "path": path,
            "bytes": len(content),
            "sha256": hashlib.sha256(content).hexdigest(),
        }


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def do_GET(self) -> None:
        hub: Hub = self.server.hub  # type: ignore[attr-defined]
        told = {k.lower(): v for k, v in self.headers.items()}
        hub.asked.append((self.path, told))
        repo = "/".join(self.path.split("/")[1:3])
        if repo in hub.gated:
            who = told.get("authorization", "").removeprefix("Bearer ")
            if who != TOKEN:
                return self._plain(403 if who == NEWCOMER else 401)
        content = hub.files.get(self.path)
        if content is None:
            return self._plain(404)
        start = int(told["range"].removeprefix("bytes=").partition("-")[0]) if "range" in told else 0
        end = len(content)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("content-range", f"bytes {start}-{end - 1}/{end}")
        self.send_header("etag", f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"')
        self.send_header("content-length", str(end - start))
        self.end_headers()
        if hub.cuts:
            hub.cuts -= 1
            end = min(end, start + hub.cut)
            self.close_connection = True
        self.wfile.write(content[start:end])
        self.wfile.flush()
        hub.gate.wait(60)
        return None

    def _plain(self, status: int) -> None:
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub at work on this computer."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{httpd.server_port}")
    httpd.hub = hub  # type: ignore[attr-defined]
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.gate.set()
        httpd.shutdown()
        httpd.server_close()
        thread.join(10)
