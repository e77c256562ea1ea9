"""The step bar: dataset, captions, config, run, evaluation, each with where it stands, as links."""

from __future__ import annotations

import streamlit as st

from pages.parts.nav import link
from studio import guidance
from studio.guidance import Step
from studio.project import Project

ICONS = {
    "done": ":material/check_circle:",
    "to check": ":material/fact_check:",
    "working": ":material/pending:",
    "needs you": ":material/error:",
    "not yet": ":material/radio_button_unchecked:",
}
COLOURS = {"done": "green", "to check": "blue", "working": "blue", "needs you": "orange", "not yet": "gray"}
WORDS = {
    "done": "done",
    "to check": "to check",
    "working": "working",
    "needs you": "needs you",
    "not yet": "not yet",
}


_KEY = "_steps"


def forget_steps() -> None:
    """Called by the shell at the start of each run: the disk may say something else now."""
    st.session_state.pop(_KEY, None)


def steps(project: Project) -> list[Step]:
    """The steps of a project, asked for once a run: the sidebar and the bar show the same."""
    kept = st.session_state.get(_KEY)
    if kept is None or kept[0] != project.slug:
        kept = st.session_state[_KEY] = (project.slug, guidance.steps(project))
    return kept[1]


def words(step: Step) -> str:
    """Where a step stands, in a few words."""
    told = (
        "; ".join(w for w in (step.done_words, step.missing_words) if w)
        if step.state == "to check"
        else step.missing_words
        if step.state in ("needs you", "not yet") and step.missing_words
        else step.done_words
    )
    return f"{WORDS[step.state]} · {told}" if told else WORDS[step.state]


def mark(step: Step) -> str:
    """The coloured icon of a step's state, as Markdown."""
    return f":{COLOURS[step.state]}[{ICONS[step.state]}]"


def step_bar(project: Project, current: str) -> None:
    """Five links in a row; the page that is open stands out, and each says its state in words (never by colour alone)."""
    with st.container(key="step_bar", horizontal=True, gap="small"):
        for n, step in enumerate(steps(project), 1):
            name = f"**{n} {step.title}**" if step.name == current else f"{n} {step.title}"
            link(
                step.name,
                f"{mark(step)} {name} :small[:gray[{WORDS[step.state]}]]",
                icon="",
                help=words(step).capitalize(),
            )
