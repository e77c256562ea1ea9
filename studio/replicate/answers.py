"""What Replicate answers when it refuses, in plain words with what to do."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from studio.answers import Passing
from studio.errors import EnvironmentalError, InputError, NotFoundError, StudioError
from studio.findings import Finding

if TYPE_CHECKING:
    import httpx

PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
TOKEN_PAGE = "replicate.com/account/api-tokens"


class TokenRefused(EnvironmentalError):
    """There is no token, or Replicate does not take it."""


class PaymentNeeded(EnvironmentalError):
    """The account cannot pay."""


class Malformed(StudioError):
    """The answer is not what the API promises."""


class Busy(Passing):
    """Replicate asks to wait or has trouble. after_s: seconds it asks for, 0 when it does not say."""

    def __init__(self, what: str, why: str, after_s: float = 0.0) -> None:
        super().__init__(what, why)
        self.after_s = after_s


def no_token() -> TokenRefused:
    """The error for a missing token."""
    return TokenRefused(
        "There is no Replicate token.",
        "REPLICATE_API_TOKEN is not set in the environment, in .streamlit/secrets.toml ([cloud]), in the keyring or in .env.",
        f"Make one at {TOKEN_PAGE}, then: export REPLICATE_API_TOKEN=... in this terminal, or put it into .env.",
    )


def refusal(answer: httpx.Response, doing: str) -> StudioError:
    """The error that an answer of 400 and more means. doing: what was attempted, such as "The training was not started"."""
    status, said = answer.status_code, detail(answer)
    why = f"Replicate answered {status}" + (f": {said}" if said else ".")
    if status == 401:
        return TokenRefused(
            f"{doing}: Replicate does not take the token.",
            why,
            f"Copy a fresh token from {TOKEN_PAGE} and set REPLICATE_API_TOKEN anew.",
        )
    if status == 402:
        return PaymentNeeded(
            f"{doing}: the account needs a payment method or credit.",
            why,
            "Set it up at replicate.com/account/billing, wait a minute, then try again.",
        )
    if status == 403:
        return EnvironmentalError(
            f"{doing}: the token may not do this.",
            why,
            "Use a token of the account or organisation that owns the destination.",
        )
    if status in (404, 410):
        return NotFoundError(
            f"{doing}: it does not exist, or this account may not see it.", why, "Check the name or the id."
        )
    if status in (400, 409, 422):
        return InputError(
            f"{doing}: Replicate refused the values.",
            why,
            "Mend what it names, then try again.",
            _fields(answer),
        )
    if status == 429:
        return Busy(f"{doing}: too many requests.", why, _after(answer))
    if status in PASSING:
        return Busy(f"{doing}: Replicate has trouble just now.", why, _after(answer))
    return StudioError(f"{doing}.", why, "Look at replicatestatus.com, then try again.")


def detail(answer: httpx.Response) -> str:
    """What the answer says in words, at most 400 letters; "" when it says nothing readable."""
    try:
        body = answer.json()
    except (ValueError, UnicodeDecodeError):
        return ""
    if not isinstance(body, dict):
        return ""
    told = body.get("detail") or body.get("title") or body.get("error") or ""
    return (told if isinstance(told, str) else json.dumps(told))[:400].strip()


def _fields(answer: httpx.Response) -> list[Finding]:
    try:
        body: Any = answer.json()
    except (ValueError, UnicodeDecodeError):
        return []
    listed = body.get("invalid_fields") or body.get("errors") if isinstance(body, dict) else None
    found = []
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict):
            name = str(entry.get("field") or entry.get("loc") or "value")
            said = str(entry.get("description") or entry.get("msg") or "cannot be used")
            found.append(
                Finding(severity="block", code="replicate-value", what=f"{name}: {said}.", where=(name,))
            )
    return found


def _after(answer: httpx.Response) -> float:
    text = answer.headers.get("retry-after", "")
    return min(120.0, float(text)) if text.isdigit() else 0.0
