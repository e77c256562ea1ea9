"""What an engine proposes for pictures, and the record of it beside the captions.

`<project>/captions/proposals/<fingerprint>.jsonl` holds one answer a line, written as soon as it came: the caption, the
content elements and the style elements apart, a tagger's probabilities. An engine with the same settings is never asked
twice about the same picture, so a job that was stopped or killed goes on where it was and nothing is paid for twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from studio import files

if TYPE_CHECKING:
    from studio.project import Project


@dataclass(frozen=True)
class Ask:
    """A picture to be captioned: its name, its file, and the SHA-256 of its content."""

    name: str
    path: Path
    sha256: str = ""


@dataclass(frozen=True)
class Proposal:
    """What an engine says about one picture.

    caption: without the trigger word, which the caption store puts in front.
    content: what is shown. style: how it is made. Empty for taggers, which do not tell them apart.
    scores:  a tagger's tags with their probabilities, 0 to 1.
    """

    name: str
    caption: str
    content: tuple[str, ...] = ()
    style: tuple[str, ...] = ()
    scores: tuple[tuple[str, float], ...] = ()
    sha256: str = ""


@dataclass(frozen=True)
class Trouble:
    """Why one picture has no caption: what, why, fix, as in every error."""

    name: str
    what: str
    why: str = ""
    fix: str = ""

    def as_dict(self) -> dict[str, str]:
        return {"picture": self.name, "what": self.what, "why": self.why, "fix": self.fix}


Answer = Proposal | Trouble


class Engine(Protocol):
    """Something that captions pictures. Used as a context manager, which loads and frees what it needs."""

    def __enter__(self) -> Engine: ...

    def __exit__(self, *_: object) -> None: ...

    def caption(self, pictures: Iterable[Ask], should_stop: Callable[[], bool]) -> Iterator[Answer]:
        """An answer for each picture, in any order, as they come; ends early when it shall stop.

        Raises StudioError when no picture can be captioned (the service is away, the key is refused).
        """
        ...


@dataclass
class Record:
    """The answers of one engine with one set of settings, by picture name."""

    path: Path
    answers: dict[str, Proposal] = field(default_factory=dict)

    @classmethod
    def of(cls, project: Project, fingerprint: str) -> Record:
        """The record of a fingerprint, as far as it goes; a line cut short by a crash is left out."""
        path = project.folder / "captions" / "proposals" / f"{fingerprint}.jsonl"
        record = cls(path)
        for line in files.read_jsonl(path)[0]:
            found = from_plain(line)
            if found is not None:
                record.answers[found.name] = found
        return record

    def known(self, ask: Ask) -> Proposal | None:
        """The answer about exactly this content; None when the picture changed or was never asked about."""
        found = self.answers.get(ask.name)
        return found if found is not None and found.sha256 == ask.sha256 else None

    def add(self, proposal: Proposal) -> None:
        """Keep an answer."""
        self.answers[proposal.name] = proposal
        files.append_jsonl(self.path, asdict(proposal))


def from_plain(raw: Mapping[str, Any]) -> Proposal | None:
    """A proposal from a line of the record; None for a line of another kind."""
    try:
        return Proposal(
            str(raw["name"]),
            str(raw["caption"]),
            tuple(map(str, raw.get("content", ()))),
            tuple(map(str, raw.get("style", ()))),
            tuple((str(t), float(p)) for t, p in raw.get("scores", ())),
            str(raw.get("sha256", "")),
        )
    except (KeyError, TypeError, ValueError):
        return None


def as_plain(proposal: Proposal) -> dict[str, Any]:
    """A proposal as plain data."""
    return asdict(proposal)
