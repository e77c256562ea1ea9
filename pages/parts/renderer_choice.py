"""What draws a grid: the built-in renderer, or ComfyUI; and what is missing for the one chosen."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from pages.parts.comfyui_card import states
from pages.parts.nav import link
from studio import models
from studio.errors import StudioError
from studio.evaluation.comfy import drawing_options
from studio.evaluation.comfyui import checking, graphs, matching, servers
from studio.evaluation.registry import renderers
from studio.project import Project

_MODEL = (graphs.CHECKPOINT, "diffusion_model")
_PART_WORDS = {
    graphs.CHECKPOINT: "Checkpoint on the server",
    "diffusion_model": "Diffusion model on the server",
    "clip_l": "Text encoder CLIP-L",
    "clip_g": "Text encoder CLIP-G",
    "t5xxl": "Text encoder T5-XXL",
    "vae": "Autoencoder (VAE)",
}
# By the first part of a way, and whether there are more.
_WAYS = {
    (graphs.CHECKPOINT, False): "One checkpoint",
    (graphs.CHECKPOINT, True): "Checkpoint and text encoders",
    ("diffusion_model", True): "All parts apart",
}


@dataclass(frozen=True)
class Chosen:
    """options: for `plan_grid`. blocked: why nothing can be drawn with it; "" when it can."""

    options: dict[str, Any] = field(default_factory=dict)
    blocked: str = ""


def renderer_choice(project: Project) -> Chosen:
    """Ask what draws, where there is a choice: the family allows it and a server is known."""
    entry = models.get_model(project.workspace, project.intent.base_model)
    able = [r for r in renderers() if entry.family in r.families]
    known = servers.load(project.workspace).servers
    if not able:
        return Chosen(blocked=f"Nothing here draws with {entry.title}.")
    ids = [r.id for r in able if r.id != "comfyui" or known or len(able) == 1]
    chosen = ids[0]
    if len(ids) > 1:
        titles = {r.id: r.title for r in able}
        chosen = (
            st.segmented_control(
                "Drawn by", ids, default=ids[0], required=True, key="plan_renderer", format_func=titles.__getitem__,
                help="The same seed gives other pictures with another renderer; each draws its own base column.",
            )
            or ids[0]
        )  # fmt: skip
    if chosen != "comfyui":
        return Chosen({"renderer": chosen})
    if not known:
        link("setup", "Name a ComfyUI server", icon=":material/arrow_forward:")
        return Chosen(blocked=f"{entry.title} is drawn by ComfyUI, and no server is known.")
    return _with_comfyui(project, entry)


def _with_comfyui(project: Project, entry: models.BaseModelEntry) -> Chosen:
    found = states()
    ready = [s for s in found if s.is_ready]
    if not ready:
        bad = found[0].findings[0]
        return Chosen(blocked=f"{bad.what} {bad.fix}")
    st.caption(f"On {', '.join(s.server.name for s in ready)}.")
    try:
        matching.match_model(project.workspace, entry, found)
        options = drawing_options(project, "comfyui", ask=False)
    except StudioError as e:
        return Chosen(blocked=f"{e.what} {e.fix}")
    now = options["drawn_with"]
    parts = _parts(entry, now, ready)
    if parts and parts != now:
        servers.name_parts(project.workspace, entry.id, parts)
        options = drawing_options(project, "comfyui", ask=False)
    if not parts:
        return Chosen(options, f"Say which files on the server are {entry.title}.")
    return Chosen(options)


def _parts(entry: models.BaseModelEntry, now: dict[str, str], ready: list[checking.State]) -> dict[str, str]:
    """Which files of the servers the base model is: {} until each of them is chosen."""
    ways = graphs.PARTS[entry.family]
    way = next((w for w in ways if set(w) == set(now)), ways[0])
    if len(ways) > 1:
        picked = st.segmented_control(
            "Files on the server", range(len(ways)), default=ways.index(way), required=True, key="plan_server_way",
            format_func=lambda i: _WAYS[ways[i][0], len(ways[i]) > 1],
            help="How the base model lies there: all in one file, or its text encoders as files of their own.",
        )  # fmt: skip
        way = ways[picked if picked is not None else ways.index(way)]
    parts: dict[str, str] = {}
    for part in way:
        there = sorted({n for s in ready for n in s.has.get(graphs.FOLDERS[part], [])})
        told = now.get(part)
        name = st.selectbox(
            _PART_WORDS[part],
            there,
            index=there.index(told) if told in there else None,
            key=f"plan_server_{part}",
            placeholder=f"Which one is {entry.title}?" if part in _MODEL else "Choose a file",
            help=f"From the server's folder models/{graphs.FOLDERS[part]}. It is remembered.",
        )
        if name:
            parts[part] = name
    return parts if set(parts) == set(way) else {}
