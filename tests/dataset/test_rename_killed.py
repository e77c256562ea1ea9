"""A process killed at any step of renaming pictures: the next look finishes it, with approval, author and repeats."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from studio import files
from studio.captions.store import CaptionStore
from studio.dataset.fixes import fix_finding
from studio.dataset.origins import picture_repeats
from studio.dataset.scan import scan
from studio.dataset.subsets import set_repeats
from studio.project import Project
from tests.dataset.pictures import scene, write

pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills with a signal")

# The child renames for real; a forked copy of it dies at each step in turn, by the signal that nothing can catch.
_CHILD = """
import os, signal, sys
from pathlib import Path
from studio.captions.journal import Journal
from studio.dataset.fixes import fix_finding
from studio.project import open_project
from studio.workspace import Workspace

project, number, calls = open_project(Workspace(Path(sys.argv[1])), "mira"), int(sys.argv[2]), []

def dies(owner, name):
    real = getattr(owner, name)
    def instead(*a, **k):
        calls.append(name)
        if len(calls) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*a, **k)
    setattr(owner, name, instead)

dies(os, "replace"), dies(Path, "rename"), dies(Path, "unlink"), dies(Journal, "_append")
fix_finding(project, "rename", ["p1.jpg", "p1.png"])
"""


@pytest.mark.parametrize("step", [2, 4, 5, 6])
def test_killed_while_renaming(project: Project, step: int) -> None:
    """Of two pictures that share a caption one gets another name. Killed before: (1 the plan), 2 the caption's copy,
    (3 the picture's name), 4 its origin, 5 its history, 6 the end of the plan."""
    d = project.dataset_dir
    write(d / "p1.jpg", scene(1), "mirastyle, thing")
    write(d / "p1.png", scene(2))
    CaptionStore(project).approve(["p1.jpg", "p1.png"])
    set_repeats(project, ["p1.png"], 3)
    second = (d / "p1.png").read_bytes()
    child = subprocess.run(
        [sys.executable, "-c", _CHILD, str(project.workspace.root), str(step)],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert child.returncode == -signal.SIGKILL, child.stderr
    assert files.read_json(project.folder / "renaming.json") == {"p1.png": "p1-2.png"}
    assert [p.name for p in scan(project)] == ["p1-2.png", "p1.jpg"]
    assert (d / "p1-2.png").read_bytes() == second
    told = {n: (c.text, c.status, c.author) for n, c in CaptionStore(project).all().items()}
    assert told == dict.fromkeys(("p1-2.png", "p1.jpg"), ("mirastyle, thing", "approved", "import"))
    assert picture_repeats(project) == {"p1-2.png": 3}
    assert not (project.folder / "renaming.json").exists()
    assert fix_finding(project, "rename", ["p1.jpg"]) == []


def test_a_plan_damaged_by_hand_is_passed_over(project: Project) -> None:
    write(project.dataset_dir / "p1.png", scene(1))
    (project.folder / "renaming.json").write_text("{")
    assert len(scan(project)) == 1 and not (project.folder / "renaming.json").exists()
