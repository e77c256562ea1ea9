"""Five samples first: no engine captions a whole dataset before a person has looked at five of its captions.

Each sample is approved, adjusted or skipped. The verdicts belong to one fingerprint (engine, settings, question): after
any change they are stale, and five new samples are needed. `require` is asked where a batch is launched and again by the
job itself; there is no way around it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from studio import files
from studio.captions import auto
from studio.captions import text as words
from studio.captions.auto import Ready
from studio.captions.proposals import Proposal, from_plain
from studio.captions.reading import IMPORTED
from studio.captions.store import CaptionStore
from studio.dataset.folder import look
from studio.dataset.scan import known_looks
from studio.errors import BusyError, GateError, InputError, NotFoundError

if TYPE_CHECKING:
    from studio.captions.recaption import Also
    from studio.dataset.pixels import Look
    from studio.project import Project

COUNT = 5
Verdict = Literal["", "approved", "adjusted", "skipped"]
_VERDICTS: dict[object, Verdict] = {
    "": "",
    "approved": "approved",
    "adjusted": "adjusted",
    "skipped": "skipped",
}
VERDICT_WORDS: dict[str, str] = {
    "": "not looked at yet",
    "approved": "approved",
    "adjusted": "adjusted",
    "skipped": "skipped",
}


@dataclass(frozen=True)
class Sample:
    """One sample. text: the caption that a person approved or wrote, without the trigger word; trouble: why there is none."""

    proposal: Proposal
    verdict: Verdict = ""
    text: str = ""
    trouble: str = ""

    @property
    def name(self) -> str:
        return self.proposal.name

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self.proposal), "verdict": self.verdict, "text": self.text, "trouble": self.trouble}


@dataclass(frozen=True)
class Samples:
    """The samples of a project. seconds: how long the engine took for one picture. wanted: how many were asked for.
    author, settings: of the engine, as they are remembered with each caption."""

    fingerprint: str
    items: tuple[Sample, ...]
    seconds: float = 0.0
    author: str = ""
    made: str = ""
    wanted: int = COUNT
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def open(self) -> tuple[Sample, ...]:
        """Those that nobody has looked at yet."""
        return tuple(s for s in self.items if not s.verdict)

    @property
    def examples(self) -> tuple[str, ...]:
        """Captions that a person stands behind, as a model for the rest."""
        return tuple(s.text for s in self.items if s.verdict in ("approved", "adjusted") and s.text)

    def get(self, name: str) -> Sample:
        """The sample of a picture. Raises NotFoundError."""
        for s in self.items:
            if s.name == name:
                return s
        raise NotFoundError(
            f"'{name}' is not among the samples.",
            f"They are: {', '.join(s.name for s in self.items) or 'none yet'}.",
            "Use one of these names.",
        )


def _path(project: Project) -> Path:
    return project.folder / "captions" / "samples.json"


def load(project: Project) -> Samples | None:
    """The samples last made; None before. A damaged file counts as none."""
    try:
        raw = files.read_json(_path(project))
    except InputError:
        return None
    if not isinstance(raw, dict):
        return None
    items = []
    for item in raw.get("items", ()):
        proposal = from_plain(item) if isinstance(item, dict) else None
        verdict: Verdict | None = _VERDICTS.get(item.get("verdict", "")) if isinstance(item, dict) else None
        if proposal is not None and verdict is not None:
            items.append(Sample(proposal, verdict, str(item.get("text", "")), str(item.get("trouble", ""))))
    return Samples(
        str(raw.get("fingerprint", "")),
        tuple(items),
        float(raw.get("seconds") or 0.0),
        str(raw.get("author", "")),
        str(raw.get("made", "")),
        int(raw.get("wanted") or COUNT),
        dict(raw.get("settings") or {}),
    )


def save(project: Project, samples: Samples) -> None:
    """Store samples."""
    plain = {
        "fingerprint": samples.fingerprint, "author": samples.author, "made": samples.made, "wanted": samples.wanted,
        "seconds": samples.seconds, "settings": dict(samples.settings), "items": [s.as_dict() for s in samples.items],
    }  # fmt: skip
    files.write_json(_path(project), plain)


# ---------------------------------------------------------------- choosing


def choose(
    project: Project, names: Sequence[str], count: int = COUNT, avoid: Iterable[str] = ()
) -> list[str]:
    """`count` pictures that differ, out of `names`: each next one is the farthest from those chosen (Gonzalez 1985).

    Distance: perceptual hash, colour and shape as the scan measured them; pictures not yet looked at come by name.
    avoid: pictures that were samples before, taken only when no others are left.
    """
    looks = known_looks(project)
    seen = {n: looks[n][1] for n in names if n in looks and not looks[n][1].error}
    skip = set(avoid)
    pools = [[n for n in names if n not in skip], [n for n in names if n in skip]]
    chosen: list[str] = []
    for pool in pools:
        known = [n for n in pool if n in seen]
        chosen += _spread(known, seen, count - len(chosen))
        # A picture that cannot be opened gives no caption: those with an error come last.
        rest = sorted((n for n in pool if n not in known), key=lambda n: (n in looks, n))
        chosen += rest[: count - len(chosen)]
        if len(chosen) >= count:
            break
    return chosen


def _spread(names: list[str], looks: Mapping[str, Look], count: int) -> list[str]:
    if len(names) <= count:
        return names[: max(0, count)]
    if count <= 0:
        return []
    bits = np.array([[(looks[n].phash >> i) & 1 for i in range(256)] for n in names], np.float32)
    tint = np.stack([_tint(looks[n]) for n in names])
    shape = np.array([[np.log((looks[n].width or 1) / (looks[n].height or 1))] for n in names], np.float32)
    # Half of the hash's bits differ between unrelated pictures; colour and shape weigh less.
    space = np.hstack([bits / np.sqrt(128), tint, 0.5 * shape])
    middle = int(((space - space.mean(0)) ** 2).sum(1).argmin())
    chosen, nearest = [middle], ((space - space[middle]) ** 2).sum(1)
    while len(chosen) < count:
        following = int(nearest.argmax())
        chosen.append(following)
        nearest = np.minimum(nearest, ((space - space[following]) ** 2).sum(1))
    return [names[i] for i in chosen]


def _tint(seen: Look) -> NDArray[np.float32]:
    raw = np.frombuffer(seen.tint, np.uint8).astype(np.float32) / 255 - 0.5
    found: NDArray[np.float32] = np.zeros(128, np.float32)
    if raw.size:
        found[:] = np.resize(raw, 128) / 4
    return found


# ---------------------------------------------------------------- reviewing


def review(project: Project, name: str, verdict: Verdict, text: str = "") -> Samples:
    """A person's verdict on one sample. Approved and adjusted captions are written to the picture: approved ones in the
    engine's name, adjusted ones as the person's words; a caption that a person wrote stays as it is.

    text: the caption as adjusted. Raises NotFoundError, InputError, BusyError.
    """
    if verdict not in ("approved", "adjusted", "skipped"):
        raise InputError(
            f"'{verdict}' is no verdict.", "A sample is approved, adjusted or skipped.", "Use one of these."
        )
    trigger = project.intent.trigger
    with _reviewing(project):
        samples = load(project)
        if samples is None:
            raise NotFoundError("There are no samples yet.", "None were made.", "Make five samples first.")
        sample = samples.get(name)
        if sample.trouble and verdict != "skipped":
            raise InputError(
                f"{name} has no caption to judge.", sample.trouble, "Skip it, or make five new samples."
            )
        said = words.without_trigger(words.clean(text), trigger)
        if verdict == "adjusted":
            if not said:
                raise InputError(
                    "The adjusted caption is empty.",
                    "An empty caption teaches nothing.",
                    "Write it, or skip the sample.",
                )
            if said == sample.proposal.caption:
                verdict = "approved"
        final = said if verdict == "adjusted" else sample.proposal.caption if verdict == "approved" else ""
        changed = replace(sample, verdict=verdict, text=final)
        samples = replace(samples, items=tuple(changed if s.name == name else s for s in samples.items))
        save(project, samples)
    _write(project, samples, changed)
    project.decided("caption sample judged", picture=name, verdict=verdict)
    return samples


def _write(project: Project, samples: Samples, sample: Sample) -> None:
    store = CaptionStore(project)
    if not sample.text or sample.name not in look(project.dataset_dir).pictures:
        return
    what = f"sample caption of {sample.name}"
    also: set[Also] = {"approved", *auto.load(project).also}
    if sample.verdict == "adjusted":
        current = store.get(sample.name)
        mine = words.without_trigger(current.text, store.trigger) and not current.by_machine
        if not mine or (current.author == IMPORTED and "imported" in also):
            store.set_many({sample.name: sample.text}, what=what)
        return
    done = store.write_machine(
        {sample.name: sample.text}, samples.author, samples.settings, "replace", also=also, what=what
    )
    if done.changed or store.get(sample.name).author == samples.author:
        store.approve([sample.name])


class _reviewing:
    """One review at a time, so that two tabs lose no verdict."""

    def __init__(self, project: Project) -> None:
        path = project.folder / "captions" / ".samples.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(os.fspath(path))

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=10)
        except Timeout as e:
            raise BusyError(
                "Another sample is being judged.", "Two at once could lose a verdict.", "Try again."
            ) from e

    def __exit__(self, *_: object) -> None:
        self._lock.release()


# ---------------------------------------------------------------- the gate


@dataclass(frozen=True)
class ReviewState:
    """Where the review stands. state: none, stale, open, refused (all skipped) or passed; words: one plain sentence."""

    state: Literal["none", "stale", "open", "refused", "passed"]
    words: str
    samples: Samples | None = None

    @property
    def passed(self) -> bool:
        return self.state == "passed"


def state(project: Project, ready: Ready) -> ReviewState:
    """Whether a person has looked at five captions of exactly this engine with exactly these settings."""
    samples = load(project)
    if samples is None or not samples.items:
        return ReviewState("none", "No samples were made yet.")
    if samples.fingerprint != ready.fingerprint:
        return ReviewState("stale", "The samples were made with other settings.", samples)
    made, wanted = len({s.name for s in samples.items}), min(COUNT, len(look(project.dataset_dir).pictures))
    if made < max(wanted, samples.wanted):
        return ReviewState(
            "stale", f"Only {made} of {max(wanted, samples.wanted)} samples were made.", samples
        )
    if samples.open:
        left = len(samples.open)
        return ReviewState("open", f"{left} of {len(samples.items)} samples wait for you.", samples)
    if not samples.examples:
        return ReviewState(
            "refused", "You skipped every sample, so none of its captions was found good.", samples
        )
    return ReviewState("passed", f"You looked at {len(samples.items)} samples.", samples)


def require(project: Project, ready: Ready) -> Samples:
    """The reviewed samples. Raises GateError unless every sample was approved, adjusted or skipped, and not all skipped."""
    found = state(project, ready)
    if found.passed and found.samples is not None:
        return found.samples
    fixes = {
        "none": "Make five samples and look at each.",
        "stale": "Make five new samples and look at each.",
        "open": "Approve, adjust or skip each of them.",
        "refused": "Change the settings or the engine, then make five new samples.",
    }
    raise GateError(
        "Captions are not written yet.",
        f"{found.words} An engine that errs would err in every caption.",
        fixes[found.state],
    )
