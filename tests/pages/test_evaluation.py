"""The evaluation page: what a grid costs, what it says, ratings that count, and registration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from studio import files
from studio.evaluation import grid as grids
from studio.evaluation.grid import Grid, get_grid, list_grids
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


@pytest.mark.parametrize(
    ("field", "typed", "told"),
    [
        ("plan_more_weights", "strong", "'strong' is no weight"),
        ("plan_more_weights", "nan, 0.4", "'nan' is no weight"),
        ("plan_more_weights", "99, -9, inf", "'99', '-9', 'inf' are no weights"),
        ("plan_seeds", "one, -4, 4-2, 4294967296", "are no seeds"),
        ("plan_seeds", "1-500", "too many seeds"),
        ("plan_seeds", " ", "at least one seed"),
        ("plan_own", "x" * 3000, "has 3,000 characters"),
        ("plan_own", "\n".join(f"a house, {n}" for n in range(1200)), "This grid would have"),
        ("plan_files", "lora.safetensors", "Give whole paths"),
        ("plan_files", "/nowhere/lora.safetensors", "There is no LoRA file at"),
    ],
)
def test_wrong_axes_are_refused_in_words_and_stay_as_typed(
    project: Project, trained: Run, workspace: Workspace, field: str, typed: str, told: str
) -> None:
    workspace.remember(mode="advanced")
    at = open_page("evaluation", project.slug)
    box = at.get_by_key(field)
    sound(box.set_value(typed).run())
    shown_words = texts(at).replace("\\", "")
    assert told in shown_words, shown_words
    assert at.button(key="draw").disabled and at.get_by_key(field).value == typed


def test_axes_are_free(project: Project, trained: Run, workspace: Workspace, tmp_path: Path) -> None:
    workspace.remember(mode="advanced")
    other = tmp_path / "Friend's.safetensors"
    worlds.lora_file(other, epoch=9, step=9)
    at = open_page("evaluation", project.slug)
    assert "Clip skip" not in [n.label for n in at.number_input], "the built-in model has none"
    at.text_input(key="plan_more_weights").set_value("0.45, -0.5")
    at.text_input(key="plan_seeds").set_value("7, 40-42")
    sound(at.text_area(key="plan_files").set_value(str(other)).run())
    assert "4 checkpoints × 8 weights" in texts(at) and "× 4 seeds" in texts(at)


def test_a_lora_from_elsewhere_can_be_looked_at_before_anything_was_trained(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "from a friend.safetensors"
    worlds.lora_file(other, epoch=9, step=9)
    monkeypatch.setattr(
        grids, "launch", lambda folder, _spec: worlds._job(folder, "grid", "Grid", "stopped") or Job(folder)
    )
    at = open_page("evaluation", project.slug)
    sound(at.button(key="from_elsewhere").click().run())
    assert "Give the path of a LoRA file." in texts(at)
    sound(at.text_area(key="plan_files").set_value(f'"{other}"').run())
    sound(at.button(key="draw").click().run())
    (grid,) = list_grids(project)
    assert [x.label for x in grid.spec.lora_files] == ["from a friend"] and grid.spec.run is None
    other.unlink()
    at = open_page("evaluation", project.slug)
    assert "pictures of this grid are missing" in texts(at), "the grid is there without a run"


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


def shown(at: AppTest) -> dict[str, Any]:
    """What the board was told."""
    (element,) = at.get("bidi_component")
    told: dict[str, Any] = json.loads(element.proto.json)
    return told


def say(at: AppTest, grid: Grid, *changes: tuple[int, str, str, object], window: str = "w1") -> AppTest:
    """The page after the browser said something: number, cell, what, value."""
    said = [{"seq": n, "cell": c, "what": what, "value": v} for n, c, what, v in changes]
    at.session_state[f"board_{grid.id}"] = {"said": {"window": window, "changes": said}}
    return sound(at.run())


def test_every_cell_of_the_grid_is_named_to_the_browser(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    told = shown(open_page("evaluation", project.slug))
    assert [len(block) for block in told["cells"]] == [len(grid.spec.weights) * len(grid.spec.prompts)] * 3
    assert all("." in cell for block in told["cells"] for cell in block), "every picture is there"
    assert [p[0] for p in told["prompts"]] == [p.text for p in grid.spec.prompts]
    assert told["weights"][0] == 0 and told["checkpoints"] == [x.label for x in grid.spec.lora_files]
    first = grid.cells()[1]
    assert first.path is not None
    assert told["cells"][0][1] == f"{first.hash}.{first.path.stat().st_mtime_ns // 1_000_000}"
    assert told["nearUrls"] and "01_car.png" in told["nearUrls"][0], (
        "the nearest training picture has an address"
    )
    for c, label in enumerate(told["checkpoints"]):
        named = [cell.partition(".")[0] for cell in told["cells"][c]]
        assert all(told["measured"][h][3] is not None for h in named), (
            "each cell of each checkpoint has a nearest"
        )
        words = told["columns"][label]
        assert words[0] == "the base model" and all(words), label


def test_ratings_on_the_grid_are_stored_and_change_the_verdict(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained, checkpoints="final")
    at = open_page("evaluation", project.slug)
    cells = {c.weight: c.hash for c in grid.cells() if c.prompt == grid.spec.prompts[0]}
    say(at, grid, (1, cells[0.3], "rating", 5))
    say(at, grid, (1, cells[0.3], "rating", 5), (2, cells[0.9], "rating", 2), (3, cells[0.9], "blurry", True))
    assert grid.review.get(cells[0.3]).rating == 5
    assert (grid.review.get(cells[0.9]).rating, grid.review.get(cells[0.9]).tags) == (2, ("blurry",))
    assert shown(at)["ack"] == ["w1", 3] and shown(at)["said"][cells[0.9]] == [2, ["blurry"], ""]
    told = texts(at)
    assert "from your ratings" in told and "Use 0.3" in told
    drawn = sum(c.weight > 0 for c in grid.cells())
    assert f"This follows your ratings so far (2 of {drawn} pictures); the measurements alone say 0." in told
    assert ":gray-badge[unsure]" in told and ":green[" not in told, "no tick under what is not sure"
    assert "| 5 |" in (project.records_dir / "evaluation.md").read_text(encoding="utf-8"), (
        "the record follows"
    )


def test_what_another_window_said_since_is_not_undone_by_telling_again(
    project: Project, trained: Run
) -> None:
    grid = worlds.grid(project, trained, checkpoints="final")
    cell = next(c.hash for c in grid.cells() if c.weight == 0.3)
    one = say(open_page("evaluation", project.slug), grid, (1, cell, "rating", 5))
    say(open_page("evaluation", project.slug), grid, (1, cell, "rating", 2), window="w2")
    say(one, grid, (1, cell, "rating", 5))
    assert grid.review.get(cell).rating == 2
    assert shown(one)["said"][cell][0] == 2, "and the first window is told"


@pytest.mark.parametrize(
    "said",
    [
        {"window": "w", "changes": [{"seq": 1, "cell": "x", "what": "rating", "value": 6}]},
        {"window": "w", "changes": [{"seq": 1, "cell": "x", "what": "ugly", "value": True}]},
        {"window": "w", "changes": [{"seq": 1}]},
        {"changes": "nonsense"},
    ],
)
def test_nonsense_from_a_browser_is_refused_in_words(
    project: Project, trained: Run, said: dict[str, object]
) -> None:
    grid = worlds.grid(project, trained, checkpoints="final")
    at = open_page("evaluation", project.slug)
    at.session_state[f"board_{grid.id}"] = {"said": said}
    sound(at.run())
    assert list(at.error) and grid.review.all() == {}
    assert shown(at)["grid"] == grid.id, "the grid is still there"


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
    sound(at.segmented_control(key="grid_view").set_value("diagnosis").run())
    told = texts(at)
    assert (
        "Which run came from which" in told and "Not evaluated yet" in told and ":gray[interrupted]" in told
    )
    sound(at.button(key="first_of_run").click().run())
    assert "**A new grid** :gray[for run-2]" in texts(at)
    sound(at.button(key="back").click().run())
    assert grid.verdict.headline in texts(at)


def test_two_columns_side_by_side(project: Project, trained: Run) -> None:
    grid = worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    sound(at.segmented_control(key="grid_view").set_value("compare").run())
    body = next(h.proto.body for h in at.get("html") if "class='pairs'" in h.proto.body)
    assert body.count('<img loading="lazy"') == 2 * len(grid.spec.prompts)


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
    assert "95% interval" in texts(at) and "was chosen in" in texts(at)


def test_curves_are_also_there_in_words(project: Project, trained: Run) -> None:
    worlds.grid(project, trained)
    at = open_page("evaluation", project.slug)
    sound(at.segmented_control(key="grid_view").set_value("curves").run())
    assert "clearly present" in tables(at)
    charts = {c.proto.id.rpartition("curve_")[2] for c in at.get("plotly_chart")}
    assert charts == {"nearness", "effect", "kept", "fault", "leak"}, "one a measure that has figures"
    assert "no CLIP model was chosen" in texts(at), "nothing takes its place"
    sound(at.segmented_control(key="curves_over").set_value("checkpoint").run())
    assert len(at.get("plotly_chart")) == 5 and "final (epoch 5)" in tables(at)


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
    assert shown(at)["errors"] == {missing.hash: "The card ran out of memory."}
    assert missing.hash in shown(at)["cells"][-1], "and it is named without a picture"


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
