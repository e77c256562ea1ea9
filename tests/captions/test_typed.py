"""Words typed in a table: stored once, never over somebody else's."""

from __future__ import annotations

import pytest
from PIL import Image

from studio.captions.store import CaptionStore
from studio.captions.typed import Clash, write_all, write_typed
from studio.project import Project


@pytest.fixture
def captioned(project: Project) -> Project:
    """Two pictures with captions that came along."""
    project.dataset_dir.mkdir(parents=True, exist_ok=True)
    for name in ("a", "b"):
        Image.new("RGB", (8, 8)).save(project.dataset_dir / f"{name}.png")
        (project.dataset_dir / f"{name}.txt").write_text(f"mirastyle, {name}", encoding="utf-8")
    return project


def test_typed_words_are_stored_with_or_without_the_trigger_word(captioned: Project) -> None:
    store = CaptionStore(captioned)
    name = next(iter(store.all()))
    assert write_typed(store, name, "one", store.get(name).text) is None
    assert store.get(name).text == f"{store.trigger}, one"
    assert write_typed(store, name, "two", "one") is None
    assert write_typed(store, name, f"{store.trigger}, three", f"{store.trigger}, two") is None
    assert store.get(name).text == f"{store.trigger}, three"
    assert write_typed(store, name, "  ", "three") is None
    assert store.get(name).status == "empty"


def test_being_told_twice_writes_once(captioned: Project) -> None:
    store = CaptionStore(captioned)
    name = next(iter(store.all()))
    write_typed(store, name, "one", store.get(name).text)
    before = len(store.history())
    assert write_typed(store, name, "one", "something seen long ago") is None
    assert len(store.history()) == before


def test_words_that_changed_meanwhile_are_kept_beside_the_typed_ones(captioned: Project) -> None:
    store = CaptionStore(captioned)
    name = next(iter(store.all()))
    seen = store.get(name).text
    (captioned.dataset_dir / name).with_suffix(".txt").write_text("by another program", encoding="utf-8")
    assert write_typed(store, name, "mine", seen) == Clash(name, "mine", "by another program")
    assert store.get(name).text == "by another program"


def test_one_bad_change_does_not_stop_the_others(captioned: Project) -> None:
    store = CaptionStore(captioned)
    first, second, *_ = store.all()
    done = write_all(
        store,
        [
            ("gone.png", "caption", "words", [""]),
            ("../x.png", "approved", True, [False]),
            (first, "caption", "x" * 30_000, [store.get(first).text]),
            (second, "caption", "good", [store.get(second).text]),
            (second, "approved", False, [True]),
        ],
    )
    assert len(done.refused) == 3 and done.changed == [second, second] and not done.clashes
    assert store.get(second).text == f"{store.trigger}, good" and store.get(second).status == "needs review"


def test_doubt_keeps_the_words(captioned: Project) -> None:
    store = CaptionStore(captioned)
    name = next(iter(store.all()))
    store.set(name, "words")
    store.unapprove([name])
    assert (store.get(name).status, store.get(name).text) == ("needs review", f"{store.trigger}, words")
    store.undo()
    assert store.get(name).status == "approved"
