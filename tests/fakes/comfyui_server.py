"""A stand-in for ComfyUI 0.27 that answers as recorded answers of a real one do, errors and bad habits included.

It keeps to the order that the real one has: execution_success is sent before the history is written, and `executing` without
a node after it; a graph that was drawn before is answered from memory; a restart forgets queue, history and memory.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
import struct
import threading
import time
import uuid
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

NODES = (
    "CheckpointLoaderSimple", "UNETLoader", "DualCLIPLoader", "TripleCLIPLoader", "VAELoader", "LoraLoader", "CLIPSetLastLayer",
    "CLIPTextEncode", "FluxGuidance", "ConditioningZeroOut", "ModelSamplingDiscrete", "ModelSamplingSD3", "ModelSamplingFlux", "EmptyLatentImage",
    "EmptySD3LatentImage", "KSampler", "VAEDecode", "SaveImage", "PreviewImage",
)  # fmt: skip
SAMPLERS = ("euler", "ddim", "dpmpp_2m")
SAVING = ("SaveImage", "PreviewImage")


class ComfyServer:
    """The stand-in at `address`.

    faults: one a graph, in the order of submission: "", "oom", "error", "interrupt", "black", "gone" (the picture's file is
    missing), "partly" (a 200 with node errors). hold: graphs wait while it is set to a number, and that many may still run.
    """

    def __init__(self, lora_folder: Path, checkpoints: tuple[str, ...] = ("tiny_sd15.safetensors",)) -> None:
        self.lora_folder, self.checkpoints, self.nodes = lora_folder, checkpoints, set(NODES)
        self.version = "0.27.0"
        self.tells_folders = True
        self.faults: list[str] = []
        self.hold: int | None = None
        self.submitted: list[dict[str, Any]] = []
        self.interrupts: list[str] = []
        self.freed = 0
        self.drawn = 0
        self.sockets_opened = 0
        self._changed = threading.Condition()
        self._sockets: list[tuple[str, Any]] = []
        self._forget()
        self._over = False
        self._http: ThreadingHTTPServer | None = None
        self.port = 0
        self.start()
        threading.Thread(target=self._execute, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _forget(self) -> None:
        self.pending: list[tuple[str, dict[str, Any], str, str]] = []
        self.running: tuple[str, dict[str, Any], str, str] | None = None
        self.history: dict[str, Any] = {}
        self.memory: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.notes: dict[str, dict[str, Any]] = {}
        self.life = getattr(self, "life", 0) + 1

    def start(self) -> None:
        """Listen, on the same port as before."""
        self._http = ThreadingHTTPServer(("127.0.0.1", self.port), _handler(self))
        self._http.daemon_threads = True
        self.port = self._http.server_address[1]
        threading.Thread(target=self._http.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Die as a killed server does: the queue, the history and all connections are gone."""
        assert self._http is not None
        with self._changed:
            self._forget()
            self._changed.notify_all()
        self._http.shutdown()
        self._http.server_close()
        self.drop_sockets()

    def close(self) -> None:
        """End for good."""
        self._over = True
        self.stop()

    def drop_sockets(self) -> int:
        """Cut every WebSocket; how many there were."""
        with self._changed:
            found, self._sockets = self._sockets, []
        for _, connection in found:
            with suppress(OSError):
                connection.shutdown(2)
        return len(found)

    def allow(self, count: int) -> None:
        """Let that many more graphs run."""
        with self._changed:
            self.hold = (self.hold or 0) + count
            self._changed.notify_all()

    def loras(self) -> list[str]:
        return sorted(
            p.relative_to(self.lora_folder).as_posix() for p in self.lora_folder.rglob("*.safetensors")
        )

    # --- Executing

    def say(self, kind: str, client: str, **data: Any) -> None:
        text = json.dumps({"type": kind, "data": data}).encode()
        head = b"\x81" + (bytes([len(text)]) if len(text) < 126 else b"\x7e" + struct.pack(">H", len(text)))
        with self._changed:
            sockets = [c for who, c in self._sockets if who == client]
        for connection in sockets:
            with suppress(OSError):
                connection.sendall(head + text)

    def _execute(self) -> None:
        while not self._over:
            with self._changed:
                if not self.pending or self.hold == 0:
                    self._changed.wait(0.5)
                    continue
                if self.hold is not None:
                    self.hold -= 1
                self.running = self.pending.pop(0)
                job, life = self.running, self.life
            self._run(job, life)

    def _run(self, job: tuple[str, dict[str, Any], str, str], life: int) -> None:
        prompt_id, graph, client, fault = job
        messages: list[Any] = [["execution_start", {"prompt_id": prompt_id, "timestamp": 1}]]
        self.say("execution_start", client, prompt_id=prompt_id, timestamp=1)
        outputs: dict[str, Any] = {}
        status = "success"
        for step in (1, 2):
            self.say("progress", client, value=step, max=2, prompt_id=prompt_id, node="7")
        if fault == "interrupt" or prompt_id in self.interrupts:
            status = "error"
            messages.append(
                ["execution_interrupted", {"prompt_id": prompt_id, "node_id": "7", "node_type": "KSampler"}]
            )
        elif fault in ("oom", "error"):
            status = "error"
            told = {
                "prompt_id": prompt_id, "node_id": "7", "node_type": "KSampler" if fault == "oom" else "LoraLoader", "executed": [],
                "exception_type": "torch.OutOfMemoryError" if fault == "oom" else "safetensors._safetensors_rust.SafetensorError",
                "exception_message": "Allocation on device" if fault == "oom" else "Error while deserializing header: invalid JSON in header\n",
                "traceback": [],
            }  # fmt: skip
            messages.append(["execution_error", told])
        else:
            outputs = self._outputs(graph, fault, prompt_id)
            messages.append(["execution_success", {"prompt_id": prompt_id, "timestamp": 2}])
        self.say(messages[-1][0], client, **messages[-1][1])
        time.sleep(0.02)  # the race: it has ended, and the history does not know yet
        with self._changed:
            self.running = None
            if self.life != life:
                return
            self.history[prompt_id] = {
                "prompt": [1, prompt_id, graph, {}, list(outputs)],
                "outputs": outputs,
                "status": {"status_str": status, "completed": status == "success", "messages": messages},
                "meta": {},
            }
        self.say("executing", client, node=None, prompt_id=prompt_id)

    def _outputs(self, graph: dict[str, Any], fault: str, prompt_id: str) -> dict[str, Any]:
        key = hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).hexdigest()
        if key not in self.memory:
            self.drawn += 1
            size = next(n["inputs"] for n in graph.values() if n["class_type"].startswith("Empty"))
            made: dict[str, Any] = {}
            for node, body in graph.items():
                if body["class_type"] not in SAVING:
                    continue
                kind = "output" if body["class_type"] == "SaveImage" else "temp"
                name = f"{kind}_{len(self.files) + 1:05}_.png"
                seed = int(hashlib.sha256((key + node).encode()).hexdigest()[:8], 16)
                pixels = np.random.default_rng(seed).integers(
                    0, 255, (size["height"], size["width"], 3), np.uint8
                )
                buffer = io.BytesIO()
                note = PngInfo()
                for name_, told in self.notes.get(prompt_id, {}).items():
                    note.add_text(name_, json.dumps(told))
                Image.fromarray(pixels * (fault != "black")).save(buffer, "PNG", pnginfo=note)
                if fault != "gone":
                    self.files[name] = buffer.getvalue()
                made[node] = {"images": [{"filename": name, "subfolder": "", "type": kind}]}
            self.memory[key] = made
        return self.memory[key]

    # --- What is asked of it

    def submit(self, body: dict[str, Any]) -> tuple[int, Any]:
        graph = body.get("prompt")
        if graph is None:
            return 400, {
                "error": {
                    "type": "no_prompt",
                    "message": "No prompt provided",
                    "details": "",
                    "extra_info": {},
                },
                "node_errors": {},
            }
        for node, one in graph.items():
            if one["class_type"] not in self.nodes:
                told = f"Node '{one['class_type']}' not found. The custom node may not be installed."
                extra = {"node_id": node, "class_type": one["class_type"], "node_title": one["class_type"]}
                return 400, {
                    "error": {
                        "type": "missing_node_type",
                        "message": told,
                        "details": f"Node ID '#{node}'",
                        "extra_info": extra,
                    },
                    "node_errors": {},
                }
        if not any(n["class_type"] in SAVING for n in graph.values()):
            return 400, {
                "error": {
                    "type": "prompt_no_outputs",
                    "message": "Prompt has no outputs",
                    "details": "",
                    "extra_info": {},
                },
                "node_errors": {},
            }
        errors = {n: e for n, one in graph.items() if (e := self._wrong(one))}
        if errors:
            return 400, {
                "error": {
                    "type": "prompt_outputs_failed_validation",
                    "message": "Prompt outputs failed validation",
                    "details": "",
                    "extra_info": {},
                },
                "node_errors": {
                    n: {"errors": e, "dependent_outputs": ["9"], "class_type": graph[n]["class_type"]}
                    for n, e in errors.items()
                },
            }
        prompt_id = str(body.get("prompt_id") or uuid.uuid4())
        if not re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", prompt_id):
            return 400, {
                "error": {
                    "type": "invalid_prompt_id",
                    "message": "prompt_id must be a valid UUID",
                    "details": "",
                    "extra_info": {},
                },
                "node_errors": {},
            }
        fault = self.faults.pop(0) if self.faults else ""
        with self._changed:
            self.submitted.append(graph)
            self.notes[prompt_id] = (body.get("extra_data") or {}).get("extra_pnginfo", {})
            self.pending.append((prompt_id, graph, str(body.get("client_id", "")), fault))
            self._changed.notify_all()
        half: dict[str, Any] = {}
        if fault == "partly":
            half = {
                "90": {
                    "errors": [
                        {
                            "type": "required_input_missing",
                            "message": "Required input is missing",
                            "details": "images",
                            "extra_info": {"input_name": "images"},
                        }
                    ],
                    "dependent_outputs": ["90"],
                    "class_type": "SaveImage",
                }
            }
        return 200, {"prompt_id": prompt_id, "number": len(self.submitted), "node_errors": half}

    def _wrong(self, node: dict[str, Any]) -> list[dict[str, Any]]:
        found = []
        lists = {
            "lora_name": self.loras(),
            "ckpt_name": list(self.checkpoints),
            "sampler_name": list(SAMPLERS),
        }
        for name, value in node["inputs"].items():
            if name in lists and value not in lists[name]:
                found.append({"type": "value_not_in_list", "message": "Value not in list", "details": f"{name}: '{value}' not in {lists[name]}",
                              "extra_info": {"input_name": name, "input_config": None, "received_value": value}})  # fmt: skip
        if node["class_type"] == "KSampler":
            if "seed" not in node["inputs"]:
                found.append(
                    {
                        "type": "required_input_missing",
                        "message": "Required input is missing",
                        "details": "seed",
                        "extra_info": {"input_name": "seed"},
                    }
                )
            if node["inputs"].get("steps", 1) < 1:
                found.append({"type": "value_smaller_than_min", "message": "Value 0 smaller than min of 1", "details": "steps",
                              "extra_info": {"input_name": "steps", "received_value": 0}})  # fmt: skip
        return found

    def cancel(self, ids: list[str]) -> None:
        with self._changed:
            self.pending = [p for p in self.pending if p[0] not in ids]

    def queue(self) -> dict[str, Any]:
        with self._changed:
            running = [[0, self.running[0], self.running[1], {}, []]] if self.running else []
            return {
                "queue_running": running,
                "queue_pending": [[1, p[0], p[1], {}, []] for p in self.pending],
            }

    def get(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path == "/system_stats":
            return 200, {
                "system": {"os": "linux", "comfyui_version": self.version},
                "devices": [{"name": "cpu", "type": "cpu", "vram_total": 8_000_000_000}],
            }
        if path.startswith("/object_info/"):
            name = path.rpartition("/")[2]
            return 200, {name: {"name": name}} if name in self.nodes else {}
        if path == "/experiment/models":
            return 200, [{"name": "loras", "folders": [str(self.lora_folder)]}] if self.tells_folders else []
        if path.startswith("/models/"):
            known = {"checkpoints": list(self.checkpoints), "loras": self.loras()}
            name = path.rpartition("/")[2]
            return (
                (200, known.get(name, []))
                if name in ("vae", "text_encoders", "diffusion_models", *known)
                else (404, None)
            )
        if path.startswith("/experiment/models/"):
            return 200, []
        if path == "/queue":
            return 200, self.queue()
        if path.startswith("/history/"):
            name = path.rpartition("/")[2]
            return 200, {name: self.history[name]} if name in self.history else {}
        if path == "/view":
            content = self.files.get(query.get("filename", ""))
            return (200, content) if content is not None else (404, None)
        return 404, None

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/prompt":
            return self.submit(body)
        if path == "/queue":
            self.cancel(body.get("delete", []))
        elif path == "/interrupt":
            self.interrupts.append(str(body.get("prompt_id", "")))
        elif path == "/free":
            self.freed += 1
            self.memory.clear()
        else:
            return 404, None
        return 200, None


def _handler(server: ComfyServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: Any) -> None: ...

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            if parts.path == "/ws":
                return self._socket(parse_qs(parts.query)["clientId"][0])
            return self._say(*server.get(parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()}))

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("content-length") or 0))
            self._say(*server.post(urlsplit(self.path).path, json.loads(raw or b"{}")))

        def _say(self, status: int, body: Any) -> None:
            content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
            try:
                self.send_response(status)
                self.send_header(
                    "content-type",
                    "image/png" if isinstance(body, bytes) else "application/json; charset=utf-8",
                )
                self.send_header("content-length", str(len(content)))
                self.send_header(
                    "connection", "close"
                )  # so that a server that is stopped answers nobody any more
                self.end_headers()
                self.wfile.write(content)
            except OSError:
                self.close_connection = True

        def _socket(self, client: str) -> None:
            key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            self.send_response(101)
            self.send_header("Upgrade", "websocket")
            self.send_header("Connection", "Upgrade")
            self.send_header(
                "Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
            )
            self.end_headers()
            self.wfile.flush()
            self.close_connection = True
            with server._changed:
                server._sockets.append((client, self.connection))
                server.sockets_opened += 1
            server.say("status", client, status={"exec_info": {"queue_remaining": 0}}, sid=client)
            with suppress(OSError):
                while (heard := self.connection.recv(4096)) and heard[0] & 15 != 8:
                    pass
                self.connection.sendall(b"\x88\x00")  # closing is answered
            with server._changed:
                server._sockets = [s for s in server._sockets if s[1] is not self.connection]

    return Handler
