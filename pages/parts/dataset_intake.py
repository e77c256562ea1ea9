"""Bringing pictures in: the drop zone, a folder or ZIP of this computer, and the job that does the rest."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.flash import act, say
from pages.parts.live_job import is_running
from studio import guidance
from studio.dataset.intake import import_uploads
from studio.dataset.scan import scan
from studio.dataset.tasks import start_import
from studio.errors import InputError
from studio.findings import Finding
from studio.guidance import count_words
from studio.jobs.job import Job, list_jobs
from studio.project import KINDS, Project

AT_ONCE = 60  # pictures that are looked at while the page waits; more are a job


def take_uploads(project: Project, key: str) -> None:
    """Store what the browser sent, at once, and empty the drop zone."""
    sent = st.session_state.get(key) or []
    if not sent:
        return
    with st.spinner(f"Taking in {count_words(len(sent), 'file')}"):
        report = import_uploads(project, [(f.name, f.getvalue()) for f in sent])
        if guidance.unseen(project) <= AT_ONCE:
            scan(project)  # before anything is drawn, so that the step bar above knows it already
    st.session_state["drop_round"] = st.session_state.get("drop_round", 0) + 1
    say(report.words, findings=report.refused)


def take_folder(project: Project) -> None:
    """Import a folder, a ZIP or a file of this computer, as a job."""
    typed = str(st.session_state.get("folder_path", "")).strip().strip("\"'")
    if not typed:
        raise InputError(
            "No folder was given.",
            "The field is empty.",
            "Type or paste the path of a folder, a ZIP or a picture.",
        )
    start_import(project, [Path(typed)])
    st.session_state["folder_path"] = ""


def bring_in(project: Project, *, first: bool) -> None:
    """The drop zone and the folder path."""
    kind = KINDS[project.intent.kind]
    low, high = kind["images"]
    if first:
        st.subheader(f"Add {low} to {high} pictures", anchor=False)
        st.markdown(f":gray[{kind['why']}]")
    key = f"drop_{st.session_state.get('drop_round', 0)}"
    st.file_uploader(
        "Drop pictures here, or choose them",
        accept_multiple_files=True,
        key=key,
        on_change=act,
        args=(take_uploads, project, key),
        help="Pictures (PNG, JPEG, WebP, AVIF, HEIC, TIFF ...), their captions as .txt of the same name, or ZIP files.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Or type where a folder or ZIP lies on this computer",
            key="folder_path",
            placeholder=str(Path("Pictures") / "my-pictures"),
            help="For many pictures. Everything inside, also in subfolders, is copied; the originals stay as they are.",
        )
        st.button(
            "Import",
            key="folder_go",
            icon=":material/drive_folder_upload:",
            on_click=act,
            args=(take_folder, project),
        )
    st.caption(
        ":material/lock: Your files are copied into the project. The originals are only read, and nothing leaves this computer."
    )


def busy_job(project: Project) -> Job | None:
    """The import or scan that is going on, if there is one."""
    for job in list_jobs(project.jobs_dir)[:8]:
        if job.spec.kind in ("import", "scan") and is_running(job):
            return job
    return None


def ended_job(project: Project) -> None:
    """Say once what the import that just ended has done."""
    known: set[str] = st.session_state.setdefault("told_jobs", set())
    watched = st.session_state.get("watched_job")
    if not watched or watched in known:
        return
    job = next((j for j in list_jobs(project.jobs_dir)[:8] if j.id == watched), None)
    if job is None or is_running(job):
        return
    known.add(watched)
    st.session_state.pop("watched_job", None)
    told = job.result if isinstance(job.result, dict) else {}
    error = job.error
    if error:
        st.error(
            f"{error.get('why', '')} {error.get('fix', '')}".strip(),
            title=str(error.get("what")),
            icon=":material/error:",
        )
    elif told.get("words"):
        say(str(told["words"]), findings=[Finding.model_validate(f) for f in told.get("refused", [])])
        st.rerun()
