"""The further files of a base model that consists of several, and T5's word table."""

from __future__ import annotations

from pathlib import Path

from studio.findings import Finding
from studio.models import BaseModelEntry
from studio.training.sdscripts import families
from studio.workspace import Workspace


def parts_of(entry: BaseModelEntry, workspace: Workspace) -> dict[str, Path]:
    """What of a base model is here beside its checkpoint, by role: files, and the folder of T5's word table."""
    found = dict(entry.part_paths(workspace))
    if entry.family in families.FLOW and entry.format != "cloud":
        # Where captions are measured, the same table is looked for; so what is counted there is what is trained here.
        from studio.captions.tokens import readers

        for reader in readers(entry, workspace):
            if reader.name == "T5" and reader.place is not None and reader.measured:
                found[families.T5_TOKENIZER] = reader.place
    return found


def findings(entry: BaseModelEntry, workspace: Workspace) -> list[Finding]:
    """What sd-scripts needs beside the files that `models.file_findings` looks at; [] when nothing."""
    if entry.family not in families.FLOW or families.T5_TOKENIZER in parts_of(entry, workspace):
        return []
    place = workspace.models_dir / "t5-tokenizer"
    fix = f"Without an internet connection: put spiece.model from huggingface.co/google/t5-v1_1-xxl into {place}."
    if any(f.part == families.T5_TOKENIZER for f in entry.files):
        fix = f"To have it here for good: lora-studio models download {entry.id}"
    return [
        Finding(
            severity="info",
            code="t5-words-fetched",
            what="T5's word table will be fetched from the internet at the start (1 MB).",
            why="It is not among the files of this base model. Without a connection to huggingface.co the run would fail.",
            fix=fix,
        )
    ]
