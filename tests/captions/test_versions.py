"""The history of one caption: every version with who and when, and each can be had back."""

from __future__ import annotations

import subprocess
import sys

import pytest

from studio.captions import journal as journalling
from studio.captions.store import CaptionStore
from studio.errors import BusyError, NotFoundError
from studio.project import Project
from tests.dataset.pictures import scene


@pytest.fixture
def told(project: Project) -> Project:
    for name in ("a", "b"):
        scene(1, (8, 8)).save(project.dataset_dir / f"{name}.png")
    (project.dataset_dir / "a.txt").write_text("mirastyle, came along")
    store = CaptionStore(project)
    store.set("a.png", "a boat")
    store.approve(["a.png"])
    store.set("b.png", "not this one")
    (project.dataset_dir / "a.txt").write_text("mirastyle, by another program")
    store.set("a.png", "a ship")
    store.undo()
    store.write_machine({"a.png": "sea"}, "wd", {"general": 0.35}, "append")
    return project


def short(project: Project, name: str = "a.png") -> list[tuple[str, str]]:
    return [(v.text.removeprefix("mirastyle, "), v.by) for v in CaptionStore(project).versions(name)]


def test_every_version_with_who_and_when(told: Project) -> None:
    assert short(told) == [
        ("came along", "came with the picture"),
        ("a boat", "written by you"),
        ("by another program", "changed by another program"),
        ("a ship", "written by you"),
        ("by another program", "changed by another program"),
        ("by another program, sea", "written by wd and you"),
    ]
    found = CaptionStore(told).versions("a.png")
    assert [v.number for v in found] == [1, 2, 3, 4, 5, 6]
    assert [v.current for v in found] == [False] * 5 + [True]
    assert found[1].what == "caption of a.png" and found[4].what == "taken back: caption of a.png"
    assert all(v.at.endswith("+00:00") for v in found if v.what)
    assert found[5].settings == {"general": 0.35}
    assert short(told, "b.png") == [("not this one", "written by you")]


def test_what_another_program_wrote_last_is_the_last_version(told: Project) -> None:
    (told.dataset_dir / "b.txt").write_text("mirastyle, changed")
    assert short(told, "b.png")[-1] == ("changed", "changed by another program")


def test_each_version_can_be_had_back_and_that_can_be_undone(told: Project) -> None:
    store = CaptionStore(told)
    for version in store.versions("a.png"):
        before = store.get("a.png").text
        result = store.restore("a.png", version.number)
        assert store.get("a.png").text == version.text
        if result.changed and before != version.text:
            store.undo()
            assert store.get("a.png").text == before
    store.set("b.png", "")
    store.restore("b.png", 1)
    assert store.get("b.png").text == "mirastyle, not this one"
    store.restore("b.png", 2)
    assert not store.get("b.png").exists


def test_a_restored_version_is_approved_and_keeps_its_author(told: Project) -> None:
    store = CaptionStore(told)
    store.write_machine({"b.png": "tag"}, "wd", {"t": 1}, "append")
    store.set("a.png", "")
    store.write_machine({"a.png": "by machine"}, "wd", {"t": 1})
    store.set("a.png", "by a person")
    wanted = next(v for v in store.versions("a.png") if v.text.endswith("by machine"))
    store.restore("a.png", wanted.number)
    back = store.get("a.png")
    assert (back.author, back.engine, back.settings, back.status) == ("wd", "wd", {"t": 1}, "approved")
    assert store.write_machine({"a.png": "again"}, "other", {}, "replace").kept == ("a.png",)


def test_an_old_version_gets_the_trigger_of_today(told: Project) -> None:
    told.save_intent(told.intent.model_copy(update={"trigger": "newstyle"}))
    store = CaptionStore(told)
    store.retrigger("mirastyle", "newstyle")
    store.restore("a.png", 2)
    assert store.get("a.png").text == "newstyle, a boat" or store.get("a.png").text == "newstyle, a boat"
    assert store.get("a.png").text.startswith("newstyle")


def test_unknown_versions_and_pictures(told: Project) -> None:
    store = CaptionStore(told)
    for number in (0, -1, 99):
        with pytest.raises(NotFoundError, match="no version") as e:
            store.restore("a.png", number)
        assert "1 to 6" in e.value.why
    with pytest.raises(NotFoundError):
        store.versions("nobody.png")
    with pytest.raises(NotFoundError):
        store.restore("../a.png", 1)
    with pytest.raises(BusyError):
        store.restore("a.png", 1, expected="something else")


def test_versions_are_the_same_in_another_process_and_after_shortening(
    told: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys; from pathlib import Path; from studio.workspace import Workspace; from studio.project import open_project;"
        "from studio.captions.store import CaptionStore; s = CaptionStore(open_project(Workspace(Path(sys.argv[1])), 'mira'));"
        "print([(v.text, v.by) for v in s.versions('a.png')])"
    )
    told_elsewhere = subprocess.run(
        [sys.executable, "-c", code, str(told.workspace.root)], check=True, capture_output=True, text=True
    ).stdout
    here = [(v.text, v.by) for v in CaptionStore(told).versions("a.png")]
    assert told_elsewhere.strip() == repr(here)
    monkeypatch.setattr(journalling, "LIMIT_BYTES", 1)
    store = CaptionStore(told)
    store.set("a.png", "after shortening")
    found = store.versions("a.png")
    assert found[-1].text.endswith("after shortening") and found[-2].text.endswith("by another program, sea")
    assert found[-2].settings == {"general": 0.35}
