"""sd35l-trainer from end to end against the stand-in: every command, every exit code, and the faults of others."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from studio.cli.sd35l import book, main, waiting
from studio.cli.sd35l import train as train_module  # noqa: F401  registers
from studio.replicate import follow, submit
from tests.fakes.replicate_server import (
    OWNER,
    SD35,
    TOKEN,
    ReplicateServer,
    dataset_zip,
    lora_bytes,
    result_tar,
)

DESTINATION = f"{OWNER}/boats"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setattr(time, "sleep", lambda _s: None)
    monkeypatch.setattr(submit, "SEARCH_PAUSES", (0.0, 0.0))


def run(capsys: pytest.CaptureFixture[str], *line: str) -> tuple[int, str, str]:
    code = main(list(line))
    told = capsys.readouterr()
    return code, told.out, told.err


def run_json(capsys: pytest.CaptureFixture[str], *line: str) -> tuple[int, dict[str, Any]]:
    code, out, err = run(capsys, *line, "--json")
    assert not err
    told = json.loads(out)
    assert told["exit_code"] == code
    return code, told


def order(server: ReplicateServer, *more: str) -> list[str]:
    return [
        "train",
        "--dataset-url",
        server.dataset_url,
        "--destination",
        DESTINATION,
        "--trigger-word",
        "mxqstyle",
        *more,
    ]


# --- the one command


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


# --- managing


def test_list_in_pages_with_statuses_nobody_knows(server: ReplicateServer, capsys: Any) -> None:
    for n in range(120):
        server.put(
            status=("succeeded", "aborted", "dreaming")[n % 3], completed_at="2026-11-20T10:00:00.123456789Z"
        )
    code, told = run_json(capsys, "list", "--limit", "110")
    assert code == 0
    assert len({t["id"] for t in told["trainings"]}) == 110
    code, told = run_json(capsys, "list-jobs", "--status", "aborted", "--limit", "5")
    assert [t["status"] for t in told["trainings"]] == ["aborted"] * 5
    code, out, _ = run(capsys, "list", "--limit", "3")
    assert "aborted by Replicate" in out
    assert "dreaming" in out


@pytest.mark.parametrize(
    "line",
    [["--limit", "0"], ["--limit", "x"], ["--limit", "-1"], ["--limit", "99999"], ["--status", "done"]],
)
def test_list_wrong_input(server: ReplicateServer, capsys: Any, line: list[str]) -> None:
    assert run(capsys, "list", *line)[0] == 2


def test_an_empty_account(server: ReplicateServer, capsys: Any) -> None:
    assert "No trainings yet" in run(capsys, "list")[1]


def test_status_shows_step_cost_and_what_went_wrong(server: ReplicateServer, capsys: Any) -> None:
    """Others die here on `training.source`, which Replicate's newer answers lack."""
    training = server.put()
    run(capsys, "status", training["id"])
    code, out, _ = run(capsys, "status", training["id"], "--logs")
    assert code == 0
    assert "Step" in out
    assert "375 of 1500" in out
    assert "Cost so far   $0.09" in out
    assert "caching latents" in out
    server.life = ["failed"]
    code, out, err = run(capsys, "status", training["id"])
    assert code == 0
    assert "Lower the batch size" in err


def test_cancel(server: ReplicateServer, capsys: Any) -> None:
    training = server.put(status="processing")
    code, told = run_json(capsys, "cancel", training["id"])
    assert (code, told["cancelled"], training["status"]) == (0, True, "canceled")
    assert run_json(capsys, "cancel", training["id"])[1]["cancelled"] is False
    assert server.count("POST", "/cancel") == 1


def _finished(server: ReplicateServer, **more: Any) -> dict[str, Any]:
    return server.put(
        status="succeeded", completed_at="2026-11-20T10:00:00Z",
        output={"version": f"{OWNER}/old:{'a' * 64}", "weights": f"{server.delivery}/w/trained_model.tar"}, **more,
    )  # fmt: skip


def test_download_takes_only_the_lora(server: ReplicateServer, capsys: Any) -> None:
    """The output is a dict, the LoRA is nested, what else lies in the archive and in the folder is left alone."""
    Path("other.safetensors").write_bytes(b"mine")
    code, told = run_json(capsys, "download", _finished(server)["id"])
    assert code == 0
    assert Path(told["file"]).name == "mushroomfleet-old_OLD.safetensors"
    assert sorted(p.name for p in Path().iterdir()) == [
        "mushroomfleet-old_OLD.safetensors",
        "other.safetensors",
    ]
    again = run_json(capsys, "download", _finished(server)["id"])[1]
    assert again["file"] == told["file"]  # the same content is not written twice
    server.result = result_tar({"x/lora.safetensors": lora_bytes(("b.lora_A.weight",))})
    other = run_json(capsys, "download", _finished(server)["id"])[1]
    assert Path(other["file"]).name == "mushroomfleet-old_OLD-2.safetensors"


def test_download_goes_on_after_a_drop(server: ReplicateServer, capsys: Any) -> None:
    server.delivery_drop = 3
    assert run(capsys, "download", _finished(server)["id"], "--output-dir", "new/folder")[0] == 0
    assert sum(m == "DELIVERY" and "bytes=" in p for m, p in server.requests) == 3


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (result_tar({"a/readme.txt": b"x"}), "no .safetensors"),
        (result_tar({"../../escape.safetensors": b"x" * 40}), "safetensors"),
        (result_tar({"a/1.safetensors": lora_bytes(), "a/2.safetensors": lora_bytes()}), "none is called"),
        (result_tar({"a/lora.safetensors": lora_bytes(("unet.weight",))}), "belongs to a LoRA"),
        (result_tar({"a/lora.safetensors": lora_bytes()[:-5]}), "safetensors"),
        (b"PK\x03\x04" + bytes(50), "ZIP or pickle"),
        (result_tar()[:700], ""),
        (b"\x80\x02}q" + bytes(50), "ZIP or pickle"),
        (b"<html>sign in</html>", ""),
        (b"", "not there"),
    ],
)
def test_poor_results_are_refused(server: ReplicateServer, capsys: Any, result: bytes, said: str) -> None:
    server.result = result
    code, _out, err = run(capsys, "download", _finished(server)["id"])
    assert code in (2, 3)
    assert said in err
    assert not list(Path().rglob("*.safetensors"))
    assert not list(Path("..").rglob("escape*"))


@pytest.mark.parametrize("gz", [False, True])
def test_checkpoints_beside_the_final_lora(server: ReplicateServer, capsys: Any, gz: bool) -> None:
    content = {
        "o/j/lora_000000500.safetensors": lora_bytes(("x.lora_B",)),
        "o/j/lora.safetensors": lora_bytes(),
    }
    server.result = result_tar(content, gz=gz)
    told = run_json(capsys, "download", _finished(server)["id"])[1]
    assert Path(told["file"]).read_bytes() == lora_bytes()


@pytest.mark.parametrize(
    ("status", "code"), [("failed", 1), ("canceled", 1), ("aborted", 1), ("processing", 3), ("starting", 3)]
)
def test_download_of_what_gave_nothing(server: ReplicateServer, capsys: Any, status: str, code: int) -> None:
    server.life = [status]
    assert run(capsys, "download", server.put(status=status)["id"])[0] == code


@pytest.mark.parametrize("command", ["status", "cancel", "download"])
@pytest.mark.parametrize(
    ("training_id", "code"), [("x", 2), ("../../v1/account", 2), ("", 2), ("a" * 26, 3), ("ÄÖÜ" * 5, 2)]
)
def test_ids_that_are_none(
    server: ReplicateServer, capsys: Any, command: str, training_id: str, code: int
) -> None:
    assert run(capsys, command, training_id)[0] == code


def test_output_folder_that_is_a_file(server: ReplicateServer, capsys: Any) -> None:
    Path("file").write_text("x")
    assert run(capsys, "download", _finished(server)["id"], "--output-dir", "file")[0] == 2


# --- trouble


@pytest.mark.parametrize(
    ("status", "code", "said"),
    [(401, 6, "token"), (402, 6, "payment"), (403, 6, "may not"), (404, 3, "does not exist"), (422, 2, "refused"),
     (429, 6, "too many"), (500, 6, "trouble"), (503, 6, "trouble"), (418, 1, "418")],
)  # fmt: skip
def test_refusals_in_plain_words(
    server: ReplicateServer, capsys: Any, status: int, code: int, said: str
) -> None:
    server.fail("training", *[status] * 5)
    got, out, err = run(capsys, "status", "a" * 26)
    assert got == code
    assert said in err
    assert "Fix:" in err
    assert TOKEN not in out + err


def test_passing_trouble_passes(server: ReplicateServer, capsys: Any) -> None:
    training = server.put()
    server.fail("training", 503, "drop", 429)
    assert run(capsys, "status", training["id"])[0] == 0


@pytest.mark.parametrize("how", ["garbage", "redirect"])
def test_malformed_answers(server: ReplicateServer, capsys: Any, how: str) -> None:
    server.fail("training", how)
    code, _, err = run(capsys, "status", "a" * 26)
    assert code == 1
    assert "Traceback" not in err


def test_a_wrong_token_is_found_before_anything_is_spent(
    server: ReplicateServer, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8_wrongwrongwrongwrong")
    code, told = run_json(capsys, *order(server, "--dry-run"))
    assert code == 2
    assert any(f["code"] == "token" for f in told["findings"])
    monkeypatch.setenv("REPLICATE_API_TOKEN", "r8 with\tspace")
    assert "signs that no token has" in json.dumps(run_json(capsys, *order(server, "--dry-run"))[1])


def test_no_token(server: ReplicateServer, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPLICATE_API_TOKEN")
    monkeypatch.setattr("studio.secrets.find_secret", lambda *_: None)
    assert run(capsys, "list")[0] == 6
    assert run(capsys, *order(server, "--dry-run"))[0] == 2


def test_plain_http_elsewhere_is_refused(
    server: ReplicateServer, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATE_BASE_URL", "http://api.example.com")
    code, _, err = run(capsys, "list")
    assert code == 2
    assert "readable for everyone" in err


def test_destination_is_not_made_unasked(server: ReplicateServer, capsys: Any) -> None:
    code, out, err = run(capsys, *order(server))
    assert code == 2
    assert "--create-destination" in out + err
    assert not server.trainings


def test_waiting_survives_an_outage_and_costs_are_watched(server: ReplicateServer, capsys: Any) -> None:
    server.fail("training", "drop", "drop", "drop", "drop", "drop", 502)
    assert run(capsys, *order(server, "--create-destination", "--wait"))[0] == 0


def test_spending_limit_cancels(server: ReplicateServer, capsys: Any) -> None:
    server.life = ["starting", *["processing"] * 50, "succeeded"]
    code, _, err = run(capsys, *order(server, "--create-destination", "--wait", "--spending-limit", "0.5"))
    assert code == 1
    assert "spending limit of $0.50" in err
    [training] = server.trainings.values()
    assert training["status"] == "canceled"
    assert training["_ran"] * 0.001525 < 0.6


def test_a_limit_without_waiting_is_refused(server: ReplicateServer, capsys: Any) -> None:
    assert run(capsys, *order(server, "--spending-limit", "5"))[0] == 2
    assert not server.trainings


def test_a_failed_training_is_told(server: ReplicateServer, capsys: Any) -> None:
    server.life = ["starting", "processing", "failed"]
    code, _, err = run(capsys, *order(server, "--create-destination", "--wait"))
    assert code == 1
    assert "CUDA out of memory" in err
    assert "Lower the batch size" in err


def test_a_lost_start_is_taken_up_by_the_next_call(server: ReplicateServer, capsys: Any) -> None:
    """Killed between the request and its answer: the next call finds the training instead of paying twice."""
    server.models[DESTINATION] = {"versions": {}, "visibility": "private"}
    server.fail("train", "drop")
    assert run(capsys, *order(server))[0] == 5
    ticket = book.unsettled(DESTINATION)
    assert ticket is not None
    server._new("lucataco/sd3.5-large-fine-tuner", SD35, DESTINATION, {"wandb_run": ticket.read()["mark"]})
    code, out, _ = run(capsys, *order(server))
    assert code == 0
    assert "taken up" in out
    assert len(server.trainings) == 1
    assert book.unsettled(DESTINATION) is None


def test_ctrl_c_leaves_the_training_going(
    server: ReplicateServer, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pressed(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting, "follow", pressed)
    code, out, _ = run(capsys, *order(server, "--create-destination", "--wait"))
    [training] = server.trainings.values()
    assert code == 130
    assert "goes on at Replicate" in out
    assert f"sd35l-trainer status {training['id']} --follow" in out
    assert training["status"] != "canceled"


def test_wandb_key_goes_along_only_when_asked_for_and_is_written_nowhere(
    server: ReplicateServer, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    run(capsys, *order(server, "--create-destination"))
    _code, out, err = run(capsys, *order(server, "--wandb-project", "boats", "--wandb-run", "first"))
    first, second = server.trainings.values()
    assert "wandb_api_key" not in first["input"]
    assert second["input"]["wandb_api_key"] == "k" * 40
    written = "".join(p.read_text(errors="replace") for p in tmp_path.rglob("*") if p.is_file())
    for secret in ("k" * 40, TOKEN):
        assert secret not in written + out + err


def test_clock_that_is_wrong_does_not_change_the_cost(server: ReplicateServer, capsys: Any) -> None:
    from datetime import timedelta

    server.skew = timedelta(hours=-7)
    training = server.put()
    for _ in range(3):
        told = run_json(capsys, "status", training["id"])[1]
    assert told["running_seconds"] == pytest.approx(120, abs=5)


# --- setup and the process itself


def test_setup_asks_again_and_writes_what_train_takes(
    server: ReplicateServer, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = ["http://plain.example/d.zip", "https://example.com/d.zip", "No Model", DESTINATION, "dog", "mxqstyle", "nope",
               "fast", "99999", "1200", "", "prodigy", "", "", ""]  # fmt: skip
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(answers) + "\n"))
    code, out, err = run(capsys, "setup")
    assert (code, err) == (0, "")
    for said in ("not https", "is not a destination", "everyday word", "Use one of: beginner", "3 to 6000"):
        assert said in out
    path = book.config_dir() / "config.yaml"
    assert TOKEN not in path.read_text() + out
    code, told = run_json(capsys, "train", "--config", str(path), "--dry-run", "--offline")
    assert code == 0
    assert told["configuration"]["values"]["learning_rate"] == 1.0  # follows the optimizer that was chosen
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    assert run(capsys, "setup")[0] == 2  # does not replace what is there
    assert run(capsys, "setup", "--output", "new.yaml")[0] == 2  # the answers end
    assert not Path("new.yaml").exists()


def test_setup_judges_while_one_types() -> None:
    from prompt_toolkit.document import Document
    from prompt_toolkit.validation import ValidationError

    from studio.cli.sd35l.setup import validator, value_check

    judge = validator(value_check("steps"))
    judge.validate(Document("1500"))
    for text in ("15000", "abc", ""):
        with pytest.raises(ValidationError, match="whole number"):
            judge.validate(Document(text))


@pytest.mark.parametrize("line", [[], ["--help"], ["train", "--help"], ["-h"], ["--version"]])
def test_help(capsys: Any, line: list[str]) -> None:
    code, out, _ = run(capsys, *line)
    assert code == 0
    assert "sd35l-trainer" in out


@pytest.mark.parametrize(
    "line",
    [["fly"], ["train", "--stepz", "5"], ["status"], ["train", "--steps"], ["init-config", "--trainer", "x"]],
)
def test_wrong_lines(capsys: Any, line: list[str]) -> None:
    code, out, err = run(capsys, *line)
    assert code in (2, 3)
    assert "Fix:" in err
    assert "Traceback" not in out + err


def test_as_a_process_with_ctrl_c(server: ReplicateServer, tmp_path: Path) -> None:
    """The installed module itself: no token in its arguments, plain words in a pipe, 130 after Ctrl-C."""
    server.life = ["starting", *["processing"] * 500]
    line = [sys.executable, "-m", "studio.cli.sd35l", *order(server, "--create-destination", "--wait")]
    root = Path(__file__).resolve().parents[2]
    process = subprocess.Popen(
        line,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    try:
        for _ in range(600):
            if server.trainings and server.count("GET", next(iter(server.trainings))):
                break
            subprocess.run(["sleep", "0.1"], check=True)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert "goes on at Replicate" in out
    assert "\x1b" not in out
    assert not err


def test_pauses_grow_and_stay_bounded() -> None:
    assert follow.FIRST_POLL_S < follow.LONGEST_POLL_S < follow.LONGEST_OUTAGE_S
