"""Showing a grid: while it is drawn, and what it says when it is done."""

from __future__ import annotations

from dataclasses import asdict, is_dataclass
from typing import Any

from studio.cli.context import Context
from studio.cli.jobs import as_data
from studio.cli.spec import Reply
from studio.cli.watch import say_failed, say_left, watch
from studio.project import Project


def plain(value: Any) -> Any:
    """Dataclasses and models as plain data."""
    if is_dataclass(value) and not isinstance(value, type):
        return plain(asdict(value))
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    return value


def show_grid(ctx: Context, project: Project, grid: Any, detach: bool) -> Reply:
    """Watch a grid while it is drawn, then show its contact sheet and its verdict."""
    job = grid.job
    if detach:
        ctx.out.say("It is being drawn by itself now.")
        ctx.out.next(f"lora-studio evaluate --grid {grid.id}")
        return Reply({"project": project.slug, "grid": grid.id, "job": as_data(job)})
    if job.is_alive and watch(ctx.out, job).left:
        say_left(ctx.out, job)
        return Reply({"project": project.slug, "grid": grid.id, "job": as_data(job), "left": True}, code=130)
    data: dict[str, Any] = {
        "project": project.slug,
        "grid": grid.id,
        "job": as_data(job),
        "sheet": str(grid.sheet) if grid.sheet else None,
        "spec": plain(grid.spec),
    }
    if job.state != "finished":
        error = say_failed(ctx.out, job)
        ctx.out.next(f"lora-studio resume {grid.id}")
        return Reply({**data, **error}, code=1)
    verdict = grid.verdict
    data["verdict"] = plain(verdict)
    ctx.out.good(f"The contact sheet: {grid.sheet}")
    if verdict is not None:
        from studio.evaluation.sweet_spot import per_checkpoint  # here: it brings numpy

        columns = per_checkpoint(grid.metrics or {}, verdict)
        data["checkpoints"] = plain(columns)
        show_verdict(ctx, verdict)
        for label, rows in columns.items():
            if label != verdict.checkpoint and len(columns) > 1:
                ctx.out.heading(label)
                _by_weight(ctx, plain(rows))
        ctx.out.next("lora-studio register")
    return Reply(data)


def show_verdict(ctx: Context, verdict: Any) -> None:
    """The sweet spot, its reasons, and the measurements by weight."""
    ctx.out.say()
    ctx.out.paragraph(verdict.headline, "", "bold green" if verdict.weight is not None else "bold yellow")
    for reason in verdict.reasons:
        ctx.out.paragraph(f"- {reason}", "  ")
    ctx.out.dim(f"  Confidence: {verdict.confidence}, from {verdict.by}.")
    rows = [plain(r) for r in verdict.per_weight]
    if rows:
        ctx.out.say()
        _by_weight(ctx, rows)


def _by_weight(ctx: Context, rows: list[dict[str, Any]]) -> None:
    ctx.out.table(
        ["Weight", "Change", "Nearness", "Damage", "In words"],
        [
            [
                f"{r['weight']:g}",
                "" if r.get("effect") is None else f"{float(r['effect']):.2f} x",
                *["" if r.get(k) is None else f"{float(r[k]):.0%}" for k in ("nearness", "damage")],
                r.get("words", ""),
            ]
            for r in rows
        ],
        right=(0, 1, 2, 3),
    )
