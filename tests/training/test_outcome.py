"""What a run came to is read once; its own record is kept while it trains, and says how it ended."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from studio import files
from studio.errors import StudioError
from studio.jobs.lifeline import JobStopped
from studio.project import Project
from studio.training import base, record
from studio.training.following import Reading
from studio.training.outcome import FILE, outcome
from studio.training.runs import Run
from studio.workspace import Workspace
from tests.pages import worlds


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


def page(project: Project, name: str = record.PROGRESS) -> str:
    return (project.records_dir / name).read_text(encoding="utf-8")


def test_an_ended_run_is_read_once(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run = worlds.run(project)
    told = outcome(run)
    with monkeypatch.context() as m:
        m.setattr(Run, "events", lambda *_: pytest.fail("the events were read again"))
        m.setattr(base, "read_header", lambda *_: pytest.fail("a checkpoint was read again"))
        assert outcome(Run(run.folder)) == told
    files.append_jsonl(run.folder / "events.jsonl", {"type": "step", "step": 66, "epoch": 5, "loss": 9.0})
    assert outcome(run).steps == 66
    (run.folder / "checkpoints" / "blueprint-000002.safetensors").unlink()
    assert outcome(run).checkpoints == told.checkpoints - 1


@pytest.mark.parametrize("damage", ["{", "[]", '{"marks": 1}', '{"outcome": {"steps": 3}}'])
def test_a_damaged_memory_is_made_anew(project: Project, damage: str) -> None:
    run = worlds.run(project)
    told = outcome(run)
    (run.folder / FILE).write_text(damage, encoding="utf-8")
    assert outcome(run) == told


def test_a_checkpoint_is_read_again_when_it_changed(project: Project) -> None:
    run = worlds.run(project)
    path = run.folder / "checkpoints" / "blueprint-000002.safetensors"
    assert [c.epoch for c in run.checkpoints()] == [1, 2, 3, 4, 5]
    worlds.lora_file(path, epoch=7, step=91)
    os.utime(path, ns=(1, 1))
    assert 7 in [c.epoch for c in run.checkpoints()]
    path.write_bytes(path.read_bytes()[:-4])  # cut off, as in the middle of a save
    assert len(run.checkpoints()) == 4


def test_what_is_new_is_read_and_nothing_twice(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    run, reading, offsets = worlds.run(project, steps=26), Reading(), []
    read = Run.events

    def reads(self: Run, offset: int = 0) -> object:
        offsets.append(offset)
        return read(self, offset)

    monkeypatch.setattr(Run, "events", reads)
    assert reading.more(run).step == 26
    files.append_jsonl(run.folder / "events.jsonl", {"type": "step", "step": 27, "epoch": 3, "loss": 0.4})
    assert reading.more(run).step == 27
    assert offsets[0] == 0 and offsets[1] > 0
    (run.folder / "events.jsonl").write_text(
        '{"type": "step", "step": 1, "epoch": 1, "loss": 1}\n', encoding="utf-8"
    )
    assert reading.more(run).steps == [1], "the file was replaced"


def test_the_record_is_kept_while_it_trains_and_says_how_it_ended(project: Project) -> None:
    run = worlds.run(project, steps=26)
    (run.folder / "exit.json").unlink()
    for error, word, status in ((None, "COMPLETE", "TRAINED"), (JobStopped(), "STOPPED", "STOPPED"),
                                (StudioError("x", "y", "z"), "FAILED", "FAILED")):  # fmt: skip
        try:
            with record.recorded(run.folder):
                if error is not None:
                    raise error
                files.write_json(run.folder / "result.json", {"complete": True})
        except (JobStopped, StudioError):
            pass
        assert f"**Status**: {word}" in page(project)
        assert f"**Status**: {status} ({run.id})" in page(project, record.STATUS)
    told = page(project)
    assert "Current epoch**: 2/5" in told and "Step**: 26/65" in told and "started: " in told
    assert "epoch 1, epoch 2" in told and " of " in told.split("Most memory in use")[1].splitlines()[0]


def test_while_it_trains_the_page_says_running(project: Project) -> None:
    run = worlds.run(project, steps=26)
    record.write(run, state="running")
    assert "**Status**: RUNNING" in page(project)
    assert "TRAINING" in page(project, record.STATUS)


def test_only_the_newest_run_speaks_and_none_from_elsewhere(project: Project, tmp_path: Path) -> None:
    old, new = worlds.run(project, run_id="run-1", steps=13), worlds.run(project, run_id="run-2")
    record.write(new)
    record.write(old)
    assert "run-2" in page(project)
    (project.records_dir / record.PROGRESS).unlink()
    with record.recorded(tmp_path / "dry-run"):
        pass
    assert not (project.records_dir / record.PROGRESS).exists()


def test_a_run_that_was_killed_is_told_by_whoever_looks(project: Project) -> None:
    run = worlds.run(project, state="failed", steps=20)
    record.write(run, state="running")
    later = (project.records_dir / record.PROGRESS).stat().st_mtime + 5
    os.utime(run.folder / "exit.json", (later, later))
    record.catch_up(run)
    assert "**Status**: FAILED" in page(project)


def test_the_status_page_follows_the_gates(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds.pass_gates(project, monkeypatch)
    assert "GATE 4 GO" in page(project, record.STATUS) and "Start the training." in page(
        project, record.STATUS
    )
