"""Registered LoRAs in the folders of other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.errors import InputError, NotFoundError
from studio.library.entry import LibraryEntry
from studio.library.places import put_into
from studio.library.register import register
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture
def entry(workspace: Workspace, tmp_path: Path) -> LibraryEntry:
    project = worlds.project(workspace, worlds.pictures(tmp_path / "in"))
    run = worlds.run(project)
    return register(project, worlds.grid(project, run), run, weight=0.7)


@pytest.mark.parametrize("below", ["models/loras", "models/Lora", ""])
def test_the_file_goes_with_what_browsers_read(
    workspace: Workspace, entry: LibraryEntry, tmp_path: Path, below: str
) -> None:
    program = tmp_path / "program"
    (program / below).mkdir(parents=True)
    placed = put_into(workspace, entry, program)
    assert placed.file.parent == program / below and not placed.linked
    assert placed.file.read_bytes() == entry.file(workspace).read_bytes()
    names = {p.name for p in placed.file.parent.iterdir()}
    assert names == {f"{entry.name}.safetensors", f"{entry.name}.json", f"{entry.name}.preview.png"}
    assert put_into(workspace, entry, program).file == placed.file, "the same again changes nothing"
    placed.file.write_bytes(b"another")
    with pytest.raises(InputError, match="another file"):
        put_into(workspace, entry, program)
    assert placed.file.read_bytes() == b"another"


def test_a_link_shares_the_bytes(workspace: Workspace, entry: LibraryEntry, tmp_path: Path) -> None:
    placed = put_into(workspace, entry, tmp_path, link=True)
    assert placed.linked == placed.file.samefile(entry.file(workspace))
    with pytest.raises(NotFoundError, match="no folder"):
        put_into(workspace, entry, tmp_path / "nowhere")
