"""`sd35l-trainer train` and `init-config`: one command from the dataset to the LoRA; where each value comes from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from studio.cli.sd35l import book
from tests.fakes.replicate_server import OWNER, SD35, ReplicateServer, dataset_zip, lora_bytes
from tests.replicate.lines import DESTINATION, order, run, run_json

pytestmark = pytest.mark.usefixtures("at_work")


def test_single_command_trains_and_downloads(server: ReplicateServer, capsys: Any) -> None:
    code, out, err = run(capsys, *order(server, "--preset", "beginner", "--create-destination", "--wait"))
    assert (code, err) == (0, "")
    assert "prices of 2026-03" in out
    assert "Made mushroomfleet/boats, private" in out
    assert Path("mushroomfleet-boats_mxqstyle.safetensors").read_bytes() == lora_bytes()
    assert server.models[DESTINATION]["visibility"] == "private"
    [training] = server.trainings.values()
    sent = training["input"]
    assert {k: sent[k] for k in ("steps", "batch_size", "optimizer", "learning_rate", "resolution", "lora_rank")} == {
        "steps": 1500, "batch_size": 1, "optimizer": "prodigy", "learning_rate": 1.0, "resolution": "768,1024", "lora_rank": 16,
    }  # fmt: skip
    assert (training["model"], training["version"]) == ("lucataco/sd3.5-large-fine-tuner", SD35)
    assert "destination" not in sent  # top-level, not an input: the sketch that others follow has it wrong


def test_the_account_is_left_as_it_was_by_a_dry_run(server: ReplicateServer, capsys: Any) -> None:
    code, told = run_json(capsys, *order(server, "--dry-run", "--create-destination"))
    assert code == 0
    assert told["passed"]
    assert told["account"] == OWNER
    assert told["destination_exists"] is False
    assert told["dataset"] == {"pictures": 12, "captioned": 12, "others": 0}
    assert 0 < told["forecast"]["low"] < told["forecast"]["high"]
    assert told["seconds"] < 5
    assert not server.trainings
    assert DESTINATION not in server.models
    assert {m for m, _ in server.requests} <= {"GET", "DELIVERY"}


def test_a_run_without_network_is_checked_within_a_second(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://127.0.0.1:9")
    line = [
        "train",
        "--dataset-url",
        "https://example.com/d.zip",
        "--destination",
        DESTINATION,
        "--trigger-word",
        "mxqstyle",
    ]
    code, told = run_json(capsys, *line, "--dry-run", "--offline")
    assert code == 0
    assert told["seconds"] < 1


def test_every_problem_at_once(server: ReplicateServer, capsys: Any) -> None:
    server.served["/dataset.zip"] = dataset_zip(12, 3)
    code, told = run_json(
        capsys, "train", "--dry-run", "--dataset-url", server.dataset_url, "--destination", "Not A Model", "--trigger-word",
        "dog", "--steps", "9000", "--batch-size", "x", "--optimizer", "prodigi", "--learning-rate", "0.0004",
        "--resolution", "700", "--lora-rank", "0", "--version", "abc",
    )  # fmt: skip
    assert code == 2
    where = {name for f in told["findings"] for name in f["where"]}
    assert where >= {"destination", "trigger_word", "steps", "batch_size", "optimizer", "resolution", "lora_rank", "version",
                     "dataset_url"}  # fmt: skip
    assert all(f["fix"] for f in told["findings"])
    assert not server.trainings


def test_missing_things_are_named(server: ReplicateServer, capsys: Any) -> None:
    code, told = run_json(capsys, "train")
    assert code == 2
    assert {f["where"][0] for f in told["findings"]} >= {"dataset_url", "destination", "trigger_word"}


# --- where values come from


def test_flags_before_file_before_environment_before_preset(
    server: ReplicateServer, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SD35L_DEFAULT_DESTINATION", f"{OWNER}/from-environment")
    Path("c.yaml").write_text(
        f'dataset_url: "{server.dataset_url}"\ntrigger_word: fileword\npreset: fast\ntraining:\n  steps: 1200\n  batch_size: 2\n'
    )
    code, told = run_json(
        capsys,
        "train",
        "--config",
        "c.yaml",
        "--batch-size",
        "3",
        "--trigger-word",
        "flagword",
        "--dry-run",
        "--create-destination",
    )
    made = told["configuration"]
    assert code == 0
    assert made["destination"] == f"{OWNER}/from-environment"
    assert (made["trigger_word"], made["values"]["batch_size"], made["values"]["steps"]) == (
        "flagword",
        3,
        1200,
    )
    assert (made["values"]["optimizer"], made["values"]["resolution"]) == ("adamw8bit", "512,768")
    assert {made["source"][n] for n in ("trigger_word", "steps", "destination", "optimizer", "lora_rank")} == {
        "flag", "file", "environment", "preset", "default",
    }  # fmt: skip


@pytest.mark.parametrize("preset", ["beginner", "experienced", "fast", "advanced", ""])
@pytest.mark.parametrize("trainer", ["sd35-large", "flux-dev"])
def test_templates_can_be_used(server: ReplicateServer, capsys: Any, preset: str, trainer: str) -> None:
    code, _out, _ = run(capsys, "init-config", "--preset", preset, "--trainer", trainer, "--output", "c.yaml")
    assert code == 0
    text = Path("c.yaml").read_text().replace("https://example.com/my-dataset.zip", server.dataset_url)
    Path("c.yaml").write_text(text.replace("username/", f"{OWNER}/").replace("MYTOK", "mxqstyle"))
    code, told = run_json(capsys, "train", "--config", "c.yaml", "--dry-run", "--create-destination")
    assert code == 0, told
    assert told["configuration"]["source"]["steps"] == "file"
    assert told["version"] == (
        SD35
        if trainer == "sd35-large"
        else next(iter(server.models["ostris/flux-dev-lora-trainer"]["versions"]))
    )


def test_json_configuration_and_one_in_the_configuration_folder(server: ReplicateServer, capsys: Any) -> None:
    told = {
        "dataset_url": server.dataset_url,
        "destination": DESTINATION,
        "trigger_word": "mxqstyle",
        "training": {"steps": 1100},
    }
    book.config_dir().mkdir(parents=True)
    (book.config_dir() / "boats.json").write_text(json.dumps(told))
    code, answer = run_json(capsys, "train", "--config", "boats", "--dry-run", "--create-destination")
    assert code == 0
    assert answer["configuration"]["values"]["steps"] == 1100


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "cannot be read"),
        ("- a\n- b\n", "is not a configuration"),
        ("just text", "is not a configuration"),
        ("stepz: 5", "no setting called 'stepz'"),
        ("steps: 5", "wrong place"),
        ("training: 5", "has to hold names"),
        ("training:\n  stepz: 5", "Did you mean 'training.steps'"),
        ("wandb:\n  api_key: abc", "does not belong into a config file"),
        ("replicate_api_token: r8_x", "does not belong into a config file"),
        ("training:\n  steps: true", "cannot be True"),
        ("training:\n  learning_rate: .nan", "cannot be nan"),
        ("training:\n  optimizer: [prodigy]", "Optimizer (optimizer) cannot be"),
        ("spending_limit: lots", "not an amount"),
        ("a: &a [*a]", "no setting called 'a'"),
    ],
)
def test_poor_configurations(server: ReplicateServer, capsys: Any, text: str, said: str) -> None:
    Path("c.yaml").write_text(text)
    code, out, err = run(capsys, "train", "--config", "c.yaml", "--dry-run", "--offline")
    assert code == 2
    assert said in out + err
    assert "Traceback" not in out + err


def test_configuration_that_is_not_there(capsys: Any) -> None:
    assert run(capsys, "train", "--config", "none.yaml")[0] == 3


def test_nothing_is_overwritten(capsys: Any) -> None:
    Path("c.yaml").write_text("mine")
    code, _, err = run(capsys, "init-config", "--output", "c.yaml")
    assert code == 2
    assert "there already" in err
    assert Path("c.yaml").read_text() == "mine"
    assert run(capsys, "init-config", "--output", "c.yaml", "--force")[0] == 0
    assert run(capsys, "init-config", "--output", ".")[0] == 2
