from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio import files
from studio.errors import EnvironmentalError, InputError


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError), files.atomic_file(target) as f:
        f.write(b"half of the new")
        raise RuntimeError
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_killed_writer_leaves_whole_files(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    code = (
        "import sys; from pathlib import Path; from studio import files\n"
        "n = 0\n"
        "while True:\n"
        "    n += 1; files.write_json(Path(sys.argv[1]), {'n': n, 'body': 'x' * 20000})\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(target)], cwd=Path(__file__).parent.parent)
    try:
        deadline = time.monotonic() + 30
        while not target.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
    assert len(files.read_json(target)["body"]) == 20000


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_told_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.fdopen

    def full(handle: int, mode: str) -> object:
        os.close(handle)
        return real(os.open("/dev/full", os.O_WRONLY), mode)

    monkeypatch.setattr(os, "fdopen", full)
    with pytest.raises(EnvironmentalError) as told:
        files.write_text(tmp_path / "a.txt", "x" * 100)
    assert "No space left" in told.value.why and "Free some room" in told.value.fix
    assert list(tmp_path.iterdir()) == []


def test_damaged_files_are_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("{")
    (tmp_path / "a.yaml").write_text("a: [")
    for name, read in (("a.json", files.read_json), ("a.yaml", files.read_yaml)):
        with pytest.raises(InputError, match=name):
            read(tmp_path / name)
    assert files.read_json(tmp_path / "none.json") is None


def test_yaml_cannot_make_objects(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("!!python/object/apply:os.system ['echo x']")
    with pytest.raises(InputError):
        files.read_yaml(tmp_path / "a.yaml")


def test_jsonl_goes_on_from_where_it_was(tmp_path: Path) -> None:
    log = tmp_path / "e.jsonl"
    files.append_jsonl(log, {"n": 1})
    first, offset = files.read_jsonl(log)
    with log.open("ab") as f:
        f.write(b'{"n": 2}\nnot json\n{"n": 3')
    second, offset = files.read_jsonl(log, offset)
    with log.open("ab") as f:
        f.write(b"}\n")
    third, _ = files.read_jsonl(log, offset)
    assert [first, second, third] == [[{"n": 1}], [{"n": 2}], [{"n": 3}]]


@pytest.mark.parametrize(
    ("text", "slug"),
    [
        ("Mira's Style!", "mira-s-style"),
        ("  ", "untitled"),
        ("../../etc", "etc"),
        ("CON", "con-1"),
        ("絵 cat", "絵-cat"),
        ("a" * 99, "a" * 60),
        ("a_b", "a-b"),
    ],
)
def test_slug(text: str, slug: str) -> None:
    assert files.slug(text) == slug


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../x"])
def test_inside_refuses_ways_out(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="outside"):
        files.inside(tmp_path, name)


def test_inside_refuses_links_out(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError):
        files.inside(tmp_path / "room", "link/x")


def test_figures_for_people() -> None:
    assert [files.human_size(n) for n in (812, 6_500, 6_500_000_000)] == ["812 bytes", "6.5 KB", "6.5 GB"]
    sold = (812, 900 * 2**20, 24 * 2**30, 12_884_901_888 - 3 * 2**20, int(23.56 * 2**30))
    assert [files.human_memory(n) for n in sold] == ["812 bytes", "900 MB", "24 GB", "12 GB", "23.6 GB"]
    assert [files.human_time(s) for s in (-1, 45, 200, 4800, 7200)] == [
        "0 s",
        "45 s",
        "3 min",
        "80 min",
        "2 h",
    ]
