"""A grid on the page: the verdict, two columns side by side, the curves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape

import streamlit as st

from pages.parts.cell_pictures import cell_url
from pages.parts.words import plain
from studio.evaluation.grid import FAMILY_WORDS, Grid
from studio.evaluation.spec import Cell
from studio.evaluation.sweet_spot import CONFIDENCE_WORDS, SweetSpot

STATES = {
    "found": (":material/check_circle:", "green"),
    "undertrained": (":material/trending_down:", "orange"),
    "overdone": (":material/local_fire_department:", "orange"),
    "unknown": (":material/help:", "gray"),
}


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
    label = verdict.checkpoint or ""

    def safe(words: str) -> str:
        """A checkpoint may be called as its file is, and a file may be called anything."""
        return words.replace(label, plain(label)) if label else words

    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"### :{colour}[{icon}] {safe(verdict.headline)}", width="stretch")
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
            st.button(f"Draw {verdict.weight:g} too", key="draw_too", type="tertiary", icon=":material/add:", on_click=draw,
                      args=(verdict.weight,), help="A grid with one more column. Pictures that are there are not drawn again.")  # fmt: skip
        with st.popover("Why", icon=":material/psychology_alt:", key="why", type="tertiary"):
            st.markdown("\n".join(f"- {safe(r)}" for r in verdict.reasons if r != verdict.follows))
    if verdict.follows:
        st.caption(safe(verdict.follows))


def by_place(cells: Sequence[Cell], checkpoint: str, seed: int) -> dict[tuple[str, float], Cell]:
    """(prompt id, weight) -> cell, for one checkpoint and seed."""
    return {(c.prompt.id, c.weight): c for c in cells if c.checkpoint == checkpoint and c.seed == seed}


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
    other = next((o for o in reversed(options) if o != start), start)
    with st.container(horizontal=True):
        left = st.selectbox("Left", options, format_func=name, key="compare_left", index=options.index(start))
        right = st.selectbox(
            "Right", options, format_func=name, key="compare_right", index=options.index(other)
        )
    if left is None or right is None:
        return
    seed = spec.seeds[0]
    if len(spec.seeds) > 1:
        seed = (
            st.segmented_control("Seed", list(spec.seeds), default=seed, required=True, key="compare_seed")
            or seed
        )
    first, second = (by_place(cells, option[0], seed) for option in (left, right))
    parts = []
    for prompt in spec.prompts:
        parts.append(
            f"<section><h3>{escape(prompt.text)} <small>{escape(FAMILY_WORDS[prompt.family])}</small></h3><div>"
        )
        for found, option in ((first, left), (second, right)):
            parts.append(_figure(grid, found.get((prompt.id, option[1])), name(option)))
        parts.append("</div></section>")
    st.html(f"<style>{_PAIRS}</style><div class='pairs'>{''.join(parts)}</div>")


_PAIRS = """
.pairs { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 420px), 1fr)); gap: 16px; }
.pairs section { border: 1px solid light-dark(#dbe3e1, #2c3836); border-radius: 8px; padding: 12px; content-visibility: auto;
  contain-intrinsic-size: auto 300px; }
.pairs section > div { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; }
.pairs h3 { font-size: 15px; font-weight: 500; margin: 0 0 8px; padding: 0; overflow-wrap: anywhere; }
.pairs small, .pairs figcaption { color: light-dark(#4b5a57, #a5b4b1); font-size: 13px; font-weight: 400; }
.pairs figure { margin: 0; } .pairs img { width: 100%; height: auto; border-radius: 6px; display: block; }
"""


def _figure(grid: Grid, cell: Cell | None, caption: str) -> str:
    """One picture of a pair; the browser fetches it when it comes into view."""
    if cell is None or cell.path is None:
        why = cell.error if cell is not None and cell.error else "not drawn yet"
        return f"<figure><figcaption>{escape(caption)}: {escape(why)}</figcaption></figure>"
    size = f'width="{grid.spec.width}" height="{grid.spec.height}"'
    return (
        f'<figure><img loading="lazy" decoding="async" {size} src="{escape(cell_url(grid.project, cell.path))}" '
        f'alt="{escape(cell.prompt.text)}, {escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'
    )
