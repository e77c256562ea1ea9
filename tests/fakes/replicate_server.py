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
import re
import threading
import zipfile
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.fakes.replicate_contract import (
    FLUX,
    OWNER,
    PAGE,
    SD35,
    TOKEN,
    UPLOAD_LIMIT,
    Fault,
    Refused,
    dataset_zip,
    input_schema,
    lora_bytes,
    result_tar,
)
from tests.fakes.replicate_http import api_handler, delivery_handler, serve

__all__ = ["OWNER", "SD35", "TOKEN", "ReplicateServer", "dataset_zip", "lora_bytes", "result_tar"]


class ReplicateServer:
    """See the module. Attributes may be changed by tests while it runs.

    life: statuses that a training goes through, one step at each look at it.
    seconds_a_look: running time that passes at each look, on the server's clock.
    """

    def __init__(self, port: int = 0) -> None:
        self.models: dict[str, dict[str, Any]] = {
            "lucataco/sd3.5-large-fine-tuner": {
                "versions": {SD35: input_schema(False)},
                "visibility": "public",
            },
            "ostris/flux-dev-lora-trainer": {"versions": {FLUX: input_schema(True)}, "visibility": "public"},
        }
        self.trainings: dict[str, dict[str, Any]] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.breaches: list[str] = []
        self.faults: list[Fault] = []
        self.tokens = {TOKEN}
        self.paid = True
        self.life = ["starting", "processing", "processing", "succeeded"]
        self.seconds_a_look = 60.0
        self.skew = timedelta(0)
        self.result = result_tar()
        self.served: dict[str, bytes] = {"/dataset.zip": dataset_zip()}
        self.delivery_drop = 0
        self.error = ""
        self.last_log = ""
        self._lock = threading.RLock()
        self._api = serve(api_handler(self), port)
        self._delivery = serve(delivery_handler(self), 0)
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
