"""The built-in backend: diffusers and peft, launched through accelerate (see studio.training.workers)."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import psutil

from studio import machine as computer
from studio.findings import Finding
from studio.machine import Machine
from studio.models import BaseModelEntry
from studio.settings import TrainingSettings, knobs
from studio.training import diffusers_checks
from studio.training.base import Checkpoint, TrainingPlan, find_checkpoints

_OUT_OF_MEMORY = re.compile(r"OutOfMemoryError|CUDA out of memory|DefaultCPUAllocator: can't allocate")


class DiffusersBackend:
    """Trains the built-in model, SD1.5 and SDXL on a CPU or an NVIDIA card. Needs nothing that the studio lacks."""

    id = "diffusers"
    title = "Built in (diffusers)"
    families: tuple[str, ...] = ("pocket", "sd15", "sdxl")

    def check(
        self, settings: TrainingSettings, machine: Machine, entry: BaseModelEntry, trigger: str = ""
    ) -> list[Finding]:
        """What speaks against these settings: see studio.training.diffusers_checks."""
        return diffusers_checks.check(self.families, settings, machine, entry, trigger)

    def native_files(self, plan: TrainingPlan) -> dict[str, str]:
        """plan.json, which is all that the worker reads, and the same in words."""
        return {
            "plan.json": json.dumps(plan.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n",
            "plan.md": _explained(plan),
        }

    def command(self, plan: TrainingPlan) -> list[str]:
        """`accelerate launch` of the worker on this plan's run folder, with the interpreter that runs the studio."""
        device = computer.detect().device
        line = [
            sys.executable,
            "-m",
            "accelerate.commands.launch",
            "--config_file",
            str(Path(__file__).parent / "workers" / "accelerate.yaml"),
            "--num_processes",
            "1",
            "--num_machines",
            "1",
            "--dynamo_backend",
            "no",
            "--mixed_precision",
            plan.settings.precision,
            "--num_cpu_threads_per_process",
            str(threads()),
        ]
        if device == "cpu":
            line.append("--cpu")
        return [*line, "-m", "studio.training.workers.train", str(plan.run_folder)]

    def parse(self, line: str) -> dict[str, Any] | None:
        """The worker tells events itself; its log only matters for a shortage of memory that killed it."""
        if _OUT_OF_MEMORY.search(line):
            return {"type": "out_of_memory", "line": line.strip()[:400]}
        return None

    def checkpoints(self, folder: Path) -> list[Checkpoint]:
        """Whole LoRA files of the run, earliest first."""
        return find_checkpoints(folder)


def threads() -> int:
    """CPU threads for the computation: one a physical core, as hyper-threads share the units that multiply; fewer when
    OMP_NUM_THREADS, which every such program heeds, says so."""
    cores = computer.detect().cores
    physical = psutil.cpu_count(logical=False) or cores
    told = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cores, physical, int(told) if told.isdigit() and int(told) else cores))


def _explained(plan: TrainingPlan) -> str:
    """plan.json in words: one table row for each setting."""
    lines = [
        f"# {plan.output_name}",
        "",
        f"Base model: {plan.model_title or plan.model_path.name} ({plan.family}, predicts "
        f"{plan.effective_prediction}). Pictures: {len(plan.pictures)}. Trigger word: {plan.trigger or 'none'}.",
        "",
        "| setting | value | what it does |",
        "|---|---|---|",
    ]
    for name, knob in knobs().items():
        value = getattr(plan.settings, name)
        shown = ", ".join(value) if isinstance(value, tuple) else f"{value}"
        shown = knob.choices.get(shown, shown) or "(none)"
        lines.append(f"| {knob.title} (`{name}`) | {shown} {knob.unit} | {knob.help} |".replace("  |", " |"))
    return "\n".join(lines) + "\n"
