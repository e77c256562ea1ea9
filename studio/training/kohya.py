"""The kohya backend: sd-scripts in its own environment, driven as a process (see studio.training.workers.kohya)."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from studio.findings import Finding
from studio.machine import Machine
from studio.models import BaseModelEntry
from studio.settings import TrainingSettings
from studio.training import diffusers_checks
from studio.training.base import Checkpoint, TrainingPlan, find_checkpoints
from studio.training.sdscripts import config, options
from studio.training.sdscripts.log import LogReader
from studio.workspace import Workspace


class KohyaBackend:
    """Trains SD1.5, SDXL (Pony, Illustrious, NoobAI among them), SD3.5 and FLUX models with kohya's sd-scripts, which has to
    be set up."""

    id = "kohya"
    title = "kohya sd-scripts"
    families: tuple[str, ...] = tuple(options.SCRIPTS)

    def check(
        self, settings: TrainingSettings, machine: Machine, entry: BaseModelEntry, trigger: str = ""
    ) -> list[Finding]:
        """What speaks against these settings: what speaks against any LoRA training, and what sd-scripts cannot do."""
        if entry.format == "cloud":
            return [
                Finding(
                    severity="block",
                    code="model-only-rented",
                    what=f"{entry.title} is an entry for Replicate: its files are not here.",
                    why="sd-scripts trains on this computer.",
                    fix="Choose the base model of the same name that lies on this computer, or the backend Replicate.",
                    where=("backend",),
                )
            ]
        # Which optimizers are installed is asked in its own environment, by gate 3.
        found = diffusers_checks.check(
            self.families, settings, machine, entry, trigger, flow=True, packages_here=False
        )
        own = config.check(entry.family, settings) if entry.family in self.families else []
        if any(
            "text_encoder_lr" in f.where for f in own
        ):  # told of by sd-scripts' own rule, which is stricter
            found = [f for f in found if f.code != "prodigy-one-rate"]
        return found + own

    def engine(self, workspace: Workspace) -> dict[str, str]:
        """Where the sd-scripts in use lies. Raises EnvironmentalError when it is not set up."""
        from studio.training.sdscripts.install import needed

        return needed(workspace).as_dict()

    def native_files(self, plan: TrainingPlan) -> dict[str, str]:
        """train.toml, dataset.toml, the command line, and each line in words."""
        return config.native_files(plan)

    def command(self, plan: TrainingPlan) -> list[str]:
        """The worker that starts the script and follows it, with the interpreter that runs the studio."""
        return [sys.executable, "-m", "studio.training.workers.kohya", str(plan.run_folder)]

    def parse(self, line: str) -> dict[str, Any] | None:
        """The first event in a line of the script's output."""
        reader = LogReader()
        events = [*reader.feed(line), *reader.end()]
        return events[0] if events else None

    def checkpoints(self, folder: Path) -> list[Checkpoint]:
        """Whole LoRA files of the run, earliest first."""
        return find_checkpoints(folder)
