"""What servers answer, and how the network fails, as the studio's errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from studio.errors import EnvironmentalError, InputError, NotFoundError

if TYPE_CHECKING:
    import httpx

_RETRY_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})


class Passing(EnvironmentalError):
    """A failure of the network or the server that may pass by itself; the same request may be tried again."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(what, why, "Check the network, then try again; nothing is lost.")


class NotOpen(InputError):
    """The server wants to know who asks, or does not let that one in. status: 401 or 403."""

    def __init__(self, what: str, why: str, fix: str, status: int) -> None:
        super().__init__(what, why, fix)
        self.status = status


@contextmanager
def network(url: str) -> Iterator[None]:
    """Turn httpx's errors into the studio's; those that may pass by themselves are marked for another try."""
    import httpx

    try:
        yield
    except httpx.TimeoutException as e:
        raise Passing(f"{host_of(url)} did not answer in time.", "The network or the server is slow.") from e
    except httpx.TransportError as e:
        raise Passing(
            f"The connection to {host_of(url)} failed.", f"{str(e).rstrip('.') or type(e).__name__}."
        ) from e


def accepted(answer: httpx.Response, url: str) -> None:
    """Return for 200 and 206; otherwise say what the status means."""
    status = answer.status_code
    if status in (200, 206):
        return
    if status in (404, 410):
        raise NotFoundError(
            f"{short(url)} is not there.",
            f"The server answered {status}.",
            "Check the address; links that were made for one use may have expired.",
        )
    if status in (401, 403):
        raise NotOpen(
            f"{short(url)} is not open to the public.",
            f"The server answered {status}.",
            "Use a link that works without signing in; links with a signature may have expired.",
            status,
        )
    if status in _RETRY_STATUS:
        raise Passing(f"{host_of(url)} cannot answer just now.", f"The server answered {status}.")
    raise InputError(
        f"{short(url)} cannot be fetched.", f"The server answered {status}.", "Check the address."
    )


def host_of(url: str) -> str:
    import httpx

    return httpx.URL(url).host


def short(url: str) -> str:
    """A URL for messages: without its query, where signatures stand."""
    return url.partition("?")[0]


def content_type(answer: httpx.Response) -> str:
    return str(answer.headers.get("content-type", "")).partition(";")[0].strip().lower()


def number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def whole_size(answer: httpx.Response) -> int | None:
    """Bytes of the whole file, from Content-Range (also of a 416) or Content-Length."""
    if "content-range" in answer.headers:
        return number(answer.headers["content-range"].rpartition("/")[2])
    return number(answer.headers.get("content-length")) if answer.status_code == 200 else None


def range_start(answer: httpx.Response) -> int | None:
    words = str(answer.headers.get("content-range", ""))
    return number(words.removeprefix("bytes ").partition("-")[0]) if words.startswith("bytes ") else None
