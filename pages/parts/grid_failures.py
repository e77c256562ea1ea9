"""The pictures of a grid that could not be drawn: each reason once, with its cells and a button to try again."""

from __future__ import annotations

import streamlit as st

from pages.parts.flash import act
from pages.parts.words import plain
from studio.evaluation.grid import Grid, resume_grid
from studio.evaluation.spec import Cell
from studio.guidance import count_words

_MOST = 12


def failed_cells(grid: Grid) -> None:
    """Nothing when none failed."""
    reasons: dict[str, dict[str, Cell]] = {}
    for cell in grid.cells():
        if cell.error and cell.path is None:
            reasons.setdefault(cell.error, {}).setdefault(cell.hash, cell)
    if not reasons:
        return
    count = sum(map(len, reasons.values()))
    with st.expander(
        f"{count_words(count, 'picture')} could not be drawn", icon=":material/error:", key="failed_cells"
    ):
        for number, (why, cells) in enumerate(reasons.items()):
            st.markdown(f"**{count_words(len(cells), 'picture')}** · {plain(why, 600)}")
            for cell in list(cells.values())[:_MOST]:
                with st.container(horizontal=True, vertical_alignment="center", gap="small"):
                    which = (
                        f"{plain(cell.checkpoint)} · weight {cell.weight:g}"
                        if cell.weight
                        else "without the LoRA"
                    )
                    st.markdown(
                        f":small[{which} · seed {cell.seed} · {plain(cell.prompt.text, 200)}]",
                        width="stretch",
                    )
                    st.button("Try again", key=f"retry_{cell.hash}", type="tertiary", icon=":material/refresh:",
                              on_click=act, args=(_again, grid, [cell.hash]))  # fmt: skip
            if len(cells) > _MOST:
                st.caption(f"And {len(cells) - _MOST} more.")
            if len(cells) > 1:
                st.button(f"Try these {len(cells)} again", key=f"retry_all_{number}", icon=":material/refresh:",
                          on_click=act, args=(_again, grid, list(cells)))  # fmt: skip


def _again(grid: Grid, cells: list[str]) -> None:
    resume_grid(grid, cells)
