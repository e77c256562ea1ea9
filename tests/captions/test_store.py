from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from studio import files
from studio.captions import journal as journalling
from studio.captions import writing
from studio.captions.store import CaptionStore
from studio.dataset.folder import captions_lock
from studio.errors import BusyError, EnvironmentalError, InputError, NotFoundError
from studio.project import Project
from tests.dataset.pictures import scene


@pytest.fixture
def filled(project: Project) -> Project:
    picture = scene(1, (8, 8))
    for i in range(6):
        picture.save(project.dataset_dir / f"p{i}.png")
        (project.dataset_dir / f"p{i}.txt").write_text(f"mirastyle, thing{i}")
    return project


def on_disk(project: Project) -> dict[str, str]:
    return {p.stem: p.read_text(encoding="utf-8") for p in sorted(project.dataset_dir.glob("*.txt"))}


def texts(project: Project) -> dict[str, str]:
    return {n: c.text for n, c in CaptionStore(project).all().items()}


# ---------------------------------------------------------------- reading and writing


def test_captions_that_came_with_the_pictures(filled: Project) -> None:
    caption = CaptionStore(filled).get("p1.png")
    assert (caption.text, caption.author, caption.status, caption.outside) == (
        "mirastyle, thing1",
        "import",
        "needs review",
        False,
    )
    assert caption.updated.endswith("+00:00")


def test_a_person_writes_and_the_trigger_comes_first(filled: Project) -> None:
    store = CaptionStore(filled)
    result = store.set("p1.png", "  a boat\r\n")
    assert result.changed == ("p1.png",)
    assert on_disk(filled)["p1"] == "mirastyle, a boat"
    caption = store.get("p1.png")
    assert (caption.author, caption.status) == ("person", "approved")
    assert store.all()["p1.png"] == caption == CaptionStore(filled).get("p1.png")


def test_an_engine_writes_and_a_person_approves(filled: Project) -> None:
    store = CaptionStore(filled)
    made = {"p1.png": "a boat", "p2.png": "a hill"}
    store.write_machine(made, "wd-tagger", {}, "replace", also=["imported"])
    assert [(store.get(n).author, store.get(n).status) for n in ("p1.png", "p2.png")] == [
        ("wd-tagger", "needs review")
    ] * 2
    assert store.approve(["p1.png"]).changed == ("p1.png",)
    assert (store.get("p1.png").author, store.get("p1.png").status) == ("wd-tagger", "approved")
    assert store.approve(["p1.png"]).changed == ()
    store.set("p1.png", "mirastyle, a red boat")
    caption = store.get("p1.png")
    assert (caption.author, caption.engine, caption.by) == (
        "person",
        "wd-tagger",
        "written by wd-tagger and you",
    )


def test_an_empty_text_takes_the_caption_away_and_undo_brings_it_back(filled: Project) -> None:
    store = CaptionStore(filled)
    store.set("p1.png", "")
    assert not (filled.dataset_dir / "p1.txt").exists()
    assert (store.get("p1.png").status, store.get("p1.png").exists) == ("empty", False)
    store.undo()
    assert store.get("p1.png").text == "mirastyle, thing1"
    assert store.get("p1.png").author == "import"


def test_the_same_words_again_are_no_edit(filled: Project) -> None:
    store = CaptionStore(filled)
    store.set("p1.png", "a boat")
    store.set("p1.png", "mirastyle, a boat")
    assert len(store.history()) == 1


def test_unknown_pictures_are_refused_and_nothing_is_written(filled: Project) -> None:
    before = on_disk(filled)
    for name in ("nobody.png", "../p1.png", "", "p1.txt/../p1.png"):
        with pytest.raises(NotFoundError):
            CaptionStore(filled).set_many({"p1.png": "x", name: "y"})
    assert on_disk(filled) == before


def test_text_in_any_script_and_quotes_survive(filled: Project) -> None:
    words = '猫, кошка, قطة, 🐈, "quoted", back\\slash, naïve'
    CaptionStore(filled).set("p1.png", words)
    CaptionStore(filled).set("p2.png", "x")
    CaptionStore(filled).undo()
    assert on_disk(filled)["p1"] == f"mirastyle, {words}"
    assert CaptionStore(filled).get("p1.png").text == f"mirastyle, {words}"


def test_a_text_that_is_no_caption_is_refused_whole(filled: Project) -> None:
    with pytest.raises(InputError, match="characters"):
        CaptionStore(filled).set_many({"p1.png": "fine", "p2.png": "x" * 30_000})
    assert on_disk(filled)["p1"] == "mirastyle, thing1"


def test_several_lines_are_kept(filled: Project) -> None:
    CaptionStore(filled).set("p1.png", "one\ntwo\n\nthree")
    assert on_disk(filled)["p1"] == "mirastyle, one\ntwo\n\nthree"


def test_orphans(filled: Project) -> None:
    (filled.dataset_dir / "p3.png").unlink()
    store = CaptionStore(filled)
    assert store.orphans() == ["p3.txt"] and "p3.png" not in store.all()


# ---------------------------------------------------------------- other programs


def test_a_text_changed_by_another_program_is_noticed_and_kept(filled: Project) -> None:
    store = CaptionStore(filled)
    store.set("p1.png", "a boat")
    (filled.dataset_dir / "p1.txt").write_text("mirastyle, a ship")
    caption = store.get("p1.png")
    assert caption.outside and caption.text == "mirastyle, a ship" and caption.status == "needs review"
    undone = store.undo()
    assert undone.changed == () and undone.skipped[0].where == ("p1.png",)
    assert on_disk(filled)["p1"] == "mirastyle, a ship"
    store.approve(["p1.png"])
    assert not store.get("p1.png").outside


def test_a_raw_file_without_the_trigger_waits_for_add_trigger(filled: Project) -> None:
    (filled.dataset_dir / "p1.txt").write_text("a boat")
    store = CaptionStore(filled)
    assert store.get("p1.png").text == "a boat"
    assert store.add_trigger(["p0.png", "p1.png"]).changed == ("p1.png",)
    caption = store.get("p1.png")
    assert (caption.text, caption.author, caption.status) == ("mirastyle, a boat", "import", "needs review")
    store.undo()
    assert on_disk(filled)["p1"] == "a boat"


# ---------------------------------------------------------------- undo and redo


def test_undo_and_redo_in_a_row(filled: Project) -> None:
    store = CaptionStore(filled)
    states = [on_disk(filled)]
    for i in range(4):
        store.set_many({f"p{i}.png": f"step {i}", "p5.png": f"step {i}"}, what=f"step {i}")
        states.append(on_disk(filled))
    assert store.can_undo == "step 3" and store.can_redo == ""
    for state in reversed(states[:-1]):
        CaptionStore(filled).undo()
        assert on_disk(filled) == state
    assert CaptionStore(filled).undo().what == "nothing to undo" and store.can_undo == ""
    for state in states[1:]:
        CaptionStore(filled).redo()
        assert on_disk(filled) == state
    assert store.redo().changed == ()


def test_a_new_edit_forgets_what_was_undone(filled: Project) -> None:
    store = CaptionStore(filled)
    store.set("p1.png", "one")
    store.undo()
    store.set("p1.png", "two")
    assert store.can_redo == ""
    store.undo()
    assert on_disk(filled)["p1"] == "mirastyle, thing1"


def test_undo_across_processes(filled: Project) -> None:
    CaptionStore(filled).set("p1.png", "a boat")
    code = (
        "import sys; from pathlib import Path; from studio.workspace import Workspace; from studio.project import open_project;"
        "from studio.captions.store import CaptionStore; s = CaptionStore(open_project(Workspace(Path(sys.argv[1])), 'mira'));"
        "assert s.can_undo; s.undo(); s.set('p2.png', 'from elsewhere')"
    )
    subprocess.run([sys.executable, "-c", code, str(filled.workspace.root)], check=True)
    store = CaptionStore(filled)
    assert (store.get("p1.png").text, store.get("p2.png").text) == (
        "mirastyle, thing1",
        "mirastyle, from elsewhere",
    )
    assert store.get("p2.png").author == "person"
    assert [e.steps[0].name for e in store.history("p2.png")] == ["p2.png"]


def test_undo_leaves_out_pictures_that_are_gone(filled: Project) -> None:
    store = CaptionStore(filled)
    store.set_many({"p1.png": "a", "p2.png": "b"})
    (filled.dataset_dir / "p1.png").unlink()
    result = store.undo()
    assert result.changed == ("p2.png",) and result.skipped[0].code == "picture-gone"
    assert on_disk(filled)["p2"] == "mirastyle, thing2"


def test_retrigger_and_back(filled: Project) -> None:
    store = CaptionStore(filled)
    (filled.dataset_dir / "p4.txt").write_text("no trigger at all")
    store.set("p5.png", "")
    before = on_disk(filled)
    filled.save_intent(filled.intent.model_copy(update={"trigger": "newstyle"}))
    assert len(store.retrigger("mirastyle", "newstyle").changed) == 5
    assert on_disk(filled) == {
        **{f"p{i}": f"newstyle, thing{i}" for i in range(4)},
        "p4": "newstyle, no trigger at all",
    }
    assert store.get("p0.png").author == "import"
    store.undo()
    assert on_disk(filled) == before and store.trigger == "mirastyle", (
        "the word and the captions go back together"
    )
    store.redo()
    assert on_disk(filled)["p0"] == "newstyle, thing0" and store.trigger == "newstyle"
    filled.save_intent(filled.intent.model_copy(update={"trigger": "third"}))
    store.undo()
    assert store.trigger == "third", "a word chosen since then stays"


# ---------------------------------------------------------------- several writers


def test_a_faster_tab_is_not_overwritten(filled: Project) -> None:
    one, two = CaptionStore(filled), CaptionStore(filled)
    seen = one.get("p1.png").text
    two.set("p1.png", "from the other tab", expected=seen)
    with pytest.raises(BusyError, match="changed meanwhile"):
        one.set("p1.png", "too late", expected=seen)
    assert on_disk(filled)["p1"] == "mirastyle, from the other tab"
    result = one.set_many(
        {"p1.png": "x", "p2.png": "y"}, expected={"p1.png": seen, "p2.png": "mirastyle, thing2"}
    )
    assert result.changed == ("p2.png",) and [f.where for f in result.skipped] == [("p1.png",)]


def test_many_writers_lose_nothing(filled: Project) -> None:
    code = (
        "import sys; from pathlib import Path; from studio.workspace import Workspace; from studio.project import open_project;"
        "from studio.captions.store import CaptionStore; p = open_project(Workspace(Path(sys.argv[1])), 'mira')\n"
        "for i in range(8): CaptionStore(p).set(f'p{sys.argv[2]}.png', f'by {sys.argv[2]} number {i}')"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", code, str(filled.workspace.root), str(k)]) for k in range(3)
    ]
    threads = [
        threading.Thread(
            target=lambda k=k: [CaptionStore(filled).set(f"p{k}.png", f"by {k} number {i}") for i in range(8)]
        )
        for k in (3, 4)
    ]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert all(c.wait(60) == 0 for c in children)
    assert on_disk(filled) == {
        **{f"p{k}": f"mirastyle, by {k} number 7" for k in range(5)},
        "p5": "mirastyle, thing5",
    }
    store = CaptionStore(filled)
    assert len(store.history()) == 40
    while store.undo().changed:
        pass
    assert on_disk(filled) == {f"p{k}": f"mirastyle, thing{k}" for k in range(6)}


def test_a_writer_that_holds_the_lock_too_long(filled: Project) -> None:
    def other() -> None:
        with captions_lock(filled):
            held.set()
            go.wait(10)

    held, go = threading.Event(), threading.Event()
    thread = threading.Thread(target=other)
    thread.start()
    held.wait(10)
    try:
        with pytest.raises(BusyError), captions_lock(filled, 0.05):
            pass
        assert CaptionStore(filled).all()["p1.png"].text == "mirastyle, thing1"  # reading goes on
    finally:
        go.set()
        thread.join()


# ---------------------------------------------------------------- failures


def test_a_full_disk_in_the_middle_puts_everything_back(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = files.write_text, []

    def full(path: Path, text: str) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise EnvironmentalError("p2.txt could not be written.", "No space left.", "Free some room.")
        real(path, text)

    before = on_disk(filled)
    monkeypatch.setattr(files, "write_text", full)
    with pytest.raises(EnvironmentalError):
        CaptionStore(filled).set_many({f"p{i}.png": "x" for i in range(5)})
    assert on_disk(filled) == before
    store = CaptionStore(filled)
    assert store.can_undo == ""
    store.set("p1.png", "after")
    assert on_disk(filled)["p1"] == "mirastyle, after"


def test_a_line_cut_short_by_a_crash_costs_nothing(filled: Project) -> None:
    store = CaptionStore(filled)
    store.set("p1.png", "one")
    path = filled.folder / "captions" / "history.jsonl"
    with path.open("ab") as f:
        f.write(b'{"op": "edit", "id": "half')
    store.set("p2.png", "two")
    path.write_text(path.read_text() + "not json\n[1]\n" + json.dumps({"op": "edit"}) + "\n")
    assert len(CaptionStore(filled).history()) == 2
    store.undo()
    store.undo()
    assert on_disk(filled)["p1"] == "mirastyle, thing1" and on_disk(filled)["p2"] == "mirastyle, thing2"


def test_a_deleted_history_loses_no_caption(filled: Project) -> None:
    CaptionStore(filled).set("p1.png", "one")
    (filled.folder / "captions" / "history.jsonl").unlink()
    store = CaptionStore(filled)
    assert store.can_undo == "" and store.get("p1.png").text == "mirastyle, one"
    store.set("p1.png", "two")
    assert store.undo().changed == ("p1.png",)


def test_the_history_is_shortened_and_keeps_the_newest(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journalling, "LIMIT_BYTES", 20_000)
    store = CaptionStore(filled)
    store.set("p5.png", "long ago")
    for i in range(60):
        store.set("p1.png", f"version {i} " + "x" * 200)
    path = filled.folder / "captions" / "history.jsonl"
    assert path.stat().st_size < 25_000
    assert 5 < len(store.history()) < 60
    storing_again = CaptionStore(filled)
    storing_again.undo()
    assert on_disk(filled)["p1"].startswith("mirastyle, version 58")
    assert storing_again.get("p5.png").author == "person"
    assert not storing_again.get("p1.png").outside


def test_large_batches_flush_once(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_SYNC_EACH", 2)
    CaptionStore(filled).set_many({f"p{i}.png": "many" for i in range(6)})
    assert set(on_disk(filled).values()) == {"mirastyle, many"}
    CaptionStore(filled).undo()
    assert on_disk(filled)["p3"] == "mirastyle, thing3"
