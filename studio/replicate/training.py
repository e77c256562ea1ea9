"""A training as Replicate tells of it, read tolerantly: an unknown status or a missing field breaks nothing."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

ENDED = frozenset({"succeeded", "failed", "canceled", "aborted"})
ALIVE = frozenset({"starting", "processing"})
WORDS = {
    "starting": "starting: waiting for a computer",
    "processing": "training",
    "succeeded": "finished",
    "failed": "failed",
    "canceled": "cancelled",
    "aborted": "aborted by Replicate",
}
_ID = re.compile(r"[a-z0-9]{10,64}")
_ID_IN_TEXT = re.compile(r'"id"\s*:\s*"([a-z0-9]{10,64})"')
# ai-toolkit's progress bar: `name:  12%|#2   | 123/1000 [01:23<09:41,  1.51it/s, lr: 4.0e-04 loss: 3.456e-01]`
_BAR = re.compile(
    r"\|\s*(?P<step>\d+)/(?P<total>\d+)\s*\[(?P<spent>[\d:]+)<(?P<left>[\d:?]+)(?:,\s*(?P<pace>[\d.]+)\s*(?P<unit>it/s|s/it))?"
    r"(?P<rest>[^\]\r\n]*)"
)
_LOSS = re.compile(r"loss:\s*([0-9.eE+-]+|nan|inf)", re.IGNORECASE)
_RATE = re.compile(r"lr:\s*([0-9.eE+-]+)")


def is_id(text: str) -> bool:
    """Whether a text has the form of a training's id."""
    return _ID.fullmatch(text) is not None


def id_in(raw: bytes) -> str:
    """The id of a training in an answer that may not be whole JSON; "" when there is none."""
    found = _ID_IN_TEXT.search(raw.decode("utf-8", "replace"))
    return found[1] if found else ""


@dataclass(frozen=True)
class LogProgress:
    """The newest progress bar. seconds_per_step, seconds_left, loss, rate: None when it does not say."""

    step: int
    total: int
    seconds_per_step: float | None
    seconds_left: float | None
    loss: float | None
    rate: float | None


@dataclass(frozen=True)
class Training:
    """A training. raw: the answer as it came."""

    raw: Mapping[str, Any] = field(repr=False)

    def _text(self, name: str) -> str:
        value = self.raw.get(name)
        return value if isinstance(value, str) else ""

    @property
    def id(self) -> str:
        return self._text("id")

    @property
    def status(self) -> str:
        """As Replicate says it; unknown ones are kept."""
        return self._text("status") or "unknown"

    @property
    def words(self) -> str:
        return WORDS.get(self.status, self.status)

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen: by a known status, or because an end time is told."""
        return self.status in ENDED or (self.status not in ALIVE and bool(self._text("completed_at")))

    @property
    def succeeded(self) -> bool:
        return self.status == "succeeded"

    @property
    def logs(self) -> str:
        return self._text("logs")

    @property
    def error(self) -> str:
        value = self.raw.get("error")
        return value if isinstance(value, str) else ("" if value is None else str(value))

    @property
    def model(self) -> str:
        return self._text("model")

    @property
    def version(self) -> str:
        return self._text("version")

    @property
    def input(self) -> dict[str, Any]:
        value = self.raw.get("input")
        return dict(value) if isinstance(value, dict) else {}

    @property
    def destination(self) -> str:
        """owner/name; Replicate tells it only after success."""
        told = self._text("destination")
        output = self.raw.get("output")
        if not told and isinstance(output, dict) and isinstance(output.get("version"), str):
            told = output["version"].partition(":")[0]
        return told

    @property
    def weights_url(self) -> str:
        """Where the result lies; "" while there is none."""
        output = self.raw.get("output")
        if isinstance(output, dict):
            output = output.get("weights") or output.get("file")
        if isinstance(output, list):
            output = output[0] if output else ""
        return output if isinstance(output, str) and "://" in output else ""

    def when(self, name: str) -> datetime | None:
        """created_at, started_at or completed_at; None when it is not told or not a time."""
        text = self._text(name)
        # Replicate gives nanoseconds at times; Python 3.11 reads up to six digits.
        text = re.sub(r"(\.\d{6})\d+", r"\1", text)
        try:
            found = datetime.fromisoformat(text)
        except ValueError:
            return None
        return found if found.tzinfo else None

    def seconds(self, server_now: datetime | None) -> float:
        """Seconds of running time so far, which are paid for; 0 before it began. server_now: Replicate's clock, so
        that a wrong clock of this computer does not count."""
        metrics = self.raw.get("metrics")
        told = metrics.get("predict_time") if isinstance(metrics, dict) else None
        if isinstance(told, (int, float)) and told > 0:
            return float(told)
        began = self.when("started_at")
        if began is None:
            return 0.0
        until = self.when("completed_at") or server_now
        return max(0.0, (until - began).total_seconds()) if until else 0.0

    def progress(self, steps: int | None = None) -> LogProgress | None:
        """The newest bar of the training itself. steps: how many it has, to tell it from bars of downloads and caching."""
        told = steps or self.input.get("steps")
        for line in reversed(re.split(r"[\r\n]+", self.logs[-20_000:])):
            found = _BAR.search(line)
            if found and (not isinstance(told, int) or int(found["total"]) == told):
                return _bar(found)
        return None

    def as_dict(self) -> dict[str, Any]:
        """For `--json`: what is known, without the log and the inputs that may hold keys."""
        return {
            "id": self.id,
            "status": self.status,
            "model": self.model,
            "version": self.version,
            "destination": self.destination,
            "created_at": self._text("created_at"),
            "started_at": self._text("started_at"),
            "completed_at": self._text("completed_at"),
            "error": self.error,
            "weights": self.weights_url,
            "input": {k: v for k, v in self.input.items() if "token" not in k and "key" not in k},
        }


def _bar(found: re.Match[str]) -> LogProgress:
    pace = float(found["pace"]) if found["pace"] and found["pace"].count(".") <= 1 else 0.0
    loss, rate = _LOSS.search(found["rest"]), _RATE.search(found["rest"])
    return LogProgress(
        step=int(found["step"]),
        total=int(found["total"]),
        seconds_per_step=None if not pace else (pace if found["unit"] == "s/it" else 1 / pace),
        seconds_left=_clock(found["left"]),
        loss=_number(loss[1]) if loss else None,
        rate=_number(rate[1]) if rate else None,
    )


def _clock(text: str) -> float | None:
    if "?" in text:
        return None
    total = 0.0
    for part in text.split(":"):
        total = total * 60 + int(part or 0)
    return total


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
