"""What a set of captions comes to, in figures and findings: for `captions stats` and for reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from studio.captions.advice import format_findings, kinds_of
from studio.captions.audit import term_findings
from studio.captions.reading import Caption
from studio.captions.stats import tag_counts
from studio.captions.tokens import readers, too_long
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.models import BaseModelEntry
    from studio.workspace import Workspace


@dataclass(frozen=True)
class Summary:
    """pictures, captioned: how many, and how many of them with a caption.
    status, authors: how many captions of each; authors in words.   tags: different ones.
    tokens: fewest, median and most; None when they cannot be counted.   reader, limit: which encoder, and what it reads.
    too_long: tokens of those whose end is not read, by picture; None when they cannot be counted.
    as_tags, as_sentences: how many look like the one or the other.
    """

    pictures: int
    captioned: int
    status: dict[str, int]
    authors: dict[str, int]
    tags: int
    tokens: tuple[int, int, int] | None
    reader: str
    limit: int
    too_long: dict[str, int] | None
    as_tags: int
    as_sentences: int
    findings: list[Finding] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        return {**vars(self), "findings": [f.model_dump(mode="json") for f in self.findings]}


def overview_of(
    captions: Mapping[str, Caption], entry: BaseModelEntry, workspace: Workspace, trigger: str, kind: str
) -> Summary:
    """Count a set of captions. kind: of the project, for the wording of what is fused with the trigger word."""
    texts = {n: c.text for n, c in captions.items() if c.text}
    reader = readers(entry, workspace)[0]
    counts = sorted(reader.counts(texts.values()) or ())
    shapes = kinds_of(texts.values(), trigger)
    return Summary(
        len(captions),
        len(texts),
        dict(Counter(c.status for c in captions.values()).most_common()),
        dict(Counter(c.by for c in captions.values() if c.text).most_common()),
        len(tag_counts(texts, trigger)),
        (counts[0], counts[len(counts) // 2], counts[-1]) if counts else None,
        reader.name,
        reader.limit,
        too_long(texts, entry, workspace),
        shapes["tags"],
        shapes["sentences"],
        [*term_findings(texts, trigger, kind), *format_findings(texts, trigger, entry)],
    )
