"""The run page: no start before four green gates; what a run says is on the page, and what ended is told truly."""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import streamlit as st
from filelock import FileLock
from streamlit.testing.v1 import AppTest

from pages.parts.run_words import day
from studio import choices, environment, files, gates, launch
from studio.captions.store import CaptionStore
from studio.compare import outcome
from studio.errors import BusyError, GateError
from studio.jobs.job import JobSpec, list_jobs
from studio.jobs.launch import launch as launch_job
from studio.project import Project
from studio.training import record
from studio.training.runs import Run, get_run
from studio.workspace import Workspace
from tests.pages import worlds
from tests.pages.app import labels, open_page, sound, tables, texts


@pytest.fixture
def project(workspace: Workspace, tmp_path: Path) -> Project:
    return worlds.project(workspace, worlds.pictures(tmp_path / "in"))


@pytest.fixture
def green(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    worlds.pass_gates(project, monkeypatch)
    return project


def _starts(at: object) -> list[str]:
    return [label for label in labels(at) if label.startswith("Start training")]  # type: ignore[arg-type]


@contextmanager
def alive(run: Run) -> Iterator[None]:
    """A run whose supervisor holds its lock."""
    (run.folder / "exit.json").unlink(missing_ok=True)
    files.write_json(run.folder / "process.json", {"attempt": 1, "pid": 1})
    files.write_json(
        run.folder / "progress.json",
        {
            "attempt": 1,
            "fraction": 0.4,
            "done": 26,
            "total": 65,
            "message": "Epoch 2 of 5",
            "eta_seconds": 8.0,
        },
    )
    with FileLock(run.folder / "lock"):
        yield


def slow_check(monkeypatch: pytest.MonkeyPatch, project: Project) -> Path:
    """The check before resuming as a job that ends when a file with this name and `.go` is there."""
    project.jobs_dir.mkdir(exist_ok=True)
    mark = project.jobs_dir / "check"
    code = "import os, sys, time\nwhile not os.path.exists(sys.argv[1]): time.sleep(0.02)"
    spec = JobSpec("check", "Checking", [sys.executable, "-S", "-c", code, str(mark.with_suffix(".go"))])
    monkeypatch.setattr(launch, "check_before_resuming", lambda _p: launch_job(mark, spec))
    return mark


# --- before


def test_there_is_no_start_button_before_the_gates(project: Project) -> None:
    at = open_page("run", project.slug)
    assert _starts(at) == []
    assert "Still to pass: dataset, config, environment, dry run." in texts(at)
    assert texts(at).count("not checked yet") == 4


def test_checking_everything_fills_the_cards_and_then_offers_the_start(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environment, "probe", lambda _m: {"failed": {}, "torch": "2.13.0", "cuda": False})
    monkeypatch.setattr(gates, "start_dry_run", lambda p: worlds.pass_gates(p))
    at = open_page("run", project.slug)
    sound(at.button(key="check").click().run())
    assert [s.state for s in gates.states(project).values()] == ["passed"] * 4
    assert _starts(at) == ["Start training · about 27 s"] or _starts(at)[0].startswith(
        "Start training · about"
    )
    assert "4 real steps" in texts(at)


def test_all_that_is_to_be_mended_is_told_at_once_and_no_step_is_trained(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A blocked gate keeps the dry run from starting, and the gates between say what they have to say all the same."""
    monkeypatch.setattr(
        environment, "probe", lambda _m: {"failed": {"peft": "none"}, "torch": "2", "cuda": False}
    )
    monkeypatch.setattr(gates, "start_dry_run", lambda _p: pytest.fail("the dry run must not start"))
    (project.dataset_dir / "01_car.txt").unlink()
    at = open_page("run", project.slug)
    sound(at.button(key="check").click().run())
    stand = [s.state for s in gates.states(project).values()]
    assert stand == ["blocked", "passed", "blocked", "missing"]
    assert texts(at).count("-badge[blocked]") == 2
    assert any("captions page" in getattr(x.proto, "label", "") for x in at.get("page_link"))
    assert _starts(at) == []


def test_a_gate_names_settings_as_the_config_page_does(project: Project) -> None:
    choices.change(project, {"network_dropout": 0.9, "rank": 500, "alpha": 1.0})
    gates.run_gate(project, "config")
    told = texts(open_page("run", project.slug))
    assert "Network dropout" in told and "network_dropout" not in told


def test_a_change_makes_a_gate_stale_and_takes_the_start_away(green: Project) -> None:
    assert _starts(open_page("run", green.slug))
    CaptionStore(green).set("01_car.png", "bluprnt, a small car", "person")
    at = open_page("run", green.slug)
    assert _starts(at) == []
    assert "out of date" in texts(at)


def test_start_launches_and_watches_the_run(green: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    def start(project: Project) -> Run:
        gates.require_gates(project)
        started.append(worlds.run(project, run_id="run-new"))
        return started[-1]

    monkeypatch.setattr(launch, "start_training", start)
    at = open_page("run", green.slug)
    sound(at.button(key="start").click().run())
    assert len(started) == 1
    assert at.query_params["run"] in ("run-new", ["run-new"])
    assert "Training finished" in texts(at)


def test_a_start_pressed_after_another_window_changed_the_config_is_refused_in_words(
    green: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launch, "start_training", lambda *_a, **_k: pytest.fail("it must not start"))
    at = open_page("run", green.slug)
    choices.change(green, {"rank": 3, "seed": 7})
    sound(at.button(key="start").click().run())
    assert "Training was not started" in texts(at) + "".join(w.proto.title for w in at.warning)
    assert "Changed since it was checked: Rank, " in texts(at) and "Seed." in texts(at)
    assert _starts(at) == []


def test_a_refused_start_says_why(green: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_project: Project) -> Run:
        raise BusyError("Another training is going on: Mira.", "Two at once share this computer.", "Wait.")

    monkeypatch.setattr(launch, "start_training", refuse)
    at = open_page("run", green.slug)
    sound(at.button(key="start").click().run())
    assert "Another training is going on: Mira." in texts(at)
    assert {"start", "check_again"} <= {b.key for b in at.button}, "to try again once it is mended"


# --- while


def test_a_running_run_shows_where_it_is_and_reads_only_what_is_new(
    green: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = worlds.run(green, steps=26)
    offsets = []
    read = Run.events

    def reading(self: Run, offset: int = 0) -> object:
        offsets.append(offset)
        return read(self, offset)

    monkeypatch.setattr(Run, "events", reading)
    with alive(run):
        at = open_page("run", green.slug)
        shown = {m.label: m.value for m in at.metric}
        assert shown["Step"] == "26 of 65"
        assert next(m.delta for m in at.metric if m.label == "Step") == "epoch 2 of 5"
        assert shown["Time left"] == "8 s"
        assert "Stop training" in labels(at)
        assert _starts(at) == []
        offsets.clear()
        files.append_jsonl(
            run.folder / "events.jsonl",
            {
                "type": "step",
                "step": 27,
                "epoch": 3,
                "loss": 0.4,
                "loss_avg": 0.4,
                "lr": {},
                "s_per_step": 0.2,
            },
        )
        sound(at.run())
        assert {m.label: m.value for m in at.metric}["Step"] == "27 of 65"
        assert offsets
        assert min(offsets) > 0


def test_stop_asks_the_job_to_stop(green: Project) -> None:
    run = worlds.run(green, steps=26)
    with alive(run):
        at = open_page("run", green.slug)
        sound(at.button(key="stop_now").click().run())
        assert (run.folder / "stop").exists()
        # The question is gone, and what stands in its place cannot be pressed.
        assert "Stop training" not in labels(at)
        assert at.button(key="stopping").disabled
        assert "Stopping" in texts(at) or any("Stopping" in p.proto.text for p in at.get("progress"))


def test_anomalies_are_sentences(green: Project) -> None:
    run = worlds.run(green)
    finding = {
        "severity": "warn",
        "code": "loss-plateau",
        "what": "The loss no longer falls.",
        "why": "w",
        "fix": "f",
    }
    files.append_jsonl(run.folder / "events.jsonl", {"type": "anomaly", "finding": finding})
    assert "The loss no longer falls." in texts(open_page("run", green.slug))


# --- after


def test_a_finished_run_offers_its_files_and_evaluation(green: Project) -> None:
    worlds.run(green, run_id="run-1")
    choices.change(green, {"epochs": 6})
    worlds.run(green, run_id="run-2")
    at = open_page("run", green.slug)
    loss = next(m for m in at.metric if m.label == "Loss at the end")
    begun = outcome(get_run(green, "run-2")).first_loss
    assert f"It began at {begun:.3f}." in loss.help, "the number that History tells"
    assert "Training finished: 65 steps in 26 s, 5 checkpoints." in texts(at)
    assert "Evaluate this run" in labels(at)
    assert len(at.get("download_button")) == 5
    assert "Epochs" in tables(at)
    sound(at.button(key="evaluate").click().run())
    assert at.title[0].value == "Evaluation"


def test_a_failed_run_says_why_and_can_be_resumed(green: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds.run(green, state="failed", steps=20)
    at = open_page("run", green.slug)
    told = texts(at)
    assert "Training failed at step 20 of 65" in told
    assert "The loss became NaN." in told
    assert "Halve the learning rate" in told
    resumed: list[object] = []
    monkeypatch.setattr(launch, "resume_run", lambda _p, run_id, **more: resumed.append((run_id, more)))
    check = slow_check(monkeypatch, green)
    sound(at.button(key="resume").click().run())
    # The page is there while the environment is checked, and says so; nothing is resumed yet.
    assert resumed == [] and "Cancel" in labels(at) and "Resume training" not in labels(at)
    assert "The loss became NaN." in texts(at) and "goes on by itself" in texts(at)
    check.with_suffix(".go").touch()
    assert next(iter(list_jobs(green.jobs_dir))).wait(60) == "finished"
    sound(at.run())
    assert resumed == [(get_run(green).id, {"checked": True})]


def test_a_check_before_resuming_can_be_called_off(green: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    worlds.run(green, state="stopped", steps=20)
    monkeypatch.setattr(launch, "resume_run", lambda *_a, **_k: pytest.fail("nobody wants it any more"))
    slow_check(monkeypatch, green)
    at = open_page("run", green.slug)
    sound(at.button(key="resume").click().run())
    sound(at.button(key="resume_check_job_stop").click().run())
    assert list_jobs(green.jobs_dir)[0].wait(60) == "stopped"
    sound(at.run())
    assert "Resume training" in labels(at) and "Cancel" not in labels(at)


def test_what_the_check_finds_keeps_the_run_from_being_resumed(
    green: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No way around the gate: a check that has run counts by what its verdict says now."""
    run = worlds.run(green, state="stopped", steps=20)
    with pytest.raises(GateError, match="not resumed"):
        choices.change(green, {"backend": "kohya"})
        launch.resume_run(green, run.id, checked=True)
    monkeypatch.setattr(launch, "relaunch", lambda *_a, **_k: pytest.fail("it must not start"))
    at = open_page("run", green.slug)
    slow_check(monkeypatch, green).with_suffix(".go").touch()
    sound(at.button(key="resume").click().run())
    list_jobs(green.jobs_dir)[0].wait(60)
    sound(at.run())
    assert "The run was not resumed." in texts(at) and "Resume training" in labels(at)


def test_the_view_is_called_what_it_shows(green: Project) -> None:
    old = worlds.run(green, run_id="run-20260101-000000-aaaa")
    new = worlds.run(green, run_id="run-20260102-000000-aaaa", steps=26)

    def names(at: AppTest) -> list[str]:
        return [o.content for o in at.segmented_control(key="run_view").proto.options]

    assert names(open_page("run", green.slug))[1:] == ["Last run", "History (2)"]
    assert names(open_page("run", green.slug, run=old.id))[1:] == [
        f"Run of {day(old.job.created)}",
        "History (2)",
    ]
    with alive(new):
        assert names(open_page("run", green.slug))[1:] == ["Training now", "History (2)"]
        at = open_page("run", green.slug, run=old.id)
        assert names(at)[1:] == [f"Run of {day(old.job.created)}", "Training now", "History (2)"]
        sound(at.segmented_control(key="run_view").set_value("going").run())
        assert new.id in texts(at) and names(at)[1:] == ["Training now", "History (2)"]


def test_a_window_left_open_shows_that_the_run_was_resumed(
    green: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = worlds.run(green, state="stopped", steps=26)
    every: list[object] = []
    fragment = st.fragment
    monkeypatch.setattr(st, "fragment", lambda **kw: every.append(kw["run_every"]) or fragment(**kw))
    assert "Resume training" in labels(open_page("run", green.slug))
    assert every == [2.0], "it looks again by itself"
    with ExitStack() as elsewhere:
        # Resumed in another window, or at the command line, once this page has begun to draw the run as stopped.
        told = iter([run])
        monkeypatch.setattr(record, "catch_up", lambda r: [elsewhere.enter_context(alive(r)) for _ in told])
        at = open_page("run", green.slug)
        assert "Stop training" in labels(at)
        assert "Resume training" not in labels(at)


def test_time_left_of_a_resumed_run_is_not_that_of_its_preparation(green: Project) -> None:
    run = worlds.run(green, steps=26)
    with alive(run):
        before = files.read_json(run.folder / "progress.json") or {}
        for stage, step, told in (("prepare", None, False), ("train", 27, True)):
            files.write_json(
                run.folder / "progress.json", before | {"stage": stage, "step": step, "eta_seconds": 3.0}
            )
            shown = {m.label: m.value for m in open_page("run", green.slug).metric}
            assert shown["Step"] == "26 of 65"
            assert (shown["Time left"] == "3 s") is told, stage


def test_an_interrupted_run_is_told_truly(green: Project) -> None:
    worlds.run(green, state="interrupted", steps=30)
    told = texts(open_page("run", green.slug))
    assert "Training was interrupted at step 30 of 65" in told
    assert "switched off" in told


def test_history_lists_runs_and_opens_one(green: Project) -> None:
    worlds.run(green, run_id="run-1", state="stopped", steps=26)
    worlds.run(green, run_id="run-2")
    at = open_page("run", green.slug)
    sound(at.segmented_control(key="run_view").set_value("history").run())
    assert "stopped" in texts(at)
    sound(at.button(key="open_run-1").click().run())
    assert "You stopped the training at step 26 of 65" in texts(at)


def test_history_reads_no_events_of_runs_that_ended(green: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    first = worlds.run(green, run_id="run-00")
    for n in range(1, 24):
        shutil.copytree(first.folder, green.runs_dir / f"run-{n:02}")
    at = open_page("run", green.slug)
    sound(at.segmented_control(key="run_view").set_value("history").run())
    assert len([b for b in at.button if b.label == "Open"]) == 20
    with monkeypatch.context() as m:
        m.setattr(Run, "events", lambda *_: pytest.fail("events were read again"))
        sound(at.run())
    sound(at.button(key="history_more").click().run())
    assert len([b for b in at.button if b.label == "Open"]) == 24


def test_a_log_is_explained_on_the_run_page(green: Project) -> None:
    """The run's own, where it is one of sd-scripts, and any that is pasted."""
    recorded = zipfile.ZipFile(Path(__file__).parents[1] / "training" / "sdscripts" / "recorded.zip")
    run = worlds.run(green, state="failed", steps=8)
    at = open_page("run", green.slug)
    _open(at, f"run_{run.id}_log")
    assert f"run_{run.id}_explain" not in {t.key for t in at.toggle}, "this log is none of sd-scripts"
    manifest = files.read_json(run.folder / "run.json")
    manifest["settings"]["backend"] = "kohya"
    files.write_json(run.folder / "run.json", manifest)
    (run.folder / "log.txt").write_bytes(recorded.read("run1_full.combined.raw"))
    at = open_page("run", green.slug)
    _open(at, f"run_{run.id}_log")
    sound(at.toggle(key=f"run_{run.id}_explain").set_value(True).run())
    assert "It finished: step 8 of 8" in texts(at)
    at = open_page("run", green.slug)
    _open(at, "explain_box")
    at.text_area(key="run_explain_text").set_value(
        recorded.read("ds_missing_dir.stderr.raw").decode("utf-8", "replace")
    )
    sound(next(b for b in at.button if b.label == "Explain the text").click().run())
    assert "no picture was found" in texts(at)


def _open(at: object, key: str) -> None:
    at.session_state[key] = True  # type: ignore[attr-defined]
    sound(at.run())  # type: ignore[attr-defined]


def test_an_address_of_a_run_that_is_gone_names_those_that_exist(green: Project) -> None:
    worlds.run(green, run_id="run-1")
    at = open_page("run", green.slug, run="run-lost")
    assert "There is no run 'run-lost'" in texts(at)
    assert "run-1" in texts(at)


def test_a_damaged_run_does_not_take_the_page_down(green: Project) -> None:
    run = worlds.run(green, run_id="run-1")
    (run.folder / "events.jsonl").write_text('{"type": "step", "st\nnot json\n', encoding="utf-8")
    at = open_page("run", green.slug)
    assert "run-1" in texts(at)


@pytest.mark.parametrize(("steps", "said"), [(1, False), (10, False), (26, True)])
def test_a_change_of_loss_is_told_once_it_means_something(green: Project, steps: int, said: bool) -> None:
    """At the first steps "now" and "at the beginning" are the same steps: "+0 %" would say nothing."""
    with alive(worlds.run(green, steps=steps)):
        loss = next(m for m in open_page("run", green.slug).metric if m.label == "Loss now")
    assert bool(loss.delta) is said


def test_the_queue_is_ordered_on_the_page(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    from studio import queue
    from studio.queue import runner

    monkeypatch.setattr(runner, "launch_call", lambda *_a, **_k: None)  # nobody works it off
    at = open_page("run", project.slug)
    at.button(key="queue_add").click().run()
    at.button(key="queue_add").click().run()
    first, second = queue.waiting(project.workspace)
    at.button(key=f"q_Later_{first.id}").click().run()
    assert queue.waiting(project.workspace) == [second, first]
    at.button(key=f"q_out_{second.id}").click().run()
    assert queue.waiting(project.workspace) == [first]
    sound(at)
    assert "waits" in texts(at)


def test_an_ended_run_can_be_run_again(project: Project) -> None:
    run = worlds.run(project)
    choices.change(project, {"epochs": 9})
    at = open_page("run", project.slug)
    at.button(key=f"again_{run.id}").click().run()
    assert project.settings == run.settings
    sound(at)
