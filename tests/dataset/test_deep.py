"""The deep look with the real network, which comes inside a package: a job that finds what the layout misses."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.dataset import deep
from studio.dataset.apart import Apart
from studio.dataset.duplicates import ask_again, best_first, find_duplicates, keep_all
from studio.dataset.scan import Scan, remove_pictures, scan
from studio.errors import BusyError, InputError
from studio.project import Project
from tests.dataset.pictures import scene, write


def photo(seed: int, size: tuple[int, int] = (480, 360)) -> Image.Image:
    """A scene with things in it, so that a network has something to see."""
    rng = np.random.default_rng(seed)
    image = scene(seed, size)
    draw = ImageDraw.Draw(image)
    for _ in range(9):
        x, y, r = rng.uniform(0, size[0]), rng.uniform(0, size[1]), rng.uniform(20, 90)
        draw.ellipse([x - r, y - r, x + r, y + r * 0.7], tuple(int(c) for c in rng.integers(0, 255, 3)))
    return image


@pytest.fixture
def crops(project: Project) -> Project:
    """Six pictures; the last one again, cut by 7 % a side, which the layout does not see."""
    for i in range(6):
        write(project.dataset_dir / f"p{i}.png", photo(i))
    write(project.dataset_dir / "cut.png", photo(5).crop((58, 0, 480, 316)))
    return project


def test_a_crop_is_found_by_the_job_and_only_by_it(crops: Project) -> None:
    seen = scan(crops)
    assert find_duplicates(seen) == [] and len(deep.missing(seen)) == 7
    job = deep.start(crops, seen)
    with pytest.raises(BusyError):
        deep.start(crops, seen)
    job.wait(timeout=120)
    assert job.state == "finished", job.error
    assert job.result == {"looked_at": 7, "pairs": 1}
    groups = find_duplicates(scan(crops))
    assert [(g.kind, set(g.names), g.deep) for g in groups] == [("near", {"p5.png", "cut.png"}, True)]
    assert groups[0].suggested_keep == "p5.png" and groups[0].likeness >= deep.ALIKE
    assert deep.missing(scan(crops)) == [] and deep.running(crops) is None
    content, style = next(iter(deep.features(crops.cache_dir).values()))
    assert (
        content.shape == (1280,)
        and len(style) > 100
        and np.linalg.norm(content) == pytest.approx(1, abs=1e-3)
    )


def test_a_damaged_store_is_made_again(project: Project) -> None:
    deep.put(project.cache_dir, [("a" * 64, np.ones(4, np.float32), np.ones(2, np.float32))])
    assert deep.known(project.cache_dir) == {"a" * 64}
    before = deep.mark(project.cache_dir)
    (project.cache_dir / "deep.sqlite").write_bytes(b"no database" * 500)
    assert deep.known(project.cache_dir) == set() and deep.pairs(project.cache_dir) == []
    deep.put_pairs(project.cache_dir, [("a" * 64, "b" * 64, 0.95)])
    assert deep.pairs(project.cache_dir) == [("a" * 64, "b" * 64, "deep", 0.95)]
    assert deep.mark(project.cache_dir) != before


def test_there_must_be_something_to_look_at(project: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no pictures"):
        deep.start(project, scan(project))


def seen_as(project: Project, vectors: dict[str, np.ndarray]) -> None:
    """What the network would have seen in pictures, by name."""
    seen, style = {p.name: p.sha256 for p in scan(project)}, np.ones(4, np.float32)
    deep.put(project.cache_dir, [(seen[n], v.astype(np.float32), style) for n, v in vectors.items()])


def compare(seen: Scan) -> None:
    """What the job does after it has looked."""
    deep.compare(seen.cache, best_first(seen), Apart(seen.folder.parent))


@pytest.fixture
def frames(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Thirty pictures in which the network sees one thing, two in which it sees another, five that are alone; they are grey, and the layout
    finds no copies."""
    monkeypatch.setattr(deep, "FAMILY", 8)
    rng, vectors = np.random.default_rng(4), {}
    for number, count in ((1, 30), (2, 2), *((n, 1) for n in range(3, 8))):
        thing = rng.normal(0, 1, 64)
        for frame in range(count):
            name = f"f{number}_{frame:02}.png"
            write(project.dataset_dir / name, scene(number * 100 + frame, (96, 64)).convert("L"))
            vectors[name] = thing + rng.normal(0, 0.05, 64)
    seen_as(project, vectors)
    compare(scan(project))
    return project


def families(project: Project) -> list[int]:
    return sorted(len(g.names) for g in find_duplicates(scan(project)))


def test_a_family_is_compared_with_its_middle_only(frames: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert families(frames) == [2, 30]
    assert len(deep.pairs(frames.cache_dir)) == 29 + 1
    assert len(set(deep.resting(frames.cache_dir).values())) == 1
    as_stars = [(g.names, g.suggested_keep) for g in find_duplicates(scan(frames))]
    monkeypatch.setattr(deep, "FAMILY", 10**9)
    compare(scan(frames))
    assert len(deep.pairs(frames.cache_dir)) == 30 * 29 // 2 + 1 and not deep.resting(frames.cache_dir)
    assert [(g.names, g.suggested_keep) for g in find_duplicates(scan(frames))] == as_stars


def test_when_the_middle_of_a_family_goes_another_takes_its_place(frames: Project) -> None:
    middle = find_duplicates(scan(frames))[0].suggested_keep
    remove_pictures(frames, [middle])
    assert families(frames) == [2, 29]
    assert middle not in {n for g in find_duplicates(scan(frames)) for n in g.names}


def test_a_family_that_is_none_is_remembered_in_little_room_and_asked_again(frames: Project) -> None:
    keep_all(frames, max(find_duplicates(scan(frames)), key=lambda g: len(g.names)))
    assert families(frames) == [2] and len(deep.pairs(frames.cache_dir)) < 60
    ask_again(frames)
    assert families(frames) == [2, 30]


def test_a_store_from_before_there_were_families_is_read(frames: Project) -> None:
    with sqlite3.connect(frames.cache_dir / "deep.sqlite") as db:
        db.execute("DROP TABLE resting")
    assert families(frames) == [2, 30] and len(deep.known(frames.cache_dir)) == 37


def test_what_is_missing_is_asked_once_while_nothing_changes(
    frames: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, real = [], deep.known
    monkeypatch.setattr(deep, "known", lambda cache: asked.append(cache) or real(cache))
    write(frames.dataset_dir / "new.png", scene(900, (96, 64)))
    scan(frames)  # looks at it
    for _ in range(3):
        assert deep.missing(scan(frames)) == ["new.png"]
    assert len(asked) == 1
    seen_as(frames, {"new.png": np.ones(64)})
    assert deep.missing(scan(frames)) == [] and len(asked) == 2
