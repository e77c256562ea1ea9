"""Whether a server can draw a grid: it answers, is new enough, knows the nodes, sees the base model and the LoRA."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import InputError, StudioError
from studio.evaluation.comfyui import graphs, placing
from studio.evaluation.comfyui.client import Client
from studio.evaluation.comfyui.servers import Server
from studio.evaluation.spec import GridSpec
from studio.findings import Finding, blocking

TESTED = (0, 27)
"""The version of ComfyUI that the studio was tried against."""
OLDEST = (0, 3)
"""Older ones had no version to ask for."""
CHECK_TIMEOUT_S = 6.0


@dataclass
class State:
    """What a look at a server found.

    version: as it tells it. device: what it draws on. memory: bytes of that in all. has: part folder -> file names.
    """

    server: Server
    version: str = ""
    device: str = ""
    memory: int = 0
    lora_folder: Path | None = None
    has: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_ready(self) -> bool:
        """Whether nothing stands in the way."""
        return not blocking(self.findings)

    def as_dict(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "address": self.server.address,
            "ready": self.is_ready,
            "version": self.version,
            "device": self.device,
            "memory_bytes": self.memory,
            "lora_folder": str(self.lora_folder) if self.lora_folder else None,
            "checkpoints": self.has.get("checkpoints", []),
            "findings": [f.model_dump(mode="json") for f in self.findings],
        }


def look_at(server: Server, *, everything: bool = True) -> State:
    """Ask a server what it is and has. Never raises: what is wrong is in the findings."""
    state = State(server)
    with Client(server, CHECK_TIMEOUT_S) as client:
        try:
            _look(client, state, everything)
        except StudioError as e:
            state.findings.append(as_finding(e, "comfyui-away", server))
    return state


def _look(client: Client, state: State, everything: bool) -> None:
    told = client.stats()
    system = told.get("system") or {}
    state.version = str(system.get("comfyui_version") or "")
    devices = told.get("devices") or [{}]
    state.device = str(devices[0].get("name", "")).removesuffix(" : cudaMallocAsync")
    state.memory = int(devices[0].get("vram_total") or 0)
    number = tuple(int(n) for n in re.findall(r"\d+", state.version)[:2])
    if not number or number < OLDEST:
        state.findings.append(
            Finding(
                severity="block",
                code="comfyui-old",
                what=f"ComfyUI at {client.server.name} is too old ({state.version or 'it tells no version'}).",
                why="It does not speak the protocol that the studio uses.",
                fix=f"Update it; the studio was tried with {TESTED[0]}.{TESTED[1]}.",
            )
        )
    elif number != TESTED:
        older = number < TESTED
        state.findings.append(
            Finding(
                severity="info",
                code="comfyui-older" if older else "comfyui-newer",
                what=f"ComfyUI at {client.server.name} is {state.version}; the studio was tried with {TESTED[0]}.{TESTED[1]}.",
                fix="Update it when something does not work."
                if older
                else "Nothing to do while it draws; an update of the studio may be needed when it does not.",
            )
        )
    state.lora_folder = placing.lora_folder(client)
    for folder in dict.fromkeys(graphs.FOLDERS.values()) if everything else ("checkpoints",):
        state.has[folder] = client.models(folder)


def for_grid(spec: GridSpec, state: State) -> list[Finding]:
    """What this server lacks for a grid: nodes, the base model's files, the LoRA files when nobody can put them there."""
    found: list[Finding] = []
    server = state.server
    with Client(server, CHECK_TIMEOUT_S) as client:
        try:
            missing = [n for n in graphs.nodes_needed(spec) if not client.has_node(n)]
            if missing:
                found.append(
                    Finding(
                        severity="block",
                        code="comfyui-nodes",
                        what=f"ComfyUI at {server.name} has no node {', '.join(missing)}.",
                        why="The grid is drawn with it.",
                        fix="Update ComfyUI.",
                    )
                )
            try:
                resolve(state, spec.drawn_with)
            except InputError as e:
                found.append(as_finding(e, "comfyui-model", server))
            if state.lora_folder is None:
                for lora in spec.lora_files:
                    if placing.seen_as(client, lora) is None:
                        found.append(as_finding(placing.by_hand(client, lora), "comfyui-lora", server))
        except StudioError as e:
            found.append(as_finding(e, "comfyui-away", server))
    return found


def resolve(state: State, parts: dict[str, str]) -> dict[str, str]:
    """The names of a grid's base model files on this very server: verbatim, or in another subfolder.

    Raises InputError naming what it does not have.
    """
    found: dict[str, str] = {}
    lacking: list[str] = []
    for part, name in parts.items():
        folder = graphs.FOLDERS.get(part, part)
        there = state.has.get(folder, [])
        near = [t for t in there if placing.base_name(t) == placing.base_name(name)]
        if name in there or near:
            found[part] = name if name in there else near[0]
        else:
            lacking.append(f"{name} in models/{folder}")
    if lacking or not parts:
        raise InputError(
            f"ComfyUI at {state.server.name} does not have the base model.",
            f"It lacks {', '.join(lacking)}." if lacking else "Nobody said what it is called there.",
            "Put the file there (ComfyUI sees it after a reload of its page), or say which one to use: "
            "lora-studio setup comfyui --model ID=FILE.",
        )
    return found


def as_finding(e: StudioError, code: str, server: Server) -> Finding:
    """An error about a server as a blocking finding."""
    return Finding(severity="block", code=code, what=e.what, why=e.why, fix=e.fix, where=(server.address,))
