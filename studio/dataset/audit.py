"""The audit: what is wrong with the pictures and their captions, in plain words, each with its fix.

What blocks would waste the training: damaged pictures, missing captions, a missing trigger word, the same picture
twice, hardly any pictures. Everything else warns or informs.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from studio.captions.audit import caption_findings, length_findings, term_findings
from studio.captions.store import Caption, CaptionStore
from studio.dataset import lettering
from studio.dataset.duplicates import DuplicateGroup, find_duplicates, mark
from studio.dataset.faults import file_faults, look_faults, size_faults
from studio.dataset.folder import Listing, look, stem_of
from studio.dataset.origins import regularisation_pictures
from studio.dataset.scan import Scan
from studio.dataset.wording import about, named
from studio.findings import Finding, Severity, by_harm
from studio.project import KINDS

if TYPE_CHECKING:
    from studio.models import BaseModelEntry
    from studio.project import Project

FEWEST = 5
"""Fewer readable pictures than this block: there is nothing to learn from."""


def audit(project: Project, scan: Scan, entry: BaseModelEntry | None = None) -> list[Finding]:
    """Everything noticed about the dataset, the most harmful first.

    entry: the base model, for its resolution and tokenizer; without it those checks are left out.
    """
    store, intent = CaptionStore(project), project.intent
    listing = look(project.dataset_dir)
    captions = store.of(listing)
    extra = regularisation_pictures(project)
    inputs = (
        listing,
        entry,
        intent.kind,
        intent.trigger,
        extra,
        beside(project),
        scan.facts,
        scan.subfolders,
    )
    have = _answers.get(project.folder)
    if have is not None and have[0] is captions and have[1] == inputs:
        return list(have[2])
    # They have to go, with or without a caption.
    damaged = scan.shown.once("damaged", lambda: {p.name for p in scan if p.error is not None})
    # What holds the class in place (`extra`) is taught without the trigger word, and needs no caption to be of use.
    found = by_harm(
        [
            *scan.shown.once("files", lambda: _pictures(scan)),
            *_count(len(scan) - len(damaged | extra), len(scan), intent.kind),
            *caption_findings(captions, intent.trigger, store.orphans(), extra | damaged),
            *_seen_in(project, scan, listing, entry),
            *term_findings(captions, intent.trigger, intent.kind, extra),
            *(length_findings(project, captions, entry) if entry is not None else []),
        ]
    )
    while len(_answers) >= 16:
        _answers.pop(next(iter(_answers)))
    _answers[project.folder] = (captions, inputs, found)
    return list(found)


def beside(project: Project) -> tuple[object, ...]:
    """Changes whenever something changes that findings rest on besides pictures, captions, intent and base model:
    what was read in the pictures, which are called different, what the deep look found."""
    return lettering.token(project.cache_dir), mark(Scan(project.dataset_dir, project.cache_dir))


def _seen_in(project: Project, scan: Scan, listing: Listing, entry: BaseModelEntry | None) -> list[Finding]:
    """What the pictures themselves show, kept while only words change."""
    key = (listing.pictures, entry, beside(project), scan.captioned)
    have = _looks.get(project.folder)
    if have is not None and have[0] == key:
        return have[1]
    found = [
        *_duplicates(find_duplicates(scan)),
        *(size_faults(scan, entry) if entry is not None else []),
        *look_faults(scan),
        *file_faults(scan),
        *lettering.lettering_faults(scan),
    ]
    while len(_looks) >= 16:
        _looks.pop(next(iter(_looks)))
    _looks[project.folder] = (key, found)
    return found


# The last answer of each project, so that a page's rerun does not count all words again while nothing changed.
_answers: dict[Path, tuple[Mapping[str, Caption], tuple[object, ...], list[Finding]]] = {}
_looks: dict[Path, tuple[tuple[object, ...], list[Finding]]] = {}


def _pictures(scan: Scan) -> list[Finding]:
    found = []
    reasons: dict[str, list[str]] = {}
    for p in scan:
        if p.error is not None:
            reasons.setdefault(p.error, []).append(p.name)
    for reason, names in reasons.items():
        found += about(
            "block",
            "picture-damaged",
            names,
            "{0} cannot be read.",
            "{0} pictures cannot be read.",
            f"{reason} Training would stop or learn noise.",
            "Set aside, then export again from where it came.",
            "set-aside",
        )
    stems: dict[str, list[str]] = {}
    for p in scan:
        stems.setdefault(stem_of(p.name), []).append(p.name)
    shared = [n for same in stems.values() if len(same) > 1 for n in same]
    found += about(
        "block",
        "caption-shared",
        shared,
        "",
        "{0} pictures share a caption file, because they differ only in their ending.",
        "A caption belongs to the picture of the same name; two pictures would be taught with one text.",
        "Give the second one a name of its own.",
        "rename",
    )
    if scan.subfolders:
        found.append(
            Finding(
                severity="info",
                code="subfolders",
                what=f"Pictures in {named(scan.subfolders)} do not count.",
                why="Only pictures directly in the dataset folder are used.",
                fix="Import that folder; its pictures are copied in.",
                where=scan.subfolders,
            )
        )
    return found


def _count(readable: int, total: int, kind: str) -> list[Finding]:
    low, high = KINDS[kind]["images"]
    title = str(KINDS[kind]["title"]).lower()
    if total == 0:
        return [
            Finding(
                severity="block",
                code="no-pictures",
                what="There are no pictures yet.",
                why="Training learns from them.",
                fix=f"Add {low} to {high} pictures.",
            )
        ]
    many = f"{readable} picture{'s' if readable != 1 else ''}"
    if readable < FEWEST:
        return [
            Finding(
                severity="block",
                code="too-few",
                what=f"There {'is' if readable == 1 else 'are'} only {many}.",
                why="So few are learned by heart instead of teaching anything.",
                fix=f"Add more, up to {low} to {high} for {title}.",
            )
        ]
    if readable < low:
        return [
            Finding(
                severity="warn",
                code="few-pictures",
                what=f"{many} are few for {title}.",
                why=str(KINDS[kind]["why"]),
                fix=f"Better {low} to {high}. With fewer, watch for copies in the grid.",
            )
        ]
    if readable > high:
        return [
            Finding(
                severity="info",
                code="many-pictures",
                what=f"{many} are more than {title} needs.",
                why=f"{low} to {high} good ones usually teach as much, and faster.",
                fix="Keep the best and most varied.",
            )
        ]
    return []


def _duplicates(groups: list[DuplicateGroup]) -> list[Finding]:
    found = []
    why = "Repeated pictures are learned by heart instead of teaching something new."
    levels: tuple[tuple[str, Severity, str], ...] = (
        ("exact", "block", "duplicate-exact"),
        ("near", "warn", "duplicate-near"),
    )
    for kind, severity, code in levels:
        some = [g for g in groups if g.kind == kind]
        if not some:
            continue
        names = [n for g in some for n in g.names]
        same = "the same picture" if kind == "exact" else "nearly the same picture"
        pairs = "; ".join(" and ".join(g.names[:3]) + (" ..." if len(g.names) > 3 else "") for g in some[:2])
        what = (
            f"{pairs} are {same}."
            if len(some) == 1
            else f"{len(some)} groups of pictures show {same} ({pairs}{' ...' if len(some) > 2 else ''})."
        )
        found.append(
            Finding(
                severity=severity,
                code=code,
                what=what,
                why=why,
                fix="Keep the best of each and set the others aside.",
                where=tuple(names),
                action="keep-best",
            )
        )
    return found
