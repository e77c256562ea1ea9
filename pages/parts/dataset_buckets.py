"""Into which size each picture is scaled, and what is cut off."""

from __future__ import annotations

import streamlit as st

from pages.parts.gallery import crop_svg, paged, short
from studio import guidance
from studio.dataset.buckets import bucket_preview, place
from studio.dataset.scan import Scan
from studio.project import Project


def draw(project: Project, seen: Scan) -> None:
    """The buckets with their counts, and the crop drawn on each picture."""
    settings = guidance.planned_settings(project)
    buckets = bucket_preview(seen, settings)
    st.caption(f"Pictures are scaled to about the area of {settings.resolution} × {settings.resolution} pixels and grouped by shape. "
               "What lies outside of the line is cut off.")  # fmt: skip
    if not buckets:
        st.caption("No picture can be read yet.")
        return
    most = max(len(b.names) for b in buckets)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.dataframe(
            [{"Size": f"{b.width} × {b.height}", "Pictures": len(b.names)} for b in buckets],
            column_config={
                "Pictures": st.column_config.ProgressColumn(min_value=0, max_value=most, format="%d")
            },
            hide_index=True,
            alt="Pictures per bucket",
        )
        chosen = st.selectbox("Show the bucket", range(len(buckets)), key="bucket",
                              format_func=lambda i: f"{buckets[i].width} × {buckets[i].height}")  # fmt: skip
    with right:
        names, switch = paged(buckets[chosen].names, key=f"bucket_page_{chosen}", per_page=9)
        with st.grid(3, min_column_width=110):
            for name in names:
                picture = seen.get(name)
                if picture is not None:
                    kept = place(picture.width, picture.height, settings).kept
                    with st.container(gap="xxsmall", key=f"crop_{name}"):
                        st.image(
                            crop_svg(picture, settings), width="stretch", alt=f"{name}, what is trained of it"
                        )
                        st.caption(f"{short(name)} · {kept:.0%} kept")
        switch()
