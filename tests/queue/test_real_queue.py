"""The queue with real jobs: ten in a row on one place, two windows that change it meanwhile, and a computer that is switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from studio import launch, queue, reattach
from studio.errors import StudioError
from studio.jobs import disk
from studio.project import Project, open_project
from studio.queue import book, runner
from studio.training.kohya import KohyaBackend
from studio.training.runs import Run, list_runs
from studio.workspace import Workspace
from tests.jobs.conftest import all_killed, processes_of, until
from tests.queue.test_queue import Desk
from tests.training.sdscripts.kohya_project import ready_project

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in's Python is a shell script")


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    """A project of sd-scripts behind four gates that pass; only the dry run's figures are written by hand."""
    return ready_project(workspace, tmp_path, how="slow", epochs=3, repeats=1)


# Says when it begins and, once it may, when it ends; the third to end fails.
DIARIST = """
import os, sys, time
diary, run = sys.argv[1:]
book = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(book, f"began {run}\\n".encode())
while not os.path.exists(diary + ".go"):
    time.sleep(0.02)
os.write(book, f"ended {run}\\n".encode())
sys.exit(open(diary).read().count("ended") == 3)
"""


def test_ten_real_jobs_one_at_a_time(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gates, launch, supervisors and locks are the real ones. While the first runs, two windows change the order, and a third
    tries to start a training beside it."""
    workspace, diary = project.workspace, tmp_path / "diary"
    monkeypatch.setattr(
        KohyaBackend,
        "command",
        lambda _s, plan: [sys.executable, "-S", "-c", DIARIST, str(diary), plan.run_folder.name],
    )
    order = [queue.add(project).id for _ in range(11)]
    refused: list[str] = []

    def windows() -> None:
        """Press buttons, some of which show what is not so any more."""
        until(diary.exists)
        last, unwanted = order[10], order[5]
        queue.move(workspace, last, 1)
        queue.remove(workspace, unwanted)
        order.insert(1, order.pop(10))
        order.remove(unwanted)
        for press in (
            lambda: queue.remove(workspace, order[0]),
            lambda: queue.move(workspace, order[0], 2),
            lambda: queue.move(workspace, unwanted, 1),
            lambda: launch.start_training(project),
        ):
            try:
                press()
            except StudioError as e:
                refused.append(e.what)
        (tmp_path / "diary.go").touch()

    class Patient(Desk):
        """Waits for the run at hand instead of two seconds."""

        def sleep(self, _seconds: float) -> bool:
            if not refused:
                windows()
            for run in list_runs(project)[:1]:
                run.job.wait(60)
            return super().sleep(0)

    done = runner.serve(Patient(), {"workspace": str(workspace.root)})  # type: ignore[arg-type]
    assert done == {"started": 10, "refused": 0}
    assert [r.split(" ", 1)[1] for r in refused[:2]] == ["cannot be removed.", "cannot be moved."]
    assert "nothing called" in refused[2] and "Another training is going on" in refused[3]
    by_id = {i.id: i for i in queue.items(workspace)}
    assert [by_id[i].state for i in order] == ["finished"] * 2 + ["failed"] + ["finished"] * 7
    told = [line.split() for line in diary.read_text().splitlines()]
    assert told == [[word, by_id[i].run] for i in order for word in ("began", "ended")], (
        "in order, one at a time"
    )
    assert len(list_runs(project)) == 10


def test_a_computer_that_is_switched_off_goes_on_with_the_next(project: Project, tmp_path: Path) -> None:
    """Everything is ended at once, as by a power cut, while the first of two runs of sd-scripts trains. The ids that were noted
    belong to others afterwards. When the app starts again the first is told truly, and can be resumed; the second trains."""
    workspace = project.workspace
    first, second = queue.add(project).id, queue.add(project).id
    at_work = queue.wake(workspace)
    assert at_work is not None

    def item(which: str) -> queue.Item:
        return next(i for i in queue.items(workspace) if i.id == which)

    def steps(run: Run) -> list[int]:
        return [e["step"] for e in run.events()[0] if e.get("type") == "step"]

    until(lambda: item(first).run or not at_work.is_alive, 120)
    assert item(first).state == "running", (item(first), at_work.log_tail())
    run = Run(project.runs_dir / item(first).run)
    until(lambda: len(list((run.folder / "checkpoints").glob("*-state"))) > 0 or not run.job.is_alive, 120)
    assert run.job.state == "running", run.job.log_tail()
    until(lambda: all_killed(workspace.root))
    until(lambda: run.job.state == at_work.state == "interrupted")
    assert item(first).state == "running" and item(second).state == "waiting", "nobody was there to note it"

    stranger = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)", "stranger"])
    try:
        for job in (run.job, at_work):
            told = disk.read_json(job.folder / "process.json") or {}
            disk.write_json(
                job.folder / "process.json", {**told, "supervisor": stranger.pid, "worker": stranger.pid}
            )
        (tmp_path / "sd" / "how").write_text("")
        reattach.reattach(workspace)  # the two that the app does when it starts
        again = queue.wake(workspace)
        assert again is not None and again != at_work
        assert queue.wake(workspace) == again, "one works the queue off, not two"
        assert again.wait(120) == "finished", again.log_tail()
        assert stranger.poll() is None, "nobody's process was touched"
    finally:
        stranger.kill()
        stranger.wait()
    assert again.result == {"started": 1, "refused": 0}
    assert (item(first).state, item(first).why) == ("failed", "The job was interrupted.")
    assert item(second).state == "finished", item(second)
    trained = Run(project.runs_dir / item(second).run)
    assert steps(trained) == list(range(1, trained.manifest["steps"]["total"] + 1))
    assert trained.checkpoints()[-1].final
    assert run.resumable and run.checkpoints()
    # As the page does it: the environment is asked in a job, and its verdict is what resuming goes by.
    check = launch.check_before_resuming(project)
    assert (check.wait(60), check.result) == ("finished", {"passed": True}), check.log_tail()
    assert launch.resume_run(project, run.id, checked=True).job.wait(120) == "finished", run.job.log_tail()
    assert sorted(set(steps(run))) == steps(trained), "from its last state to the end, with the same totals"
    # A runner that ends while it starts a run finds that run again, and does not train it twice.
    book.update(workspace, second, state="checking", run="")
    runner.serve(Desk(), {"workspace": str(workspace.root)})  # type: ignore[arg-type]
    assert (item(second).state, item(second).run) == ("finished", trained.id)
    assert list_runs(open_project(workspace, project.slug)) == [trained, run]
    until(lambda: not processes_of(workspace.root))
