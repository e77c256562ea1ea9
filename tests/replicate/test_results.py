"""What comes back from a training, taken apart without a server: archives that are not what they should be, names that are
taken, answers that say little, a program that fails inside."""

from __future__ import annotations

import io
import os
import tarfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from studio.cli.sd35l import app
from studio.errors import InputError
from studio.replicate import weights
from studio.replicate.answers import detail


def _tar(path: Path, members: dict[str, bytes], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("names", "taken"),
    [
        (["out/run_000250.safetensors", "out/run.safetensors"], "out/run.safetensors"),
        (["a.safetensors", "x/LORA.safetensors"], "x/LORA.safetensors"),
        (
            ["../../etc/lora.safetensors", "config.yaml"],
            "../../etc/lora.safetensors",
        ),  # its name is never a path
    ],
)
def test_the_final_lora_of_several(tmp_path: Path, names: list[str], taken: str) -> None:
    archive = _tar(tmp_path / "a.tar.gz", {n: n.encode() for n in names}, "w:gz")
    weights.take_lora(archive, tmp_path / "in" / "got.safetensors")
    assert (tmp_path / "in" / "got.safetensors").read_bytes() == taken.encode()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "in"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"PK\x03\x04rest", "ZIP or pickle"),
        (b"\x80\x02}q\x00.", "ZIP or pickle"),
    ],
)
def test_what_is_never_opened(tmp_path: Path, content: bytes, said: str) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(InputError, match=said):
        weights.take_lora(tmp_path / "a", tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_archives_without_one_clear_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(said: str, members: dict[str, bytes]) -> None:
        with pytest.raises(InputError, match=said):
            weights.take_lora(_tar(tmp_path / "a.tar", members), tmp_path / "got")
        assert not (tmp_path / "got").exists()

    refused("no .safetensors file", {"log.txt": b"x"})
    refused("2 .safetensors files", {"a.safetensors": b"x", "b.safetensors": b"y"})
    monkeypatch.setattr(weights, "MAX_MEMBERS", 2)
    refused("more than 2 entries", {f"{n}.txt": b"" for n in range(3)})
    monkeypatch.setattr(weights, "MAX_LORA", 4)
    refused("larger than", {"a.safetensors": b"12345"})


def test_a_damaged_archive(tmp_path: Path) -> None:
    archive = _tar(tmp_path / "a.tar", {"a.safetensors": os.urandom(40_000)})
    archive.write_bytes(archive.read_bytes()[:20_000])
    with pytest.raises(InputError, match=r"damaged|cut off|could not be read"):
        weights.take_lora(archive, tmp_path / "got")
    assert not (tmp_path / "got").exists()


@pytest.mark.parametrize("links", [True, False])
def test_a_name_that_is_taken_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    if not links:  # as on exFAT

        def no_links(*_: Any) -> None:
            raise PermissionError("no links here")

        monkeypatch.setattr(os, "link", no_links)
    target = tmp_path / "lora.safetensors"
    target.write_bytes(b"the user's own")
    (tmp_path / "new").write_bytes(b"the new one")
    kept = weights._keep(tmp_path / "new", target)
    assert kept.name == "lora-2.safetensors"
    assert (target.read_bytes(), kept.read_bytes()) == (b"the user's own", b"the new one")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"detail": "No such model."}', "No such model."),
        (b'{"title": "Oh"}', "Oh"),
        (b'{"error": {"code": 7}}', '{"code": 7}'),
        (b'["a list"]', ""),
        (b"<html>", ""),
        (b"\xff\xfe", ""),
    ],
)
def test_what_an_answer_says(content: bytes, said: str) -> None:
    assert detail(httpx.Response(400, content=content)) == said


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (KeyboardInterrupt(), 130, "Stopped by Ctrl-C"),
        (BrokenPipeError(), 0, ""),
        (PermissionError(13, "Permission denied", "/etc/shadow"), 6, "Permission denied"),
        (ZeroDivisionError("in the middle"), 1, "ZeroDivisionError: in the middle"),
    ],
)
def test_a_program_that_fails_inside_says_so_in_words(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    def fails(**_: Any) -> None:
        raise error

    monkeypatch.setattr(app.cli, "main", fails)
    assert app.main(["list"]) == code
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
