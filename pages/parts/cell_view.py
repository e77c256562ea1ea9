"""One cell of a grid large: beside the base, another cell or the nearest training picture; arrows walk, digits rate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from pages.parts.compare_view import compare
from pages.parts.grid_view import by_place, stop_looking
from pages.parts.page import caught
from studio.evaluation.grid import Grid
from studio.evaluation.review import FAULTS, Review
from studio.evaluation.spec import Cell

BESIDE = "beside"
WAYS = {"side": "Side by side", "slider": "Slider"}
RATED = ("unusable", "poor", "fair", "good", "just right")


@st.dialog("One picture", width=1100, on_dismiss=stop_looking)
def large(grid: Grid) -> None:
    """A cell large beside another picture, with its rating, faults and note. Arrow keys walk over the grid, 1 to 5 rate."""
    asked = st.session_state.get("look_at")
    if asked is None:
        return
    checkpoint, seed, prompt_id, weight = asked
    cells = grid.cells()
    cell = by_place(cells, checkpoint, seed).get((prompt_id, weight))
    if cell is None:
        stop_looking()
        return
    rated = grid.review.get(cell.hash).rating
    stars = f" · rated {rated}" if rated else ""
    st.markdown(f"**{cell.prompt.text}** :gray[{checkpoint} · weight {weight:g} · seed {seed}{stars}]")
    if cell.path is None:
        st.info(
            cell.error or "It was not drawn yet.", title="No picture", icon=":material/image_not_supported:"
        )
    else:
        with caught():
            _beside(grid, cells, cell)
    _walk(grid, cell)
    if cell.path is not None and weight != 0:
        _review(grid, cell)
    _measured(grid, cell)


def _beside(grid: Grid, cells: Sequence[Cell], cell: Cell) -> None:
    """The cell and what the person wants to see beside it."""
    spec = grid.spec
    nearest = _nearest(grid, cell)
    options: dict[str, tuple[str, Path]] = {}
    for lora in spec.lora_files:
        for w in spec.weights:
            if (lora.label, w) == (cell.checkpoint, cell.weight) or (
                w == 0 and lora is not spec.lora_files[0]
            ):
                continue
            other = by_place(cells, lora.label, cell.seed).get((cell.prompt.id, w))
            if other is not None and other.path is not None:
                words = "without the LoRA" if w == 0 else f"weight {w:g}"
                words += f", {lora.label}" if w and len(spec.lora_files) > 1 else ""
                options[f"{lora.label} {w:g}" if w else "base"] = (words[:1].upper() + words[1:], other.path)
    if nearest is not None:
        options["nearest"] = (f"Nearest training picture ({nearest.name})", nearest)
    if not options or cell.path is None:
        if cell.path is not None:
            st.image(str(cell.path), width="stretch", alt=cell.prompt.text)
        return
    wanted = st.session_state.get(BESIDE, "base")
    shown = wanted if wanted in options else "base" if "base" in options else next(iter(options))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox("Beside it", list(options), index=list(options).index(shown), format_func=lambda o: options[o][0],
                              key=f"beside_{cell.checkpoint}_{cell.hash}", width=420) or shown  # fmt: skip
        way = st.segmented_control("How", list(WAYS), format_func=WAYS.__getitem__, default="side", required=True, key="beside_way",
                                   label_visibility="collapsed", persist_state="page")  # fmt: skip
    st.session_state[BESIDE] = chosen
    words, path = options[chosen]
    compare(path, cell.path, words, f"Weight {cell.weight:g}", slider=way == "slider", key="large_compare")


def _nearest(grid: Grid, cell: Cell) -> Path | None:
    told = ((grid.metrics or {}).get("cells") or {}).get(cell.hash) or {}
    name = str(told.get("nearest") or "")
    path = grid.project.dataset_dir / name
    return path if name and Path(name).name == name and path.is_file() else None


def _walk(grid: Grid, cell: Cell) -> None:
    """Four buttons, also on the arrow keys."""
    prompts, weights = [p.id for p in grid.spec.prompts], list(grid.spec.weights)
    row, place = prompts.index(cell.prompt.id), weights.index(cell.weight)

    def go(down: int, across: int) -> None:
        st.session_state["look_at"] = (
            cell.checkpoint, cell.seed, prompts[(row + down) % len(prompts)], weights[(place + across) % len(weights)],
        )  # fmt: skip

    with st.container(horizontal=True, horizontal_alignment="center"):
        for label, icon, key, down, across in (
            ("Weaker", "arrow_back", "Left", 0, -1), ("Prompt before", "arrow_upward", "Up", -1, 0),
            ("Next prompt", "arrow_downward", "Down", 1, 0), ("Stronger", "arrow_forward", "Right", 0, 1),
        ):  # fmt: skip
            st.button(
                label,
                key=f"walk_{key}",
                icon=f":material/{icon}:",
                shortcut=key,
                on_click=go,
                args=(down, across),
            )


def _rate(review: Review, cell_hash: str, rating: int | None) -> None:
    with caught():
        review.rate(cell_hash, rating)


def _review(grid: Grid, cell: Cell) -> None:
    """A rating, fault tags and a note, stored at once."""
    review, said = grid.review, grid.review.get(cell.hash)
    keys = {k: f"{k}_{cell.hash}" for k in ("tags", "note")}
    st.session_state[keys["tags"]] = list(said.tags)
    st.session_state.setdefault(keys["note"], said.note)

    def tagged() -> None:
        wanted = set(st.session_state[keys["tags"]])
        with caught():
            for tag in FAULTS:
                if (tag in wanted) != (tag in said.tags):
                    review.tag(cell.hash, tag, tag in wanted)

    def noted() -> None:
        with caught():
            review.note(cell.hash, st.session_state[keys["note"]] or "")

    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown("How good is it?", width="content")
        for rating, words in enumerate(RATED, 1):
            mine = said.rating == rating
            st.button(words.capitalize(), key=f"rate_{rating}", shortcut=str(rating), type="primary" if mine else "secondary",
                      on_click=_rate, args=(review, cell.hash, None if mine else rating),
                      help="Again takes it back" if mine else None)  # fmt: skip
    st.pills("What is wrong with it", list(FAULTS), selection_mode="multi", format_func=FAULTS.__getitem__, key=keys["tags"],
             on_change=tagged)  # fmt: skip
    st.text_input("Note", key=keys["note"], on_change=noted, max_chars=2000)


def _measured(grid: Grid, cell: Cell) -> None:
    """What was measured about one cell, in words."""
    found = ((grid.metrics or {}).get("cells") or {}).get(cell.hash)
    if not found or cell.weight == 0:
        return
    parts = []
    if found.get("nearness") is not None:
        parts.append(f"{found['nearness']:.0%} of the way to your pictures")
    if found.get("kept") is not None:
        parts.append(f"{max(0, found['kept']):.0%} of its subject kept")
    if found.get("fault"):
        parts.append(f"picture faults {found['fault']:.0%}")
    if found.get("nearest"):
        parts.append(
            f"most like `{found['nearest']}`" + (" (very close: a copy?)" if found.get("memorised") else "")
        )
    if parts:
        st.markdown(":small[Measured: " + ", ".join(parts) + ".]")
