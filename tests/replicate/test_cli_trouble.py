"""`sd35l-trainer` when something goes wrong, when Ctrl-C is pressed, and when questions are asked."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from studio.cli.sd35l import book, waiting
from studio.replicate import follow
from tests.fakes.replicate_server import SD35, TOKEN, ReplicateServer
from tests.replicate.lines import DESTINATION, order, run, run_json

pytestmark = pytest.mark.usefixtures("at_work")


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
