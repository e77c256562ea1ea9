"""Blind comparison: the interval, sides that stay hidden and fixed, answers that survive."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import InputError
from studio.evaluation.blind import BlindTest, chance, doubt_words, standing_words, wilson
from studio.evaluation.spec import Cell, GridPrompt


@pytest.mark.parametrize(
    ("wins", "total", "low", "high"),
    [(8, 8, 0.68, 1.0), (6, 8, 0.41, 0.93), (0, 8, 0.0, 0.32), (8, 10, 0.49, 0.94), (15, 20, 0.53, 0.89), (40, 50, 0.67, 0.89), (0, 0, 0, 1)],
)  # fmt: skip
def test_wilson(wins: int, total: int, low: float, high: float) -> None:
    assert [round(x, 2) for x in wilson(wins, total)] == [low, high]


@pytest.mark.parametrize(
    ("wins", "total"), [(6, 6), (8, 8), (9, 10), (10, 12), (13, 16), (15, 20), (21, 30), (27, 40), (33, 50)]
)
def test_wins_that_decide(wins: int, total: int) -> None:
    assert chance(wins, total) < 0.05 <= chance(wins - 1, total)


def cells(tmp_path: Path) -> list[Cell]:
    path = tmp_path / "x.png"
    return [
        Cell(f"{label}{p}", 0.7, GridPrompt(id=f"p{p}", text=f"prompt {p}"), 1, label, path)
        for label in ("early", "late")
        for p in range(20)
    ]


def test_sides_are_mixed_and_answers_count_for_the_right_column(tmp_path: Path) -> None:
    found = cells(tmp_path)
    test = BlindTest(tmp_path, ("early", 0.7), ("late", 0.7))
    swapped = [p.swapped for p in test.pairs(found)]
    assert 4 < sum(swapped) < 16
    assert [p.swapped for p in BlindTest(tmp_path, ("early", 0.7), ("late", 0.7)).pairs(found)] == swapped
    for _ in range(18):  # the person likes every early one
        pair = test.next(found)
        assert pair is not None
        test.judge(pair, "left" if pair.left.checkpoint == "early" else "right")
    again = BlindTest(tmp_path, ("early", 0.7), ("late", 0.7))
    pair = again.next(found)
    assert pair is not None
    again.judge(pair, "alike")
    standing = again.standing(found)
    assert (standing.first, standing.second, standing.alike, standing.left) == (18, 0, 1, 1)
    assert standing.decided and standing_words(standing, "early", "late").endswith("early is better.")
    assert standing_words(standing, "early", "late").startswith("early was chosen in 18 of 18 pairs")
    assert "82% to 100% of many more" in doubt_words(
        standing, "early"
    ) and "less than 1% of the time" in doubt_words(standing, "early")
    again.forget()
    assert again.standing(found).judged == 0


def test_wrong_comparisons_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two different columns"):
        BlindTest(tmp_path, ("a", 1.0), ("a", 1.0))
    test = BlindTest(tmp_path, ("early", 0.7), ("late", 0.7))
    pair = test.next(cells(tmp_path))
    assert pair is not None
    with pytest.raises(InputError, match="no answer"):
        test.judge(pair, "both")  # type: ignore[arg-type]
