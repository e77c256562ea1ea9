"""Clusters, the recommended subset, and the balance of content and style."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.dataset import deep
from studio.dataset.balance import balance
from studio.dataset.clusters import clusters, effective_number
from studio.dataset.curation import apply, curated, recommend, suggested_repeats
from studio.dataset.features import Features, mean_likeness, unit
from studio.dataset.intake import import_pictures
from studio.dataset.scan import restore_pictures, scan, set_aside_list
from studio.dataset.subsets import mark_regularisation
from studio.errors import InputError
from studio.project import Project
from studio.workspace import shipped
from tests.dataset.pictures import scene, write


def features(rows: np.ndarray) -> Features:
    rows = unit(rows.astype(np.float32))
    return Features("content", tuple(f"{i:04}.png" for i in range(len(rows))), rows, rows)


def groups_of(count: int, each: int, spread: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = rng.normal(0, 1, (count, 64))
    return np.concatenate([c + rng.normal(0, spread, (each, 64)) for c in centres])


def test_clusters_are_what_was_put_in() -> None:
    found = clusters(features(groups_of(6, 5, 0.1)))
    assert [len(c.names) for c in found] == [5] * 6
    assert all(len({int(n[:4]) // 5 for n in c.names}) == 1 and c.likeness > 0.9 for c in found)
    assert sorted(n for c in found for n in c.names) == [f"{i:04}.png" for i in range(30)]


def test_a_chain_of_small_changes_is_no_cluster() -> None:
    angles = np.linspace(0, np.pi / 2, 30)
    found = clusters(features(np.stack([np.cos(angles), np.sin(angles)], axis=1)))
    rows = {f"{i:04}.png": (np.cos(a), np.sin(a)) for i, a in enumerate(angles)}
    for c in found:
        assert all(np.dot(rows[c.names[0]], rows[n]) >= 0.8 - 1e-6 for n in c.names)
    assert len(found) >= 2


def test_thousands_of_pictures_are_clustered_in_seconds() -> None:
    import time

    began = time.process_time()
    found = clusters(features(groups_of(100, 40, 0.2)))
    assert len(found) == 100 and time.process_time() - began < 5


def test_the_effective_number_counts_different_pictures() -> None:
    same = unit(np.ones((20, 8), np.float32))
    assert effective_number(same) == pytest.approx(1, abs=1e-3)
    assert effective_number(np.eye(12, dtype=np.float32)) == pytest.approx(12)
    four = np.repeat(np.eye(4, dtype=np.float32), 5, axis=0)
    assert effective_number(four) == pytest.approx(4)
    assert effective_number(np.zeros((0, 3), np.float32)) == 0
    tall = unit(np.random.default_rng(0).normal(0, 1, (50, 9)).astype(np.float32))
    gram = np.linalg.eigvalsh(tall @ tall.T / 50)
    gram = gram[gram > 1e-9]
    assert effective_number(tall) == pytest.approx(float(np.exp(-(gram * np.log(gram)).sum())), rel=1e-3)


def test_mean_likeness_is_that_of_all_pairs() -> None:
    rows = unit(np.random.default_rng(1).normal(0, 1, (9, 5)).astype(np.float32))
    pairs = (rows @ rows.T)[np.triu_indices(9, 1)]
    assert mean_likeness(rows) == pytest.approx(float(pairs.mean()), abs=1e-6)


@pytest.fixture
def alike(project: Project) -> Project:
    """Twenty different pictures; the first with five more of nearly the same, one of them sharper and larger."""
    for i in range(20):
        write(project.dataset_dir / f"p{i:02}.png", scene(i), f"mirastyle, thing{i}")
    for i in range(4):
        other = Image.blend(scene(0), scene(50 + i), 0.25)
        write(project.dataset_dir / f"same{i}.png", other, "mirastyle, thing0")
    write(
        project.dataset_dir / "best.png",
        Image.blend(scene(0, (640, 480)), scene(60, (640, 480)), 0.1),
        "mirastyle, thing0",
    )
    return project


def test_the_subset_keeps_one_of_each_and_says_why(alike: Project) -> None:
    seen = scan(alike)
    found = recommend(alike, seen)
    assert found.basis == "layout" and len(found.kept) == 20
    assert {f"p{i:02}.png" for i in range(1, 20)} < set(found.kept)
    assert (
        len({"p00.png", "best.png", "same0.png", "same1.png", "same2.png", "same3.png"} & set(found.kept))
        == 1
    )
    assert 0.95 < found.coverage <= 1
    why = {c.name: c for c in found.choices}
    kept_one = next(n for n in found.kept if not n.startswith("p") or n == "p00.png")
    assert why[kept_one].why == "stands for 5 pictures that look like it"
    gone = why[found.left_out[0]]
    assert gone.like == kept_one and gone.likeness > 0.8 and kept_one in gone.why
    assert {why[n].why for n in found.kept if n != kept_one} <= {
        "shows something that no other picture shows", "adds variety",
    }  # fmt: skip


def test_applying_sets_aside_and_can_be_undone(alike: Project) -> None:
    found = recommend(alike, scan(alike))
    spared = found.left_out[0]
    gone = apply(alike, found, keep={spared})
    assert len(gone) == 4 and spared not in gone
    assert {s.reason for s in set_aside_list(alike)} == {"not in the recommended subset"}
    assert len(scan(alike)) == 21
    restore_pictures(alike, gone)
    assert len(scan(alike)) == 25 and recommend(alike, scan(alike)) == found


def test_the_size_is_the_users(alike: Project) -> None:
    seen = scan(alike)
    assert len(recommend(alike, seen, 3).kept) == 3
    assert recommend(alike, seen, 25).left_out == []
    assert recommend(alike, seen, 25).coverage == pytest.approx(1)
    steps = [recommend(alike, seen, n).coverage for n in (1, 5, 10, 20)]
    assert steps == sorted(steps)
    for size in (0, -3, 26):
        with pytest.raises(InputError, match="cannot be chosen"):
            recommend(alike, seen, size)


def test_regularisation_pictures_are_left_alone(alike: Project) -> None:
    mark_regularisation(alike, ["same0.png", "same1.png"])
    found = recommend(alike, scan(alike))
    assert not {"same0.png", "same1.png"} & {c.name for c in found.choices}


def test_an_empty_set_is_said(project: Project) -> None:
    with pytest.raises(InputError, match="no pictures"):
        recommend(project, scan(project))
    assert balance(project, scan(project)).measures[0].level == "unknown"


def test_thousands_are_chosen_from_in_seconds(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """The greedy choice on candidates only: as many as asked for, none twice, and nearly all of them represented."""
    from studio.dataset.curation import _greedy

    some = features(groups_of(150, 20, 0.15))
    chosen, closest, likeness = _greedy(some, 150, np.zeros(len(some)))
    assert len(set(chosen)) == 150 and {c // 20 for c in chosen} == set(range(150))
    assert set(closest.tolist()) <= set(chosen) and float(likeness.min()) > 0.8


def test_repeats_follow_from_the_count() -> None:
    assert [suggested_repeats(n) for n in (0, 1, 5, 12, 20, 90, 500)] == [1, 20, 20, 8, 5, 1, 1]


def test_the_sample_is_one_style_with_many_contents(project: Project) -> None:
    """The studio's own sample: twenty things drawn in one manner. Features of the deep look are put in by hand, from
    the real network, in `test_deep`; here those of a set of one manner and of a set of several."""
    import_pictures(project, [shipped("data", "sample")])
    seen = scan(project)
    before = balance(project, seen)
    assert {m.title: m.level for m in before.measures} == {
        "Variety of contents": "good", "Sameness of style": "unknown", "Variety of captions": "good",
    }  # fmt: skip
    assert before.basis == "layout" and any("deep look" in m.words for m in before.measures)
    rng = np.random.default_rng(0)
    content = rng.normal(0, 1, (20, 64)) + 0.4
    for manner, level in ((0.05, "good"), (3.0, "poor")):
        style = 1 + rng.normal(0, manner, (20, 32))
        deep.put(
            seen.cache,
            [
                (p.sha256, content[i].astype(np.float32), style[i].astype(np.float32))
                for i, p in enumerate(seen)
            ],
        )
        found = balance(project, scan(project))
        assert found.basis == "content" and curated(project, seen).style is not None
        assert next(m for m in found.measures if m.title == "Sameness of style").level == level


def test_terms_that_fuse_with_the_trigger_are_named(project: Project, tmp_path: Path) -> None:
    for i in range(10):
        more = ", garden" if i < 7 else ""
        write(project.dataset_dir / f"p{i}.png", scene(i), f"mirastyle, white hat{more}, thing{i}")
    found = balance(project, scan(project))
    assert found.fused == {"white hat": 1.0} and found.common == {"garden": 0.7}
    assert any("yours to say" in t for t in found.cannot_know)


def test_a_character_in_one_pose_is_told(project: Project) -> None:
    project.save_intent(project.intent.model_copy(update={"kind": "character"}))
    for i in range(8):
        write(
            project.dataset_dir / f"p{i}.png",
            Image.blend(scene(0), scene(20 + i), 0.2),
            f"mirastyle, thing{i}",
        )
    found = {m.title: m.level for m in balance(project, scan(project)).measures}
    assert found == {
        "Sameness of the character": "unknown", "Variety of pose and place": "poor", "Variety of captions": "good",
    }  # fmt: skip
