from __future__ import annotations

import base64
import os
import unicodedata
import zipfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from studio import files
from studio.captions.store import CaptionStore
from studio.dataset import archives
from studio.dataset.derived import make
from studio.dataset.intake import import_pictures, import_uploads
from studio.dataset.origins import all_origins, picture_repeats
from studio.dataset.scan import scan
from studio.dataset.set_aside import remove_pictures, restore_pictures
from studio.errors import EnvironmentalError, InputError
from studio.project import Project
from tests.dataset.pictures import encoded, folder_of, png_header, scene, write


def names(project: Project) -> list[str]:
    return sorted(p.name for p in project.dataset_dir.iterdir())


def codes(report: object) -> dict[str, str]:
    return {f.where[0]: f.code for f in report.refused}  # type: ignore[attr-defined]


def test_a_folder_comes_in_with_its_captions_and_stays_untouched(project: Project, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "mine", 3)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in source.iterdir()}
    report = import_pictures(project, [source])
    assert report.added == ["p00.png", "p01.png", "p02.png"]
    assert report.captions_taken == 3 and not report.refused and not report.renamed
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in source.iterdir()} == before
    assert {p.name: p.read_bytes() for p in project.dataset_dir.iterdir()} == {
        n: c for n, (c, _) in before.items()
    }
    assert report.words == "3 pictures added, 3 with a caption."
    assert project.history()[-1]["what"] == "pictures imported"
    assert all_origins(project)["p01.png"].source == "p01.png"


def test_a_second_import_adds_nothing_whatever_the_names(project: Project, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "mine", 2)
    import_pictures(project, [source])
    (source / "p00.png").rename(source / "other name.png")
    report = import_pictures(project, [source])
    assert report.added == []
    assert report.already_there == {"other name.png": "p00.png", "p01.png": "p01.png"}
    assert len(names(project)) == 4


def test_the_same_picture_twice_in_one_source_comes_in_once(project: Project, tmp_path: Path) -> None:
    write(tmp_path / "s" / "a.png", scene(1))
    write(tmp_path / "s" / "copy of a.png", scene(1))
    report = import_pictures(project, [tmp_path / "s"])
    assert report.added == ["a.png"] and report.already_there == {"copy of a.png": "a.png"}


def test_a_picture_set_aside_is_not_brought_back_and_keeps_its_name(project: Project, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "mine", 2)
    import_pictures(project, [source])
    remove_pictures(project, ["p00.png"])
    assert import_pictures(project, [source]).already_there["p00.png"] == "p00.png"
    write(tmp_path / "new" / "p00.png", scene(50))
    assert import_pictures(project, [tmp_path / "new"]).added == ["p00-2.png"]
    assert restore_pictures(project, ["p00.png"]) == {"p00.png": "p00.png"}


def test_names_that_would_share_a_caption_are_told_apart(project: Project, tmp_path: Path) -> None:
    for i, name in enumerate(
        ["a.png", "a.jpg", "A.webp", "sub/a.png", "sub/caf\u00e9.png", "sub/cafe\u0301.png"]
    ):
        write(tmp_path / "s" / name, scene(i), f"caption {i}")
    (tmp_path / "s" / "a.txt").write_text("shared")
    report = import_pictures(project, [tmp_path / "s"])
    stems = [Path(n).stem.casefold() for n in report.added]
    assert len(report.added) == 6 and len(set(stems)) == 6
    assert set(report.renamed.values()) <= set(report.added) and len(report.renamed) >= 4
    texts = {c.text for c in CaptionStore(project).all().values()}
    assert texts == {"shared", "caption 2", "caption 3", "caption 4", "caption 5"}


@pytest.mark.parametrize("sidecar", ["a.txt", "a.caption", "a.png.txt", "A.TXT"])
def test_captions_are_found_beside_the_picture(project: Project, tmp_path: Path, sidecar: str) -> None:
    write(tmp_path / "s" / "a.png", scene(1))
    (tmp_path / "s" / sidecar).write_text("a cat\n", encoding="utf-8")
    assert import_pictures(project, [tmp_path / "s"]).captions_taken == 1
    assert (project.dataset_dir / "a.txt").read_text() == "a cat"


def test_a_single_file_brings_its_caption(project: Project, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png", scene(1), "a cat")
    import_pictures(project, [path])
    assert names(project) == ["a.png", "a.txt"]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "cp1252"])
def test_captions_in_other_encodings_become_utf8(project: Project, tmp_path: Path, encoding: str) -> None:
    write(tmp_path / "s" / "a.png", scene(1))
    (tmp_path / "s" / "a.txt").write_bytes("eine Straße, grün".encode(encoding))
    import_pictures(project, [tmp_path / "s"])
    assert (project.dataset_dir / "a.txt").read_bytes() == "eine Straße, grün".encode()


def test_a_caption_that_arrives_later_is_taken_but_none_is_overwritten(
    project: Project, tmp_path: Path
) -> None:
    source = tmp_path / "s"
    write(source / "a.png", scene(1))
    write(source / "b.png", scene(2), "old words")
    import_pictures(project, [source])
    (source / "a.txt").write_text("late words")
    (source / "b.txt").write_text("other words")
    report = import_pictures(project, [source])
    assert report.added == [] and report.captions_taken == 1
    assert (project.dataset_dir / "a.txt").read_text() == "late words"
    assert (project.dataset_dir / "b.txt").read_text() == "old words"


def test_a_caption_without_a_picture_is_never_given_to_a_stranger(project: Project, tmp_path: Path) -> None:
    (project.dataset_dir / "a.txt").write_text("words of a lost picture")
    write(tmp_path / "s" / "a.png", scene(1))
    assert import_pictures(project, [tmp_path / "s"]).added == ["a-2.png"]
    assert CaptionStore(project).get("a-2.png").text == ""


def test_kohya_folders_give_repeats(project: Project, tmp_path: Path) -> None:
    write(tmp_path / "train" / "10_mira woman" / "a.png", scene(1))
    write(tmp_path / "train" / "2_background" / "b.png", scene(2))
    write(tmp_path / "train" / "c.png", scene(3))
    report = import_pictures(project, [tmp_path / "train"])
    assert report.repeats == {"a.png": 10, "b.png": 2} == picture_repeats(project)
    write(tmp_path / "3_chosen" / "d.png", scene(4))
    assert import_pictures(project, [tmp_path / "3_chosen"]).repeats == {"d.png": 3}


def test_bad_files_are_refused_by_name_and_the_rest_comes_in(project: Project, tmp_path: Path) -> None:
    source = folder_of(tmp_path / "s", 1)
    write(source / "fake.png", b"I am a text")
    write(source / "empty.jpg", b"")
    write(source / "huge.png", png_header(60_000, 60_000))
    write(source / "film.mp4", b"\0\0\0\x20ftypisom" + b"\0" * 50)
    write(source / "notes.txt", b"my notes")
    write(source / ".DS_Store", b"x")
    whole = encoded(scene(9, (400, 300)), "JPEG")
    write(source / "cut.jpg", whole[: len(whole) // 2])
    report = import_pictures(project, [source])
    assert codes(report) == {
        "fake.png": "not-a-picture", "empty.jpg": "file-empty", "huge.png": "too-many-pixels", "film.mp4": "not-a-picture",
    }  # fmt: skip
    assert report.added == ["cut.jpg", "p00.png"]  # the cut one is a picture: the audit names it
    assert all(f.what and f.why and f.fix for f in report.refused)


def test_a_misnamed_picture_gets_its_true_ending(project: Project, tmp_path: Path) -> None:
    write(tmp_path / "s" / "photo.png", encoded(scene(1), "JPEG"))
    write(tmp_path / "s" / "no ending", encoded(scene(2), "WEBP"))
    report = import_pictures(project, [tmp_path / "s"])
    assert report.added == ["no ending.webp", "photo.jpg"]
    assert report.renamed == {"no ending": "no ending.webp", "photo.png": "photo.jpg"}


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_are_refused(project: Project, tmp_path: Path) -> None:
    outside = folder_of(tmp_path / "outside", 1)
    source = folder_of(tmp_path / "s", 1)
    (source / "link.png").symlink_to(outside / "p00.png")
    (source / "more").symlink_to(outside, target_is_directory=True)
    (source / "p00.txt").unlink()
    (source / "p00.txt").symlink_to("/etc/hostname")
    report = import_pictures(project, [source])
    assert codes(report) == {"link.png": "link", "more": "link", "p00.txt": "link"}
    assert names(project) == ["p00.png"]


def test_nothing_at_the_source(project: Project, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing at"):
        import_pictures(project, [tmp_path / "absent"])
    folder_of(tmp_path / "s", 1)
    report = import_pictures(project, [tmp_path / "s", tmp_path / "absent"])
    assert report.added == ["p00.png"] and report.refused[0].code == "not-found"


def test_a_full_disk_is_said_before_anything_is_copied(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "free_bytes", lambda _path: 1000)
    with pytest.raises(EnvironmentalError, match="too little room"):
        import_pictures(project, [folder_of(tmp_path / "s", 1)])
    assert names(project) == []


def test_stopping_keeps_what_came_in(project: Project, tmp_path: Path) -> None:
    seen: list[tuple[int, int, str]] = []
    report = import_pictures(
        project,
        [folder_of(tmp_path / "s", 5)],
        progress=lambda *a: seen.append(a),
        should_stop=lambda: len(seen) >= 2,
    )
    assert report.stopped and report.added == ["p00.png", "p01.png"]
    assert seen == [(1, 5, "p00.png"), (2, 5, "p01.png")]
    assert names(project) == ["p00.png", "p00.txt", "p01.png", "p01.txt"]


def test_the_project_itself_is_no_source(project: Project, tmp_path: Path) -> None:
    import_pictures(project, [folder_of(tmp_path / "s", 2)])
    scan(project)
    for source in (project.workspace.root, project.folder, project.dataset_dir):
        report = import_pictures(project, [source])
        assert report.added == [] and report.refused == [], source
    assert len(names(project)) == 4


# ---------------------------------------------------------------- archives


def pack(path: Path, entries: dict[str, bytes | str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, content in entries.items():
            z.writestr(name, content)
    return path


def test_an_archive_comes_in(project: Project, tmp_path: Path) -> None:
    archive = pack(
        tmp_path / "set.zip",
        {
            "set/a.png": encoded(scene(1)), "set/a.txt": "a cat", "set/5_more/b.jpg": encoded(scene(2), "JPEG"), "set/b.txt": "not b's",
            "set/猫.webp": encoded(scene(3), "WEBP"), "set/猫.caption": "ein Kätzchen", "__MACOSX/set/._a.png": b"junk", "set/readme.txt": "hello",
        },
    )  # fmt: skip
    report = import_pictures(project, [archive])
    assert sorted(report.added) == ["a.png", "b.jpg", "猫.webp"] and not report.refused and not report.renamed
    assert report.repeats == {"b.jpg": 5}
    captions = CaptionStore(project).all()
    assert (captions["a.png"].text, captions["b.jpg"].text, captions["猫.webp"].text) == (
        "a cat",
        "",
        "ein Kätzchen",
    )


def test_an_archive_cannot_reach_outside(project: Project, tmp_path: Path) -> None:
    picture = encoded(scene(1))
    archive = pack(
        tmp_path / "evil.zip",
        {
            "../../up.png": picture,
            "/root.png": picture,
            "C:\\win.png": picture,
            "..\\back.png": picture,
            "ok/fine.png": picture,
        },
    )
    link = zipfile.ZipInfo("link.png")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(archive, "a") as z:
        z.writestr(link, "/etc/passwd")
    before = set(tmp_path.rglob("*"))
    report = import_pictures(project, [archive])
    assert report.added == ["fine.png"]
    assert sorted(f.code for f in report.refused) == ["link", "outside", "outside", "outside", "outside"]
    assert set(tmp_path.rglob("*")) == before
    assert names(project) == ["fine.png"]


def test_archive_bombs_are_refused_unopened(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "RATIO_FROM", 1_000_000)
    archive = pack(
        tmp_path / "bomb.zip", {"bomb.bmp": b"BM" + b"\0" * 20_000_000, "fine.png": encoded(scene(1))}
    )
    report = import_pictures(project, [archive])
    assert report.added == ["fine.png"] and report.refused[0].code == "archive-bomb"
    monkeypatch.setattr(archives, "MAX_UNPACKED", 1_000_000)
    assert import_pictures(project, [archive]).refused[0].code == "archive-too-large"
    monkeypatch.undo()
    monkeypatch.setattr(archives, "MAX_ENTRIES", 1)
    assert import_pictures(project, [archive]).refused[0].code == "archive-too-large"


def test_damaged_encrypted_and_nested_archives(project: Project, tmp_path: Path) -> None:
    inner = pack(tmp_path / "inner.zip", {"x.png": encoded(scene(1))})
    archive = pack(
        tmp_path / "outer.zip",
        {"inner.zip": inner.read_bytes(), "a.png": encoded(scene(2)), "b.png": encoded(scene(3))},
    )
    raw = bytearray(archive.read_bytes())
    at = raw.find(b"IDAT", raw.find(b"b.png"))  # deflated, so corrupt a byte inside b.png's data instead
    at = raw.find(b"b.png") + 400 if at < 0 else at + 20
    raw[at] ^= 0xFF
    archive.write_bytes(bytes(raw))
    report = import_pictures(project, [archive])
    assert report.added == ["a.png"]
    assert codes(report) == {"outer.zip: inner.zip": "archive-nested", "outer.zip: b.png": "unreadable"}
    (tmp_path / "cut.zip").write_bytes(archive.read_bytes()[:500])
    assert import_pictures(project, [tmp_path / "cut.zip"]).refused[0].code == "archive-damaged"
    locked = bytearray(inner.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.find(mark) + offset] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(locked))
    assert import_pictures(project, [tmp_path / "locked.zip"]).refused[0].code == "encrypted"


def test_names_in_archives_of_older_packers(project: Project, tmp_path: Path) -> None:
    archive = pack(tmp_path / "old.zip", {"кошка.png": encoded(scene(1))})
    raw = bytearray(archive.read_bytes())
    for mark, offset in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        raw[raw.find(mark) + offset] &= ~0x08  # UTF-8 bytes without the flag that says so
    archive.write_bytes(bytes(raw))
    assert import_pictures(project, [archive]).added == ["кошка.png"]


# ---------------------------------------------------------------- uploads


def test_uploads_find_their_captions_and_archives_are_opened(project: Project, tmp_path: Path) -> None:
    archive = pack(tmp_path / "z.zip", {"c.png": encoded(scene(3)), "c.txt": "in the archive"})
    report = import_uploads(
        project,
        [
            ("a.png", encoded(scene(1))), ("a.txt", b"beside it"), ("folder/b.jpg", encoded(scene(2), "JPEG")), ("folder/b.txt", b"also"),
            ("z.zip", archive.read_bytes()), ("bad.png", b"text"), ("../evil.png", encoded(scene(4))),
        ],
    )  # fmt: skip
    assert sorted(report.added) == ["a.png", "b.jpg", "c.png", "evil.png"]
    assert report.captions_taken == 3 and codes(report) == {"bad.png": "not-a-picture"}
    assert CaptionStore(project).get("b.jpg").text == "also"


# ---------------------------------------------------------------- captions in lists


def texts(project: Project) -> dict[str, str]:
    return {n: c.text for n, c in CaptionStore(project).all().items()}


def test_captions_come_along_in_lists_of_every_kind(project: Project, tmp_path: Path) -> None:
    s = tmp_path / "s"
    for i, name in enumerate(
        ["a.png", "b.png", "deep/c.png", "deep/d.png", "e.png", "deep/er/f.png", "g.png"]
    ):
        write(s / name, scene(i))
    (s / "b.txt").write_text("beside b")
    (s / "metadata.jsonl").write_text(
        '{"file_name": "a.png", "text": "listed a"}\n{"file_name": "b.png", "text": "listed b"}\n\n'
        '{"file_name": "deep/c.png", "text": "listed c"}\n'
    )
    (s / "deep" / "captions.json").write_text('[{"image": "./d.png", "caption": "in a list, d"}]')
    (s / "meta_cap.json").write_text(
        '{"/home/other/set/e": {"caption": "kohya e", "tags": "cat, sofa"}, "deep\\\\er\\\\f.png": {"tags": "only tags"}}'
    )
    (s / "g.json").write_text('{"file_name": "g.png", "caption": "its own", "id": 4}')
    (s / "package.json").write_text('{"scripts": {"a": "b"}}')
    report = import_pictures(project, [s])
    assert not report.refused and report.captions_taken == 7
    assert texts(project) == {
        "a.png": "listed a", "b.png": "beside b", "c.png": "listed c", "d.png": "in a list, d",
        "e.png": "kohya e, cat, sofa", "f.png": "only tags", "g.png": "its own",
    }  # fmt: skip


def test_lists_count_in_archives_and_uploads_too(project: Project, tmp_path: Path) -> None:
    listed = '{"file_name": "one.png", "text": "from the list"}'
    archive = pack(tmp_path / "z.zip", {"in/one.png": encoded(scene(1)), "in/metadata.jsonl": listed})
    assert import_pictures(project, [archive]).captions_taken == 1
    report = import_uploads(
        project, [("set/two.png", encoded(scene(2))), ("set/metadata.json", b'{"two": "said of two"}')]
    )
    assert report.captions_taken == 1
    assert texts(project) == {"one.png": "from the list", "two.png": "said of two"}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1, 2]", b"\xff\xfe\x00", b"[" * 5000, b'{"file_name": "a.png"}']
)
def test_an_unreadable_list_is_named_and_the_pictures_come_in(
    project: Project, tmp_path: Path, content: bytes
) -> None:
    write(tmp_path / "s" / "a.png", scene(1))
    (tmp_path / "s" / "metadata.jsonl").write_bytes(content)
    (tmp_path / "s" / "unrelated.json").write_bytes(content)
    report = import_pictures(project, [tmp_path / "s"])
    assert report.added == ["a.png"] and codes(report) == {"metadata.jsonl": "captions-unreadable"}


def test_a_list_with_wrong_lines_gives_what_the_others_say_and_names_those(
    project: Project, tmp_path: Path
) -> None:
    for n, name in enumerate(("a.png", "b.png", "c.png")):
        write(tmp_path / "s" / name, scene(n))
    (tmp_path / "s" / "metadata.jsonl").write_bytes(
        b'\xef\xbb\xbf{"file_name": "a.png", "text": "said of a"}\n{broken\n\n\xff\xfe\n[1]\n'
        b'{"file_name": "../../etc/passwd", "text": "x"}\n{"file_name": "c.png", "text": null}\n'
        b'{"file_name": "b.png", "text": "said of b"}\n'
    )
    report = import_pictures(project, [tmp_path / "s"])
    assert texts(project) == {"a.png": "said of a", "b.png": "said of b", "c.png": ""}
    assert codes(report) == {"metadata.jsonl": "captions-in-part"}
    assert "Lines 2, 4 cannot be read" in report.refused[0].why
    assert report.words == "3 pictures added, 2 with a caption, 1 caption list read in part."


@pytest.mark.parametrize("way", ["folder", "file", "archive", "uploads"])
def test_words_find_their_picture_however_accents_are_written(
    project: Project, tmp_path: Path, way: str
) -> None:
    """macOS writes \u00e9 as e and an accent; the caption was written elsewhere."""
    picture, words = unicodedata.normalize("NFD", "\u00e9t\u00e9.png"), "\u00e9t\u00e9.txt"
    content = {picture: encoded(scene(1)), words: b"in summer"}
    if way == "archive":
        import_pictures(project, [pack(tmp_path / "z.zip", content)])
    elif way == "uploads":
        import_uploads(project, list(content.items()))
    else:
        (tmp_path / "s").mkdir()
        for name, raw in content.items():
            (tmp_path / "s" / name).write_bytes(raw)
        import_pictures(project, [tmp_path / "s" if way == "folder" else tmp_path / "s" / picture])
    assert texts(project) == {"\u00e9t\u00e9.png": "in summer"}


@pytest.mark.parametrize("way", ["folder", "file", "archive", "uploads"])
def test_a_text_too_long_for_a_caption_is_told_and_not_cut(
    project: Project, tmp_path: Path, way: str
) -> None:
    content = {"a.png": encoded(scene(1)), "a.txt": "\u6f22".encode() * 30_000, "b.txt": b"x" * 90_000}
    if way == "archive":
        report = import_pictures(project, [pack(tmp_path / "z.zip", content)])
    elif way == "uploads":
        report = import_uploads(project, list(content.items()))
    else:
        (tmp_path / "s").mkdir()
        for name, raw in content.items():
            (tmp_path / "s" / name).write_bytes(raw)
        report = import_pictures(project, [tmp_path / "s" if way == "folder" else tmp_path / "s" / "a.png"])
    assert texts(project) == {"a.png": ""}
    assert list(codes(report).values()) == ["caption-too-long"]


def test_names_in_any_script_come_in_safely(project: Project, tmp_path: Path) -> None:
    odd = [
        "שלום.png",
        "مرحبا.png",
        "👩‍🎨 art.png",
        "con.png",
        "NUL.jpg",
        "a:b?.png",
        " spaced .png",
        "x" * 240 + ".png",
        "é.png",
        "é.png",
    ]
    archive = pack(tmp_path / "z.zip", {f"{i}/{n}": encoded(scene(i)) for i, n in enumerate(odd)})
    report = import_pictures(project, [archive])
    assert len(report.added) == len(odd) and not report.refused
    stems = [Path(n).stem.casefold() for n in report.added]
    assert len(set(stems)) == len(odd) and not {"con", "nul"} & set(stems)
    assert all(not set(n) & set('<>:"/\\|?*') and len(n.encode()) <= 200 for n in report.added)


def test_a_damaged_stream_inside_an_archive_is_refused_by_name(project: Project, tmp_path: Path) -> None:
    archive = pack(tmp_path / "z.zip", {"a.bmp": encoded(scene(1), "BMP"), "b.bmp": encoded(scene(2), "BMP")})
    raw = bytearray(archive.read_bytes())
    at = raw.find(b"b.bmp") + 5
    raw[at : at + 40] = b"\xff" * 40  # no deflate stream begins like this
    archive.write_bytes(bytes(raw))
    report = import_pictures(project, [archive])
    assert report.added == ["a.bmp"] and list(codes(report).values()) == ["unreadable"]


# ---------------------------------------------------------------- HEIC, with the optional plugin or without


_HEIC = (
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAX1tZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAA"
    "ACJpbG9jAAAAAERAAAEAAQAAAAABoQABAAAAAAAAAGUAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRt"
    "AAAAAAABAAAA/WlwcnAAAADdaXBjbwAAAHZodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMA"
    "AAMAHroCQGEAAQAqQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbq5Ka5uAhoMCAAAAMDIAAAAwAhYgABAAZEAcFzwIkAAAATY29scm5j"
    "bHgAAQANAAaAAAAAFGlzcGUAAAAAAAAAQAAAAEAAAAAoY2xhcAAAAEAAAAABAAAAKAAAAAEAAAAAAAAAAv///+gAAAACAAAAEHBp"
    "eGkAAAAAAwgICAAAABhpcG1hAAAAAAAAAAEAAQWBAgMFhAAAAG1tZGF0AAAAYSgBrwQY+MpBoO+4boMvK1WHDtjPzKYdJ8Az9MyX"
    "DgQLJKx+LXAuvRFaIkl3vO0JW8YbhOPbx3gEAv9M5dmjfeKZey1uSMi2zYWsEUDwB7761AL/JoRTg5gA4gK5O341MDw="
)
"""A real HEIC picture of 64 x 40 px."""


def test_heic_comes_in_where_it_can_be_read_and_is_named_where_not(project: Project, tmp_path: Path) -> None:
    path = write(tmp_path / "phone.heic", base64.b64decode(_HEIC))
    report = import_pictures(project, [path])
    if find_spec("pi_heif") or find_spec("pillow_heif"):
        assert report.added == ["phone.heic"]
        (seen,) = scan(project).readable
        assert (seen.width, seen.height, seen.format) == (64, 40, "HEIF")
        assert make(project, ["phone.heic"], "convert").changed == ["phone.jpg"]
        assert scan(project).pictures[0].format == "JPEG"
    else:
        assert codes(report) == {"phone.heic": "not-supported"} and "pi-heif" in report.refused[0].fix
