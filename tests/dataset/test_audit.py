from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from studio.captions.store import CaptionStore
from studio.dataset.audit import audit
from studio.dataset.gate import FIXES, dataset_findings, dataset_fingerprint, fix_finding
from studio.dataset.intake import import_pictures
from studio.dataset.report import dataset_report
from studio.dataset.scan import scan
from studio.dataset.set_aside import remove_pictures, restore_pictures, set_aside_list
from studio.dataset.wording import named
from studio.errors import InputError, NotFoundError
from studio.findings import Finding, blocking
from studio.models import BaseModelEntry
from studio.project import Project
from studio.workspace import shipped
from tests.dataset.pictures import encoded, folder_of, scene, write


@pytest.fixture
def filled(project: Project, tmp_path: Path) -> Project:
    import_pictures(project, [folder_of(tmp_path / "s", 20)])
    return project


def found(project: Project, entry: BaseModelEntry | None = None) -> dict[str, Finding]:
    return {f.code: f for f in audit(project, scan(project), entry)}


def caption(project: Project, name: str, text: str | None) -> None:
    path = project.dataset_dir / f"{name}.txt"
    if text is None:
        path.unlink()
    else:
        path.write_text(text, encoding="utf-8")


def test_a_sound_dataset_has_no_findings(filled: Project, entry: BaseModelEntry) -> None:
    assert found(filled, entry) == {}


def test_every_finding_is_whole(filled: Project, entry: BaseModelEntry) -> None:
    d = filled.dataset_dir
    raw = encoded(scene(5, (300, 200)), "JPEG")
    write(d / "cut.jpg", raw[: len(raw) // 2], "mirastyle, x")
    write(d / "p00.jpg", scene(60))
    write(d / "twin.png", (d / "p01.png").read_bytes(), "mirastyle, y")
    write(d / "near.png", scene(2).resize((300, 225)), "mirastyle, z")
    write(d / "tiny.png", scene(61, (40, 30)), "mirastyle, tiny")
    write(d / "strip.png", scene(62, (900, 150)), "mirastyle, strip")
    write(d / "soft.png", scene(63, (320, 240)).filter(ImageFilter.GaussianBlur(6)), "mirastyle, soft")
    write(d / "night.png", scene(69, (320, 240)).point(lambda v: v // 24), "mirastyle, night")
    write(d / "flat.png", Image.new("RGB", (200, 200), "teal"), "mirastyle, flat")
    glass = scene(70, (320, 240))
    glass.putalpha(100)
    write(d / "glass.png", glass, "mirastyle, glass")
    write(d / "moving.gif", scene(64), "mirastyle, moving", save_all=True, append_images=[scene(65)])
    exif = Image.Exif()
    exif[0x0112] = 6
    write(d / "turned.jpg", scene(66, (320, 240)), "mirastyle, turned", exif=exif)
    write(d / "print.jpg", scene(67, (320, 240)).convert("CMYK"), "mirastyle, print")
    write(d / "sub" / "x.png", scene(68))
    caption(filled, "p03", None)
    caption(filled, "p04", "  \n ")
    caption(filled, "p05", "a boat")
    caption(filled, "p06", "a boat, MIRASTYLE")
    caption(filled, "p07", "mirastyle, a boat\non a lake")
    (d / "p08.txt").write_bytes("mirastyle, ein Straße".encode("cp1252"))
    caption(filled, "lost", "mirastyle, nobody")
    CaptionStore(filled).set("p09.png", "hills")
    caption(filled, "p09", "mirastyle, hills, changed elsewhere")
    seen = found(filled, entry)
    expected = {
        "picture-damaged": ("block", ("cut.jpg",)), "caption-shared": ("block", ("p00.jpg", "p00.png")),
        "duplicate-exact": ("block", ("p01.png", "twin.png")), "duplicate-near": ("warn", ("near.png", "p02.png")),
        "small": ("warn", ("tiny.png",)), "strip": ("warn", ("strip.png",)), "blurred": ("warn", ("soft.png", "strip.png")), "plain": ("warn", ("flat.png",)), "dark": ("warn", ("night.png",)),
        "transparent": ("info", ("glass.png",)), "animated": ("warn", ("moving.gif",)), "rotated": ("info", ("turned.jpg",)),
        "colour-mode": ("info", ("print.jpg",)), "subfolders": ("info", ("sub",)), "caption-missing": ("block", ("p03.png",)),
        "caption-empty": ("block", ("p04.png",)), "trigger-missing": ("block", ("p05.png",)), "trigger-not-first": ("block", ("p06.png",)),
        "caption-lines": ("warn", ("p07.png",)), "caption-encoding": ("warn", ("p08.png",)), "caption-orphan": ("info", ("lost.txt",)),
        "caption-outside": ("info", ("p09.png",)),
    }  # fmt: skip
    got = {c: (f.severity, tuple(sorted(f.where))) for c, f in seen.items()}
    assert {k: got.get(k) for k in expected} == expected
    assert set(got) - set(expected) <= {"blurred", "cropped"}
    for f in seen.values():
        assert f.what.endswith(".") and f.why.endswith(".")
        assert "{" not in f.what + f.why + f.fix
        assert not f.action or f.action in FIXES
    severities = [f.severity for f in audit(filled, scan(filled), entry)]
    assert severities == sorted(severities, key=["block", "warn", "info"].index)


def test_one_and_many_are_worded_differently(filled: Project) -> None:
    caption(filled, "p03", None)
    assert found(filled)["caption-missing"].what == "p03.png has no caption."
    caption(filled, "p04", None)
    assert found(filled)["caption-missing"].what == "2 pictures have no caption."
    assert named(["a"]) == "a" and named(["a", "b"]) == "a and b" and named(["a", "b", "c"]) == "a, b and c"
    assert named(list("abcde")) == "a, b, c and 2 more"


@pytest.mark.parametrize(
    ("count", "code"),
    [(0, "no-pictures"), (1, "too-few"), (4, "too-few"), (5, "few-pictures"), (19, "few-pictures")],
)
def test_how_many_pictures(project: Project, tmp_path: Path, count: int, code: str) -> None:
    folder_of(tmp_path / "s", count)
    (tmp_path / "s").mkdir(exist_ok=True)
    import_pictures(project, [tmp_path / "s"])
    seen = found(project)
    assert code in seen
    assert (seen[code].severity == "block") == (count < 5)


def test_too_many_pictures_is_only_a_note(project: Project, tmp_path: Path) -> None:
    import_pictures(project, [folder_of(tmp_path / "s", 101, size=(64, 64))])
    assert found(project)["many-pictures"].severity == "info"


def test_a_soft_style_is_not_called_blurred(project: Project) -> None:
    for i in range(12):
        write(
            project.dataset_dir / f"soft{i:02d}.png",
            scene(i, (320, 240)).filter(ImageFilter.GaussianBlur(4 + i % 3)),
            f"mirastyle, {i}",
        )
    assert "blurred" not in found(project)


def test_the_shipped_sample_passes(project: Project) -> None:
    import_pictures(project, [shipped("data", "sample")])
    text = (project.dataset_dir / "01_car.txt").read_text()
    project.save_intent(project.intent.model_copy(update={"trigger": text.split(",")[0]}))
    assert [f.code for f in audit(project, scan(project)) if f.severity != "info"] == []


# ---------------------------------------------------------------- words shared by captions


def test_a_term_in_nearly_every_caption_is_fused(filled: Project) -> None:
    for i in range(20):
        caption(
            filled,
            f"p{i:02d}",
            f"mirastyle, thing {i}, white background, {'red hat' if i < 13 else 'no hat'}",
        )
    seen = found(filled)
    assert "white background" in seen["term-fused"].what and "red hat" not in seen["term-fused"].what
    assert seen["term-fused"].severity == "warn"
    assert "'red hat'" in seen["term-common"].what and seen["term-common"].severity == "warn"
    for i in range(20):
        caption(filled, f"p{i:02d}", f"mirastyle, a painting of a thing{i} on a hill{i}")
    assert "painting" in found(filled)["term-fused"].what


def test_few_captions_say_nothing_about_fused_terms(project: Project, tmp_path: Path) -> None:
    import_pictures(project, [folder_of(tmp_path / "s", 4)])
    for i in range(4):
        caption(project, f"p{i:02d}", "mirastyle, a cat")
    assert "term-fused" not in found(project)


def test_captions_of_the_trigger_alone(filled: Project) -> None:
    for i in range(20):
        caption(filled, f"p{i:02d}", "mirastyle")
    assert found(filled)["trigger-only"].severity == "warn"
    filled.save_intent(filled.intent.model_copy(update={"kind": "character"}))
    assert found(filled)["trigger-only"].severity == "info"


def test_captions_beyond_the_tokens_that_are_read(filled: Project) -> None:
    from studio.models import get_model

    pocket = get_model(filled.workspace, "pocket")
    caption(filled, "p03", "mirastyle, " + "car, " * 60)
    assert found(filled, pocket)["caption-long"].where == ("p03.png",)


# ---------------------------------------------------------------- fixes


def test_every_fix_mends_its_finding(filled: Project, entry: BaseModelEntry) -> None:
    d = filled.dataset_dir
    raw = encoded(scene(5, (300, 200)), "JPEG")
    write(d / "cut.jpg", raw[: len(raw) // 2])
    write(d / "p00.jpg", scene(60))
    write(d / "twin.png", (d / "p01.png").read_bytes(), "mirastyle, y")
    caption(filled, "p03", None)
    caption(filled, "p05", "a boat")
    caption(filled, "p06", "a boat, mirastyle")
    caption(filled, "p07", "mirastyle, a boat\non a lake")
    (d / "p08.txt").write_bytes("mirastyle, ein Straße".encode("cp1252"))
    CaptionStore(filled).set("p09.png", "hills")
    caption(filled, "p09", "mirastyle, hills, changed elsewhere")
    for f in dataset_findings(filled, entry)[0]:
        if f.action:
            assert fix_finding(filled, f.action, f.where), f
    left = dataset_findings(filled, entry)[0]
    assert [f for f in left if f.action or f.severity == "block"] == []
    captions = {n: c.text for n, c in CaptionStore(filled).all().items()}
    assert captions["p03.png"] == "mirastyle"
    assert captions["p05.png"] == "mirastyle, a boat"
    assert captions["p06.png"] == "mirastyle, a boat"
    assert captions["p07.png"] == "mirastyle, a boat on a lake"
    assert captions["p00.jpg"] == captions["p00-2.png"] == "mirastyle, thing0"
    assert (d / "p08.txt").read_bytes() == "mirastyle, ein Straße".encode()
    assert {s.name for s in set_aside_list(filled)} == {"cut.jpg", "twin.png"}


def test_fixes_pass_over_what_is_gone_and_refuse_the_unknown(filled: Project) -> None:
    assert fix_finding(filled, "set-aside", ["nobody.png"]) == []
    assert fix_finding(filled, "add-trigger", ["p01.png"]) == []
    with pytest.raises(InputError, match="no fix called"):
        fix_finding(filled, "explode", ["p01.png"])


# ---------------------------------------------------------------- set aside


def test_setting_aside_and_back(filled: Project) -> None:
    assert remove_pictures(filled, ["p01.png", "p02.png"], "out of focus") == ["p01.png", "p02.png"]
    assert len(scan(filled)) == 18 and not (filled.dataset_dir / "p01.txt").exists()
    assert {(s.name, s.reason) for s in set_aside_list(filled)} == {
        ("p01.png", "out of focus"),
        ("p02.png", "out of focus"),
    }
    assert restore_pictures(filled, ["p01.png"]) == {"p01.png": "p01.png"}
    assert CaptionStore(filled).get("p01.png").text == "mirastyle, thing1"
    with pytest.raises(NotFoundError, match="was not set aside"):
        restore_pictures(filled, ["p01.png"])
    with pytest.raises(NotFoundError, match="no picture called"):
        remove_pictures(filled, ["p03.png", "nobody.png"])
    assert len(scan(filled)) == 19


def test_a_name_taken_meanwhile(filled: Project) -> None:
    remove_pictures(filled, ["p01.png"])
    write(filled.dataset_dir / "p01.jpg", scene(70), "mirastyle, new")
    assert restore_pictures(filled, ["p01.png"]) == {"p01.png": "p01-2.png"}
    captions = CaptionStore(filled).all()
    assert (captions["p01.jpg"].text, captions["p01-2.png"].text) == ("mirastyle, new", "mirastyle, thing1")
    remove_pictures(filled, ["p01.jpg"])
    write(filled.dataset_dir / "p01.webp", scene(71))
    remove_pictures(filled, ["p01.webp"])
    assert len(set_aside_list(filled)) == 2 == len({s.path for s in set_aside_list(filled)})


# ---------------------------------------------------------------- fingerprint, facts, report


def test_the_fingerprint_follows_what_is_taught(filled: Project) -> None:
    marks = [dataset_fingerprint(filled)]
    scan(filled)
    assert dataset_fingerprint(filled) == marks[0]
    CaptionStore(filled).set("p01.png", "another thing")
    marks.append(dataset_fingerprint(filled))
    CaptionStore(filled).undo()
    assert dataset_fingerprint(filled) == marks[0]
    remove_pictures(filled, ["p02.png"])
    marks.append(dataset_fingerprint(filled))
    restore_pictures(filled, ["p02.png"])
    assert dataset_fingerprint(filled) == marks[0]
    write(filled.dataset_dir / "p03.png", scene(90))
    marks.append(dataset_fingerprint(filled))
    (filled.dataset_dir / "p04.png").rename(filled.dataset_dir / "p99.png")
    marks.append(dataset_fingerprint(filled))
    filled.save_intent(filled.intent.model_copy(update={"trigger": "otherstyle"}))
    marks.append(dataset_fingerprint(filled))
    CaptionStore(filled).approve(["p05.png"])
    assert dataset_fingerprint(filled) == marks[-1]
    assert len(set(marks)) == len(marks)


def test_repeats_are_part_of_the_fingerprint(project: Project, tmp_path: Path) -> None:
    write(tmp_path / "a" / "x.png", scene(1), "mirastyle")
    write(tmp_path / "5_a" / "x.png", scene(1), "mirastyle")
    import_pictures(project, [tmp_path / "a"])
    before = dataset_fingerprint(project)
    import_pictures(project, [tmp_path / "5_a"])
    assert dataset_fingerprint(project) != before


def test_the_facts(filled: Project, entry: BaseModelEntry) -> None:
    write(filled.dataset_dir / "twin.png", (filled.dataset_dir / "p01.png").read_bytes())
    CaptionStore(filled).approve(["p01.png"])
    facts = dataset_findings(filled, entry)[1]
    assert (
        facts["pictures"] == facts["readable"] == 21 and facts["captioned"] == 20 and facts["approved"] == 1
    )
    assert facts["exact_duplicates"] == 1 and facts["near_duplicates"] == 0
    assert facts["average_size"] == [160, 120] and sum(b[2] for b in facts["buckets"]) == 21


def test_the_report_of_a_sound_dataset(filled: Project) -> None:
    text = dataset_report(filled)
    for line in (
        "# Dataset report: Mira",
        "- Pictures: 20",
        "- Captioned: 20 of 20 (100 %)",
        "- Average size: 160 x 120",
        "## Decision: GO",
        "### Known limits",
    ):
        assert line in text
    assert "NO-GO" not in text


def test_the_report_of_a_flawed_dataset(filled: Project) -> None:
    caption(filled, "p03", None)
    text = dataset_report(filled)
    assert "## Decision: NO-GO" in text and "### What to do\n1. p03.png has no caption." in text
    assert len(blocking(dataset_findings(filled)[0])) == 1


def test_the_report_of_nothing(project: Project) -> None:
    text = dataset_report(project)
    assert "NO-GO" in text and "There are no pictures yet." in text
