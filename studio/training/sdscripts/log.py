"""What a training script of sd-scripts prints, read as events.

Its output has no format of its own: a progress bar drawn over itself with carriage returns, log lines that are glued to the
bar without a line break, plain prints, and Python's tracebacks, from two streams that arrive mixed or apart. So every
pattern is searched within a line and never tied to its start. Recorded output of real runs is what the tests read.
"""

from __future__ import annotations

import codecs
import math
import re
from dataclasses import dataclass, field
from typing import Any

# Lines are far shorter. What is longer, binary data or a stream without line breaks, is looked at at both ends only, so that no
# pattern has much to search.
LONGEST = 4096
# Cursor movements of nested bars, and colours.
_ANSI = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(
    r"(?<!validation )steps:\s*\d+%\|[^|\r\n]*\|\s*(?P<step>\d+)/(?P<total>\d+) "
    r"\[(?P<spent>[\d:]+)<(?P<left>[^,\]]+), *(?P<rate>[\d.]+|\?)(?P<unit>s/it|it/s)(?P<post>[^\]\r\n]*)\]"
)
_OTHER_BAR = re.compile(r"(?:(?P<name>[a-z][\w ]*): *)?\d+%\|[^|\r\n]*\|\s*(?P<done>\d+)/(?P<total>\d+) \[")
_LOSS = re.compile(r"\bavr_loss=(?P<loss>[-+.\w]+)")
_EPOCH = re.compile(r"(?<![\w.])epoch (?P<epoch>\d+)/(?P<epochs>\d+)")
_FACTS = {
    "pictures": re.compile(r"num train images \* repeats[^:\r\n]*: *(\d+)"),
    "regularisation": re.compile(r"num reg images[^:\r\n]*: *(\d+)"),
    "steps_per_epoch": re.compile(r"num batches per epoch[^:\r\n]*: *(\d+)"),
    "epochs": re.compile(r"num epochs[^:\r\n]*: *(\d+)"),
    "batch_size": re.compile(r"batch size per device[^:\r\n]*: *(\d+)"),
    "accumulation": re.compile(r"gradient accumulation steps[^=\r\n]*= *(\d+)"),
    "total_steps": re.compile(r"total optimization steps[^:\r\n]*: *(\d+)"),
}
_DEVICE = re.compile(r"accelerator device: *(\S+)")
_SAVING = re.compile(r"saving checkpoint: *(.+?\.(?:safetensors|ckpt|pt))")
_REMOVING = re.compile(r"removing old checkpoint: *(.+?\.(?:safetensors|ckpt|pt))")
_SAVED = re.compile(r"\bmodel saved\.")
# The first lines of every script; of one that ended while it loaded they are all there is.
_OURS = re.compile(r"\btrain_util\.py:\d+\s*$")
_STATE = re.compile(r"\{'current_epoch': (?P<epoch>\d+), 'current_step': (?P<step>\d+)\}")
_TRACEBACK = re.compile(r"Traceback \(most recent call last\):")
# The line that ends a traceback: `KeyError: 'x'`, `toml.decoder.TomlDecodeError: ...`, or an exception without a text.
_RAISED = re.compile(
    r"^(?:\[rank\d+\]: ?)?(?P<kind>(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception|Invalid|Interrupt|Exit))(?:: ?(?P<text>.*))?$"
)
# Without its traceback, as when only the end of a log was kept, an exception is believed where it tells of memory.
_MEMORY = re.compile(
    r"\b(?P<kind>RuntimeError|OutOfMemoryError|AcceleratorError): ?"
    r"(?P<text>(?:(?:CUDA|HIP)(?: error:)? out of memory|[^\r\n]*DefaultCPUAllocator).*)"
)
# Of a library below Python, which ends the process without an exception of Python's.
_NO_ROOM = re.compile(r"instance of '(?P<text>std::bad_alloc)'")
_USAGE = re.compile(r"(?P<script>\w+\.py): error: (?P<text>.+)")
_LEVEL = re.compile(r"\b(?P<level>ERROR|WARNING|CRITICAL)\s{1,8}(?P<text>\S.*)")
# Rich puts the source of a log line at its right edge.
_SOURCE = re.compile(r"\s{2,}[\w.]+\.py:\d+\s*$")
# What the studio writes into its own log between two trainings.
_AGAIN = re.compile(r"^\[studio\] (?:Attempt \d+, |Memory ran out )")
_KILLED = re.compile(r"^(?:Killed|Terminated)\s*$|died with <Signals\.(?P<signal>SIG\w+)")
# A line without any of these says nothing to any pattern above. They are looked for in whole pieces of output, each by itself:
# Python finds a plain word many times faster than one of several, and a gigabyte of other words costs seconds, not minutes.
_TELLING = tuple(
    re.compile(re.escape(word))
    for word in (
        b"%|", b" images", b"epoch", b"size per device", b"ation steps", b"accelerator device:", b"checkpoint:", b"model saved.",
        b"[studio] ", b"Traceback (", b"Error", b"Exception", b"Invalid", b"Interrupt", b"Exit", b"std::bad_alloc",
        b".py: error:", b"ERROR", b"WARNING", b"CRITICAL", b"Killed", b"Terminated", b"died with <", b".toml not found.",
        b"No data found.", b"train_util.py:",
    )
)  # fmt: skip


def _telling(lines: bytes) -> list[bytes]:
    """Those of some whole lines that a pattern may match, in their order."""
    spans: dict[int, int] = {}
    for word in _TELLING:
        at = 0
        while found := word.search(lines, at):
            start = lines.rfind(b"\n", at, found.start()) + 1
            at = lines.find(b"\n", found.end())
            at = len(lines) if at < 0 else at
            spans[start] = at
    return [lines[start:end] for start, end in sorted(spans.items())]


@dataclass
class LogReader:
    """Reads output piece by piece, as it arrives, and gives events; the memory it needs does not grow with the log.

    Events are plain dicts with a `type`:
    `plan` (total_steps, epochs, steps_per_epoch, pictures, batch_size ...; each time one more is known),
    `start` (step: where it begins, 0 unless resumed; a log may hold several), `step` (step, total, loss or None,
    seconds_per_step), `epoch` (epoch, epochs), `stage` (name, done, total) for other bars, `saving` and `removed` (path), `saved`, `resumed` (epoch, step), `device`, `warning` and `error` (text),
    `exception` (kind, text), `usage` (script, text), `killed` (signal), `script` (a line of sd-scripts' own, at its start).

    Step numbers count from the start of the training, also in a resumed run, whose own bar starts at 0 again.
    `loss` is the mean that the script shows: over the epoch so far, and not of that step alone.

    offset: steps done before, for a resumed run whose start is known. None: taken from the log.
    """

    offset: int | None = None
    _rest: bytes = b""
    _step: int = 0
    _seen: int = 0
    _once: dict[str, Any] | None = None
    _plan: dict[str, int] = field(default_factory=dict)
    _in_traceback: bool = False
    _stage: tuple[str, int] = ("", -1)
    _before: int = 0
    _begun: bool = False
    _resuming: bool = False
    _resumed_epoch: int = 0
    _decoder: codecs.IncrementalDecoder | None = None
    _fed: bool = False

    def __post_init__(self) -> None:
        self._before = self.offset or 0

    def feed(self, data: bytes | str) -> list[dict[str, Any]]:
        """The events of the next piece of output. A piece may end anywhere, also within a character."""
        new = self._as_utf8(data) if isinstance(data, bytes) else data.encode()
        text = (self._rest + new).replace(b"\r", b"\n")
        end = text.rfind(b"\n") + 1
        whole, self._rest = text[:end], text[end:]
        if (self._rest.endswith(b"]") and _BAR.search(_plain(self._rest))) or len(self._rest) > 16 * LONGEST:
            # A bar ends with what follows it, a whole step later; it is told as soon as it is drawn.
            whole += self._rest
            self._rest = b""
        if b"\x1b" in whole:
            whole = _ANSI.sub(b"", whole)
        return [e for line in _telling(whole) for e in self._line(line)]

    def _as_utf8(self, data: bytes) -> bytes:
        """What PowerShell's `>` writes is UTF-16 and says so with its first two bytes."""
        if not self._fed and data:
            self._fed = True
            if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                self._decoder = codecs.getincrementaldecoder("utf-16")("replace")
        return self._decoder.decode(data).encode("utf-8", "replace") if self._decoder else data

    def end(self) -> list[dict[str, Any]]:
        """The events of what is left when the output has ended."""
        rest, self._rest = self._rest, b""
        return self._line(rest) + self._drawn_once(0)

    def _line(self, raw: bytes) -> list[dict[str, Any]]:
        line = _plain(raw)
        if not line:
            return []
        found: list[dict[str, Any]] = []
        for bar in _BAR.finditer(line):
            found += self._bar(bar)
        if not found and (other := _OTHER_BAR.search(line)):
            found += self._other_bar(other)
        found += self._said(line)
        return found + self._trouble(line)

    def _bar(self, bar: re.Match[str]) -> list[dict[str, Any]]:
        step, total = int(bar["step"]), int(bar["total"])
        loss = _LOSS.search(bar["post"])
        found = self._drawn_once(step)
        if step < self._seen or self._resuming or (step == 0 and not self._begun):
            found.append(self._starts())
        # Each step is drawn twice: first with the mean of the step before, then with its own.
        again, self._seen = step == self._seen, step
        if step == 0 or step <= self._step or not loss:
            return found
        rate = float(bar["rate"]) if bar["rate"] != "?" else 0.0
        pace = rate if bar["unit"] == "s/it" else 1 / rate if rate else 0.0
        event = {
            "type": "step",
            "step": self._before + step,
            "total": total,
            "loss": _number(loss["loss"]),
            "seconds_per_step": pace or None,
        }
        if not again:
            self._once = event
            return found
        self._step, self._once = step, None
        return [*found, event]

    def _starts(self) -> dict[str, Any]:
        self._begun = True
        self._step = self._seen = 0
        self._once = None
        if not self._resuming:
            self._before = self.offset or 0
        elif self.offset is None:
            self._before = self._steps_of_state()
        self._resuming = False
        return {"type": "start", "step": self._before}

    def _steps_of_state(self) -> int:
        """Steps before the state that was read. A resumed run counts from 0, so that a state it saved tells too few; the epoch
        is right all the same, and a state is mostly that of its end."""
        told, epoch = self._before, self._resumed_epoch
        per_epoch = -(-self._plan.get("steps_per_epoch", 0) // max(1, self._plan.get("accumulation", 1)))
        return epoch * per_epoch if told <= (epoch - 1) * per_epoch else told

    def _drawn_once(self, step: int) -> list[dict[str, Any]]:
        """The step whose bar was drawn only once, when the bar has moved on to `step`, or the output has ended.

        tqdm leaves the first drawing out when steps are fast, and a terminal's text that was copied keeps one bar of many.
        """
        event = self._once
        if event is None or event["step"] == self._before + step:
            return []
        self._once, self._step = None, event["step"] - self._before
        return [event]

    def _other_bar(self, bar: re.Match[str]) -> list[dict[str, Any]]:
        name, done = (bar["name"] or "").strip(), int(bar["done"])
        if name == "steps" or (name, done) == self._stage:
            return []
        self._stage = (name, done)
        return [{"type": "stage", "name": name, "done": done, "total": int(bar["total"])}]

    def _said(self, line: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = [self._starts()] if _AGAIN.search(line) else []
        for name, pattern in _FACTS.items():
            if told := pattern.search(line):
                self._plan[name] = int(told[1])
                found.append({"type": "plan", **self._plan})
        if told := _DEVICE.search(line):
            found.append({"type": "device", "device": told[1]})
        if told := _EPOCH.search(line):
            found.append({"type": "epoch", "epoch": int(told["epoch"]), "epochs": int(told["epochs"])})
        if told := _STATE.search(line):
            self._before = int(told["step"]) if self.offset is None else self.offset
            self._resuming, self._resumed_epoch = True, int(told["epoch"])
            found.append({"type": "resumed", "epoch": int(told["epoch"]), "step": self._before})
        if told := _SAVING.search(line):
            found.append({"type": "saving", "path": told[1].strip()})
        if told := _REMOVING.search(line):
            found.append({"type": "removed", "path": told[1].strip()})
        if _SAVED.search(line):
            found.append({"type": "saved"})
        if _OURS.search(line):
            found.append({"type": "script"})
        return found

    def _trouble(self, line: str) -> list[dict[str, Any]]:
        if _TRACEBACK.search(line):
            self._in_traceback = True
            return []
        if told := _KILLED.search(line):
            return [
                {"type": "killed", "signal": told["signal"] or ("SIGKILL" if "Killed" in line else "SIGTERM")}
            ]
        if told := _USAGE.search(line):
            return [{"type": "usage", "script": told["script"], "text": told["text"].strip()}]
        if self._in_traceback and (told := _RAISED.match(line)):
            self._in_traceback = False
            return [
                {
                    "type": "exception",
                    "kind": told["kind"].rsplit(".", 1)[-1],
                    "text": (told["text"] or "").strip(),
                }
            ]
        if told := _MEMORY.search(line):
            return [{"type": "exception", "kind": told["kind"], "text": told["text"].strip()}]
        if told := _NO_ROOM.search(line):
            return [{"type": "exception", "kind": "MemoryError", "text": told["text"]}]
        if told := _LEVEL.search(line):
            level = "warning" if told["level"] == "WARNING" else "error"
            return [{"type": level, "text": _SOURCE.sub("", told["text"]).strip()}]
        if re.search(r"\.toml not found\.", line):
            return [{"type": "error", "text": _SOURCE.sub("", line.split("INFO", 1)[-1]).strip()}]
        # With the plain log (`--console_log_simple`) a line has no level: known words are what is left.
        if line.startswith("No data found."):
            return [{"type": "error", "text": line}]
        return []


def _plain(raw: bytes) -> str:
    """A line as text, without colours; of one that is far too long, both ends."""
    if len(raw) > LONGEST:
        raw = raw[: LONGEST // 2] + b" " + raw[-LONGEST // 2 :]
    return _ANSI.sub(b"", raw).decode("utf-8", "replace").rstrip()


def _number(text: str) -> float | None:
    """The number a loss stands for; NaN and infinity stay what they are; None when it is none."""
    try:
        return float(text)
    except ValueError:
        return None


def is_broken(loss: float | None) -> bool:
    """Whether a loss is no finite number any more."""
    return loss is not None and not math.isfinite(loss)
