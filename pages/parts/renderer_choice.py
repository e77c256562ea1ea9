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
from studio.evaluation.comfyui import checking, graphs, servers
from studio.evaluation.registry import renderers
from studio.project import Project


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
        checking.match_model(project.workspace, entry, found)
        options = drawing_options(project, "comfyui", ask=False)
    except StudioError as e:
        return Chosen(blocked=f"{e.what} {e.fix}")
    there = sorted({n for s in ready for n in s.has.get("checkpoints", [])})
    parts = options["drawn_with"]
    if graphs.CHECKPOINT in parts or not parts:
        now = parts.get(graphs.CHECKPOINT)
        picked = st.selectbox(
            "Checkpoint on the server",
            there,
            index=there.index(now) if now in there else None,
            key="plan_server_model",
            placeholder=f"Which one is {entry.title}?",
            help="The file that is the project's base model. It is remembered.",
        )
        if picked and picked != now:
            servers.name_parts(project.workspace, entry.id, {graphs.CHECKPOINT: picked})
            options = drawing_options(project, "comfyui", ask=False)
    if not options["drawn_with"]:
        return Chosen(options, "Say which checkpoint on the server is the base model.")
    return Chosen(options)
