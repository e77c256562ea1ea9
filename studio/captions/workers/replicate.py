"""A vision-language model on Replicate, through its HTTP interface (replicate.com/docs/reference/http).

A question that was sent may be running and paid even if its answer was lost, so it is never sent a second time without
Replicate having said that it was not taken (429 or 503). The token goes to the interface's own host only.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any
from urllib.parse import urlparse

import httpx

from studio import remote, secrets
from studio.captions import describe
from studio.captions.auto import ReplicateSettings
from studio.captions.describe import Format, WordSettings
from studio.captions.proposals import Answer, Ask, Trouble
from studio.captions.workers.asking import (
    LONGEST_WAIT_S,
    TRIES,
    Refused,
    Stopping,
    Waits,
    in_threads,
    understood,
    unreadable,
)
from studio.captions.workers.picture import jpeg, opened

API = "https://api.replicate.com/v1"
MOST_PICTURE_BYTES = 190_000
"""Pictures are sent inside of the question, for which Replicate names 256 KB as the limit; base64 adds a third."""
MOST_WAIT_S = 600.0
_RUNNING = frozenset({"starting", "processing", "queued"})


class ReplicateEngine:
    """Describes pictures by predictions. api / allow: another address of the interface, for tests."""

    device = "Replicate"

    def __init__(
        self, settings: ReplicateSettings, question: str, format: Format, words: WordSettings,
        pause: Callable[[float], bool], *, api: str = API, allow: Collection[str] = (),
    ) -> None:  # fmt: skip
        self._own, self._question, self._format, self._words = settings, question, format, words
        self._token = os.environ.get(secrets.REPLICATE, "").strip()
        self._waits, self._pause = Waits(pause), pause
        self._api, self._allow = api, allow
        self._http: httpx.Client | None = None

    def __enter__(self) -> ReplicateEngine:
        self._http = remote.client(self._allow, timeout_s=90.0)
        return self

    def __exit__(self, *_: object) -> None:
        if self._http is not None:
            self._http.close()

    def caption(self, pictures: Iterable[Ask], should_stop: Callable[[], bool]) -> Iterator[Answer]:
        """A description of each picture."""
        yield from in_threads(self._one, pictures, 2, should_stop)

    def _one(self, ask: Ask) -> Answer:
        image = opened(ask, self._own.side)
        if isinstance(image, Trouble):
            return image
        data = base64.b64encode(jpeg(image, self._own.side, MOST_PICTURE_BYTES)).decode()
        inputs = {
            self._own.picture: f"data:image/jpeg;base64,{data}",
            self._own.question: f"{describe.SYSTEM}\n\n{self._question}",
        }
        said = self._predict(ask, inputs)
        if isinstance(said, Trouble):
            return said
        try:
            return understood(ask, said, self._format, self._words)
        except describe.Unreadable as e:
            return unreadable(ask, str(e), said)

    def _predict(self, ask: Ask, inputs: dict[str, str]) -> str | Trouble:
        name, _, version = self._own.model.strip().partition(":")
        path = "/predictions" if version else f"/models/{name}/predictions"
        body: dict[str, Any] = {"input": inputs, **({"version": version} if version else {})}
        raw = self._post(path, body)
        waited, step = 0.0, 1.0
        while raw.get("status") in _RUNNING:
            if waited > MOST_WAIT_S:
                self._cancel(raw)
                return self._failed(ask, f"It took longer than {MOST_WAIT_S / 60:.0f} minutes.")
            if self._pause(step):
                self._cancel(raw)
                raise Stopping
            waited, step = waited + step, min(5.0, step * 1.5)
            raw = self._get(raw)
        if raw.get("status") != "succeeded":
            return self._failed(ask, str(raw.get("error") or f"It ended as '{raw.get('status')}'.")[:300])
        output = raw.get("output")
        if isinstance(output, list):
            return "".join(str(p) for p in output)
        if isinstance(output, dict):
            return str(output.get("text") or output.get("output") or output)
        return str(output or "")

    def _failed(self, ask: Ask, why: str) -> Trouble:
        return Trouble(
            ask.name, f"{self._own.model} gave no caption for {ask.name}.", why,
            "Try again, or choose another model; its page on replicate.com names its inputs.",
        )  # fmt: skip

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}", "prefer": "wait=30"}

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        assert self._http is not None
        for tried in range(1, TRIES + 1):
            self._waits.turn()
            try:
                answer = self._http.post(self._api + path, json=body, headers=self._headers())
            except (httpx.ConnectError, httpx.ConnectTimeout) as e:  # it was never taken
                problem = str(e) or type(e).__name__
                self._waits.back_off(tried)
                continue
            except httpx.TransportError as e:
                raise Refused(
                    "The connection to Replicate broke off after a question was sent.",
                    f"{str(e) or type(e).__name__}. It may be running there and cost a little, so it is not sent again by itself.",
                    "Start again; it goes on where it was.",
                ) from e
            except RuntimeError:
                raise Stopping from None
            if answer.status_code in (429, 503):
                wait = _seconds(answer)
                if wait > LONGEST_WAIT_S:
                    raise Refused(
                        f"Replicate asks to wait {wait / 60:.0f} minutes.",
                        _detail(answer),
                        "Start again later; it goes on where it was.",
                    )
                self._waits.hold(wait or 2.0**tried)
                problem = _detail(answer)
                continue
            return self._accepted(answer)
        raise Refused("Replicate does not answer.", f"Tried {TRIES} times. {problem}", "Start again later.")

    def _get(self, raw: dict[str, Any]) -> dict[str, Any]:
        assert self._http is not None
        url = self._own_url(str((raw.get("urls") or {}).get("get", "")), str(raw.get("id", "")))
        for tried in range(1, TRIES + 1):
            try:
                answer = self._http.get(url, headers=self._headers())
            except httpx.TransportError:
                self._waits.back_off(tried)
                continue
            except RuntimeError:
                raise Stopping from None
            if answer.status_code in (429, 500, 502, 503, 504):
                self._waits.back_off(tried)
                continue
            return self._accepted(answer)
        raise Refused(
            "Replicate does not answer.", f"Asked {TRIES} times about {raw.get('id')}.", "Start again later."
        )

    def _own_url(self, told: str, prediction: str) -> str:
        """Where to ask about a prediction: never another host than the interface's, whatever the answer says."""
        mine = urlparse(self._api)
        theirs = urlparse(told)
        if told and (theirs.scheme, theirs.netloc) == (mine.scheme, mine.netloc):
            return told
        return f"{self._api}/predictions/{prediction}"

    def _cancel(self, raw: dict[str, Any]) -> None:
        assert self._http is not None
        try:
            self._http.post(f"{self._api}/predictions/{raw.get('id', '')}/cancel", headers=self._headers())
        except (httpx.HTTPError, RuntimeError):
            return

    def _accepted(self, answer: httpx.Response) -> dict[str, Any]:
        if answer.status_code in (200, 201, 202):
            try:
                raw = answer.json()
            except ValueError:
                raw = None
            if isinstance(raw, dict):
                return raw
            raise Refused("Replicate's answer cannot be read.", "It is not JSON.", "Try again later.")
        detail = _detail(answer).replace(self._token, "***") if self._token else _detail(answer)
        if answer.status_code in (401, 403):
            raise Refused(
                "Replicate refuses the token.", detail, f"Set {secrets.REPLICATE} to a token of yours."
            )
        if answer.status_code == 402:
            raise Refused(
                "The account at Replicate has no credit.",
                detail,
                "Add credit on replicate.com/account/billing.",
            )
        if answer.status_code == 404:
            raise Refused(
                f"Replicate has no model '{self._own.model}'.", detail,
                "Copy the name from the model's page; for a community model add its version: owner/name:version.",
            )  # fmt: skip
        raise Refused(
            f"{self._own.model} does not take this question.", detail,
            "See on the model's page how its inputs for the picture and the text are called, and set them so.",
        )  # fmt: skip


def _detail(answer: httpx.Response) -> str:
    try:
        raw = answer.json()
    except ValueError:
        raw = {}
    told = raw.get("detail") or raw.get("title") if isinstance(raw, dict) else ""
    return str(told or f"It answered {answer.status_code}.")[:300]


def _seconds(answer: httpx.Response) -> float:
    try:
        return max(0.0, float(answer.headers.get("retry-after", "0")))
    except ValueError:
        return 0.0
