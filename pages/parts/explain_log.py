"""A place to drop the log of a training, made here or elsewhere: how far it came, whether it succeeded, and if not, why."""

from __future__ import annotations

from pathlib import PurePath

import streamlit as st

from pages.parts.findings import show_findings
from pages.parts.page import caught
from studio.files import human_time
from studio.training.sdscripts.explain import Explanation, explain_text

MOST_MEGABYTES = 200


def explain_log(key: str = "explain") -> None:
    """The drop zone, and what the log says. key: told apart from others on the same page."""
    st.caption(
        "Drop what a training with sd-scripts printed, here or elsewhere. It is read on this computer and kept nowhere."
    )
    given = st.file_uploader("Log of a training", type=["txt", "log", "out", "err", "raw"], max_upload_size=MOST_MEGABYTES,
                             key=f"{key}_log", label_visibility="collapsed")  # fmt: skip
    if given is None:
        return
    with caught():
        show_explanation(explain_text(given.getvalue()), key)


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
