"""The stand-in's two servers: the API, strict by its contract and able to misbehave, and the place where results lie."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from tests.fakes.replicate_contract import CONTRACT, Fault, Refused, Rule

if TYPE_CHECKING:
    from tests.fakes.replicate_server import ReplicateServer


def serve(handler: type[BaseHTTPRequestHandler], port: int) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    return server


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None: ...

    def reply(self, status: int, body: bytes, kind: str = "application/json", **headers: str) -> None:
        try:
            self.send_response(status)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)
        except OSError:
            self.close_connection = True


def api_handler(server: ReplicateServer) -> type[BaseHTTPRequestHandler]:
    class Api(_Handler):
        def do_GET(self) -> None:
            self._answer()

        def do_POST(self) -> None:
            self._answer()

        def do_DELETE(self) -> None:
            self._answer()

        def date_time_string(self, timestamp: float | None = None) -> str:
            return super().date_time_string(server.now().timestamp())

        def _answer(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            path, _, query = self.path.partition("?")
            with server._lock:
                server.requests.append((self.command, self.path))
                rule, match = _rule(self.command, path)
                if rule is None or match is None:
                    server.breaches.append(f"{self.command} {path}: no such call")
                    return self._say(404, {"detail": "Not found", "status": 404})
                fault = next((f for f in server.faults if f.call == rule.call), None)
                if fault is not None:
                    server.faults.remove(fault)
                    if not fault.after:
                        return self._misbehave(fault)
                try:
                    body = self._checked(rule, raw)
                    if rule.call == "trainings":
                        answer: Any = server.trainings_page(query.removeprefix("cursor="))
                    else:
                        act: Callable[..., Any] = getattr(server, rule.call)
                        answer = act(match, body)
                except Refused as e:
                    return self._say(e.status, e.body)
                if fault is not None:
                    return self._misbehave(fault)
            return self._say(201 if rule.method == "POST" and rule.call != "cancel" else 200, answer)

        def _say(self, status: int, body: Any) -> None:
            kind = "application/json" if status < 400 else "application/problem+json"
            self.reply(status, json.dumps(body).encode(), kind)

        def _checked(self, rule: Rule, raw: bytes) -> dict[str, Any]:
            told = self.headers.get("authorization", "")
            if told.removeprefix("Bearer ").removeprefix("Token ") not in server.tokens:
                raise Refused(401, "You did not pass a valid authentication token", "Unauthenticated")
            if rule.multipart:
                return _multipart(self.headers.get("content-type", ""), raw)
            if rule.body is None:
                if raw.strip() not in (b"", b"null", b"{}"):
                    server.breaches.append(f"{rule.call}: a body that nobody asked for")
                return {}
            body = json.loads(raw or b"{}")
            for name, value in body.items():
                if name not in rule.body or not isinstance(value, rule.body[name]):
                    server.breaches.append(f"{rule.call}: {name}={value!r}")
            lacking = [n for n in rule.required if n not in body]
            if lacking:
                raise Refused(422, f"{', '.join(lacking)} required", "Input validation failed")
            return body

        def _misbehave(self, fault: Fault) -> None:
            if fault.how == "slow":
                time.sleep(fault.seconds)
            if fault.how in ("drop", "slow"):
                self.close_connection = True
                self.connection.close() if fault.how == "drop" else None
                return None
            if fault.how == "garbage":
                return self.reply(201, fault.body, "text/html")
            if fault.how == "redirect":
                return self.reply(302, b"", location="https://login.example/", **fault.headers)
            assert isinstance(fault.how, int)
            body = json.dumps({"detail": "as told", "status": fault.how}).encode()
            return self.reply(fault.how, body, **fault.headers)

    return Api


def delivery_handler(server: ReplicateServer) -> type[BaseHTTPRequestHandler]:
    class Delivery(_Handler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            content = server.served.get(self.path.partition("?")[0], server.result)
            server.requests.append(("DELIVERY", f"{self.path} {self.headers.get('range', '')}".strip()))
            if "authorization" in self.headers:
                server.breaches.append("delivery: the token was sent to another host")
            if not content:
                return self.reply(404, b"")
            size = len(content)
            first, _, last = self.headers.get("range", "").removeprefix("bytes=").partition("-")
            start = int(first or 0)
            content = content[: int(last) + 1] if last else content
            status = 206 if "range" in self.headers else 200
            whole = {"etag": '"weights"', "accept_ranges": "bytes"}
            if status == 206:
                whole["content_range"] = f"bytes {start}-{len(content) - 1}/{size}"
            if server.delivery_drop:
                server.delivery_drop -= 1
                self.send_response(status)
                for name, value in {**whole, "content_length": str(len(content) - start)}.items():
                    self.send_header(name.replace("_", "-"), value)
                self.end_headers()
                self.wfile.write(content[start : start + max(1, (len(content) - start) // 2)])
                self.close_connection = True
                return None
            return self.reply(status, content[start:], "application/x-tar", **whole)

    return Delivery


def _rule(method: str, path: str) -> tuple[Rule | None, re.Match[str] | None]:
    for rule in CONTRACT:
        match = re.fullmatch(rule.path, path)
        if match and rule.method == method:
            return rule, match
    return None, None


def _multipart(kind: str, raw: bytes) -> dict[str, Any]:
    parsed = BytesParser().parsebytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw)
    for part in parsed.get_payload() if parsed.is_multipart() else []:
        if part.get_param("name", header="content-disposition") == "content":  # type: ignore[union-attr]
            return {"name": part.get_filename(), "type": part.get_content_type(),  # type: ignore[union-attr]
                    "content": part.get_payload(decode=True)}  # type: ignore[union-attr]  # fmt: skip
    raise Refused(422, "content is required")
