"""A grid's review as HTML, Markdown and contact sheet."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import InputError
from studio.evaluation.grid import Grid
from studio.evaluation.html_report import export
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture
def grid(workspace: Workspace, tmp_path: Path) -> Grid:
    made = worlds.project(workspace, worlds.pictures(tmp_path / "in"), name="A <b>bold</b> name")
    return worlds.grid(made, worlds.run(made), checkpoints="final")


def test_html_holds_everything_and_nothing_runs(grid: Grid, tmp_path: Path) -> None:
    cell = next(c for c in grid.cells() if c.weight == 0.5)
    grid.review.rate(cell.hash, 4)
    grid.review.note(cell.hash, "<script>alert(1)</script>")
    grid.review.tag(cell.hash, "blurry")
    text = export(grid, tmp_path / "review.html").read_text(encoding="utf-8")
    assert text.count("<img ") == len(grid.cells())
    assert "4 of 5; blurry; &lt;script&gt;" in text and "<script" not in text
    assert "A &lt;b&gt;bold" in text
    assert "http" not in text.replace("http-equiv", ""), "nothing is fetched"
    assert grid.verdict is not None and grid.verdict.headline in text


def test_markdown_takes_nobodys_words_for_its_own(grid: Grid, tmp_path: Path) -> None:
    cell = next(c for c in grid.cells() if c.weight == 0.5)
    grid.review.note(cell.hash, "<img src=x> | [a](javascript:b)")
    grid.review.set_verdict_note("# no head <b>")
    text = export(grid, tmp_path / "review.md").read_text(encoding="utf-8")
    assert r"\<img src=x\> \| \[a\](javascript:b)" in text and r"\# no head \<b\>" in text
    assert r"# Evaluation: A \<b\>bold\</b\> name" in text


def test_the_ending_decides_and_nothing_is_overwritten(grid: Grid, tmp_path: Path) -> None:
    assert export(grid, tmp_path / "review.md").read_text(encoding="utf-8").startswith("# Evaluation")
    with pytest.raises(InputError, match="there already"):
        export(grid, tmp_path / "review.md")
    with pytest.raises(InputError, match="no contact sheet"):
        export(grid, tmp_path / "review.png")
    with pytest.raises(InputError, match="ending"):
        export(grid, tmp_path / "review.pdf")
