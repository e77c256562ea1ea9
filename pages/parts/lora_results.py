"""What the LoRA tools are doing and have made: progress, what was kept per block, findings, and the file."""

from pathlib import Path
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from pages.parts.charts import CONFIG, colours
from pages.parts.context import workspace
from pages.parts.findings import show_findings
from pages.parts.library_cards import open_panel
from pages.parts.live_job import live_job
from pages.parts.words import plain
from studio.files import human_size
from studio.findings import Finding
from studio.jobs.job import Job
from studio.lora import tasks


def results(tool: str, file: Path) -> None:
    """The newest job of this tool on this file, live while it runs."""
    job = next((j for j in tasks.tool_jobs(workspace()) if _is_about(j, tool, file)), None)
    if job is None:
        return
    st.space("small")
    with st.container(border=True, key="tool_result"):
        if job.state != "finished":
            live_job(job, key="tool_job")
        result = job.result if job.state == "finished" else None
        if not result:
            return
        if tool == "check":
            show_findings([Finding.model_validate(f) for f in result["findings"]], key="tool_findings")
            return
        if tool == "resize":
            _kept(result)
        elif tool == "merge":
            _merged(result)
        _file(Path(str(result["file"])), result)


def _is_about(job: Job, tool: str, file: Path) -> bool:
    told = tasks.request_of(job)
    first = told.get("file") or next((s[0] for s in told.get("sources", ())), "")
    return told.get("tool") == tool and Path(str(first)) == file.resolve()


def _ranks(result: dict[str, Any]) -> str:
    low, high = result["rank_low"], result["rank_high"]
    return f"{low}" if low == high else f"{low} to {high}"


def _kept(result: dict[str, Any]) -> None:
    st.markdown(f"Rank {_ranks(result)}: **{result['kept']:.1%}** of the change is kept, "
                f"{human_size(result['size_bytes'])} instead of {human_size(result['was_bytes'])}.")  # fmt: skip
    blocks = result.get("blocks") or []
    if len(blocks) > 1:
        st.caption("Kept in each block, % of the size of its change")
        st.plotly_chart(kept_figure(blocks), config=CONFIG, key="tool_kept")


def kept_figure(blocks: list[dict[str, Any]]) -> go.Figure:
    """A bar for each block of the model: the share of its change that is kept, its ranks on hover."""
    tone = colours()
    ranks = [
        f"{b['rank_low']}" if b["rank_low"] == b["rank_high"] else f"{b['rank_low']} to {b['rank_high']}"
        for b in blocks
    ]
    shares = [100 * float(b["kept"]) for b in blocks]
    figure = go.Figure()
    figure.add_bar(
        x=[b["block"] for b in blocks], y=shares, marker={"color": tone["line"]}, customdata=ranks,
        hovertemplate="%{x}: %{y:.1f}% kept, rank %{customdata}<extra></extra>",
    )  # fmt: skip
    figure.update_layout(
        height=260, margin={"l": 8, "r": 8, "t": 12, "b": 8}, showlegend=False,
        xaxis={"showgrid": False, "fixedrange": True, "linecolor": tone["grid"], "type": "category"},
        yaxis={"range": [0, 100], "gridcolor": tone["grid"], "fixedrange": True, "ticksuffix": " %"},
    )  # fmt: skip
    return figure


def _merged(result: dict[str, Any]) -> None:
    how = "exact" if result["kept"] == 1.0 else f"{result['kept']:.1%} of the sum is kept"
    st.markdown(f"Merged into rank {_ranks(result)}, {how}. Use it at weight 1: the weights are in it.")


def _file(made: Path, result: dict[str, Any]) -> None:
    st.code(str(made), language=None, wrap_lines=True)
    if not made.is_file():
        st.markdown(":orange[:material/warning: The file is not there any more.]")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        st.button(
            "Add to the library",
            key="tool_add",
            icon=":material/bookmark_added:",
            on_click=open_panel,
            args=("add", str(made)),
        )
        st.download_button("Download", made.read_bytes, file_name=made.name, mime="application/octet-stream", on_click="ignore",
                           key="tool_get", icon=":material/download:")  # fmt: skip
        st.caption(plain(human_size(int(result["size_bytes"]))))
