"""The audit: what is wrong with the pictures and their captions, in plain words, each with its fix.

What blocks would waste the training: damaged pictures, missing captions, a missing trigger word, the same picture
twice, hardly any pictures. Everything else warns or informs.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import TYPE_CHECKING, Protocol

from studio.captions import text as words
from studio.captions.stats import term_shares, token_count, token_limit
from studio.captions.store import Caption, CaptionStore
from studio.dataset.buckets import bucket_for
from studio.dataset.duplicates import DuplicateGroup, find_duplicates
from studio.dataset.folder import stem_of
from studio.findings import Finding, Severity, by_harm
from studio.project import KINDS

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan
    from studio.models import BaseModelEntry
    from studio.project import Project

FEWEST = 5
"""Fewer readable pictures than this block: there is nothing to learn from."""
FUSED, COMMON, FUSED_FROM = 0.85, 0.60, 5
"""Share of captions from which a term counts as fused with the trigger, or as common, given so many pictures."""
STRETCHED = 3.0
"""Longer side over shorter side beyond which a picture is a strip."""
SMALL = 0.9
"""A picture is small when its area is below that of a square of this share of the base model's resolution."""
BLURRED = 0.12
"""A picture is blurred when its sharpness is below this share of the set's median: a soft style is soft throughout
and none of it stands out."""
BLUR_FROM = 6


class ModelSize(Protocol):
    """What the audit needs to know of a base model."""

    @property
    def resolution(self) -> int: ...
    @property
    def bucket_step(self) -> int: ...


def audit(project: Project, scan: Scan, entry: BaseModelEntry | None = None) -> list[Finding]:
    """Everything noticed about the dataset, the most harmful first.

    entry: the base model, for its resolution and tokenizer; without it those checks are left out.
    """
    store = CaptionStore(project)
    captions = store.all()
    intent = project.intent
    damaged = {p.name for p in scan if p.error is not None}  # they have to go, with or without a caption
    found = [
        *_pictures(scan),
        *_count(len(scan.readable), len(scan), intent.kind),
        *_captions({n: c for n, c in captions.items() if n not in damaged}, intent.trigger, store.orphans()),
        *_duplicates(find_duplicates(scan)),
        *(_against(scan, entry) if entry is not None else []),
        *_oddities(scan),
        *_terms({n: c.text for n, c in captions.items()}, intent.trigger, intent.kind),
        *(_lengths(project, captions, entry) if entry is not None else []),
    ]
    return by_harm(found)


def named(names: Sequence[str], most: int = 3) -> str:
    """Names for a sentence: "a.png, b.png and 5 more"."""
    if len(names) <= most:
        return " and ".join(names) if len(names) < 3 else f"{', '.join(names[:-1])} and {names[-1]}"
    return f"{', '.join(names[:most])} and {len(names) - most} more"


def quoted(terms: Sequence[str]) -> str:
    """Terms for a sentence: 'dog', 'white ground'."""
    return ", ".join(f"'{t}'" for t in terms)


def _some(names: Sequence[str], one: str, many: str) -> str:
    """A sentence about pictures: `one` may hold {0}, the name; `many` holds {0}, the number."""
    return one.format(names[0]) if len(names) == 1 else many.format(len(names))


def _finding(
    severity: Severity,
    code: str,
    names: Sequence[str],
    one: str,
    many: str,
    why: str,
    fix: str,
    action: str = "",
) -> list[Finding]:
    """One finding about all of `names`; none when there are none."""
    if not names:
        return []
    return [
        Finding(
            severity=severity,
            code=code,
            what=_some(names, one, many),
            why=why,
            fix=fix,
            where=tuple(names),
            action=action,
        )
    ]


def _pictures(scan: Scan) -> list[Finding]:
    found = []
    reasons: dict[str, list[str]] = {}
    for p in scan:
        if p.error is not None:
            reasons.setdefault(p.error, []).append(p.name)
    for reason, names in reasons.items():
        found += _finding(
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
    found += _finding(
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


def _captions(captions: dict[str, Caption], trigger: str, orphans: list[str]) -> list[Finding]:
    missing = [n for n, c in captions.items() if not c.exists]
    empty = [n for n, c in captions.items() if c.exists and not c.text]
    without = [n for n, c in captions.items() if c.text and not words.leads(c.text, trigger)]
    behind = [n for n in without if trigger.casefold() in captions[n].text.casefold()]
    absent = [n for n in without if n not in set(behind)]
    lines = [n for n, c in captions.items() if "\n" in c.text]
    garbled = [n for n, c in captions.items() if c.text and not c.utf8]
    outside = [n for n, c in captions.items() if c.outside]
    nothing = "A picture without words teaches the model that its content belongs to everything."
    return [
        *_finding("block", "caption-missing", missing, "{0} has no caption.", "{0} pictures have no caption.", nothing,
                  "Describe it on the captions page, or use the trigger word alone.", "caption-trigger"),
        *_finding("block", "caption-empty", empty, "The caption of {0} is empty.", "{0} captions are empty.", nothing,
                  "Describe it on the captions page, or use the trigger word alone.", "caption-trigger"),
        *_finding("block", "trigger-missing", absent, f"The caption of {{0}} lacks the trigger word {trigger}.",
                  f"{{0}} captions lack the trigger word {trigger}.", "What you teach is tied to that word; without it, it is tied to nothing.",
                  "Add the trigger word in front.", "add-trigger"),
        *_finding("block", "trigger-not-first", behind, f"The caption of {{0}} does not start with {trigger}.",
                  f"{{0}} captions do not start with {trigger}.", "The first words count most, and shuffling keeps only the front in place.",
                  "Move the trigger word to the front.", "add-trigger"),
        *_finding("warn", "caption-lines", lines, "The caption of {0} has more than one line.", "{0} captions have more than one line.",
                  "Trainers read the first line only.", "Join the lines.", "join-lines"),
        *_finding("warn", "caption-encoding", garbled, "The caption of {0} is not plain UTF-8 text.", "{0} captions are not plain UTF-8 text.",
                  "Trainers stop at it, or read wrong letters.", "Save as UTF-8; no word changes.", "to-utf8"),
        *_finding("info", "caption-outside", outside, "Another program changed the caption of {0}.", "Another program changed {0} captions.",
                  "The studio leaves them as they are.", "Look at them on the captions page and approve.", "approve"),
        *_finding("info", "caption-orphan", orphans, "{0} belongs to no picture.", "{0} caption files belong to no picture.",
                  "They are not used.", "Restore or import their pictures, or delete the files."),
    ]  # fmt: skip


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


def _against(scan: Scan, entry: ModelSize) -> list[Finding]:
    side = entry.resolution
    small = [p.name for p in scan.readable if p.pixels < (SMALL * side) ** 2]
    cut = [p.name for p in scan.readable if _strip(p)]
    lost = [
        p.name
        for p in scan.readable
        if not _strip(p) and bucket_for(p.width, p.height, side, entry.bucket_step).kept < 0.75
    ]
    return [
        *_finding("warn", "small", small, f"{{0}} is smaller than the base model works at ({side} x {side}).",
                  f"{{0}} pictures are smaller than the base model works at ({side} x {side}).",
                  "Small pictures teach softness and blocks instead of detail.", "Use larger versions if you have them."),
        *_finding("warn", "strip", cut, "{0} is a long strip.", "{0} pictures are long strips.",
                  "Most of a strip is cut off or shrunk to nothing.", "Cut the interesting part out of it."),
        *_finding("info", "cropped", lost, "{0} loses more than a quarter to cropping.", "{0} pictures lose more than a quarter to cropping.",
                  "They are trained in the nearest size that the base model takes.", "See the buckets for what remains."),
    ]  # fmt: skip


def _strip(p: Picture) -> bool:
    return max(p.width, p.height) > STRETCHED * min(p.width, p.height)


def _oddities(scan: Scan) -> list[Finding]:
    ok = scan.readable
    plain = [p.name for p in ok if p.blur == 0.0]
    detailed = [p for p in ok if p.blur > 0.0]
    middle = median(p.blur for p in detailed) if len(detailed) >= BLUR_FROM else 0.0
    blurred = [p.name for p in detailed if p.blur < BLURRED * middle]
    dark = [p.name for p in detailed if p.light < 0.03]
    return [
        *_finding("warn", "blurred", blurred, "{0} is much softer than the rest.", "{0} pictures are much softer than the rest.",
                  "Blur is learned like everything else.", "Look at them, and set aside what is out of focus.", "set-aside"),
        *_finding("warn", "plain", plain, "{0} is one plain colour.", "{0} pictures are one plain colour.", "There is nothing to learn from it.",
                  "Set aside what is empty.", "set-aside"),
        *_finding("warn", "dark", dark, "{0} is almost black.", "{0} pictures are almost black.", "There is little to learn from it.",
                  "Look at them, and set aside or brighten what is too dark.", "set-aside"),
        *_finding("warn", "animated", [p.name for p in ok if p.frames > 1], "{0} is an animation.", "{0} files are animations.",
                  "Only the first frame is used.", "Save the frame that you want as a picture."),
        *_finding("info", "transparent", [p.name for p in ok if p.has_alpha], "{0} has transparent parts.", "{0} pictures have transparent parts.",
                  "They become white in training.", "Put them on the ground you want, if white is not it."),
        *_finding("info", "rotated", [p.name for p in ok if p.exif_rotated], "{0} is stored turned and shown upright.",
                  "{0} pictures are stored turned and shown upright.", "The built-in backend turns them; not every trainer does.", ""),
        *_finding("info", "colour-mode", [p.name for p in ok if p.mode == "CMYK" or p.mode.startswith(("I", "F"))],
                  "{0} is a print or 16-bit picture.", "{0} are print or 16-bit pictures.", "Converted to ordinary colour for training; tones may shift a little.", ""),
    ]  # fmt: skip


def _terms(captions: dict[str, str], trigger: str, kind: str) -> list[Finding]:
    """Terms that nearly every caption shares: the model cannot tell them from what the trigger means."""
    written = {n: t for n, t in captions.items() if t}
    bare = [n for n, t in written.items() if not words.without_trigger(t, trigger)]
    found = []
    if len(written) >= FUSED_FROM and len(bare) > len(written) / 2:
        found += _finding(
            "warn" if kind == "style" else "info",
            "trigger-only",
            bare,
            "{0} has only the trigger word as its caption.",
            "{0} captions say only the trigger word.",
            "Then what each picture shows is learned as part of "
            + ("the style." if kind == "style" else "it, background and all."),
            "Name what is seen, leave out what you teach.",
        )
    if len(written) < FUSED_FROM:
        return found
    shares = term_shares(written.values(), trigger)
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
                severity="info",
                code="term-common",
                what=f"Most captions say {quoted(common)}.",
                why=f"Words shared by 60 % of the captions and more begin to fuse with the {what}.",
                fix="Add pictures that differ there, if you want it to stay free.",
            )
        )
    return found


def _lengths(project: Project, captions: dict[str, Caption], entry: BaseModelEntry) -> list[Finding]:
    limit = token_limit(entry, project.workspace)
    if limit is None:
        return []
    # No text has more tokens than letters, so the tokenizer is asked only where it could matter.
    long = [
        n
        for n, c in captions.items()
        if len(c.text) > limit and (token_count(c.text, entry, project.workspace) or 0) > limit
    ]
    return _finding(
        "warn",
        "caption-long",
        long,
        f"The caption of {{0}} is longer than {limit} tokens.",
        f"{{0}} captions are longer than {limit} tokens.",
        "The base model does not read what comes after.",
        "Shorten them, the most important first.",
    )
