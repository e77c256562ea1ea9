"""What was typed into a cell or a field, stored together with what its writer had before their eyes.

A page shows captions without the leading trigger word and is told of changes late, sometimes twice. So here is decided
whether the words are already there, may be written, or would run over words that somebody else wrote meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from studio.captions import text as words
from studio.captions.store import CaptionStore
from studio.errors import BusyError, StudioError
from studio.findings import Finding


@dataclass(frozen=True)
class Clash:
    """Words that were not written, because the caption says something else than its writer saw.

    name: of the picture.   typed: the words, which nobody but the writer has.   now: what the caption says instead.
    """

    name: str
    typed: str
    now: str


@dataclass
class Outcome:
    """What came of some changes: the names written, the words that clashed, and findings for those refused."""

    changed: list[str] = field(default_factory=list)
    clashes: list[Clash] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)


def says(text: str, shown: str, trigger: str) -> bool:
    """Whether a caption is the one that was shown as `shown`, with or without its leading trigger word."""
    text, shown = words.clean(text), words.clean(shown)
    return shown in (text, words.without_trigger(text, trigger)) or (
        bool(shown) and text == words.with_trigger(shown, trigger)
    )


def write_typed(store: CaptionStore, name: str, typed: str, *seen: str) -> Clash | None:
    """Store what a person typed for one picture; None when it is on disk now, else what stood against it.

    typed: the words, with or without the trigger word; none take the caption away.
    seen:  what the writer saw before, in any of the forms that still may be on disk.
    Words that are there already are not written again, so that being told of a change twice does no harm.
    Raises NotFoundError when the picture is gone, InputError when the text is no caption, EnvironmentalError.
    """
    trigger = store.trigger
    now = store.get(name).text
    if says(now, typed, trigger) and bool(now) == bool(words.clean(typed)):
        return None
    if not any(says(now, text, trigger) for text in seen):
        return Clash(name, words.clean(typed), now)
    try:
        store.set(name, typed, expected=now)
    except BusyError:
        return Clash(name, words.clean(typed), store.get(name).text)
    return None


def write_all(store: CaptionStore, changes: Iterable[tuple[str, str, object, Iterable[object]]]) -> Outcome:
    """Store changes of a table, oldest first: (picture, `caption` or `approved`, value, values that were seen).

    Each change stands for itself: one that cannot be written is reported, and the others are.
    """
    done = Outcome()
    for name, what, value, seen in changes:
        try:
            if what == "caption":
                clash = write_typed(store, name, str(value or ""), *(str(s or "") for s in seen))
                if clash:
                    done.clashes.append(clash)
                else:
                    done.changed.append(name)
            elif what == "approved":
                store.approve([name]) if value else store.unapprove([name])
                done.changed.append(name)
        except StudioError as e:
            done.refused.append(_refused(e, name))
    return done


def _refused(error: StudioError, name: str) -> Finding:
    return Finding(
        severity="warn", code="caption-refused", what=error.what, why=error.why, fix=error.fix, where=(name,)
    )
