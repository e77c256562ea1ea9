"""The line itself: routing, help, the shape of answers, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.cli import docs, helptext
from studio.cli.commands import COMMANDS
from studio.cli.main import main
from studio.cli.spec import EXIT_CODES
from studio.errors import StudioError
from studio.settings import TrainingSettings

Cli = Callable[..., Any]


def test_no_command_shows_the_help(cli: Cli) -> None:
    answer = cli()
    assert answer.code == 0
    for command in COMMANDS:
        assert command.name in answer.out


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c.name)
def test_every_command_explains_itself(cli: Cli, command) -> None:
    answer = cli(*command.name.split(), "--help")
    assert answer.code == 0
    assert answer.out.startswith(f"Usage: lora-studio {command.name}")
    assert "--json" in answer.out and "--home" in answer.out
    assert all(str(code) in answer.out for code in EXIT_CODES)
    assert cli("help", *command.name.split()).out == answer.out


def test_a_family_alone_lists_its_members(cli: Cli) -> None:
    assert "captions replace" in cli("captions", "--help").out


def test_every_setting_is_a_flag_with_its_help(cli: Cli) -> None:
    text = " ".join(cli("config", "set", "--help").out.split())
    for name, info in TrainingSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert " ".join((info.description or "").split()) in text


def test_the_reference_pages_are_current() -> None:
    assert docs.stale() == [], "run python -m studio.cli.docs"


def test_every_exit_code_of_the_errors_is_documented() -> None:
    def family(kind: type[StudioError]) -> list[type[StudioError]]:
        return [kind, *(k for sub in kind.__subclasses__() for k in family(sub))]

    assert {e.exit_code for e in family(StudioError)} <= set(EXIT_CODES)


def test_common_options_may_stand_before_the_command(cli: Cli, home: Path) -> None:
    other = home.parent / "other"
    assert cli("--home", other, "--json", "projects").json["workspace"] == str(other)
    assert cli(f"--home={other}", "projects", "--json").json["workspace"] == str(other)


def test_home_wins_over_the_environment_and_leaves_it(cli: Cli, home: Path) -> None:
    cli("new", "One", "--kind", "object", "--home", home.parent / "b")
    assert (home.parent / "b" / "projects" / "one").is_dir()
    assert os.environ["STUDIO_HOME"] == str(home)


def test_advised_commands_work_as_shown(cli: Cli, home: Path, tmp_path: Path) -> None:
    other = tmp_path / "my files"
    cli("new", "One", "--kind", "object", "--home", other)
    assert "Next: lora-studio import FOLDER" in cli("new", "Two", "--kind", "object").out
    shown = cli("status", "-p", "one", "--home", other).out
    assert f"Next: lora-studio --home '{other}' -p one import FOLDER" in shown
    assert f"lora-studio --home '{other}' new" in cli("projects", "--home", other / "x").out.replace(
        "/x'", "'"
    )
    refused = cli("open", "three", "--home", other)
    assert "Did you mean" not in refused.err and refused.code == 3


def test_all_problems_are_told_at_once(cli: Cli) -> None:
    answer = cli("new", "--kind", "stile", "--trigger", "a,b", "--bsae-model=x")
    assert answer.code == 2
    for words in ("NAME is missing", "--kind cannot be 'stile'", "'a,b' cannot be", "no option --bsae-model"):
        assert words in answer.err
    assert "Did you mean 'style'?" in answer.err and "Did you mean '--base-model'?" in answer.err


def test_words_after_two_hyphens_are_never_options(cli: Cli, home: Path) -> None:
    answer = cli("new", "--kind", "style", "--", "--odd name--")
    assert answer.code == 0
    assert (home / "projects" / "odd-name").is_dir()


def test_words_and_options_may_be_mixed(cli: Cli, project: Path) -> None:
    answer = cli("config", "set", "rank=4", "--flip", "epochs=3", "--json", "seed=7")
    assert answer.json["changed"] == {
        "rank": [8, 4],
        "alpha": [8, 4],  # follows the rank
        "epochs": [15, 3],
        "flip": [False, True],
        "seed": [42, 7],
    }


def test_an_unexpected_error_is_told_in_words_and_logged(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_self: object) -> list[str]:
        raise RuntimeError("wires crossed")

    monkeypatch.setattr("studio.workspace.Workspace.project_slugs", broken)
    answer = cli("projects")
    assert answer.code == 1
    assert "Traceback" not in answer.out + answer.err
    assert "wires crossed" in answer.err and "cli.log" in answer.err
    assert "Traceback" in (home / "logs" / "cli.log").read_text()
    document = cli("projects", "--json")
    assert document.json["error"] == "StudioError" and document.err == ""


def test_an_operating_system_error_is_told_in_words(
    cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(_self: object) -> list[str]:
        raise PermissionError(13, "Permission denied", "projects")

    monkeypatch.setattr("studio.workspace.Workspace.project_slugs", refused)
    answer = cli("projects")
    assert answer.code == 6
    assert "Permission denied" in answer.err and "Traceback" not in answer.err


def test_ctrl_c_is_no_error_of_the_studio(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def pressed(_self: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr("studio.workspace.Workspace.project_slugs", pressed)
    assert cli("projects").code == 130
    assert cli("projects", "--json").json["exit_code"] == 130


def test_errors_are_json_too(cli: Cli) -> None:
    answer = cli("confg", "--json")
    assert answer.code == 2 and answer.err == ""
    assert answer.json == {
        "command": "",
        "ok": False,
        "exit_code": 2,
        "error": "InputError",
        "what": "'confg' is not a command.",
        "why": answer.json["why"],
        "fix": answer.json["fix"],
        "findings": [],
    }
    assert "Did you mean 'config'?" in answer.json["fix"]


def test_a_pipe_gets_plain_text(cli: Cli, project: Path) -> None:
    assert "\x1b" not in cli("projects").out + cli("config", "show", "--all").out + cli("doctor").out


def test_a_real_process_and_a_reader_that_goes_away(home: Path) -> None:
    python = [sys.executable, "-m", "studio"]
    done = subprocess.run([*python, "projects", "--json"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["projects"] == []
    closed = subprocess.Popen(
        [*python, "config", "set", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert closed.stdout is not None and closed.stderr is not None
    closed.stdout.close()
    assert closed.wait(30) == 0
    assert closed.stderr.read() == b""
    closed.stderr.close()


def test_a_terminal_gets_colours_unless_told_otherwise(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pty = pytest.importorskip("pty")

    def on_terminal() -> str:
        outer, inner = pty.openpty()
        done = subprocess.Popen(
            [sys.executable, "-m", "studio", "doctor"], stdout=inner, stderr=inner, stdin=subprocess.DEVNULL
        )
        os.close(inner)
        parts = []
        while True:
            try:
                part = os.read(outer, 4096)
            except OSError:
                break
            if not part:
                break
            parts.append(part)
        done.wait(30)
        os.close(outer)
        return b"".join(parts).decode()

    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in on_terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[3" not in on_terminal()


def test_help_of_an_unknown_command_is_refused(cli: Cli) -> None:
    answer = cli("trian", "--help")
    assert answer.code == 2 and "Did you mean 'train'?" in answer.err


def test_overview_names_each_group_once() -> None:
    text = helptext.help_for([], COMMANDS)
    for group in {c.group for c in COMMANDS}:
        assert text.count(f"\n{group}\n") == 1


def test_main_takes_the_process_arguments(home: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["lora-studio", "--version"])
    assert main() == 0
    assert "lora-studio" in capsys.readouterr().out
