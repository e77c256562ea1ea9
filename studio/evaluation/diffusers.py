"""The built-in renderer: diffusers in a job of its own. Needs no server and no download."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from studio import files
from studio.evaluation import lora_files
from studio.evaluation.base import size_findings
from studio.evaluation.spec import GridSpec
from studio.findings import Finding
from studio.workspace import Workspace

_BYTES_PER_CELL = {"pocket": 20_000, "sd15": 700_000, "sdxl": 2_500_000}
"""Room for one PNG of the family's own size, with some to spare."""


class DiffusersRenderer:
    """Draws grids of the built-in model, SD1.5 and SDXL."""

    id = "diffusers"
    title = "Built in"
    families: tuple[str, ...] = ("pocket", "sd15", "sdxl")

    def check(self, spec: GridSpec, workspace: Workspace | None = None) -> list[Finding]:
        """Family, base model, LoRA files, packages, sizes and room on the disk."""
        found: list[Finding] = []
        if spec.family not in self.families:
            found.append(
                Finding(
                    severity="block",
                    code="renderer-family",
                    what=f"The built-in renderer cannot draw '{spec.family}' models.",
                    why="It knows the built-in model, SD1.5 and SDXL.",
                    fix="Choose another renderer.",
                )
            )
        if not spec.base_path.exists():
            found.append(
                Finding(
                    severity="block",
                    code="base-model-missing",
                    what=f"The base model '{spec.base_model}' is not on this computer.",
                    why=f"Nothing lies at {spec.base_path}.",
                    fix="Add it on the Set-up page.",
                )
            )
        found += lora_files.findings([x.path for x in spec.lora_files], spec.family, plain=True)
        missing = [m for m in ("torch", "diffusers", "transformers") if importlib.util.find_spec(m) is None]
        if missing:
            found.append(
                Finding(
                    severity="block",
                    code="packages-missing",
                    what=f"Packages are missing: {', '.join(missing)}.",
                    why="The built-in renderer draws with them.",
                    fix="Run `pip install -r requirements.txt` in the studio's environment.",
                )
            )
        step = 8 if spec.family == "pocket" else 64
        found += size_findings(spec, step)
        cells = len(spec.lora_files) * len(spec.weights) * len(spec.prompts) * len(spec.seeds)
        needed = cells * _BYTES_PER_CELL.get(spec.family, 2_500_000)
        free = files.free_bytes(spec.lora_files[0].path)
        if free < needed + 50_000_000:
            found.append(
                Finding(
                    severity="block",
                    code="disk-full",
                    what=f"{files.human_size(free)} are free on the disk; the grid may take {files.human_size(needed)}.",
                    why="A full disk would stop it half way.",
                    fix="Free some room, or choose fewer weights, prompts or seeds.",
                )
            )
        return found

    def command(self, folder: Path) -> list[str]:
        """`python -m studio.evaluation.workers.render FOLDER`."""
        return [sys.executable, "-m", "studio.evaluation.workers.render", str(folder)]
