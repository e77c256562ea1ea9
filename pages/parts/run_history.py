"""All runs of a project: how each went, and what was changed before it."""

import streamlit as st

from pages.parts.live_job import is_running
from pages.parts.page import caught
from pages.parts.run_body import told_so_far
from pages.parts.run_words import STATE_LOOK, day
from studio import compare
from studio.files import human_time
from studio.guidance import count_words
from studio.training.runs import Run

AT_ONCE = 20


def open_run(run_id: str, view: str = "watch") -> None:
    """Show a run: the address says which."""
    if run_id:
        st.query_params["run"] = run_id
    st.session_state["run_next_view"] = view


def _more() -> None:
    st.session_state["history_shown"] = st.session_state.get("history_shown", AT_ONCE) + AT_ONCE


def history(runs: list[Run]) -> None:
    """All runs, the newest first; some at a time. Of one that has ended only its figures are read, not its events."""
    shown = st.session_state.get("history_shown", AT_ONCE)
    for run in runs[:shown]:
        job = run.job
        with caught(), st.container(border=True, gap="xsmall", key=f"run_{run.id}"):
            told = compare.outcome(run, told_so_far(run) if is_running(job) else None)
            colour, icon = STATE_LOOK.get(job.state, ("blue", ":material/progress_activity:"))
            with st.container(horizontal=True, vertical_alignment="center"):
                st.markdown(
                    f":{colour}[{icon}] **{day(job.created)}** :{colour}-badge[{job.state}]", width="stretch"
                )
                st.button("Open", key=f"open_{run.id}", on_click=open_run, args=(run.id,), icon=":material/open_in_full:",
                          type="tertiary")  # fmt: skip
            loss = (
                f" · loss {told.first_loss:.3f} to {told.last_loss:.3f}" if told.last_loss is not None else ""
            )
            took = f" · {human_time(told.seconds)}" if told.seconds else ""
            st.caption(f"{told.steps} of {told.total_steps} steps{took}{loss} · {count_words(told.checkpoints, 'checkpoint')} · "
                       f"preset {run.manifest.get('preset') or 'none'}")  # fmt: skip
            before = compare.previous(run, runs)
            changed = compare.differences(before, run) if before else []
            if changed:
                st.caption("Changed: " + "; ".join(f"{d.what} {d.before} → {d.after}" for d in changed[:5]))
    if len(runs) > shown:
        left = count_words(len(runs) - shown, "older run")
        st.button(f"Show more ({left})", key="history_more", on_click=_more, icon=":material/expand_more:")
