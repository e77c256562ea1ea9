"""Registered LoRAs side by side: how to use them, how they were trained, what was measured, and what they draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import InputError, StudioError
from studio.evaluation.measures import BY_ID
from studio.library.entry import LibraryEntry
from studio.library.evaluations import Evaluation, evaluation, pictures
from studio.lora.info import describe
from studio.project import KINDS
from studio.workspace import Workspace

MOST = 4
"""LoRAs side by side at once; more are too narrow to be read."""
NOT_THERE = "—"
_PARAMS = (
    ("preset", "Preset"), ("epochs", "Epochs"), ("steps", "Steps"), ("alpha", "Alpha"),
    ("learning_rate", "Learning rate"), ("optimizer", "Optimizer"), ("pictures", "Pictures, repeats counted"), ("seed", "Seed"),
)  # fmt: skip
_MEASURED = ("nearness", "effect", "kept", "fault", "leak", "memorised", "diversity")


@dataclass(frozen=True)
class Row:
    """One line of the table. values: one for each LoRA, in words. differs: whether they are not all the same."""

    group: str
    label: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class Comparison:
    """entries: in the order asked for. shared: prompt -> picture of each, for prompts that all were drawn with. own: the pictures of
    each where there is no such prompt. cautions: what makes the figures not comparable."""

    entries: tuple[LibraryEntry, ...]
    rows: tuple[Row, ...]
    shared: dict[str, tuple[Path, ...]]
    own: tuple[dict[str, Path], ...]
    cautions: tuple[str, ...]


def compare(workspace: Workspace, entries: Sequence[LibraryEntry]) -> Comparison:
    """Two or more entries side by side. Raises InputError when it is fewer than two, more than `MOST`, or one is there twice."""
    if not 2 <= len(entries) <= MOST:
        raise InputError(f"{len(entries)} LoRAs cannot be compared.", f"Two to {MOST} fit side by side.", f"Choose 2 to {MOST}.")  # fmt: skip
    if len({e.slug for e in entries}) < len(entries):
        raise InputError("A LoRA cannot be compared with itself.", "It was named twice.", "Name each once.")
    found = [evaluation(workspace, e) for e in entries]
    drawn = [pictures(x) if x is not None else {} for x in found]
    common = [p for p in drawn[0] if all(p in d for d in drawn)]
    return Comparison(
        tuple(entries),
        tuple(_rows(workspace, entries, found)),
        {p: tuple(d[p] for d in drawn) for p in common},
        tuple(drawn),
        tuple(_cautions(entries, found)),
    )


def _rows(
    workspace: Workspace, entries: Sequence[LibraryEntry], found: Sequence[Evaluation | None]
) -> list[Row]:
    looked = [_described(workspace, e) for e in entries]

    def row(group: str, label: str, values: Sequence[Any]) -> Row:
        return Row(group, label, tuple(_words(v) for v in values))

    rows = [
        row("Use", "Trigger word", [e.trigger for e in entries]),
        row("Use", "Weight", [e.weight_words for e in entries]),
        row("Use", "Base model", [e.base_title for e in entries]),
        row("Use", "Kind", [KINDS[e.kind]["title"].split()[-1] for e in entries]),
        row("Use", "Good for", [e.good_for for e in entries]),
        row("File", "Layers", [x.get("kind") for x in looked]),
        row("File", "Rank", [x.get("rank") for x in looked]),
        row("File", "Numbers", [x.get("types") for x in looked]),
        row("File", "Size", [files.human_size(e.size_bytes) for e in entries]),
        row("Training", "Ended", [e.trained[:10] for e in entries]),
        *(row("Training", label, [e.params.get(key) for e in entries]) for key, label in _PARAMS),
        row("Measured", "At weight", [x.weight if x else None for x in found]),
        *(row("Measured", BY_ID[key].title, [_figure(x, key) for x in found]) for key in _MEASURED),
        row("Measured", "Verdict", [_verdict(x, e) for x, e in zip(found, entries, strict=True)]),
    ]
    return [r for r in rows if any(v != NOT_THERE for v in r.values)]


def _cautions(entries: Sequence[LibraryEntry], found: Sequence[Evaluation | None]) -> list[str]:
    out = []
    missing = [e.title for e, x in zip(entries, found, strict=True) if x is None]
    if missing:
        out.append(f"Not measured here: {', '.join(missing)}. Re-evaluate to draw and measure a grid.")
    there = [x for x in found if x is not None]
    if len(there) > 1:
        bases = {x.grid.spec.base_fingerprint for x in there}
        if len(bases) > 1:
            out.append(
                "They were drawn with different base models; their figures cannot be set against each other."
            )
        elif len({x.grid.spec.project for x in there}) > 1:
            out.append(
                "Nearness and copies are measured against each project's own training pictures, so they differ in meaning."
            )
    return out


def _described(workspace: Workspace, entry: LibraryEntry) -> dict[str, str]:
    try:
        info = describe(entry.file(workspace))
    except (StudioError, OSError):
        return {}
    return {"kind": info.kind, "rank": info.rank_words, "types": ", ".join(info.types)}


def _verdict(found: Evaluation | None, entry: LibraryEntry) -> str:
    verdict = found.grid.verdict if found is not None else None
    return verdict.headline if verdict is not None else entry.verdict


def _figure(found: Evaluation | None, key: str) -> str | None:
    value = found.row.get(key) if found is not None else None
    return None if value is None else BY_ID[key].words(float(value))


def _words(value: Any) -> str:
    if value in (None, ""):
        return NOT_THERE
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
