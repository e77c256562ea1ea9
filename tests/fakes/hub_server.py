"""A hub that speaks the documented protocol for writing into model repositories: accounts, visibility, upload modes, git LFS with
basic and multi-part transfer to a storage of another origin, commits with a parent. It can be told to fail."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

LFS_ENDINGS = (".safetensors", ".png")


@dataclass
class State:
    """What the hub knows. part: bytes of a part above which a file goes up in parts; faults: (method, part of the path) -> answers
    to give first: (status, headers, body)."""

    tokens: dict[str, str] = field(default_factory=lambda: {"hf_right-token-of-ann": "ann"})
    repos: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    parts: dict[str, dict[int, bytes]] = field(default_factory=dict)
    requests: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    faults: dict[tuple[str, str], list[tuple[int, dict[str, str], bytes]]] = field(default_factory=dict)
    part: int = 0
    read_only: set[str] = field(default_factory=set)
    hold: threading.Event | None = None
    held: threading.Event = field(default_factory=threading.Event)
    hub: str = ""
    storage: str = ""
    lock: Any = field(default_factory=threading.Lock)

    def repo(self, name: str, private: bool = True, files: dict[str, bytes] | None = None) -> None:
        """A repository that is there already."""
        self.repos[name] = {
            "private": private,
            "sha": _sha(name, 0),
            "files": dict(files or {}),
            "commits": [],
        }

    @property
    def commits(self) -> int:
        return sum(len(r["commits"]) for r in self.repos.values())


def _sha(name: str, n: int) -> str:
    return hashlib.sha1(f"{name} {n}".encode()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 65536  # head and body in one packet
    state: State

    def log_message(self, *_: Any) -> None: ...

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding") == "chunked":
            out = b""
            while size := int(self.rfile.readline(), 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return out
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def _say(
        self, status: int, told: Any = None, headers: dict[str, str] | None = None, raw: bytes | None = None
    ) -> None:
        content = raw if raw is not None else json.dumps(told).encode() if told is not None else b""
        self.send_response(status)
        for key, value in {"content-type": "application/json", **(headers or {})}.items():
            self.send_header(key, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _noted(self) -> bool:
        """Note the request; answer with a fault when one is due."""
        path = self.path.partition("?")[0]
        self.state.requests.append((self.command, path, {k.lower(): v for k, v in self.headers.items()}))
        for (method, part), answers in self.state.faults.items():
            if method == self.command and part in path and answers:
                self._body()
                status, headers, content = answers.pop(0)
                if status == 0:  # the line breaks
                    self.close_connection = True
                    return True
                self._say(status, headers=headers, raw=content)
                return True
        return False


class _Storage(_Handler):
    """Where large files go: signed addresses, no accounts. A token here would be a leak, and is refused."""

    def do_PUT(self) -> None:
        if self._noted():
            return
        if self.state.hold is not None:
            self.state.held.set()
            self.state.hold.wait(60)
        content = self._body()
        if "authorization" in self.headers or "signed=1" not in self.path:
            return self._say(403, {"error": "bad signature"})
        oid, _, part = self.path.partition("?")[0].strip("/").partition("/")
        if part:
            self.state.parts.setdefault(oid, {})[int(part)] = content
        elif hashlib.sha256(content).hexdigest() == oid:
            self.state.blobs[oid] = content
        else:
            return self._say(400, {"error": "wrong content"})
        self._say(200, headers={"etag": f'"{hashlib.md5(content).hexdigest()}"'})
        return None


class _Hub(_Handler):
    def _account(self) -> str | None:
        told = self.headers.get("authorization", "").removeprefix("Bearer ")
        return self.state.tokens.get(told)

    def do_GET(self) -> None:
        if self._noted():
            return
        account, path = self._account(), self.path.partition("?")[0]
        if path == "/api/whoami-v2":
            return (
                self._say(200, {"name": account})
                if account
                else self._say(401, {"error": "Invalid credentials in Authorization header"})
            )
        repo = self.state.repos.get(path.removeprefix("/api/models/").removesuffix("/revision/main"))
        if repo is None or (repo["private"] and not account):
            return self._say(404, {"error": "Repository not found"}, {"x-error-code": "RepoNotFound"})
        self._say(200, {"id": path, "private": repo["private"], "sha": repo["sha"]})
        return None

    def do_POST(self) -> None:
        if self._noted():
            return
        account, content, path = self._account(), self._body(), self.path.partition("?")[0]
        if path.startswith("/complete/"):
            return self._complete(path.rpartition("/")[2], json.loads(content))
        if account is None:
            return self._say(401, {"error": "Invalid username or password."})
        if path == "/api/validate-yaml":
            return self._say(200, {"errors": [], "warnings": []})
        if path == "/api/repos/create":
            return self._create(account, json.loads(content))
        if path.endswith("/info/lfs/objects/batch"):
            return self._batch(json.loads(content))
        if path.startswith("/verify/"):
            told = json.loads(content)
            fine = len(self.state.blobs.get(told["oid"], b"")) == told["size"]
            return self._say(200, {}) if fine else self._say(404, {"error": "not there"})
        name, _, rest = path.removeprefix("/api/models/").partition("/preupload/")
        if rest:
            found = json.loads(content)["files"]
            return self._say(200, {"files": [
                {"path": f["path"], "uploadMode": "lfs" if f["path"].endswith(LFS_ENDINGS) else "regular", "shouldIgnore": False, "oid": None}
                for f in found
            ]})  # fmt: skip
        name = path.removeprefix("/api/models/").partition("/commit/")[0]
        return self._commit(account, name, [json.loads(line) for line in content.splitlines()])

    def _create(self, account: str, told: dict[str, Any]) -> None:
        owner = told.get("organization") or account
        name = f"{owner}/{told['name']}"
        if owner != account or account in self.state.read_only:
            return self._say(
                403, {"error": f"You don't have the rights to create a model under the namespace {owner!r}"}
            )
        with self.state.lock:
            if name in self.state.repos:
                return self._say(
                    409, {"error": "You already created this model repo", "url": f"{self.state.hub}/{name}"}
                )
            self.state.repo(name, told.get("visibility") == "private")
        self._say(200, {"url": f"{self.state.hub}/{name}", "name": name})
        return None

    def _batch(self, told: dict[str, Any]) -> None:
        out = []
        for thing in told["objects"]:
            oid, size = thing["oid"], thing["size"]
            found: dict[str, Any] = {"oid": oid, "size": size}
            if oid not in self.state.blobs:
                count = -(-size // self.state.part) if self.state.part else 0
                if count > 1:
                    header = {
                        str(n + 1): f"{self.state.storage}/{oid}/{n + 1}?signed=1" for n in range(count)
                    }
                    upload = {
                        "href": f"{self.state.hub}/complete/{oid}",
                        "header": {"chunk_size": str(self.state.part), **header},
                    }
                else:
                    upload = {"href": f"{self.state.storage}/{oid}?signed=1", "header": {"x-kept": "yes"}}
                found["actions"] = {"upload": upload, "verify": {"href": f"{self.state.hub}/verify/{oid}"}}
            out.append(found)
        self._say(200, {"transfer": "basic", "objects": out})

    def _complete(self, oid: str, told: dict[str, Any]) -> None:
        there = self.state.parts.get(oid, {})
        right = all(
            p["etag"] == f'"{hashlib.md5(there[p["partNumber"]]).hexdigest()}"' for p in told["parts"]
        )
        content = b"".join(there[n] for n in sorted(there))
        if not right or hashlib.sha256(content).hexdigest() != oid:
            return self._say(400, {"error": "parts do not fit"})
        self.state.blobs[oid] = content
        self._say(200, {})
        return None

    def _commit(self, account: str, name: str, lines: list[dict[str, Any]]) -> None:
        repo = self.state.repos.get(name)
        if repo is None:
            return self._say(404, {"error": "Repository not found"})
        if account in self.state.read_only:
            return self._say(403, {"error": "Forbidden: you must use a write token"})
        parent = lines[0]["value"].get("parentCommit")
        if parent and parent != repo["sha"]:
            return self._say(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = {}
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif value["oid"] not in self.state.blobs:
                return self._say(
                    400, {"error": f"LFS pointer pointed to a file that does not exist: {value['path']}"}
                )
            else:
                files[value["path"]] = self.state.blobs[value["oid"]]
        repo["files"] |= files
        repo["commits"].append(lines[0]["value"]["summary"])
        repo["sha"] = _sha(name, len(repo["commits"]))
        self._say(
            200,
            {
                "commitUrl": f"{self.state.hub}/{name}/commit/{repo['sha']}",
                "commitOid": repo["sha"],
                "success": True,
            },
        )
        return None


@contextmanager
def serving() -> Iterator[State]:
    """A hub and its storage, each on a port of its own."""
    state, servers = State(), []
    for base in (_Hub, _Storage):
        handler = type(base.__name__, (base,), {"state": state})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.handle_error = lambda *_: None  # type: ignore[method-assign]  # who stops in the middle breaks the line
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        servers.append(server)
    state.hub, state.storage = (f"http://127.0.0.1:{s.server_address[1]}" for s in servers)
    try:
        yield state
    finally:
        if state.hold is not None:
            state.hold.set()
        for server in servers:
            server.shutdown()
            server.server_close()
