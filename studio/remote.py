"""Fetching what a user names by URL, without being led into private places.

Only https, no user name in the URL, only public addresses - asked again at every redirect. The address that was
checked is the one that is connected to, so that a name cannot answer differently the second time; the certificate is
still checked against the name. What arrives is counted against a limit while it streams, resumed when the connection
drops, and only takes its final name when it is whole.

Tests and explicitly configured services are let through by naming their origin in `allow`
("http://127.0.0.1:8123"); nothing is allowed by default.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.addresses import guarded_transport, origin, public_addresses, refuse_unsafe
from studio.answers import (
    Passing,
    accepted,
    content_type,
    host_of,
    network,
    number,
    range_start,
    short,
    whole_size,
)
from studio.errors import EnvironmentalError, InputError, StudioError

if TYPE_CHECKING:
    import httpx

MAX_REDIRECTS = 5
CONNECT_S = 10.0
READ_S = 30.0
RETRIES = 5
"""Tries in a row that bring nothing new before a download gives up."""
ZIP_MAGIC = (b"PK\x03\x04", b"PK\x05\x06")
_PART = ".part"
_NOTE = ".part.json"


class Stopped(StudioError):
    """A download was asked to stop. What has arrived stays beside the target and is gone on from next time."""


@dataclass(frozen=True)
class Probe:
    """What a server says of a file. url: after redirects; size: bytes, None when not told; resumable: takes ranges;
    head: its first bytes when it had to be read (at most 1 KB); etag: the server's mark of this content."""

    url: str
    size: int | None
    content_type: str
    etag: str
    resumable: bool
    head: bytes

    @property
    def is_zip(self) -> bool:
        """Whether the first bytes are those of a ZIP archive."""
        return self.head.startswith(ZIP_MAGIC)


@dataclass(frozen=True)
class Downloaded:
    """A file that arrived whole."""

    path: Path
    size: int
    sha256: str


def check_url(url: str, *, allow: Collection[str] = ()) -> None:
    """Return when `url` may be fetched: https, no user name, and every address of its host is public.

    Redirects are checked the same way when they are followed. Raises InputError.
    """
    host, port = refuse_unsafe(url, allow)
    if origin(url) not in allow:
        public_addresses(host, port)


def client(allow: Collection[str] = (), *, timeout_s: float = READ_S) -> httpx.Client:
    """An httpx client that only reaches public addresses (and `allow`), follows no redirect and keeps no secret.

    For requests with an Authorization header use it with one host only.
    """
    import httpx

    return httpx.Client(
        transport=guarded_transport(allow),
        timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
        follow_redirects=False,
        headers={"user-agent": "lora-studio", "accept-encoding": "identity"},
        trust_env=False,
    )


@contextmanager
def opened(
    http: httpx.Client,
    url: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    allow: Collection[str] = (),
) -> Iterator[httpx.Response]:
    """A streaming answer, redirects followed and checked one by one. `headers` stay with the first host's origin:
    a redirect to another one goes without Authorization and Cookie. Raises InputError for an unsafe redirect."""
    here, told = url, dict(headers or {})
    for _ in range(MAX_REDIRECTS + 1):
        refuse_unsafe(here, allow)
        with http.stream(method, here, headers=told) as answer:
            if answer.status_code not in (301, 302, 303, 307, 308) or "location" not in answer.headers:
                yield answer
                return
            following = str(answer.url.join(answer.headers["location"]))
        if origin(following) != origin(here):
            told = {k: v for k, v in told.items() if k.lower() not in ("authorization", "cookie")}
        here = following
    raise InputError(
        f"{short(url)} leads on and on.",
        f"The server redirected more than {MAX_REDIRECTS} times.",
        "Use the address that the file has at the end.",
    )


def probe(
    url: str,
    *,
    headers: Mapping[str, str] | None = None,
    allow: Collection[str] = (),
    timeout_s: float = CONNECT_S,
    http: httpx.Client | None = None,
) -> Probe:
    """Ask about a file without fetching it: HEAD first; then its first kilobyte, for the kind of file and for servers
    (such as presigned links) that refuse HEAD. Raises InputError, NotFoundError or EnvironmentalError."""
    check_url(url, allow=allow)
    own = client(allow, timeout_s=timeout_s) if http is None else None
    using = http or own
    assert using is not None
    try:
        with network(url):
            size, kind, etag, ranges = None, "", "", False
            with opened(using, url, method="HEAD", headers=headers, allow=allow) as answer:
                if answer.status_code == 200:
                    size, kind = number(answer.headers.get("content-length")), content_type(answer)
                    etag = answer.headers.get("etag", "")
            wanted = {**(headers or {}), "range": "bytes=0-1023"}
            with opened(using, url, headers=wanted, allow=allow) as answer:
                accepted(answer, url)
                head, until = b"", time.monotonic() + timeout_s
                for piece in answer.iter_raw(1024):
                    head += piece
                    if len(head) >= 1024 or time.monotonic() > until:
                        break
                ranges = answer.status_code == 206
                size = whole_size(answer) if size is None or ranges else size
                return Probe(
                    url=str(answer.url),
                    size=size,
                    content_type=content_type(answer) or kind,
                    etag=answer.headers.get("etag", "") or etag,
                    resumable=ranges,
                    head=head[:1024],
                )
    finally:
        if own is not None:
            own.close()


def read_range(
    url: str,
    start: int,
    length: int,
    *,
    http: httpx.Client,
    headers: Mapping[str, str] | None = None,
    allow: Collection[str] = (),
) -> bytes:
    """Bytes `start` to `start + length` of a remote file. Raises InputError when the server does not do ranges."""
    wanted = {**(headers or {}), "range": f"bytes={start}-{start + length - 1}"}
    with network(url), opened(http, url, headers=wanted, allow=allow) as answer:
        accepted(answer, url)
        if answer.status_code != 206:
            raise InputError(f"{short(url)} cannot be read in parts.", "The server sends it only whole.")
        found = b""
        for piece in answer.iter_raw():
            found += piece
            if len(found) > length:
                break
        return found[:length]


def download(
    url: str,
    target: Path,
    *,
    max_bytes: int,
    resume: bool = True,
    sha256: str | None = None,
    headers: Mapping[str, str] | None = None,
    progress: Callable[[int, int | None], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
    allow: Collection[str] = (),
    wait: Callable[[float], object] = time.sleep,
) -> Downloaded:
    """Fetch `url` into `target`, which appears only when it is whole; an existing target is replaced.

    max_bytes:   refuse more than this, by the server's word and again while counting.
    resume:      go on from `<target>.part` of an earlier try when the server still has the same content.
    sha256:      hex digest the content must have.
    headers:     for the first host only when they authorize.
    progress:    called with (bytes so far, bytes in all or None).
    should_stop: asked between pieces; raises Stopped.
    wait:        how to wait between tries, seconds.

    Raises InputError (unsafe, too large, wrong content), NotFoundError, EnvironmentalError (network, disk), Stopped.
    """
    check_url(url, allow=allow)
    part, note = target.with_name(target.name + _PART), target.with_name(target.name + _NOTE)
    if not resume:
        part.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    job = _Download(url, part, note, max_bytes, dict(headers or {}), progress, should_stop, allow)
    with client(allow) as http:
        tries, most = 0, job.have
        while True:
            try:
                job.fetch(http)
                break
            except Passing:
                # Counted from the most that ever arrived: a server that starts over each time must not go on forever.
                tries = 1 if job.have > most else tries + 1
                most = max(most, job.have)
                if tries >= RETRIES:
                    raise
                wait(min(30.0, 2.0 ** (tries - 1)))
    return _keep(part, note, target, sha256, url)


def _keep(part: Path, note: Path, target: Path, sha256: str | None, url: str) -> Downloaded:
    """Check what arrived, flush it and give it its name."""
    found = files.sha256_file(part)
    if sha256 is not None and found != sha256.lower():
        part.unlink(missing_ok=True)
        note.unlink(missing_ok=True)
        raise InputError(
            f"{short(url)} is not the file that was expected.",
            f"Its SHA-256 is {found[:12]}..., it should be {sha256[:12].lower()}... It was changed or damaged.",
            "Try again; when it stays so, the file at the source is another one.",
        )
    with part.open("rb") as f:
        os.fsync(f.fileno())
    size = part.stat().st_size
    os.replace(part, target)
    note.unlink(missing_ok=True)
    return Downloaded(target, size, found)


class _Download:
    """The tries of one download. `<target>.part` holds what arrived; `.part.json` what the server said of it."""

    def __init__(
        self,
        url: str,
        part: Path,
        note: Path,
        max_bytes: int,
        headers: dict[str, str],
        progress: Callable[[int, int | None], None] | None,
        should_stop: Callable[[], bool] | None,
        allow: Collection[str],
    ) -> None:
        self.url, self.part, self.note, self.max_bytes = url, part, note, max_bytes
        self.headers, self.allow = headers, allow
        self.progress = progress or (lambda _done, _whole: None)
        self.should_stop = should_stop or (lambda: False)
        self.mark = hashlib.sha256(url.partition("?")[0].encode()).hexdigest()[:16]

    @property
    def have(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def fetch(self, http: httpx.Client) -> None:
        """One try; returns when the part is whole."""
        known = self._known()
        start = self.have if known else 0
        wanted = dict(self.headers)
        if start:
            wanted["range"] = f"bytes={start}-"
            wanted["if-range"] = known["etag"]
        with network(self.url), opened(http, self.url, headers=wanted, allow=self.allow) as answer:
            if answer.status_code == 416 and start:
                if whole_size(answer) == start:
                    return
                self._forget()
                raise Passing(f"{short(self.url)} has changed at its source.", "It is fetched anew.")
            accepted(answer, self.url)
            if answer.status_code != 206 or range_start(answer) != start:
                start = 0
            whole = whole_size(answer)
            try:
                self._refuse_large(whole)
                self._remember(answer, whole)
                self._receive(answer, start, whole)
            except InputError:
                self._forget()
                raise

    def _receive(self, answer: httpx.Response, start: int, whole: int | None) -> None:
        done = start
        try:
            with self.part.open("r+b" if start else "wb") as out:
                out.seek(start)
                out.truncate()
                for (
                    piece
                ) in answer.iter_raw():  # as it comes: gathered into chunks, a broken one would be lost
                    if self.should_stop():
                        raise Stopped(
                            "The download was stopped.", "", "Start it again; it goes on where it was."
                        )
                    done += len(piece)
                    self._refuse_large(done)
                    out.write(piece)
                    self.progress(done, whole)
        except OSError as e:
            raise EnvironmentalError(
                f"{self.part.name.removesuffix(_PART)} could not be written.",
                f"The computer answered: {e.strerror or e}.",
                f"Free some room on the disk of {self.part.parent}, then try again; it goes on where it was.",
            ) from e
        if whole is not None and done < whole:
            raise Passing(
                f"The connection to {host_of(self.url)} broke off.",
                f"{done:,} of {whole:,} bytes have arrived.",
            )

    def _known(self) -> dict[str, Any]:
        """What is known of the part when it can be gone on from; {} otherwise. Without an ETag nothing says that the
        rest belongs to it."""
        if not self.have:
            return {}
        try:
            note = json.loads(self.note.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        fits = isinstance(note, dict) and note.get("mark") == self.mark and note.get("etag")
        return dict(note) if fits else {}

    def _remember(self, answer: httpx.Response, whole: int | None) -> None:
        etag = answer.headers.get("etag", "")
        # A weak mark does not promise the same bytes.
        etag = "" if etag.startswith("W/") else etag or answer.headers.get("last-modified", "")
        files.write_json(self.note, {"mark": self.mark, "etag": etag, "size": whole})

    def _forget(self) -> None:
        self.part.unlink(missing_ok=True)
        self.note.unlink(missing_ok=True)

    def _refuse_large(self, size: int | None) -> None:
        if size is not None and size > self.max_bytes:
            raise InputError(
                f"{short(self.url)} is too large.",
                f"It is more than {files.human_size(self.max_bytes)}, the most that is taken in here.",
                "Use a smaller file.",
            )
