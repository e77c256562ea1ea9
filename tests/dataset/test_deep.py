"""The deep look with the real network, which comes inside a package: a job that finds what the layout misses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from studio.dataset import deep
from studio.dataset.duplicates import find_duplicates
from studio.dataset.scan import scan
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
