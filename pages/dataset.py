"""The dataset: pictures come in, the studio says what to mend, and each finding can be mended where it stands."""

from collections import Counter

import streamlit as st

from pages.parts import dataset_aside, export_view
from pages.parts.context import advanced, require_project
from pages.parts.dataset_gallery import follow_address
from pages.parts.dataset_intake import AT_ONCE, bring_in, busy_job, ended_job, to_compare, unfinished
from pages.parts.dataset_overview import numbers, show_noticed, tabs
from pages.parts.live_job import live_job
from pages.parts.next import go_on, what_next
from pages.parts.page import page
from studio import guidance
from studio.dataset.scan import scan, set_aside_list
from studio.dataset.tasks import start_scan
from studio.findings import blocking
from studio.guidance import about_captions, count_words
from studio.models import get_model
from studio.project import Project


def overview(project: Project) -> None:
    """Everything about a dataset that has pictures."""
    with st.spinner("Looking at the pictures"):
        seen = scan(project)
        found = guidance.findings(project)
    follow_address(found)
    numbers(project, seen, found)
    show_noticed(project, seen, found)
    with st.expander("Add more pictures", icon=":material/add_photo_alternate:", key="add_more"):
        bring_in(project, first=False)
    tabs(project, seen, found)
    export_view.draw(project)
    st.space("small")
    bad = [f for f in blocking(found) if not about_captions(f)]
    words = Counter(about_captions(f) for f in blocking(found))
    go_on(
        "captions",
        "Go on to the captions",
        blocked=f"{count_words(len(bad), 'finding')} above must be mended first." if bad else "",
    )
    what_next(
        f"You check the words that go with each picture{', and mend ' + count_words(words[True], 'finding') + ' there' if words[True] else ''}.",
        "Then you choose how to train. Nothing has been spent so far, and nothing is final.",
    )
    if advanced():
        st.caption(
            f"`{project.dataset_dir}` · {get_model(project.workspace, project.intent.base_model).title}"
        )


project = require_project()
with page(
    "Dataset",
    "The pictures that the LoRA learns from. Few good and varied ones beat many alike.",
    project=project,
    step="dataset",
):
    ended_job(project)
    job = busy_job(project)
    if job is None and guidance.unseen(project) > AT_ONCE:
        job = start_scan(project)
    if job is None and to_compare(project):
        job = start_scan(project)
    if job is not None:
        st.session_state["watched_job"] = job.id
        live_job(job, key="intake")
        what_next(
            "You can leave this page or close the browser; the work goes on.",
            "Then you see every picture and what to mend.",
        )
        # What came in so far is drawn when the job has ended: half a set would be judged as a whole one.
    elif not guidance.picture_count(project):
        unfinished(project)
        bring_in(project, first=True)
        if set_aside_list(project):
            dataset_aside.draw(project)
        what_next("The studio opens every picture, looks for copies and blur, and says what to mend.",
                  "Captions that lie beside the pictures as .txt come along.")  # fmt: skip
    else:
        waiting = guidance.unseen(project)
        if waiting and st.session_state.get("looked") != waiting:
            st.session_state["looked"] = (
                waiting  # once: a picture that cannot be looked at must not be asked for again
            )
            with st.spinner("Looking at the pictures"):
                scan(project)
            st.rerun()  # the step bar above was drawn from what was known before
        st.session_state.pop("looked", None)
        unfinished(project)
        overview(project)
