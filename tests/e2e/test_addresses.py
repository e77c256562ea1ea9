"""Addresses typed by hand: the first request after a start, projects that are not there."""

from __future__ import annotations

from playwright.sync_api import expect

from studio.workspace import Workspace
from tests.e2e.user import User
from tests.helpers import sample_project


def test_a_deep_link_is_the_first_request_after_a_start(workspace: Workspace, user: User) -> None:
    project = sample_project(workspace, pictures=6, name="Deep link")
    user.open(f"/run?project={project.slug}")
    user.at("Run")
    expect(user.page.get_by_role("combobox", name="Project")).to_have_accessible_name("Project")
    user.sees("Still to pass")
    expect(user.button("Check everything")).to_be_enabled()
    expect(user.page).to_have_url(f"{user.server.url}/run?project={project.slug}")
    user.shot("deep-link")


def test_an_unknown_project_is_told_calmly(user: User) -> None:
    for name in ("dataset", "captions", "config", "run", "evaluation"):
        user.open(f"/{name}?project=no-such-thing")
        user.sees("There is no project called 'no-such-thing'")
        user.settled()
        expect(user.page.get_by_role("link", name="Go to all projects")).to_be_visible()
        expect(user.page.get_by_role("link", name="Start a new project")).to_be_visible()
        user.shot(name)
