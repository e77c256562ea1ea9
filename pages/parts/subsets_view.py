"""Repeats and regularisation: which pictures are shown how often, and what for."""

from __future__ import annotations

import streamlit as st

from pages.parts.flash import act, say
from pages.parts.page import caught
from studio import guidance
from studio.captions.store import CaptionStore
from studio.dataset.curation import suggested_repeats
from studio.dataset.scan import Scan
from studio.dataset.subsets import (
    MOST_REPEATS,
    REGULARISATION,
    mark_regularisation,
    matching,
    set_repeats,
    shown_subsets,
    subset_findings,
    teaching_count,
)
from studio.guidance import count_words
from studio.project import Project


def draw(project: Project, seen: Scan) -> None:
    """How often each picture is shown, with what changes it."""
    settings = guidance.planned_settings(project)
    groups, shown = shown_subsets(project, seen, settings)
    st.subheader("Repeats and regularisation", anchor=False)
    wanted, taught = suggested_repeats(teaching_count(project)), sum(not s.regularisation for s in groups)
    st.caption(
        f"The setting repeats each picture {count_words(settings.repeats, 'time')} an epoch. Common practice aims at about 100 "
        f"pictures an epoch, which would be {count_words(wanted, 'repeat')} here. Single pictures can have repeats of their own."
    )
    if len(groups) > 1 or taught == 0:
        st.dataframe(
            [
                {
                    "Pictures": len(s.names),
                    "For": "regularisation" if s.regularisation else "training",
                    "Repeats": s.repeats,
                    "Shown per epoch": sum(shown.get(n, 0) for n in s.names),
                    "Not used": sum(n not in shown for n in s.names),
                    "Such as": ", ".join(s.names[:3]),
                }
                for s in groups
            ],
            hide_index=True,
            alt="Subsets of the dataset",
        )
    for f in subset_findings(project, settings, CaptionStore(project).all()):
        st.markdown(f":orange[:material/warning:] **{f.what}** {f.why} {f.fix}")
    with st.expander("Change repeats or mark regularisation pictures", icon=":material/tune:", key="subsets"):
        for line in REGULARISATION:
            st.markdown(f":gray[{line}]")
        with caught():
            _form(project, seen)


def _form(project: Project, seen: Scan) -> None:
    pattern = st.text_input(
        "Names of the pictures", key="subset_names", placeholder="reg_*", help="`*` stands for anything."
    )
    names = matching([p.name for p in seen], pattern) if pattern.strip() else []
    if pattern.strip():
        st.caption(f"{count_words(len(names), 'picture')} of {len(seen)} fit.")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            "Use for regularisation",
            key="mark_reg",
            disabled=not names,
            on_click=act,
            args=(_mark, project, names, True),
        )
        st.button(
            "Use for training",
            key="unmark_reg",
            disabled=not names,
            on_click=act,
            args=(_mark, project, names, False),
        )
        times = st.number_input("Own repeats", 1, MOST_REPEATS, 1, key="own_repeats", width=130)
        st.button(
            "Set repeats",
            key="set_repeats",
            disabled=not names,
            on_click=act,
            args=(_repeat, project, names, int(times)),
        )


def _mark(project: Project, names: list[str], on: bool) -> None:
    changed = mark_regularisation(project, names, on)
    say(
        f"{count_words(len(changed), 'picture')} now for {'regularisation' if on else 'training'}.",
        undo=(lambda: _mark(project, changed, not on)) if changed else None,
    )


def _repeat(project: Project, names: list[str], times: int) -> None:
    changed = set_repeats(project, names, times)
    say(f"{count_words(len(changed), 'picture')} shown {count_words(times, 'time')} each, times the setting.")
