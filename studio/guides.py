"""Guides and glossary: what the app can explain, found by words.

Guides are Markdown files in `data/guides/` with a YAML head that names their sources; the glossary joins the words of
`glossary.yaml` with the settings, which explain themselves in `studio.settings`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from studio import files
from studio.errors import NotFoundError
from studio.settings import knobs
from studio.workspace import shipped

SourceKind = Literal[
    "paper", "experiment", "documentation", "code", "report", "measured", "calculated", "folklore"
]

# How far a source can be trusted, in words, the strongest first.
SOURCE_WORDS: dict[str, str] = {
    "paper": "paper",
    "experiment": "published experiment, small",
    "code": "read in the program's source",
    "measured": "measured by us",
    "calculated": "calculated",
    "documentation": "documentation",
    "report": "reports by users and maintainers",
    "folklore": "folklore: repeated, not tested",
}

GROUPS = ("Start here", "Pictures and captions", "Settings", "Running", "Judging")


class Source(BaseModel):
    """Where a statement comes from. kind: how far it can be trusted; what: enough to find it again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: SourceKind
    what: str


class Guide(BaseModel):
    """One guide.

    id:       its file name without the ending.
    group:    one of GROUPS; order: its place among all guides.
    summary:  one sentence.
    settings: names of the settings that it explains.
    see:      ids of guides to read next.
    sources:  numbered from 1 as `[1]` in the text.
    body:     Markdown without a title.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    summary: str
    group: str
    order: int
    settings: tuple[str, ...] = ()
    see: tuple[str, ...] = ()
    sources: tuple[Source, ...] = Field(min_length=1)
    body: str

    @property
    def minutes(self) -> int:
        """Minutes to read it, at 200 words a minute, at least 1."""
        return max(1, round(len(self.body.split()) / 200))

    @property
    def sections(self) -> list[tuple[str, str]]:
        """(heading, text) pairs; the text before the first heading has the heading ""."""
        parts = re.split(r"^## +(.+)$", self.body, flags=re.M)
        pairs = [("", parts[0].strip())]
        pairs += [(parts[i].strip(), parts[i + 1].strip()) for i in range(1, len(parts), 2)]
        return [p for p in pairs if p[0] or p[1]]


@dataclass(frozen=True)
class Term:
    """A glossary entry. setting: the name of the settings field it explains, else ""; range_words: its limits in words."""

    term: str
    means: str
    setting: str = ""
    range_words: str = ""


@dataclass(frozen=True)
class Hit:
    """A search result. kind: guide or term; id: of the guide, or the term itself; excerpt: plain words around the find."""

    kind: Literal["guide", "term"]
    id: str
    title: str
    heading: str
    excerpt: str
    score: int


def read_guide(path: Path) -> Guide:
    """A guide file. Raises ValueError naming the file when its head is missing or wrong."""
    text = path.read_text(encoding="utf-8")
    found = re.match(r"\A---\n(.*?)\n---\n(.*)\Z", text, flags=re.S)
    if found is None:
        raise ValueError(f"{path.name} has no head between two lines of ---")
    return Guide.model_validate({"id": path.stem, "body": found[2].strip(), **yaml.safe_load(found[1])})


@lru_cache(maxsize=1)
def _all() -> tuple[Guide, ...]:
    return tuple(
        sorted((read_guide(p) for p in shipped("data", "guides").glob("*.md")), key=lambda g: g.order)
    )


def list_guides(group: str | None = None) -> list[Guide]:
    """The guides in reading order, of one group when given."""
    return [g for g in _all() if group is None or g.group == group]


def get_guide(guide_id: str) -> Guide:
    """The guide of an id. Raises NotFoundError naming those that exist."""
    for g in _all():
        if g.id == guide_id:
            return g
    raise NotFoundError(
        f"There is no guide called '{guide_id}'.",
        "The studio does not come with it.",
        f"Use one of: {', '.join(g.id for g in _all())}.",
    )


def guides_for(setting: str) -> list[Guide]:
    """Guides that explain a setting, in reading order."""
    return [g for g in _all() if setting in g.settings]


def guide_about(settings: Iterable[str]) -> Guide | None:
    """The guide that explains most of some settings, such as those of a group; the first in reading order of several."""
    wanted = set(settings)
    best = max(_all(), key=lambda g: len(wanted & set(g.settings)), default=None)
    return best if best is not None and wanted & set(best.settings) else None


class _Word(BaseModel):
    model_config = ConfigDict(extra="forbid")
    term: str
    means: str


@lru_cache(maxsize=1)
def _terms() -> tuple[Term, ...]:
    words = TypeAdapter(list[_Word]).validate_python(
        files.read_yaml(shipped("data", "guides", "glossary.yaml"))
    )
    found = [Term(w.term, w.means) for w in words]
    found += [Term(k.title, k.help, k.name, k.range_words) for k in knobs().values()]
    return tuple(sorted(found, key=lambda t: t.term.lower()))


def glossary() -> list[Term]:
    """All words with their meaning, in the order of the alphabet."""
    return list(_terms())


def plain(markdown: str) -> str:
    """Markdown as running text: marks, tables and references taken out."""
    text = re.sub(r"```.*?```", " ", markdown, flags=re.S)
    text = re.sub(r"^\|.*\|\n\|[-| :]+\|$", " ", text, flags=re.M)  # heads of tables
    text = re.sub(r"^\| *(.*?) *\|$", lambda row: f"{row[1].replace(' | ', ' · ')}. ", text, flags=re.M)
    text = re.sub(r"\[\d+(?:, \d+)*\]", "", text)
    text = re.sub(r"\[([^\]]+)\]\([^)]+\)", r"\1", text)
    text = re.sub(r"[*`#|>]|^\d+\. |^- ", " ", text, flags=re.M)
    return re.sub(r"\s+([.,;:])", r"\1", re.sub(r"\s+", " ", text)).strip()


def _words(query: str) -> list[str]:
    return [w for w in re.findall(r"[\w.+-]+", query.lower()) if len(w) > 1]


def _excerpt(text: str, wanted: Iterable[str], width: int = 160) -> str:
    low = text.lower()
    places = [low.find(w) for w in wanted if w in low]
    start = max(0, min(places, default=0) - width // 3)
    if start:
        start = text.find(" ", start) + 1
    cut = text[start : start + width].rsplit(" ", 1)[0] if len(text) > start + width else text[start:]
    return ("… " if start else "") + cut + (" …" if start + width < len(text) else "")


def search(query: str, limit: int = 20) -> list[Hit]:
    """Guides' sections and glossary terms that hold every word of `query`, the best first.

    Titles count most, then headings, then text; words match their beginnings, so "caption" finds "captions".
    An empty query finds nothing.
    """
    wanted = _words(query)
    if not wanted:
        return []
    hits: list[Hit] = []
    for g in _all():
        best: Hit | None = None
        for heading, text in g.sections:
            body = plain(text)
            whole = f"{g.title} {heading} {g.summary} {body}".lower()
            if not all(re.search(rf"(?<!\w){re.escape(w)}", whole) for w in wanted):
                continue
            score = sum(
                8 * (w in g.title.lower())
                + 5 * (w in heading.lower())
                + 2 * (w in g.summary.lower())
                + min(3, body.lower().count(w))
                for w in wanted
            )
            if best is None or score > best.score:
                best = Hit("guide", g.id, g.title, heading, _excerpt(body, wanted), score)
        if best:
            hits.append(best)
    for t in _terms():
        name, whole = t.term.lower(), f"{t.term} {t.setting} {t.means}".lower()
        if all(re.search(rf"(?<![^\W_]){re.escape(w)}", whole) for w in wanted):
            score = sum(20 * (w == name) + 9 * (w in name) + 1 for w in wanted)
            hits.append(Hit("term", t.term, t.term, "", t.means, score))
    return sorted(hits, key=lambda h: -h.score)[:limit]
