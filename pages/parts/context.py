"""What the page is about: workspace, project, mode. The disk is the truth, the address names the project."""

from __future__ import annotations

from typing import Literal

import streamlit as st

from pages.parts.nav import link
from pages.parts.page import page
from studio.choices import follow_pictures
from studio.errors import StudioError
from studio.project import Project, open_project
from studio.workspace import Workspace

Mode = Literal["easy", "advanced"]


def workspace() -> Workspace:
    """The workspace of this user."""
    return Workspace.default()


def mode() -> Mode:
    """`easy` or `advanced`, as last chosen in the sidebar; the choice outlives the visit."""
    return "advanced" if workspace().preferences().get("mode") == "advanced" else "easy"


def advanced() -> bool:
    """True when every setting is to be shown."""
    return mode() == "advanced"


def follow_address() -> None:
    """Called once a run by the shell: the address wins, then what this tab last showed, then the last project of all."""
    ws = workspace()
    asked = st.query_params.get("project", "")
    slug = asked or st.session_state.get("project_slug") or ""
    if not slug:
        last = str(ws.preferences().get("last_project", ""))
        slug = last if last in ws.project_slugs() else ""
    st.session_state["project_slug"] = slug


def project_slug() -> str:
    """Name of the project in the address, "" when there is none. It may not exist any more."""
    return str(st.session_state.get("project_slug") or "")


def current_project() -> Project | None:
    """The project this page is about; None when there is none, or when it is gone."""
    slug = project_slug()
    if not slug:
        return None
    try:
        project = open_project(workspace(), slug)
    except StudioError:
        return None
    workspace().remember(last_project=slug)
    follow_pictures(project)
    return project


def require_project() -> Project:
    """The project, or a friendly way to one instead of the rest of the page."""
    project = current_project()
    if project is not None:
        if st.query_params.get("project") != project.slug:
            st.query_params["project"] = project.slug
        return project
    slug = project_slug()
    with page("No such project" if slug else "No project yet", "This page works on a project."):
        if slug:
            st.warning(
                "It may have been deleted or renamed, here or in another window.",
                title=f"There is no project called '{slug}'",
                icon=":material/folder_off:",
            )
        else:
            st.info(
                "Choose one on the home page, or start a new one.",
                title="Nothing is chosen",
                icon=":material/folder_open:",
            )
        with st.container(horizontal=True):
            link("home", "Go to all projects", project="")
            link("new_project", "Start a new project", project="")
    st.stop()
