"""Gate 1 and the dataset report."""

from __future__ import annotations

from urllib.parse import urlencode

import streamlit as st

from pages.parts.flash import act, say
from pages.parts.thumbs import base_path
from studio import gates
from studio.dataset.report import dataset_report
from studio.findings import Finding
from studio.guidance import about_captions
from studio.project import Project


def draw(project: Project) -> None:
    """The verdict, and the report that explains it."""
    status = gates.state(project, "dataset")
    look = {
        "passed": ("green", "GO"),
        "blocked": ("red", "NO-GO"),
        "stale": ("orange", "out of date"),
        "missing": ("gray", "not checked yet"),
    }
    colour, word = look.get(status.state, ("gray", status.state))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(
            f"**Gate 1: dataset** :{colour}-badge[{word}]  \n:small[:gray[{status.purpose}]]", width="stretch"
        )
        st.button("Check now" if status.verdict is None else "Check again", key="gate_1", icon=":material/fact_check:",
                  on_click=act, args=(check, project))  # fmt: skip
    shown = dataset_report(project, lambda f: address(project, f))
    with st.container(border=True):
        st.markdown(
            shown.replace("\n# ", "\n### ")
            .replace("# Dataset", "### Dataset", 1)
            .replace("\n## ", "\n#### "),
            anchors=False,
        )
    st.download_button(
        "Save the report",
        lambda: dataset_report(project),
        file_name=f"{project.slug}-dataset.md",
        key="save_report",
        icon=":material/download:",
    )


def address(project: Project, finding: Finding) -> str:
    """Where a finding's pictures are shown, with its button."""
    page = "captions" if about_captions(finding) else "dataset"
    query = {"project": project.slug, **({"finding": finding.code} if finding.where else {})}
    return f"{base_path()}/{page}?{urlencode(query)}"


def check(project: Project) -> None:
    """Run gate 1."""
    said = gates.run_gate(project, "dataset")
    say(f"Gate 1 says {said.words}.")
