"""The further files of a base model that consists of several, and T5's word table."""

from __future__ import annotations

from pathlib import Path

from studio.findings import Finding
from studio.models import BaseModelEntry
from studio.training.sdscripts import families
from studio.workspace import Workspace


def parts_of(entry: BaseModelEntry, workspace: Workspace) -> dict[str, Path]:
    """Files of a base model beside its checkpoint that are here, by role."""
    return dict(entry.part_paths(workspace))


def findings(entry: BaseModelEntry, workspace: Workspace) -> list[Finding]:
    """What sd-scripts needs beside the files that `models.file_findings` looks at; [] when nothing."""
    found = []
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
