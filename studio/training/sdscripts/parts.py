"""The further files of a base model that consists of several: where they lie, and what is missing."""

from __future__ import annotations

from pathlib import Path

from studio.findings import Finding
from studio.models import BaseModelEntry
from studio.training.sdscripts import families
from studio.workspace import Workspace


def parts_of(entry: BaseModelEntry, workspace: Workspace) -> dict[str, Path]:
    """Files of a base model beside its checkpoint that are here, by role."""
    return dict(entry.part_paths(workspace))


def missing(entry: BaseModelEntry, workspace: Workspace) -> list[str]:
    """Roles of files that sd-scripts needs for this base model and that are not here."""
    here = parts_of(entry, workspace)
    return [r for r in entry.needs if r not in here]


def findings(entry: BaseModelEntry, workspace: Workspace) -> list[Finding]:
    """What is missing of a base model for sd-scripts; [] when nothing is."""
    found = []
    lacking = missing(entry, workspace)
    if lacking:
        names = ", ".join(families.PART_TITLES[r] for r in lacking)
        found.append(
            Finding(
                severity="block",
                code="model-part-absent",
                what=f"{entry.title} is not whole: {names} {'is' if len(lacking) == 1 else 'are'} missing.",
                why="sd-scripts needs the text encoders and the autoencoder as files of their own.",
                fix=f"Download it on the Set-up page, or run: lora-studio models download {entry.id}",
                where=tuple(lacking),
            )
        )
    if entry.family in families.FLOW and families.T5_TOKENIZER not in parts_of(entry, workspace):
        found.append(
            Finding(
                severity="info",
                code="t5-words-fetched",
                what="T5's word table will be fetched from the internet at the start (1 MB).",
                why="It is not among the files of this base model.",
                fix="Nothing to do with a connection to huggingface.co.",
            )
        )
    return found
