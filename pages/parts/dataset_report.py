"""Gate 1 and the dataset report."""

from __future__ import annotations

import streamlit as st

from pages.parts.flash import act, say
from studio import gates
from studio.dataset.report import dataset_report
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
    text = dataset_report(project)
    with st.container(border=True):
        st.markdown(
            text.replace("\n# ", "\n### ").replace("# Dataset", "### Dataset", 1).replace("\n## ", "\n#### "),
            anchors=False,
        )
    st.download_button(
        "Save the report",
        text,
        file_name=f"{project.slug}-dataset.md",
        key="save_report",
        icon=":material/download:",
    )


def check(project: Project) -> None:
    """Run gate 1."""
    said = gates.run_gate(project, "dataset")
    say(f"Gate 1 says {said.words}.")
