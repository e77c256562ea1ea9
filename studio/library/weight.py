"""Changing the recommended weight of a registered LoRA, with its earlier weights and the way back.

The weight stands in the entry, in the JSON beside the file (A1111, Forge), in the file's own metadata and on the page `studio.md`;
copies in other programs' folders follow as far as they are what the studio put there.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from studio import files
from studio.errors import InputError
from studio.library import places
from studio.library.entry import EarlierWeight, LibraryEntry, get_entry
from studio.library.folder import modelspec, sidecar
from studio.library.page import write_page
from studio.lora.file import metadata_of, rewrite
from studio.workspace import Workspace

LEAST, MOST = -1.0, 2.0
_OWN_FIELDS = ("modelspec.usage_hint", "lora_studio.recommended_weight")
_KEPT = 50
"""Earlier weights that an entry remembers."""


@dataclass(frozen=True)
class Changed:
    """entry: as it is now. before: the weight until now. followed: files in other programs that tell the new weight; stays: files
    there that were changed by somebody else and were left alone."""

    entry: LibraryEntry
    before: float
    followed: tuple[Path, ...] = ()
    stays: tuple[Path, ...] = ()


def checked(weight: float) -> float:
    """A weight that can be recommended, rounded to a thousandth. Raises InputError for 0 and for those beyond -1 to 2."""
    if not math.isfinite(weight) or not LEAST <= weight <= MOST or round(weight, 3) == 0:
        raise InputError(
            f"{weight:g} cannot be recommended as a weight.",
            "At 0 a LoRA does nothing, and beyond 2 none is usable.",
            "Use a weight between 0.1 and 1.5.",
        )
    return round(weight, 3)


def set_weight(workspace: Workspace, slug: str, weight: float) -> Changed:
    """Recommend another weight. The range that works stays when the weight lies in it, and is left out otherwise.

    The weight that it has already changes nothing. Raises InputError for a weight that is none, NotFoundError for an unknown LoRA.
    """
    new = checked(weight)
    with _lock(workspace):
        entry = get_entry(workspace, slug)
        if new == entry.weight:
            return Changed(entry, entry.weight)
        low, high = entry.weight_low, entry.weight_high
        inside = low is not None and high is not None and low <= new <= high
        before = EarlierWeight(weight=entry.weight, weight_low=low, weight_high=high, until=files.now())
        return _write(
            workspace,
            entry,
            new,
            *((low, high) if inside else (None, None)),
            (*entry.weights_before, before)[-_KEPT:],
        )


def undo_weight(workspace: Workspace, slug: str, now: float | None = None) -> Changed:
    """Take back the last change of the weight, range included.

    now: the weight that is to be taken back; another one means that somebody changed it since. Raises InputError when there is
    nothing to take back.
    """
    with _lock(workspace):
        entry = get_entry(workspace, slug)
        if now is not None and entry.weight != round(now, 3):
            raise InputError(
                f"The weight of {entry.title} was changed since.",
                f"It is {entry.weight:g} by now.",
                "Look at the weights it had, under More on its card, and set the one you want.",
            )
        if not entry.weights_before:
            raise InputError(
                f"The weight of {entry.title} was never changed.",
                f"It is {entry.weight:g}, as it was registered.",
                "There is nothing to take back.",
            )
        old = entry.weights_before[-1]
        return _write(
            workspace, entry, old.weight, old.weight_low, old.weight_high, entry.weights_before[:-1]
        )


def _lock(workspace: Workspace) -> FileLock:
    workspace.library_dir.mkdir(parents=True, exist_ok=True)
    return FileLock(workspace.library_dir / ".weights.lock", timeout=30)


def _write(
    workspace: Workspace,
    entry: LibraryEntry,
    weight: float,
    low: float | None,
    high: float | None,
    before: tuple[EarlierWeight, ...],
) -> Changed:
    new = entry.model_copy(
        update={"weight": weight, "weight_low": low, "weight_high": high, "weights_before": before}
    )
    lora, folder = entry.file(workspace), entry.folder(workspace)
    there = places.standing(workspace, entry)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=workspace.library_dir) as aside:
        made = Path(aside) / lora.name
        if lora.is_file():
            told = metadata_of(lora)
            spec = modelspec(new, told)
            rewrite(lora, made, {**told, **{k: spec[k] for k in _OWN_FIELDS if k in told}})
            new = new.model_copy(
                update={"sha256": files.sha256_file(made), "size_bytes": made.stat().st_size}
            )
            made.replace(lora)
        files.write_json(folder / f"{entry.name}.json", sidecar(new))
        files.write_json(folder / "entry.json", new.model_dump(mode="json"))
    followed, stays = places.follow(workspace, new, there)
    write_page(workspace)
    return Changed(new, entry.weight, followed, stays)
