"""Two windows on the run page of one project, each of which still shows what the other has changed. The jobs are real."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from studio import launch, queue
from studio.errors import BusyError
from studio.project import Project
from studio.queue import runner
from studio.training.kohya import KohyaBackend
from studio.training.runs import list_runs
from studio.workspace import Workspace
from tests.jobs.conftest import processes_of, until
from tests.pages.app import labels, open_page, sound, texts
from tests.training.sdscripts.kohya_project import ready_project

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the stand-in's Python is a shell script")


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """All gates of a project of sd-scripts pass; a training is a process that only waits to be stopped."""
    made = ready_project(workspace, tmp_path)
    idle = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
    monkeypatch.setattr(KohyaBackend, "command", lambda _s, plan: [*idle, str(plan.run_folder)])
    return made


def test_both_start_stop_and_resume(project: Project) -> None:
    here, there = (open_page("run", project.slug) for _ in range(2))
    sound(here.button(key="start").click().run())
    sound(
        there.button(key="start").click().run()
    )  # it still showed the button, and shows the training instead
    [run] = list_runs(project)
    assert run.job.is_alive and run.id in texts(there) and "stop_now" in {b.key for b in there.button}

    there = open_page("run", project.slug)
    sound(here.button(key="stop_now").click().run())
    assert run.job.wait(60) == "stopped"
    sound(there.button(key="stop_now").click().run())
    assert f"{run.id} is not running." in texts(there)

    here, there = (open_page("run", project.slug) for _ in range(2))
    sound(here.button(key="resume").click().run())
    check = here.session_state[f"resume_check_{run.id}"]
    sound(there.button(key="resume").click().run())
    for job in (check, there.session_state[f"resume_check_{run.id}"]):
        assert job.wait(120) == "finished", job.log_tail()
    sound(here.run())
    assert run.job.is_alive and run.job.attempt == 2
    sound(there.run())
    assert run.job.attempt == 2, "one went on with it, not both"
    assert "Training now" in "".join(o.content for o in there.segmented_control(key="run_view").proto.options)
    run.job.stop()
    assert run.job.wait(60) == "stopped"
    until(lambda: not processes_of(run.folder))


def test_of_those_who_start_at_the_same_moment_one_trains(project: Project) -> None:
    told: list[object] = []
    together = threading.Barrier(3)

    def press() -> None:
        together.wait()
        try:
            told.append(launch.start_training(project).id)
        except BusyError as e:
            told.append(e)

    windows = [threading.Thread(target=press) for _ in range(3)]
    for w in windows:
        w.start()
    for w in windows:
        w.join()
    [run] = list_runs(project)
    assert sorted(isinstance(t, BusyError) for t in told) == [False, True, True] and run.id in told
    run.job.stop()
    assert run.job.wait(60) == "stopped"


def test_both_order_the_queue(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "launch_call", lambda *_a, **_k: None)  # nobody works it off
    workspace = project.workspace
    a, b, c = (queue.add(project).id for _ in range(3))
    here, there = (open_page("run", project.slug) for _ in range(2))
    sound(here.button(key=f"q_Earlier_{c}").click().run())
    sound(there.button(key=f"q_out_{b}").click().run())
    assert [i.id for i in queue.waiting(workspace)] == [a, c]
    sound(here.button(key=f"q_Earlier_{b}").click().run())  # it still showed that one
    assert f"There is nothing called '{b}' in the queue." in texts(here)
    assert f"q_out_{b}" not in {x.key for x in here.button}, "and now it shows what is so"
    queue.book.update(workspace, a, state="running", run="run-1")
    sound(there.button(key=f"q_out_{a}").click().run())
    assert f"{a} cannot be removed." in texts(there)
    assert [i.id for i in queue.items(workspace)] == [a, c]
    assert "Add to the queue" in labels(here) or "Training now" in texts(here)
