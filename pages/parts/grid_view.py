"""A grid on the page: the verdict, the pictures with their ratings, one cell large, two columns side by side, the curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from pages.parts.charts import CONFIG, weight_figure
from pages.parts.flash import act
from pages.parts.page import caught
from studio.evaluation.grid import FAMILY_WORDS, Grid
from studio.evaluation.review import CellReview, Review
from studio.evaluation.spec import Cell
from studio.evaluation.sweet_spot import CONFIDENCE_WORDS, SweetSpot
from studio.evaluation.thumbs import cell_thumb

STATES = {
    "found": (":material/check_circle:", "green"),
    "undertrained": (":material/trending_down:", "orange"),
    "overdone": (":material/local_fire_department:", "orange"),
    "unknown": (":material/help:", "gray"),
}
ROWS = 12
"""Prompts shown at once: a page of the browser stays quick with 500 cells."""


def verdict_card(
    verdict: SweetSpot,
    register: Callable[[], None] | None,
    *,
    drawn: Sequence[float],
    draw: Callable[[float], None],
) -> None:
    """The verdict in one sentence; its reasons one click away.

    register: called to go on to registration; None: no button. drawn: the weights on the grid; draw: called with the
    proposed weight when it is none of them and the person wants to see it.
    """
    icon, colour = STATES[verdict.state]
    if verdict.state == "found" and verdict.confidence == "low":
        icon, colour = STATES["unknown"]  # no tick under what the studio itself doubts
    known = verdict.weight is not None
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"### :{colour}[{icon}] {verdict.headline}", width="stretch")
        if register is not None:
            st.button(f"Register at {verdict.weight:g}" if known else "Register", key="to_register", on_click=register,
                      type="primary" if verdict.state == "found" else "secondary", icon=":material/bookmark_add:")  # fmt: skip
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f":{colour}-badge[{CONFIDENCE_WORDS[verdict.confidence]}] :gray-badge[from {verdict.by}]",
            width="content",
        )
        if verdict.low is not None and verdict.high is not None and verdict.low != verdict.high:
            st.markdown(f":gray-badge[works from {verdict.low:g} to {verdict.high:g}]", width="content")
        if known and verdict.weight not in drawn:
            st.markdown(f":gray-badge[{verdict.weight:g} lies between two columns]", width="content")
            st.button(f"Draw {verdict.weight:g} too", key="draw_too", type="tertiary", icon=":material/add:", on_click=act,
                      args=(draw, verdict.weight), help="A grid with one more column. Pictures that are there are not drawn again.")  # fmt: skip
    if verdict.follows:
        st.caption(verdict.follows)
    with st.expander("Why", icon=":material/psychology_alt:", key="why"):
        st.markdown("\n".join(f"- {r}" for r in verdict.reasons if r != verdict.follows))


def rating_words(review: CellReview) -> str:
    """What was said about a cell, as short as possible."""
    stars = "★" * review.rating if review.rating else ""
    mark = "  :material/flag:" if review.tags else ""
    note = "  :material/edit_note:" if review.note else ""
    return f"{stars}{mark}{note}".strip()


def by_place(cells: Sequence[Cell], checkpoint: str, seed: int) -> dict[tuple[str, float], Cell]:
    """(prompt id, weight) -> cell, for one checkpoint and seed."""
    return {(c.prompt.id, c.weight): c for c in cells if c.checkpoint == checkpoint and c.seed == seed}


def grid_table(
    grid: Grid, cells: Sequence[Cell], checkpoint: str, seed: int, *, rate: bool, live: bool = False
) -> None:
    """Weights across, 0 first; prompts down. Under each picture its rating; a click shows it large.

    rate: stars under each picture. live: while it is being drawn: pictures only.
    """
    spec, verdict = grid.spec, None if live else grid.verdict
    prompts = spec.prompts
    if len(prompts) > ROWS:
        place = st.pagination(-(-len(prompts) // ROWS), key=f"rows_{grid.id}") or 1
        prompts = prompts[(place - 1) * ROWS : place * ROWS]
    said = {} if live else grid.review.all()
    placed = by_place(cells, checkpoint, seed)
    words = (
        {r["weight"]: r for r in verdict.per_weight} if verdict and verdict.checkpoint == checkpoint else {}
    )
    best = next((w for w, r in words.items() if r.get("sweet")), None)
    advised = verdict.weight if verdict else None
    # One grid for head and rows, so that on a narrow screen they scroll together.
    with st.grid(1 + len(spec.weights), wrap=False, min_column_width=92, gap="small", key="cells"):
        st.markdown(":gray[Prompt]")
        for weight in spec.weights:
            mark = f" :green-badge[{'best' if weight == advised else 'nearest'}]" if weight == best else ""
            st.markdown("**0** :small[:gray[no LoRA]]" if weight == 0 else f"**{weight:g}**{mark}")
        for prompt in prompts:
            st.markdown(f"{prompt.text}  \n:small[:gray[{FAMILY_WORDS[prompt.family]}]]")
            for weight in spec.weights:
                with st.container(gap="xxsmall"):
                    cell = placed.get((prompt.id, weight))
                    if cell is not None:
                        _cell(grid, cell, said.get(cell.hash, CellReview()), rate=rate, live=live)
        if words:
            st.caption("In words")
            for weight in spec.weights:
                st.caption(
                    words[weight]["words"].replace(": sweet spot", "")
                    if weight in words
                    else "the base model"
                )


def _cell(grid: Grid, cell: Cell, said: CellReview, *, rate: bool, live: bool) -> None:
    label = f"{cell.prompt.text} at {cell.weight:g}"
    if cell.path is None:
        if cell.error:
            st.markdown(":orange[:material/broken_image:] :small[not drawn]", help=cell.error)
        else:
            st.container(border=True, height=96)  # still: a grid of pulsing boxes would be restless
        return
    st.image(str(cell_thumb(grid.project, cell.path)), width="stretch", alt=label)
    if live:
        return
    key = f"{cell.checkpoint}_{cell.hash}"
    if rate and cell.weight != 0:
        st.session_state[f"stars_{key}"] = said.rating - 1 if said.rating else None
        st.feedback(
            "stars", key=f"stars_{key}", on_change=_rated, args=(grid.review, cell.hash, f"stars_{key}")
        )
    else:
        st.button(rating_words(said) or ":material/zoom_in:", key=f"look_{key}", type="tertiary", help="See it large, rate it",
                  on_click=look_at, args=(cell,))  # fmt: skip


def _rated(review: Review, cell_hash: str, key: str) -> None:
    stars = st.session_state.get(key)
    with caught():
        review.rate(cell_hash, None if stars is None else stars + 1)


def look_at(cell: Cell) -> None:
    """Ask for a cell to be shown large."""
    st.session_state["look_at"] = (cell.checkpoint, cell.seed, cell.prompt.id, cell.weight)


def stop_looking() -> None:
    """The large view was closed."""
    st.session_state.pop("look_at", None)


def _large(column: st.delta_generator.DeltaGenerator, cell: Cell | None, caption: str) -> None:
    with column, st.container(gap="xsmall"):
        if cell is not None and cell.path is not None:
            st.image(str(cell.path), width="stretch", alt=f"{cell.prompt.text}, {caption.lower()}")
            st.markdown(f":small[{caption}]")
        else:
            st.markdown(f":gray[{caption}: not drawn yet]")


def side_by_side(grid: Grid, cells: Sequence[Cell]) -> None:
    """Two columns of the grid next to each other, prompt by prompt."""
    spec, verdict = grid.spec, grid.verdict
    options = [(lora.label, w) for lora in spec.lora_files for w in spec.weights if w != 0]

    def name(option: tuple[str, float]) -> str:
        return f"{option[1]:g}" if len(spec.lora_files) == 1 else f"{option[0]}, {option[1]:g}"

    start = options[0]
    if verdict and verdict.weight is not None:
        near = [o for o in options if o[0] == verdict.checkpoint]
        start = min(near or options, key=lambda o: abs(o[1] - (verdict.weight or 0)))
    with st.container(horizontal=True):
        left = st.selectbox("Left", options, format_func=name, key="compare_left", index=options.index(start))
        right = st.selectbox("Right", options, format_func=name, key="compare_right", index=len(options) - 1)
    seed = spec.seeds[0]
    with st.grid(2, min_column_width=340, gap="medium"):
        for prompt in spec.prompts:
            with st.container(border=True, gap="xsmall"):
                st.markdown(f"{prompt.text} :small[:gray[{FAMILY_WORDS[prompt.family]}]]")
                for column, option in zip(st.columns(2, wrap=False), (left, right), strict=True):
                    cell = by_place(cells, option[0], seed).get((prompt.id, option[1]))
                    _large(column, cell, name(option))


def curves(grid: Grid, checkpoint: str) -> None:
    """What the LoRA does over its weights, measured; and the same in words."""
    metrics, verdict = grid.metrics, grid.verdict
    rows = [r for r in (metrics or {}).get("weights", ()) if r["checkpoint"] == checkpoint]
    if not rows or verdict is None:
        st.caption("The measurements come when every picture is drawn.")
        return
    own = verdict.checkpoint == checkpoint
    st.plotly_chart(
        weight_figure(rows, verdict.low if own else None, verdict.high if own else None), key="weight_curve", config=CONFIG,
        alt="Nearness to your pictures and damage, over the weight",
    )  # fmt: skip
    st.caption("Nearness: how far the pictures went from the base model's towards yours, 100 % being like yours. Damage: what was lost of the subjects, "
               "or broken. Both compare the columns of one grid; they are no grades.")  # fmt: skip
    words = {r["weight"]: r["words"] for r in verdict.per_weight} if own else {}
    st.caption("Copies: pictures nearer to a training picture, mirrored or not, than different training pictures are to each other. Variety over "
               "seeds: against the base model's. Spread: of the nearness over prompts and seeds. Prompt adherence needs a CLIP model: not available.")  # fmt: skip
    st.table(
        [
            {"Weight": f"{r['weight']:g}", "Effect": _share(r["effect"]), "Nearness": _share(r["nearness"]),
             "Damage": _share(r["damage"]), "Without trigger": _share(r["leak"]), "Copies": _share(r.get("memorised")),
             "Variety over seeds": _share(r.get("diversity")), "Spread": _share(r.get("nearness_spread")),
             "In words": words.get(r["weight"], "the base model" if r["weight"] == 0 else "")}
            for r in rows
        ],
        border="horizontal", hide_index=True,
    )  # fmt: skip


def _share(value: float | None) -> str:
    return "not available" if value is None else f"{value:.0%}"
