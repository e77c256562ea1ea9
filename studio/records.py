"""The record in words: Markdown pages beside the machine-readable state.

    records/intent.md  dataset-report.md  config.md  environment.md  dry-run.md  progress.md  evaluation.md  status.md

They are written for people and never read back; the machine-readable state is the truth. The pages of the gates are written
by `studio.gates.pages`, those of a run (progress, status) by `studio.training.record`.
"""

from __future__ import annotations

from collections.abc import Iterable

from studio import files
from studio.findings import Finding, by_harm
from studio.project import KINDS, Project


def _write(project: Project, name: str, lines: Iterable[str]) -> None:
    files.write_text(project.records_dir / name, "\n".join(lines).rstrip() + "\n")


def finding_lines(findings: Iterable[Finding]) -> list[str]:
    """Findings as a Markdown list: what, why and fix; a sentence when there are none."""
    lines = []
    for f in by_harm(findings):
        lines.append(f"- **{f.severity}** {f.what} {f.why}".rstrip())
        if f.fix:
            lines.append(f"  - Fix: {f.fix}")
        if f.where:
            more = f" and {len(f.where) - 8} more" if len(f.where) > 8 else ""
            lines.append(f"  - Where: {', '.join(f.where[:8])}{more}")
    return lines or ["Nothing found."]


def write_intent(project: Project) -> None:
    """records/intent.md: what is to be taught."""
    i = project.intent
    low, high = KINDS[i.kind]["images"]
    _write(
        project,
        "intent.md",
        [
            f"# Training intent: {i.name}",
            "",
            f"- **Type**: {i.kind}",
            f"- **Base model**: {i.base_model}",
            f"- **Description**: {i.description or 'none given'}",
            f"- **Dataset target**: {low} to {high} pictures",
            f"- **Trigger word**: {i.trigger}",
            f"- **Content-style notes**: {i.notes or 'none'}",
        ],
    )


def write_evaluation(project: Project, text: str) -> None:
    """records/evaluation.md: the verdict of the last grid, as `studio.evaluation` words it."""
    files.write_text(project.records_dir / "evaluation.md", text.rstrip() + "\n")
