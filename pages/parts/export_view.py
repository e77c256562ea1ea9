"""Taking the dataset elsewhere: where to, how laid out, and what came of it."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.findings import show_findings
from pages.parts.flash import act
from pages.parts.live_job import is_running, live_job
from pages.parts.page import caught
from pages.parts.words import plain
from studio.dataset.export import LAYOUTS, Layout
from studio.dataset.exporting import free_target, last_export, start_export
from studio.errors import InputError
from studio.findings import Finding
from studio.guidance import count_words
from studio.jobs.job import Job
from studio.project import Project

_AS = {False: "A folder", True: "One ZIP"}


def draw(project: Project) -> None:
    """An expander; it opens by itself while an export runs."""
    job = last_export(project)
    running = job is not None and is_running(job)
    if running:  # also in a new tab, or after a reload; who closes it may
        st.session_state.setdefault("export_box", True)
    box = st.expander(
        "Export the dataset for another trainer",
        icon=":material/drive_file_move_outline:",
        key="export_box",
        on_change="rerun",
    )
    if box.open:
        with box, caught():
            if job is not None and running:
                live_job(job, key="export_job", stop_label="Cancel")
            else:
                if job is not None:
                    _ended(job)
                _form(project)


def _form(project: Project) -> None:
    st.markdown(
        ":gray[Pictures and captions go into a new folder or ZIP with a dataset.toml, which kohya's sd-scripts trains on "
        "as it is. The project stays as it is.]"
    )
    packed = st.radio("Write", list(_AS), key="export_packed", format_func=lambda p: _AS[p], horizontal=True)
    layout: Layout = st.radio(
        "Repeats", list(LAYOUTS), key="export_layout", format_func=lambda n: LAYOUTS[n], horizontal=True
    )
    suggested = free_target(project, packed=bool(packed))
    st.text_input("Where to", key="export_target", placeholder=str(suggested),
                  help=f"A path on this computer that does not exist yet. Left empty, it becomes {suggested}.")  # fmt: skip
    st.checkbox("Leave the setting for repeats out", key="export_own",
                help="Then importing the export again gives the same repeats as here.")  # fmt: skip
    st.button("Export", key="export_go", icon=":material/drive_file_move_outline:", on_click=act,
              args=(_go, project, layout, bool(packed)))  # fmt: skip


def _go(project: Project, layout: Layout, packed: bool) -> None:
    typed = str(st.session_state.get("export_target", "")).strip().strip("\"'")
    target = Path(typed) if typed else free_target(project, packed=packed)
    if typed and not target.expanduser().is_absolute():
        raise InputError(
            f"'{typed[:200]}' does not say in which folder.",
            "The app has no folder of its own that you would find again.",
            "Give the whole path, such as one that begins with / or ~ or C:\\.",
        )
    if packed and target.suffix.lower() != ".zip":
        target = target.with_name(target.name + ".zip")
    start_export(project, target, layout=layout, own_repeats=bool(st.session_state.get("export_own")))
    st.session_state["export_target"] = ""


def _ended(job: Job) -> None:
    """What came of the last export."""
    told = job.result if isinstance(job.result, dict) else {}
    error = job.error
    if error or job.state in ("failed", "interrupted"):
        error = error or {}
        st.error(
            f"{error.get('why', '')} {error.get('fix', 'Nothing was left behind; export again.')}".strip(),
            title=str(error.get("what") or "The export was cut off."),
            icon=":material/error:",
        )
        return
    if told.get("stopped") or job.state == "stopped":
        st.caption("The last export was cancelled; nothing was written.")
        return
    with st.container(border=True, key="export_done"):
        st.markdown(
            f":green[:material/check:] **{count_words(int(told.get('pictures', 0)), 'picture')} with "
            f"{count_words(int(told.get('captions', 0)), 'caption')} exported** to"
        )
        st.code(str(told.get("target", "")), language=None, wrap_lines=True)
        target = Path(str(told.get("target", "")))
        if not target.exists():
            st.caption("It was moved or deleted since.")
        converted = told.get("converted") or {}
        if converted:
            st.caption(
                f"{count_words(len(converted), 'picture')} went as PNG or under another name, so that sd-scripts reads them "
                f"as they are shown here: {plain(', '.join(list(converted)[:5]), 200)}{' …' if len(converted) > 5 else ''}"
            )
        left = [Finding.model_validate(f) for f in told.get("findings", [])]
        if left:
            show_findings(left, key="export_left", compact=True)
    st.space("small")
