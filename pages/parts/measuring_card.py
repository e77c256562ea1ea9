"""Models that measure on the set-up page: which are in use, a download, and a folder of one's own."""

from __future__ import annotations

import streamlit as st

from pages.parts.context import workspace
from pages.parts.flash import act, say
from pages.parts.live_job import is_running, live_job
from pages.parts.nav import link
from pages.parts.page import show_error
from studio.errors import StudioError
from studio.evaluation.measures import BUILT_IN
from studio.evaluation.measuring_download import download_of, start_download
from studio.evaluation.measuring_models import (
    ROLE_WORDS,
    Chosen,
    MeasuringEntry,
    Role,
    choose,
    chosen,
    downloadable,
    forget,
)
from studio.files import human_size

BADGES = {
    "ready": ":green-badge[in use]",
    "broken": ":orange-badge[cannot be used]",
    "absent": ":gray-badge[not chosen]",
}


def measuring_models() -> None:
    """What measures grids beside the built-in features; none of it is needed."""
    st.subheader("Models that measure", anchor=False)
    st.markdown(
        f"Grids are measured with {BUILT_IN}, which needs nothing else. Each of these models adds measures of its own. Without it they "
        "are shown as not available; no other figure stands in for them."
    )
    now = chosen(workspace())
    with st.grid(3, min_column_width=300):
        for found in downloadable():
            _card(found, now[found.role])
    link("guide", "What each measure says", icon=":material/menu_book:", topic="evaluation")


def _card(found: MeasuringEntry, now: Chosen) -> None:
    ws = workspace()
    with st.container(border=True, height="stretch", gap="xsmall", key=f"measuring_{found.role}"):
        st.markdown(f"**{found.role.upper()}** {BADGES[now.state]}")
        st.markdown(f"Says {ROLE_WORDS[found.role]}.")
        st.caption(found.summary)
        job = download_of(ws, found.id)
        if job is not None and is_running(job):
            live_job(job, key=f"measuring_job_{found.id}", stop_label="Stop", details=False)
            return
        if now.error is not None:
            st.warning(f"{now.error.why} {now.error.fix}", title=now.error.what, icon=":material/warning:")
        elif job is not None and job.state == "failed" and not found.is_here(ws):
            told = job.error or {}
            st.warning(f"{told.get('why', '')} {told.get('fix', '')}", title=str(told.get("what") or "The download failed"),
                       icon=":material/warning:")  # fmt: skip
        if now.model is not None:
            st.code(str(now.model.folder), language=None, wrap_lines=True)
        if now.state != "absent":
            st.button("Take out of use", key=f"measuring_forget_{found.role}", type="tertiary", icon=":material/remove:",
                      on_click=act, args=(_forget, found.role), help="Its files stay where they are.")  # fmt: skip
        elif found.is_here(ws):
            st.button(f"Use {found.title}", key=f"measuring_use_{found.role}", icon=":material/check:", on_click=act,
                      args=(choose, ws, found.role, found.id))  # fmt: skip
        else:
            st.button(f"Download {found.title} · {human_size(found.size_bytes)}", key=f"measuring_get_{found.id}",
                      icon=":material/download:", on_click=act, args=(start_download, ws, found.id),
                      help=f"From {found.repo} on the Hugging Face hub. Licence: {found.licence}.")  # fmt: skip
        _own(found.role)


def _own(role: Role) -> None:
    """A folder that the person has."""
    with (
        st.expander("Use a folder of mine", key=f"measuring_own_{role}"),
        st.form(f"measuring_form_{role}", border=False),
    ):
        wanted = "model_feat.onnx" if role == "ccip" else "config.json and model.safetensors"
        folder = st.text_input("Folder", key=f"measuring_folder_{role}", placeholder=f"/home/you/models/{role}",
                               help=f"Its full path. It holds {wanted}; other kinds of weights are not opened.")  # fmt: skip
        sent = st.form_submit_button("Use it", icon=":material/check:")
    if not sent:
        return
    try:
        model = choose(workspace(), role, folder or "")
    except StudioError as e:
        show_error(e)
        return
    st.toast(f"{model.title} measures from now on.", icon=":material/check:")
    st.rerun()


def _forget(role: Role) -> None:
    before = chosen(workspace())[role].model
    forget(workspace(), role)
    undo = (lambda: choose(workspace(), role, before.folder)) if before is not None else None
    say(f"{role.upper()} is out of use; its files stay.", undo=undo)
