"""The evaluation page: what a grid costs, what it says, ratings that count, and registration."""

from __future__ import annotations

from pathlib import Path

import pytest

from pages.parts import compare_view
from studio import files
from studio.evaluation import grid as grids
from studio.evaluation.grid import get_grid, list_grids
from studio.jobs.job import Job
from studio.library.entry import list_library
from studio.project import Project
from studio.training.runs import Run, list_runs
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, tables, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


@pytest.fixture
def trained(project: Project) -> Run:
    return worlds.run(project, run_id="run-1")


def test_without_a_run_the_page_leads_to_one(project: Project) -> None:
    at = open_page("evaluation", project.slug)
    assert "Nothing to evaluate yet" in texts(at)


# --- planning


def test_a_new_grid_says_what_it_costs_before_it_starts(project: Project, trained: Run) -> None:
    at = open_page("evaluation", project.slug)
    label = next(x for x in labels(at) if x.startswith("Draw "))
    assert "pictures, about" in label
    assert "3 checkpoints × 6 weights" in texts(at)
    sound(at.segmented_control(key="plan_checkpoints").set_value("final").run())
    fewer = next(x for x in labels(at) if x.startswith("Draw "))
    assert int(fewer.split()[1]) < int(label.split()[1])


def test_prompts_can_be_left_out_and_added(project: Project, trained: Run) -> None:
    at = open_page("evaluation", project.slug)
    count = len(at.checkbox)
    at.checkbox[0].uncheck().run()
    sound(at.text_area(key="plan_own").set_value("{trigger}, a lighthouse\n\na whale").run())
    assert f"{count + 1} prompts" in texts(at)


def test_without_a_weight_it_cannot_start_and_says_why(project: Project, trained: Run) -> None:
    at = open_page("evaluation", project.slug)
    sound(at.get_by_key("plan_weights").set_value([]).run())
    assert "Choose at least one weight above 0." in texts(at)
    assert at.button(key="draw").disabled


def test_drawing_freezes_the_grid_and_shows_it(
    project: Project, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launched(folder: Path, spec: object) -> Job:
        worlds._job(folder, "grid", "Grid", "stopped")
        return Job(folder)

    monkeypatch.setattr(grids, "launch", launched)
    at = open_page("evaluation", project.slug)
    sound(at.button(key="draw").click().run())
    found = list_grids(project)
    assert len(found) == 1, texts(at)
    assert found[0].spec.run == "run-1"
    assert "pictures of this grid are missing" in texts(at)


# --- looking


def test_the_verdict_stands_above_with_its_reasons(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    verdict = grid.verdict
    assert verdict is not None
    at = open_page("evaluation", project.slug)
    told = texts(at)
    assert verdict.headline in told
    for reason in verdict.reasons:
        assert reason in told
    assert f"Register at {verdict.weight:g}" in labels(at)


def test_every_cell_of_the_grid_is_drawn(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    assert len(at.get("image")) == len(grid.spec.weights) * len(grid.spec.prompts)
    for prompt in grid.spec.prompts:
        assert prompt.text in texts(at)


def test_another_checkpoint_can_be_shown(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    last = grid.spec.lora_files[-1].label
    sound(at.segmented_control(key=f"checkpoint_{grid.id}").set_value(last).run())
    assert len(at.get("image")) == len(grid.spec.weights) * len(grid.spec.prompts)


def test_ratings_on_the_grid_are_stored_and_change_the_verdict(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained, checkpoints="final")
    at = open_page("evaluation", project.slug)
    sound(at.toggle(key="rate_on_grid").set_value(True).run())
    cells = {c.weight: c for c in grid.cells() if c.prompt == grid.spec.prompts[0]}
    for weight, stars in ((0.3, 4), (0.9, 1)):
        key = f"stars_{cells[weight].checkpoint}_{cells[weight].hash}"
        sound(at.get_by_key(key).set_value(stars).run())
    assert grid.review.get(cells[0.3].hash).rating == 5
    assert grid.review.get(cells[0.9].hash).rating == 2
    assert "from your ratings" in texts(at)
    told = texts(at)
    assert "Use 0.3" in told
    drawn = sum(c.weight > 0 for c in grid.cells())
    assert f"This follows your ratings so far (2 of {drawn} pictures); the measurements alone say 0." in told
    assert ":gray-badge[unsure]" in told and ":green[" not in told, "no tick under what is not sure"


def test_the_persons_own_words_are_kept(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    sound(at.text_area(key=f"own_words_{grid.id}").set_value("lines too thin").run())
    assert grid.review.verdict_note == "lines too thin"
    assert (
        open_page("evaluation", project.slug).text_area(key=f"own_words_{grid.id}").value == "lines too thin"
    )


def test_a_newer_run_does_not_hide_the_grid_that_was_rated(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    worlds.run(project, run_id="run-2", state="interrupted", steps=20)
    assert list_runs(project)[0].id == "run-2", "or this test says nothing"
    at = open_page("evaluation", project.slug)
    assert grid.verdict is not None and grid.verdict.headline in texts(at)
    sound(at.button(key="first_of_run").click().run())
    assert "**A new grid** :gray[for run-2]" in texts(at)
    sound(at.button(key="back").click().run())
    assert grid.verdict.headline in texts(at)


def test_two_columns_side_by_side(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    sound(at.segmented_control(key="grid_view").set_value("compare").run())
    assert len(at.get("image")) == 2 * len(grid.spec.prompts)


def test_a_diagnosis_prepares_the_next_run(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    grid.review.tag(next(c for c in grid.cells() if c.weight == 1.0).hash, "copies")
    before = project.settings
    at = open_page("evaluation", project.slug)
    sound(at.segmented_control(key="grid_view").set_value("diagnosis").run())
    assert "Copies training pictures" in texts(at) and "You marked 1 picture as" in texts(at)
    sound(at.button(key="prepare_copies").click().run())
    assert project.settings.epochs < before.epochs
    assert "The next run is prepared" in texts(at)
    sound(at.selectbox(key="symptom").set_value("black").run())
    assert "fp16 autoencoder" in texts(at).lower()


def test_a_blind_test_counts(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    sound(at.segmented_control(key="grid_view").set_value("blind").run())
    assert len(at.get("image")) == 2
    # Not the arrows, which move along the control that chose the view.
    keys = {a: at.button(key=f"blind_{a}").proto.shortcut for a in ("left", "alike", "right")}
    assert keys == {"left": "1", "alike": "0", "right": "2"}
    for _ in range(len(grid.spec.prompts)):
        sound(at.button(key="blind_left").click().run())
    assert "95 % interval" in texts(at)


def test_curves_are_also_there_in_words(project: Project, trained: Run) -> None:
    worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    sound(at.segmented_control(key="grid_view").set_value("curves").run())
    assert "clearly present" in tables(at)
    assert len(at.get("plotly_chart")) == 1


def test_a_grid_that_was_stopped_goes_on(
    project: Project, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = worlds.grid(project, trained, state="stopped", draw=0.5)
    at = open_page("evaluation", project.slug)
    assert "pictures of this grid are missing" in texts(at)
    resumed = []
    monkeypatch.setattr(grids, "relaunch", lambda job, command: resumed.append(job) or job)
    sound(at.button(key="go_on").click().run())
    assert [j.folder for j in resumed] == [grid.folder]


def test_a_cell_that_failed_says_so(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained, state="finished", draw=0.1)
    missing = [c for c in grid.cells() if c.path is None][-1]  # of the checkpoint that is shown
    files.write_json(grid.folder / "failures.json", {missing.hash: "The card ran out of memory."})
    at = open_page("evaluation", project.slug)
    assert "not drawn" in texts(at)


def test_an_address_of_a_grid_that_is_gone(project: Project, trained: Run) -> None:
    worlds.grid(project, trained)
    at = open_page("evaluation", project.slug, grid="grid-lost")
    assert "There is no grid called 'grid-lost'." in texts(at)


# --- registering


def test_registering_puts_it_into_the_library(project: Project, trained: Run, workspace: Workspace) -> None:
    worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    sound(at.button(key="to_register").click().run())
    at.number_input(key="register_weight").set_value(0.65)
    at.text_input(key="register_good_for").set_value("plans of things")
    sound(at.form_submit_button[0].click().run())
    entries = list_library(workspace)
    assert [(e.weight, e.good_for, e.trigger) for e in entries] == [(0.65, "plans of things", "bluprnt")]
    assert at.title[0].value == "Library"


@pytest.mark.parametrize("weight", [99.0, 0.0])
def test_a_weight_that_none_can_use_is_refused_in_words(
    project: Project, trained: Run, workspace: Workspace, weight: float
) -> None:
    worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    sound(at.button(key="to_register").click().run())
    field = at.number_input(key="register_weight")
    assert not field.proto.has_max and not field.proto.has_min, "the browser would keep the number to itself"
    field.set_value(weight)
    sound(at.form_submit_button[0].click().run())
    assert f"{weight:g} cannot be recommended as a weight." in texts(at)
    assert at.number_input(key="register_weight").value == weight, "what was typed stays"
    assert list_library(workspace) == []


def test_registering_twice_makes_a_version(project: Project, trained: Run, workspace: Workspace) -> None:
    worlds.grid(project, trained)
    for _ in range(2):
        at = open_page("evaluation", project.slug)
        at.button(key="to_register").click().run()
        sound(at.form_submit_button[0].click().run())
    assert sorted(e.slug for e in list_library(workspace)) == ["blueprint", "blueprint-v2"]


def test_a_checkpoint_that_was_removed_is_said(project: Project, trained: Run, workspace: Workspace) -> None:
    grid = worlds.grid(project, trained)
    for lora in grid.spec.lora_files:
        lora.path.unlink()
    at = open_page("evaluation", project.slug, grid=grid.id)
    at.button(key="to_register").click().run()
    sound(at.form_submit_button[0].click().run())
    assert "is not there any more" in texts(at)
    assert list_library(workspace) == []
    assert get_grid(project).id == grid.id


def test_a_weight_between_columns_says_so_and_can_be_drawn(
    project: Project, trained: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = worlds.grid(project, trained)
    verdict = grid.verdict
    assert verdict is not None and verdict.weight not in grid.spec.weights, "or this test says nothing"
    at = open_page("evaluation", project.slug)
    assert f"{verdict.weight:g} lies between two columns" in texts(at)
    monkeypatch.setattr(
        grids, "launch", lambda folder, _spec: worlds._job(folder, "grid", "Grid", "stopped") or Job(folder)
    )
    sound(at.button(key="draw_too").click().run())
    newer = next(g for g in list_grids(project) if g.id != grid.id)
    assert newer.spec.weights == tuple(sorted((*grid.spec.weights, verdict.weight)))
    assert newer.spec.run == grid.spec.run and newer.spec.prompts == grid.spec.prompts
    there = {c.hash for c in grid.cells()}
    assert {c.hash for c in newer.cells()} > there, "what was drawn is used again"


def test_two_large_pictures_leave_room_for_the_buttons_that_rate() -> None:
    """Both ways of comparing are bound to the window's height, not only to the width of the dialog."""
    pane = next(x for x in compare_view._CSS.splitlines() if x.startswith(".pane {"))
    slider = next(x for x in compare_view._CSS.splitlines() if x.startswith(".pc.slider {"))
    assert "max-height: 36vh" in pane
    assert "max-width: min(720px, calc(36vh * var(--ratio, 1)))" in slider
