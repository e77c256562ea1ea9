from __future__ import annotations

import json
from pathlib import Path

import pytest

from studio.dataset.buckets import bucket_for, bucket_sizes, group
from studio.settings import TrainingSettings

GOLDEN = json.loads(Path(__file__).with_name("sd_scripts_buckets.json").read_text())


def test_every_placement_is_that_of_sd_scripts() -> None:
    wrong = []
    for resolution, step, no_upscale, width, height, *expected in GOLDEN["rows"]:
        placed = bucket_for(width, height, resolution, step, bool(no_upscale))
        if [*placed.bucket, *placed.resized] != expected:
            wrong.append((resolution, step, no_upscale, width, height, expected, placed))
    assert len(GOLDEN["rows"]) > 1500
    assert not wrong


def test_the_sizes_at_512_are_the_usual_ones() -> None:
    sizes = bucket_sizes(512, 64)
    assert (512, 512) in sizes and (256, 1024) in sizes and (768, 320) in sizes
    assert all(256 <= side <= 1024 and side % 64 == 0 for size in sizes for side in size)
    assert all(w * h <= 512 * 512 for w, h in sizes)


@pytest.mark.parametrize("no_upscale", [True, False])
@pytest.mark.parametrize(
    "size", [(1, 1), (10, 4000), (7000, 20), (63, 63), (64, 64), (511, 513), (9000, 9000)]
)
def test_the_resized_picture_covers_its_bucket(size: tuple[int, int], no_upscale: bool) -> None:
    placed = bucket_for(*size, 512, 64, no_upscale)
    assert placed.resized[0] >= placed.bucket[0] > 0 and placed.resized[1] >= placed.bucket[1] > 0
    assert placed.bucket[0] % 64 == 0 and placed.bucket[1] % 64 == 0
    assert placed.bucket[0] * placed.bucket[1] <= 512 * 512
    assert 0 < placed.kept <= 1


def test_without_buckets_all_are_squares() -> None:
    placed = bucket_for(1920, 1080, 512, 64, buckets=False)
    assert placed.bucket == (512, 512) and placed.resized == (910, 512)
    left, top, right, bottom = placed.crop_in(1920, 1080)
    assert (round(left), round(top), round(right), round(bottom)) == (420, 0, 1500, 1080)


def test_a_step_above_the_resolution_still_works() -> None:
    assert bucket_for(128, 128, 64, 64, True).bucket == (64, 64)
    assert bucket_for(300, 200, 64, 128, True).bucket[0] <= 128


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        bucket_for(0, 10, 512, 64)


def test_groups_are_sorted_and_complete() -> None:
    settings = TrainingSettings(resolution=64, bucket_step=8)
    groups = group([("a", 100, 100), ("b", 200, 100), ("c", 64, 64)], settings)
    assert [(b.width, b.height, b.names) for b in groups] == [(64, 64, ("a", "c")), (80, 40, ("b",))]
