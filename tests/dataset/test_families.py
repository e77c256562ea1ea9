"""Large families of copies: found around one picture each, told about, stopped, and still right when that one goes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio.dataset import duplicates, near, stars
from studio.dataset.apart import Apart
from studio.dataset.duplicates import ask_again, compare, find_duplicates, keep_all, waiting
from studio.dataset.index import Index
from studio.dataset.scan import Scan, remove_pictures, scan
from studio.dataset.stars import Sky
from studio.dataset.watch import full_look, one_look
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace
from tests.dataset.pictures import scene


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """Sixty frames of one scene, five of another, and nine pictures that are alone."""
    monkeypatch.setattr(stars, "FROM", 50)
    project = create_project(Workspace(tmp_path), Intent(kind="style", name="Film", trigger="filmxq"))
    project.dataset_dir.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    for number, frames in ((1, 60), (2, 5), *((n, 1) for n in range(3, 12))):
        still = np.asarray(scene(number, (96, 72)).convert("RGB")).astype(np.int16)
        for frame in range(frames):
            noise = rng.integers(-3, 4, (72, 96, 1))
            picture = Image.fromarray(np.clip(still + noise, 0, 255).astype(np.uint8))
            picture.save(project.dataset_dir / f"s{number:02}_{frame:02}.png", compress_level=1)
    return project


def groups(seen: Scan) -> list[set[str]]:
    return sorted((set(g.names) for g in find_duplicates(seen)), key=len)


def film(seen: Scan, number: int = 1) -> set[str]:
    return {p.name for p in seen if p.name.startswith(f"s{number:02}_")}


def test_a_family_is_one_group_and_is_not_compared_pair_by_pair(family: Project) -> None:
    seen = scan(family)
    assert groups(seen) == [film(seen, 2), film(seen)]
    known = Index(seen.cache).pairs()
    assert len(known.resting) == 59 and len(set(known.resting.values())) == 1
    assert len(known.found) == 59 + 10  # a star, and the small family pair by pair


def test_the_answer_is_that_of_comparing_all(family: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = scan(family)
    as_stars = [(g.kind, g.names, g.suggested_keep) for g in find_duplicates(seen)]
    Index(seen.cache).forget_compared(p.sha256 for p in seen)
    monkeypatch.setattr(stars, "FROM", 10**9)
    assert [(g.kind, g.names, g.suggested_keep) for g in find_duplicates(seen)] == as_stars
    assert not Index(seen.cache).pairs().resting


def test_when_the_one_in_the_middle_goes_the_others_are_compared(family: Project) -> None:
    seen = scan(family)
    middle = next(g for g in find_duplicates(seen) if len(g.names) == 60).suggested_keep
    remove_pictures(family, [middle])
    after = scan(family)
    assert groups(after) == [film(after, 2), film(after)] and len(film(after)) == 59


def test_a_new_frame_joins_the_family(family: Project) -> None:
    find_duplicates(scan(family))
    new = np.asarray(Image.open(family.dataset_dir / "s01_07.png")).astype(np.int16) + 2
    Image.fromarray(np.clip(new, 0, 255).astype(np.uint8)).save(family.dataset_dir / "s01_99.png")
    seen = scan(family)
    assert len(film(seen)) == 61 and groups(seen)[-1] == film(seen)


def test_a_family_that_is_none_is_remembered_in_little_room(family: Project) -> None:
    group = next(g for g in find_duplicates(scan(family)) if len(g.names) == 60)
    keep_all(family, group)
    assert len(groups(scan(family))) == 1
    assert [len(s) for s in Apart(family.folder).sets] == [60]
    assert ask_again(family, group.names[:3]) == 3  # of three, each with each
    assert groups(scan(family)) == [set(group.names[:3]), film(scan(family), 2)]
    assert ask_again(family) == 57 * 56 // 2 + 3 * 57
    assert groups(scan(family))[-1] == film(scan(family))


def test_it_tells_how_far_it_is_and_can_be_stopped(family: Project) -> None:
    seen = scan(family)
    told: list[tuple[int, int]] = []
    assert not compare(seen, lambda done, total, _: told.append((done, total)), lambda: len(told) > 1)
    assert Index(seen.cache).pairs().compared == set()
    told.clear()
    assert compare(seen, lambda done, total, _: told.append((done, total)))
    assert told == sorted(told) and all(0 <= done <= total == 74 for done, total in told)


def test_a_page_does_not_wait_for_many_and_a_gate_does(
    family: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "AT_ONCE", 20)
    seen = scan(family)
    with one_look():
        assert find_duplicates(seen) == [] and waiting(seen) == 74
        with full_look():
            assert len(find_duplicates(seen)) == 2
        assert waiting(seen) == 0 and len(find_duplicates(seen)) == 2


def test_many_pairs_among_few_pictures_are_multiplied_with_the_same_result() -> None:
    rng = np.random.default_rng(1)
    grey = rng.integers(0, 255, (40, 64, 64), dtype=np.uint8)
    grey[1] = np.clip(grey[0].astype(int) + 3, 0, 255)
    copies = near.Copies([g.tobytes() for g in grey], [bytes([128] * 128)] * 40)
    i, j = (a.astype(np.int64) for a in np.triu_indices(40, 1))
    together = copies.likeness(i, j, False)
    single = [copies.likeness(i[n : n + 1], j[n : n + 1], False)[0] for n in range(0, len(i), 37)]
    assert np.allclose(together[::37], single, atol=1e-4) and together[0] > near.LIKENESS
    flipped = near.Copies([grey[0].tobytes(), grey[0][:, ::-1].tobytes()], [bytes([128] * 128)] * 2)
    assert flipped.likeness(np.array([0]), np.array([1]), True)[0] > 0.999


def test_a_family_in_a_large_set_takes_no_square(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four thousand copies: eight million pairs, of which four thousand are looked at."""
    rng = np.random.default_rng(2)
    count = 4000
    still = rng.integers(0, 2, 256).astype(np.uint8)
    bits = np.packbits(still[None] ^ (rng.random((count, 256)) < 0.01), axis=1).view(">u8").astype(np.uint64)
    grey = rng.integers(0, 255, (64, 64), dtype=np.uint8).tobytes()
    copies = near.Copies([grey] * count, [bytes([128] * 128)] * count)
    asked = []
    real = copies.likeness
    monkeypatch.setattr(copies, "likeness", lambda i, j, m: (asked.append(len(i)), real(i, j, m))[1])
    sky = Sky(bits, rng.integers(0, 2**63, (count, 4), dtype=np.uint64), copies)
    found = sky.stars()
    assert sum(len(s.others) for s in found) > 0.99 * count and sum(asked) < 3 * count
