"""Whether a server can draw a grid: it answers, is new enough, knows the nodes, sees the base model and the LoRA."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from studio.errors import InputError, StudioError
from studio.evaluation.comfyui import graphs, placing, servers
from studio.evaluation.comfyui.client import Client
from studio.evaluation.comfyui.servers import Server
from studio.evaluation.spec import GridSpec
from studio.findings import Finding, blocking
from studio.models import BaseModelEntry
from studio.workspace import Workspace

TESTED = (0, 27)
"""The version of ComfyUI that the studio was tried against."""
OLDEST = (0, 3)
"""Older ones had no version to ask for."""
CHECK_TIMEOUT_S = 6.0

# What the parts of a family are usually called, for guessing. Whole words of a file name, lower case.
_HINTS = {
    "clip_l": r"clip_l",
    "clip_g": r"clip_g",
    "t5xxl": r"t5xxl|t5-xxl",
    "flux.vae": r"^ae\b|flux.*(vae|ae)",
    "sd35.vae": r"sd3.*vae|^sd3",
    "flux.diffusion_model": r"flux",
    "sd35.diffusion_model": r"sd3\.?5",
    "flux.checkpoint": r"flux",
    "sd35.checkpoint": r"sd3\.?5",
}


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
    elif number < TESTED:
        state.findings.append(
            Finding(
                severity="info",
                code="comfyui-older",
                what=f"ComfyUI at {client.server.name} is {state.version}; the studio was tried with {TESTED[0]}.{TESTED[1]}.",
                fix="Update it when something does not work.",
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


def match_model(ws: Workspace, entry: BaseModelEntry, states: Sequence[State]) -> dict[str, str]:
    """What the base model's files are called on the servers: as remembered, else found by name and size, else {}.

    A file counts as the base model when it has its very name, or its very size beside the same family. What is found is
    remembered.
    """
    known = servers.load(ws).models.get(entry.id)
    ready = [s for s in states if s.is_ready]
    if known or not ready or entry.family not in graphs.PARTS:
        return known or {}
    for state in ready:
        parts = _guess(ws, entry, state)
        if parts:
            servers.name_parts(ws, entry.id, parts)
            return parts
    return {}


def _guess(ws: Workspace, entry: BaseModelEntry, state: State) -> dict[str, str]:
    there = state.has.get("checkpoints", [])
    place = entry.location(ws)
    names = {str(entry.source).rpartition(", ")[2]}
    size = 0
    if place is not None and place.is_file() and place.suffix == ".safetensors":
        names.add(place.name)
        size = place.stat().st_size
    hit = next((t for t in there if placing.base_name(t) in names), None)
    if hit is None and size:
        with Client(state.server, CHECK_TIMEOUT_S) as client:
            sizes = client.sizes("checkpoints")
        hit = next((t for t in there if sizes.get(t) == size), None)
    if hit is not None:
        return {graphs.CHECKPOINT: hit}
    for parts in graphs.PARTS[entry.family]:
        found = {p: _hinted(entry.family, p, state.has.get(graphs.FOLDERS[p], [])) for p in parts}
        if all(found.values()):
            return {p: name for p, name in found.items() if name}
    return {}


def _hinted(family: str, part: str, there: Sequence[str]) -> str | None:
    pattern = _HINTS.get(f"{family}.{part}") or _HINTS.get(part)
    if pattern is None:
        return None
    return next((t for t in there if re.search(pattern, placing.base_name(t).lower())), None)


def choose_parts(entry: BaseModelEntry, typed: Sequence[str], states: Sequence[State]) -> dict[str, str]:
    """Parts from file names that a person gave: one checkpoint, or PART:NAME for each part of a family.

    Raises InputError when a name is not on any server, or a part is lacking.
    """
    if entry.family not in graphs.PARTS:
        raise InputError(
            f"ComfyUI cannot draw with '{entry.title}'.",
            f"It draws {', '.join(graphs.FAMILIES)} models; this one is of the family '{entry.family}'.",
            "Use the built-in renderer for it.",
        )
    parts: dict[str, str] = {}
    for word in typed:
        part, colon, name = word.partition(":")
        if not colon or part not in graphs.FOLDERS:
            part, name = graphs.CHECKPOINT, word
        folder = graphs.FOLDERS[part]
        there = sorted({n for s in states for n in s.has.get(folder, [])})
        hit = next((t for t in there if name in (t, placing.base_name(t))), None)
        if hit is None:
            raise InputError(
                f"No server has '{name}' in models/{folder}.",
                "A grid can only be drawn with files that are there.",
                f"Use one of: {', '.join(there[:12]) or 'none is there yet'}.",
            )
        parts[part] = hit
    ways = graphs.PARTS[entry.family]
    if not any(set(parts) == set(way) for way in ways):
        words = " or ".join(", ".join(way) for way in ways)
        raise InputError(
            f"{entry.title} needs other files: {words}.",
            f"Given were: {', '.join(parts) or 'none'}.",
            "Name one checkpoint, or each part as PART:FILE.",
        )
    return parts


def as_finding(e: StudioError, code: str, server: Server) -> Finding:
    """An error about a server as a blocking finding."""
    return Finding(severity="block", code=code, what=e.what, why=e.why, fix=e.fix, where=(server.address,))
