"""Projects in every state that a page may meet, written in the formats of the real thing; no process is started."""

from __future__ import annotations

import json
import math
import random
import struct
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageOps

from studio import choices, environment, files, gates
from studio.captions.store import CaptionStore
from studio.dataset.intake import import_pictures
from studio.evaluation.grid import Grid, plan_grid
from studio.evaluation.spec import plan_cells
from studio.evaluation.store import CellStore
from studio.machine import detect
from studio.project import Intent, Project, create_project
from studio.training.prepare import freeze
from studio.training.runs import MANIFEST, Run
from studio.workspace import Workspace, shipped

SUBJECTS = ("car", "bus", "cat", "fox", "tree", "house", "apple", "gift")


def pictures(folder: Path) -> Path:
    """Eight small pictures with captions."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, subject in enumerate(SUBJECTS):
        picture = Image.new("RGB", (96, 96 if n % 2 else 80), (20, 40, 110 + 9 * n))
        draw = ImageDraw.Draw(picture)
        for k in range(4):
            draw.line([(5 * n, 8 + 19 * k), (92 - 7 * k, 20 + 11 * n)], fill="white", width=2)
        draw.ellipse([10 + 6 * n, 20, 50 + 5 * n, 60 + n], outline="white", width=3)
        picture.save(folder / f"{n + 1:02}_{subject}.png")
        (folder / f"{n + 1:02}_{subject}.txt").write_text(f"bluprnt, {subject}", encoding="utf-8")
    return folder


def project(workspace: Workspace, source: Path, *, name: str = "Blueprint", preset: bool = True) -> Project:
    """A project with captioned pictures and, unless told otherwise, the quick preset."""
    made = create_project(workspace, Intent(kind="style", name=name, trigger="bluprnt", description="Plans"))
    import_pictures(made, [source])
    CaptionStore(made).all()
    if preset:
        choices.choose_preset(made, "pocket-quick")
    return made


def pass_gates(made: Project, monkeypatch: Any = None) -> None:
    """All four gates pass. The package probe and the dry run, which start processes, are answered by hand."""
    if monkeypatch is not None:
        monkeypatch.setattr(environment, "probe", lambda _m: {"failed": {}, "torch": "2.13.0", "cuda": False})
    for gate in gates.GATES[:3]:
        gates.run_gate(made, gate)
    facts = {
        "seconds_per_step": 0.2, "peak_bytes": 750_000_000, "start_seconds": 12.0, "steps_run": 4,
        "forecast_seconds": 24.0, "forecast_words": "24 seconds", "steps": 65,
    }  # fmt: skip
    gates.save_verdict(made, "dry_run", [], gates.current_fingerprint(made, "dry_run"), facts)


def lora_file(path: Path, *, epoch: int, step: int) -> None:
    """A whole, tiny LoRA file in kohya's key names."""
    stem = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    header: dict[str, Any] = {
        "__metadata__": {
            "ss_epoch": str(epoch),
            "ss_steps": str(step),
            "ss_network_dim": "1",
            "ss_num_epochs": "5",
        },
        f"{stem}.alpha": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        f"{stem}.lora_down.weight": {"dtype": "F32", "shape": [1, 4], "data_offsets": [4, 20]},
        f"{stem}.lora_up.weight": {"dtype": "F32", "shape": [4, 1], "data_offsets": [20, 36]},
    }
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + struct.pack("<9f", 1.0, *[float(epoch)] * 8))


def run(
    made: Project, *, state: str = "finished", steps: int = 65, run_id: str = "", look: Path | None = None
) -> Run:
    """A training run that ended as told after `steps` of 65 steps."""
    folder = made.runs_dir / (run_id or files.new_id("run"))
    entry = choices.entry_of(made)
    plan = freeze(made, entry, folder, output_name="blueprint")
    total, per_epoch = 65, 13
    settings = made.settings.model_dump(mode="json")
    files.write_json(
        folder / MANIFEST,
        {
            "id": folder.name, "project": made.slug, "created": files.now(),
            "intent": made.intent.model_dump(mode="json"), "settings": settings, "preset": made.preset,
            "dataset": {"fingerprint": "d1", "pictures": len(plan.pictures), "plan_fingerprint": plan.fingerprint()},
            "base_model": {"id": entry.id, "title": entry.title, "fingerprint": "b1"},
            "steps": {"total": total, "per_epoch": per_epoch, "epochs": 5},
            "forecast_seconds": 24.0, "machine": detect().as_dict(), "command": ["python"], "gates": {},
        },
    )  # fmt: skip
    _events(folder, plan.prompts, steps, total, per_epoch, look)
    _job(folder, "training", f"{made.intent.name}: training", state)
    return Run(folder)


def _events(
    folder: Path, prompts: tuple[str, ...], steps: int, total: int, per_epoch: int, look: Path | None
) -> None:
    chance, t = random.Random(4), 1_795_000_000.0
    out: list[dict[str, Any]] = [
        {"type": "stage", "name": "model", "message": "Loading Pocket", "t": t},
        {"type": "plan", "total_steps": total, "epochs": 5, "steps_per_epoch": per_epoch, "trainable": 218112,
         "device": "cpu", "t": t},
    ]  # fmt: skip

    def sample(step: int, epoch: int) -> None:
        for i, prompt in enumerate(prompts):
            path = folder / "samples" / f"{step:06}_{i}.png"
            path.parent.mkdir(exist_ok=True)
            _blend(look, i, step / total).save(path)
            files.write_json(path.with_suffix(".json"), {"prompt": prompt, "epoch": epoch, "step": step})
            out.append({"type": "sample", "path": f"samples/{path.name}", "step": step, "epoch": epoch,
                        "prompt": prompt, "t": t})  # fmt: skip

    sample(0, 0)
    losses: list[float] = []
    for step in range(1, steps + 1):
        epoch = (step - 1) // per_epoch + 1
        losses.append(0.35 + 0.5 * math.exp(-step / 22) + chance.uniform(-0.12, 0.12))
        recent = losses[-per_epoch:]
        out.append({"type": "step", "step": step, "epoch": epoch, "loss": losses[-1],
                    "loss_avg": sum(recent) / len(recent), "lr": {"unet": 1.2e-3 * (1 - step / total)},
                    "s_per_step": 0.21, "memory": 750_000_000, "t": t + step * 0.21})  # fmt: skip
        if step % per_epoch == 0:
            final = step == total
            name = "blueprint.safetensors" if final else f"blueprint-{epoch:06}.safetensors"
            lora_file(folder / "checkpoints" / name, epoch=epoch, step=step)
            out.append({"type": "epoch", "epoch": epoch, "loss_avg": sum(recent) / len(recent), "t": t})
            out.append({"type": "checkpoint", "path": f"checkpoints/{name}", "step": step, "epoch": epoch,
                        "final": final, "t": t})  # fmt: skip
            sample(step, epoch)
    for event in out:
        files.append_jsonl(folder / "events.jsonl", event)


def _job(folder: Path, kind: str, title: str, state: str) -> None:
    spec = {"kind": kind, "title": title, "command": ["python"], "env": {}, "cwd": None, "project": None,
            "stop_grace_s": 60.0, "secrets": [], "attempt": 1, "created": files.now(), "launched": files.now()}  # fmt: skip
    files.write_json(folder / "job.json", spec)
    (folder / "log.txt").write_text("one line of the log\n", encoding="utf-8")
    error = None
    if state == "failed":
        error = {"error": "StudioError", "what": "The loss became NaN.", "why": "The learning rate is too high.",
                 "fix": "Halve the learning rate and start again.", "findings": []}  # fmt: skip
    if state != "interrupted":
        files.write_json(
            folder / "exit.json",
            {"attempt": 1, "state": state, "code": 0 if state == "finished" else 1, "signal": None, "forced": False,
             "started_at": files.now(), "ended_at": files.now(), "seconds": 26.0, "error": error, "result": None},
        )  # fmt: skip


def _blend(look: Path | None, index: int, share: float) -> Image.Image:
    found = sorted((look or shipped("data", "sample")).glob("*.png"))
    styled = Image.open(found[(index * 3) % len(found)]).convert("RGB").resize((64, 64))
    plain = ImageOps.posterize(ImageOps.invert(styled), 4)
    return Image.blend(plain, styled, min(1.0, max(0.0, share)))


def grid(
    made: Project, of: Run, *, state: str = "finished", checkpoints: str = "spread", draw: float = 1.0,
    look: Path | None = None,
) -> Grid:  # fmt: skip
    """A grid of a run, the first `draw` share of its cells drawn, with measurements when all are."""
    spec = plan_grid(made, of, checkpoints=checkpoints)  # type: ignore[arg-type]
    folder = made.grids_dir / spec.id
    files.write_text(folder / "grid.json", spec.model_dump_json(indent=2))
    store, cells = CellStore(made), plan_cells(spec)
    order = {p.id: i for i, p in enumerate(spec.prompts)}
    for cell in cells[: round(len(cells) * draw)]:
        store.put(cell.hash, _blend(look, order[cell.prompt.id], cell.weight), {"prompt": cell.prompt.text})
    _job(folder, "grid", f"Grid of {len(cells)} pictures", state)
    if draw < 1:
        return Grid(folder)
    weights = [
        {"checkpoint": lora.label, "weight": w, "cells": 5, "pixels": w / 3, "effect": round(w * 1.1, 3),
         "nearness": round(min(1.0, w * 1.25), 3), "nearness_spread": 0.1, "kept": round(1 - 0.62 * w**2, 3),
         "fault": round(max(0.0, w - 0.8), 3), "damage": round(0.62 * w**2, 3), "leak": 0.2,
         "nearest_similarity": 0.5}
        for lora in spec.lora_files
        for w in spec.weights
    ]  # fmt: skip
    per_cell = {c.hash: {"pixels": 0.1, "effect": 0.4, "nearness": round(c.weight, 2), "kept": 0.8, "fault": 0.0,
                         "nearest": "01_car.png", "nearest_similarity": 0.6} for c in cells}  # fmt: skip
    files.write_json(
        folder / "metrics.json",
        {"version": 1, "kind": spec.kind, "features": "test", "cells": per_cell, "weights": weights,
         "reference": {"training_pictures": 8, "separable": True, "distance": 3.0, "prompts": 6, "seeds": 1}},
    )  # fmt: skip
    return Grid(folder)
