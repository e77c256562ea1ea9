"""The sidebar: which project, its steps, everything else, and Easy or Advanced."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from pages.parts.context import current_project, mode, workspace
from pages.parts.form import synced
from pages.parts.nav import PAGES, link
from pages.parts.steps import mark, steps, words
from studio.errors import StudioError
from studio.project import Project

_STATIC = Path(__file__).resolve().parent.parent / "static"


def draw(open_page: str) -> None:
    """Draw the sidebar; `open_page` is the title of the page that is open."""
    # One picture for light and dark: it asks the browser, so that it follows a change at once and not with the next click.
    st.logo(str(_STATIC / "logo.svg"), icon_image=str(_STATIC / "icon.svg"), size="large")
    with st.sidebar:
        link("home", project="", width="stretch")
        project = current_project()
        if project is not None:
            _project(project)
        st.space("small")
        for name in ("library", "guide", "setup"):
            if PAGES[name].file.is_file():
                link(name, width="stretch")
        st.space("small")
        _mode()


def _project(project: Project) -> None:
    _switcher(project)
    for n, step in enumerate(steps(project), 1):
        if PAGES[step.name].file.is_file():
            link(
                step.name,
                f"{mark(step)} {n} {step.title}",
                icon="",
                width="stretch",
                help=words(step).capitalize(),
            )


def _name(slug: str) -> str:
    try:
        return Project(workspace(), slug).intent.name
    except StudioError:
        return slug


def _switcher(project: Project) -> None:
    slugs = workspace().project_slugs()
    synced("project_choice", project.slug)
    st.selectbox("Project", slugs, key="project_choice", format_func=_name, on_change=_switched)


def _switched() -> None:
    chosen = st.session_state["project_choice"]
    st.query_params["project"] = chosen
    st.session_state["project_slug"] = chosen


def _mode() -> None:
    synced("mode_choice", mode())
    st.segmented_control(
        "How much to show",
        ["easy", "advanced"],
        key="mode_choice",
        required=True,
        format_func=str.capitalize,
        width="stretch",
        on_change=lambda: workspace().remember(mode=st.session_state["mode_choice"] or "easy"),
        help="Easy asks only what you have to decide. Advanced shows every setting. Switching loses nothing.",
    )
