"""What is wrong with the captions: a part of the dataset's audit."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from studio.captions.advice import Words, format_findings, spelling_findings
from studio.captions.filters import counter
from studio.captions.stats import shares_of
from studio.captions.store import Caption
from studio.captions.tally import tally
from studio.captions.tokens import readers
from studio.dataset.wording import about, quoted
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.models import BaseModelEntry
    from studio.project import Project

FUSED, COMMON, FUSED_FROM = 0.85, 0.60, 5
"""Share of captions from which a term counts as fused with the trigger, or as common, given so many captions."""


def caption_findings(
    captions: Mapping[str, Caption], trigger: str, orphans: list[str], without: Collection[str] = ()
) -> list[Finding]:
    """Missing and empty captions, the trigger word, lines, encoding, other programs, files without a picture.

    without: pictures that are left out."""
    with tally(captions, trigger, without) as told:
        missing, empty, absent, behind = (told.named(f) for f in ("missing", "empty", "absent", "behind"))
        lines, garbled, outside = (told.named(f) for f in ("lines", "garbled", "outside"))
    nothing = "A picture without words teaches the model that its content belongs to everything."
    return [
        *about("block", "caption-missing", missing, "{0} has no caption.", "{0} pictures have no caption.", nothing,
               "Describe it on the captions page, or use the trigger word alone.", "caption-trigger"),
        *about("block", "caption-empty", empty, "The caption of {0} is empty.", "{0} captions are empty.", nothing,
               "Describe it on the captions page, or use the trigger word alone.", "caption-trigger"),
        *about("block", "trigger-missing", absent, f"The caption of {{0}} lacks the trigger word {trigger}.",
               f"{{0}} captions lack the trigger word {trigger}.", "What you teach is tied to that word; without it, it is tied to nothing.",
               "Add the trigger word in front.", "add-trigger"),
        *about("block", "trigger-not-first", behind, f"The caption of {{0}} does not start with {trigger}.",
               f"{{0}} captions do not start with {trigger}.", "The first words count most, and shuffling keeps only the front in place.",
               "Move the trigger word to the front.", "add-trigger"),
        *about("warn", "caption-lines", lines, "The caption of {0} has more than one line.", "{0} captions have more than one line.",
               "Trainers read the first line only.", "Join the lines.", "join-lines"),
        *about("warn", "caption-encoding", garbled, "The caption of {0} is not plain UTF-8 text.", "{0} captions are not plain UTF-8 text.",
               "Trainers stop at it, or read wrong letters.", "Save as UTF-8; no word changes.", "to-utf8"),
        *about("info", "caption-outside", outside, "Another program changed the caption of {0}.", "Another program changed {0} captions.",
               "The studio leaves them as they are.", "Look at them on the captions page and approve.", "approve"),
        *about("info", "caption-orphan", orphans, "{0} belongs to no picture.", "{0} caption files belong to no picture.",
               "They are not used.", "Restore or import their pictures, or delete the files."),
    ]  # fmt: skip


def term_findings(captions: Words, trigger: str, kind: str, without: Collection[str] = ()) -> list[Finding]:
    """Terms that nearly every caption shares: the model cannot tell them from what the trigger means.

    kind: of the project.   without: pictures that are left out."""
    with tally(captions, trigger, without) as told:
        written, bare = told.written, told.named("bare")
        shares = shares_of(told.terms, written, COMMON) if written >= FUSED_FROM else {}
    found = []
    if written >= FUSED_FROM and len(bare) > written / 2:
        found += about(
            "warn" if kind == "style" else "info",
            "trigger-only",
            bare,
            "{0} has only the trigger word as its caption.",
            "{0} captions say only the trigger word.",
            "Then what each picture shows is learned as part of "
            + ("the style." if kind == "style" else "it, background and all."),
            "Name what is seen, leave out what you teach.",
        )
    found += spelling_findings(captions, trigger, without)
    what = {"style": "style", "character": "character", "object": "object"}[kind]
    fused = [t for t, s in shares.items() if s >= FUSED][:6]
    common = [t for t, s in shares.items() if COMMON <= s < FUSED][:6]
    if fused:
        found.append(
            Finding(
                severity="warn",
                code="term-fused",
                what=f"Nearly every caption says {quoted(fused)}.",
                why=f"The model cannot tell these words from the {what}: they fuse with the trigger word, and the {what} "
                "then needs them in each prompt.",
                fix=f"Remove them if they belong to the {what}; otherwise add pictures without them.",
            )
        )
    if common:
        found.append(
            Finding(
                severity="warn",
                code="term-common",
                what=f"Most captions say {quoted(common)}.",
                why=f"Words shared by 60 % of the captions and more begin to fuse with the {what}.",
                fix="Add pictures that differ there, if you want it to stay free.",
            )
        )
    return found


def length_findings(
    project: Project, captions: Mapping[str, Caption], entry: BaseModelEntry
) -> list[Finding]:
    """Captions with more tokens than the base model reads, as far as its tokenizer is on this computer, and captions
    of a kind (tags, sentences) that it was not raised on."""
    reader, trigger = readers(entry, project.workspace)[0], project.intent.trigger
    advice = format_findings(captions, trigger, entry)
    with tally(captions, trigger) as told:
        long = told.long_named(counter(reader), reader.limit) if reader.measured else []
    return advice + about(
        "warn",
        "caption-long",
        long,
        f"The caption of {{0}} is longer than {reader.limit} tokens.",
        f"{{0}} captions are longer than {reader.limit} tokens.",
        f"{entry.title} does not read what comes after.",
        "Shorten them, the most important first.",
    )
