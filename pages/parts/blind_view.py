"""Blind test: two pictures, sides hidden; left, right or alike; the count with its interval at the end."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from pages.parts.cell_pictures import cell_url
from pages.parts.flash import act
from pages.parts.words import plain
from studio.evaluation.blind import BlindTest, doubt_words, standing_words
from studio.evaluation.grid import Grid
from studio.evaluation.spec import Cell

# The pair and its buttons fit on the screen together, however large the pictures are; 640 px is what stands around them.
_PAIR = ".st-key-blind_pair img { max-height: max(240px, calc(100vh - 640px)); object-fit: contain; }"


def blind_test(grid: Grid, cells: Sequence[Cell]) -> None:
    """Choose two columns, then judge pair by pair; answers are stored at once."""
    spec = grid.spec
    options = [(lora.label, w) for lora in spec.lora_files for w in spec.weights]
    several = len(spec.lora_files) > 1

    def name(option: tuple[str, float]) -> str:
        if option[1] == 0:
            return "no LoRA"
        return f"{option[0]}, {option[1]:g}" if several else f"weight {option[1]:g}"

    options = [o for o in options if o[1] != 0] + [(spec.lora_files[0].label, 0.0)]
    usual = grid.verdict.weight if grid.verdict and grid.verdict.weight else 1.0
    near = [
        min((o for o in options if o[0] == x.label and o[1]), key=lambda o: abs(o[1] - usual))
        for x in spec.lora_files
    ]
    second = (
        near[-1] if several else min((o for o in options if o != near[0]), key=lambda o: abs(o[1] - usual))
    )
    with st.container(horizontal=True):
        a = st.selectbox("One", options, format_func=name, index=options.index(near[0]), key="blind_a")
        b = st.selectbox("The other", options, format_func=name, index=options.index(second), key="blind_b")
    if a is None or b is None or a == b:
        st.caption("Choose two different ones.")
        return
    test = BlindTest(grid.folder, a, b)
    standing = test.standing(cells)
    total = standing.judged + standing.left
    if not total:
        st.caption("They share no picture that is drawn.")
        return
    st.progress(standing.judged / total, text=f"{standing.judged} of {total} judged")
    pair = test.next(cells)
    if pair is None or st.session_state.get("blind_show"):
        st.markdown(f"### {standing_words(standing, plain(name(a)), plain(name(b)))}")
        alike = f" {standing.alike} alike, which count for neither." if standing.alike else ""
        st.caption(f"{doubt_words(standing, plain(name(a)))}{alike}")
        with st.container(horizontal=True):
            st.button(
                "Begin anew",
                key="blind_anew",
                icon=":material/restart_alt:",
                on_click=act,
                args=(_anew, test),
            )
            if pair is not None:
                st.button("Go on judging", key="blind_on", on_click=_show, args=(False,))
        return
    st.markdown(f"**{plain(pair.left.prompt.text)}** :gray[seed {pair.left.seed}]")
    st.html(f"<style>{_PAIR}</style>")
    left, right = st.container(key="blind_pair").columns(2)
    for column, cell, side in ((left, pair.left, "Left"), (right, pair.right, "Right")):
        if cell.path is not None:
            column.image(cell_url(grid.project, cell.path), width="stretch", alt=f"{side} picture")
    with st.container(horizontal=True, horizontal_alignment="center"):
        # Digits, not arrows: the control that chose this view still has the focus, and takes the arrows for itself.
        for words, key, answer, icon in (
            ("Left is better", "1", "left", "arrow_back"), ("Alike", "0", "alike", "drag_handle"), ("Right is better", "2", "right", "arrow_forward"),
        ):  # fmt: skip
            st.button(
                words,
                key=f"blind_{answer}",
                icon=f":material/{icon}:",
                shortcut=key,
                on_click=act,
                args=(test.judge, pair, answer),
            )
        if standing.judged:
            st.button(
                "Show the result so far", key="blind_result", type="tertiary", on_click=_show, args=(True,)
            )
    st.caption("Which side is which changes from pair to pair, and is told at the end.")


def _anew(test: BlindTest) -> None:
    st.session_state["blind_show"] = False
    test.forget()


def _show(on: bool) -> None:
    st.session_state["blind_show"] = on
