"""The buckets tab: into which size each picture is scaled, what is cut off, and how many steps that makes."""

from __future__ import annotations

import plotly.graph_objects as go
import streamlit as st

from pages.parts.charts import CONFIG, colours
from pages.parts.gallery import crop_html, paged, short
from pages.parts.thumbs import thumb_url
from studio import guidance
from studio.dataset.scan import Scan
from studio.dataset.subsets import BucketSteps, bucket_steps, most_cropped
from studio.estimate import plan_steps
from studio.project import Project
from studio.settings import TrainingSettings

MUCH_CUT = 0.85
"""Share kept below which a crop is worth a look."""


def draw(project: Project, seen: Scan) -> None:
    """The histogram, the steps, and the crop drawn on each picture."""
    settings = guidance.planned_settings(project)
    buckets = bucket_steps(project, seen, settings)
    if not buckets:
        st.caption("No picture that teaches can be read yet.")
        return
    plan = plan_steps([b.shown for b in buckets], settings)
    short_batches = sum(b.last < settings.batch_size for b in buckets)
    st.markdown(
        f"Pictures are scaled to about the area of {settings.resolution} × {settings.resolution} pixels and grouped by shape, "
        f"in steps of {settings.bucket_step} pixels, as sd-scripts does it. A batch holds pictures of one bucket only."
    )
    told = (
        ("Buckets", str(len(buckets))),
        ("Shown per epoch", str(plan.pictures_per_epoch)),
        ("Steps per epoch", str(plan.steps_per_epoch)),
        ("Batches not full", f"{short_batches} of {sum(b.batches for b in buckets)}"),
    )
    with st.grid(len(told), min_column_width=150):
        for label, value in told:
            st.metric(label, value, border=True)
    left, right = st.columns([2, 3], gap="large")
    with left:
        st.plotly_chart(_histogram(buckets, settings), key="bucket_chart", config=CONFIG)
        chosen = st.selectbox(
            "Show", range(-1, len(buckets)), key="bucket", format_func=lambda i: _label(buckets, i)
        )
    of = (buckets[chosen].width, buckets[chosen].height) if chosen >= 0 else None
    cropped = most_cropped(project, seen, settings, of)
    with right:
        st.markdown(
            f":gray[The most cropped first. {cropped.below(MUCH_CUT)} of {len(cropped.pictures)} lose more than "
            f"{1 - MUCH_CUT:.0%} of their area.]"
        )
        some, switch = paged(cropped.pictures, key=f"bucket_page_{chosen}", per_page=9)
        url = thumb_url(project, seen)
        with st.grid(3, min_column_width=120):
            for name, kept in some:
                picture = seen.get(name)
                if picture is not None:
                    with st.container(gap="xxsmall", key=f"crop_{name}"):
                        st.html(crop_html(picture, settings, url(name)))
                        share = f":orange[{kept:.0%} kept]" if kept < MUCH_CUT else f"{kept:.0%} kept"
                        st.caption(f"{short(name)} · {share}")
        switch()


def _label(buckets: list[BucketSteps], i: int) -> str:
    return "All pictures" if i < 0 else f"{buckets[i].width} × {buckets[i].height}"


def _histogram(buckets: list[BucketSteps], settings: TrainingSettings) -> go.Figure:
    """Pictures in each bucket, with the batches they make."""
    tone = colours()
    labels = [f"{b.width} × {b.height}" for b in buckets]
    most = max((b.shown for b in buckets), default=1)  # a label stands behind the longest bar too
    about = [
        f"{len(b.names)} pictures, shown {b.shown} times<br>{b.batches} batches of {settings.batch_size}"
        + (f", the last of {b.last}" if b.last < settings.batch_size else "")
        for b in buckets
    ]
    figure = go.Figure(
        go.Bar(
            y=labels, x=[b.shown for b in buckets], orientation="h", marker_color=tone["line"], customdata=about,
            text=[guidance.count_words(len(b.names), "picture") for b in buckets], textposition="outside", cliponaxis=False, hovertemplate="%{y}<br>%{customdata}<extra></extra>",
        )
    )  # fmt: skip
    figure.update_layout(
        height=90 + 30 * len(buckets),
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        xaxis={
            "title": "pictures shown per epoch",
            "range": [0, 1.15 * most],
            "gridcolor": tone["grid"],
            "fixedrange": True,
            "zeroline": False,
        },
        yaxis={"type": "category", "fixedrange": True, "autorange": "reversed"},
        bargap=0.25,
    )
    return figure
