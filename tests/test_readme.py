"""The README is a contract: every command that it shows is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BIN = Path(sys.executable).parent


def _commands(language: str) -> list[str]:
    blocks = re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)
    lines = [line.split("   #")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


MAKE = [c for c in _commands("sh") if c.startswith("make ")]
PYTHON = [c for c in _commands("sh") if c.startswith("python -m studio ")]
CLOUD = [c for c in _commands("sh") if c.startswith("python -m studio.cli.sd35l ")]


def _run(command: list[str], home: Path, timeout: float = 900, cwd: Path = ROOT) -> str:
    env = {
        **os.environ,
        "STUDIO_HOME": str(home),
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        command,
        cwd=cwd,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def _make(target: str) -> list[str]:
    """`make TARGET` with the packages of this environment instead of a second installation."""
    return ["make", f"BIN={BIN}", "-o", ".venv/.ready-run", "-o", ".venv/.ready-dev", target]


def test_every_shown_command_is_known_to_these_tests() -> None:
    assert {*MAKE, *PYTHON, *CLOUD} == set(_commands("sh")), "a new command in the README needs a test here"
    assert [c.split()[1] for c in MAKE] == ["demo", "run"]
    for target in ("demo", "run", "test", "lint", "docs", "pocket", "bench"):
        subprocess.run(["make", "-n", target], cwd=ROOT, check=True, capture_output=True)


def test_links_and_pictures_of_the_readme_exist() -> None:
    for text in (README, (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (ROOT / target).exists(), target


def test_the_windows_lines_name_real_things(tmp_path: Path) -> None:
    lines = _commands("bat")
    assert lines[0] == "py -m venv .venv"
    for line in lines[1:]:
        program, *arguments = line.split()
        assert program == r".venv\Scripts\python" and arguments[0] == "-m"
        if arguments[1] == "pip":
            assert (ROOT / arguments[-1]).is_file()
        else:
            _run([sys.executable, *arguments[:2], "--help"], tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_make_demo(tmp_path: Path) -> None:
    said = _run(_make("demo"), tmp_path)
    for word in ("NO-GO", "GO", "loss", "weight", ".png"):
        assert word.lower() in said.lower(), word
    assert (tmp_path / "studio.md").is_file()
    (sheet,) = tmp_path.glob("projects/*/grids/*/sheet.png")
    weights = json.loads((sheet.parent / "metrics.json").read_text())["weights"]
    effects = [w["effect"] for w in weights]
    assert effects == sorted(effects) and effects[-1] > effects[0], "the effect grows with the weight"
    note = json.loads(next(tmp_path.glob("projects/*/demo.json")).read_text())
    trained = next(s for s in note["stages"] if s["name"] == "train")
    assert trained["loss"] < 0.5 * trained["first_loss"], "the LoRA learned"
    assert 0.3 <= next(s for s in note["stages"] if s["name"] == "grid")["weight"] <= 1.0


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_path_in_six_lines(tmp_path: Path) -> None:
    assert len(PYTHON) == 6
    # The whole length is trained by the demo above. Here a preset of the user's own, of the same name, is shorter.
    shorter = (ROOT / "presets" / "pocket_standard.yaml").read_text(encoding="utf-8")
    shorter, changed = re.subn(r"(?m)^( +epochs:) \d+", r"\1 5", shorter)
    assert changed == 1
    (tmp_path / "presets").mkdir()
    (tmp_path / "presets" / "pocket_standard.yaml").write_text(shorter, encoding="utf-8")
    for line in PYTHON:
        _run([sys.executable, *shlex.split(line)[1:]], tmp_path)
    assert list((tmp_path / "library").glob("*/*.safetensors"))
    (run,) = tmp_path.glob("projects/*/runs/*/run.json")
    assert json.loads(run.read_text())["settings"]["epochs"] == 5


def test_the_cloud_command(tmp_path: Path) -> None:
    (line,) = CLOUD
    said = _run([sys.executable, *shlex.split(line)[1:]], tmp_path / "home", cwd=tmp_path)
    assert "dataset_url:" in said and "trigger_word:" in said, "a config to start from is shown"


def _port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    "command",
    [_make("run"), [sys.executable, "-m", "streamlit", "run", "streamlit_app.py"]],
    ids=["make run", "streamlit run"],
)
def test_the_app_opens(tmp_path: Path, command: list[str]) -> None:
    port = _port()
    env = {
        **os.environ,
        "STUDIO_HOME": str(tmp_path),
        "STREAMLIT_SERVER_PORT": str(port),
        "STREAMLIT_SERVER_HEADLESS": "true",
    }
    with (tmp_path / "out.txt").open("wb") as out:
        server = subprocess.Popen(
            command,
            cwd=ROOT,
            env=env,
            stdout=out,
            stderr=out,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=2) as answer:
                    assert answer.read() == b"ok"
                    break
            except OSError:
                assert time.monotonic() < deadline and server.poll() is None, (
                    tmp_path / "out.txt"
                ).read_text()
                time.sleep(0.3)
        listening = (tmp_path / "out.txt").read_text()
        assert "External URL" not in listening, "the app answers to this computer only"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(timeout=30)
