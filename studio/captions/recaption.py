"""Captioning again: which captions an engine may write, and which it leaves alone.

An engine never replaces a person's words or corrections, nor the text of another program. The store asks here at every
write, and a page asks before the click, so that what is shown is what happens.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from studio import files
from studio.captions import text as words
from studio.captions.caption import IMPORTED, PERSON, Caption
from studio.errors import InputError

if TYPE_CHECKING:
    from studio.captions.reading import CaptionReader

Mode = Literal["only-empty", "append", "replace"]
MODES: dict[Mode, str] = {
    "only-empty": "Only where there is no caption",
    "append": "Add behind what is there",
    "replace": "Write engines' captions anew",
}
"""How an engine treats captions that are there, with its name in the app."""

Also = Literal["imported", "approved"]
"""What `replace` may replace beside an engine's unread words: captions that came along with the pictures, and an
engine's captions that a person approved. Never a person's own words."""

Verdict = Literal["write", "keep", "there"]


@dataclass(frozen=True)
class RecaptionPlan:
    """What captioning would do, by picture name.

    write:  will be written.
    kept:   stay as they are: a person wrote, corrected or approved them, or they came along with the picture.
    there:  an engine's words are there already, and this way of captioning leaves them.
    imported / approved: those among `kept` that `also` would open for replacing.
    """

    write: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    there: tuple[str, ...] = ()
    imported: tuple[str, ...] = ()
    approved: tuple[str, ...] = ()

    @property
    def counts(self) -> dict[str, int]:
        """The three counts, for a page and for `--json`."""
        return {"write": len(self.write), "kept": len(self.kept), "there": len(self.there)}

    @property
    def words(self) -> str:
        """The three counts in one sentence."""
        return (
            f"{len(self.write)} will be written, {len(self.kept)} stay because a person wrote or chose them, "
            f"{len(self.there)} are there already."
        )


def made_with(settings: Mapping[str, Any]) -> str:
    """The key of an engine's settings: equal settings give equal keys."""
    return files.fingerprint(dict(settings))[:12]


def verdict(
    caption: Caption, mode: Mode, engine: str, key: str, trigger: str, also: Collection[Also] = ()
) -> Verdict:
    """Whether `engine`, with the settings of `key` (empty: not known yet), may write over `caption`."""
    bare = not words.without_trigger(caption.text, trigger)
    if not caption.text or (bare and caption.author != PERSON):
        return "write"  # the trigger word alone is put back in front anyway: no word is lost
    if caption.by_machine and caption.author == engine and key and caption.made_with == key:
        return "there"  # a job that goes on where it was stopped
    if mode == "append":
        return "write"
    if mode == "only-empty":
        return "there" if caption.by_machine else "keep"
    if caption.by_machine:
        return "keep" if caption.status == "approved" and "approved" not in also else "write"
    if caption.author == IMPORTED and not caption.outside and "imported" in also:
        return "write"
    return "keep"


def plan_recaption(
    store: CaptionReader,
    names: Iterable[str],
    mode: Mode,
    engine: str,
    settings: Mapping[str, Any] | None = None,
    also: Collection[Also] = (),
) -> RecaptionPlan:
    """What `store.write_machine` would do with these pictures now. Writes nothing; pictures that are gone are left out.

    settings: of the engine, when they are decided already; captions that it wrote with exactly these are then there.
    Raises InputError for an unknown mode or engine name.
    """
    check(mode, engine, also)
    every, trigger = store.all(), store.trigger
    key = made_with(settings) if settings is not None else ""
    found: dict[Verdict, list[str]] = {"write": [], "keep": [], "there": []}
    for name in names:
        if name in every:
            found[verdict(every[name], mode, engine, key, trigger, also)].append(name)
    kept = found["keep"]
    return RecaptionPlan(
        tuple(found["write"]),
        tuple(kept),
        tuple(found["there"]),
        tuple(n for n in kept if every[n].author == IMPORTED and not every[n].outside),
        tuple(n for n in kept if every[n].by_machine),
    )


def check(mode: str, engine: str, also: Collection[str] = ()) -> None:
    """Raise InputError for a mode or a name of an engine that cannot be."""
    if mode not in MODES:
        raise InputError(
            f"'{mode}' is no way of captioning.",
            "The studio must know what to do with captions that are there.",
            f"Use one of: {', '.join(MODES)}.",
        )
    if engine in (PERSON, IMPORTED) or not re.fullmatch(r"\S(?:.{0,98}\S)?", engine):
        raise InputError(
            f"'{engine}' is no name for an engine.",
            "Each caption keeps the name of what wrote it, and a person's words are told apart by it.",
            "Use the engine's own id, such as wd-vit-tagger-v3.",
        )
    if not set(also) <= {"imported", "approved"}:
        raise InputError(
            f"'{', '.join(sorted(set(also) - {'imported', 'approved'}))}' cannot be replaced by an engine.",
            "A person's words are never replaced.",
            "Use imported, approved or both.",
        )


def combined(before: str, new: str, mode: Mode, trigger: str) -> str:
    """The caption after an engine said `new`; with `append` every word of `before` stays, and nothing is said twice."""
    new = words.without_trigger(words.clean(new), trigger)
    if mode != "append" or not before:
        return new
    if words.looks_like_tags(new):
        have, sentence = {_same(t) for t in words.tags(before)}, _same(before)
        listed = words.looks_like_tags(before)
        fresh = []
        for tag in words.tags(new):
            said = not listed and re.search(rf"(?<!\w){re.escape(_same(tag))}(?!\w)", sentence)
            if _same(tag) not in have and not said:
                have.add(_same(tag))
                fresh.append(tag)
        new = ", ".join(fresh)
    elif new.casefold() in before.casefold():
        new = ""
    if not new:
        return before
    if before.rstrip()[-1:] in ".!?":
        return f"{before.rstrip()} {new}"
    return f"{before.rstrip(' ,')}, {new}"


def _same(tag: str) -> str:
    """Under this key two spellings of one tag are equal."""
    return tag.casefold().replace("_", " ").strip(" .")
