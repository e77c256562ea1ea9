"""A service that speaks OpenAI's chat interface with pictures: Ollama, vLLM, LM Studio, or a hosted model.

Documented at platform.openai.com/docs/api-reference/chat. Services differ in what they accept: a parameter that one
refuses is left out from then on. Keys go only to the address that the user gave, redirects are not followed.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Callable, Iterable, Iterator
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlparse

import httpx

from studio import remote, secrets
from studio.captions import describe, service
from studio.captions.auto import EndpointSettings, sends_key
from studio.captions.describe import Format, WordSettings
from studio.captions.proposals import Answer, Ask, Trouble
from studio.captions.workers.asking import (
    LONGEST_WAIT_S,
    MOST_ANSWER_BYTES,
    TRIES,
    Refused,
    Stopping,
    Waits,
    in_threads,
    understood,
    unreadable,
)
from studio.captions.workers.picture import jpeg, opened
from studio.errors import StudioError

_BUSY = frozenset({408, 409, 425, 500, 502, 503, 504, 529})
_ANSWER_TOKENS = 900
# What may be left out when a service refuses it, and what stands in its place.
_OPTIONAL: dict[str, dict[str, Any]] = {
    "response_format": {},
    "temperature": {},
    "max_tokens": {"max_completion_tokens": _ANSWER_TOKENS},
    "max_completion_tokens": {},
}


class EndpointEngine:
    """Describes pictures through such a service. pause: see asking.Waits."""

    device = "service"

    def __init__(
        self,
        settings: EndpointSettings,
        question: str,
        format: Format,
        words: WordSettings,
        pause: Callable[[float], bool],
    ) -> None:
        self._own, self._question, self._format, self._words = settings, question, format, words
        self._base, self._reach = service.checked(settings.address, own_network=settings.own_network)
        self._key = os.environ.get(secrets.OPENAI, "").strip() if sends_key(settings, self._base) else ""
        self._waits, self._pause = Waits(pause), pause
        self._extra: dict[str, Any] = {
            "temperature": 0.2, "max_tokens": _ANSWER_TOKENS, "response_format": {"type": "json_object"},
        }  # fmt: skip
        self._http: httpx.Client | None = None

    def __enter__(self) -> EndpointEngine:
        self._http = remote.client(self._reach, timeout_s=self._own.timeout_s)
        return self

    def __exit__(self, *_: object) -> None:
        if self._http is not None:
            self._http.close()

    @property
    def _where(self) -> str:
        return urlparse(self._base).netloc

    def caption(self, pictures: Iterable[Ask], should_stop: Callable[[], bool]) -> Iterator[Answer]:
        """A description of each picture, as they come."""
        yield from in_threads(self._one, pictures, self._own.at_once, should_stop)

    def models(self) -> list[str]:
        """The models that the service has, by name. Raises StudioError."""
        raw = self._send("GET", "/models", None, "the list of models")
        found = raw.get("data") if isinstance(raw, dict) else None
        if not isinstance(found, list):
            raise self._not_this_interface("It gave no list of models.")
        return sorted(str(m["id"]) for m in found if isinstance(m, dict) and m.get("id"))

    # ---------------------------------------------------------------- one picture

    def _one(self, ask: Ask) -> Answer:
        image = opened(ask, self._own.side)
        if isinstance(image, Trouble):
            return image
        url = "data:image/jpeg;base64," + base64.b64encode(jpeg(image, self._own.side)).decode()
        said, why = "", ""
        for _ in range(2):  # small models fall out of the form now and then; asking again mostly helps
            answer = self._ask(ask, url)
            if isinstance(answer, Trouble):
                return answer
            said = answer
            try:
                return understood(ask, said, self._format, self._words)
            except describe.Unreadable as e:
                why = str(e)
        return unreadable(ask, why, said)

    def _ask(self, ask: Ask, picture: str) -> str | Trouble:
        body = {
            "model": self._own.model.strip(),
            "messages": [
                {"role": "system", "content": describe.SYSTEM},
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": self._question},
                        {"type": "image_url", "image_url": {"url": picture}},
                    ],
                },
            ],
        }
        try:
            raw = self._send("POST", "/chat/completions", body, ask.name)
        except _OfThisPicture as e:
            return Trouble(ask.name, f"{self._where} gave no caption for {ask.name}.", e.why, e.fix)
        try:
            choice = raw["choices"][0]
            message = choice["message"]
            content = message.get("content")
        except (KeyError, IndexError, TypeError, AttributeError):
            raise self._not_this_interface("Its answer has no choices with a message.") from None
        if isinstance(content, list):
            content = "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
        refusal = message.get("refusal")
        if refusal or choice.get("finish_reason") == "content_filter":
            return Trouble(
                ask.name, f"The model refused {ask.name}.", str(refusal or "The service filters such pictures.")[:300],
                "Write this caption yourself, or use a model on your own computer.",
            )  # fmt: skip
        return str(content or "")

    # ---------------------------------------------------------------- the network

    def _send(self, method: str, path: str, body: dict[str, Any] | None, about: str) -> Any:
        """One request, tried again while that may help. Raises Refused, _OfThisPicture or Stopping."""
        assert self._http is not None
        problem = ""
        tried = 0
        while tried < TRIES:
            self._waits.turn()
            sent = dict(self._extra)
            try:
                with self._http.stream(
                    method,
                    self._base + path,
                    json=None if body is None else {**body, **sent},
                    headers=self._headers(),
                ) as answer:
                    data = _limited(answer)
            except httpx.TimeoutException:
                problem = f"It did not answer within {self._own.timeout_s:g} seconds."
            except httpx.TransportError as e:
                problem = self._hidden(str(e) or type(e).__name__)
                if isinstance(e, httpx.ConnectError) and tried >= 2:
                    break  # nobody is there; waiting minutes would not help
            except RuntimeError:
                raise Stopping from None  # the client was closed while this thread waited
            else:
                status, said = answer.status_code, _message(data)
                if status == 200:
                    return self._json(data)
                if status == 429:
                    self._slow_down(answer, said, tried)
                    problem = f"It says that it is asked too often. {self._hidden(said)}"
                elif status in _BUSY and not _about_picture(said):
                    problem = f"It answered {status}. {self._hidden(said)}"
                elif status == 400 and self._without(said, sent):
                    continue  # asked again without what it does not know; costs no try
                else:
                    self._refuse(status, said, about)
            tried += 1
            if tried < TRIES:
                self._waits.back_off(tried)
        raise Refused(
            f"{self._where} does not answer."
            if "answer" in problem or "onnect" in problem
            else f"{self._where} cannot be used now.",
            f"Tried {tried} times. {problem}".strip(),
            "Check that the service runs and that the address is right; then start again, it goes on where it was.",
        )

    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._key}"} if self._key else {}

    def _slow_down(self, answer: httpx.Response, said: str, tried: int) -> None:
        low = said.lower()
        if "insufficient_quota" in low or "exceeded your current quota" in low:
            raise Refused(
                f"The account at {self._where} has no credit left.", self._hidden(said),
                "Add credit there, or use a model on your own computer.",
            )  # fmt: skip
        wait = _retry_after(answer)
        if wait is not None and wait > LONGEST_WAIT_S:
            raise Refused(
                f"{self._where} asks to wait {wait / 60:.0f} minutes.", self._hidden(said) or "Its limit is used up.",
                "Start again later; it goes on where it was. Or ask fewer pictures at once.",
            )  # fmt: skip
        self._waits.hold(wait if wait is not None else 2.0**tried)

    def _without(self, said: str, sent: dict[str, Any]) -> bool:
        """Leave out what the service names as unknown; False when there is nothing like that."""
        for name, instead in _OPTIONAL.items():
            if name in sent and name in said:
                self._extra = {k: v for k, v in self._extra.items() if k != name} | instead
                return True
        return False

    def _refuse(self, status: int, said: str, about: str) -> None:
        told = self._hidden(said) or f"It answered {status}."
        if status in (401, 403):
            key = "The key was sent." if self._key else "No key was sent."
            raise Refused(
                f"{self._where} refuses the key." if self._key else f"{self._where} wants a key.", f"{key} {told}",
                f"Set {secrets.OPENAI} to a key of this service, in the environment or in .streamlit/secrets.toml.",
            )  # fmt: skip
        if (
            status == 404
            or "model_not_found" in said
            or ("model" in said.lower() and "not found" in said.lower())
        ):
            if "model" in said.lower():
                raise Refused(
                    f"{self._where} has no model called '{self._own.model}'.", told,
                    "Choose one of its models (`lora-studio autocaption models`); with Ollama: `ollama pull NAME`.",
                )  # fmt: skip
            raise self._not_this_interface(told)
        if 300 <= status < 400:
            raise Refused(
                f"{self._where} sends elsewhere.", "Redirects are not followed, so that pictures and keys stay where you sent them.",
                "Use the address at which the service itself answers.",
            )  # fmt: skip
        if status in (405, 501):
            raise self._not_this_interface(told)
        if _no_eyes(said):
            raise Refused(
                f"'{self._own.model}' cannot look at pictures.",
                told,
                "Choose a vision model, such as qwen2.5vl or gemma3.",
            )
        fix = "Make the pictures smaller in the settings, or write this caption yourself."
        raise _OfThisPicture("", told, fix)

    def _not_this_interface(self, why: str) -> Refused:
        return Refused(
            f"{self._where} does not speak OpenAI's interface at this address.", why,
            "The address mostly ends in /v1: http://localhost:11434/v1 for Ollama, http://localhost:1234/v1 for LM Studio.",
        )  # fmt: skip

    def _json(self, data: bytes) -> Any:
        try:
            return httpx.Response(200, content=data).json()
        except ValueError:
            raise self._not_this_interface("Its answer is not JSON.") from None

    def _hidden(self, text: str) -> str:
        """What a service said, without the key, short."""
        return (text.replace(self._key, "***") if self._key else text).strip()[:300]


class _OfThisPicture(StudioError):
    """Only this picture failed."""


def _limited(answer: httpx.Response) -> bytes:
    data = b""
    for piece in answer.iter_bytes():
        data += piece
        if len(data) > MOST_ANSWER_BYTES:
            raise httpx.RemoteProtocolError("the answer is far too long")
    return data


def _message(data: bytes) -> str:
    """What an error says: each service puts it elsewhere."""
    try:
        raw = httpx.Response(200, content=data).json()
    except ValueError:
        return "" if data.lstrip().startswith(b"<") else data[:300].decode("utf-8", "replace")
    if not isinstance(raw, dict):
        return str(raw)[:300]
    error = raw.get("error", raw.get("detail", raw.get("message", "")))
    if isinstance(error, dict):
        parts = [str(error[k]) for k in ("message", "code", "param") if error.get(k)]
        return " · ".join(parts)
    return error if isinstance(error, str) else str(error)


def _about_picture(said: str) -> bool:
    return _no_eyes(said) or any(w in said.lower() for w in ("context", "image", "token"))


def _no_eyes(said: str) -> bool:
    low = said.lower()
    return any(
        w in low
        for w in (
            "does not support image", "not a multimodal model", "missing data required for image", "no vision",
            "image input is not supported", "does not support vision", "image_url is only supported",
        )
    )  # fmt: skip


def _retry_after(answer: httpx.Response) -> float | None:
    """Seconds to wait as the service says; None when it does not."""
    told = answer.headers.get("retry-after", "").strip()
    if not told:
        return None
    try:
        return max(0.0, float(told))
    except ValueError:
        pass
    try:
        import datetime

        at = parsedate_to_datetime(told)
        return max(0.0, (at - datetime.datetime.now(at.tzinfo or datetime.UTC)).total_seconds())
    except (TypeError, ValueError):
        return None
