"""Reviews are on the disk at once, and two windows lose nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studio.errors import InputError
from studio.evaluation.review import Change, Review
from studio.evaluation.spec import Cell, GridPrompt


def test_ratings_tags_and_notes(tmp_path: Path) -> None:
    review = Review(tmp_path / "grid" / "review.json")
    assert review.all() == {} and review.get("a").empty
    review.rate("a", 4)
    review.tag("a", "blurry")
    review.note("a", "  soft   edges\n")
    found = Review(tmp_path / "grid" / "review.json").get("a")
    assert (found.rating, found.tags, found.note) == (4, ("blurry",), "soft edges")
    assert found.at
    review.tag("a", "blurry", on=False)
    review.rate("a", None)
    review.note("a", "")
    assert review.all() == {}
    review.set_verdict_note("good enough")
    review.rate("b", 1)
    assert Review(tmp_path / "grid" / "review.json").verdict_note == "good enough"


def test_wrong_ratings_and_tags(tmp_path: Path) -> None:
    review = Review(tmp_path / "review.json")
    for bad in (0, 6, 2.5):
        with pytest.raises(InputError, match="not a rating"):
            review.rate("a", bad)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not a fault tag"):
        review.tag("a", "ugly")
    assert not (tmp_path / "review.json").exists()


def test_two_windows_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "review.json"

    def one_window(name: str) -> None:
        for i in range(10):
            Review(path).rate(f"{name}-{i}", 3)
            Review(path).tag(f"{name}-{i}", "copies")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(one_window, "abc"))
    found = Review(path).all()
    assert len(found) == 30
    assert all(r.rating == 3 and r.tags == ("copies",) for r in found.values())


def test_a_change_that_is_told_twice_is_stored_once(tmp_path: Path) -> None:
    path = tmp_path / "review.json"
    said = [Change(1, "a", "rating", 4), Change(2, "a", "blurry", True), Change(3, "b", "note", "soft")]
    assert Review(path).apply("one", said[:2]) == 2
    Review(path).rate("a", 1)  # another window
    assert Review(path).apply("one", said) == 3, "as a page does that was not answered"
    found = Review(path).all()
    assert (found["a"].rating, found["a"].tags, found["b"].note) == (1, ("blurry",), "soft")
    assert (Review(path).stored("one"), Review(path).stored("two")) == (3, 0)


def test_what_is_wrong_among_changes_costs_none_of_the_others(tmp_path: Path) -> None:
    review = Review(tmp_path / "review.json")
    with pytest.raises(InputError, match="'ugly' is not a fault tag"):
        review.apply("w", [Change(1, "a", "ugly", True), Change(2, "a", "rating", 3)])
    assert review.get("a").rating == 3 and review.stored("w") == 2


def test_windows_that_spoke_long_ago_are_forgotten(tmp_path: Path) -> None:
    review = Review(tmp_path / "review.json")
    for n in range(50):
        review.apply(f"w{n}", [Change(1, "a", "rating", 1 + n % 5)])
    assert review.stored("w49") == 1 and review.stored("w0") == 0


def test_ratings_by_weight(tmp_path: Path) -> None:
    review = Review(tmp_path / "review.json")
    prompt = GridPrompt(id="p", text="p")
    cells = [Cell(f"h{i}", w, prompt, 1, "final") for i, w in enumerate((0.0, 0.5, 0.5, 1.0))]
    review.rate("h1", 4)
    review.rate("h2", 2)
    review.rate("h3", 5)
    assert review.ratings_by_weight(cells) == {("final", 0.5): [4, 2], ("final", 1.0): [5]}


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "review.json").write_text("{half")
    with pytest.raises(InputError, match=r"review\.json cannot be read"):
        Review(tmp_path / "review.json").all()
