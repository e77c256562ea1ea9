"""The dataset page: pictures in, findings mended where they stand, everything undoable."""

from __future__ import annotations

import io
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from studio import gates
from studio.captions.store import CaptionStore
from studio.dataset.folder import look
from studio.dataset.intake import import_pictures
from studio.dataset.scan import scan
from studio.dataset.set_aside import discard, remove_pictures, set_aside_list
from studio.jobs.job import list_jobs
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace, shipped
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


@pytest.fixture
def flawed(workspace: Workspace) -> Project:
    made = create_project(
        workspace, Intent(kind="style", name="Flawed", trigger="bluprnt", base_model="pocket")
    )
    import_pictures(made, [shipped("data", "sample_flawed")])
    return made


@pytest.fixture
def empty(workspace: Workspace) -> Project:
    return create_project(
        workspace, Intent(kind="character", name="Mira", trigger="miraxq", base_model="pocket")
    )


def _names(project: Project) -> list[str]:
    return list(look(project.dataset_dir).pictures)


def _numbers(at: AppTest) -> dict[str, str]:
    return {m.label: m.value for m in at.metric}


def _view(at: AppTest, name: str) -> AppTest:
    at.session_state["dataset_view"] = name
    return sound(at.run())


def test_an_empty_dataset_asks_for_pictures(empty: Project) -> None:
    at = open_page("dataset", empty.slug)
    assert at.subheader[0].value == "Add 15 to 40 pictures"
    assert "What happens next" in texts(at)
    assert len(at.file_uploader) == 2, "files, and a whole folder"


def test_only_a_project_that_trains_here_promises_that_nothing_leaves(
    workspace: Workspace, empty: Project
) -> None:
    assert "nothing leaves this computer" in texts(open_page("dataset", empty.slug))
    rented = create_project(
        workspace, Intent(kind="style", name="Rented", trigger="miraxq", base_model="flux")
    )
    told = texts(open_page("dataset", rented.slug))
    assert "nothing leaves" not in told
    assert "Your pictures are uploaded to Replicate." in told


def test_dropped_files_are_on_disk_at_once_and_bad_ones_are_named(empty: Project, tmp_path: Path) -> None:
    source = worlds.pictures(tmp_path / "in")
    at = open_page("dataset", empty.slug)
    for path in (source / "01_car.png", source / "01_car.txt", source / "02_bus.png"):
        at.file_uploader[0].upload(path.name, path.read_bytes())
    at.file_uploader[0].upload("letter.docx", b"PK\x03\x04 not a picture")
    sound(at.run())
    assert _names(empty) == ["01_car.png", "02_bus.png"]
    assert CaptionStore(empty).get("01_car.png").text.endswith("car")
    assert "2 pictures added, 1 with a caption, 1 not taken in" in texts(at)
    assert "letter.docx" in texts(at)


def test_a_drop_of_which_nothing_came_in_is_no_success(empty: Project) -> None:
    at = open_page("dataset", empty.slug)
    at.file_uploader[0].upload("settings.toml", b"rank = 4")
    sound(at.run())
    said = next(m.value for m in at.markdown if "0 pictures added" in m.value)
    assert said == ":orange[:material/warning:] 0 pictures added, 1 not taken in."
    assert "settings.toml" in texts(at)


def test_a_folder_comes_in_as_a_job(empty: Project, tmp_path: Path) -> None:
    source = worlds.pictures(tmp_path / "in")
    at = open_page("dataset", empty.slug)
    at.text_input(key="folder_path").input(str(source))
    sound(at.button(key="folder_go").click().run())
    (job,) = list_jobs(empty.jobs_dir)
    assert job.spec.kind == "import"
    job.wait(60)
    sound(at.run())
    assert "8 pictures added" in texts(at)
    assert _numbers(at)["Pictures"] == "8"
    assert len(list(source.iterdir())) == 16, "the originals are only read"


@pytest.mark.parametrize(
    ("typed", "told"), [("", "No folder and no address was given"), ("/no/such/place", "There is nothing at")]
)
def test_a_wrong_folder_is_told(empty: Project, typed: str, told: str) -> None:
    at = open_page("dataset", empty.slug)
    at.text_input(key="folder_path").input(typed)
    sound(at.button(key="folder_go").click().run())
    assert told in texts(at) and "What to do" in texts(at)
    assert list_jobs(empty.jobs_dir) == []


def test_findings_are_mended_where_they_stand(flawed: Project) -> None:
    at = open_page("dataset", flawed.slug)
    assert _numbers(at)["To mend"] == "4"
    assert at.button(key="go_captions").disabled and "must be mended first" in texts(at)
    mending = [b.label for b in at.button if str(b.key).endswith("_act")]
    assert mending and all(re.fullmatch(r".+ \(\d+\)", label) for label in mending), mending
    (aside,) = [b for b in at.button if b.label == "Set aside (1)" and str(b.key).endswith("_act")]
    sound(aside.click().run())
    assert [s.name for s in set_aside_list(flawed)] == ["12_penguin_broken.png"]
    sound(next(b for b in at.button if b.label.startswith("Keep the best")).click().run())
    assert len(set_aside_list(flawed)) == 2
    assert not at.button(key="go_captions").disabled
    (first,) = [b for b in at.button if b.label == "Put the trigger word first (1)"]
    sound(first.click().run())
    assert CaptionStore(flawed).get("05_sailboat.png").text == "bluprnt, sailboat"
    sound(at.button(key="flash_undo").click().run())
    assert CaptionStore(flawed).get("05_sailboat.png").text == "sailboat"


def test_set_aside_is_undone_with_one_click(project: Project) -> None:
    before = _names(project)
    at = open_page("dataset", project.slug)
    at.checkbox(key="pick_01_car.png").check()
    at.checkbox(key="pick_02_bus.png").check()
    sound(at.run())
    assert "2 chosen" in texts(at)
    sound(at.button(key="pick_aside").click().run())
    assert _names(project) == before[2:]
    assert "2 pictures set aside" in texts(at)
    sound(at.button(key="flash_undo").click().run())
    assert _names(project) == before
    assert CaptionStore(project).get("01_car.png").text == "bluprnt, car"


def test_what_was_set_aside_is_there_on_a_later_visit(project: Project) -> None:
    remove_pictures(project, ["03_cat.png"], "by hand")
    at = _view(open_page("dataset", project.slug), "Set aside")
    sound(at.button(key="back_03_cat.png").click().run())
    assert "03_cat.png" in _names(project)


def test_the_better_copy_is_suggested_and_the_other_can_be_kept(project: Project) -> None:
    shutil.copy(project.dataset_dir / "01_car.png", project.dataset_dir / "zz_copy.png")
    at = open_page("dataset", project.slug)
    assert _numbers(at)["Duplicates"] == "1"
    show = next(b for b in at.button if str(b.key).endswith("_show") and "duplicate-exact" in str(b.key))
    sound(show.click().run())
    assert "suggested" in texts(at), "the finding leads to the copies side by side"
    sound(at.button(key="keep_zz_copy.png").click().run())
    assert "zz_copy.png" in _names(project) and "01_car.png" not in _names(project)
    assert CaptionStore(project).get("zz_copy.png").text == "bluprnt, car", "the caption comes along"


def test_filters_find_pictures(project: Project) -> None:
    at = open_page("dataset", project.slug)
    sound(at.text_input(key="find").input("fox").run())
    shown = [b.label for b in at.button if str(b.key).startswith("see_")]
    assert len(shown) == 1 and "fox" in shown[0]
    sound(at.text_input(key="find").input("nothing like it").run())
    assert "No picture fits." in texts(at)


def test_buckets_follow_the_base_model_before_a_preset_is_chosen(
    workspace: Workspace, tmp_path: Path
) -> None:
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"), preset=False)
    at = _view(open_page("dataset", made.slug), "Buckets")
    assert "64 × 64" in texts(at), "the built-in model's size, not the general default"
    assert int(_numbers(at)["Buckets"]) >= 1


def test_gate_one_is_run_from_the_report(flawed: Project) -> None:
    at = _view(open_page("dataset", flawed.slug), "Report")
    assert "NO-GO" in texts(at) and "not checked yet" in texts(at)
    sound(at.button(key="gate_1").click().run())
    said = gates.verdict(flawed, "dataset")
    assert said is not None and not said.passed
    assert "Gate 1 says NO-GO" in texts(at)


def test_many_new_pictures_are_looked_at_by_a_job(
    empty: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in worlds.pictures(tmp_path / "in").iterdir():
        shutil.copy(path, empty.dataset_dir)
    monkeypatch.setattr("studio.guidance.unseen", lambda _p: 500)
    at = open_page("dataset", empty.slug)
    (job,) = list_jobs(empty.jobs_dir)
    assert job.spec.kind == "scan"
    assert "You can leave this page" in texts(at)
    job.stop()
    job.wait(30)


def test_the_step_bar_knows_what_the_page_just_found(project: Project) -> None:
    at = open_page("dataset", project.slug)
    bar = [x.label for x in at.main.get("page_link") if "1 Dataset" in x.label]
    assert "to check" in bar[0], (
        "pictures that came in from elsewhere were looked at before the bar was drawn"
    )


def test_names_of_files_are_shown_as_they_are(empty: Project, tmp_path: Path) -> None:
    source = worlds.pictures(tmp_path / "in")
    shutil.copy(source / "01_car.png", empty.dataset_dir / "a*b_[c](d) $x$.png")
    at = open_page("dataset", empty.slug)
    (label,) = [x for x in labels(at) if "a\\*b" in x]
    assert "\\[c\\](d)" in label
    assert "There is only 1 picture" in texts(at)


def test_pictures_are_changed_where_the_finding_stands_and_changed_back(project: Project) -> None:
    film = Image.new("RGB", (120, 140))
    film.paste(
        Image.open(io.BytesIO((project.dataset_dir / "01_car.png").read_bytes())).resize((120, 90)), (0, 25)
    )
    film.save(project.dataset_dir / "film.png")
    (project.dataset_dir / "film.txt").write_text("bluprnt, film")
    before = (project.dataset_dir / "film.png").read_bytes()
    at = open_page("dataset", project.slug)
    (trim,) = [b for b in at.button if b.label == "Trim the bars (1)"]
    sound(trim.click().run())
    assert scan(project).get("film.png").height == 90  # type: ignore[union-attr]
    assert "1 picture changed; the imported copies are kept" in texts(at)
    at = _view(at, "Set aside")
    assert "bars trimmed" in texts(at)
    sound(at.button(key="copy_film.png").click().run())
    assert (project.dataset_dir / "film.png").read_bytes() == before


def test_a_finding_leads_to_its_pictures(flawed: Project) -> None:
    at = open_page("dataset", flawed.slug)
    show = next(b for b in at.button if str(b.key).endswith("_show") and "picture-damaged" in str(b.key))
    sound(show.click().run())
    assert [b.key for b in at.button if str(b.key).startswith("see_")] == ["see_12_penguin_broken.png"]


def test_what_was_not_checked_is_said(project: Project) -> None:
    at = open_page("dataset", project.slug)
    assert "Writing and watermarks were not looked for" in texts(at)


def test_set_aside_is_deleted_only_after_a_question(project: Project) -> None:
    remove_pictures(project, ["03_cat.png"])
    at = _view(open_page("dataset", project.slug), "Set aside")
    sound(at.button(key="discard").click().run())
    assert len(set_aside_list(project)) == 1, "asked first"
    freed = discard(project)
    assert freed[0] == ["03_cat.png"] and freed[1] > 0 and not any(project.set_aside_dir.glob("*.png"))
    assert not any(project.set_aside_dir.glob("*.txt"))


@pytest.mark.parametrize("typed", ["", "  ", "/no/such/place", "http://example.com/a.zip", "https://127.0.0.1/a.zip",
                                   "ftp://x/y.zip", "https://", "nul\0byte", "https://user:pw@example.com/a.zip", "x" * 5000])  # fmt: skip
def test_wrong_places_are_told_calmly(empty: Project, typed: str) -> None:
    at = open_page("dataset", empty.slug)
    at.text_input(key="folder_path").input(typed)
    sound(at.button(key="folder_go").click().run())
    assert len(at.error) == 1 and list_jobs(empty.jobs_dir) == []
