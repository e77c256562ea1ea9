"""The map of a dataset: thumbnails on a raster, neighbours look alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import plotly.graph_objects as go
import streamlit as st

from pages.parts.charts import CONFIG, colours
from studio.dataset.clusters import Cluster
from studio.dataset.curation import Recommendation
from studio.dataset.features import Features
from studio.dataset.map import picture_map

MOST, COLUMNS = 120, 12


def show_map(
    features: Features, found: Recommendation, groups: Sequence[Cluster], small: Callable[[str], str]
) -> None:
    """Every picture, or of many the first of each cluster, the largest clusters first."""
    names: Sequence[str] = features.names
    if len(names) > MOST:
        names = [g.names[0] for g in groups[:MOST]]
        st.caption(
            f"One picture for each of the {len(names)} largest clusters; the number says how many look like it."
        )
    st.plotly_chart(_figure(features, found, groups, names, small), key="variety_map", config=CONFIG)


def _figure(
    features: Features,
    found: Recommendation,
    groups: Sequence[Cluster],
    names: Sequence[str],
    small: Callable[[str], str],
) -> go.Figure:
    tone = colours()
    columns = min(COLUMNS, max(4, len(names)))
    spots = picture_map(features, names, columns)
    why = {c.name: c for c in found.choices}
    size = {g.names[0]: len(g.names) for g in groups}
    rows = max((r for _, r in spots.values()), default=0) + 1
    # All at once: each `add_layout_image` would check all those before it again, which takes a second for a hundred.
    images = [
        {
            "source": small(name), "x": column, "y": -row, "xref": "x", "yref": "y", "sizex": 0.88, "sizey": 0.88,
            "xanchor": "center", "yanchor": "middle", "sizing": "contain", "opacity": 1.0 if why[name].keep else 0.35,
            "layer": "below",
        }
        for name, (column, row) in spots.items()
    ]  # fmt: skip
    figure = go.Figure()
    shown = list(spots)
    figure.add_scatter(
        x=[spots[n][0] for n in shown], y=[-spots[n][1] for n in shown], mode="markers+text" if len(names) < len(features) else "markers",
        marker={
            "symbol": "square", "size": 62, "color": "rgba(0,0,0,0)",
            "line": {"width": [3 if why[n].keep else 0 for n in shown], "color": tone["line"]},
        },
        text=[str(size.get(n, 1)) if size.get(n, 1) > 1 else "" for n in shown], textposition="bottom right",
        customdata=[[n, why[n].why] for n in shown], hovertemplate="%{customdata[0]}<br>%{customdata[1]}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        images=images,
        height=int(40 + 82 * rows),
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        showlegend=False,
        xaxis={"visible": False, "range": [-0.6, columns - 0.4], "fixedrange": True},
        yaxis={"visible": False, "range": [-rows + 0.4, 0.6], "fixedrange": True},
    )
    return figure
