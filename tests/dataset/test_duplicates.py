from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from studio.captions.store import CaptionStore
from studio.dataset import duplicates
from studio.dataset.duplicates import find_duplicates, resolve
from studio.dataset.index import Index
from studio.dataset.intake import import_pictures
from studio.dataset.scan import Scan, scan
from studio.dataset.set_aside import restore_pictures, set_aside_list
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
        best = duplicates._standard(copies(seen)[seen.get(group.suggested_keep).sha256][0])  # type: ignore[union-attr]
        for name in group.names[1:]:
            other = duplicates._standard(copies(seen)[seen.get(name).sha256][0])  # type: ignore[union-attr]
            assert float((best * other).mean()) >= duplicates.LIKENESS


def copies(seen: Scan) -> dict[str, tuple[bytes, bytes]]:
    return Index(seen.cache).copies()


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
    real = duplicates._close
    monkeypatch.setattr(duplicates, "_close", lambda h, f, n: counted.append(n) or real(h, f, n))
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


def test_the_user_chooses_what_to_keep(filled: Project) -> None:
    write(filled.dataset_dir / "large.png", scene(3, (320, 240)).resize((640, 480)))
    group = find_duplicates(scan(filled))[0]
    with pytest.raises(InputError, match="cannot be kept"):
        resolve(filled, group, "p05.png")
    assert resolve(filled, group, ["large.png", "p03.png"]) == []
    assert resolve(filled, group, "p03.png") == ["large.png"]
