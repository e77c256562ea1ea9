"""The dataset report: gate 1 in words, as Markdown."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from studio import files
from studio.captions.stats import tag_counts
from studio.dataset.balance import balance
from studio.dataset.clusters import clusters
from studio.dataset.curation import curated, recommend
from studio.dataset.gate import dataset_findings
from studio.dataset.scan import scan
from studio.dataset.set_aside import set_aside_list
from studio.dataset.unmeasured import unmeasured
from studio.findings import Finding, blocking, summary
from studio.models import get_model
from studio.project import KINDS

if TYPE_CHECKING:
    from studio.dataset.scan import Scan
    from studio.project import Project

_GOOD_FOR = {
    "character": "one recognisable character in new scenes, as far as the pictures show it from enough sides",
    "style": "this way of drawing, applied to subjects like the ones in the pictures",
    "object": "one recognisable thing in new places",
}


_BASIS = {"layout": "their layout only", "content": "what they show"}
MOST_COMPARED = 3000
"""Pictures up to which every one is compared with every other for the report."""

Link = Callable[[Finding], str]
"""The address at which a finding can be mended; empty when there is none."""


def dataset_report(project: Project, link: Link | None = None) -> str:
    """The report of the dataset as it is now: summary, diversity, content-style balance, quality, decision.

    Says of everything that it did not measure that it did not. link: makes the fixes links; without it they name the
    command that does the same.
    """
    intent = project.intent
    entry = get_model(project.workspace, intent.base_model)
    found, facts = dataset_findings(project, entry)
    seen = scan(project)
    blocked = blocking(found)
    total, captioned = facts["pictures"], facts["captioned"]
    size = " x ".join(map(str, facts["average_size"])) if facts["average_size"] else "none readable"
    removed = sum("same picture as" in s.reason for s in set_aside_list(project))
    repeats = facts["repeats"]
    lines = [
        f"# Dataset report: {intent.name}",
        "",
        f"Written {files.now()}. Trigger word `{intent.trigger}`, {KINDS[intent.kind]['title'].lower()}, for {entry.title}.",
        "",
        "## Summary",
        f"- Pictures: {total} ({files.human_size(facts['bytes'])})"
        + (f", {facts['regularisation']} of them for regularisation" if facts.get("regularisation") else ""),
        f"- Captioned: {captioned} of {total} ({round(100 * captioned / total) if total else 0} %); approved: {facts['approved']}",
        f"- Average size: {size}; base model: {entry.resolution} x {entry.resolution}",
        f"- Duplicates: {facts['exact_duplicates']} exact, {facts['near_duplicates']} near"
        + (f" (removed: {removed})" if removed else "")
        + f"; set aside so far: {facts['set_aside']}",
        *([f"- Repeats of single pictures: {', '.join(map(str, repeats))}"] if repeats else []),
        f"- Noticed: {summary(found)}",
        "",
        "## Diversity",
        *_diversity(project, seen, intent.trigger, facts["buckets"]),
        "",
        "## Content and style",
        *_balance(project, seen),
        "",
        "## Quality",
        *([_line(f, link) for f in found] or ["- Nothing found."]),
        *[f"- Not checked: {f.what} {f.fix}".rstrip() for f in unmeasured(seen, entry)],
        "",
        f"## Decision: {'NO-GO' if blocked else 'GO'}",
    ]
    if blocked:
        lines += [
            f"{len(blocked)} thing{'s' if len(blocked) != 1 else ''} would waste the training.",
            "",
            "### What to do",
        ]
        lines += [f"{i}. {f.what} {f.fix}{_way(f, link)}" for i, f in enumerate(blocked, 1)]
    else:
        lines += [
            "Every picture opens, is captioned, starts with the trigger word and is there once.",
            "",
            f"This dataset can teach {_GOOD_FOR[intent.kind]}.",
            "",
            "### Known limits",
        ]
        limits = [f"- {f.what} {f.why}" for f in found if f.severity == "warn"]
        lines += limits or ["- None that were measured."]
        lines += [f"- Cannot be known from here: {t}" for t in balance(project, seen).cannot_know]
        lines.append(
            "- Not measured: whether poses, angles and light vary, and whether the captions are true to the pictures."
        )
    return "\n".join(lines) + "\n"


def _way(f: Finding, link: Link | None) -> str:
    """How to come to the fix: a link into the page, or the command that does the same."""
    address = link(f) if link is not None else ""
    if address:
        return f" [Show and mend]({address})"
    return f" (`lora-studio audit --fix {f.code}`)" if f.action and link is None else ""


def _line(f: Finding, link: Link | None) -> str:
    word = {"block": "**Blocks**", "warn": "Look at", "info": "Note"}[f.severity]
    names = [n for n in f.where if n not in f.what]
    told = f" ({', '.join(names[:8])}{' ...' if len(names) > 8 else ''})" if names else ""
    return f"- {word}: {f.what} {f.why} {f.fix}".rstrip() + told + _way(f, link)


def _diversity(project: Project, seen: Scan, trigger: str, buckets: list[list[int]]) -> list[str]:
    if not seen.readable:
        return ["- No picture could be read."]
    lines = []
    features = curated(project, seen)
    if len(features) > MOST_COMPARED:
        lines.append(f"- Variety is not measured beyond {MOST_COMPARED:,} pictures.")
    elif len(features) >= 2:
        found = recommend(project, seen)
        alike = [g for g in clusters(features) if len(g.names) > 1]
        lines.append(
            f"- As varied as {found.effective[0]:.0f} completely different pictures ({len(features)} are there), judged by {_BASIS[features.basis]}."
        )
        lines.append(
            f"- {len(alike)} cluster{'s' if len(alike) != 1 else ''} of pictures that show nearly the same"
            + (f", the largest of {len(alike[0].names)}." if alike else ".")
            + f" {len(found.kept)} pictures would represent the set to {found.coverage:.0%}."
        )
    return lines + seen.facts.once(
        "words and light", lambda: _words_and_light(seen, trigger, len(buckets)), trigger, len(buckets)
    )


def _words_and_light(seen: Scan, trigger: str, buckets: int) -> list[str]:
    """What the captions name, how bright the pictures are, and their shapes; kept while neither changes."""
    lines, ok = [], seen.readable
    subjects = tag_counts({p.name: p.caption for p in seen}, trigger)
    if subjects:
        lines.append(
            f"- {len(subjects)} different tags or phrases; most frequent: {', '.join(f'{t} ({n})' for t, n in subjects.most_common(6))}."
        )
    light = [p.light for p in ok]
    lines.append(
        f"- Brightness from {min(light):.0%} to {max(light):.0%}, on average {sum(light) / len(light):.0%}."
    )
    shapes = Counter(
        "wide" if p.width > 1.1 * p.height else "tall" if p.height > 1.1 * p.width else "square" for p in ok
    )
    lines.append(
        f"- Shapes: {', '.join(f'{n} {s}' for s, n in shapes.most_common())}; {buckets} bucket{'s' if buckets != 1 else ''}."
    )
    return lines


def _balance(project: Project, seen: Scan) -> list[str]:
    found = balance(project, seen)
    lines = [f"- {m.title}: {m.words}" for m in found.measures]
    for words, shares in (
        ("In nearly every caption, so fused with the trigger word", found.fused),
        ("In most captions", found.common),
    ):
        if shares:
            lines.append(f"- {words}: {', '.join(f'{t} ({s:.0%})' for t, s in list(shares.items())[:10])}.")
    return [
        *lines,
        "- What the captions leave out is learned as part of the trigger word.",
    ]
