"""The dataset report: gate 1 in words, as Markdown."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from studio import files
from studio.captions.audit import COMMON, FUSED
from studio.captions.stats import tag_counts, term_shares
from studio.captions.store import CaptionStore
from studio.dataset.gate import dataset_findings
from studio.dataset.scan import scan
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


def dataset_report(project: Project) -> str:
    """The report of the dataset as it is now: summary, diversity, content-style balance, issues, decision.

    Says of everything that it did not measure that it did not.
    """
    intent = project.intent
    entry = get_model(project.workspace, intent.base_model)
    found, facts = dataset_findings(project, entry)
    seen = scan(project)
    captions = CaptionStore(project).all()
    blocked = blocking(found)
    total, captioned = facts["pictures"], facts["captioned"]
    size = " x ".join(map(str, facts["average_size"])) if facts["average_size"] else "none readable"
    lines = [
        f"# Dataset report: {intent.name}",
        "",
        f"Written {files.now()}. Trigger word `{intent.trigger}`, {KINDS[intent.kind]['title'].lower()}, for {entry.title}.",
        "",
        "## Summary",
        f"- Pictures: {total} ({files.human_size(facts['bytes'])})",
        f"- Captioned: {captioned} of {total} ({round(100 * captioned / total) if total else 0} %); approved: {facts['approved']}",
        f"- Average size: {size}; base model: {entry.resolution} x {entry.resolution}",
        f"- Duplicates: {facts['exact_duplicates']} exact, {facts['near_duplicates']} near; set aside so far: {facts['set_aside']}",
        f"- Noticed: {summary(found)}",
        "",
        "## Diversity",
        *_diversity(seen, {n: c.text for n, c in captions.items()}, intent.trigger, facts["buckets"]),
        "",
        "## Content and style",
        *_balance([c.text for c in captions.values() if c.text], intent.trigger, intent.kind),
        "",
        "## Quality",
        *([_line(f) for f in found] or ["- Nothing found."]),
        "",
        f"## Decision: {'NO-GO' if blocked else 'GO'}",
    ]
    if blocked:
        lines += [
            f"{len(blocked)} thing{'s' if len(blocked) != 1 else ''} would waste the training.",
            "",
            "### What to do",
        ]
        lines += [f"{i}. {f.what} {f.fix}" for i, f in enumerate(blocked, 1)]
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
        lines.append(
            "- Not measured: whether poses, angles and light vary, and whether the captions are true to the pictures."
        )
    return "\n".join(lines) + "\n"


def _line(f: Finding) -> str:
    word = {"block": "**Blocks**", "warn": "Look at", "info": "Note"}[f.severity]
    return f"- {word}: {f.what} {f.why} {f.fix}".rstrip() + (
        f" ({', '.join(f.where[:8])}{' ...' if len(f.where) > 8 else ''})" if f.where else ""
    )


def _diversity(seen: Scan, captions: dict[str, str], trigger: str, buckets: list[list[int]]) -> list[str]:
    ok = seen.readable
    if not ok:
        return ["- No picture could be read."]
    lines = []
    if len(ok) >= 2:
        bits = np.array(
            [[p.phash >> (64 * i) & (2**64 - 1) for i in range(4)] for p in ok[:2000]], dtype=np.uint64
        )
        nearest = []
        for i in range(len(bits)):
            away = np.bitwise_count(bits ^ bits[i]).sum(axis=1)
            away[i] = 256
            nearest.append(int(away.min()))
        alone = float(np.median(nearest)) / 128  # unrelated pictures differ in about half of the 256 bits
        words = (
            "very different from each other"
            if alone > 0.8
            else "fairly different"
            if alone > 0.6
            else "much alike"
        )
        lines.append(
            f"- By shape and layout the pictures are {words}: a picture's nearest neighbour is typically {min(alone, 1):.0%} as far away "
            "as an unrelated one."
        )
    subjects = tag_counts(captions, trigger)
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
        f"- Shapes: {', '.join(f'{n} {s}' for s, n in shapes.most_common())}; {len(buckets)} bucket{'s' if len(buckets) != 1 else ''}."
    )
    return lines


def _balance(texts: list[str], trigger: str, kind: str) -> list[str]:
    if not texts:
        return ["- Without captions nothing can be said."]
    shares = term_shares(texts, trigger)
    fused = [f"{t} ({s:.0%})" for t, s in shares.items() if s >= FUSED]
    common = [f"{t} ({s:.0%})" for t, s in shares.items() if COMMON <= s < FUSED]
    lines = []
    if fused:
        lines.append(f"- In nearly every caption, so fused with the trigger word: {', '.join(fused[:10])}.")
    if common:
        lines.append(f"- In most captions: {', '.join(common[:10])}.")
    if not fused and not common:
        lines.append(
            "- No word is shared by most captions: what they name stays separate from "
            + ("the style." if kind == "style" else "what you teach.")
        )
    lines.append(
        "- Judged by the captions only; what the captions leave out is learned as part of the trigger word."
    )
    return lines
