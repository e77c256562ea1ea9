"""A place to drop or paste the log of a training, made here or elsewhere: how far it came, whether it succeeded, and if not, why."""

from __future__ import annotations

from pathlib import PurePath

import streamlit as st

from pages.parts.findings import show_findings
from pages.parts.page import caught
from studio.files import human_time
from studio.jobs.job import Job
from studio.training.sdscripts.explain import Explanation, explain_job, explain_text

MOST_MEGABYTES = 200
# More text than this is a file.
MOST_PASTED = 500_000


def explain_log(key: str = "explain") -> None:
    """The drop zone, the place to paste, and what the log says. key: told apart from others on the same page."""
    st.caption(
        "Drop or paste what a training with sd-scripts printed, here or elsewhere. It is read on this computer and kept nowhere."
    )
    given = st.file_uploader("Log of a training", type=["txt", "log", "out", "err", "raw"], max_upload_size=MOST_MEGABYTES,
                             key=f"{key}_log", label_visibility="collapsed")  # fmt: skip
    with st.form(f"{key}_form", border=False):
        pasted = st.text_area("Or paste its text", key=f"{key}_text", height=120, max_chars=MOST_PASTED,
                              placeholder="steps:  12%|█▎        | 1/8 [00:35<04:05, 35.05s/it, avr_loss=1.03]")  # fmt: skip
        st.form_submit_button("Explain the text", key=f"{key}_go", icon=":material/troubleshoot:")
    with caught():
        if given is not None:
            show_explanation(_explained(given.getvalue()), key)
        elif pasted and pasted.strip():
            show_explanation(_explained(pasted.encode()), key)


@st.cache_data(max_entries=4, ttl=600, show_spinner="Reading the log")
def _explained(log: bytes) -> Explanation:
    """What a log says; not read again at each click."""
    return explain_text(log)


def explain_own(job: Job, key: str) -> None:
    """A button that explains the log of a run of the studio's own."""
    if st.toggle("Explain this log", key=f"{key}_explain", help="Says in words how far it came and what went wrong, from the "
                 "log alone."):  # fmt: skip
        with caught():
            show_explanation(explain_job(job.folder), f"{key}_own")


def show_explanation(told: Explanation, key: str) -> None:
    """How a log ended in one sentence, what it says of the run, and its findings."""
    box = {"failed": st.error, "finished": st.success}.get(told.outcome, st.info)
    icon = {"failed": ":material/error:", "finished": ":material/check_circle:"}.get(
        told.outcome, ":material/info:"
    )
    box(told.sentence, icon=icon)
    pace = told.seconds_per_step
    loss = "" if told.last_loss is None else f"{told.last_loss:g}, at first {told.first_loss:g}"
    rows = {
        "Pictures with repeats": str(told.plan.get("pictures", "")),
        "Epoch": f"{told.epoch} of {told.epochs}" if told.epochs else "",
        "Went on from step": str(told.resumed_at or ""),
        "Loss": loss,
        "A step took": human_time(pace) if pace and pace >= 1 else f"{pace:.2f} s" if pace else "",
        "Device": told.device,
        "Checkpoints": ", ".join(PurePath(p).name for p in told.saved),
    }
    rows = {k: v for k, v in rows.items() if v}
    if rows:
        st.table(rows, border="horizontal")
    show_findings(told.findings, key=f"{key}_findings")
