"""What a second scan costs and keeps: only what changed is made anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.captions.store import CaptionStore
from studio.dataset import clusters
from studio.dataset.balance import balance
from studio.dataset.buckets import bucket_preview
from studio.dataset.curation import curated, recommend
from studio.dataset.duplicates import find_duplicates
from studio.dataset.intake import import_pictures
from studio.dataset.scan import remove_pictures, scan
from studio.project import Project
from tests.dataset.pictures import folder_of


@pytest.fixture
def filled(project: Project, tmp_path: Path) -> Project:
    import_pictures(project, [folder_of(tmp_path / "s", 8, size=(320, 240))])
    scan(project)
    return project


def test_what_was_worked_out_is_kept_while_nothing_changes(filled: Project) -> None:
    first, second = scan(filled), scan(filled)
    assert first.facts is second.facts and first.shown is second.shown
    assert all(a is b for a, b in zip(first, second, strict=True))


def test_another_caption_makes_one_picture_anew_and_keeps_what_is_shown(filled: Project) -> None:
    before = scan(filled)
    buckets, groups = bucket_preview(before, filled.settings), find_duplicates(before)
    CaptionStore(filled).set("p03.png", "other words")
    after = scan(filled)
    assert [p.name for p, q in zip(after, before, strict=True) if p is not q] == ["p03.png"]
    assert "other words" in after.pictures[3].caption
    assert after.facts is not before.facts and after.shown is before.shown
    assert bucket_preview(after, filled.settings) == buckets and find_duplicates(after) == groups
    assert after.get("p03.png") is after.pictures[3] and after.captioned == before.captioned


def test_a_caption_that_goes_is_seen(filled: Project) -> None:
    before = scan(filled)
    (filled.dataset_dir / "p03.txt").unlink()
    after = scan(filled)
    assert after.captioned != before.captioned and after.pictures[3].caption == ""


def test_another_picture_makes_all_answers_anew(filled: Project) -> None:
    before = scan(filled)
    (filled.dataset_dir / "p03.png").unlink()
    after = scan(filled)
    assert (
        after.shown is not before.shown and after.facts is not before.facts and len(after) == len(before) - 1
    )
    assert sum(len(b.names) for b in bucket_preview(after, filled.settings)) == len(after)


def test_an_answer_is_asked_again_when_what_it_was_given_changes(filled: Project) -> None:
    seen, asked = scan(filled), []
    for given in (1, 1, 2):
        seen.facts.once("n", lambda given=given: asked.append(given), given)  # type: ignore[misc]
    assert asked == [1, 2]


def test_the_list_of_pictures_is_the_callers_own(filled: Project) -> None:
    scan(filled).pictures.clear()
    assert len(scan(filled)) == 8


def test_the_recommendation_is_worked_out_once_for_each_size(filled: Project) -> None:
    seen = scan(filled)
    first = recommend(filled, seen, 4)
    assert recommend(filled, scan(filled), 4) is first and recommend(filled, seen, 3) is not first
    assert balance(filled, seen) is balance(filled, scan(filled))
    remove_pictures(filled, ["p03.png"])
    assert "p03.png" not in {c.name for c in recommend(filled, scan(filled), 4).choices}


def test_long_lists_of_alike_pictures_are_made_again_with_the_same_answer(
    filled: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    features = curated(filled, scan(filled))
    known = clusters.clusters(features, 0.2)
    monkeypatch.setattr(clusters, "_LONG", 0)
    clusters._answers.clear()
    assert clusters.clusters(features, 0.2) == known
