"""Writing in pictures: read where the optional reader is installed, said to be unmeasured where it is not."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
from PIL import Image, ImageDraw, ImageFilter

from studio import files
from studio.dataset import lettering
from studio.dataset.audit import audit
from studio.dataset.lettering import read_writing, unread
from studio.dataset.scan import scan
from studio.dataset.unmeasured import READ_WRITING, unmeasured
from studio.errors import EnvironmentalError
from studio.project import Project
from tests.dataset.pictures import folder_of, scene, write


@pytest.fixture
def filled(project: Project) -> Project:
    folder_of(project.dataset_dir, 6, size=(400, 300))
    return project


def said(project: Project, found: dict[str, list[tuple[str, float]]]) -> None:
    """Note readings, in the format in which a check notes them."""
    seen = scan(project)
    for p in seen:
        lines = [list(x) for x in found.get(p.name, [])]
        files.append_jsonl(seen.cache / "lettering.jsonl", {"sha256": p.sha256, "lines": lines})


def test_marks_that_return_are_told_from_other_writing(filled: Project) -> None:
    assert [f.code for f in unmeasured(scan(filled), None)][-1] == "not-measured-writing"
    said(filled, {"p00.png": [("Studio Miro", 0.01)], "p01.png": [("studio miro", 0.01)], "p02.png": [("STUDIO MIRO!", 0.01)],
                  "p03.png": [("BAKERY", 0.05)], "p04.png": [("© someone", 0.01)], "p05.png": []})  # fmt: skip
    found = {f.code: f for f in audit(filled, scan(filled))}
    assert found["watermark"].severity == "warn" and found["watermark"].action == "set-aside"
    assert found["watermark"].where == ("p00.png", "p01.png", "p02.png", "p04.png")
    assert "'BAKERY'" in found["writing"].what and found["writing"].where == ("p03.png",)
    assert not [f for f in unmeasured(scan(filled), None) if f.code == "not-measured-writing"]


def test_a_changed_picture_is_unread_again_and_a_broken_line_does_no_harm(filled: Project) -> None:
    said(filled, {})
    assert unread(scan(filled)) == []
    write(filled.dataset_dir / "p02.png", scene(50))
    assert unread(scan(filled)) == ["p02.png"]
    with (filled.cache_dir / "lettering.jsonl").open("a") as f:
        f.write('{"sha256": "x", "lines": 5}\nnot json\n{"sha256"')
    assert unread(scan(filled)) == ["p02.png"]


def test_without_the_reader_the_way_to_it_is_told(filled: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lettering, "find_spec", lambda _name: None)
    with pytest.raises(EnvironmentalError, match="cannot be looked for") as e:
        read_writing(filled, scan(filled))
    assert "pip install" in e.value.fix
    note = unmeasured(scan(filled), None)[-1]
    assert "pip install" in note.fix and not note.action


@pytest.mark.slow
@pytest.mark.skipif(find_spec("rapidocr") is None, reason="the optional reader is not installed")
@pytest.mark.filterwarnings("ignore")
def test_a_real_watermark_is_read_and_a_check_goes_on_where_it_was(project: Project) -> None:
    marked = scene(3, (640, 480)).filter(ImageFilter.GaussianBlur(3))
    ImageDraw.Draw(marked).text((300, 420), "photo-stock.com", fill="white", font_size=40)
    write(project.dataset_dir / "marked.jpg", marked, "mirastyle, marked", quality=90)
    write(project.dataset_dir / "plain.png", Image.new("RGB", (300, 200), "teal"), "mirastyle, plain")
    assert unmeasured(scan(project), None)[-1].action == READ_WRITING
    done: list[int] = []
    read_writing(project, scan(project), lambda d, t, m: done.append(d), should_stop=lambda: bool(done))
    assert len(done) == 1 and unread(scan(project)) == ["plain.png"]
    assert read_writing(project, scan(project)) == 1 and read_writing(project, scan(project)) == 0
    found = {f.code: f for f in audit(project, scan(project))}
    assert found["watermark"].where == ("marked.jpg",) and "stock" in found["watermark"].what
