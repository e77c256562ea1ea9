"""Converting, flattening and trimming: the imported copy is kept byte for byte and comes back with one call."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from studio import files
from studio.captions.store import CaptionStore
from studio.dataset import derived, remade
from studio.dataset.audit import audit
from studio.dataset.derived import imported_dir, made_pictures, make, put_back
from studio.dataset.fixes import FIXES, fix_finding, touches
from studio.dataset.origins import picture_repeats, regularisation_pictures
from studio.dataset.scan import scan
from studio.dataset.set_aside import discard, remove_pictures, room_taken
from studio.dataset.subsets import mark_regularisation, set_repeats
from studio.errors import EnvironmentalError, InputError, NotFoundError
from studio.project import Project
from tests.dataset.pictures import encoded, scene, write
from tests.dataset.test_bars import barred


@pytest.fixture
def odd(project: Project) -> Project:
    """One picture of every kind that a trainer reads wrongly or not at all, among six ordinary ones."""
    d = project.dataset_dir
    for i in range(6):
        write(d / f"p{i}.png", scene(i), f"mirastyle, thing{i}")
    exif = Image.Exif()
    exif[0x0112] = 6
    write(d / "turned.jpg", scene(20, (320, 200)), "mirastyle, turned", exif=exif)
    write(d / "print.jpg", scene(21, (320, 200)).convert("CMYK"), "mirastyle, print")
    grey = np.asarray(scene(22, (320, 200)).convert("L")).astype(np.uint16) * 257
    write(d / "deep.png", Image.fromarray(grey), "mirastyle, deep")
    glass = scene(23, (320, 200))
    glass.putalpha(90)
    write(d / "glass.png", glass, "mirastyle, glass")
    write(d / "film.jpg", barred(scene(24, (320, 180)), 0, 40, 0, 40), "mirastyle, film", quality=92)
    write(d / "moving.gif", scene(25), "mirastyle, moving", save_all=True, append_images=[scene(26)])
    write(d / "scan.tif", scene(27, (320, 200)), "mirastyle, scan")
    write(d / "phone.avif", scene(28, (320, 200)), "mirastyle, phone")
    return project


def fixable(project: Project) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {f.code: (f.action, f.where) for f in audit(project, scan(project)) if f.action in remade.WAYS}


def _opened(path: Path) -> Image.Image:
    return Image.open(io.BytesIO(path.read_bytes()))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        p.name: p.read_bytes()
        for p in folder.iterdir()
        if p.suffix != ".jsonl" and not p.name.startswith(".")
    }


def test_every_fault_is_mended_and_every_imported_copy_comes_back(odd: Project) -> None:
    before = contents(odd.dataset_dir)
    assert fixable(odd) == {
        "rotated": ("convert", ("turned.jpg",)), "colour-mode": ("convert", ("print.jpg",)),
        "sixteen-bit": ("convert", ("deep.png",)), "transparent": ("flatten", ("glass.png",)),
        "bars": ("trim", ("film.jpg",)), "animated": ("convert", ("moving.gif",)),
        "file-format": ("convert", ("phone.avif", "scan.tif")),
    }  # fmt: skip
    seen = scan(odd)
    for f in audit(odd, seen):
        if f.action in remade.WAYS:
            assert touches(seen, f) == len(f.where)
            assert fix_finding(odd, f.action, f.where), f
    assert fixable(odd) == {}
    seen = scan(odd)
    sizes = {
        p.name: (p.width, p.height, p.mode, p.depth) for p in seen.readable if not p.name.startswith("p")
    }
    assert sizes == {
        "turned.jpg": (200, 320, "RGB", 8), "deep.png": (320, 200, "RGB", 8), "glass.png": (320, 200, "RGB", 8),
        "film.jpg": (320, 180, "RGB", 8), "moving.png": (160, 120, "RGB", 8), "scan.png": (320, 200, "RGB", 8),
    }  # fmt: skip
    assert seen.get("print.jpg").mode == "RGB" and seen.get("phone.jpg").format == "JPEG"  # type: ignore[union-attr]
    assert all(p.caption.startswith("mirastyle") for p in seen), "captions follow their pictures"
    kept = contents(imported_dir(odd))
    assert kept == {n: b for n, b in before.items() if n in kept} and len(kept) == 8
    back = put_back(odd, [*made_pictures(odd)])
    assert len(back.changed) == 8 and not back.left
    assert contents(odd.dataset_dir) == before
    assert contents(imported_dir(odd)) == {} and made_pictures(odd) == {}


def test_what_is_made_looks_like_what_was_there(odd: Project) -> None:
    d = odd.dataset_dir
    shown = {
        "deep.png": scene(22, (320, 200)).convert("L").convert("RGB"),
        "turned.jpg": scene(20, (320, 200)).transpose(Image.Transpose.ROTATE_270),
        "print.jpg": scene(21, (320, 200)).convert("CMYK").convert("RGB"),
        "film.jpg": scene(24, (320, 180)),
    }
    make(odd, ["deep.png", "turned.jpg", "print.jpg"], "convert")
    make(odd, ["film.jpg"], "trim")
    for name, expected in shown.items():
        got = np.asarray(_opened(d / name).convert("RGB"), dtype=float)
        assert np.abs(got - np.asarray(expected, dtype=float)).mean() < 8, name
    make(odd, ["glass.png"], "flatten")
    assert _opened(d / "glass.png").mode == "RGB" and np.asarray(_opened(d / "glass.png")).min() > 100
    assert not _opened(d / "turned.jpg").getexif()


def test_colours_of_a_wide_profile_become_srgb() -> None:
    # "sRGB" with another name stands for a wide one; what counts is that the profile is applied and leaves the file.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    raw, suffix = remade.remade(encoded(scene(3), "JPEG", quality=95, icc_profile=profile), ["convert"])
    made = Image.open(io.BytesIO(raw))
    assert suffix == ".jpg" and "icc_profile" not in made.info
    broken = remade.remade(encoded(scene(3), "PNG", icc_profile=b"no profile" * 20), ["convert"])[0]
    assert Image.open(io.BytesIO(broken)).size == (160, 120)


def test_a_second_change_starts_from_the_imported_copy(odd: Project) -> None:
    d = odd.dataset_dir
    picture = barred(scene(30, (320, 180)), 0, 40, 0, 40).convert("RGBA")
    picture.putpixel((160, 120), (0, 0, 0, 0))
    before = write(d / "both.webp", picture, "mirastyle, both", lossless=True).read_bytes()
    assert make(odd, ["both.webp"], "trim").changed == ["both.webp"]
    assert _opened(d / "both.webp").mode == "RGBA" and scan(odd).get("both.webp").height == 180  # type: ignore[union-attr]
    assert make(odd, ["both.webp"], "flatten").changed == ["both.webp"]
    assert made_pictures(odd)["both.webp"].ways == ("flatten", "trim")
    assert make(odd, ["both.webp"], "flatten").changed == [], "nothing is left to do"
    assert len(contents(imported_dir(odd))) == 1
    assert put_back(odd, ["both.webp"]).changed == ["both.webp"] and (d / "both.webp").read_bytes() == before


def test_what_another_program_wrote_is_not_overwritten(odd: Project) -> None:
    make(odd, ["film.jpg"], "trim")
    write(odd.dataset_dir / "film.jpg", scene(40))
    assert put_back(odd, ["film.jpg"]).left[0].code == "not-changed"
    theirs = (odd.dataset_dir / "film.jpg").read_bytes()
    assert make(odd, ["film.jpg"], "convert").changed in (["film.jpg"], [])
    assert theirs in contents(imported_dir(odd)).values()


def test_names_in_the_way_and_damaged_pictures_are_left_alone(odd: Project) -> None:
    d = odd.dataset_dir
    write(d / "scan.png", scene(41))
    whole = encoded(scene(5, (300, 200)), "TIFF")
    write(d / "cut.tif", whole[: len(whole) // 2])
    done = make(odd, ["scan.tif", "cut.tif", "nobody.png"], "convert")
    assert done.changed == [] and [f.where for f in done.left] == [("scan.tif",), ("cut.tif",)]
    assert (d / "scan.tif").exists() and (d / "cut.tif").exists() and not imported_dir(odd).exists()


def test_the_unknown_is_refused(odd: Project) -> None:
    with pytest.raises(InputError, match="cannot be changed by"):
        make(odd, ["p0.png"], "sharpen")
    with pytest.raises(NotFoundError, match="no imported copy"):
        put_back(odd, ["p0.png"])
    assert set(remade.WAYS) <= set(FIXES)


def test_a_full_disk_changes_nothing(odd: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    before = contents(odd.dataset_dir)

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EnvironmentalError):
        make(odd, ["film.jpg"], "trim")
    monkeypatch.undo()
    assert contents(odd.dataset_dir) == before
    assert make(odd, ["film.jpg"], "trim").changed == ["film.jpg"]


@pytest.mark.parametrize("name", ["scan.tif", "film.jpg"])
@pytest.mark.parametrize("undo", [False, True])
def test_dying_at_any_step_loses_nothing(
    odd: Project, monkeypatch: pytest.MonkeyPatch, name: str, undo: bool
) -> None:
    way = "convert" if name == "scan.tif" else "trim"
    original = (odd.dataset_dir / name).read_bytes()
    CaptionStore(odd).approve([name])
    set_repeats(odd, [name], 4)
    caption = CaptionStore(odd).get(name).text
    made = name.replace(".tif", ".png")
    survived = 0
    for step in range(1, 20):
        if undo:
            make(odd, [name], way)
        dies, calls = step, 0
        real_replace, real_unlink, real_note = os.replace, Path.unlink, derived._note

        def count(dies: int = dies) -> None:
            nonlocal calls
            calls += 1
            if calls == dies:
                raise KeyboardInterrupt

        def replace(a: object, b: object, real=real_replace, count=count) -> None:  # type: ignore[no-untyped-def]
            count()
            real(a, b)

        def unlink(self: Path, missing_ok: bool = False, real=real_unlink, count=count) -> None:  # type: ignore[no-untyped-def]
            if not self.name.endswith(".tmp"):
                count()
            real(self, missing_ok)

        def note(*a: object, real=real_note, count=count) -> None:  # type: ignore[no-untyped-def]
            count()
            real(*a)

        with monkeypatch.context() as m:
            m.setattr(os, "replace", replace)
            m.setattr(Path, "unlink", unlink)
            m.setattr(derived, "_note", note)
            try:
                put_back(odd, [made]) if undo else make(odd, [name], way)
                finished = True
            except KeyboardInterrupt:
                survived += 1
                finished = False
        everywhere = [*contents(odd.dataset_dir).values(), *contents(imported_dir(odd)).values()]
        assert original in everywhere, f"lost at step {step}"
        seen = scan(odd)
        here = [p.name for p in seen if p.name in (name, made)]
        assert len(here) == 1 and seen.get(here[0]).caption == caption, f"step {step}: {here}"  # type: ignore[union-attr]
        assert CaptionStore(odd).get(here[0]).status == "approved", f"approval lost at step {step}"
        assert picture_repeats(odd) == {here[0]: 4}, f"repeats lost at step {step}"
        make(odd, here, way)
        assert put_back(odd, [made]).changed == [name]
        assert (odd.dataset_dir / name).read_bytes() == original and not (
            made != name and (odd.dataset_dir / made).exists()
        )
        if finished:
            break
    assert survived >= 3
    assert files.read_jsonl(imported_dir(odd) / "list.jsonl")[0]


def known_of(project: Project, name: str) -> tuple[object, ...]:
    """What is known under a picture's name, and what its caption said."""
    store = CaptionStore(project)
    caption = store.get(name)
    told = (caption.text, caption.author, caption.status, caption.engine)
    texts = tuple(v.text for v in store.versions(name))
    return told, texts, picture_repeats(project).get(name), name in regularisation_pictures(project)


def test_what_is_known_goes_along_with_a_new_ending_and_back(odd: Project) -> None:
    store = CaptionStore(odd)
    store.set("scan.tif", "an old harbour")
    store.write_machine({"phone.avif": "a phone"}, "wd", {"t": 1}, "append")
    store.approve(["phone.avif"])
    set_repeats(odd, ["scan.tif"], 4)
    mark_regularisation(odd, ["phone.avif"])
    before = {n: known_of(odd, n) for n in ("scan.tif", "phone.avif")}
    assert before["scan.tif"][0] == ("mirastyle, an old harbour", "person", "approved", "")
    assert before["phone.avif"][0][1:] == ("import", "approved", "wd") and before["phone.avif"][3]  # type: ignore[index]
    make(odd, ["scan.tif", "phone.avif"], "convert")
    assert (
        known_of(odd, "scan.png") == before["scan.tif"] and known_of(odd, "phone.jpg") == before["phone.avif"]
    )
    store.set("scan.png", "a new harbour")
    assert store.undo().changed == ("scan.png",) and store.undo().changed == ("phone.jpg",)
    assert store.get("phone.jpg").status == "needs review"
    assert store.redo().changed == ("phone.jpg",)
    put_back(odd, ["scan.png", "phone.jpg"])
    assert known_of(odd, "phone.avif") == before["phone.avif"]
    assert known_of(odd, "scan.tif")[2:] == (4, False) and store.get("scan.tif").status == "approved"
    while store.can_undo:
        assert not store.undo().skipped
    assert store.get("scan.tif").text == "mirastyle, scan" and store.get("scan.tif").author == "import"


def test_a_second_ending_takes_what_is_known_along(odd: Project) -> None:
    d = odd.dataset_dir
    glass = scene(33, (320, 200)).convert("RGBA")
    glass.putalpha(90)
    write(d / "clear.avif", glass, "mirastyle, clear")
    CaptionStore(odd).approve(["clear.avif"])
    assert make(odd, ["clear.avif"], "convert").changed == ["clear.png"]
    assert make(odd, ["clear.png"], "flatten").changed == ["clear.jpg"]
    assert CaptionStore(odd).get("clear.jpg").status == "approved" and not (d / "clear.png").exists()
    assert [m for m in made_pictures(odd) if m.startswith("clear")] == ["clear.jpg"]
    assert put_back(odd, ["clear.jpg"]).changed == ["clear.avif"]
    assert CaptionStore(odd).get("clear.avif").status == "approved"
    assert contents(imported_dir(odd)) == {}


def test_pictures_renamed_because_they_share_a_caption_keep_what_is_known(odd: Project) -> None:
    write(odd.dataset_dir / "p1.jpg", scene(50))
    CaptionStore(odd).approve(["p1.jpg", "p1.png"])
    set_repeats(odd, ["p1.png"], 3)
    assert fix_finding(odd, "rename", ["p1.jpg", "p1.png"]) == ["p1-2.png"]
    assert {n: CaptionStore(odd).get(n).status for n in ("p1.jpg", "p1-2.png")} == dict.fromkeys(
        ("p1.jpg", "p1-2.png"), "approved"
    )
    assert picture_repeats(odd) == {"p1-2.png": 3}


def test_what_deleting_frees_is_told_beforehand(odd: Project) -> None:
    make(odd, ["scan.tif", "film.jpg"], "convert")
    remove_pictures(odd, ["scan.png", "p0.png"])
    told = room_taken(odd)
    assert told == discard(odd)[1] > 0 and room_taken(odd) == 0
