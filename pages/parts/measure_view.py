"""The measures of a grid as curves over the weight or over the checkpoints, one chart each, with their spread over the seeds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from pages.parts.charts import CONFIG, colours
from pages.parts.flash import act
from pages.parts.nav import link
from studio.evaluation.curve import nearest_drawn
from studio.evaluation.grid import Grid, measure_only
from studio.evaluation.measures import (
    BUILT_IN,
    Measure,
    lacking,
    limits,
    over_checkpoints,
    over_weights,
    shown,
    with_spread,
)
from studio.evaluation.measuring_models import chosen
from studio.evaluation.metrics import VERSION
from studio.evaluation.sweet_spot import SweetSpot, per_checkpoint

OVER = {"weight": "Over the weight", "checkpoint": "Over the checkpoints"}


def curves(grid: Grid, checkpoint: str) -> None:
    """What the LoRA does, measured: a chart a measure, and the same as a table."""
    metrics, verdict = grid.metrics, grid.verdict
    if metrics is None or verdict is None or not metrics.get("weights"):
        st.caption("The measurements come when every picture is drawn.")
        return
    labels = [x.label for x in grid.spec.lora_files]
    over = "weight"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if len(labels) > 1:
            over = st.segmented_control("Curves", list(OVER), format_func=OVER.__getitem__, default="weight", required=True,
                                        key="curves_over", persist_state="page") or "weight"  # fmt: skip
        if over == "checkpoint":
            weights = [w for w in grid.spec.weights if w]
            near = nearest_drawn(weights, verdict.weight or weights[-1])
            weight = st.selectbox("At weight", weights, index=weights.index(near), format_func=lambda w: f"{w:g}",
                                  key=f"curves_weight_{grid.id}", width=140)  # fmt: skip
            rows = over_checkpoints(metrics, weight or near)
        else:
            rows = over_weights(metrics, checkpoint)
    _how(grid, metrics)
    if not rows:
        st.caption("Nothing was measured here yet.")
        return
    told = shown(metrics)
    have = [m for m in told if any(r.get(m.id) is not None for r in rows)]
    with st.grid(3, min_column_width=300, gap="medium"):
        for measure in have:
            with st.container(gap="xxsmall", key=f"measure_{measure.id}"):
                st.markdown(f"**{measure.title}**", help=measure.help)
                st.plotly_chart(
                    _figure(measure, rows, over, verdict if _own(verdict, checkpoint, over) else None),
                    key=f"curve_{measure.id}", config=CONFIG, alt=_alt(measure, rows, over),
                )  # fmt: skip
    without = [m for m in told if m not in have]
    if without:
        with st.expander(f"{len(without)} without figures", icon=":material/help:", key="measures_lacking"):
            for measure in without:
                st.markdown(f"**{measure.title}** :gray[{lacking(metrics, measure)}]", help=measure.help)
            link("setup", "Models that measure", icon=":material/settings:")
    columns = per_checkpoint(metrics, verdict).get(checkpoint, []) if over == "weight" else []
    _table(have, rows, over, {r["weight"]: r["words"] for r in columns})


def _own(verdict: SweetSpot, checkpoint: str, over: str) -> bool:
    return over == "weight" and verdict.checkpoint == checkpoint


def _how(grid: Grid, metrics: dict[str, Any]) -> None:
    """What measured, on how many seeds; and measuring again where other models are in use by now."""
    models = metrics.get("models") or {}
    used = [
        f"{role.upper()} {told['title']}"
        for role, told in models.items()
        if not told.get("error") and told.get("title")
    ]
    seeds = int((metrics.get("reference") or {}).get("seeds", 1))
    spread = (
        f"the band goes from the lowest of {seeds} seeds to the highest"
        if seeds > 1
        else "one seed, so no spread is known"
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"Measured with {', '.join([BUILT_IN, *used])}; {spread}. The figures compare columns of one grid; they are no grades."
        )
        if _outdated(grid, metrics):
            st.button("Measure again", key="measure_again", icon=":material/straighten:", on_click=act, args=(measure_only, grid),
                      help="With the models that are chosen now. Nothing is drawn, and what was measured is kept.")  # fmt: skip


def _outdated(grid: Grid, metrics: dict[str, Any]) -> bool:
    """Whether measuring now would say more or something else."""
    if int(metrics.get("version", 1)) < VERSION:
        return True
    then = {role: told.get("mark") for role, told in (metrics.get("models") or {}).items()}
    return any(
        now.model is not None and then.get(role) != now.model.mark
        for role, now in chosen(grid.project.workspace).items()
    )


def _figure(
    measure: Measure, rows: Sequence[dict[str, Any]], over: str, verdict: SweetSpot | None
) -> go.Figure:
    """One measure: its line, a band over the seeds, and the usable range shaded."""
    tone = colours()
    known = [r for r in rows if r.get(measure.id) is not None]
    x = [r["weight"] if over == "weight" else r["checkpoint"] for r in known]
    y = [float(r[measure.id]) for r in known]
    spreads = [(r.get("spread") or {}).get(measure.id) or (v, v) for r, v in zip(known, y, strict=True)]
    figure = go.Figure()
    colour = tone["red"] if measure.better == "low" else tone["third"] if measure.model else tone["line"]
    if any(low != high for low, high in spreads):
        figure.add_scatter(
            x=[*x, *x[::-1]], y=[*(s[1] for s in spreads), *(s[0] for s in spreads[::-1])], fill="toself", mode="lines",
            line={"width": 0}, fillcolor=colour, opacity=0.18, hoverinfo="skip",
        )  # fmt: skip
    form = ".0%" if measure.unit == "share" else ".2f" if measure.unit == "times" else ".3f"
    figure.add_scatter(
        x=x, y=y, mode="lines+markers", line={"width": 3, "color": colour}, marker={"size": 7},
        customdata=[[measure.words(s[0]), measure.words(s[1])] for s in spreads],
        hovertemplate=f"%{{y:{form}}}<br>%{{customdata[0]}} to %{{customdata[1]}}<extra></extra>",
    )  # fmt: skip
    if verdict is not None and verdict.low is not None and verdict.high is not None:
        pad = 0.015 if verdict.low == verdict.high else 0
        figure.add_vrect(
            x0=verdict.low - pad, x1=verdict.high + pad, fillcolor=tone["line"], opacity=0.1, line_width=0, layer="below"
        )  # fmt: skip
    low, high = limits(measure, rows)
    figure.update_layout(
        height=190,
        margin={"l": 4, "r": 8, "t": 8, "b": 4},
        showlegend=False,
        xaxis={"showgrid": False, "zeroline": False, "fixedrange": True, "linecolor": tone["grid"]},
        yaxis={
            "gridcolor": tone["grid"], "zeroline": False, "fixedrange": True, "nticks": 5,
            "range": [low, high + 0.04 * (high - low)],
            "tickformat": ".0%" if measure.unit == "share" else ".1f" if measure.unit == "times" else ".2f",
        },
    )  # fmt: skip
    if over == "weight":
        figure.update_xaxes(
            tickvals=[0, 0.5, 1.0] if max(x) <= 1.2 else None, range=[min(0, min(x)), max(x) * 1.03]
        )
    else:
        figure.update_xaxes(type="category", range=[-0.3, len(x) - 0.7], nticks=6)
    return figure


def _alt(measure: Measure, rows: Sequence[dict[str, Any]], over: str) -> str:
    """The chart in words, for those who do not see it."""
    told = [
        f"{r['weight'] if over == 'weight' else r['checkpoint']}: {measure.words(r.get(measure.id))}"
        for r in rows
        if r.get(measure.id) is not None
    ]
    return f"{measure.title}, {OVER[over].lower()}: {'; '.join(told)}"


def _table(
    measures: Sequence[Measure], rows: Sequence[dict[str, Any]], over: str, words: dict[float, str]
) -> None:
    with st.expander("As a table", icon=":material/table:", key="measures_table"):
        st.table(
            [
                {
                    ("Weight" if over == "weight" else "Checkpoint"): f"{r['weight']:g}" if over == "weight" else r["checkpoint"],
                    **({"In words": words.get(r["weight"], "the base model" if r["weight"] == 0 else "")} if words else {}),
                    **{m.title: with_spread(m, r) for m in measures},
                }
                for r in rows
            ],
            border="horizontal", hide_index=True,
        )  # fmt: skip
