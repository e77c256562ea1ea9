"""The ComfyUI renderer: draws a grid on servers that the user named, several at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from studio import models
from studio.errors import InputError
from studio.evaluation import lora_files
from studio.evaluation.base import size_findings
from studio.evaluation.comfyui import checking, graphs, matching, servers
from studio.evaluation.spec import GridSpec
from studio.findings import Finding, blocking
from studio.project import Project
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
        found += size_findings(spec, step)
        found += lora_files.findings([x.path for x in spec.lora_files], spec.family, plain=False)
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


def drawing_options(project: Project, renderer: str, *, ask: bool = True) -> dict[str, Any]:
    """What `plan_grid` must be told for a renderer: for ComfyUI, what the base model's files are called on the servers.

    ask: ask the servers when that is not known yet. Raises InputError when none answers, or none has the base model.
    """
    if renderer != ComfyUIRenderer.id:
        return {"renderer": renderer}
    ws = project.workspace
    entry = models.get_model(ws, project.intent.base_model)
    parts = servers.load(ws).models.get(entry.id)
    if parts or not ask:
        return {"renderer": renderer, "drawn_with": parts or {}}
    if entry.family not in graphs.PARTS:
        raise InputError(
            f"ComfyUI cannot draw '{entry.title}'.",
            "It knows SD1.5, SDXL, SD3.5 and FLUX models.",
            "Choose the built-in renderer.",
        )
    states = [checking.look_at(s) for s in servers.load(ws).servers]
    if not any(s.is_ready for s in states):
        bad = [f for s in states for f in blocking(s.findings)]
        raise InputError(
            "No ComfyUI server is ready." if states else "No ComfyUI server is known.",
            bad[0].what if bad else "The studio draws on a server that runs already; it does not start one.",
            bad[0].fix
            if bad
            else "Name its address on the Set-up page, or: lora-studio setup comfyui ADDRESS.",
            bad if len(bad) > 1 else None,
        )
    parts = matching.match_model(ws, entry, states)
    if parts:
        return {"renderer": renderer, "drawn_with": parts}
    there = sorted({n for s in states for n in s.has.get("checkpoints", [])})
    raise InputError(
        f"No ComfyUI server has a file that is known to be '{entry.title}'.",
        f"They have: {', '.join(there[:8])}." if there else "They have no checkpoint at all.",
        f"Put it into ComfyUI's models/checkpoints, or say which one it is: "
        f"lora-studio setup comfyui --model {entry.id}=FILE.",
    )
