"""What a page asks for at every rerun is worked out once for the same pictures: counted in calls, not in seconds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.captions.store import CaptionStore
from studio.dataset import buckets, gate, map, origins, report, subsets
from studio.dataset.buckets import place
from studio.dataset.curation import curated
from studio.dataset.intake import import_pictures
from studio.dataset.map import picture_map
from studio.dataset.origins import roles
from studio.dataset.report import dataset_report
from studio.dataset.scan import remove_pictures, scan
from studio.dataset.subsets import (
    bucket_steps,
    mark_regularisation,
    most_cropped,
    set_repeats,
    shown_subsets,
    teaching_count,
)
from studio.models import BaseModelEntry
from studio.project import Project
from tests.dataset.pictures import folder_of, scene, write


@pytest.fixture
def filled(project: Project, tmp_path: Path) -> Project:
    """Eight wide pictures and two tall ones."""
    source = folder_of(tmp_path / "s", 8, size=(320, 240))
    for n in range(2):
        write(source / f"tall{n}.png", scene(20 + n, (200, 420)))
    import_pictures(project, [source])
    scan(project)
    return project


def counted(monkeypatch: pytest.MonkeyPatch, module: Any, name: str, calls: Counter[str]) -> None:
    real: Callable[..., Any] = getattr(module, name)

    def told(*args: Any, **more: Any) -> Any:
        calls[name] += 1
        return real(*args, **more)

    monkeypatch.setattr(module, name, told)


def test_pictures_are_placed_once_for_each_setting(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    counted(monkeypatch, buckets, "place", calls)
    counted(monkeypatch, subsets, "place", calls)
    wide = filled.settings
    others = [
        wide.model_copy(update={"resolution": r, "repeats": n}) for n, r in enumerate((128, 192, 256), 2)
    ]
    for settings in (wide, *others):  # the presets of the config page, in turn
        bucket_steps(filled, scan(filled), settings)
    assert calls["place"] == 4 * 10
    for _ in range(3):
        for settings in (wide, *others):
            bucket_steps(filled, scan(filled), settings)
    assert calls["place"] == 4 * 10
    for _ in range(3):
        most_cropped(filled, scan(filled), wide)
    assert calls["place"] == 5 * 10
    CaptionStore(filled).set("p03.png", "other words")
    bucket_steps(filled, scan(filled), wide)
    most_cropped(filled, scan(filled), wide)
    assert calls["place"] == 5 * 10
    remove_pictures(filled, ["p03.png"])
    assert sum(b.shown for b in bucket_steps(filled, scan(filled), wide)) == 9 * wide.repeats
    assert calls["place"] == 5 * 10 + 9


def test_repeats_and_regularisation_count_at_once(filled: Project) -> None:
    settings, seen = filled.settings, scan(filled)
    before = sum(b.shown for b in bucket_steps(filled, seen, settings))
    assert before == 10 * settings.repeats and teaching_count(filled) == 10
    set_repeats(filled, ["p00.png"], 3)
    assert sum(b.shown for b in bucket_steps(filled, scan(filled), settings)) == 12 * settings.repeats
    assert teaching_count(filled) == 12 and roles(filled) is roles(filled)
    mark_regularisation(filled, ["p01.png"])
    assert teaching_count(filled) == 11 and roles(filled).regularisation == {"p01.png"}
    batch = settings.model_copy(update={"batch_size": 2})
    assert sum(b.batches for b in bucket_steps(filled, scan(filled), batch)) >= 6
    remove_pictures(filled, ["p00.png"])
    assert teaching_count(filled) == 8 and not roles(filled).repeats


def test_the_most_cropped_come_first_and_only_those_that_are_shown(filled: Project) -> None:
    settings, seen = filled.settings.model_copy(update={"resolution": 128, "bucket_step": 64}), scan(filled)
    every = most_cropped(filled, seen, settings)
    kept = {p.name: place(p.width, p.height, settings).kept for p in seen}
    assert dict(every.pictures) == kept and [k for _, k in every.pictures] == sorted(kept.values())
    assert every.below(2) == 10 and every.below(0) == 0
    one = bucket_steps(filled, seen, settings)[0]
    assert {n for n, _ in most_cropped(filled, seen, settings, (one.width, one.height)).pictures} == set(
        one.names
    )
    assert most_cropped(filled, seen, settings, (8, 8)).pictures == ()


def test_what_pictures_are_for_is_read_once(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    counted(monkeypatch, origins, "Roles", calls)
    for _ in range(5):
        teaching_count(filled)
        origins.picture_repeats(filled)
        origins.regularisation_pictures(filled)
    assert calls["Roles"] <= 1
    origins.picture_repeats(filled)["p00.png"] = 7  # what is handed out is the caller's own
    origins.regularisation_pictures(filled).add("p00.png")
    assert not origins.picture_repeats(filled) and not origins.regularisation_pictures(filled)


def test_the_report_counts_words_and_sizes_once(
    filled: Project, entry: BaseModelEntry, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: Counter[str] = Counter()
    counted(monkeypatch, report, "tag_counts", calls)
    counted(monkeypatch, gate, "_sizes", calls)
    counted(monkeypatch, gate, "_written", calls)
    first = dataset_report(filled)
    for _ in range(3):
        assert dataset_report(filled).splitlines()[3:] == first.splitlines()[3:]
    assert calls == {"tag_counts": 1, "_sizes": 1, "_written": 1}
    CaptionStore(filled).set("p03.png", "mirastyle, a red door")
    assert "a red door" in dataset_report(filled)
    assert calls == {"tag_counts": 2, "_sizes": 1, "_written": 2}
    CaptionStore(filled).approve(["p03.png"])
    assert "approved: 1" in dataset_report(filled)


def test_the_map_and_the_subsets_are_made_once(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Counter[str] = Counter()
    counted(monkeypatch, map, "_picture_map", calls)
    counted(monkeypatch, subsets, "subsets_of", calls)
    for _ in range(3):
        features = curated(filled, scan(filled))
        assert len(picture_map(features, features.names, 4)) == 10
        assert len(shown_subsets(filled, scan(filled), filled.settings)[1]) == 10
    assert calls == {"_picture_map": 1, "subsets_of": 1}
    assert len(picture_map(features, features.names[:3], 4)) == 3 and calls["_picture_map"] == 2
    set_repeats(filled, ["p00.png"], 3)
    groups, shown = shown_subsets(filled, scan(filled), filled.settings)
    assert len(groups) == 2 and shown["p00.png"] == 3 * filled.settings.repeats
