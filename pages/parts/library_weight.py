"""The recommended weight of a LoRA on its card: changed in place, with the weights it had and the way back."""

import streamlit as st

from pages.parts.context import workspace
from pages.parts.flash import act, say
from pages.parts.words import plain
from studio.guidance import count_words
from studio.library.entry import LibraryEntry
from studio.library.weight import LEAST, MOST, Changed, set_weight, undo_weight

TURN = "library_weight_turn"


def weight(entry: LibraryEntry) -> None:
    """The weight, and behind a button its change."""
    key = f"weight_{entry.slug}"
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.markdown(f":material/tune: Weight **{entry.weight_words}**", width="content")
        with st.popover(
            "Change",
            key=f"{key}_door_{st.session_state.get(TURN, 0)}",
            icon=":material/edit:",
            type="tertiary",
            help="Recommend another weight",
        ):
            st.number_input(
                "Recommended weight", LEAST, MOST, entry.weight, 0.05, key=f"{key}_{entry.weight:g}", format="%.2f",
                help="It is written into the file's own details too, and into copies in other programs.",
            )  # fmt: skip
            st.button(
                "Save",
                key=f"{key}_save",
                type="primary",
                on_click=act,
                args=(_save, entry, f"{key}_{entry.weight:g}"),
            )
            if entry.weights_before:
                st.caption("Before")
                for old in reversed(entry.weights_before[-8:]):
                    st.markdown(f"{old.words} :small[:gray[until {old.until[:10]}]]")
                st.button(
                    "Undo the last change",
                    key=f"{key}_undo",
                    icon=":material/undo:",
                    on_click=act,
                    args=(_undo, entry),
                )


def _save(entry: LibraryEntry, key: str) -> None:
    value = st.session_state[key]
    told = set_weight(workspace(), entry.slug, entry.weight if value is None else float(value))
    st.session_state[TURN] = (
        st.session_state.get(TURN, 0) + 1
    )  # under another key the popover is a new one, which is closed
    if told.before == told.entry.weight:
        say(f"The weight of **{plain(entry.title)}** is {told.entry.weight:g} already.", in_vain=True)
        return
    now = told.entry.weight
    say(_told(told), undo=lambda: undo_weight(workspace(), entry.slug, now))


def _undo(entry: LibraryEntry) -> None:
    told = undo_weight(workspace(), entry.slug, entry.weight)
    st.session_state[TURN] = st.session_state.get(TURN, 0) + 1
    say(_told(told))


def _told(told: Changed) -> str:
    """What was changed, here and elsewhere."""
    words = (
        f"The weight of **{plain(told.entry.title)}** is {told.entry.weight:g} now; it was {told.before:g}."
    )
    if told.followed:
        words += f" {count_words(len({p.parent for p in told.followed}), 'copy', 'copies')} in other programs followed."
    if told.stays:
        words += f" {count_words(len(told.stays), 'file')} there was changed by hand and stays as it is."
    return words
