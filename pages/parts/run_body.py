"""A run in figures: numbers, what is odd, the curve, the samples. The same while it trains and afterwards."""

import streamlit as st

from pages.parts.charts import CONFIG, loss_figure, loss_words
from pages.parts.findings import show_findings
from pages.parts.live_job import is_running
from pages.parts.run_more import cost_so_far
from studio.files import human_memory, human_time
from studio.training.following import Reading
from studio.training.outcome import seconds_of
from studio.training.progress import Metrics
from studio.training.runs import Run

_READINGS, _KEPT = "_run_readings", 3
_FIGURE = "_run_figure"


def told_so_far(run: Run) -> Metrics:
    """Everything the run said; only what is new is read from the disk."""
    readings: dict[str, Reading] = st.session_state.setdefault(_READINGS, {})
    reading = readings.pop(str(run.folder), None) or Reading()
    readings[str(run.folder)] = reading  # the newest last: long runs fill the memory, so only a few are kept
    for old in list(readings)[:-_KEPT]:
        del readings[old]
    return reading.more(run)


def curve_every(run: Run) -> float:
    """Seconds between two drawings of the curve of a run that goes on: in a long one nothing is missed in five."""
    return 2.0 if (run.manifest.get("forecast_seconds") or 0) < 600 else 5.0


def figures(run: Run, metrics: Metrics) -> None:
    """Step, epoch, loss, time and memory in a row."""
    job = run.job
    alive = is_running(job)
    epochs = metrics.total_epochs or run.manifest["steps"]["epochs"]
    total = metrics.total_steps or run.manifest["steps"]["total"]
    line = metrics.smoothed
    spent = job.progress.elapsed_seconds
    with st.grid(4, min_column_width=140):  # in one row on a small laptop's screen, too
        st.metric("Step", f"{metrics.step} of {total}", f"epoch {metrics.epoch} of {epochs}", delta_color="off",
                  delta_arrow="off", border=True, height="stretch")  # fmt: skip
        if line:
            first = metrics.first_loss  # as History tells it
            # Within the first steps both means are over the same ones, and a change would say nothing.
            percent = (
                round((line[-1] / first - 1) * 100) if first and len(metrics.losses) > metrics.window else 0
            )
            st.metric("Loss now" if alive else "Loss at the end", f"{line[-1]:.3f}", f"from {first:.2f}" if percent else None,
                      delta_color="off", delta_arrow="down" if percent < 0 else "up", border=True, height="stretch",
                      help=f"It began at {first:.3f}." + (f" Since then {percent:+d} %." if percent else "")
                      + " A mean over one epoch, because single steps jump.")  # fmt: skip
        else:
            st.metric("Loss now", "not yet", border=True, height="stretch")
        if alive:
            now = job.progress
            # Before the first step of a resumed run that is the time of its preparation.
            told = now.eta_seconds if now.step or now.stage not in ("start", "prepare") else None
            left = told if told is not None else metrics.eta_seconds
            st.metric("Time left", human_time(left) if left is not None and metrics.step else "measuring", border=True,
                      height="stretch")  # fmt: skip
        else:
            seconds = seconds_of(run) or spent
            st.metric("Took", human_time(seconds) if seconds else "unknown", border=True, height="stretch")
        cost = cost_so_far(job)
        if cost:
            st.metric("Cost so far" if alive else "Cost", cost, border=True, height="stretch", help="Running time at "
                      "Replicate's price; the bill is theirs.")  # fmt: skip
            return
        where = "Graphics memory" if metrics.device.startswith("cuda") else "Memory"
        st.metric(
            where,
            human_memory(metrics.memory) if metrics.memory else "not yet",
            border=True,
            height="stretch",
        )


def picture_line(run: Run, metrics: Metrics) -> None:
    """The samples over time: a row for each prompt, from before the training to now."""
    samples = run.samples()
    if not samples:
        return
    st.markdown(
        "**Samples**", help="Drawn during training with one seed. Step 0 is the base model without the LoRA."
    )
    steps = sorted({s.step for s in samples})
    shown = steps if len(steps) <= 7 else [steps[round(i * (len(steps) - 1) / 6)] for i in range(7)]
    for prompt in dict.fromkeys(s.prompt for s in samples):
        st.caption(f"{prompt}")
        row = {s.step: s for s in samples if s.prompt == prompt}
        for column, step in zip(st.columns(max(len(shown), 5), gap="small"), shown, strict=False):
            if step in row:
                sample = row[step]
                label = "before" if step == 0 else f"epoch {sample.epoch}"
                column.image(str(sample.path), width="stretch", caption=label, alt=f"{prompt}, {label}")


def oddities(run: Run, metrics: Metrics) -> None:
    """What was noticed while it trained."""
    if metrics.findings:
        show_findings(metrics.findings, key=f"odd_{run.id}")


def curve(run: Run, metrics: Metrics) -> None:
    """The loss, checkpoints and samples over the steps, then the samples themselves. Without news the chart stays as it is."""
    if metrics.losses:
        checkpoints, samples = run.checkpoints(), run.samples()
        mark = (run.id, metrics.heard, checkpoints, len(samples), st.context.theme.type)
        kept, figure = st.session_state.get(_FIGURE, (None, None))
        if kept != mark:
            figure = loss_figure(metrics, checkpoints, samples)
            st.session_state[_FIGURE] = (mark, figure)
        st.plotly_chart(figure, key=f"loss_{run.id}", config=CONFIG, alt=loss_words(metrics))
    picture_line(run, metrics)
