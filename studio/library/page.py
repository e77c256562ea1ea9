"""`studio.md`: the library as one page that a person, or another program, can read."""

from __future__ import annotations

from pathlib import Path

from studio import files
from studio.library.entry import LibraryEntry, list_library
from studio.workspace import Workspace


def write_page(workspace: Workspace) -> Path:
    """Write the page anew from the entries; its path."""
    path = workspace.root / "studio.md"
    entries = list_library(workspace)
    lines = [
        "# Studio",
        "",
        "This page is made from the library; change entries in the studio, not here.",
        "",
        "## LoRAs",
        "",
    ]
    if not entries:
        lines += ["None registered yet.", ""]
    for entry in sorted(entries, key=lambda e: e.title.lower()):
        lines += _section(workspace, entry)
    files.write_text(path, "\n".join(lines))
    return path


def _section(workspace: Workspace, entry: LibraryEntry) -> list[str]:
    """The seed's nine fields, then what else is known."""
    rows = [
        ("File", f"`{entry.file(workspace)}`"),
        ("Type", entry.kind),
        ("Trigger word", f"`{entry.trigger}`" if entry.trigger else "none"),
        ("Recommended weight", entry.weight_words),
        ("Base model", f"{entry.base_title} (`{entry.base_model}`)"),
        ("Good for", _line(entry.good_for) or "not said"),
        ("Training date", entry.trained[:10] or "unknown"),
        ("Training params", entry.training_words),
    ]
    if entry.verdict:
        rows.append(("Evaluation", _line(entry.verdict)))
    if entry.notes:
        rows.append(("Notes", _line(entry.notes)))
    return [f"### LoRA: {_line(entry.title)}", "", *(f"- **{k}**: {v}" for k, v in rows), ""]


def _line(text: str) -> str:
    """Text on one line, so that it cannot break the page's structure."""
    return " ".join(text.split())
