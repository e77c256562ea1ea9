"""The charts: the loss of a run, what a LoRA does over its weights, and memory as a bar."""

from __future__ import annotations

import html
from collections.abc import Sequence

import plotly.graph_objects as go
import streamlit as st

from studio.estimate import MARGIN, Estimate
from studio.files import human_memory
from studio.training.base import Checkpoint, Sample
from studio.training.progress import Metrics

CONFIG = {"displayModeBar": False, "scrollZoom": False}


def colours() -> dict[str, str]:
    """The theme's own colours, so that charts look the same in light and dark."""
    mode = st.context.theme.type or "light"

    def told(name: str) -> str:
        return str(st.get_option(f"theme.{mode}.{name}"))

    return {
        "line": told("primaryColor"),
        "second": told("orangeColor"),
        "third": told("blueColor"),
        "text": told("grayTextColor"),
        "grid": told("borderColor"),
        "red": told("redColor"),
    }


def _bare(height: int) -> go.Figure:
    tone = colours()
    figure = go.Figure()
    figure.update_layout(
        height=height,
        # Room for two rows of the legend, which keeps to the top of the chart and so never comes over the curve.
        margin={"l": 8, "r": 8, "t": 52, "b": 8},
        hovermode="x unified",
        legend={
            "orientation": "h",
            "yref": "container",
            "yanchor": "top",
            "y": 1.0,
            "x": 0,
            "font": {"size": 12},
        },
        xaxis={"showgrid": False, "zeroline": False, "fixedrange": True, "linecolor": tone["grid"]},
        yaxis={"gridcolor": tone["grid"], "zeroline": False, "fixedrange": True},
        uirevision="keep",
    )
    return figure


def loss_figure(metrics: Metrics, checkpoints: Sequence[Checkpoint], samples: Sequence[Sample]) -> go.Figure:
    """The loss over the steps: a dot a step, the moving mean as the line to read; epochs as fine lines, checkpoints and
    samples on the same axis."""
    tone, points = colours(), metrics.thinned(800)
    figure = _bare(346)
    figure.add_scatter(
        x=points["step"], y=points["loss"], mode="markers", name="each step", hoverinfo="skip",
        marker={"size": 4, "color": tone["text"], "opacity": 0.35},
    )  # fmt: skip
    figure.add_scatter(
        x=points["step"], y=points["smoothed"], mode="lines", name="mean over an epoch",
        line={"width": 3, "color": tone["line"]}, hovertemplate="%{y:.3f}<extra>mean</extra>",
    )  # fmt: skip
    low = min(points["loss"], default=0.0)
    height = max(points["loss"], default=1.0) - low
    foot = low - 0.08 * (height or 1.0)
    below = foot - 0.1 * (height or 1.0)
    if checkpoints:
        figure.add_scatter(
            x=[c.step for c in checkpoints], y=[foot] * len(checkpoints), mode="markers", name="checkpoint",
            marker={"symbol": "diamond", "size": 10, "color": tone["second"]},
            text=[c.label for c in checkpoints], hovertemplate="%{text}<extra>checkpoint</extra>",
        )  # fmt: skip
    drawn = sorted({s.step for s in samples})
    if drawn:
        figure.add_scatter(
            x=drawn, y=[below] * len(drawn), mode="markers", name="samples", hoverinfo="skip",
            marker={"symbol": "square", "size": 8, "color": tone["third"]},
        )  # fmt: skip
    per, total = metrics.steps_per_epoch, metrics.total_steps
    every = max(1, -(-metrics.total_epochs // 20))  # at most about twenty lines
    at = [epoch * per for epoch in range(every, metrics.total_epochs, every) if per]
    # All at once: add_vline takes some milliseconds for each, and this is drawn again and again.
    lines = [{"type": "line", "xref": "x", "yref": "y domain", "x0": x, "x1": x, "y0": 0, "y1": 1, "layer": "below",
              "line": {"width": 1, "color": tone["grid"]}} for x in at]  # fmt: skip
    figure.update_layout(
        shapes=lines,
        xaxis={"title": {"text": "Step"}, "range": [-0.01 * total, max(total, 1) * 1.015]},
        yaxis={"title": {"text": "Loss"}},
    )
    return figure


def loss_words(metrics: Metrics) -> str:
    """The chart in words, for those who do not see it."""
    line = metrics.smoothed
    if not line:
        return "No step was made yet"
    return f"Loss over {metrics.step} of {metrics.total_steps} steps; its mean went from {line[0]:.2f} to {line[-1]:.2f}"


def memory_bar(told: Estimate, available: int) -> None:
    """The memory as a bar: what is needed, what stays free, and the line that must not be crossed."""
    need, limit = told.memory_bytes / available, 1 - MARGIN
    mode = st.context.theme.type or "light"
    good, bad = st.get_option(f"theme.{mode}.primaryColor"), st.get_option(f"theme.{mode}.redColor")
    colour = good if need <= limit else bad
    words = f"{human_memory(told.memory_bytes)} of {human_memory(available)}"
    st.html(
        f'<div role="img" aria-label="{html.escape(words)}; {MARGIN:.0%} is kept free" style="position:relative;height:14px;'
        'border-radius:7px;overflow:hidden;background:color-mix(in srgb, currentColor 13%, transparent)">'
        f'<div style="width:{min(100, max(1.5, need * 100)):.1f}%;height:100%;background:{colour}"></div>'
        f'<div style="position:absolute;left:{limit * 100:.0f}%;top:0;bottom:0;right:0;background:repeating-linear-gradient('
        '45deg, transparent 0 4px, color-mix(in srgb, currentColor 25%, transparent) 4px 6px)"></div></div>'
    )
    st.caption(f"{words}. The hatched {MARGIN:.0%} stay free.")
