"""The record in words: Markdown pages beside the machine-readable state.

    records/intent.md  dataset-report.md  config.md  environment.md  dry-run.md  progress.md  evaluation.md  status.md

They are written for people and never read back; the machine-readable state is the truth. The pages of the gates are written
by `studio.gates.pages`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from studio import files
from studio.files import human_memory, human_time
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


def count_times(n: int) -> str:
    """How often, in words."""
    return {0: "never", 1: "once", 2: "twice"}.get(n, f"{n} times")


def write_progress(project: Project, run_id: str, facts: dict[str, Any]) -> None:
    """records/progress.md: how a run goes or went. facts: status, epoch, epochs, step, steps, loss, first_loss,
    elapsed (s), remaining (s), checkpoints (names), memory (bytes), reductions (sentences)."""
    f = facts
    loss = "not yet" if f.get("loss") is None else f"{f['loss']:.4f} (started: {f['first_loss']:.4f})"
    left = f.get("remaining")
    _write(
        project,
        "progress.md",
        [
            f"# Training progress: {project.intent.name}",
            "",
            f"- **Run**: {run_id}",
            f"- **Status**: {str(f['status']).upper()}",
            f"- **Epoch**: {f.get('epoch', 0)}/{f.get('epochs', 0)}",
            f"- **Step**: {f.get('step', 0)}/{f.get('steps', 0)}",
            f"- **Loss**: {loss}",
            f"- **Elapsed**: {human_time(f.get('elapsed', 0))}",
            f"- **Estimated remaining**: {'none' if left is None else human_time(left)}",
            f"- **Checkpoints**: {', '.join(f.get('checkpoints', [])) or 'none yet'}",
            f"- **Most memory in use**: {human_memory(f['memory']) if f.get('memory') else 'not measured'}",
            f"- **Batch reduced for lack of memory**: {count_times(len(f.get('reductions', [])))}",
            *(f"  - {sentence}" for sentence in f.get("reductions", [])),
        ],
    )


def write_evaluation(project: Project, text: str) -> None:
    """records/evaluation.md: the verdict of the last grid, as `studio.evaluation` words it."""
    files.write_text(project.records_dir / "evaluation.md", text.rstrip() + "\n")


def write_status(project: Project, status: str, next_step: str) -> None:
    """records/status.md: where the project stands, and what comes next."""
    _write(
        project,
        "status.md",
        [
            f"# Status: {project.intent.name}",
            "",
            f"- **Status**: {status}",
            f"- **Next**: {next_step}",
            f"- **As of**: {files.now()}",
        ],
    )
