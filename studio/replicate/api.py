"""Replicate's HTTP API, spoken carefully.

The token goes to the API's own host only, in a header, and nowhere else. What may be repeated is repeated with growing
pauses; the request that starts a training costs money and is sent exactly once: what becomes of it is in `submit`.

Not the official client: 1.0.7 does not import on Python 3.14, fails on statuses that it does not know, and parses the
answer of a paid request before its id can be kept. Tests drive both against the same stand-in.
"""

from __future__ import annotations

import ipaddress
import os
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from studio import __version__
from studio.addresses import origin
from studio.answers import Passing, network
from studio.errors import InputError, NotFoundError
from studio.files import human_size
from studio.replicate.answers import Busy, Malformed, no_token, refusal
from studio.replicate.trainers import catalogue
from studio.replicate.training import Training, is_id

if TYPE_CHECKING:
    import httpx

TRIES = 4
CONNECT_S = 10.0
READ_S = 30.0
UPLOAD_S = 300.0
MAX_PAGES = 50


def base_url() -> str:
    """Where the API is: REPLICATE_BASE_URL, as for the official client, else Replicate's own address.

    Raises InputError for plain http, except to this computer.
    """
    told = os.environ.get("REPLICATE_BASE_URL", "").strip().rstrip("/") or catalogue().api
    if told.startswith("https://") or is_loopback(told):
        return told
    raise InputError(
        "REPLICATE_BASE_URL does not begin with https://.",
        "The token would travel readable for everyone on the way.",
        "Use an https:// address, or unset it.",
    )


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this computer by an address written as numbers, or by the name localhost."""
    import httpx

    try:
        host = httpx.URL(url).host
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except (ValueError, httpx.InvalidURL):
        return False


def local_origins(url: str) -> tuple[str, ...]:
    """The origin of a dataset on this computer, when the API itself is set to be on this computer; else nothing."""
    return (origin(url),) if url and is_loopback(base_url()) and is_loopback(url) else ()


class Api:
    """One account's view of Replicate. Close it, or use it in `with`.

    token:  None raises TokenRefused at once, so that every caller says the same.
    tries:  how often what may be repeated is sent in all.
    wait:   how to pause, seconds.
    """

    def __init__(
        self,
        token: str | None,
        *,
        timeout_s: float = READ_S,
        tries: int = TRIES,
        wait: Callable[[float], object] = time.sleep,
    ) -> None:
        import httpx

        if not token:
            raise no_token()
        if not token.isascii() or not token.isprintable() or any(c.isspace() for c in token):
            raise InputError(
                "The Replicate token has signs that no token has.",
                "A space, a line break or a special sign came along when it was copied.",
                "Copy it again: r8_ and 37 letters and digits.",
            )
        self.url = base_url()
        self._heard: tuple[datetime, float] | None = None  # Replicate's clock, and ours that nobody can set
        self._wait, self._tries = wait, tries
        self._http = httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {token}", "user-agent": f"lora-studio/{__version__}"},
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_S, timeout_s)),
            follow_redirects=False,
        )
        self._token = token

    def __enter__(self) -> Api:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # --- questions

    def account(self) -> dict[str, Any]:
        """Who the token belongs to: `username`, `type`. The cheapest way to see that it is accepted."""
        return self._json("GET", "/v1/account", "The account was not found out")

    def model(self, name: str) -> dict[str, Any] | None:
        """A model "owner/name"; None when it does not exist or is not this account's to see."""
        try:
            return self._json("GET", f"/v1/models/{name}", f"{name} was not looked up")
        except NotFoundError:
            return None

    def hardware(self) -> list[dict[str, str]]:
        """What models run on, as Replicate lists it: `name` such as "Nvidia H100 GPU" and `sku`."""
        doing = "The hardware was not listed"
        listed = self._send("GET", "/v1/hardware", doing)
        try:
            found = listed.json()
        except (ValueError, UnicodeDecodeError):
            found = None
        if not isinstance(found, list):
            raise Malformed(f"{doing}.", "Replicate's answer is no list.", "Try again later.")
        return [
            {"name": str(h.get("name", "")), "sku": str(h["sku"])}
            for h in found
            if isinstance(h, dict) and h.get("sku")
        ]

    def version(self, model: str, version: str) -> dict[str, Any]:
        """A version of a model, with its `openapi_schema`. Raises NotFoundError."""
        return self._json(
            "GET", f"/v1/models/{model}/versions/{version}", f"{model}:{version[:12]} was not looked up"
        )

    def training(self, training_id: str) -> Training:
        """A training by id. Raises InputError for what is no id, NotFoundError."""
        _checked(training_id)
        found = self._json("GET", f"/v1/trainings/{training_id}", f"Training {training_id} was not looked up")
        return Training({**found, "id": found.get("id") or training_id})

    def trainings(self, limit: int = 100) -> Iterator[Training]:
        """Trainings of the account, the newest first, page by page; entries that cannot be read are passed over."""
        path, given, seen = "/v1/trainings", 0, set[str]()
        for _ in range(MAX_PAGES):
            page = self._json("GET", path, "The trainings were not listed")
            listed = page.get("results")
            if not isinstance(listed, list):
                raise Malformed(
                    "The list of trainings cannot be read.",
                    "Replicate's answer has no results.",
                    "Try again later.",
                )
            for raw in listed:
                if isinstance(raw, dict) and isinstance(raw.get("id"), str) and raw["id"] not in seen:
                    seen.add(raw["id"])
                    yield Training(raw)
                    given += 1
                    if given >= limit:
                        return
            following = page.get("next")
            if not isinstance(following, str) or not following:
                return
            path = self._own(following)

    # --- acts

    def create_model(self, name: str, *, hardware: str, description: str = "") -> None:
        """Make the model "owner/name", private. One that exists already is left as it is."""
        owner, _, short = name.partition("/")
        body = {
            "owner": owner,
            "name": short,
            "visibility": "private",
            "hardware": hardware,
            "description": description,
        }
        try:
            self._send("POST", "/v1/models", f"{name} was not made", json=body)
        except (Passing, InputError):
            # It may have been made all the same, by this request or by another: that is what was wanted.
            if self.model(name) is None:
                raise

    def upload(self, path: Path, *, name: str = "dataset.zip") -> str:
        """Send a file to Replicate's own storage; the URL that a training can read it from.

        Raises InputError above the limit of the files API.
        """
        size, limit = path.stat().st_size, catalogue().upload_limit_bytes
        if size > limit:
            raise InputError(
                f"The dataset is {human_size(size)}; Replicate takes at most {human_size(limit)} by upload.",
                "Larger files have to lie somewhere on the web.",
                "Export the dataset as a ZIP, put it where it can be reached by https, and give its address instead.",
            )
        doing = "The dataset was not uploaded"
        last: Passing | None = None
        for attempt in range(self._tries):
            try:
                # A second copy costs nothing and goes by itself, so this may be repeated.
                with path.open("rb") as f:
                    answer = self._once(
                        "POST",
                        "/v1/files",
                        doing,
                        files={"content": (name, f, "application/zip")},
                        timeout=UPLOAD_S,
                    )
                urls = _body(answer, doing).get("urls")
                url = urls.get("get") if isinstance(urls, dict) else None
                if not isinstance(url, str):
                    raise Malformed(
                        f"{doing}.", "Replicate's answer names no address of the file.", "Try again."
                    )
                return url
            except Passing as e:
                last = e
                self._pause(attempt, e)
        assert last is not None
        raise last

    def start(self, model: str, version: str, destination: str, values: dict[str, Any]) -> httpx.Response:
        """Start a training: sent once, never repeated. The answer as it came, of 200 or 201.

        Raises Passing when it is unknown whether it was started (see `unsent`), other errors when it was not.
        """
        return self._once(
            "POST",
            f"/v1/models/{model}/versions/{version}/trainings",
            "The training was not started",
            json={"destination": destination, "input": values},
        )

    def cancel(self, training_id: str) -> None:
        """End a training. One that has ended already stays as it is; asking twice does no harm."""
        _checked(training_id)
        self._send("POST", f"/v1/trainings/{training_id}/cancel", f"Training {training_id} was not cancelled")

    # --- how

    def now(self) -> datetime:
        """Replicate's clock."""
        if self._heard is None:
            return datetime.now(UTC)
        then, at = self._heard
        return then + timedelta(seconds=time.monotonic() - at)

    def allow(self, url: str) -> tuple[str, ...]:
        """Origins that a result may be fetched from beside public ones: those on this computer, and only when the API
        itself is set to be on this computer."""
        return (origin(url),) if is_loopback(self.url) and is_loopback(url) else ()

    def headers_for(self, url: str) -> dict[str, str]:
        """The token, for the API's own host and for no other."""
        return {"authorization": f"Bearer {self._token}"} if origin(url) == origin(self.url) else {}

    def _own(self, url: str) -> str:
        """A following page, only of the API itself."""
        import httpx

        full = str(httpx.URL(self.url).join(url))
        if origin(full) != origin(self.url):
            raise Malformed(
                "The list of trainings leads away from Replicate.",
                f"Its next page is at {origin(full)}.",
                "Try again later.",
            )
        return full

    def _json(self, method: str, path: str, doing: str) -> dict[str, Any]:
        return _body(self._send(method, path, doing), doing)

    def _send(self, method: str, path: str, doing: str, **more: Any) -> httpx.Response:
        for attempt in range(self._tries):
            try:
                return self._once(method, path, doing, **more)
            except Passing as e:
                if attempt + 1 == self._tries:
                    raise
                self._pause(attempt, e)
        raise AssertionError("tries is at least 1")

    def _pause(self, attempt: int, why: Passing) -> None:
        if attempt + 1 < self._tries:
            asked = why.after_s if isinstance(why, Busy) else 0.0
            self._wait(max(asked, float(2**attempt)))

    def _once(self, method: str, path: str, doing: str, **more: Any) -> httpx.Response:
        with network(self.url):
            answer = self._http.request(method, path, **more)
        with suppress(ValueError, TypeError, KeyError):
            self._heard = parsedate_to_datetime(answer.headers["date"]), time.monotonic()
        if 300 <= answer.status_code < 400:
            raise Malformed(
                f"{doing}: the answer leads elsewhere.",
                "Replicate's API does not redirect; something between here and there does.",
                "Check the network (a sign-in page of a hotel or company), then try again.",
            )
        if answer.status_code >= 400:
            raise refusal(answer, doing)
        return answer


def unsent(error: BaseException) -> bool:
    """Whether a request surely never reached the server: the connection was not made."""
    import httpx

    return isinstance(error.__cause__, (httpx.ConnectError, httpx.ConnectTimeout))


def _checked(training_id: str) -> None:
    if not is_id(training_id):
        raise InputError(
            f"'{training_id}' is not the id of a training.",
            "Ids are lower-case letters and digits, such as zz4ibbonubfz7carwiefibzgga.",
            "`sd35l-trainer list` shows yours.",
        )


def _body(answer: httpx.Response, doing: str) -> dict[str, Any]:
    try:
        found = answer.json()
    except (ValueError, UnicodeDecodeError):
        found = None
    if not isinstance(found, dict):
        raise Malformed(
            f"{doing}: the answer cannot be read.",
            "It is not what Replicate's API sends; something between here and there may have answered.",
            "Try again. If it stays so, look at replicatestatus.com.",
        )
    return found
