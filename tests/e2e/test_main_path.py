"""The main job, as a newcomer does it: own pictures in, a registered LoRA out, all of it in the browser."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from studio.library.entry import list_library
from studio.project import open_project
from studio.training.lora_keys import read_header
from studio.training.runs import Run, list_runs
from studio.workspace import Workspace
from tests.e2e.drawings import chalk_pictures
from tests.e2e.user import User

NAME, TRIGGER, SLUG = "Chalk on brick", "chlkbrk", "chalk-on-brick"


@pytest.mark.slow
@pytest.mark.timeout(1500)  # two minutes on two quiet cores; a busy computer needs several times that
def test_from_own_pictures_to_a_registered_lora(workspace: Workspace, user: User, tmp_path: Path) -> None:
    pictures = chalk_pictures(tmp_path / "pictures")
    _interview(user)
    _add_pictures(user, pictures)
    _write_captions(user, workspace, pictures)
    _choose_settings(user)
    _pass_the_gates(user)
    run = _train_with_a_reload_and_a_stop(user, workspace)
    _draw_the_grid(user)
    _register(user, workspace)
    header = read_header(run.checkpoints()[-1].path)
    assert header, "the file that came out cannot be read"
    # The originals are the user's: nothing was written beside them.
    assert {p.name for p in (tmp_path / "pictures").iterdir()} == {p.name for p in pictures}


def _interview(user: User) -> None:
    user.open("/")
    user.at("Teach a model something new")
    user.shot("home-empty")
    user.press("Start with my pictures")
    user.at("New project")
    user.sees("What do you want to teach?")
    user.shot("interview-kind")
    user.press("A style")
    user.sees("Which base model shall learn it?")
    user.shot("interview-model")
    user.press("Take this one")
    user.sees("How shall it be called?")
    name = user.page.get_by_role("textbox", name="Name of the project")
    name.press_sequentially(NAME, delay=20)
    trigger = user.page.get_by_role("textbox", name="Trigger word")
    expect(trigger).not_to_have_value("")  # proposed from the name
    user.shot("interview-name")
    trigger.fill(TRIGGER)
    trigger.press("Tab")
    user.sees("A good trigger word")
    expect(trigger).to_have_value(TRIGGER)
    user.press("Go on")
    user.sees(re.compile("You need .* pictures"))
    user.shot("interview-pictures")
    user.press("Go on")
    user.sees("Is this right?")
    user.sees(NAME)
    user.sees(TRIGGER)
    user.shot("interview-summary")
    user.press("Create the project")
    user.at("Dataset")
    expect(user.page).to_have_url(re.compile(rf"/dataset\?project={SLUG}"))


def _add_pictures(user: User, pictures: dict[Path, str]) -> None:
    user.shot("dataset-empty")
    user.page.locator('input[type="file"]').first.set_input_files([str(p) for p in pictures])
    user.sees("10 pictures added")
    user.settled()
    for path in pictures:
        expect(user.page.get_by_role("checkbox", name=f"Choose {path.name}")).to_be_attached()
    user.shot("dataset-full")
    user.page.locator(".st-key-step_bar").get_by_role("link", name=re.compile("Captions")).click()
    user.at("Captions")


def _write_captions(user: User, workspace: Workspace, pictures: dict[Path, str]) -> None:
    user.shot("captions-empty")
    go_on = user.button("Go on to the settings")
    expect(go_on).to_be_disabled()
    said = dict(sorted((path.name, f"a {thing}") for path, thing in pictures.items()))
    in_table = list(said)[:4]
    # One below the other into the table, without waiting for anything.
    table = user.page.frame_locator('iframe[title*="agGrid"]')
    table.locator(f'[row-id="{in_table[0]}"] [col-id="caption"]').click()
    for name in in_table:
        user.page.keyboard.type(said[name])
        user.page.keyboard.press("Enter")  # saves, and goes to the next one
    user.sees(f"{len(in_table)} of 10 written")
    user.settled()
    user.shot("captions-table")
    # The others one at a time, beside the large picture.
    user.page.get_by_role("tab", name="One at a time").click()
    for at, name in enumerate(said, 1):
        user.sees(re.compile(f"^{at} of 10$"))
        user.sees(re.compile(rf"^{re.escape(name)} "))
        field = user.page.get_by_role("textbox", name=f"Caption of {name}", exact=True)
        if name in in_table:
            expect(field).to_have_value(f"{TRIGGER}, {said[name]}")
            user.press("Skip")
        else:
            field.fill(said[name])
            user.press("Approve and go on")
    expect(go_on).to_be_enabled()
    user.settled()
    user.shot("captions-full")
    folder = open_project(workspace, SLUG).dataset_dir
    written = {name: (folder / name).with_suffix(".txt").read_text(encoding="utf-8").strip() for name in said}
    assert written == {name: f"{TRIGGER}, {words}" for name, words in said.items()}
    go_on.click()
    user.at("Config")


def _choose_settings(user: User) -> None:
    user.shot("config")
    quick = user.page.locator(".st-key-preset_pocket-quick")
    quick.get_by_role("button", name="Use this").click()
    expect(quick.get_by_role("button", name="In use")).to_be_visible()
    user.settled()  # the fields of the old preset are gone
    epochs = user.page.get_by_role("spinbutton", name=re.compile("^Epochs"))
    epochs.fill("6")
    epochs.press("Tab")
    user.sees(re.compile(r"\d+ in 6 epochs"))
    user.shot("config-chosen")
    user.press("Review and confirm")
    user.sees("1 of")
    user.sees("settings are yours")
    user.shot("config-review")
    user.press("Confirm and check these settings")
    user.at("Run")


def _pass_the_gates(user: User) -> None:
    user.shot("run-before")
    user.press("Check everything")
    user.sees("running")
    user.shot("run-checking")
    expect(user.button(re.compile("^Start training"))).to_be_enabled(timeout=480_000)
    for gate in ("dataset", "config", "environment", "dry_run"):
        expect(user.page.locator(f".st-key-gate_{gate}")).to_contain_text("passed")
    user.settled()
    user.shot("run-ready")


def _train_with_a_reload_and_a_stop(user: User, workspace: Workspace) -> Run:
    project = open_project(workspace, SLUG)
    user.press(re.compile("^Start training"))
    step = user.page.locator('[data-testid="stMetric"]', has_text="Step")
    expect(step).to_contain_text(re.compile(r"Step\s*[1-9]\d* of \d+"), timeout=480_000)
    user.shot("run-live")
    (run,) = list_runs(project)

    user.page.reload(wait_until="commit")
    expect(step).to_contain_text(re.compile(r"Step\s*[1-9]\d* of \d+"))
    user.sees(run.id)
    user.shot("run-after-reload")

    user.stop_training()
    user.sees("You stopped the training at step")
    user.settled()
    stopped_at = run.job.events()[0]
    before = max(e["step"] for e in stopped_at if e.get("type") == "step")
    assert run.job.state == "stopped"
    assert before < run.manifest["steps"]["total"]
    user.shot("run-stopped")

    user.press("Resume training")
    user.sees("Training finished", seconds=480)
    user.settled()
    user.shot("run-finished")
    steps = [e["step"] for e in run.job.events()[0] if e.get("type") == "step"]
    assert run.job.state == "finished"
    assert steps == sorted(set(steps)), "a step was made twice, or in the wrong order"
    assert steps[-1] == run.manifest["steps"]["total"]
    assert [r.id for r in list_runs(project)] == [run.id]
    return run


def _draw_the_grid(user: User) -> None:
    user.press("Evaluate this run")
    user.at("Evaluation")
    user.shot("evaluation-plan")
    user.page.get_by_role("radio", name="The last").click()
    user.press(re.compile("^Draw 48 pictures"))
    user.sees(re.compile(r"\d+ of \d+ pictures"))
    user.shot("evaluation-drawing")
    register = user.button(re.compile("^Register"))
    expect(register.first).to_be_visible(timeout=480_000)
    user.settled()
    for weight in ("0", "0.3", "0.5", "0.7", "0.9", "1"):
        expect(
            user.page.get_by_role("gridcell", name=re.compile(rf", weight {re.escape(weight)},")).first
        ).to_be_visible()
    user.shot("evaluation-grid")
    user.page.get_by_text("Why", exact=True).click()
    user.shot("evaluation-why")


def _register(user: User, workspace: Workspace) -> None:
    user.press(re.compile("^Register"))
    user.sees("Register in the library")
    user.shot("register")
    user.page.get_by_test_id("stForm").get_by_role("button", name="Register").click()
    user.at("Library")
    user.sees(NAME)
    user.shot("library")
    (entry,) = list_library(workspace)
    assert entry.trigger == TRIGGER
    assert entry.file(workspace).is_file()
    user.open(f"/evaluation?project={SLUG}")
    user.at("Evaluation")
    expect(user.page.locator(".st-key-step_bar")).not_to_contain_text("needs you")
    user.open("/")
    user.at("Your projects")
    user.sees("All five steps done")
    user.shot("home-after")
