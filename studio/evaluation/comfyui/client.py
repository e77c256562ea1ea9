"""The calls to a ComfyUI server that drawing a grid takes. Knows the protocol, nothing of grids."""

from __future__ import annotations

import io
import json
import uuid
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from PIL import Image

from studio.answers import network
from studio.errors import EnvironmentalError, NotFoundError, StudioError
from studio.evaluation.comfyui import explain
from studio.evaluation.comfyui.servers import Server

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 30.0
"""A server that loads a large model answers late: its Python holds the lock meanwhile."""

_MOST_BYTES = 200_000_000  # of one answer; a picture of 4096 x 4096 has about 50 MB


class Away(EnvironmentalError):
    """The server does not answer: it is not running, starts anew, or the network is away. May pass by itself."""


class Gone(NotFoundError):
    """The server has no such file any more."""


class NotComfyError(EnvironmentalError):
    """Something answers at the address, and it is not ComfyUI."""


class Client:
    """One server. Not to be shared by threads."""

    def __init__(self, server: Server, timeout: float = TIMEOUT_S) -> None:
        import httpx

        self.server = server
        self.id = str(uuid.uuid4())
        # A proxy of the environment is for the internet; a server in the house is reached directly.
        self._http = httpx.Client(
            base_url=server.address,
            timeout=httpx.Timeout(timeout, connect=min(timeout, 5.0)),
            trust_env=server.address.startswith("https://"),
        )

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    # --- What the server is and has

    def stats(self) -> dict[str, Any]:
        """`/system_stats`. Raises Away, or NotComfyError when another program answers."""
        answer = self._call("GET", "/system_stats")
        told = _json(answer) if answer.status_code == 200 else None
        if answer.is_redirect:
            raise NotComfyError(
                f"{self.server.address} leads to another page, often one to sign in.",
                f"It answered {answer.status_code} to /system_stats.",
                "Use the address that ComfyUI itself listens on, through a tunnel if need be.",
            )
        devices = told.get("devices") if isinstance(told, dict) else None
        rows = devices is None or (isinstance(devices, list) and all(isinstance(d, dict) for d in devices))
        if not isinstance(told, dict) or not isinstance(told.get("system"), dict) or not rows:
            raise NotComfyError(
                f"What answers at {self.server.address} is not ComfyUI.",
                f"It answered {answer.status_code} to /system_stats, and not as ComfyUI does.",
                "Check the port; ComfyUI shows its address when it starts.",
            )
        return told

    def has_node(self, kind: str) -> bool:
        """Whether the server knows a node type."""
        return bool(self._told(f"/object_info/{kind}", dict))

    def models(self, folder: str) -> list[str]:
        """File names in one of its model folders, to be used verbatim; [] for a folder it does not have."""
        found = self._told(f"/models/{folder}", list)
        return [str(f) for f in found or []]

    def folders(self, name: str) -> list[str]:
        """Where a kind of model lies on the server's own disk; [] when it does not tell."""
        for entry in self._told("/experiment/models", list) or []:
            if isinstance(entry, dict) and entry.get("name") == name:
                return [str(f) for f in entry.get("folders", [])]
        return []

    def sizes(self, folder: str) -> dict[str, int]:
        """File name -> bytes; {} when it does not tell."""
        rows = self._told(f"/experiment/models/{folder}", list) or []
        return {
            str(r["name"]): int(r["size"])
            for r in rows
            if isinstance(r, dict) and isinstance(r.get("size"), int) and "name" in r
        }

    # --- Drawing

    def submit(self, graph: Mapping[str, Any], note: Mapping[str, Any] | None = None) -> str:
        """Put a graph into the queue; its id. Raises `explain.Rejected` when the graph is refused, also when only a part
        of it is (a 200 that carries node errors): that part's pictures would never come."""
        wanted = str(uuid.uuid4())
        body: dict[str, Any] = {"prompt": dict(graph), "client_id": self.id, "prompt_id": wanted}
        if note:
            body["extra_data"] = {"extra_pnginfo": {"lora_studio": dict(note)}}
        answer = self._call("POST", "/prompt", json=body)
        told = _json(answer)
        if answer.status_code == 400 and isinstance(told, dict):
            raise explain.rejected(told, graph, self.server.name)
        if answer.status_code != 200 or not isinstance(told, dict) or "prompt_id" not in told:
            raise self._odd(answer, "/prompt")
        prompt_id = str(told["prompt_id"])
        if told.get("node_errors"):
            self.cancel([prompt_id])
            raise explain.rejected(told, graph, self.server.name)
        return prompt_id

    def history(self, prompt_id: str) -> dict[str, Any] | None:
        """The record of a graph that has ended, None while it has not, or when the server never heard of it."""
        found = self._told(f"/history/{prompt_id}", dict) or {}
        entry = found.get(prompt_id)
        return entry if isinstance(entry, dict) else None

    def queued(self) -> set[str]:
        """Ids of all graphs that run or wait."""
        told = self._told("/queue", dict) or {}
        rows = [*told.get("queue_running", []), *told.get("queue_pending", [])]
        return {str(row[1]) for row in rows if isinstance(row, list) and len(row) > 1}

    def cancel(self, prompt_ids: Iterable[str]) -> None:
        """Take graphs out of the queue and end those that run. Only these: other people's graphs go on."""
        ids = list(prompt_ids)
        if not ids:
            return
        self._call("POST", "/queue", json={"delete": ids})
        running = {str(r[1]) for r in (self._told("/queue", dict) or {}).get("queue_running", [])}
        for prompt_id in ids:
            # An old server ends whatever runs, so it is asked only for what is seen to run.
            if prompt_id in running:
                self._call("POST", "/interrupt", json={"prompt_id": prompt_id})

    def picture(self, image: Mapping[str, Any], mark: str = "") -> Image.Image:
        """A picture that a graph made, decoded. Raises Gone when the server removed it, or when another graph's picture has its
        name by now: names are given again after the temporary folder was emptied. mark: what `submit` noted as "graph"."""
        query = {k: str(image.get(k, "")) for k in ("filename", "subfolder", "type")}
        answer = self._call("GET", "/view", params=query)
        if answer.status_code == 404:
            raise self._gone()
        if answer.status_code != 200:
            raise self._odd(answer, "/view")
        try:
            with Image.open(io.BytesIO(answer.content)) as raw:
                raw.load()
                told = json.loads(str(raw.info.get("lora_studio") or "{}"))
                found = raw.convert("RGB")
        except (OSError, ValueError, SyntaxError) as e:
            raise StudioError(
                f"ComfyUI at {self.server.name} sent a picture that cannot be read.", f"{e}.", "Try again."
            ) from e
        # A server that was told to write no metadata (--disable-metadata) says nothing; then the name has to do.
        if mark and isinstance(told, dict) and told.get("graph", mark) != mark:
            raise self._gone()
        return found

    def free(self) -> None:
        """Let the server forget what it computed and put its models out of memory."""
        self._call("POST", "/free", json={"unload_models": True, "free_memory": True})

    # --- Plumbing

    def _call(self, method: str, path: str, **more: Any) -> httpx.Response:
        import httpx

        try:
            with network(self.server.address), self._http.stream(method, path, **more) as answer:
                content = b""
                pieces = []
                size = 0
                for piece in answer.iter_bytes():
                    size += len(piece)
                    if size > _MOST_BYTES:
                        raise self._odd(answer, path)
                    pieces.append(piece)
                content = b"".join(pieces)
                whole = httpx.Response(
                    answer.status_code,
                    headers={"content-type": answer.headers.get("content-type", "")},
                    content=content,
                    request=answer.request,
                )
        except EnvironmentalError as e:
            raise Away(
                f"ComfyUI at {self.server.address} does not answer.",
                "Nothing answers at this address. Is ComfyUI started?" if _is_refused(e) else e.why,
                "Start it there, or check its address on the Set-up page. On another computer it must be started with --listen.",
            ) from e
        if whole.status_code in (502, 503, 504):
            raise Away(
                f"ComfyUI at {self.server.address} does not answer.",
                f"What stands before it answered {whole.status_code}.",
                "Wait until it has started, then try again.",
            )
        if whole.status_code in (401, 403):
            raise NotComfyError(
                f"{self.server.address} asks for a sign-in.",
                f"It answered {whole.status_code} to {path}.",
                "Use the address that ComfyUI itself listens on, through a tunnel if need be.",
            )
        return whole

    def _told(self, path: str, kind: type) -> Any:
        answer = self._call("GET", path)
        if answer.status_code == 404:
            return None
        told = _json(answer)
        if answer.status_code != 200 or not isinstance(told, kind):
            raise self._odd(answer, path)
        return told

    def _gone(self) -> Gone:
        return Gone(
            f"ComfyUI at {self.server.name} does not have the picture any more.",
            "It was drawn before, and its file has been removed since.",
            "Try again.",
        )

    def _odd(self, answer: httpx.Response, path: str) -> NotComfyError:
        return NotComfyError(
            f"{self.server.address} answered in a way that ComfyUI does not.",
            f"{answer.status_code} to {path}.",
            "Check the address; update ComfyUI when it is old.",
        )


def _is_refused(error: BaseException | None) -> bool:
    """Whether the computer answered that no program listens at the port; found among the causes of an error."""
    while error is not None:
        if isinstance(error, ConnectionRefusedError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return None


def images_of(entry: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """Node id -> the picture it made, out of a history record."""
    found: dict[str, Mapping[str, Any]] = {}
    for node, output in (entry.get("outputs") or {}).items():
        images = output.get("images") if isinstance(output, dict) else None
        if isinstance(images, list) and images and isinstance(images[0], dict):
            found[str(node)] = images[0]
    return found


def how_it_ended(entry: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """ "success", "error" or "interrupted" and the details. `status_str` says "error" for both of the latter."""
    status = entry.get("status") or {}
    for message in status.get("messages") or []:
        if isinstance(message, list) and len(message) == 2:
            if message[0] == "execution_error":
                return "error", dict(message[1])
            if message[0] == "execution_interrupted":
                return "interrupted", dict(message[1])
    return ("success" if status.get("status_str") in (None, "success") else "error"), {}
