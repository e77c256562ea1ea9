"""What must survive: the server going away in the middle of a run, and two tabs on one project."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from studio import gates
from studio.launch import start_training
from studio.training.runs import Run
from studio.workspace import Workspace
from tests.e2e.user import User
from tests.helpers import sample_project


def _steps_made(run: Run) -> int:
    return max((e["step"] for e in run.events()[0] if e.get("type") == "step"), default=0)


@pytest.mark.slow
@pytest.mark.timeout(900)  # two minutes on two quiet cores; a busy computer needs several times that
def test_a_run_goes_on_while_the_server_is_restarted(workspace: Workspace, user: User) -> None:
    project = sample_project(
        workspace, pictures=8, name="Survivor", epochs=200, repeats=4, save_every_epochs=50
    )
    for gate in gates.GATES:
        assert gates.run_gate(project, gate).passed, gate
    run = start_training(project)
    user.open(f"/run?project={project.slug}")
    step = user.page.locator('[data-testid="stMetric"]', has_text="Step")
    expect(step).to_contain_text(re.compile(r"Step\s*[1-9]\d* of \d+"))
    seen = _steps_made(run)

    user.server_may_be_away = True
    user.server.restart()
    assert run.job.state == "running"
    user.open(f"/run?project={project.slug}")
    expect(step).to_contain_text(re.compile(r"Step\s*[1-9]\d* of \d+"))
    user.sees(run.id)
    user.server_may_be_away = False
    assert _steps_made(run) > seen
    user.shot("new-server")
    user.stop_training()
    user.sees("You stopped the training at step")
    assert run.job.state == "stopped"
    assert run.resumable


def test_a_second_tab_sees_a_caption_of_the_first(workspace: Workspace, user: User) -> None:
    project = sample_project(workspace, pictures=4, name="Two tabs")
    words = "bluprnt, a thing that only this test calls so"

    def caption_in(page: Page) -> Locator:
        """The caption of the first picture, beside the picture."""
        user.at("Captions", page=page)
        page.get_by_role("tab", name="One at a time").click()
        return page.get_by_role("textbox", name=re.compile("^Caption of "))

    second = user.tab()
    for page in (user.page, second):
        user.open(f"/captions?project={project.slug}", page=page)
    before = caption_in(second).input_value()
    field = caption_in(user.page)
    field.fill(words)
    field.press("Tab")
    expect(user.button("Undo").first).to_be_enabled()

    second.reload(wait_until="commit")
    expect(caption_in(second)).to_have_value(words)
    # What is taken back there is taken back here.
    second.get_by_role("button", name="Undo").first.click()
    expect(second.get_by_role("button", name="Redo").first).to_be_enabled()
    user.page.reload(wait_until="commit")
    expect(caption_in(user.page)).to_have_value(before)
