from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageOps

from studio.captions.store import CaptionStore
from studio.dataset import deep, near
from studio.dataset.duplicates import ask_again, find_duplicates, keep_all, resolve, resolve_all
from studio.dataset.index import Index
from studio.dataset.intake import import_pictures
from studio.dataset.scan import Scan, scan
from studio.dataset.set_aside import restore_pictures, set_aside_list
from studio.dataset.subsets import mark_regularisation
from studio.errors import InputError
from studio.project import Project
from studio.workspace import shipped
from tests.dataset.pictures import folder_of, scene, write


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return Image.open(io.BytesIO(out.getvalue()))


@pytest.fixture
def filled(project: Project, tmp_path: Path) -> Project:
    import_pictures(project, [folder_of(tmp_path / "s", 8, size=(320, 240))])
    return project


def test_different_pictures_are_no_duplicates(filled: Project) -> None:
    assert find_duplicates(scan(filled)) == []


def test_the_same_pixels_in_another_format_are_exact(filled: Project) -> None:
    image = scene(3, (320, 240))
    write(filled.dataset_dir / "copy.webp", image, lossless=True)
    write(filled.dataset_dir / "p03 (1).png", (filled.dataset_dir / "p03.png").read_bytes())
    groups = find_duplicates(scan(filled))
    assert [(g.kind, set(g.names), g.suggested_keep) for g in groups] == [
        ("exact", {"p03.png", "copy.webp", "p03 (1).png"}, "p03.png")
    ]
    assert groups[0].why == "the one with a caption"


@pytest.mark.parametrize(
    "change",
    [
        lambda im: im.resize((160, 120)), lambda im: jpeg(im, 30), ImageOps.mirror, lambda im: ImageEnhance.Brightness(im).enhance(1.2),
        lambda im: ImageEnhance.Contrast(im).enhance(0.8), lambda im: im.convert("L"), lambda im: im.crop((3, 3, 317, 237)),
        lambda im: ImageEnhance.Color(im).enhance(0.3),
    ],
)  # fmt: skip
def test_changed_copies_are_near(filled: Project, change) -> None:  # type: ignore[no-untyped-def]
    write(filled.dataset_dir / "changed.png", change(scene(3, (320, 240))))
    groups = find_duplicates(scan(filled))
    assert [(g.kind, set(g.names)) for g in groups] == [("near", {"p03.png", "changed.png"})]
    assert 0.95 <= groups[0].likeness <= 1


def test_the_larger_one_is_suggested(filled: Project) -> None:
    write(filled.dataset_dir / "large.png", scene(3, (320, 240)).resize((640, 480)))
    group = find_duplicates(scan(filled))[0]
    assert group.suggested_keep == "large.png" == group.names[0]
    assert group.why == "largest, 640 x 480"


def test_the_shipped_sample_is_not_drowned(project: Project) -> None:
    import_pictures(project, [shipped("data", "sample")])
    seen = scan(project)
    assert len(seen) == 20
    assert find_duplicates(seen) == []


def test_small_figures_on_the_same_white_ground_are_different(project: Project) -> None:
    for i in range(40):
        ground = Image.new("RGB", (256, 256), "white")
        ground.paste(scene(100 + i, (90, 90)), (83 + i % 5, 83))
        write(project.dataset_dir / f"studio{i:02d}.png", ground)
    assert find_duplicates(scan(project)) == []


def test_every_member_is_like_the_suggested_one(filled: Project) -> None:
    """A chain of small changes must not make one group of pictures that are unlike each other."""
    image = scene(3, (320, 240))
    for i in range(1, 12):
        write(filled.dataset_dir / f"step{i:02d}.png", Image.blend(image, scene(4, (320, 240)), i / 12))
    seen = scan(filled)
    for group in find_duplicates(seen):
        best = grey(seen, group.suggested_keep)
        for name in group.names[1:]:
            assert float((best * grey(seen, name)).mean()) >= near.LIKENESS


def grey(seen: Scan, name: str) -> np.ndarray:
    picture = seen.get(name)
    assert picture is not None
    raw = Index(seen.cache).copies()[picture.sha256][0]
    return near.standard(np.frombuffer(raw, np.uint8).reshape(64, 64))


def test_one_shape_in_two_colours_is_two_pictures(project: Project) -> None:
    for name in ("firebrick", "royalblue", "seagreen"):
        ground = Image.new("RGB", (256, 256), "white")
        ImageDraw.Draw(ground).polygon([(40, 200), (128, 40), (220, 210), (150, 180)], fill=name)
        write(project.dataset_dir / f"{name}.png", ground)
        write(project.dataset_dir / f"{name}_small.jpg", ground.resize((200, 200)))
    assert sorted(sorted(g.names) for g in find_duplicates(scan(project))) == [
        ["firebrick.png", "firebrick_small.jpg"], ["royalblue.png", "royalblue_small.jpg"], ["seagreen.png", "seagreen_small.jpg"],
    ]  # fmt: skip


def test_pairs_are_compared_once(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(filled.dataset_dir / "small.png", scene(3, (320, 240)).resize((200, 150)))
    first = find_duplicates(scan(filled))
    counted: list[int] = []
    real = near.close_pairs
    monkeypatch.setattr(near, "close_pairs", lambda h, f, n, s: counted.append(n) or real(h, f, n, s))
    assert find_duplicates(scan(filled)) == first and counted == []
    write(filled.dataset_dir / "other.png", scene(5, (320, 240)).resize((200, 150)))
    assert len(find_duplicates(scan(filled))) == 2 and counted == [1]


def test_resolving_sets_the_others_aside_and_carries_the_caption(filled: Project) -> None:
    write(filled.dataset_dir / "large.png", scene(3, (320, 240)).resize((640, 480)))
    group = find_duplicates(scan(filled))[0]
    assert resolve(filled, group) == ["p03.png"]
    assert find_duplicates(scan(filled)) == []
    kept = CaptionStore(filled).get("large.png")
    assert (kept.text, kept.author) == ("mirastyle, thing3", "import")
    aside = set_aside_list(filled)
    assert [(s.name, s.reason) for s in aside] == [("p03.png", "nearly the same picture as large.png")]
    restore_pictures(filled, ["p03.png"])
    assert len(find_duplicates(scan(filled))) == 1


def test_an_engines_caption_is_handed_on_as_the_engines(filled: Project) -> None:
    write(filled.dataset_dir / "large.png", scene(3, (320, 240)).resize((640, 480)))
    store = CaptionStore(filled)
    (filled.dataset_dir / "p03.txt").unlink()
    store.write_machine({"p03.png": "a, b"}, "wd", {"t": 1})
    store.approve(["p03.png"])
    assert resolve(filled, find_duplicates(scan(filled))[0]) == ["p03.png"]
    kept = store.get("large.png")
    assert (kept.text, kept.author, kept.engine, kept.status) == ("mirastyle, a, b", "wd", "wd", "approved")
    assert store.can_undo == "caption of p03.png given to large.png"
    assert store.versions("large.png")[-1].settings == {"t": 1}


def test_the_one_that_is_taught_is_kept_before_one_for_regularisation(filled: Project) -> None:
    write(filled.dataset_dir / "large.png", scene(3, (320, 240)).resize((640, 480)))
    assert find_duplicates(scan(filled))[0].suggested_keep == "large.png"
    mark_regularisation(filled, ["large.png"])
    group = find_duplicates(scan(filled))[0]
    assert (group.suggested_keep, group.why) == (
        "p03.png",
        "the one that is taught; the other is for regularisation",
    )
    mark_regularisation(filled, ["large.png"], False)
    assert find_duplicates(scan(filled))[0].suggested_keep == "large.png"


def test_the_user_chooses_what_to_keep(filled: Project) -> None:
    write(filled.dataset_dir / "large.png", scene(3, (320, 240)).resize((640, 480)))
    group = find_duplicates(scan(filled))[0]
    with pytest.raises(InputError, match="cannot be kept"):
        resolve(filled, group, "p05.png")
    assert resolve(filled, group, ["large.png", "p03.png"]) == []
    assert resolve(filled, group, "p03.png") == ["large.png"]


def test_what_was_called_different_is_not_asked_about_again(filled: Project) -> None:
    write(filled.dataset_dir / "large.png", scene(3, (320, 240)).resize((640, 480)))
    group = find_duplicates(scan(filled))[0]
    assert keep_all(filled, group) == ["large.png", "p03.png"]
    assert find_duplicates(scan(filled)) == []
    (filled.dataset_dir / "large.png").rename(filled.dataset_dir / "renamed.png")
    assert find_duplicates(scan(filled)) == []
    write(filled.dataset_dir / "small.png", scene(3, (320, 240)).resize((160, 120)))
    assert len(find_duplicates(scan(filled))) == 1  # that one was not spoken of
    assert ask_again(filled) == 1
    assert [set(g.names) for g in find_duplicates(scan(filled))] == [{"renamed.png", "p03.png", "small.png"}]
    (filled.folder / "not_duplicates.json").write_text("[1, {}")
    assert len(find_duplicates(scan(filled))) == 1


def test_the_same_pixels_cannot_be_called_different(filled: Project) -> None:
    write(filled.dataset_dir / "again.png", (filled.dataset_dir / "p03.png").read_bytes())
    with pytest.raises(InputError, match="cannot be two"):
        keep_all(filled, find_duplicates(scan(filled))[0])


def test_one_call_keeps_the_best_of_every_group(filled: Project) -> None:
    for n in (3, 5):
        write(filled.dataset_dir / f"large{n}.png", scene(n, (320, 240)).resize((640, 480)))
    assert sorted(resolve_all(filled, find_duplicates(scan(filled)))) == ["p03.png", "p05.png"]
    assert find_duplicates(scan(filled)) == []
    restore_pictures(filled, ["p03.png", "p05.png"])
    assert len(find_duplicates(scan(filled))) == 2


def test_a_blurred_original_is_told_apart_from_a_sharp_smaller_copy(filled: Project) -> None:
    sharp = scene(3, (640, 480))
    write(filled.dataset_dir / "p03.png", sharp.filter(ImageFilter.GaussianBlur(2)))
    write(filled.dataset_dir / "smaller.png", sharp.resize((560, 420)))
    group = find_duplicates(scan(filled))[0]
    assert (group.suggested_keep, group.sharpest) == ("p03.png", "smaller.png")


def test_letterboxed_copies_are_near(filled: Project) -> None:
    ground = Image.new("RGB", (320, 330), "black")
    ground.paste(scene(3, (320, 240)), (0, 45))
    write(filled.dataset_dir / "boxed.png", ground)
    groups = find_duplicates(scan(filled))
    assert [(set(g.names), g.suggested_keep, g.why) for g in groups] == [
        ({"p03.png", "boxed.png"}, "p03.png", "the one without bars")
    ]


def test_what_only_the_deep_look_sees_is_a_group_of_its_own(filled: Project) -> None:
    seen = scan(filled)
    sha = {p.name: p.sha256 for p in seen}
    deep.put_pairs(seen.cache, [(*sorted((sha["p01.png"], sha["p02.png"])), 0.953)])
    assert [(g.kind, set(g.names), g.deep) for g in find_duplicates(seen)] == [
        ("near", {"p01.png", "p02.png"}, True)
    ]


# ---------------------------------------------------------------- searching


def near_hashes(count: int, planted: int, flips: int) -> tuple[np.ndarray, np.ndarray]:
    """Random hashes whose last `planted` ones are the first ones with `flips` bits changed among all 256."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2, (count, 256), dtype=np.uint8)
    for n in range(planted):
        bits[count - 1 - n] = bits[n]
        bits[count - 1 - n, rng.permutation(256)[:flips]] ^= 1
    pack = lambda b: near.words([int.from_bytes(np.packbits(row).tobytes(), "big") for row in b])  # noqa: E731
    return pack(bits), pack(rng.integers(0, 2, (count, 256), dtype=np.uint8))


def found_pairs(
    hashes: np.ndarray, flips: np.ndarray, n_new: int | None = None, sets: np.ndarray | None = None
) -> set[tuple[int, int]]:
    found = [
        zip(i.tolist(), j.tolist(), strict=True)
        for (i, j), mirrored in near.close_pairs(hashes, flips, n_new, sets)
        if not mirrored
    ]
    pairs = [p for some in found for p in some]
    assert len(pairs) == len(set(pairs))
    return set(pairs)


def test_the_index_finds_what_comparing_all_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    """20 of 256 bits changed leave about five changed among the lowest frequencies."""
    hashes, flips = near_hashes(3000, 300, 20)
    every = found_pairs(hashes, flips)
    monkeypatch.setattr(near, "BRUTE", 0)
    quick = found_pairs(hashes, flips)
    planted = {(n, 2999 - n) for n in range(300)}
    assert quick <= every and planted & every == every
    assert len(planted & every) >= 297 and len(quick) >= 0.97 * len(every)
    low = near.low_bits(hashes)
    certain = {(i, j) for i, j in every if int(np.bitwise_count(low[i] ^ low[j])) <= 7}
    assert certain <= quick


def test_only_pairs_with_a_new_one_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes, flips = near_hashes(400, 40, 8)
    for brute in (near.BRUTE, 0):
        monkeypatch.setattr(near, "BRUTE", brute)
        assert found_pairs(hashes, flips, 10) == {(n, 399 - n) for n in range(10)}
        assert found_pairs(hashes, flips, 0) == set()


def test_two_that_were_called_different_are_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looked for in each of the ways: all with all, by the index, and all with all because a set is crowded."""
    hashes, flips = near_hashes(400, 40, 8)
    sets = np.full(400, -1)
    sets[:10] = sets[-10:] = 3  # the first ten and their copies
    sets[10:15] = 4
    for brute, crowd in ((near.BRUTE, 10**6), (0, 10**6), (0, 20)):
        monkeypatch.setattr(near, "BRUTE", brute)
        monkeypatch.setattr(near, "_CROWD", crowd)
        assert found_pairs(hashes, flips, sets=sets) == {(n, 399 - n) for n in range(10, 40)}


def test_a_crowd_that_was_called_different_costs_no_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands alike, all called different: none is even handed on to be looked at."""
    monkeypatch.setattr(near, "BRUTE", 0)
    monkeypatch.setattr(near, "_indexed", None)
    hashes = np.repeat(near_hashes(1, 0, 0)[0], 2500, axis=0)
    assert (
        list(near._each(near.low_bits(hashes), near.low_bits(hashes), 2500, np.zeros(2500, np.int64))) == []
    )
    assert list(near.close_pairs(hashes, hashes, None, np.zeros(2500, np.int64))) == []


def test_ten_thousand_equal_hashes_do_not_exhaust_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(near, "_MOST", 10_000)
    monkeypatch.setattr(near, "BRUTE", 0)
    hashes = np.repeat(near_hashes(1, 0, 0)[0], 300, axis=0)
    sizes = [len(i) for (i, _), mirrored in near.close_pairs(hashes, hashes) if not mirrored]
    assert sum(sizes) == 300 * 299 // 2 and max(sizes) <= 10_000


def test_low_bits_are_the_upper_left_eighth() -> None:
    bits = np.zeros((16, 16), np.uint8)
    bits[:8, :8] = 1
    raw = int.from_bytes(np.packbits(bits).tobytes(), "big")
    assert near.low_bits(near.words([raw])).tolist() == [2**64 - 1]
    assert near.low_bits(near.words([raw ^ (2**256 - 1)])).tolist() == [0]
