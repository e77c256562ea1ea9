"""The same conversation with any ComfyUI, and where the answers of two servers have another shape.

Used to hold the stand-in of the tests against a real server.
"""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from websockets.sync.client import connect

Talk = dict[str, tuple[int, Any]]
OPEN = frozenset({"prompt", "current_inputs", "current_outputs", "traceback", "input_config"})
"""Fields whose inside nobody reads."""


def graph(checkpoint: str, lora: str = "", *, steps: int = 1, seed: int = 1) -> dict[str, Any]:
    """A small picture in API format."""
    found: dict[str, Any] = {
        "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": checkpoint}}
    }
    model, clip = ["1", 0], ["1", 1]
    if lora:
        found["2"] = {"class_type": "LoraLoader", "inputs": {"model": model, "clip": clip, "lora_name": lora,
                                                             "strength_model": 1.0, "strength_clip": 1.0}}  # fmt: skip
        model, clip = ["2", 0], ["2", 1]
    return found | {
        "3": {"class_type": "CLIPTextEncode", "inputs": {"clip": clip, "text": "a boat"}},
        "4": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
        "5": {"class_type": "KSampler", "inputs": {
            "model": model, "positive": ["3", 0], "negative": ["3", 0], "latent_image": ["4", 0], "seed": seed, "steps": steps,
            "cfg": 1.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}},
        "6": {"class_type": "VAEDecode", "inputs": {"samples": ["5", 0], "vae": ["1", 2]}},
        "7": {"class_type": "PreviewImage", "inputs": {"images": ["6", 0]}},
    }  # fmt: skip


class Speaker:
    """Talks to one server and keeps what it answers: name of the question -> status and body."""

    def __init__(self, address: str, checkpoint: str) -> None:
        self.address, self.checkpoint, self.talk = address, checkpoint, {}
        self.events: dict[str, list[str]] = {}
        self._http = httpx.Client(base_url=address, timeout=120)
        self._id = str(uuid.uuid4())

    def close(self) -> None:
        """Hang up."""
        self._http.close()

    def ask(self, name: str, method: str, path: str, **more: Any) -> Any:
        """Keep an answer under a name; its body."""
        answer = self._http.request(method, path, **more)
        try:
            body = answer.json() if answer.content else None
        except ValueError:
            body = "not JSON"
        self.talk[name] = (answer.status_code, body)
        return body

    def draw(self, name: str, prompt: dict[str, Any], *, interrupt: bool = False) -> Any:
        """Have a picture drawn; its record. Keeps the order of what the socket says: each kind once in a row."""
        url = f"{self.address.replace('http', 'ws', 1)}/ws?clientId={self._id}"
        said: list[str] = []
        with connect(url, proxy=None, max_size=None) as socket:
            prompt_id = str(uuid.uuid4())
            body = {"prompt": prompt, "client_id": self._id, "prompt_id": prompt_id}
            self.ask(f"{name}: prompt", "POST", "/prompt", json=body)
            asked = False
            while True:
                heard = socket.recv(timeout=600)
                if isinstance(heard, bytes):
                    continue
                told = json.loads(heard)
                kind, data = told["type"], told.get("data") or {}
                if data.get("prompt_id") != prompt_id:
                    continue
                kind = "done" if kind == "executing" and data["node"] is None else kind
                if kind == "progress":
                    self.talk[f"{name}: progress"] = (0, data)
                    if interrupt and not asked:
                        asked = True
                        self.ask(f"{name}: queue", "GET", "/queue")
                        self.ask(f"{name}: interrupt", "POST", "/interrupt", json={"prompt_id": prompt_id})
                if not said or said[-1] != kind:
                    said.append(kind)
                if kind.startswith("execution_") and kind not in ("execution_start", "execution_cached"):
                    self.talk[f"{name}: {kind}"] = (0, data)
                if kind == "done":
                    break
        self.events[name] = said
        record = self.ask(f"{name}: history", "GET", f"/history/{prompt_id}")
        # By itself the id tells nothing; under one name the records of two servers can be compared.
        self.talk[f"{name}: history"] = (self.talk[f"{name}: history"][0], record[prompt_id])
        return record[prompt_id]


def converse(address: str, checkpoint: str, broken_lora: str) -> Speaker:
    """All that the studio asks of a server, right and wrong. broken_lora: a file in its LoRA folder that is no safetensors."""
    s = Speaker(address, checkpoint)
    fine = graph(checkpoint, seed=time.time_ns() % 2**32)
    s.ask("stats", "GET", "/system_stats")
    for path in ("/object_info/KSampler", "/object_info/NoSuchNode", "/models/loras", "/models/checkpoints", "/models/no-such",
                 "/experiment/models", "/experiment/models/checkpoints", "/queue", f"/history/{uuid.uuid4()}", "/no-such"):  # fmt: skip
        s.ask(path if "history" not in path else "unknown history", "GET", path)
    s.ask("nothing", "POST", "/prompt", json={})
    s.ask("empty", "POST", "/prompt", json={"prompt": {}})
    s.ask("no outputs", "POST", "/prompt", json={"prompt": {k: v for k, v in fine.items() if k != "7"}})
    s.ask("bad id", "POST", "/prompt", json={"prompt": fine, "prompt_id": "NOT-AN-ID"})
    wrong = json.loads(json.dumps(fine))
    wrong["5"]["class_type"] = "NoSuchNode"
    s.ask("no such node", "POST", "/prompt", json={"prompt": wrong})
    wrong["5"]["class_type"] = "KSampler"
    wrong["5"]["inputs"] |= {"sampler_name": "nope", "steps": 0, "cfg": "abc"}
    del wrong["5"]["inputs"]["seed"]
    s.ask("bad values", "POST", "/prompt", json={"prompt": wrong})
    s.ask("no such lora", "POST", "/prompt", json={"prompt": graph(checkpoint, "no-such.safetensors")})
    s.ask("no such checkpoint", "POST", "/prompt", json={"prompt": graph("no-such.safetensors")})
    drawn = s.draw("drawn", fine)
    image = next(iter(drawn["outputs"].values()))["images"][0]
    s.ask("view", "GET", "/view", params=image)
    s.ask("view gone", "GET", "/view", params={**image, "filename": "no-such.png"})
    s.ask("view above", "GET", "/view", params={**image, "filename": "../x.png"})
    s.draw("again", fine)
    s.draw("broken", graph(checkpoint, broken_lora))
    s.draw("interrupted", graph(checkpoint, steps=200, seed=time.time_ns() % 2**32), interrupt=True)
    s.ask("interrupt nobody", "POST", "/interrupt", json={"prompt_id": str(uuid.uuid4())})
    s.ask("delete nobody", "POST", "/queue", json={"delete": [str(uuid.uuid4())]})
    s.ask("free", "POST", "/free", json={"unload_models": True, "free_memory": True})
    half = json.loads(json.dumps(graph(checkpoint, seed=time.time_ns() % 2**32)))
    half["90"] = {"class_type": "SaveImage", "inputs": {"filename_prefix": "x"}}
    s.ask("half", "POST", "/prompt", json={"prompt": half})
    s.close()
    return s


@dataclass
class Heard:
    """What a server said, as it was kept."""

    talk: Talk
    events: dict[str, list[str]]


def kept(speaker: Speaker) -> dict[str, Any]:
    """What a server said as plain data, without what only holds for that computer: numbers, names and long lists."""
    return {
        "talk": {n: [status, _bare(body)] for n, (status, body) in speaker.talk.items()},
        "events": speaker.events,
    }


def recorded(path: Path) -> Heard:
    """What `kept` made, out of a file."""
    told = json.loads(path.read_text(encoding="utf-8"))
    return Heard({n: (status, body) for n, (status, body) in told["talk"].items()}, told["events"])


def _bare(value: Any, key: str = "") -> Any:
    if key in OPEN:
        return None
    if isinstance(value, dict):
        return {k: _bare(v, k) for k, v in value.items()}
    if isinstance(value, list):
        errors = key == "errors"
        return [_bare(v) for v in (value if errors else value[:1])]
    if isinstance(value, str):
        return (
            value if key in ("type", "status_str", "comfyui_version", "exception_type", "node_type") else ""
        )
    return value if isinstance(value, bool) or value is None else 0


def differences(stand_in: Speaker, real: Speaker | Heard) -> list[str]:
    """Where the stand-in says something that the real server would not: another status, a field that is not there, a value of
    another type, errors of other kinds, events in another order. It may say less."""
    found: list[str] = []
    for name, (status, body) in stand_in.talk.items():
        if name not in real.talk:
            found.append(f"{name}: the real server was not heard saying it")
            continue
        if real.talk[name][0] != status:
            found.append(f"{name}: {status}, really {real.talk[name][0]}")
        found += [f"{name}: {x}" for x in _shape(body, real.talk[name][1])]
    found += [f"{n} is not said" for n in real.talk if n not in stand_in.talk]
    for name, said in stand_in.events.items():
        rest = iter(real.events[name])
        if not all(kind in rest for kind in said):
            found.append(f"{name}: events {said}, really {real.events[name]}")
    return found


def _shape(ours: Any, theirs: Any, at: str = "") -> list[str]:
    if type(ours) is not type(theirs) and not (
        isinstance(ours, int | float) and isinstance(theirs, int | float)
    ):
        return [f"{at} is {type(ours).__name__}, really {type(theirs).__name__}"]
    if isinstance(ours, dict):
        if "type" in ours and "message" in ours and ours["type"] != theirs.get("type"):
            return [f"{at} is the error {ours['type']}, really {theirs.get('type')}"]
        found = [f"{at}.{k} is not really there" for k in ours if k not in theirs]
        for key in ours:
            if key in theirs and key not in OPEN:
                found += _shape(ours[key], theirs[key], f"{at}.{key}")
        return found
    if isinstance(ours, list) and ours and theirs:
        named = [x for x in ours if isinstance(x, dict) and "type" in x and "message" in x]
        if named:
            kinds, real = {x["type"] for x in ours}, {x["type"] for x in theirs}
            return [f"{at} tells {sorted(kinds)}, really {sorted(real)}"] if kinds != real else [
                y for x in ours for y in _shape(x, next(t for t in theirs if t["type"] == x["type"]), f"{at}[{x['type']}]")
            ]  # fmt: skip
        return _shape(ours[0], theirs[0], f"{at}[0]")
    return []
