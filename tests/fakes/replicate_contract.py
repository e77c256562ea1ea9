"""What the stand-in for Replicate holds requests against, and the small files that it deals in."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import zipfile
from dataclasses import dataclass, field
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


def input_schema(autocaption: bool) -> dict[str, Any]:
    """The inputs of a trainer as its version tells them."""
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
