"""The hub's protocol for writing into a model repository: make it, ask how each file goes up, send large files (git LFS batch
API with single and multi-part uploads), commit.

The token goes to the hub's own origin only; the storage that large files are sent to gets what the hub signed for it. Every address
is checked as those of downloads are. A server that is busy is asked again, with the waiting time that it names.
"""

from __future__ import annotations

import base64
import json
import math
import os
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx

from studio import files, remote
from studio.addresses import origin, refuse_unsafe
from studio.answers import NotOpen, Passing, network, short
from studio.errors import BusyError, InputError, NotFoundError, StudioError

TRIES = 5
PIECE = 256 * 1024
"""Bytes between two looks at whether to stop."""
_BUSY = frozenset({408, 425, 429, 500, 502, 503, 504})
_NOT_BEGUN = frozenset({429, 503})
"""Answers after which it is sure that nothing was done."""
_LONGEST_WAIT_S = 300.0
_LFS = {"accept": "application/vnd.git-lfs+json", "content-type": "application/vnd.git-lfs+json"}


class Waiter(Protocol):
    """What is asked of a job's worker: `sleep` is True when the job shall stop, `check` leaves then."""

    def check(self) -> None: ...
    def sleep(self, seconds: float) -> bool: ...


@dataclass(frozen=True)
class Upload:
    """A file on its way. path: in the repository."""

    path: str
    file: Path
    size: int
    sha256: str


class Conflict(BusyError):
    """The repository is not as expected: it exists already, or was written by somebody else meanwhile."""


class Hub:
    """One hub, spoken to as one account. `said(done, bytes)` is told of every piece that was sent."""

    def __init__(
        self, base: str, token: str, allow: Collection[str], waiter: Waiter, said: Callable[[int], None]
    ) -> None:
        refuse_unsafe(base, allow)
        self.base, self.waiter, self.said = base.rstrip("/"), waiter, said
        self._token, self._home, self._allow = token, origin(base), allow
        self._http = remote.client(allow, timeout_s=60.0)

    def close(self) -> None:
        self._http.close()

    def whoami(self) -> str:
        """The account's name. Raises NotOpen when the token is not known."""
        return str(self._json("GET", f"{self.base}/api/whoami-v2").get("name", ""))

    def info(self, repo: str) -> dict[str, Any] | None:
        """What the hub says of a repository; None when there is none, or none that this account may see."""
        try:
            return self._json("GET", f"{self.base}/api/models/{repo}")
        except NotFoundError:
            return None

    def create(self, repo: str, private: bool) -> None:
        """Make a repository. Raises Conflict when it exists, NotOpen when the token may not."""
        owner, _, name = repo.partition("/")
        wanted = {
            "name": name,
            "organization": owner,
            "type": "model",
            "visibility": "private" if private else "public",
        }
        self._json("POST", f"{self.base}/api/repos/create", content=json.dumps(wanted).encode())

    def modes(self, repo: str, uploads: list[Upload]) -> dict[str, str]:
        """path -> "lfs" or "regular", as the hub wants each file."""
        told = []
        for up in uploads:
            with up.file.open("rb") as f:
                sample = base64.b64encode(f.read(512)).decode()
            told.append({"path": up.path, "sample": sample, "size": up.size})
        found = self._json(
            "POST",
            f"{self.base}/api/models/{repo}/preupload/main",
            content=json.dumps({"files": told}).encode(),
        )
        return {str(f["path"]): str(f["uploadMode"]) for f in found["files"]}

    def send_large(self, repo: str, uploads: list[Upload]) -> None:
        """Send large files to the hub's storage; those that it has already are left out."""
        wanted = {
            "operation": "upload", "transfers": ["basic", "multipart"], "hash_algo": "sha256", "ref": {"name": "main"},
            "objects": [{"oid": u.sha256, "size": u.size} for u in uploads],
        }  # fmt: skip
        told = self._json(
            "POST",
            f"{self.base}/{repo}.git/info/lfs/objects/batch",
            content=json.dumps(wanted).encode(),
            headers=_LFS,
        )
        by_oid = {u.sha256: u for u in uploads}
        for thing in told["objects"]:
            up = by_oid[str(thing["oid"])]
            if "error" in thing:
                raise _refused(
                    int(thing["error"].get("code", 0)), str(thing["error"].get("message", "")), up.path
                )
            actions = thing.get("actions")
            if not actions:
                self.said(up.size)  # it is there already
                continue
            header = {str(k): str(v) for k, v in (actions["upload"].get("header") or {}).items()}
            if "chunk_size" in header:
                self._parts(up, str(actions["upload"]["href"]), header)
            else:
                self._put(str(actions["upload"]["href"]), up, 0, up.size, header)
            if "verify" in actions:
                about = json.dumps({"oid": up.sha256, "size": up.size}).encode()
                self._send("POST", str(actions["verify"]["href"]), content=about, headers=_LFS)

    def commit(
        self, repo: str, summary: str, small: list[Upload], large: list[Upload], parent: str
    ) -> dict[str, Any]:
        """Write all files with one commit; its address and id. parent: the commit that it follows; another one meanwhile is a
        Conflict, so that nothing is written over unseen."""
        header: dict[str, Any] = {"summary": summary, "description": ""}
        if parent:
            header["parentCommit"] = parent
        lines: list[dict[str, Any]] = [{"key": "header", "value": header}]
        for up in small:
            inline = base64.b64encode(up.file.read_bytes()).decode()
            lines.append({"key": "file", "value": {"content": inline, "path": up.path, "encoding": "base64"}})
        for up in large:
            lines.append(
                {
                    "key": "lfsFile",
                    "value": {"path": up.path, "algo": "sha256", "oid": up.sha256, "size": up.size},
                }
            )
        content = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
        return self._json(
            "POST", f"{self.base}/api/models/{repo}/commit/main", content=content, headers={"content-type": "application/x-ndjson"},
            once=True,
        )  # fmt: skip

    def _parts(self, up: Upload, complete: str, header: dict[str, str]) -> None:
        size = int(header["chunk_size"])
        places = [header[k] for k in sorted((k for k in header if k.isdigit()), key=int)]
        if size < 1 or len(places) != math.ceil(up.size / size):
            raise InputError("The hub's answer is not understood.", f"It wants {up.path} in {len(places)} parts of {size:,} bytes.", "Try again later.")  # fmt: skip
        marks = []
        for n, place in enumerate(places):
            answer = self._put(place, up, n * size, min(size, up.size - n * size), {})
            marks.append({"partNumber": n + 1, "etag": answer.headers.get("etag", "")})
        done = json.dumps({"oid": up.sha256, "parts": marks}).encode()
        self._send("POST", complete, content=done, headers=_LFS)

    def _put(self, url: str, up: Upload, start: int, length: int, header: dict[str, str]) -> httpx.Response:
        told = {k: v for k, v in header.items() if not k.isdigit() and k != "chunk_size"}
        return self._send(
            "PUT",
            url,
            headers={**told, "content-length": str(length)},
            stream=lambda: self._pieces(up, start, length),
        )

    def _pieces(self, up: Upload, start: int, length: int) -> Iterator[bytes]:
        with up.file.open("rb") as f:
            f.seek(start)
            left = length
            while left > 0:
                self.waiter.check()
                piece = f.read(min(PIECE, left))
                if not piece:
                    raise InputError(f"{up.path} became shorter while it was sent.", "Something wrote into the job's folder.", "Publish again.")  # fmt: skip
                left -= len(piece)
                yield piece
                self.said(len(piece))

    def _json(self, method: str, url: str, *, content: bytes = b"", headers: dict[str, str] | None = None, once: bool = False) -> dict[str, Any]:  # fmt: skip
        answer = self._send(method, url, content=content, headers=headers, once=once)
        try:
            found = answer.json()
        except ValueError as e:
            raise InputError("The hub's answer is not understood.", "It is not JSON.", "Check HF_ENDPOINT, or try again later.") from e  # fmt: skip
        return found if isinstance(found, dict) else {}

    def _send(
        self, method: str, url: str, *, content: bytes = b"", headers: dict[str, str] | None = None,
        stream: Callable[[], Iterator[bytes]] | None = None, once: bool = False,
    ) -> httpx.Response:  # fmt: skip
        """One request, asked again while the server is busy. once: only where it is sure that nothing was done."""
        refuse_unsafe(url, self._allow)
        told = {"content-type": "application/json"} if content else {}
        told |= headers or {}
        if origin(url) == self._home:
            told["authorization"] = f"Bearer {self._token}"
        for attempt in range(TRIES):
            self.waiter.check()
            pause = min(_LONGEST_WAIT_S, 2.0**attempt)
            try:
                with network(url):
                    answer = self._http.request(
                        method, url, headers=told, content=stream() if stream else content or None
                    )
                if answer.status_code not in (_NOT_BEGUN if once else _BUSY):
                    break
                pause = min(_LONGEST_WAIT_S, _named_wait(answer) or pause)
                problem: StudioError = _refused(answer.status_code, _message(answer), short(url))
            except Passing as e:
                if once:
                    raise
                problem = e
            if attempt == TRIES - 1:
                raise problem
            self.waiter.sleep(pause)
        if answer.is_success:
            return answer
        raise _refused(answer.status_code, _message(answer), short(url))


def uploads_of(staged: list[tuple[str, Path]]) -> list[Upload]:
    """Sizes and hashes of what was staged."""
    return [Upload(path, file, os.path.getsize(file), files.sha256_file(file)) for path, file in staged]


def _named_wait(answer: httpx.Response) -> float | None:
    told = str(answer.headers.get("retry-after", ""))
    return float(told) if told.isdigit() else None


def _message(answer: httpx.Response) -> str:
    """What the hub says is wrong, short."""
    told = str(answer.headers.get("x-error-message", ""))
    if not told:
        try:
            found = answer.json()
            told = str(found.get("error") or found.get("message") or "") if isinstance(found, dict) else ""
        except ValueError:
            told = ""
    return " ".join(told.split())[:300]


def _refused(status: int, message: str, where: str) -> StudioError:
    said = f"The hub answered {status}" + (f": {message.rstrip('.')}." if message else ".")
    if status == 401:
        return NotOpen("The hub does not know this token.", said, "Make a new one with the right to write, and set it as HF_TOKEN.", 401)  # fmt: skip
    if status == 403:
        return NotOpen("The token may not write there.", said,
                       "Use a token with the right to write, and an account or organisation that you belong to.", 403)  # fmt: skip
    if status in (404, 410):
        return NotFoundError("The hub has no such place.", said, "Check the spelling of account and name.")
    if status in (409, 412):
        return Conflict(
            "The repository is not as expected.", said, "Look at it on the hub, then publish again."
        )
    if status == 413:
        return InputError(f"{where} is too large for the hub.", said, "Make the LoRA smaller first (resize, or fp16), or send fewer pictures.")  # fmt: skip
    if status == 429:
        return BusyError("The hub asks to wait.", said, "Try again in an hour; nothing was published.")
    if status in _BUSY:
        return Passing("The hub cannot answer just now.", said)
    if status in (301, 302, 307, 308):
        return NotFoundError("The repository was moved.", said, "Use its new name.")
    return InputError("The hub does not take it.", said, "Look at what it says, and change that.")
