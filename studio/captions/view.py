"""The captions as a page or a list wants them: one row a picture, filtered; and the difference of two texts in pieces."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from studio.captions import text as words
from studio.captions.stats import token_count, token_limit
from studio.captions.store import IMPORTED, PERSON, CaptionStore
from studio.dataset.folder import caption_path
from studio.models import get_model

if TYPE_CHECKING:
    from pathlib import Path

    from studio.project import Project

Show = Literal["all", "none", "review", "approved", "no-trigger", "too-long"]
SHOWN: dict[Show, str] = {
    "all": "All",
    "none": "No caption",
    "review": "Needs review",
    "approved": "Approved",
    "no-trigger": "Trigger word not first",
    "too-long": "Too long",
}
"""Every filter by status with its name in the app."""

AUTHORS = {PERSON: "by you", IMPORTED: "came with the picture"}


@dataclass(frozen=True)
class Row:
    """One picture with its caption.

    status: empty, needs review or approved.   tokens: how many tokens the base model counts; None when its tokenizer
    is not here.   too_long: more tokens than the base model reads.   leads: the trigger word is in front.
    """

    name: str
    picture: Path
    text: str
    status: str
    author: str
    outside: bool
    tokens: int | None
    too_long: bool
    leads: bool

    @property
    def author_words(self) -> str:
        """Who wrote it, in words; empty when nobody did."""
        return AUTHORS.get(self.author, f"by {self.author}") if self.text else ""


@dataclass(frozen=True)
class Rows:
    """All rows of a project in name order. limit: tokens that the base model reads; None when it is not known."""

    every: tuple[Row, ...]
    trigger: str
    limit: int | None

    def count(self, show: Show) -> int:
        """How many rows a filter keeps."""
        return sum(_kept(r, show) for r in self.every)

    def filtered(self, show: Show = "all", query: str = "", tags: Iterable[str] = ()) -> list[Row]:
        """Rows that fit a status, hold `query` in caption or name, and hold every one of `tags`; case is ignored."""
        wanted, query = {t.casefold() for t in tags}, query.casefold().strip()
        return [
            r for r in self.every
            if _kept(r, show)
            and (not query or query in r.text.casefold() or query in r.name.casefold())
            and wanted <= {t.casefold() for t in words.tags(words.without_trigger(r.text, self.trigger))}
        ]  # fmt: skip


def _kept(row: Row, show: Show) -> bool:
    return {
        "all": True,
        "none": not row.text,
        "review": row.status == "needs review",
        "approved": row.status == "approved",
        "no-trigger": bool(row.text) and not row.leads,
        "too-long": row.too_long,
    }[show]


def caption_rows(project: Project) -> Rows:
    """One row for each picture of the dataset."""
    store = CaptionStore(project)
    entry = get_model(project.workspace, project.intent.base_model)
    limit = token_limit(entry, project.workspace)
    found = []
    for name, caption in store.all().items():
        count = token_count(caption.text, entry, project.workspace) if caption.text else None
        found.append(
            Row(
                name, project.dataset_dir / name, caption.text, caption.status, caption.author, caption.outside, count,
                count is not None and limit is not None and count > limit, words.leads(caption.text, store.trigger),
            )
        )  # fmt: skip
    return Rows(tuple(found), store.trigger, limit)


def caption_file(project: Project, name: str) -> str:
    """Name of the `.txt` that holds a picture's caption."""
    return caption_path(project.dataset_dir, name).name


def difference(before: str, after: str) -> list[tuple[Literal["same", "gone", "new"], str]]:
    """The two texts in pieces of whole words: what stayed, what goes, what comes; in reading order."""
    a, b = (re.findall(r"\s+|[^\s,]+|,", t) for t in (before, after))
    pieces: list[tuple[Literal["same", "gone", "new"], str]] = []
    for kind, i, j, k, m in difflib.SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        if kind == "equal":
            pieces.append(("same", "".join(a[i:j])))
            continue
        if j > i:
            pieces.append(("gone", "".join(a[i:j])))
        if m > k:
            pieces.append(("new", "".join(b[k:m])))
    return pieces
