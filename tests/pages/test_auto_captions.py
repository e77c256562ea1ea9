"""Captions by an engine on the captions page: the three steps with a real tagger and real jobs."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from studio.captions import auto, samples
from studio.captions.auto import AutoSettings
from studio.captions.batch import BATCH, last_job
from studio.captions.store import CaptionStore
from studio.captions.tagger import TaggerSettings
from studio.dataset.intake import import_pictures
from studio.dataset.scan import scan
from studio.jobs.launch import launch
from studio.jobs.spec import JobSpec
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace
from tests.captions.auto import standin
from tests.captions.auto.conftest import painted
from tests.pages.app import labels, open_page, sound, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    made = create_project(workspace, Intent(kind="style", name="Mira", trigger="mirastyle"))
    import_pictures(made, [painted(tmp_path / "in")])
    scan(made)
    return made


def _open(project: Project) -> AppTest:
    at = open_page("captions", project.slug)
    at.session_state["auto_box"] = True
    return sound(at.run())


def test_what_is_at_work_is_open_after_a_reload(project: Project) -> None:
    assert "Captions are being written" not in texts(open_page("captions", project.slug))
    slow = [sys.executable, "-c", "import time; time.sleep(600)"]
    spec = JobSpec(kind=BATCH, title="Captions", command=slow, project=project.slug, stop_grace_s=0.1)
    job = launch(project.jobs_dir / "captions-1", spec)
    try:
        assert "Captions are being written" in texts(open_page("captions", project.slug))
    finally:
        job.stop()
        job.wait(60)


def _settled(project: Project, at: AppTest) -> AppTest:
    job = last_job(project)
    assert job is not None and job.wait(60) == "finished", job and job.error
    return sound(at.run())


def test_choose_five_samples_then_the_rest(project: Project, tmp_path: Path) -> None:
    folder = standin.write(tmp_path / "stand-in")
    at = _open(project)
    assert any(b.startswith("Download WD SwinV2") for b in labels(at)), "nothing is here yet"
    assert "Make five samples" not in labels(at)
    at.selectbox(key="auto_tagger").select("own folder").run()
    sound(at.text_input(key="auto_tagger_model").input(str(tmp_path / "nothing")).run())
    assert "There is no folder" in texts(at)
    sound(at.text_input(key="auto_tagger_model").input(str(folder)).run())
    assert auto.load(project).tagger.model == str(folder)
    assert not any(b.startswith("Write ") for b in labels(at)), "no batch before five samples"
    at = _settled(project, at.button(key="auto_samples").click().run())
    made = samples.load(project)
    assert made is not None and len(made.items) == 5
    sound(at.button(key="auto_ok_0").click().run())
    at.text_area(key=f"auto_text_{made.items[1].name}").input("a caption of mine").run()
    assert at.button(key="auto_ok_1").label == "Adjust"
    sound(at.button(key="auto_ok_1").click().run())
    sound(at.button(key="auto_skip_2").click().run())
    sound(at.button(key="auto_ok_3").click().run())
    assert not any(b.startswith("Write ") for b in labels(at))
    sound(at.button(key="auto_ok_4").click().run())
    assert any(b.startswith("Write 3 captions") for b in labels(at)), labels(at)
    assert [m.value for m in at.metric][-3:] == ["3", "1", "3"]
    at = _settled(project, at.button(key="auto_run").click().run())
    assert "3 captions written" in texts(at)
    every = CaptionStore(project).all()
    assert all(c.text.startswith("mirastyle, ") for c in every.values())
    assert every[made.items[1].name].text == "mirastyle, a caption of mine"
    assert "Nothing is left to write" in texts(at)
    sound(at.slider(key="auto_tagger_general").set_value(0.5).run())
    assert "five new samples are needed" in texts(at)


def test_every_engine_can_be_chosen_and_says_what_is_missing(project: Project) -> None:
    wanted = {
        "endpoint": "No model is named", "local": "No folder is named", "replicate": "No model is named",
        "tagger": "SmilingWolf",
    }  # fmt: skip
    for engine, words in wanted.items():
        auto.save(project, AutoSettings(engine=engine))  # type: ignore[arg-type]
        at = _open(project)
        assert words in texts(at), engine
        assert "Make five samples" not in labels(at)


def test_wrong_choices_are_told_and_not_saved(project: Project) -> None:
    auto.save(project, AutoSettings(engine="endpoint"))
    at = _open(project)
    for address, words in {
        "ftp://example.com": "ftp://",
        "http://169.254.169.254/latest": "no address of a service",
        "http://192.168.1.5:1234/v1": "private network",
        "http://user:pw@localhost:1/v1": "user name",
        "nonsense": "not the address",
        "http://localhost:1/v1?key=sk-1": "question mark",
    }.items():
        sound(at.text_input(key="auto_endpoint_address").input(address).run())
        assert words in texts(at), (address, texts(at)[-600:])
    (project.folder / "captions").mkdir(exist_ok=True)
    auto.settings_path(project).write_text("engine: magic\n")
    assert "cannot be used" in texts(_open(project))
    auto.save(project, AutoSettings(tagger=TaggerSettings(model="gone")))
    assert "no tagger called" in texts(_open(project))
