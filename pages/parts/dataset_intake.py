"""Bringing pictures in: files, a folder, a ZIP on the web; and the jobs that do the rest."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.dataset_changes import say_changed
from pages.parts.flash import act, say
from pages.parts.live_job import is_running
from studio import choices, guidance
from studio.dataset.duplicates import waiting
from studio.dataset.folder import look
from studio.dataset.incoming import is_url
from studio.dataset.intake import import_uploads
from studio.dataset.scan import scan
from studio.dataset.subsets import mark_regularisation, marked_at_import
from studio.dataset.tasks import (
    KINDS as JOBS,
)
from studio.dataset.tasks import (
    give_up,
    go_on,
    start_import,
    start_upload_import,
    start_url_import,
    unfinished_import,
)
from studio.errors import InputError
from studio.findings import Finding
from studio.guidance import count_words
from studio.jobs.job import Job, list_jobs
from studio.models import UPLOADED
from studio.project import KINDS, Project

AT_ONCE = 60  # pictures that are taken in and looked at while the page waits; more are a job
BYTES_AT_ONCE = 150_000_000
_RECENT = 12  # jobs that are looked through for one of ours


def take_uploads(project: Project, key: str) -> None:
    """Store what the browser sent, at once, and empty the drop zone. Much of it is taken in by a job."""
    sent = st.session_state.get(key) or []
    if not sent:
        return
    st.session_state["drop_round"] = st.session_state.get("drop_round", 0) + 1
    if len(sent) > AT_ONCE or sum(f.size for f in sent) > BYTES_AT_ONCE:
        start_upload_import(project, ((f.name, f.getvalue()) for f in sent))
        return
    with st.spinner(f"Taking in {count_words(len(sent), 'file')}"):
        report = import_uploads(project, [(f.name, f.getvalue()) for f in sent])
        if guidance.unseen(project) <= AT_ONCE:
            scan(project)  # before anything is drawn, so that the step bar above knows it already
    came = bool(report.added or report.captions_taken)
    _say_what_came(project, report.words, report.refused, report.renamed, report.regularisation, came)


def _say_what_came(
    project: Project,
    words: str,
    refused: list[Finding],
    renamed: dict[str, str],
    marked: list[str],
    came: bool,
) -> None:
    """What an import did; pictures that it marked because of their folder's name can be used for training at once."""
    say(
        words,
        findings=[*marked_at_import(marked), *refused, *_renamed(renamed)],
        undo=(lambda: use_for_training(project, marked)) if marked else None,
        undo_label="Use them for training",
        in_vain=not came,
    )


def use_for_training(project: Project, names: list[str]) -> None:
    """Take the mark off pictures that an import marked; those that are gone meanwhile are passed over."""
    changed = mark_regularisation(
        project, [n for n in names if n in look(project.dataset_dir).pictures], False
    )
    say(
        f"{count_words(len(changed), 'picture')} now for training.",
        undo=(lambda: mark_again(project, changed)) if changed else None,
    )


def mark_again(project: Project, names: list[str]) -> None:
    """Use pictures for regularisation after all."""
    changed = mark_regularisation(project, names)
    say(f"{count_words(len(changed), 'picture')} now for regularisation.")


def _renamed(renamed: dict[str, str]) -> list[Finding]:
    """What came in under another name."""
    return [
        Finding(severity="info", code="renamed", what=f"{source} is called {name} here.", where=(name,))
        for source, name in renamed.items()
    ]


def take_place(project: Project) -> None:
    """Import what the field names: a folder, a ZIP or a file of this computer, or a ZIP on the web."""
    typed = str(st.session_state.get("folder_path", "")).strip().strip("\"'")
    if not typed:
        raise InputError(
            "No folder and no address was given.",
            "The field is empty.",
            "Type or paste the path of a folder or ZIP, or the https address of a ZIP.",
        )
    if is_url(typed):
        start_url_import(project, typed)
    else:
        start_import(project, [Path(typed)])
    st.session_state["folder_path"] = ""


def bring_in(project: Project, *, first: bool) -> None:
    """The drop zones, and the field for a folder or an address."""
    kind = KINDS[project.intent.kind]
    low, high = kind["images"]
    if first:
        st.subheader(f"Add {low} to {high} pictures", anchor=False)
        st.markdown(f":gray[{kind['why']}]")
    key = f"drop_{st.session_state.get('drop_round', 0)}"
    files, folder = st.columns([3, 2])
    files.file_uploader(
        "Drop pictures or a ZIP here",
        accept_multiple_files=True,
        key=key,
        on_change=act,
        args=(take_uploads, project, key),
        help="PNG, JPEG, WebP, AVIF, HEIC, TIFF, BMP. Captions come along: as .txt or .caption of the same name, or in "
        "a metadata.jsonl.",
    )
    folder.file_uploader(
        "Or a whole folder",
        accept_multiple_files="directory",
        key=f"{key}_folder",
        on_change=act,
        args=(take_uploads, project, f"{key}_folder"),
        help="With everything below it. Repeats of folders such as 10_name are kept.",
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Or where a folder or ZIP lies: on this computer, or on the web",
            key="folder_path",
            placeholder=f"{Path('Pictures') / 'my-pictures'} or https://…/pictures.zip",
            help="For many pictures. Everything inside, also in subfolders, is copied; the originals stay as they are.",
        )
        st.button(
            "Import",
            key="folder_go",
            icon=":material/drive_folder_upload:",
            on_click=act,
            args=(take_place, project),
        )
    if choices.uploads(project):
        st.caption(
            ":material/cloud_upload: Your files are copied into the project. The originals are only read. "
            f"{UPLOADED} That happens when you start training."
        )
        return
    st.caption(
        ":material/lock: Your files are copied into the project. The originals are only read, and nothing leaves this computer."
    )


def busy_job(project: Project) -> Job | None:
    """The import, scan or fix that is going on, if there is one."""
    for job in list_jobs(project.jobs_dir)[:_RECENT]:
        if job.spec.kind in JOBS and is_running(job):
            return job
    return None


def to_compare(project: Project) -> bool:
    """Whether so many pictures have to be compared with one another that a job should do it. Not again after one was
    stopped or failed: then the page says what was not compared, and asks."""
    if guidance.unseen(project) or not guidance.picture_count(project) or not waiting(scan(project)):
        return False
    newest = next((j for j in list_jobs(project.jobs_dir)[:_RECENT] if j.spec.kind == "scan"), None)
    return newest is None or newest.state not in ("stopped", "failed", "interrupted")


def ended_job(project: Project) -> None:
    """Say once what the job that just ended has done."""
    known: set[str] = st.session_state.setdefault("told_jobs", set())
    watched = st.session_state.get("watched_job")
    if not watched or watched in known:
        return
    job = next((j for j in list_jobs(project.jobs_dir)[:_RECENT] if j.id == watched), None)
    if job is None or is_running(job):
        return
    known.add(watched)
    st.session_state.pop("watched_job", None)
    told = job.result if isinstance(job.result, dict) else {}
    error = job.error
    if error and job.spec.kind != "import":  # an import that broke off is told by `unfinished`
        st.error(
            f"{error.get('why', '')} {error.get('fix', '')}".strip(),
            title=str(error.get("what")),
            icon=":material/error:",
        )
        return
    left = [Finding.model_validate(f) for f in told.get("refused", told.get("left", []))]
    if told.get("words"):
        _say_what_came(
            project,
            str(told["words"]),
            left,
            dict(told.get("renamed", {})),
            list(told.get("regularisation", [])),
            bool(told.get("added", True) or told.get("captions_taken")),
        )
        st.rerun()
    elif "changed" in told:
        say_changed(project, list(told["changed"]), left)
        st.rerun()
    elif "read" in told:
        say(f"Looked for writing in {count_words(int(told['read']), 'picture')}.")
        st.rerun()


def unfinished(project: Project) -> None:
    """An import that was stopped, killed or failed, with the ways on."""
    job = unfinished_import(project, list_jobs(project.jobs_dir)[:_RECENT])
    if job is None:
        return
    error = job.error or {}
    why = " ".join(t for t in (str(error.get("why", "")), str(error.get("fix", ""))) if t)
    with st.container(border=True, key="unfinished"):
        st.markdown(
            f":orange[:material/pause_circle:] **{job.spec.title} did not finish.** What came in is kept. :gray[{why}]"
        )
        with st.container(horizontal=True):
            st.button(
                "Go on with it",
                key="import_on",
                icon=":material/play_arrow:",
                on_click=act,
                args=(_again, job),
            )
            st.button(
                "Leave the rest",
                key="import_leave",
                type="tertiary",
                on_click=act,
                args=(give_up, project, job),
            )


def _again(job: Job) -> None:
    told: set[str] = st.session_state.setdefault("told_jobs", set())
    told.discard(job.id)
    go_on(job)
