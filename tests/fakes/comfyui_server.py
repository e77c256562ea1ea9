"""A stand-in for ComfyUI 0.27 that answers as recorded answers of a real one do, errors and bad habits included.

It keeps to the order that the real one has: execution_success is sent before the history is written, and `executing` without
a node after it; a graph that was drawn before is answered from memory; a restart forgets queue, history and memory.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
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

from tests.fakes.comfyui_graphs import NODES, SAVING, needed, node_errors, refused, unreadable_lora


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
        self._ended: set[str] = set()
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
        known = self._key(graph) in self.memory
        messages: list[Any] = []

        def say(kind: str, **data: Any) -> None:
            data = {"prompt_id": prompt_id, **data, "timestamp": int(time.time() * 1000)}
            messages.append([kind, data])
            self.say(kind, client, **data)

        say("execution_start")
        say("execution_cached", nodes=list(graph) if known else [])
        sampler = next((n for n, b in graph.items() if b["class_type"] == "KSampler"), "")
        outputs: dict[str, Any] = {}
        error = None if known else unreadable_lora(graph, self.lora_folder) or _fault(fault, sampler)
        stopped = fault == "interrupt"
        if not (error or known):
            stopped = (
                self._sample(prompt_id, sampler, int(graph[sampler]["inputs"]["steps"]), client) or stopped
            )
        if stopped:
            say("execution_interrupted", node_id=sampler, node_type="KSampler", executed=[])
        elif error:
            say("execution_error", **error)
        else:
            outputs = self._outputs(graph, fault, prompt_id)
            for node, output in outputs.items():
                self.say("executed", client, node=node, display_node=node, output=output, prompt_id=prompt_id)
            say("execution_success")
        time.sleep(0.02)  # the race: it has ended, and the history does not know yet
        fine = messages[-1][0] == "execution_success"
        with self._changed:
            self.running = None
            if self.life != life:
                return
            self.history[prompt_id] = {
                "prompt": [1, prompt_id, graph, {}, list(outputs)],
                "outputs": outputs,
                "status": {
                    "status_str": "success" if fine else "error",
                    "completed": fine,
                    "messages": messages,
                },
                "meta": {
                    n: {"node_id": n, "display_node": n, "parent_node": None, "real_node_id": n}
                    for n in outputs
                },
            }
        self.say("executing", client, node=None, prompt_id=prompt_id)

    def _sample(self, prompt_id: str, node: str, steps: int, client: str) -> bool:
        """Whether it was interrupted on the way."""
        self.say("executing", client, node=node, display_node=node, prompt_id=prompt_id)
        for step in range(1, steps + 1):
            self.say("progress", client, value=step, max=steps, prompt_id=prompt_id, node=node)
            if steps > 100:
                time.sleep(0.02)  # long enough to be interrupted
            if prompt_id in self._ended:
                return True
        return False

    @staticmethod
    def _key(graph: dict[str, Any]) -> str:
        return hashlib.sha256(json.dumps(graph, sort_keys=True).encode()).hexdigest()

    def _outputs(self, graph: dict[str, Any], fault: str, prompt_id: str) -> dict[str, Any]:
        key = self._key(graph)
        if key not in self.memory:
            self.drawn += 1
            size = next(n["inputs"] for n in graph.values() if n["class_type"].startswith("Empty"))
            made: dict[str, Any] = {}
            for node, body in graph.items():
                if body["class_type"] not in SAVING or "images" not in body["inputs"]:
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
        files = {"lora_name": self.loras(), "ckpt_name": list(self.checkpoints)}
        no = refused(body, self.nodes, files)
        if no is not None:
            return no
        graph, prompt_id = body["prompt"], str(body.get("prompt_id") or uuid.uuid4())
        fault = self.faults.pop(0) if self.faults else ""
        errors = node_errors(graph, files)
        if fault == "partly":
            errors = node_errors({**graph, "90": {"class_type": "SaveImage", "inputs": {}}}, files)
        with self._changed:
            self.submitted.append(graph)
            self.notes[prompt_id] = (body.get("extra_data") or {}).get("extra_pnginfo", {})
            # Outputs with errors are left out; the others are drawn.
            good = {n for o, b in graph.items() if b["class_type"] in SAVING for n in needed(graph, o)
                    if not any(o in e["dependent_outputs"] for e in errors.values())}  # fmt: skip
            self.pending.append(
                (
                    prompt_id,
                    {n: b for n, b in graph.items() if n in good},
                    str(body.get("client_id", "")),
                    fault,
                )
            )
            self._changed.notify_all()
        return 200, {"prompt_id": prompt_id, "number": len(self.submitted), "node_errors": errors}

    def cancel(self, ids: list[str]) -> None:
        with self._changed:
            self.pending = [p for p in self.pending if p[0] not in ids]

    def _interrupt(self, prompt_id: str) -> None:
        """Only what runs, and only when it is meant."""
        with self._changed:
            self.interrupts.append(prompt_id)
            if self.running and self.running[0] == prompt_id:
                self._ended.add(prompt_id)

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
                "system": {"os": "linux", "comfyui_version": self.version, "argv": ["main.py", "--cpu"]},
                "devices": [{"name": "cpu", "type": "cpu", "index": None, "vram_total": 8_000_000_000}],
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
            if ".." in query.get("filename", "") or query.get("filename", "").startswith("/"):
                return 400, None
            content = self.files.get(query.get("filename", ""))
            return (200, content) if content is not None else (404, None)
        return 404, None

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        if path == "/prompt":
            return self.submit(body)
        if path == "/queue":
            self.cancel(body.get("delete", []))
        elif path == "/interrupt":
            self._interrupt(str(body.get("prompt_id", "")))
        elif path == "/free":
            self.freed += 1
            self.memory.clear()
        else:
            return 404, None
        return 200, None


def _fault(fault: str, node: str) -> dict[str, Any] | None:
    """What the server says of a graph that breaks while it is drawn."""
    kinds = {
        "oom": ("KSampler", "torch.OutOfMemoryError", "Allocation on device"),
        "error": ("LoraLoader", "safetensors._safetensors_rust.SafetensorError", "Error while deserializing header: invalid JSON in header\n"),
    }  # fmt: skip
    if fault not in kinds:
        return None
    kind, name, message = kinds[fault]
    return {"node_id": node, "node_type": kind, "executed": [], "exception_type": name, "exception_message": message,
            "traceback": [], "current_inputs": {}, "current_outputs": []}  # fmt: skip


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
