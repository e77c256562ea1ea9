"""Reviews are on the disk at once, and two windows lose nothing."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studio.errors import InputError
from studio.evaluation.review import Review
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
