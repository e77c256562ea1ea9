"""Which files of a server are a base model of the studio: found by name and size, or as a person said."""

from __future__ import annotations

import re
from collections.abc import Sequence

from studio.errors import InputError
from studio.evaluation.comfyui import graphs, placing, servers
from studio.evaluation.comfyui.checking import CHECK_TIMEOUT_S, State
from studio.evaluation.comfyui.client import Client
from studio.models import BaseModelEntry
from studio.workspace import Workspace

# What the files of published models are usually called: whole words of a file name, lower case. A model that is made for
# something else (filling, fast drawing) has the same words and one of `_OTHERS`.
_HINTS = {
    "clip_l": r"clip_l",
    "clip_g": r"clip_g",
    "t5xxl": r"t5xxl|t5-xxl",
    "flux.vae": r"^ae\b|flux.*(vae|ae)",
    "sd35.vae": r"sd3.*vae|^sd3",
    "flux.diffusion_model": r"flux.*dev",
    "sd35.diffusion_model": r"sd3\.?5.*large",
    "flux.checkpoint": r"flux.*dev",
    "sd35.checkpoint": r"sd3\.?5.*large",
}
_OTHERS = re.compile(
    r"schnell|fill|canny|depth|redux|kontext|krea|turbo|medium|inpaint|control|klein|flux\.?2"
)
_MODEL = (graphs.CHECKPOINT, "diffusion_model")


def match_model(ws: Workspace, entry: BaseModelEntry, states: Sequence[State]) -> dict[str, str]:
    """What the base model's files are called on the servers: as remembered, else found by name and size, else {}.

    A file counts as the base model when it has its very name, or its very size beside the same family; the files of a model
    that is handed around under one name (SD3.5 Large, FLUX.1 dev) also by that. What is found is remembered.
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
    for way in graphs.PARTS[entry.family]:
        if way == (graphs.CHECKPOINT,) and entry.needs:
            continue  # its file holds no text encoder
        found: dict[str, str] = {}
        for part in way:
            name = (
                _model_file(ws, entry, state, part) if part in _MODEL else _part_file(ws, entry, state, part)
            )
            if not name:
                break
            found[part] = name
        else:
            return found
    return {}


def _model_file(ws: Workspace, entry: BaseModelEntry, state: State, part: str) -> str:
    folder = graphs.FOLDERS[part]
    there = state.has.get(folder, [])
    place = entry.main_place(ws)
    names = {f.name for f in entry.files if f.part == "model"} | {str(entry.source).rpartition(", ")[2]}
    size = 0
    if place.is_file() and place.suffix == ".safetensors":
        names.add(place.name)
        size = place.stat().st_size
    hit = next((t for t in there if placing.base_name(t) in names), "")
    if not hit and size and there:
        with Client(state.server, CHECK_TIMEOUT_S) as client:
            sizes = client.sizes(folder)
        hit = next((t for t in there if sizes.get(t) == size), "")
    # A model of the user's own is only known by its own name or size.
    return hit or ("" if entry.path is not None else _hinted(f"{entry.family}.{part}", there))


def _part_file(ws: Workspace, entry: BaseModelEntry, state: State, part: str) -> str:
    there = state.has.get(graphs.FOLDERS[part], [])
    own = "ae" if part == "vae" else part
    names = {f.name for f in entry.files if f.part == own}
    place = entry.part_paths(ws).get(own)
    names |= {place.name} if place is not None else set()
    hit = next((t for t in there if placing.base_name(t) in names), "")
    return hit or _hinted(f"{entry.family}.{part}", there) or _hinted(part, there)


def _hinted(key: str, there: Sequence[str]) -> str:
    pattern = _HINTS.get(key)
    if pattern is None:
        return ""
    words = {t: placing.base_name(t).lower() for t in there}
    return next((t for t, w in words.items() if re.search(pattern, w) and not _OTHERS.search(w)), "")


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
