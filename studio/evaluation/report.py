"""The review of a grid as a Markdown report that a person can keep, print or send."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from studio import files
from studio.evaluation.grid_folder import GridFolder
from studio.evaluation.review import FAULTS
from studio.evaluation.sweet_spot import SweetSpot, per_checkpoint


def write_report(grid: GridFolder, target: Path | None = None) -> Path:
    """Write the report beside the grid (`report.md`), or to `target`; its path."""
    path = target or grid.folder / "report.md"
    files.write_text(path, report_text(grid, path.parent))
    return path


def record(grid: GridFolder) -> Path:
    """Write the report as the project's own record of its evaluation (`records/evaluation.md`); its path."""
    return write_report(grid, grid.project.records_dir / "evaluation.md")


def report_text(grid: GridFolder, beside: Path | None = None) -> str:
    """The report: verdict, one line a weight, ratings and notes, how it was drawn and measured.

    beside: folder that the text will lie in, for the link to the contact sheet; the grid's own when None.
    """
    spec, verdict = grid.spec, grid.verdict
    loras = ", ".join(f"{_cell(f.label)} (`{f.path.name}`)" for f in spec.lora_files)
    lines = [
        f"# Evaluation: {_cell(grid.project.intent.name)}",
        "",
        f"- **Drawn**: {spec.created[:10]}, {len(spec.weights)} weights × {len(spec.prompts)} prompts × "
        f"{len(spec.seeds)} seeds",
        f"- **Checkpoints**: {loras}",
        f"- **Base model**: {spec.base_model}",
        f"- **Trigger word**: {_cell(spec.trigger) or 'none'}",
        *_verdict(verdict),
        "",
    ]
    if grid.sheet is not None:
        place = Path(os.path.relpath(grid.sheet, beside or grid.folder)).as_posix()
        lines += [f"![Contact sheet]({place})", ""]
    if verdict is not None:
        lines += _weights(per_checkpoint(grid.metrics or {}, verdict))
    lines += _review(grid)
    lines += _how(grid)
    return "\n".join(lines).rstrip() + "\n"


def _verdict(verdict: SweetSpot | None) -> list[str]:
    if verdict is None:
        return ["- **Verdict**: not measured yet"]
    lines = [f"- **Verdict**: {verdict.headline}"]
    if verdict.low is not None and verdict.high is not None:
        lines.append(f"- **Sweet spot**: {verdict.low:g} to {verdict.high:g}")
    if verdict.weight is not None and verdict.state == "found":
        lines.append(f"- **Recommended weight**: {verdict.weight:g}")
    if verdict.checkpoint:
        lines.append(f"- **Checkpoint used**: {_cell(verdict.checkpoint)}")
    lines.append(f"- **Confidence**: {verdict.confidence}, from {verdict.by}")
    return [*lines, "", "## Why", "", *(f"- {r}" for r in verdict.reasons)]


def _weights(columns: dict[str, list[dict[str, Any]]]) -> list[str]:
    """A table for each checkpoint."""

    def number(value: Any) -> str:
        return "–" if value is None else f"{value:.2f}"

    lines = ["## By weight", ""] if columns else []
    for checkpoint, rows in columns.items():
        if len(columns) > 1:
            lines += [f"### {_cell(checkpoint)}", ""]
        lines += [
            "| Weight | In words | Nearness | Subjects kept | Faults |",
            "|---:|---|---:|---:|---:|",
            *(
                f"| {r['weight']:g} | {r['words']} | {number(r['nearness'])} | {number(r['kept'])} | {number(r['fault'])} |"
                for r in rows
            ),
            "",
        ]
    return lines


def _review(grid: GridFolder) -> list[str]:
    review = grid.review
    given, note = review.all(), review.verdict_note
    if not given and not note:
        return []
    lines = ["## Review", ""]
    if note:
        lines += [_cell(note), ""]
    seen = set()
    rows = []
    for cell in grid.cells():
        said = given.get(cell.hash)
        if said is None or cell.hash in seen:
            continue
        seen.add(cell.hash)
        place = "base" if cell.weight == 0 else f"{cell.weight:g}, {_cell(cell.checkpoint)}"
        tags = ", ".join(FAULTS[t] for t in said.tags)
        words = "; ".join(t for t in (tags, said.note) if t)
        rows.append(
            f"| {_cell(cell.prompt.text)} | {place} | {cell.seed} | {said.rating or '–'} | {_cell(words)} |"
        )
    if rows:
        lines += ["| Prompt | Weight | Seed | Rating | Remarks |", "|---|---|---:|---:|---|", *rows, ""]
    return lines


def _how(grid: GridFolder) -> list[str]:
    spec, metrics = grid.spec, grid.metrics or {}
    lines = [
        "## How it was made",
        "",
        f"Renderer {spec.renderer}, {spec.steps} steps, guidance {spec.guidance:g}, sampler {spec.sampler}, "
        f"{spec.width} × {spec.height}, seeds {', '.join(map(str, spec.seeds))}. Every weight starts from the same noise.",
        "",
    ]
    if metrics.get("features"):
        lines += [
            f"Measured with {metrics['features']} against {metrics['reference']['training_pictures']} training pictures. "
            "Nearness: 0 is the base model, 1 the training set. Subjects kept: 1 is the base model, 0 means that prompts no longer differ "
            "as they should. The figures order the columns of this grid; they are no grades, and they do not see what a face or a hand "
            "should look like.",
            "",
        ]
    failed = len(grid.failures)
    if failed:
        lines += [f"{failed} pictures could not be drawn.", ""]
    return lines


def _cell(text: str) -> str:
    """Words of a person on one line, also in a table: nothing in them is read as Markdown or HTML."""
    return re.sub(r"([\\`*_\[\]<>#|~&])", r"\\\1", " ".join(text.split()))
