"""Captioning again: an engine never replaces a person's words, and the counts before the click are what happens."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from studio.captions.recaption import MODES, Mode, plan_recaption
from studio.captions.store import CaptionStore
from studio.errors import InputError
from studio.project import Project
from tests.dataset.pictures import scene

OLD, NEW = {"general": 0.35}, {"general": 0.5}


@pytest.fixture
def mixed(project: Project) -> Project:
    """One caption of each origin."""
    picture = scene(1, (8, 8))
    for name in (
        "empty",
        "import",
        "person",
        "machine",
        "corrected",
        "approved",
        "outside",
        "bare",
        "mechanical",
    ):
        picture.save(project.dataset_dir / f"{name}.png")
    (project.dataset_dir / "import.txt").write_text("mirastyle, came along")
    (project.dataset_dir / "bare.txt").write_text("mirastyle")
    store = CaptionStore(project)
    store.set("person.png", "a red boat.")
    engine = {
        f"{n}.png": "boat, red_sail" for n in ("machine", "corrected", "approved", "outside", "mechanical")
    }
    assert len(store.write_machine(engine, "old-tagger", OLD).changed) == 5
    store.correct({"corrected.png": "mirastyle, boat, blue_sail"})
    store.correct({"mechanical.png": "mirastyle, boat, red sail"}, mechanical=["mechanical.png"])
    store.approve(["approved.png"])
    (project.dataset_dir / "outside.txt").write_text("mirastyle, by another program")
    return project


def stems(names: tuple[str, ...]) -> set[str]:
    return {n.removesuffix(".png") for n in names}


HAND = {"import", "person", "corrected", "outside"}


@pytest.mark.parametrize(
    ("mode", "also", "write", "kept", "there"),
    [
        ("only-empty", (), {"empty", "bare"}, HAND, {"machine", "approved", "mechanical"}),
        ("replace", (), {"empty", "bare", "machine", "mechanical"}, HAND | {"approved"}, set()),
        ("replace", ("imported", "approved"), {"empty", "bare", "machine", "mechanical", "approved", "import"}, HAND - {"import"}, set()),
        ("append", (), {"empty", "bare", "machine", "mechanical", "approved"} | HAND, set(), set()),
    ],
)  # fmt: skip
def test_what_is_promised_is_what_happens(mixed: Project, mode: Mode, also: tuple, write: set, kept: set, there: set) -> None:  # fmt: skip
    store = CaptionStore(mixed)
    before = store.all()
    plan = plan_recaption(store, before, mode, "new-tagger", NEW, also)
    assert (stems(plan.write), stems(plan.kept), stems(plan.there)) == (write, kept, there)
    assert plan.counts == {"write": len(write), "kept": len(kept), "there": len(there)}
    assert str(len(write)) in plan.words
    done = store.write_machine(dict.fromkeys(before, "hill, Boat"), "new-tagger", NEW, mode, also=also)
    assert (done.changed, done.kept, done.there) == (plan.write, plan.kept, plan.there)
    now = store.all()
    for name in plan.kept + plan.there:
        assert now[name].text == before[name].text and now[name].author == before[name].author
    store.undo()
    assert {n: (c.text, c.author, c.status) for n, c in store.all().items()} == {
        n: (c.text, c.author, c.status) for n, c in before.items()
    }


def test_engine_and_settings_are_remembered_with_each_caption(mixed: Project) -> None:
    machine = CaptionStore(mixed).get("machine.png")
    assert (machine.author, machine.engine, machine.settings, machine.status) == (
        "old-tagger",
        "old-tagger",
        OLD,
        "needs review",
    )
    corrected = CaptionStore(mixed).get("corrected.png")
    assert (corrected.author, corrected.engine, corrected.by) == (
        "person",
        "old-tagger",
        "written by old-tagger and you",
    )
    assert corrected.settings == OLD and not corrected.by_machine
    assert CaptionStore(mixed).get("outside.png").by == "changed by another program"
    assert CaptionStore(mixed).get("empty.png").by == ""
    history = (mixed.folder / "captions" / "history.jsonl").read_text()
    assert history.count('"general"') == 1, "settings are written once, not with each caption"


def test_append_keeps_every_word_and_says_nothing_twice(mixed: Project) -> None:
    store = CaptionStore(mixed)
    names = ("person.png", "machine.png", "outside.png", "empty.png")
    store.write_machine(dict.fromkeys(names, "red sail, hill"), "new-tagger", NEW, "append")
    got = store.all()
    assert got["person.png"].text == "mirastyle, a red boat. red sail, hill"
    assert got["machine.png"].text == "mirastyle, boat, red_sail, hill"
    assert got["outside.png"].text == "mirastyle, by another program, red sail, hill"
    assert got["empty.png"].text == "mirastyle, red sail, hill"
    assert (got["person.png"].author, got["person.png"].status) == ("person", "needs review")
    again = store.write_machine(dict.fromkeys(names, "red sail, hill"), "new-tagger", NEW, "append")
    assert again.changed == () and set(again.there) == set(names)
    replaced = store.write_machine(dict.fromkeys(names, "other"), "third", {}, "replace")
    assert set(replaced.changed) == {"machine.png", "empty.png"}, "appended words do not give a person's away"


def test_a_job_that_goes_on_writes_each_caption_once(mixed: Project) -> None:
    store = CaptionStore(mixed)
    names = list(store.all())
    store.write_machine({"empty.png": "hill"}, "new-tagger", NEW, "replace")
    plan = plan_recaption(store, names, "replace", "new-tagger", NEW)
    assert stems(plan.there) == {"empty"}
    assert "empty.png" in plan_recaption(store, names, "replace", "new-tagger", OLD).write


def test_the_batches_of_one_job_are_undone_and_redone_as_one(mixed: Project) -> None:
    store = CaptionStore(mixed)
    before = {n: c.text for n, c in store.all().items()}
    for name in ("empty.png", "bare.png", "machine.png"):
        store.write_machine({name: "hill"}, "new-tagger", NEW, "replace", group="job-1")
    after = {n: c.text for n, c in store.all().items()}
    assert store.undo().changed == ("machine.png", "bare.png", "empty.png")
    assert {n: c.text for n, c in store.all().items()} == before
    assert len(store.redo().changed) == 3
    assert {n: c.text for n, c in store.all().items()} == after
    store.set("empty.png", "a person's")
    assert store.undo().changed == ("empty.png",)


def test_a_picture_that_is_gone_stops_no_batch(mixed: Project) -> None:
    (mixed.dataset_dir / "bare.png").unlink()
    done = CaptionStore(mixed).write_machine(
        {"bare.png": "x", "empty.png": "y", "../x.png": "z"}, "e", {}, "replace"
    )
    assert done.changed == ("empty.png",) and [f.code for f in done.skipped] == ["picture-gone"] * 2


@pytest.mark.parametrize("mode", MODES)
def test_an_engine_with_nothing_to_say_changes_nothing(mixed: Project, mode: Mode) -> None:
    store = CaptionStore(mixed)
    before = {n: c.text for n, c in store.all().items()}
    done = store.write_machine(dict.fromkeys(before, " \n"), "new-tagger", NEW, mode)
    assert done.changed == ()
    assert {n: c.text for n, c in store.all().items()} == before


@dataclass(frozen=True)
class Wrong:
    mode: str = "replace"
    engine: str = "e"
    also: tuple[str, ...] = ()
    text: str = "x"


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong(mode="overwrite"), Wrong(mode=""), Wrong(mode="Replace"), Wrong(engine="person"), Wrong(engine="import"),
        Wrong(engine=""), Wrong(engine=" "), Wrong(engine="x" * 200), Wrong(engine="two\nlines"), Wrong(also=("person",)),
        Wrong(text="x" * 30_000),
    ],
)  # fmt: skip
def test_wrong_input_changes_nothing(mixed: Project, wrong: Wrong) -> None:
    store = CaptionStore(mixed)
    before = store.all()
    with pytest.raises(InputError) as e:
        store.write_machine({"empty.png": wrong.text}, wrong.engine, {}, wrong.mode, also=wrong.also)  # type: ignore[arg-type]
    assert e.value.why and e.value.fix
    if wrong.text == "x":
        with pytest.raises(InputError):
            plan_recaption(store, before, wrong.mode, wrong.engine, {}, wrong.also)  # type: ignore[arg-type]
    assert store.all() == before


def test_writing_as_an_engine_past_the_rule_is_refused(mixed: Project) -> None:
    with pytest.raises(InputError, match="cannot write over"):
        CaptionStore(mixed).set_many({"person.png": "x"}, "wd-tagger")
    assert CaptionStore(mixed).get("person.png").text == "mirastyle, a red boat."


def test_a_caption_read_and_left_as_it_is_stays_the_engines(mixed: Project) -> None:
    store = CaptionStore(mixed)
    store.set("machine.png", "mirastyle, boat, red_sail")
    machine = store.get("machine.png")
    assert (machine.author, machine.status) == ("old-tagger", "approved")
