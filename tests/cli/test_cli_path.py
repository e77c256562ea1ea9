"""The path with engines that take no time: gates, train, follow, stop, resume, log, evaluate, register."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.cli import watch
from studio.workspace import shipped
from tests.cli.conftest import fake_engines

Cli = Callable[..., Any]


@pytest.fixture
def ready(cli: Cli, home: Path, engines: None) -> Path:
    """A project that only lacks the gates."""
    cli("new", "Ink", "--kind", "style", "--trigger", "bluprnt")
    cli("import", shipped("data", "sample"))
    cli("config", "reset", "--preset", "pocket-quick", "--yes")
    return home / "projects" / "ink"


def test_gates_stop_before_the_dry_run_when_one_blocks(cli: Cli, ready: Path) -> None:
    (ready / "dataset" / "01_car.txt").unlink()
    answer = cli("gates")
    assert answer.code == 4
    assert "Gate 1, dataset: NO-GO" in answer.out and "01_car.png" in answer.out
    assert "Gate 2, config: GO" in answer.out and "Gate 3, environment: GO" in answer.out
    assert "Gate 4, dry run: waits for dataset" in answer.out
    assert not list((ready / "jobs").glob("dry-run-*"))
    refused = cli("train")
    assert refused.code == 4 and not list((ready / "runs").glob("*"))
    assert "01_car.png" in refused.err + refused.out


def test_the_dry_run_alone_is_refused_with_reasons(cli: Cli, ready: Path) -> None:
    answer = cli("gates", "dry-run", "--json")
    assert answer.code == 4 and answer.json["error"] == "GateError"
    assert len(answer.json["findings"]) == 3


def test_train_runs_the_gates_and_shows_the_loss(cli: Cli, ready: Path) -> None:
    answer = cli("train", "--epochs", "3", "--wait")
    assert answer.code == 0, answer.out + answer.err
    assert "Gate 4, dry run: GO" in answer.out
    assert re.search(r"epoch 1: loss 0\.\d+", answer.out)
    assert "Finished: 12 steps" in answer.out and "Next: lora-studio evaluate" in answer.out
    run = next((ready / "runs").iterdir())
    assert json.loads((run / "run.json").read_text())["settings"]["epochs"] == 3
    assert (ready / "records" / "progress.md").read_text().count("COMPLETE") == 1
    shown = cli("gates", "--show", "--json")
    assert shown.code == 0 and shown.json["passed"]
    again = cli("gates")
    assert again.code == 0 and again.out.count("(passed ") == 4


def test_gates_go_stale_when_a_setting_changes(cli: Cli, trained: Path) -> None:
    assert cli("gates", "--show").code == 0
    cli("config", "set", "rank=4")
    shown = cli("gates", "--show", "--json")
    assert shown.code == 4
    assert {g: v["state"] for g, v in shown.json["gates"].items()} == {
        "dataset": "passed",
        "config": "stale",
        "environment": "passed",
        "dry_run": "stale",
    }


def test_a_failing_run_says_what_why_and_fix(cli: Cli, trained: Path) -> None:
    answer = cli("train", "--sample-prompts", "explode")
    assert answer.code == 1
    for words in (
        "The picture is broken.",
        "Why: It ends in the middle.",
        "Fix: Remove it.",
        "lora-studio resume",
    ):
        assert words in answer.out
    assert "Traceback" not in answer.out + answer.err
    document = cli("status", "--json", next(iter(sorted((trained / "runs").iterdir(), reverse=True))).name)
    assert document.json["job"]["state"] == "failed"
    assert "Traceback" in cli("log").out


def test_ctrl_c_leaves_the_run_going_and_it_can_be_stopped_and_resumed(
    cli: Cli, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_engines(monkeypatch, seconds_a_step=0.4)

    def pressed(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(watch, "progress_words", pressed)
        left = cli("train")
    assert left.code == 130
    assert "goes on by itself" in left.out and "lora-studio stop run-" in left.out
    run_id = re.findall(r"lora-studio stop (\S+)", left.out)[0]
    listed = cli("jobs", "--json").json["jobs"]
    assert listed[0]["id"] == run_id and listed[0]["state"] in ("starting", "running")
    assert "Running now" in cli("status").out

    second = cli("train")
    assert second.code == 5 and "Another training is going on" in second.err

    stopped = cli("stop", run_id[-4:])
    assert stopped.code == 0 and f"lora-studio resume {run_id}" in stopped.out
    assert cli("stop").code == 3
    assert cli("stop", run_id).code == 2

    fake_engines(monkeypatch)
    resumed = cli("resume")
    assert resumed.code == 0 and f"Going on with {run_id}" in resumed.out
    assert "epoch 3" in resumed.out and "Finished: 12 steps" in resumed.out
    assert cli("resume").code == 3
    assert cli("resume", run_id).code == 2


def test_detach_returns_at_once_and_status_follows(cli: Cli, trained: Path) -> None:
    started = cli("train", "--detach", "--json")
    assert started.code == 0
    run_id = started.json["run"]["id"]
    followed = cli("status", run_id, "--follow")
    assert followed.code == 0 and "finished" in followed.out
    assert cli("log", run_id, "--follow").code == 0
    assert cli("status", "--follow").code == 0


def test_evaluate_gives_a_verdict_and_register_uses_it(cli: Cli, trained: Path, home: Path) -> None:
    listed = cli("evaluate", "--list", "--json").json["grids"]
    assert len(listed) == 1 and listed[0]["state"] == "finished"
    shown = cli("evaluate", "--grid", listed[0]["grid"])
    assert shown.code == 0
    assert "Use 0." in shown.out and "sheet.png" in shown.out and "Weight" in shown.out

    answer = cli("register", "--json", "--good-for", "line drawings")
    assert answer.code == 0
    entry = answer.json["entry"]
    assert Path(entry["file"]).is_file() and entry["weight"] == listed[0]["recommended"]
    assert "line drawings" in (home / "studio.md").read_text()
    assert cli("register").code == 2  # the name is taken
    assert cli("register", "--on-clash", "version", "--weight", "0.65").code == 0
    assert [e["slug"] for e in cli("library", "--json").json["library"]] == ["ink-v2", "ink"]
    assert "0.65" in cli("library", "show", "ink-v2").out

    asked = cli("library", "remove", "ink-v2")
    assert asked.code == 0 and "--yes" in asked.out and len(cli("library", "--json").json["library"]) == 2
    removed = cli("library", "remove", "ink-v2", "--yes", "--json")
    assert len(cli("library", "--json").json["library"]) == 1
    assert cli("library", "put-back", removed.json["trash"]).code == 0
    assert len(cli("library", "--json").json["library"]) == 2


def test_evaluate_takes_checkpoints_weights_prompts_and_files(cli: Cli, trained: Path) -> None:
    answer = cli(
        "evaluate", "--checkpoints", "spread", "--weights", "0.4,0.8", "--prompt", "{trigger}, a dog", "--seeds", "3,4", "--json"
    )  # fmt: skip
    assert answer.code == 0, answer.out
    assert "None" not in cli("evaluate", "--weights", "0.55").out
    spec = answer.json["spec"]
    assert [f["label"] for f in spec["lora_files"]] == ["epoch 1", "epoch 2", "final (epoch 3)"]
    assert spec["weights"] == [0, 0.4, 0.8] and spec["seeds"] == [3, 4]
    assert [p["text"] for p in spec["prompts"]] == ["bluprnt, a dog"]
    lora = next(trained.glob("runs/*/checkpoints/*-000001.safetensors"))
    outside = cli("evaluate", "--lora", lora, "--prompt", "x y z", "--json")
    assert outside.code == 0 and outside.json["spec"]["run"] is None
    elsewhere = cli("register", "--lora", lora, "--weight", "0.5", "--name", "Elsewhere")
    assert elsewhere.code == 0 and "elsewhere" in cli("library").out


def test_every_command_answers_json(cli: Cli, trained: Path) -> None:
    for line in (
        "projects", "open ink", "audit", "captions list", "captions list --tags", "captions undo", "captions redo",
        "captions add-trigger", "captions approve", "models", "presets", "presets --all", "config show", "config show --all",
        "gates --show", "status", "jobs", "jobs --all", "log", "evaluate --list", "library", "doctor", "restore",
        "config reset --preset pocket-thorough", "app --dry",
    ):  # fmt: skip
        answer = cli(*line.split(), "--json")
        assert answer.code == 0, (line, answer.out)
        assert answer.json["ok"] is True and answer.err == "", line


def test_status_names_the_command_that_comes_next(cli: Cli, trained: Path, home: Path) -> None:
    def following(*line: str) -> str:
        return str(cli("status", *line, "--json").json["next"])

    assert cli("audit").code == 0  # the copied pictures are new to the scan
    assert following() == "lora-studio register"
    assert cli("register").code == 0
    assert following() == "lora-studio library"
    cli("new", "Vase", "--kind", "object")
    assert following() == "lora-studio import FOLDER"
    cli("import", shipped("data", "sample_flawed"))
    assert following() == "lora-studio audit"
    cli("audit", "--fix", "all", "--yes")
    assert following() == "lora-studio config reset"
    cli("config", "reset", "--yes")
    assert following() == "lora-studio train"
