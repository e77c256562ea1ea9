"""Bulk edits of captions: described as data, previewed as before and after, then applied as one undoable step.

`preview` is pure and shows exactly what `apply` will write. The trigger word in front is never part of what an edit
sees: it cannot be replaced, sorted away or removed.
"""

from __future__ import annotations

import re
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from studio.captions import text as words
from studio.captions.store import Caption, CaptionStore, EditResult, gone
from studio.captions.writing import must_be_a_caption
from studio.errors import InputError

EditKind = Literal[
    "replace",
    "prepend",
    "append",
    "remove_tag",
    "rename_tag",
    "dedupe",
    "sort",
    "underscores",
    "spaces",
]

EDITS: dict[EditKind, str] = {
    "replace": "Search and replace",
    "prepend": "Add in front, after the trigger word",
    "append": "Add at the end",
    "remove_tag": "Remove tags",
    "rename_tag": "Rename or merge tags",
    "dedupe": "Remove repeated tags",
    "sort": "Sort tags",
    "underscores": "Replace underscores by spaces",
    "spaces": "Replace spaces in tags by underscores",
}
"""Every edit with its name in the app."""

PATIENCE_S = 5.0
"""Seconds of computing that a regular expression may take over all captions."""

MECHANICAL: frozenset[EditKind] = frozenset({"dedupe", "sort", "underscores", "spaces"})
"""Edits that change no word."""

# Emoticons among booru tags, whose underscore is a face (list of the WD taggers).
KAOMOJI = frozenset(
    [
        "0_0",
        "(o)_(o)",
        "+_+",
        "+_-",
        "._.",
        "<o>_<o>",
        "<|>_<|>",
        "=_=",
        ">_<",
        "3_3",
        "6_9",
        ">_o",
        "@_@",
        "^_^",
        "o_o",
        "u_u",
        "x_x",
        "|_|",
        "||_||",
    ]
)


class Edit(BaseModel):
    """One bulk edit.

    kind:   which, see EDITS.
    find:   replace: the text or pattern; remove_tag, rename_tag: tags, separated by commas.
    text:   replace, rename_tag: the new words; prepend, append: the tags or words to add.
    regex:  replace: `find` is a regular expression, and `text` may use \\1 and the like.
    match_case: replace: upper and lower case differ.
    whole_word: replace: only whole words.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: EditKind
    find: str = Field(default="", max_length=1000)
    text: str = Field(default="", max_length=5000)
    regex: bool = False
    match_case: bool = False
    whole_word: bool = False

    @property
    def words(self) -> str:
        """The edit in words, as the history shows it."""
        if self.kind == "replace":
            return f"'{self.find}' replaced by '{self.text}'"
        if self.kind == "rename_tag":
            return f"tag {self.find} renamed to {self.text}"
        if self.kind == "remove_tag":
            return f"tag {self.find} removed"
        if self.kind in ("prepend", "append"):
            return f"'{self.text}' added {'in front' if self.kind == 'prepend' else 'at the end'}"
        return {
            "dedupe": "repeated tags removed",
            "sort": "tags sorted",
            "underscores": "underscores replaced by spaces",
            "spaces": "spaces in tags replaced by underscores",
        }[self.kind]


@dataclass(frozen=True)
class Change:
    """What an edit does to one caption.

    mechanical: the words stay the same, only tidied (sorted, repeated ones left out, underscores), so that whoever
                wrote them still did.
    """

    name: str
    before: str
    after: str
    mechanical: bool = False


def preview(
    captions: Mapping[str, Caption] | Mapping[str, str], edit: Edit, trigger: str = ""
) -> list[Change]:
    """The captions that `edit` would change, in the order given; nothing is written. Empty captions stay empty.

    Raises InputError when the edit lacks its text, its pattern is no regular expression or takes too long, or a caption
    would become longer than captions may be.
    """
    change = _changer(edit)
    found = []
    for name, caption in captions.items():
        before = caption if isinstance(caption, str) else caption.text
        rest = words.without_trigger(before, trigger)
        if not before or (not rest and edit.kind not in ("prepend", "append")):
            continue
        new = change(rest)
        if new != rest:
            front = before[: len(before) - len(rest)] if rest and new else f"{trigger}, " if trigger else ""
            after = words.with_trigger(front + new if new else trigger, trigger)
            if after != before:
                must_be_a_caption(
                    name, after
                )  # here already: thousands of them would not fit in memory either
                found.append(Change(name, before, after, edit.kind in MECHANICAL))
    return found


def apply(store: CaptionStore, changes: Sequence[Change], what: str = "") -> EditResult:
    """Write previewed changes as one step of the history. Captions that changed since the preview, or whose picture is
    gone, are left alone and named in `skipped`. Corrected captions count as a person's; their status stays."""
    there = [c for c in changes if (store.folder / c.name).is_file()]
    result = store.correct(
        {c.name: c.after for c in there},
        what=what or f"{len(there)} captions edited",
        expected={c.name: c.before for c in there},
        mechanical=frozenset(c.name for c in there if c.mechanical),
    )
    known = {c.name for c in there}
    missing = tuple(gone(c.name) for c in changes if c.name not in known)
    return replace(result, skipped=missing + result.skipped)


def _changer(edit: Edit) -> words.Change:
    need = {
        "replace": edit.find,
        "remove_tag": edit.find,
        "rename_tag": edit.find,
        "prepend": edit.text,
        "append": edit.text,
    }
    if not need.get(edit.kind, "-").strip(" ," if edit.kind != "replace" else ""):
        raise InputError(
            f"'{EDITS[edit.kind]}' needs a text.",
            "With nothing to look for or to add it would change nothing.",
            "Type the words, then look at the preview.",
        )
    if edit.kind == "rename_tag" and not edit.text.strip(" ,"):
        raise InputError(
            "The new name of the tag is empty.",
            "Renaming to nothing would remove it.",
            "Type the new name, or use 'Remove tags'.",
        )
    if edit.kind == "replace":
        return _replacer(edit)
    if edit.kind == "prepend":
        return lambda rest: _joined(words.clean(edit.text).rstrip(" ,"), rest)
    if edit.kind == "append":
        return lambda rest: _joined(rest.rstrip(" ,"), words.clean(edit.text).lstrip(" ,"))
    return _retagger(edit)


def _retagger(edit: Edit) -> words.Change:
    """An edit of tags, line by line, so that captions of several lines keep them."""
    wanted = {t.casefold() for t in words.tags(edit.find)}
    new = words.clean(edit.text).strip(" ,")

    def change(tags: list[str], seen: set[str]) -> list[str]:
        if edit.kind == "remove_tag":
            return [t for t in tags if t.casefold() not in wanted]
        if edit.kind == "rename_tag":
            if not any(t.casefold() in wanted for t in tags):
                return tags
            return _once([new if t.casefold() in wanted else t for t in tags], set())
        if edit.kind == "dedupe":
            return _once(tags, seen)
        if edit.kind == "sort":
            return sorted(tags, key=str.casefold)
        if edit.kind == "spaces":
            return [re.sub(r"\s+", "_", t) for t in tags]
        return [t if t.casefold() in KAOMOJI else t.replace("_", " ") for t in tags]

    def retag(rest: str) -> str:
        seen: set[str] = set()
        lines = []
        for line in rest.split("\n"):
            tags = [p for p in (p.strip() for p in line.split(",")) if p]
            changed = change(tags, seen)
            if changed == tags:
                lines.append(line)
            elif changed:
                lines.append(", ".join(changed))
        return "\n".join(lines)

    return retag


def _replacer(edit: Edit) -> words.Change:
    pattern = edit.find if edit.regex else re.escape(edit.find)
    if edit.whole_word:
        pattern = rf"(?<!\w)(?:{pattern})(?!\w)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what a later Python may read otherwise
            checked = re.compile(pattern, 0 if edit.match_case else re.IGNORECASE)
        replacement = edit.text if edit.regex else edit.text.replace("\\", r"\\")
        if edit.regex:  # a bad reference such as \9 would show itself only at the first match
            re._parser.parse_template(replacement, checked)  # type: ignore[attr-defined]
    except (re.error, IndexError, RecursionError, OverflowError) as e:
        raise InputError(
            "The search pattern is not a regular expression.",
            _why(e),
            "Mend the pattern, or turn 'regular expression' off to search for the text itself.",
        ) from e
    if not edit.regex:
        return lambda rest: _tidy(checked.sub(replacement, rest), rest)
    return _patient(pattern, 0 if edit.match_case else re.IGNORECASE, replacement)


def _why(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "Its brackets lie too deep within each other."
    return f"{str(error).capitalize()}."


def _patient(pattern: str, flags: int, replacement: str) -> words.Change:
    """A replacement that gives up after PATIENCE_S for all captions together: some patterns never end."""
    import regex  # type: ignore[import-untyped]

    try:
        compiled = regex.compile(pattern, flags)
    except (regex.error, RecursionError, OverflowError) as e:
        raise InputError("The search pattern cannot be used here.", _why(e), "Write it more simply.") from e
    left = [PATIENCE_S]

    def change(rest: str) -> str:
        begin = time.monotonic()
        try:
            # concurrent: other pages go on while a pattern is tried
            new = compiled.sub(replacement, rest, timeout=max(left[0], 0.001), concurrent=True)
        except TimeoutError as e:
            raise InputError(
                "The search pattern takes too long.",
                f"After {PATIENCE_S:g} seconds it was still trying; repeats within repeats, such as (a+)+, do that.",
                "Write the pattern without a repeat inside a repeat.",
            ) from e
        left[0] -= time.monotonic() - begin
        return _tidy(str(new), rest)

    return change


def _tidy(new: str, old: str) -> str:
    """After a replacement that emptied a tag: no doubled commas or spaces that were not there before."""
    if new == old:
        return old
    new = re.sub(r"(?:[^\S\n]*,)+(?=[^\S\n]*,)", "", new)
    return re.sub(r"[^\S\n]{2,}", " ", new).strip(" ,")


def _joined(a: str, b: str) -> str:
    return f"{a}, {b}" if a and b else a or b


def _once(tags: list[str], seen: set[str]) -> list[str]:
    """The tags without those seen before; `seen` grows."""
    kept = []
    for tag in tags:
        if tag.casefold() not in seen:
            seen.add(tag.casefold())
            kept.append(tag)
    return kept
