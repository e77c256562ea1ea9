"""Planning a grid: checkpoints or files, weights, prompts and seeds, and what that costs before it starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from pages.parts.context import advanced
from pages.parts.elsewhere import workflows_door
from pages.parts.next import primary, what_next
from pages.parts.page import caught
from pages.parts.renderer_choice import renderer_choice
from pages.parts.words import plain
from studio.errors import InputError, StudioError
from studio.evaluation import clip_skip
from studio.evaluation.grid import (
    DEFAULT_WEIGHTS,
    FAMILY_WORDS,
    GridPrompt,
    GridSpec,
    grid_cost,
    plan_grid,
    start_grid,
)
from studio.evaluation.plan import drawing_defaults, grid_prompts, parse_seeds, parse_weights
from studio.evaluation.prompts import CHOOSABLE, own_prompts
from studio.files import human_time
from studio.guidance import count_words
from studio.models import get_model
from studio.project import Project
from studio.training.runs import Run

WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5)
LONGEST_PROMPT = 2000  # characters; base models read some hundred at most


def open_grid(grid_id: str, run_id: str = "") -> None:
    """Show a grid, or, for "", plan a new one: the address says which."""
    st.query_params["grid"] = grid_id or "new"
    if run_id:
        st.query_params["run"] = run_id
    st.session_state["grid_view"] = "grid"


def plan(project: Project, run: Run | None) -> None:
    """What the grid shall show, and what that costs. run: whose checkpoints; None: only files from elsewhere."""
    st.markdown(
        f"**A new grid** :gray[for {run.id}]" if run else "**A new grid** :gray[for a LoRA from elsewhere]"
    )
    left, right = st.columns(2, gap="large")
    with left:
        chosen = _checkpoints(run)
        files, file_problem = _files(run)
        weights, weight_problem = _weights()
        drawer = renderer_choice(project)
        seeds, seed_problem, drawing = _advanced(project, [*_lora_paths(run, chosen), *files])
    with right:
        prompts, prompt_problem = _prompts(project)
    with_run = run if chosen else None
    problem = file_problem or weight_problem or seed_problem or prompt_problem
    if not problem and not (with_run or files):
        problem = "Give the path of a LoRA file." if run is None else "Choose a checkpoint or give a file."

    def planned(options: dict[str, object]) -> GridSpec:
        return plan_grid(
            project, with_run, checkpoints=chosen or "final", lora_files=files, weights=weights, prompts=prompts,
            seeds=seeds, **drawing, **options,
        )  # fmt: skip

    spec = None
    if not problem and not drawer.blocked:
        try:
            spec = planned(drawer.options)
        except StudioError as e:
            problem = f"{e.what} {e.why} {e.fix}"
    if spec is None:
        primary(
            "Draw the grid",
            key="draw",
            icon=":material/grid_view:",
            blocked=plain(problem or drawer.blocked, 600),
        )
        if not problem:
            workflows_door(project, planned)
        return
    _start(project, spec, run)
    workflows_door(project, planned)
    what_next("The pictures are drawn by a job of its own; finished ones appear at once.",
              "Then the studio measures them and proposes a weight; your ratings can overrule it.")  # fmt: skip


def _start(project: Project, spec: GridSpec, run: Run | None) -> None:
    """The button, named after what it costs."""
    cost = grid_cost(project, spec)
    takes = f", about {human_time(cost.seconds)}" if cost.seconds is not None else ""
    there = f" {cost.there} of its {cost.cells} pictures are there already." if cost.there else ""
    st.space("small")
    words = f"Draw {count_words(cost.to_render, 'picture')}{takes}"
    if primary(
        words if cost.to_render else "Put this grid together · seconds",
        key="draw",
        icon=":material/grid_view:",
    ):
        with caught():
            start_grid(project, spec)
            open_grid(spec.id, run.id if run else "")
            st.rerun()
    once = " At weight 0 all checkpoints share a picture." if len(spec.lora_files) > 1 else ""
    seeds = f" × {count_words(len(spec.seeds), 'seed')}" if len(spec.seeds) > 1 else ""
    st.caption(f"{count_words(len(spec.lora_files), 'checkpoint')} × {len(spec.weights)} weights × "
               f"{count_words(len(spec.prompts), 'prompt')}{seeds}.{once}{there} Time: {cost.basis}.")  # fmt: skip


def _checkpoints(run: Run | None) -> str:
    """Which of the run's: final, spread or all; "" for none."""
    if run is None:
        return ""
    found = run.checkpoints()
    names = {
        "final": "The last", "spread": "Early, middle, last", "all": f"All {len(found)}", "none": "None",
    }  # fmt: skip
    offered = ["final", *(["spread"] if len(found) > 2 else []), *(["all"] if len(found) > 1 else [])]
    if st.session_state.get("plan_files"):
        offered.append("none")
    default = "spread" if "spread" in offered else offered[-1]
    picked = st.segmented_control("Checkpoints", offered, default=default, format_func=names.__getitem__, required=True,
                                  key="plan_checkpoints", help="An earlier checkpoint is often better than the last one.")  # fmt: skip
    return "" if picked == "none" else str(picked or default)


def _files(run: Run | None) -> tuple[list[Path], str]:
    """LoRA files from elsewhere, and what is wrong with them."""
    box = (
        st.expander("LoRA files from elsewhere", icon=":material/folder_open:", key="plan_files_box")
        if run
        else st
    )
    typed = box.text_area(
        "LoRA files, one path a line", key="plan_files", height=80, placeholder="/home/me/loras/other.safetensors",
        help="Files on this computer, to be looked at alone or beside the checkpoints. They stay where they are.",
    )  # fmt: skip
    paths = [Path(line.strip().strip("\"'")) for line in (typed or "").splitlines() if line.strip()]
    if any("\0" in str(p) or not p.expanduser().is_absolute() for p in paths):
        return [], "Give whole paths, such as one that begins with / or ~ or C:\\."
    return list(dict.fromkeys(paths)), ""


def _weights() -> tuple[Sequence[float], str]:
    chosen = st.pills("Weights", WEIGHTS, selection_mode="multi", default=[w for w in DEFAULT_WEIGHTS if w],
                      format_func=lambda w: f"{w:g}", key="plan_weights", wrap=True,
                      help="Weight 0, the base model alone, is always on the grid.")  # fmt: skip
    typed = st.text_input("Other weights", key="plan_more_weights", placeholder="0.45, 1.3", max_chars=400,
                          help="From -2 to 4, separated by commas.")  # fmt: skip
    try:
        weights = [*chosen, *parse_weights(typed or "")]
    except InputError as e:
        return (), f"{e.what} {e.why} {e.fix}"
    return weights, "" if any(weights) else "Choose at least one weight above 0."


def _lora_paths(run: Run | None, chosen: str) -> list[Path]:
    """The files of the run that a grid would be drawn with, to ask them how they were trained."""
    return [c.path for c in run.checkpoints()] if run is not None and chosen else []


def _advanced(project: Project, loras: list[Path]) -> tuple[Sequence[int], str, dict[str, Any]]:
    """Seeds, what is wrong with them, and how to draw where that is not left to the studio."""
    if not advanced():
        return (1,), "", {}
    family = get_model(project.workspace, project.intent.base_model).family
    steps, guidance = drawing_defaults(project)
    drawing: dict[str, Any] = {}
    with st.container(horizontal=True):
        typed = st.text_input("Seeds", "1", key="plan_seeds", max_chars=400,
                              help="One picture of each kind for each seed: 1, 2, 42 or 1-4. More are surer, and slower.")  # fmt: skip
        drawing["steps"] = st.number_input("Drawing steps", 1, 200, steps, key="plan_steps")
        drawing["guidance"] = st.number_input("Guidance", 1.0, 30.0, guidance, 0.5, key="plan_guidance",
                                              help="How strictly pictures follow their prompt.")  # fmt: skip
        if family in clip_skip.FAMILIES:
            usual = clip_skip.chosen(family, None, loras)
            drawing["clip_skip"] = st.number_input(
                "Clip skip", clip_skip.LEAST, clip_skip.MOST, usual, key=f"plan_clip_skip_{usual}",
                help="From which layer of the text encoder, counted from the end, the prompt is read. 1 is usual; 2 for most anime "
                "models. A LoRA is drawn best as it was trained, and that is filled in.",
            )  # fmt: skip
    try:
        seeds = parse_seeds(typed or "")
    except InputError as e:
        return (1,), f"{e.what} {e.why} {e.fix}", drawing
    return seeds, "" if seeds else "Give at least one seed.", drawing


def _prompts(project: Project) -> tuple[list[GridPrompt], str]:
    st.markdown("Prompts", help="What each row shows. Each kind answers another question.")
    kinds = st.pills("Kinds", CHOOSABLE, selection_mode="multi", key="plan_families", format_func=lambda f: FAMILY_WORDS[f].capitalize(),
                     help="All prompts of some kinds. Without a choice: a few of each.", label_visibility="collapsed", wrap=True)  # fmt: skip
    problem, offered = "", []
    try:
        offered = grid_prompts(project, kinds or None)
    except StudioError as e:
        problem = f"{e.what} {e.why} {e.fix}"
    kept = []
    with st.container(gap="xxsmall"):
        for prompt in offered:
            if st.checkbox(
                f"{plain(prompt.text, 300)} :small[:gray[{FAMILY_WORDS[prompt.family]}]]",
                True,
                key=f"plan_{prompt.id}",
            ):
                kept.append(prompt)  # fmt: skip
    own = st.text_area("Your own prompts, one a line", key="plan_own", height=90,
                       placeholder=f"{project.intent.trigger}, a lighthouse at night")  # fmt: skip
    extra = own_prompts((own or "").splitlines(), project.intent.trigger)
    long = [p for p in extra if len(p.text) > LONGEST_PROMPT]
    if long:
        problem = f"'{long[0].text[:40]}…' has {len(long[0].text):,} characters. No base model reads more than some hundred."
    elif not problem and not kept and not extra:
        problem = "Choose or write at least one prompt."
    return [*kept, *extra], problem
