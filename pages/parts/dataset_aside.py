"""What was set aside, with its way back."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.dataset_changes import bring_back
from pages.parts.flash import act
from pages.parts.gallery import paged, short
from pages.parts.page import caught
from studio.dataset.scan import set_aside_list
from studio.project import Project


def draw(project: Project) -> None:
    """The pictures that are kept outside of the dataset."""
    gone = set_aside_list(project)
    if not gone:
        st.caption("Nothing was set aside.")
        return
    st.button(f"Put all {len(gone)} back", key="back_all", icon=":material/undo:", on_click=act,
              args=(bring_back, project, [g.file for g in gone]))  # fmt: skip
    some, switch = paged(gone, key="aside_page", per_page=12)
    with st.grid("auto", min_column_width=190):
        for item in some:
            with st.container(border=True, gap="xsmall", key=f"aside_{item.file}"):
                with caught():
                    _small(item.path)
                st.markdown(short(item.name, 28))
                st.caption(item.reason or "by hand")
                st.button(
                    "Put back", key=f"back_{item.file}", on_click=act, args=(bring_back, project, [item.file])
                )
    switch()


def _small(path: Path) -> None:
    """A picture that may not be readable."""
    try:
        st.image(str(path), width=140, alt=path.name)
    except Exception:  # noqa: BLE001  the decoder's own errors: that is why it was set aside
        st.markdown(":red[:material/broken_image:] cannot be read")
