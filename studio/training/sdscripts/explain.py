"""What happened in a training, read from its log: how far it came, whether it succeeded, and if not, why.

Works on any log of sd-scripts, also of a run that was started elsewhere: a terminal's output, a redirected file, a
notebook's cell. Exit codes are not asked for: the scripts end with 0 after training on nothing, and after NaN.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from studio.errors import InputError
from studio.findings import Finding, by_harm
from studio.models import tensor_header
from studio.training.sdscripts.causes import cause_of, other_failure
from studio.training.sdscripts.log import LogReader, is_broken

Outcome = Literal["finished", "failed", "ended early", "not started", "unclear"]
CHUNK = 1 << 20
# How `studio.jobs.log` keeps a log, from its beginning to its end.
LOG_PARTS = ("log.head.txt", "log.old.txt", "log.txt")
# Losses kept for the sentence about the curve; more add nothing.
KEPT = 100_000


@dataclass
class Explanation:
    """What a log says.

    outcome:  `finished`: a whole LoRA was saved and nothing speaks against it; `failed`: an error, or a result that is
              worth nothing; `ended early`: it trained, and the log breaks off; `not started`: no step was made;
              `unclear`: what decides it was printed elsewhere, as when only one of the two output streams was kept.
    step, total_steps, epoch, epochs: how far it came; 0 where the log does not say.
    resumed_at: the step it went on from; 0 for a fresh start.
    first_loss, last_loss: means as the script showed them; None when there were none.
    seconds_per_step: latest pace. plan: what the script counted (pictures, batch size ...).
    saved:    checkpoints in the order of saving; those removed again are left out.
    findings: causes and warnings, the most harmful first.
    """

    outcome: Outcome
    step: int = 0
    total_steps: int = 0
    epoch: int = 0
    epochs: int = 0
    resumed_at: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    seconds_per_step: float | None = None
    device: str = ""
    plan: dict[str, int] = field(default_factory=dict)
    saved: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def succeeded(self) -> bool:
        return self.outcome == "finished"

    @property
    def sentence(self) -> str:
        """The outcome in one sentence."""
        reached = f"step {self.step} of {self.total_steps}" if self.total_steps else f"step {self.step}"
        if self.outcome == "finished":
            made = reached if self.step else f"{self.total_steps} steps" if self.total_steps else "all steps"
            return f"It finished: {made}, and saved {Path(self.saved[-1]).name if self.saved else 'a LoRA'}."
        if self.outcome == "unclear":
            return f"It came to {reached}; whether it succeeded, this log does not say."
        if self.outcome == "ended early":
            return f"It ended early, at {reached}."
        if self.outcome == "not started":
            return "It did not train: no step was made."
        return f"It failed at {reached}." if self.step else "It failed before the first step."

    def as_dict(self) -> dict[str, Any]:
        """Plain data for `--json` and reports."""
        told = {k: v for k, v in vars(self).items() if k != "findings"}
        return {
            **told,
            "sentence": self.sentence,
            "findings": [f.model_dump(mode="json") for f in self.findings],
        }


@dataclass
class Story:
    """What is gathered on the way through a log: give it every event of a LogReader, then `conclude`."""

    told: Explanation = field(default_factory=lambda: Explanation("not started"))
    reader: LogReader = field(default_factory=LogReader)
    errors: list[tuple[str, str]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    uncaptioned: int = 0
    broken_at: int = 0
    model_saved: bool = False
    recognised: bool = False
    killed: str = ""

    def take(self, event: dict[str, Any]) -> None:
        """One more event."""
        told, kind = self.told, event["type"]
        self.recognised = self.recognised or kind in ("plan", "step", "saved", "usage", "epoch", "script")
        if kind == "step":
            self._step(event)
        elif kind == "start":
            self._begins(event)
        elif kind == "plan":
            told.plan = {k: v for k, v in event.items() if k != "type"}
            told.total_steps = told.plan.get("total_steps", told.total_steps)
        elif kind == "epoch":
            told.epoch, told.epochs = event["epoch"], event["epochs"]
        elif kind == "resumed":
            told.resumed_at = told.step = event["step"]
        elif kind == "device":
            told.device = event["device"]
            self.recognised = True
        elif kind == "saving" and event["path"] not in told.saved:
            told.saved.append(event["path"])
        elif kind == "removed":
            told.saved = [p for p in told.saved if Path(p).name != Path(event["path"]).name]
        elif kind == "saved":
            self.model_saved = True
        elif kind == "exception":
            self.errors.append((event["kind"], event["text"]))
        elif kind in ("error", "usage"):
            self.errors.append(("", event["text"]))
        elif kind == "killed":
            self.killed = event["signal"]
        elif kind == "warning":
            self._warning(event["text"])

    def _begins(self, event: dict[str, Any]) -> None:
        """The bar of a training stands at its beginning. What ended an earlier one in the same log, as of a run that was
        resumed or tried again with half the batch, speaks no more: the last one counts."""
        self.errors = [(k, t) for k, t in self.errors if not k and cause_of(t) is None]
        self.killed, self.broken_at, self.model_saved = "", 0, False
        self.told.step = self.told.resumed_at = event["step"]
        self.told.first_loss = self.told.last_loss = None

    def _step(self, event: dict[str, Any]) -> None:
        told, loss = self.told, event["loss"]
        told.step, told.total_steps = event["step"], event["total"]
        told.seconds_per_step = event["seconds_per_step"] or told.seconds_per_step
        if is_broken(loss) and not self.broken_at:
            self.broken_at = event["step"]
        if loss is not None and not is_broken(loss):
            told.first_loss = loss if told.first_loss is None else told.first_loss
            told.last_loss = loss

    def _warning(self, text: str) -> None:
        if "No caption file found for" in text:
            number = text.split("No caption file found for", 1)[1].split()[0]
            self.uncaptioned = int(number) if number.isdigit() else 1
        elif len(self.warnings) < 200 and text not in self.warnings:
            self.warnings.append(text)


def explain_text(data: bytes | str) -> Explanation:
    """What a log's text says. Raises InputError when it is not a log of sd-scripts."""
    story = Story()
    for event in [*story.reader.feed(data), *story.reader.end()]:
        story.take(event)
    return _conclude(story, None)


def explain(path: Path) -> Explanation:
    """What a log file says; read piece by piece, so that its size does not matter.

    Checkpoints that the log names are looked at where they still lie under that path. Raises InputError when the file
    cannot be read or is not a log of sd-scripts.
    """
    story = Story()
    try:
        _read(story, path)
    except OSError as e:
        raise InputError(
            f"{path.name or path} cannot be read.",
            f"The computer answered: {e.strerror or e}.",
            "Name a log file: the text that the training printed.",
        ) from e
    for event in story.reader.end():
        story.take(event)
    return _conclude(story, path)


def explain_job(folder: Path) -> Explanation:
    """What the log of a job says: its head, and the newest of what came later. Raises InputError as `explain` does."""
    story = Story()
    for name in LOG_PARTS:
        with suppress(FileNotFoundError):
            _read(story, folder / name)
    for event in story.reader.end():
        story.take(event)
    return _conclude(story, folder)


def _read(story: Story, path: Path) -> None:
    with path.open("rb") as f:
        while piece := f.read(CHUNK):
            for event in story.reader.feed(piece):
                story.take(event)


def _conclude(story: Story, path: Path | None) -> Explanation:
    told = story.told
    if not (story.recognised or story.errors or story.killed or told.step):
        name = path.name if path else "The text"
        raise InputError(
            f"{name} is not a log of a training with sd-scripts.",
            "None of the lines that these scripts print was found in it.",
            "Name the file that holds what the training printed, both its normal output and its errors.",
        )
    return conclude(story)


def conclude(story: Story) -> Explanation:
    """What the events come to when no more follow."""
    told = story.told
    found = _failures(story) + _damaged(told)
    all_steps = told.total_steps > 0 and told.step >= told.total_steps
    one_stream = (all_steps and not told.saved) or (not told.step and bool(told.plan or told.saved))
    if any(f.severity == "block" for f in found):
        told.outcome = "failed"
    elif story.model_saved:
        told.outcome = "finished"
    elif one_stream:
        told.outcome = "unclear"
        found.append(_one_stream())
    elif told.step > 0:
        told.outcome = "ended early"
        found.append(_broke_off(story))
    else:
        found.append(_no_step())
    if story.uncaptioned:
        found.append(_uncaptioned(story.uncaptioned))
    told.findings = by_harm(found)
    return told


def _failures(story: Story) -> list[Finding]:
    """The cause of a failure: the last known one of the errors told, else the last error in its own words."""
    found: list[Finding] = []
    if story.broken_at:
        found.append(
            Finding(
                severity="block",
                code="loss-nan",
                what=f"The loss is no number any more since step {story.broken_at}.",
                why="The numbers grew beyond what the precision can hold, and every weight became NaN. The script goes "
                "on to the end and saves a file that is worth nothing.",
                fix="Lower the learning rate, use bf16 or full precision, and set no_half_vae for SDXL. Use a checkpoint "
                "from before that step, or start again.",
            )
        )
    fatal = [(k, t) for k, t in story.errors if k not in ("CalledProcessError", "KeyboardInterrupt")]
    interrupted = any(k == "KeyboardInterrupt" for k, _ in story.errors)
    if fatal and not (story.model_saved and all(k == "" for k, _ in fatal)):
        known = [c for k, t in reversed(fatal) if (c := cause_of(f"{k}: {t}" if k else t))]
        # "No prompt file" and the like are told as errors, and training goes on.
        if known:
            found.append(known[0])
        elif any(k for k, _ in fatal):
            found.append(other_failure(*[e for e in fatal if e[0]][-1]))
    if fatal and story.model_saved:
        found += [
            Finding(severity="warn", code="error-told", what=f"The script reported: {t.split(' / ')[0][:200]}",
                    why="It went on all the same.", fix="Check that path or option before the next run.")
            for t in dict.fromkeys(t for k, t in fatal if not k)
        ]  # fmt: skip
    if not found and (story.killed or interrupted):
        by = "Ctrl-C" if interrupted and not story.killed else story.killed
        why = (
            "Most often that is the system, when memory runs out."
            if by == "SIGKILL"
            else "Somebody, or another program, ended it."
        )
        found.append(
            Finding(
                severity="block",
                code="ended-from-outside",
                what=f"The training was ended from outside ({by}).",
                why=f"{why} Nothing is saved at such a moment.",
                fix="Start again from the last checkpoint or state. If memory ran out, lower the batch size or the "
                "resolution.",
            )
        )
    return found


def _damaged(told: Explanation) -> list[Finding]:
    """Checkpoints that the log names and that lie here damaged: the line stands in the log before the file is written."""
    found = []
    for name in told.saved:
        path = Path(name)
        if path.suffix != ".safetensors" or not path.is_file():
            continue
        try:
            tensor_header(path)
        except InputError as e:
            found.append(
                Finding(
                    severity="block" if name == told.saved[-1] else "warn",
                    code="checkpoint-damaged",
                    what=f"The checkpoint {path.name} is damaged.",
                    why=e.why,
                    fix="Delete it, and use the one before it.",
                    where=(path.name,),
                )
            )
    return found


def _broke_off(story: Story) -> Finding:
    saved = (
        f"The last one saved is {Path(story.told.saved[-1]).name}." if story.told.saved else "None was saved."
    )
    return Finding(
        severity="warn",
        code="log-breaks-off",
        what="The log breaks off in the middle of the training.",
        why=f"It names no cause: the training still runs, its window was closed, or the computer stopped. {saved}",
        fix="If it runs no more, start again from the last state or checkpoint.",
    )


def _no_step() -> Finding:
    return Finding(
        severity="warn",
        code="no-step",
        what="No training step is in the log.",
        why="It breaks off while models are loaded or pictures are prepared, or its error stream was not kept, where "
        "steps and errors are printed.",
        fix="If it runs no more, start it again and keep both streams: add `2>&1` after the name of the log file.",
    )


def _one_stream() -> Finding:
    return Finding(
        severity="warn",
        code="half-a-log",
        what="Half of what the training printed is missing.",
        why="The scripts print steps and errors to one stream, and checkpoints to the other; only one is here.",
        fix="Keep both streams the next time: add `2>&1` after the name of the log file. Whether a LoRA was saved, its "
        "folder tells: a whole file opens in the studio's library.",
    )


def _uncaptioned(count: int) -> Finding:
    return Finding(
        severity="warn",
        code="captions-missing",
        what=f"{count} picture{'s' if count != 1 else ''} had no caption.",
        why="The script only warns, and trains these with an empty caption: the trigger word is not learned from them.",
        fix="Write captions beside the pictures, and set caption_extension to .txt (the script's own default is .caption).",
    )
