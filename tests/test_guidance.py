from __future__ import annotations

import time
from pathlib import Path

import pytest

from studio import choices, gates, guidance, interview, shelf
from studio.captions.store import CaptionStore
from studio.dataset.index import Index
from studio.dataset.intake import import_pictures
from studio.errors import BusyError, InputError, NotFoundError
from studio.findings import Finding
from studio.jobs.job import JobSpec
from studio.jobs.launch import launch
from studio.machine import Machine, detect
from studio.project import Intent, Project, create_project
from studio.working import working
from studio.workspace import Workspace, shipped
from tests.pages import worlds


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def _states(project: Project) -> list[str]:
    return [s.state for s in guidance.steps(project)]


def test_a_new_project_needs_pictures_first(workspace: Workspace) -> None:
    made = create_project(workspace, Intent(kind="style", name="Empty", trigger="emptxq"))
    assert _states(made) == ["needs you", "not yet", "not yet", "not yet", "not yet"]
    assert guidance.next_step(made).next_words == "Add pictures"


def test_pictures_that_nobody_looked_at_are_not_done(project: Project) -> None:
    Index(project.cache_dir).forget()  # as after pictures were put into the folder by hand
    assert guidance.unseen(project) == 8
    assert guidance.steps(project)[0].missing_words == "8 pictures not checked yet"
    guidance.findings(project)
    assert guidance.unseen(project) == 0
    assert guidance.steps(project)[0].state == "to check"


def test_a_missing_caption_and_a_damaged_picture_call_their_own_step(project: Project) -> None:
    guidance.findings(project)
    assert _states(project)[:2] == ["to check", "to check"]
    (project.dataset_dir / "01_car.txt").unlink()
    step = guidance.steps(project)[1]
    assert (step.state, step.done_words, step.missing_words) == ("needs you", "7 of 8 written", "1 missing")
    (project.dataset_dir / "02_bus.png").write_bytes((project.dataset_dir / "02_bus.png").read_bytes()[:90])
    guidance.findings(project)
    assert guidance.steps(project)[0].missing_words == "1 finding to mend"
    assert guidance.next_step(project).name == "dataset", "the first step that needs the user"


def test_a_caption_without_the_trigger_is_seen_at_once(project: Project) -> None:
    guidance.findings(project)
    (project.dataset_dir / "01_car.txt").write_text("car", encoding="utf-8")
    assert guidance.steps(project)[1].missing_words == "1 finding to mend"
    CaptionStore(project).add_trigger()
    assert guidance.steps(project)[1].state == "to check"


def test_a_step_is_done_when_its_gate_has_passed_on_what_is_there_now(project: Project) -> None:
    guidance.findings(project)
    assert _states(project) == ["to check", "to check", "to check", "needs you", "not yet"]
    assert guidance.next_step(project).next_words == "Check the gates and train", (
        "the gates are checked there"
    )
    assert guidance.steps(project)[0].missing_words == "gate 1 checks it before training"
    gates.run_gate(project, "dataset")
    assert _states(project)[:3] == ["done", "done", "to check"]
    gates.run_gate(project, "config")
    assert _states(project)[:3] == ["done", "done", "done"]
    choices.change(project, {"rank": 3})
    assert _states(project)[:3] == ["done", "done", "to check"], "gate 2 has not seen this rank"
    CaptionStore(project).set("01_car.png", "bluprnt, a small car", "person")
    assert _states(project)[:3] == ["to check", "to check", "to check"]
    settings = project.settings.model_copy(update={"backend": "kohya", "targets": "attention"})
    project.save_settings(settings)
    gates.run_gate(project, "config")
    assert guidance.steps(project)[2].missing_words == "gate 2 is blocked"


def test_what_only_gate_one_found_calls_its_step(project: Project) -> None:
    """The gate decodes every picture; the audit may have looked at less."""
    guidance.findings(project)
    for code, step in (("picture-torn", 0), ("caption-odd", 1)):
        found = Finding(severity="block", code=code, what="No.", why="So.", fix="Do.")
        gates.save_verdict(project, "dataset", [found], gates.current_fingerprint(project, "dataset"), {})
        assert [s.missing_words for s in guidance.steps(project)][step] == "1 finding to mend"
        assert guidance.next_step(project).name == ("dataset", "captions")[step]


def test_steps_of_pictures_that_nobody_read_do_not_read_them(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    gates.run_gate(project, "dataset")
    gates.run_gate(project, "config")
    Index(project.cache_dir).forget()
    monkeypatch.setattr(
        gates, "current_fingerprint", lambda *_: pytest.fail("a fingerprint reads every picture")
    )
    monkeypatch.setattr(gates.standing, "current_fingerprint", gates.current_fingerprint)
    assert _states(project)[:3] == ["needs you", "to check", "to check"]


def test_settings_come_after_pictures_and_captions(workspace: Workspace, tmp_path: Path) -> None:
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"), preset=False)
    guidance.findings(made)
    assert guidance.next_step(made).next_words == "Choose a preset"
    assert guidance.planned_settings(made).resolution == 64, "those of the base model's standard preset"
    choices.choose_preset(made, "pocket-quick")
    assert guidance.next_step(made).next_words == "Check the gates and train"
    (made.folder / "settings.yaml").write_text("settings: {rank: lots}", encoding="utf-8")
    assert guidance.next_step(made).next_words == "Mend the settings"


def test_a_look_at_the_settings_of_an_empty_project_is_no_step_done(
    workspace: Workspace, tmp_path: Path
) -> None:
    made = create_project(workspace, Intent(kind="style", name="Early", trigger="bluprnt"))
    choices.first_settings(made)
    step = guidance.steps(made)[2]
    assert (step.state, step.done_words, step.missing_words) == ("not yet", "", "pictures come first")
    import_pictures(made, [worlds.pictures(tmp_path / "in")])
    assert guidance.steps(made)[2].state == "to check"


def test_answers_are_kept_while_nothing_changes(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    guidance.findings(project)
    time.sleep(0.1)  # files written just now are looked at twice
    first = guidance.findings(project)
    monkeypatch.setattr(guidance, "audit", lambda *_: pytest.fail("the audit ran again"))
    assert guidance.findings(project) is first


# --- the shelf


def test_the_sample_project_is_ready_for_the_gates(workspace: Workspace) -> None:
    made = shelf.sample_project(workspace)
    assert _states(made)[:4] == ["to check", "to check", "to check", "needs you"]
    again = shelf.sample_project(workspace)
    assert again.slug != made.slug


def test_a_sample_that_is_not_there_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "shipped", lambda *_: Path("nowhere"))
    with pytest.raises(Exception, match="sample pictures are not here"):
        shelf.sample_project(workspace)
    assert workspace.project_slugs() == []


def test_delete_and_put_back(workspace: Workspace, project: Project) -> None:
    before = sorted(p.relative_to(project.folder) for p in project.folder.rglob("*"))
    place = shelf.delete_project(project)
    assert workspace.project_slugs() == []
    assert [(d.name, d.place) for d in shelf.deleted_projects(workspace)] == [("Blueprint", place)]
    back = shelf.put_back(workspace, place)
    assert sorted(p.relative_to(back.folder) for p in back.folder.rglob("*")) == before
    assert shelf.deleted_projects(workspace) == []
    with pytest.raises(NotFoundError):
        shelf.delete_project(Project(workspace, "never-there"))


def test_a_name_taken_meanwhile_is_refused(workspace: Workspace, project: Project) -> None:
    place = shelf.delete_project(project)
    create_project(workspace, Intent(kind="style", name="Blueprint", trigger="bluprnt"))
    with pytest.raises(InputError, match="cannot be put back"):
        shelf.put_back(workspace, place)
    assert place.is_dir()


def test_a_project_at_work_is_not_deleted(project: Project) -> None:
    command = ["python", "-c", "import sys; sys.stdin.read()"]
    job = launch(
        project.jobs_dir / "job-1",
        JobSpec(kind="scan", title="Looking", command=command, project=project.slug),
    )
    try:
        assert [w.page for w in working(project.workspace)] == ["dataset"]
        with pytest.raises(BusyError):
            shelf.delete_project(project)
    finally:
        job.stop(now=True)
        job.wait(30)
    shelf.delete_project(project)


# --- the interview


def _machine(ram: int) -> Machine:
    here = detect()
    return Machine(here.system, here.cpu, here.cores, ram, (), here.python, here.packages)


def test_what_fits_and_is_here_comes_first(workspace: Workspace) -> None:
    offers = interview.offers(workspace, "style", _machine(8_000_000_000))
    assert offers[0].entry.id == "pocket" and offers[0].ready
    assert not offers[-1].fits and "Too large" in offers[-1].why
    assert all(not o.ready for o in offers[1:] if o.entry.format != "cloud")
    assert all(
        o.entry.embedded or not o.ready for o in offers[: [o.entry.format for o in offers].index("cloud")]
    )


def test_a_word_that_the_model_knows_is_no_good_trigger(workspace: Workspace) -> None:
    assert shipped("data", "pocket", "tokenizer").is_dir()
    assert interview.check_trigger("bluprnt", workspace, "pocket") == []
    assert [f.code for f in interview.check_trigger("house", workspace, "pocket")] == ["trigger-common"]
    assert interview.check_trigger("bluprnt", workspace, "no-such-model") == []
    word = interview.suggest_trigger("House", workspace, "pocket")
    assert interview.check_trigger(word, workspace, "pocket") == []


def test_another_trigger_word_goes_into_every_caption(project: Project) -> None:
    result = interview.change_trigger(project, "planxq")
    assert len(result.changed) == 8
    assert project.intent.trigger == "planxq"
    assert all(c.text.startswith("planxq, ") for c in CaptionStore(project).all().values())
    with pytest.raises(InputError):
        interview.change_trigger(project, "house")
    assert project.intent.trigger == "planxq"
