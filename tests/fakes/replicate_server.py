"""A stand-in for Replicate: stateful, strict, and able to misbehave in the ways that networks and services do.

Every request is checked against CONTRACT, written from Replicate's HTTP API reference; a breach is refused and kept in
`breaches`, which tests want to be empty. Results come from a second server on another port, as they do from
replicate.delivery, where a token is a breach. The official client is driven against it too, so the stand-in is proved.

    with ReplicateServer() as server:
        os.environ["REPLICATE_BASE_URL"] = server.url

By hand: python -m tests.fakes.replicate_server --port 9000
"""

from __future__ import annotations

import io
import json
import re
import struct
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.parser import BytesParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TOKEN = "r8_" + "standin0" * 4 + "abcde"
OWNER = "mushroomfleet"
SD35 = "64360fd3c38f47e8132564044b67b1ed1d45b450f008b896d354c4d0d65973d0"
FLUX = "4ffd32160efd92e956d39c5338a9b8fbafca58e03f791f6d8011f3e20e8ea6fa"
UPLOAD_LIMIT = 100_000_000
PAGE = 100
ID = r"[a-z0-9]{10,64}"
NAME = r"[a-z0-9][a-z0-9-]*/[a-z0-9][a-z0-9._-]*"

_TEXTS = ("layers_to_optimize_regex", "hf_repo_id", "hf_token", "wandb_api_key", "wandb_project", "wandb_run",
          "wandb_entity", "wandb_sample_prompts")  # fmt: skip


def _schema(autocaption: bool) -> dict[str, Any]:
    inputs: dict[str, Any] = {
        "input_images": {"type": "string", "format": "uri"},
        "trigger_word": {"type": "string", "default": "TOK"},
        "steps": {"type": "integer", "minimum": 3, "maximum": 6000},
        "learning_rate": {"type": "number"},
        "batch_size": {"type": "integer"},
        "resolution": {"type": "string"},
        "lora_rank": {"type": "integer", "minimum": 1, "maximum": 128},
        "caption_dropout_rate": {"type": "number", "minimum": 0, "maximum": 1},
        "optimizer": {"type": "string"},
        "cache_latents_to_disk": {"type": "boolean"},
        "wandb_save_interval": {"type": "integer", "minimum": 1},
        "wandb_sample_interval": {"type": "integer", "minimum": 1},
        **{n: {"type": "string"} for n in _TEXTS},
    }
    if autocaption:
        inputs |= {"autocaption": {"type": "boolean"}, "autocaption_prefix": {"type": "string"},
                   "autocaption_suffix": {"type": "string"}}  # fmt: skip
    return {"components": {"schemas": {"TrainingInput": {"type": "object", "properties": inputs}}}}


@dataclass(frozen=True)
class Rule:
    """What a request has to be. body: name -> type, of a JSON body; required: names that must be there."""

    method: str
    path: str
    call: str
    body: dict[str, type] | None = None
    required: tuple[str, ...] = ()
    multipart: bool = False


CONTRACT = [
    Rule("GET", r"/v1/account", "account"),
    Rule("GET", r"/v1/hardware", "hardware"),
    Rule("GET", rf"/v1/models/({NAME})", "model"),
    Rule("POST", r"/v1/models", "create_model",
         {"owner": str, "name": str, "visibility": str, "hardware": str, "description": str},
         ("owner", "name", "visibility", "hardware")),
    Rule("GET", rf"/v1/models/({NAME})/versions/([0-9a-f]{{64}})", "version"),
    Rule("POST", rf"/v1/models/({NAME})/versions/([0-9a-f]{{64}})/trainings", "train",
         {"destination": str, "input": dict, "webhook": str, "webhook_events_filter": list}, ("destination", "input")),
    Rule("GET", r"/v1/trainings", "trainings"),
    Rule("GET", rf"/v1/trainings/({ID})", "training"),
    Rule("POST", rf"/v1/trainings/({ID})/cancel", "cancel"),
    Rule("POST", r"/v1/files", "upload", multipart=True),
    Rule("GET", rf"/v1/files/({ID})", "file"),
]  # fmt: skip


class Refused(Exception):
    """An answer of 400 and more."""

    def __init__(self, status: int, detail: str, title: str = "", **more: Any) -> None:
        super().__init__(detail)
        self.status, self.body = (
            status,
            {"title": title or detail, "detail": detail, "status": status, **more},
        )


@dataclass
class Fault:
    """One misbehaviour. how: a status to answer, or `drop` (close without an answer), `garbage` (no JSON), `empty`,
    `redirect`, `slow` (seconds in `seconds`). after: first do what was asked, then misbehave."""

    call: str
    how: int | str
    after: bool = False
    seconds: float = 0.0
    body: bytes = b"<html>Bad gateway</html>"
    headers: dict[str, str] = field(default_factory=dict)


def lora_bytes(keys: tuple[str, ...] = ("transformer.blocks.0.attn.to_q.lora_A.weight",)) -> bytes:
    """A small but whole safetensors file with LoRA tensors."""
    header = {
        k: {"dtype": "F16", "shape": [2, 4], "data_offsets": [i * 16, i * 16 + 16]}
        for i, k in enumerate(keys)
    }
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(16 * len(keys))


def result_tar(files: dict[str, bytes] | None = None, *, gz: bool = False) -> bytes:
    """A result as the trainers pack it: the LoRA nested, with captions and the config beside it."""
    told = files or {
        "output/flux_train_replicate/lora.safetensors": lora_bytes(),
        "output/flux_train_replicate/config.yaml": b"job: custom_job\n",
        "output/flux_train_replicate/captions/0001.txt": b"MYTOK, a boat",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if gz else "w") as tar:
        for name, content in told.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def dataset_zip(pictures: int = 12, captions: int = 12) -> bytes:
    """A small dataset as trainers take it."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as z:
        for n in range(pictures):
            z.writestr(f"{n:04}.png", bytes(500))
            if n < captions:
                z.writestr(f"{n:04}.txt", "mxqstyle, a boat")
    return buffer.getvalue()


class ReplicateServer:
    """See the module. Attributes may be changed by tests while it runs.

    life: statuses that a training goes through, one step at each look at it. steps_a_look: steps done at each look
    while processing. seconds_a_look: running time that passes at each look, on the server's clock.
    """

    def __init__(self, port: int = 0) -> None:
        self.models: dict[str, dict[str, Any]] = {
            "lucataco/sd3.5-large-fine-tuner": {"versions": {SD35: _schema(False)}, "visibility": "public"},
            "ostris/flux-dev-lora-trainer": {"versions": {FLUX: _schema(True)}, "visibility": "public"},
        }
        self.trainings: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.breaches: list[str] = []
        self.faults: list[Fault] = []
        self.tokens = {TOKEN}
        self.paid = True
        self.life = ["starting", "processing", "processing", "succeeded"]
        self.steps_a_look = 0
        self.seconds_a_look = 60.0
        self.skew = timedelta(0)
        self.result = result_tar()
        self.served: dict[str, bytes] = {"/dataset.zip": dataset_zip()}
        self.delivery_drop = 0
        self.error = ""
        self.last_log = ""
        self._lock = threading.RLock()
        self._api = _serve(_api_handler(self), port)
        self._delivery = _serve(_delivery_handler(self), 0)
        self.url = f"http://127.0.0.1:{self._api.server_port}"
        self.dataset_url = f"http://127.0.0.1:{self._delivery.server_port}/dataset.zip"
        self.delivery = f"http://127.0.0.1:{self._delivery.server_port}"

    def __enter__(self) -> ReplicateServer:
        return self

    def __exit__(self, *_: object) -> None:
        for server in (self._api, self._delivery):
            server.shutdown()
            server.server_close()

    # --- for tests
    def fail(self, call: str, *hows: int | str, **more: Any) -> None:
        """The next requests of this kind misbehave, one way after the other."""
        self.faults += [Fault(call, how, **more) for how in hows]

    def count(self, method: str, ending: str) -> int:
        """How many requests of a method had a path with this ending."""
        return sum(m == method and p.partition("?")[0].endswith(ending) for m, p in self.requests)

    def now(self) -> datetime:
        return datetime.now(UTC) + self.skew

    def put(self, **more: Any) -> dict[str, Any]:
        """Add a training that someone made earlier."""
        made = self._new(
            "lucataco/sd3.5-large-fine-tuner", SD35, f"{OWNER}/old", {"steps": 1500, "trigger_word": "OLD"}
        )
        made.update(more)
        return made

    def _new(self, model: str, version: str, destination: str, values: dict[str, Any]) -> dict[str, Any]:
        n = len(self.trainings) + 1
        made = {
            "id": f"zz4ibbonubfz7carwiefibz{n:03}", "model": model, "version": version, "input": values, "logs": "",
            "output": None, "error": None, "status": "starting", "created_at": _time(self.now() + timedelta(milliseconds=n)),
            "started_at": None, "completed_at": None, "_looks": 0, "_destination": destination,
        }  # fmt: skip
        self.trainings[made["id"]] = made
        return made

    # --- what the API does
    def account(self, _m: Any, _b: Any) -> dict[str, Any]:
        return {
            "type": "user",
            "username": OWNER,
            "name": "Mushroom Fleet",
            "github_url": "https://github.com/x",
        }

    def hardware(self, _m: Any, _b: Any) -> list[dict[str, str]]:
        return [{"name": "Nvidia H100 GPU", "sku": "gpu-h100"}, {"name": "CPU", "sku": "cpu"}]

    def model(self, match: re.Match[str], _b: Any) -> dict[str, Any]:
        if match[1] not in self.models:
            raise Refused(404, "The requested resource could not be found.", "Not found")
        return self._model(match[1])

    def _model(self, name: str) -> dict[str, Any]:
        known, (owner, short) = self.models[name], name.split("/")
        versions = list(known["versions"].items())
        newest = self._version(*versions[-1]) if versions else None
        return {"url": f"https://replicate.com/{name}", "owner": owner, "name": short, "description": "", "run_count": 0,
                "visibility": known["visibility"], "github_url": None, "paper_url": None, "license_url": None,
                "cover_image_url": None, "default_example": None, "latest_version": newest}  # fmt: skip

    def _version(self, version: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {
            "id": version,
            "created_at": "2024-11-01T10:00:00Z",
            "cog_version": "0.11.1",
            "openapi_schema": schema,
        }

    def create_model(self, _m: Any, body: dict[str, Any]) -> dict[str, Any]:
        name = f"{body['owner']}/{body['name']}"
        if body["visibility"] not in ("public", "private"):
            raise Refused(422, "visibility: must be public or private")
        if body["hardware"] not in {h["sku"] for h in self.hardware(None, None)}:
            raise Refused(422, "hardware: is not a known SKU")
        if body["owner"] != OWNER:
            raise Refused(403, "You don't have permission to create models for this owner.")
        if name in self.models:
            raise Refused(409, "A model with that name and owner already exists")
        self.models[name] = {"versions": {}, "visibility": body["visibility"]}
        return self._model(name)

    def version(self, match: re.Match[str], _b: Any) -> dict[str, Any]:
        versions = self.models.get(match[1], {}).get("versions", {})
        if match[2] not in versions:
            raise Refused(404, "The requested resource could not be found.", "Not found")
        return self._version(match[2], versions[match[2]])

    def train(self, match: re.Match[str], body: dict[str, Any]) -> dict[str, Any]:
        schema = self.models.get(match[1], {}).get("versions", {}).get(match[2])
        if schema is None:
            raise Refused(404, "The specified version does not exist", "Not found")
        if not self.paid:
            raise Refused(402, "You have insufficient credit to run this model.", "Insufficient credit")
        if body["destination"] not in self.models:
            raise Refused(404, "The specified training destination does not exist", "Not found")
        inputs = schema["components"]["schemas"]["TrainingInput"]["properties"]
        wrong = []
        for name, value in body["input"].items():
            rule = inputs.get(name)
            if rule is None:
                self.breaches.append(f"train: unknown input {name}")
                continue
            kinds = {"string": str, "integer": int, "number": (int, float), "boolean": bool}
            if not isinstance(value, kinds[rule["type"]]):
                wrong.append(
                    {"field": f"input.{name}", "description": f"Invalid type. Expected: {rule['type']}"}
                )
            elif "maximum" in rule and not rule["minimum"] <= value <= rule["maximum"]:
                wrong.append(
                    {
                        "field": f"input.{name}",
                        "description": f"Must be less than or equal to {rule['maximum']}",
                    }
                )
        if "input_images" not in body["input"]:
            wrong.append({"field": "input", "description": "input_images is required"})
        if wrong:
            said = "".join(f"- {w['field']}: {w['description']}\n" for w in wrong)
            raise Refused(422, said, "Input validation failed", invalid_fields=wrong)
        return self._shown(self._new(match[1], match[2], body["destination"], dict(body["input"])))

    def trainings_page(self, cursor: str) -> dict[str, Any]:
        """Newest first, PAGE at a time."""
        every = sorted(self.trainings.values(), key=lambda t: t["created_at"], reverse=True)
        begin = int(cursor or 0)
        more = begin + PAGE < len(every)
        return {
            "previous": None,
            "next": f"{self.url}/v1/trainings?cursor={begin + PAGE}" if more else None,
            "results": [self._shown(t) for t in every[begin : begin + PAGE]],
        }

    def training(self, match: re.Match[str], _b: Any) -> dict[str, Any]:
        found = self._found(match[1])
        self._live(found)
        return self._shown(found)

    def cancel(self, match: re.Match[str], _b: Any) -> dict[str, Any]:
        found = self._found(match[1])
        if found["status"] in ("starting", "processing"):
            found.update(status="canceled", completed_at=_time(self.now()))
        return self._shown(found)

    def upload(self, _m: Any, body: dict[str, Any]) -> dict[str, Any]:
        if len(body["content"]) > UPLOAD_LIMIT:
            raise Refused(413, "File too large")
        if not zipfile.is_zipfile(io.BytesIO(body["content"])):
            self.breaches.append("upload: the dataset is not a ZIP")
        made = {"id": f"file{len(self.files) + 1:010}", **body}
        self.files[made["id"]] = made
        return self._file(made)

    def file(self, match: re.Match[str], _b: Any) -> dict[str, Any]:
        return self._file(self.files[match[1]])

    def _file(self, made: dict[str, Any]) -> dict[str, Any]:
        return {"id": made["id"], "name": made["name"], "content_type": made["type"], "size": len(made["content"]),
                "etag": "e", "checksums": {"sha256": "0" * 64}, "metadata": {}, "created_at": _time(self.now()),
                "expires_at": None, "urls": {"get": f"{self.url}/v1/files/{made['id']}"}}  # fmt: skip

    def _found(self, training_id: str) -> dict[str, Any]:
        if training_id not in self.trainings:
            raise Refused(404, "The requested resource could not be found.", "Not found")
        return self.trainings[training_id]

    def _live(self, t: dict[str, Any]) -> None:
        """One look further in its life."""
        if t["status"] not in ("starting", "processing"):
            return
        t["_looks"] = min(t["_looks"] + 1, len(self.life))
        t["status"] = self.life[t["_looks"] - 1]
        if t["status"] != "starting" and t["started_at"] is None:
            t["started_at"], t["_ran"] = _time(self.now()), 0.0
        if t["started_at"] is None and t["status"] == "starting":
            return
        t["_ran"] = t.get("_ran", 0.0) + self.seconds_a_look
        t["started_at"] = _time(self.now() - timedelta(seconds=t["_ran"]))
        total = int(t["input"].get("steps", 1000))
        working = [i for i, s in enumerate(self.life) if s == "processing"]
        done = total if t["status"] == "succeeded" else int(total * (t["_looks"] - 1) / (len(working) + 2))
        t["logs"] += _log(done, total, self.last_log)
        if t["status"] not in ("starting", "processing"):
            t["completed_at"] = _time(self.now())
            t["error"] = self.error or None
        if t["status"] == "succeeded":
            t["output"] = {
                "version": f"{t['_destination']}:{'a' * 64}",
                "weights": f"{self.delivery}/xezq/trained_model.tar",
            }
            t["destination"] = t["_destination"]
        if t["status"] == "failed" and not t["error"]:
            t["error"] = "CUDA out of memory"

    def _shown(self, t: dict[str, Any]) -> dict[str, Any]:
        base = f"{self.url}/v1/trainings/{t['id']}"
        hidden = {k: "[REDACTED]" for k in ("wandb_api_key", "hf_token") if k in t["input"]}
        return {
            **{k: v for k, v in t.items() if not k.startswith("_")},
            "input": {**t["input"], **hidden},
            "urls": {"get": base, "cancel": f"{base}/cancel", "web": f"https://replicate.com/p/{t['id']}"},
        }


def _log(done: int, total: int, last: str) -> str:
    share = done / max(1, total)
    spent, left = int(done * 1.2), int((total - done) * 1.2)
    return (
        "caching latents: 100%|##########| 12/12 [00:03<00:00,  3.61it/s]\n"
        f"sd3.5_train_replicate: {share:4.0%}|{'#' * int(share * 10):<10}| {done}/{total} "
        f"[{spent // 60:02}:{spent % 60:02}<{left // 60:02}:{left % 60:02},  1.20s/it, lr: 1.0e+00 loss: {0.5 - 0.2 * share:.3e}]\r{last}\n"
    )


def _time(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _serve(handler: type[BaseHTTPRequestHandler], port: int) -> ThreadingHTTPServer:
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


def _api_handler(server: ReplicateServer) -> type[BaseHTTPRequestHandler]:
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


def _delivery_handler(server: ReplicateServer) -> type[BaseHTTPRequestHandler]:
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


def main() -> None:
    """Serve until Ctrl-C, with a slow training."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--looks", type=int, default=8)
    told = parser.parse_args()
    with ReplicateServer(told.port) as server:
        server.life = ["starting", "starting", *["processing"] * told.looks, "succeeded"]
        print(f"REPLICATE_BASE_URL={server.url} REPLICATE_API_TOKEN={TOKEN}", flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print(server.breaches)


if __name__ == "__main__":
    main()
