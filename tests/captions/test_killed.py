"""A process that is killed, at every stage of a bulk edit: each caption is before or after, and undo is still right."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from studio.captions.store import CaptionStore
from studio.project import Project
from tests.dataset.pictures import encoded, scene

COUNT = 200
pytestmark = pytest.mark.skipif(os.name == "nt", reason="kills with a signal")


@pytest.fixture
def many(project: Project) -> Project:
    """Two hundred captions of every author; the last edit before the kill made `first`."""
    picture = encoded(scene(1, (8, 8)))
    for i in range(COUNT):
        (project.dataset_dir / f"p{i}.png").write_bytes(picture)
        if i % 4:
            (project.dataset_dir / f"p{i}.txt").write_text(f"mirastyle, thing {i}")
    store = CaptionStore(project)
    store.set_many({f"p{i}.png": f"first {i}" for i in range(0, COUNT, 2)}, what="first")
    return project


def texts(project: Project) -> dict[str, str]:
    return {p.stem: p.read_text(encoding="utf-8") for p in project.dataset_dir.glob("*.txt")}


def written(project: Project) -> dict[str, str]:
    return {f"p{i}": f"mirastyle, second {i}" for i in range(COUNT)}


# The child does a real edit and dies at one stage of it, by the signal that nothing can catch.
_CHILD = """
import os, signal, sys
from pathlib import Path
from studio.captions import journal
from studio.captions.store import CaptionStore
from studio.project import open_project
from studio.workspace import Workspace

root, stage, what = sys.argv[1], sys.argv[2], sys.argv[3]
die = lambda: os.kill(os.getpid(), signal.SIGKILL)
store = CaptionStore(open_project(Workspace(Path(root)), "mira"))

def at(owner, name, number, *, after=False, half=False):
    real, calls = getattr(owner, name), []
    def dies(*a, **k):
        calls.append(a)
        if len(calls) != number:
            return real(*a, **k)
        if half:
            fd = os.open(store._cache.journal.path, os.O_WRONLY | os.O_APPEND)
            os.write(fd, b'{"op": "edit", "id": "half of a line')
        if after:
            real(*a, **k)
        die()
    setattr(owner, name, dies)

if stage == "before the history": at(journal.Journal, "_append", 1)
if stage == "inside the history": at(journal.Journal, "_append", 1, half=True)
if stage == "after the history": at(journal.Journal, "_append", 1, after=True)
if stage == "in the middle": at(os, "replace", 101)
if stage == "after the middle": at(os, "replace", 101, after=True)
if stage == "at the last": at(os, "replace", int(sys.argv[4]))
if stage == "before the mark": at(journal.Journal, "_append", 2)
if stage == "after the mark": at(journal.Journal, "_append", 2, after=True)
if what == "edit":
    store.set_many({f"p{i}.png": f"second {i}" for i in range(200)}, what="second")
else:
    getattr(store, what)()
raise SystemExit("was not killed")
"""

STAGES = {
    "before the history": False, "inside the history": False, "after the history": True, "in the middle": True,
    "after the middle": True, "before the mark": True, "after the mark": True,
}  # fmt: skip
"""Every stage, and whether the edit counts as done from there on."""


def kill(project: Project, stage: str, what: str = "edit", last: int = COUNT) -> None:
    line = [sys.executable, "-c", _CHILD, str(project.workspace.root), stage, what, str(last)]
    child = subprocess.run(line, check=False, capture_output=True, text=True)
    assert child.returncode == -signal.SIGKILL, child.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_an_edit_killed_at_any_stage(many: Project, stage: str) -> None:
    before = texts(many)
    authors = {n: (c.author, c.status) for n, c in CaptionStore(many).all().items()}
    kill(many, stage)
    for stem, text in texts(many).items():
        assert text in (before.get(stem), f"mirastyle, second {stem[1:]}"), "half a caption"
    store = CaptionStore(many)  # the next one who comes finishes or forgets it
    done = STAGES[stage]
    assert texts(many) == (written(many) if done else before)
    assert {n: c.text for n, c in store.all().items() if c.text} == {
        f"{s}.png": t for s, t in texts(many).items()
    }
    assert not any(c.outside for c in store.all().values())
    assert store.can_undo == ("second" if done else "first")
    if done:
        assert len(store.undo().changed) == COUNT and texts(many) == before
        assert {n: (c.author, c.status) for n, c in store.all().items()} == authors
        assert len(store.redo().changed) == COUNT and texts(many) == written(many)
        store.undo()
    store.undo()
    assert texts(many)["p2"] == "mirastyle, thing 2" and "p4" not in texts(many)
    leftovers = [p.name for p in many.dataset_dir.iterdir() if p.suffix == ".tmp"]
    assert len(leftovers) <= 1 and all(n.startswith(".") for n in leftovers), (
        "at most one hidden temporary file"
    )


@pytest.mark.parametrize("stage", ["inside the history", "in the middle"])
@pytest.mark.parametrize("what", ["undo", "redo"])
def test_undo_and_redo_killed_at_any_stage(many: Project, stage: str, what: str) -> None:
    before = texts(many)
    store = CaptionStore(many)
    store.set_many({f"p{i}.png": f"second {i}" for i in range(COUNT)}, what="second")
    if what == "redo":
        store.undo()
    start = texts(many)
    # the undo writes 100 captions and takes 100 away
    kill(many, stage if stage != "in the middle" or what == "redo" else "at the last", what, 60)
    store = CaptionStore(many)
    done = stage != "inside the history"
    after = before if what == "undo" else written(many)
    assert texts(many) == (after if done else start)
    assert (store.can_undo, store.can_redo) == (
        ("first", "second") if (what == "undo") == done else ("second", "")
    )
    store.redo()
    assert texts(many) == written(many)
    store.undo()
    assert texts(many) == before


_WRITER = """
import sys
from pathlib import Path
from studio.captions.store import CaptionStore
from studio.project import open_project
from studio.workspace import Workspace

store = CaptionStore(open_project(Workspace(Path(sys.argv[1])), "mira"))
print("ready", flush=True)
for n in range(1, 100_000):
    store.set_many({f"p{i}.png": f"round {n} of {i}" for i in range(200)}, what=f"round {n}")
"""


def test_a_writer_killed_at_moments_that_nobody_chose(many: Project) -> None:
    before, chance = texts(many), random.Random(7)
    for _ in range(2):
        child = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(many.workspace.root)], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None and child.stdout.readline() == "ready\n"
        time.sleep(chance.uniform(0.03, 0.35))
        child.kill()
        child.wait()
        child.stdout.close()
        store = CaptionStore(many)
        rounds = {t.split(" of ")[0] for t in texts(many).values()}
        assert len(rounds) == 1 or texts(many) == before, "all of one edit or none"
        done = store.can_undo
        assert done == "first" or rounds == {f"mirastyle, {done}"}
        while store.can_undo != "first":
            assert not store.undo().skipped
        assert texts(many) == before
    journal = many.folder / "captions" / "history.jsonl"
    assert all(
        json.loads(line)
        for line in journal.read_text().splitlines()
        if not line.startswith('{"op": "edit", "id": "half')
    )


_TAGGER = """
for b in range(0, 200, 50):
    made = {f"p{i}.png": f"tag {i}" for i in range(b, b + 50)}
    store.write_machine(made, "wd", {"t": 1}, "append", group="job-1")
"""


def test_an_engines_batches_killed_and_gone_on_with(many: Project) -> None:
    """A tagging job that died goes on with what is left, and all its batches are still undone as one."""
    before = texts(many)
    child = _CHILD.split("if what ==")[0] + _TAGGER
    line = [sys.executable, "-c", child, str(many.workspace.root), "in the middle", ""]
    assert subprocess.run(line, check=False, capture_output=True).returncode == -signal.SIGKILL
    store = CaptionStore(many)
    tagged = {f"p{i}": f"{before[f'p{i}']}, tag {i}" for i in range(COUNT)}
    assert texts(many) == {s: tagged[s] if int(s[1:]) < 150 else t for s, t in before.items()}
    done = store.write_machine(
        {f"p{i}.png": f"tag {i}" for i in range(COUNT)}, "wd", {"t": 1}, "append", group="job-1"
    )
    assert (len(done.changed), len(done.there)) == (50, 150)
    assert texts(many) == tagged
    assert len(store.undo().changed) == COUNT and texts(many) == before
    assert store.can_undo == "first"
