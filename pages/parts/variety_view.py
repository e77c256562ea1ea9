"""The variety tab: how different the pictures are, which subset is recommended and why, content against style."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from pages.parts.dataset_changes import aside
from pages.parts.deep_look import deep_look
from pages.parts.flash import act, say
from pages.parts.gallery import paged, short
from pages.parts.subsets_view import draw as subsets
from pages.parts.thumbs import thumb_url
from pages.parts.variety_map import show_map
from studio.dataset.balance import Balance, Measure, balance
from studio.dataset.clusters import clusters
from studio.dataset.curation import Recommendation, apply, curated, recommend, suggested_size
from studio.dataset.scan import Scan
from studio.project import Project

_WHY = "Compares what is on the pictures instead of their layout, and measures the style."
_LOOKS = {"good": "green", "mixed": "orange", "poor": "red", "unknown": "gray"}
_ICONS = {"good": "check_circle", "mixed": "error", "poor": "warning", "unknown": "help"}


def draw(project: Project, seen: Scan) -> None:
    """Everything about variety."""
    features = curated(project, seen)
    if len(features) < 2:
        st.caption("Variety is measured from two training pictures on.")
        subsets(project, seen)
        return
    deep_look(project, seen, why=_WHY, key="variety")
    groups = clusters(features)
    kind = project.intent.kind
    size = int(st.session_state.get("subset_size") or suggested_size(kind, len(features), groups))
    found = recommend(project, seen, min(size, len(features)))
    alike = sum(len(g.names) for g in groups if len(g.names) > 1)
    told = (
        ("Training pictures", str(len(features)), "Regularisation pictures are not counted."),
        ("Worth", f"{found.effective[0]:.0f} different",
         "As many completely different pictures would be as varied (Vendi score). Compares only sets of about the same size."),
        ("Too much alike", f"{alike} in {sum(len(g.names) > 1 for g in groups)} clusters", "Pictures that show nearly the same."),
        ("Recommended", f"{len(found.kept)} of {len(features)}", "The subset below."),
    )  # fmt: skip
    with st.grid(len(told), min_column_width=150):
        for label, value, help in told:
            st.metric(label, value, border=True, help=help)
    small = thumb_url(project, seen)
    st.subheader("Map", anchor=False)
    st.caption("Neighbours look alike. Framed pictures belong to the recommended subset, dimmed ones do not.")
    show_map(features, found, groups, small)
    _subset(project, found, len(features), small)
    _clusters([g.names for g in groups if len(g.names) > 1], found, small)
    _balance(balance(project, seen))
    subsets(project, seen)


def _subset(project: Project, found: Recommendation, count: int, small: Callable[[str], str]) -> None:
    st.subheader("Recommended subset", anchor=False)
    st.caption(
        "Each picture was chosen because it adds most to how well the whole set is represented; among equals the sharper "
        f"and larger one. The {len(found.kept)} kept ones represent the set to {found.coverage:.0%}. Leaving out near copies is "
        "safe; whether fewer pictures teach better is not settled."
    )
    st.slider("Pictures to keep", 1, count, len(found.kept), key="subset_size")
    out = [c for c in found.choices if not c.keep]
    if out:
        st.button(f"Set the other {len(out)} aside", key="apply_subset", icon=":material/filter_alt:", on_click=act,
                  args=(_apply, project, found))  # fmt: skip
    view = st.segmented_control("Show", ["Kept", "Left out"], default="Kept", key="subset_view", required=True,
                                label_visibility="collapsed")  # fmt: skip
    chosen = [c for c in found.choices if c.keep == (view != "Left out")]
    if not chosen:
        st.caption("Nothing is left out.")
    some, switch = paged(chosen, key=f"subset_page_{view}", per_page=18)
    with st.grid("auto", min_column_width=150):
        for c in some:
            with st.container(gap="xxsmall", key=f"choice_{c.name}"):
                st.image(small(c.name), width="stretch", alt=c.name)
                st.markdown(f"{short(c.name, 22)}")
                st.caption(c.why)
    switch()


def _apply(project: Project, found: Recommendation) -> None:
    gone = apply(project, found)
    st.session_state.pop("subset_size", None)
    if gone:
        aside(project, gone)
    else:
        say("Nothing was left to set aside.")


def _clusters(groups: list[tuple[str, ...]], found: Recommendation, small: Callable[[str], str]) -> None:
    if not groups:
        return
    kept = set(found.kept)
    with st.expander(
        f"Pictures that are too much alike ({len(groups)} clusters)",
        icon=":material/workspaces:",
        key="alike",
    ):
        some, switch = paged(groups, key="clusters_page", per_page=8)
        for names in some:
            st.markdown(f":gray[{len(names)} pictures]")
            with st.container(horizontal=True, gap="small", key=f"cluster_{names[0]}"):
                for name in names[:8]:
                    with st.container(width=130, gap="xxsmall"):
                        st.image(small(name), width=120, alt=name)
                        st.caption(f"{short(name, 14)}{' :green-badge[kept]' if name in kept else ''}")
                if len(names) > 8:
                    st.caption(f"and {len(names) - 8} more")
        switch()


def _balance(found: Balance) -> None:
    st.subheader("Content and style", anchor=False)
    st.caption(
        "A style is learned apart from its contents when the contents vary and the manner stays."
        if found.kind == "style"
        else f"A {found.kind} is learned apart from its surroundings when it stays the same and the rest varies."
    )
    for m in found.measures:
        _measure(m)
    for terms, words in (
        (
            found.fused,
            "Nearly every caption says {0}. These words fuse with the trigger word and will be needed in every prompt.",
        ),
        (found.common, "Most captions say {0}. These words begin to fuse with the trigger word."),
    ):
        if terms:
            named = ", ".join(f"**{t}** ({s:.0%})" for t, s in list(terms.items())[:8])
            st.markdown(f":orange[:material/link:] {words.format(named)}")
    with st.expander("What these figures cannot know", icon=":material/visibility_off:", key="cannot_know"):
        for line in found.cannot_know:
            st.markdown(f"- {line}")


def _measure(m: Measure) -> None:
    colour, icon = _LOOKS[m.level], _ICONS[m.level]
    value = "" if m.value is None else f" :{colour}-badge[{m.value:.0%}]"
    st.markdown(f":{colour}[:material/{icon}:] **{m.title}**{value} {m.words}  \n:small[:gray[Rests on {m.how}.]]"
                if m.value is not None else f":gray[:material/{icon}:] **{m.title}** :gray[{m.words}]")  # fmt: skip
