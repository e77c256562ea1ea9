"""Whoever kills the process in the middle of an import finds whole files only, and the next import completes it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio.captions.store import CaptionStore
from studio.dataset.intake import import_pictures
from studio.dataset.scan import scan
from studio.dataset.set_aside import remove_pictures, restore_pictures, set_aside_list
from studio.dataset.tasks import start_import
from studio.project import Project
from tests.dataset.pictures import folder_of

COUNT = 40
_SLOWLY = """
import sys, time
from pathlib import Path
from studio.dataset import batch
from studio.dataset.intake import import_pictures
from studio.project import open_project
from studio.workspace import Workspace

batch.FILES = int(sys.argv[3])
project = open_project(Workspace(Path(sys.argv[1])), "mira")
print("ready", flush=True)
import_pictures(project, [Path(sys.argv[2])], progress=lambda done, total, label: (print(done, flush=True), time.sleep(0.01)))
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
@pytest.mark.parametrize(("after", "batch"), [(1, 1), (13, 4), (27, 1000)])
def test_killed_in_the_middle_of_an_import(project: Project, tmp_path: Path, after: int, batch: int) -> None:
    source = folder_of(tmp_path / "s", COUNT, size=(60, 40))
    child = subprocess.Popen(
        [sys.executable, "-c", _SLOWLY, str(project.workspace.root), str(source), str(batch)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == str(after):
            break
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    came = [p for p in project.dataset_dir.iterdir() if not p.name.startswith(".")]
    assert len(came) < 2 * COUNT
    for path in came:
        assert path.read_bytes() == (source / path.name).read_bytes()
    report = import_pictures(project, [source])
    assert len(report.added) + len(report.already_there) == COUNT and not report.renamed
    seen = scan(project)
    assert [p.name for p in seen] == sorted(p.name for p in source.glob("*.png"))
    assert all(p.error is None and p.caption for p in seen)


def test_temporary_files_of_a_killed_import_are_swept(project: Project, tmp_path: Path) -> None:
    old, new = project.dataset_dir / ".import-old.tmp", project.dataset_dir / ".import-new.tmp"
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    import_pictures(project, [folder_of(tmp_path / "s", 1)])
    assert not old.exists() and new.exists()


def test_an_interrupted_move_is_finished(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_pictures(project, [folder_of(tmp_path / "s", 3)])
    real, calls = os.replace, []

    def dies_at(n: int):  # type: ignore[no-untyped-def]
        def replace(a: object, b: object) -> None:
            if "p01" in str(b):
                calls.append(b)
                if len(calls) == n:
                    raise KeyboardInterrupt
            real(a, b)  # type: ignore[arg-type]

        return replace

    monkeypatch.setattr(os, "replace", dies_at(2))  # the caption has moved, the picture has not
    with pytest.raises(KeyboardInterrupt):
        remove_pictures(project, ["p01.png"])
    monkeypatch.setattr(os, "replace", real)
    assert not (project.dataset_dir / "p01.txt").exists()
    assert scan(project).get("p01.png").caption == "mirastyle, thing1"  # type: ignore[union-attr]
    assert set_aside_list(project) == []

    remove_pictures(project, ["p01.png"])
    calls.clear()
    monkeypatch.setattr(os, "replace", dies_at(2))
    with pytest.raises(KeyboardInterrupt):
        restore_pictures(project, ["p01.png"])
    monkeypatch.setattr(os, "replace", real)
    assert restore_pictures(project, ["p01.png"]) == {"p01.png": "p01.png"}
    assert CaptionStore(project).get("p01.png").text == "mirastyle, thing1"


def test_an_import_as_a_job(project: Project, tmp_path: Path) -> None:
    job = start_import(project, [folder_of(tmp_path / "s", 3)])
    job.wait(60)
    assert job.state == "finished", job.error
    assert job.result is not None and job.result["added"] == ["p00.png", "p01.png", "p02.png"]
    assert scan(project).looked_at == 0  # the job looked at them already
