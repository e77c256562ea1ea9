"""Groups of the same picture, side by side."""

from __future__ import annotations

import streamlit as st

from pages.parts.dataset_changes import keep
from pages.parts.flash import act
from pages.parts.gallery import paged, short, size_words
from studio.dataset.duplicates import find_duplicates
from studio.dataset.scan import Scan
from studio.files import human_size
from studio.project import Project


def draw(project: Project, seen: Scan) -> None:
    """Each group with its suggested picture marked; the user decides."""
    groups = find_duplicates(seen)
    if not groups:
        st.markdown(":green[:material/check:] No picture is there twice.")
        return
    st.caption("Repeated pictures are learned by heart instead of teaching something new. Keep the best of each group; the "
               "others are set aside, not deleted.")  # fmt: skip
    some, switch = paged(groups, key="duplicates_page", per_page=6)
    for group in some:
        with st.container(border=True, key=f"group_{group.names[0]}"):
            kind = (
                "The same picture, saved more than once"
                if group.kind == "exact"
                else f"Nearly the same ({group.likeness:.0%} alike)"
            )
            st.markdown(f"**{kind}**")
            with st.grid("auto", min_column_width=190):
                for name in group.names:
                    picture = seen.get(name)
                    if picture is None:
                        continue
                    best = name == group.suggested_keep
                    with st.container(gap="xsmall", key=f"twin_{name}"):
                        st.image(str(picture.thumb), width="stretch", alt=name)
                        badge = f" :green-badge[suggested: {group.why}]" if best else ""
                        st.markdown(f"{short(name, 28)}{badge}")
                        st.caption(
                            f"{size_words(picture)} · {human_size(picture.bytes)}  \n{picture.caption or 'no caption'}"
                        )
                        st.button("Keep this one", key=f"keep_{name}", icon=":material/check:" if best else None, on_click=act,
                                  args=(keep, project, group, name))  # fmt: skip
    switch()
