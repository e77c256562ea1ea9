"""One picture's caption: its words, who wrote them, and whether somebody approved them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from studio.captions.journal import Note, Status, mark_of
from studio.dataset.folder import Stamp

NO_STAMP: Stamp = (0, 0, 0)
PERSON = "person"
IMPORTED = "import"


@dataclass(frozen=True)
class Caption:
    """One picture's caption.

    text:    the words; empty when there is no caption.
    author:  `person`, the id of the engine that wrote it, or `import` when it came along with the picture.
    engine:  the engine whose words it began with; with the author `person` it was corrected by a person.
    settings: what that engine was set to, as it told the store.
    updated: when it was last changed, ISO 8601 UTC; empty when there is no caption.
    status:  `empty`, `needs review` or `approved`.
    outside: another program changed the file after the studio's last write.
    utf8:    whether the file is plain UTF-8, which is what trainers read.
    exists:  whether there is a caption file at all.
    """

    text: str = ""
    author: str = ""
    updated: str = ""
    status: Status = "empty"
    outside: bool = False
    utf8: bool = True
    exists: bool = False
    engine: str = ""
    made_with: str = field(default="", repr=False)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False, compare=False)

    @property
    def by_machine(self) -> bool:
        """Whether these are an engine's words, untouched by a person."""
        return bool(self.text) and self.author not in (PERSON, IMPORTED, "")

    @property
    def by(self) -> str:
        """Who wrote it, in words."""
        if not self.text:
            return ""
        if self.outside:
            return "changed by another program"
        if self.author == PERSON:
            return f"written by {self.engine} and you" if self.engine else "written by you"
        if self.author == IMPORTED:
            return (
                f"came with the picture, {self.engine} added to it"
                if self.engine
                else "came with the picture"
            )
        return f"written by {self.author}"


def caption_from(
    found: tuple[Stamp, str, bool] | None,
    note: Note | None,
    makers: Mapping[str, Mapping[str, Any]] | None = None,
) -> Caption:
    """What a text and what is noted about it come to: `found` is (stamp, text, whether it was UTF-8)."""
    if found is None:
        return Caption()
    stamp, text, utf8 = found
    if note is not None and note.mark == mark_of(text):
        settings = (makers or {}).get(note.made_with, {})
        status: Status = note.status if text else "empty"
        return Caption(
            text, note.author, note.updated, status, False, utf8, True, note.engine, note.made_with, settings
        )
    # Written by another program: the user's own words as far as anyone can know, not yet looked at here.
    changed = datetime.fromtimestamp(stamp[1] / 1e9, UTC).isoformat(timespec="seconds")
    return Caption(
        text,
        IMPORTED if note is None else PERSON,
        changed,
        "needs review" if text else "empty",
        note is not None,
        utf8,
        True,
    )
