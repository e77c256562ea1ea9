"""The ComfyUI renderer: draws a grid on servers that the user named, several at once."""

from __future__ import annotations

import sys
from pathlib import Path

from studio.evaluation.comfyui import checking, graphs, servers
from studio.evaluation.spec import GridSpec
from studio.findings import Finding, blocking
from studio.workspace import Workspace


class ComfyUIRenderer:
    """Draws grids of SD1.5, SDXL (with Pony and Illustrious), SD3.5 and FLUX."""

    id = "comfyui"
    title = "ComfyUI"
    families: tuple[str, ...] = graphs.FAMILIES

    def check(self, spec: GridSpec, workspace: Workspace | None = None) -> list[Finding]:
        """Asks each server. One that can draw the grid is enough; what the others lack then only warns."""
        if spec.family not in self.families:
            return [
                Finding(
                    severity="block",
                    code="renderer-family",
                    what=f"ComfyUI cannot draw '{spec.family}' models.",
                    why="It knows SD1.5, SDXL, SD3.5 and FLUX models.",
                    fix="Choose the built-in renderer.",
                )
            ]
        step = 8 if spec.family in ("sd15", "sdxl") else 16
        found: list[Finding] = []
        if spec.width % step or spec.height % step:
            found.append(
                Finding(
                    severity="block",
                    code="grid-size",
                    what=f"{spec.width} x {spec.height} is not a size that this base model can draw.",
                    why=f"Both sides must be multiples of {step}.",
                    fix=f"Use {round(spec.width / step) * step} x {round(spec.height / step) * step}.",
                )
            )
        missing = [lora for lora in spec.lora_files if not lora.path.is_file()]
        found += [
            Finding(
                severity="block",
                code="lora-unreadable",
                what=f"The LoRA file {lora.path.name} is not there any more.",
                why=f"Nothing lies at {lora.path}.",
                fix="Choose another checkpoint.",
                where=(str(lora.path),),
            )
            for lora in missing
        ]
        return found + server_findings(spec, workspace or Workspace.default())

    def command(self, folder: Path) -> list[str]:
        """`python -m studio.evaluation.workers.comfy_render FOLDER`."""
        return [sys.executable, "-m", "studio.evaluation.workers.comfy_render", str(folder)]


def server_findings(spec: GridSpec, ws: Workspace) -> list[Finding]:
    """What the servers lack for a grid. Blocking only when none of them can draw it."""
    known = servers.load(ws).servers
    if not known:
        return [
            Finding(
                severity="block",
                code="comfyui-none",
                what="No ComfyUI server is known.",
                why="The studio draws on a server that runs already; it does not start one.",
                fix="Name its address on the Set-up page, or: lora-studio setup comfyui http://127.0.0.1:8188. "
                "Without a server, save the workflows: lora-studio grid workflows FOLDER.",
            )
        ]
    found: list[Finding] = []
    able = 0
    for server in known:
        state = checking.look_at(server)
        own = [*state.findings, *(checking.for_grid(spec, state) if state.is_ready else [])]
        able += not blocking(own)
        found += own
    if able:
        found = [f.model_copy(update={"severity": "warn"}) if f.severity == "block" else f for f in found]
    return found
