from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from PIL import Image

from studio.captions.store import CaptionStore
from studio.dataset import scan as scanning
from studio.dataset.index import Index
from studio.dataset.intake import import_pictures
from studio.dataset.scan import Scan, scan
from studio.project import Project
from tests.dataset.pictures import encoded, folder_of, scene, write


@pytest.fixture
def filled(project: Project, tmp_path: Path) -> Project:
    import_pictures(project, [folder_of(tmp_path / "s", 6)])
    return project


def test_a_scan_says_what_the_files_are(filled: Project) -> None:
    seen = scan(filled)
    assert [p.name for p in seen] == [f"p{i:02d}.png" for i in range(6)]
    first = seen.pictures[0]
    assert (first.width, first.height, first.mode, first.format, first.error) == (
        160,
        120,
        "RGB",
        "PNG",
        None,
    )
    assert first.bytes == (filled.dataset_dir / "p00.png").stat().st_size
    assert first.caption == "mirastyle, thing0"
    with Image.open(first.thumb) as thumb:
        assert thumb.format == "WEBP" and thumb.size == (160, 120)


def test_only_what_changed_is_looked_at_again(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scan(filled).looked_at == 0, "the import has seen them"
    Index(filled.cache_dir).forget()
    assert scan(filled).looked_at == 6
    looked: list[str] = []
    real = scanning.look_at
    monkeypatch.setattr(scanning, "look_at", lambda path: looked.append(path.name) or real(path))
    assert scan(filled).looked_at == 0
    write(filled.dataset_dir / "p03.png", scene(77))
    write(filled.dataset_dir / "new.png", scene(78))
    (filled.dataset_dir / "p05.png").unlink()
    after = scan(filled)
    assert sorted(looked) == ["new.png", "p03.png"]
    assert [p.name for p in after] == ["new.png", "p00.png", "p01.png", "p02.png", "p03.png", "p04.png"]
    assert "p05.png" not in Index(filled.cache_dir).rows()


def test_a_changed_caption_shows_without_looking_at_pictures(filled: Project) -> None:
    scan(filled)
    (filled.dataset_dir / "p02.txt").write_text("edited elsewhere")
    again = scan(filled)
    assert again.looked_at == 0 and again.get("p02.png").caption == "edited elsewhere"  # type: ignore[union-attr]
    CaptionStore(filled).set("p02.png", "a boat")
    assert scan(filled).get("p02.png").caption == "mirastyle, a boat"  # type: ignore[union-attr]


def test_answers_are_not_shared_between_callers(filled: Project) -> None:
    scan(filled)
    one = scan(filled)
    one.pictures.clear()
    assert len(scan(filled)) == 6


@pytest.mark.parametrize("damage", ["noise", "empty", "middle", "version", "foreign"])
def test_a_damaged_index_is_made_again(filled: Project, damage: str) -> None:
    before = [(p.name, p.sha256, p.phash) for p in scan(filled)]
    path = Index(filled.cache_dir).path
    raw = path.read_bytes()
    if damage == "noise":
        path.write_bytes(b"this is no database at all" * 100)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "middle":
        path.write_bytes(raw[:1500] + b"\xff" * (len(raw) - 1500))
    else:
        path.unlink()
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE pictures (x)")
            db.execute(f"PRAGMA user_version = {99 if damage == 'version' else 0}")
        db.close()
    scanning._known.clear()
    again = scan(filled)
    assert [(p.name, p.sha256, p.phash) for p in again] == before
    assert again.looked_at == 6
    assert scan(filled).looked_at == 0


def test_missing_thumbnails_and_a_deleted_cache_come_back(filled: Project) -> None:
    first = scan(filled).pictures[0]
    first.thumb.unlink()
    scanning._known.clear()
    assert scan(filled).looked_at == 1 and first.thumb.exists()
    import shutil

    shutil.rmtree(filled.cache_dir)
    assert scan(filled).looked_at == 6


def test_a_damaged_picture_is_reported_and_not_looked_at_every_time(filled: Project) -> None:
    raw = encoded(scene(5, (300, 200)), "JPEG")
    write(filled.dataset_dir / "cut.jpg", raw[: len(raw) // 2])
    cut = scan(filled).get("cut.jpg")
    assert cut is not None and cut.error is not None and "too early" in cut.error
    assert scan(filled).looked_at == 0
    assert [p.name for p in scan(filled).readable] == [f"p{i:02d}.png" for i in range(6)]


def test_stopping_and_going_on(project: Project, tmp_path: Path) -> None:
    folder_of(project.dataset_dir, 30, size=(40, 30))
    done: list[int] = []
    part = scan(project, lambda d, t, m: done.append(d), should_stop=lambda: bool(done))
    assert 0 < len(part) < 30
    rest = scan(project)
    assert len(rest) == 30 and rest.looked_at == 30 - len(part)


def test_two_scans_at_once_agree(filled: Project) -> None:
    answers: list[Scan] = []
    threads = [threading.Thread(target=lambda: answers.append(scan(filled))) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(answers) == 4 and all([p.sha256 for p in a] == [p.sha256 for p in answers[0]] for a in answers)


def test_hidden_files_and_subfolders_do_not_count(filled: Project) -> None:
    write(filled.dataset_dir / ".hidden.png", scene(1))
    write(filled.dataset_dir / "sub" / "x.png", scene(2))
    seen = scan(filled)
    assert len(seen) == 6 and seen.subfolders == ("sub",)


def test_an_empty_project(project: Project) -> None:
    assert len(scan(project)) == 0
    project.dataset_dir.rmdir()
    assert len(scan(project)) == 0
