"""Secrets are found in their order, told of without being shown, and lent only for a launch."""

from __future__ import annotations

import os
import sys
import types
from pathlib import Path

import pytest

from studio import secrets
from studio.workspace import Workspace

NAME = secrets.REPLICATE


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(NAME, raising=False)
    monkeypatch.setattr(Path, "home", classmethod(lambda cls: tmp_path / "home"))
    monkeypatch.setattr(secrets, "shipped", lambda: tmp_path / "checkout")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setitem(sys.modules, "keyring", None)


def _keyring(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    fake = types.ModuleType("keyring")
    fake.get_password = lambda service, name: value if (service, name) == ("lora-studio", NAME) else None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", fake)


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_nothing_is_set(workspace: Workspace) -> None:
    assert secrets.find_secret(workspace, NAME) is None
    assert secrets.secret_state(workspace, NAME) == (False, "")


def test_order(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    dotenv = _write(workspace.root / ".env", f"export {NAME}='of dotenv'\n")
    assert secrets.find_secret(workspace, NAME) == "of dotenv"
    assert secrets.secret_state(workspace, NAME) == (True, str(dotenv))
    _keyring(monkeypatch, " of keyring\n")
    assert secrets.find_secret(workspace, NAME) == "of keyring"
    assert secrets.secret_state(workspace, NAME) == (True, "keyring")
    toml = _write(workspace.root / ".streamlit/secrets.toml", f'[cloud]\n{NAME} = "of toml"\n')
    assert secrets.find_secret(workspace, NAME) == "of toml"
    assert secrets.secret_state(workspace, NAME) == (True, str(toml))
    monkeypatch.setenv(NAME, "of environment")
    assert secrets.secret_state(workspace, NAME) == (True, "environment")
    assert secrets.find_secret(workspace, NAME) == "of environment"


@pytest.mark.parametrize(
    "text", ["[cloud\n", f'{NAME} = "outside of the table"\n', "cloud = 1\n", "[cloud]\nOTHER = 'x'\n"]
)
def test_a_poor_secrets_file_counts_as_not_there(workspace: Workspace, text: str) -> None:
    _write(workspace.root / ".streamlit/secrets.toml", text)
    assert secrets.find_secret(workspace, NAME) is None


def test_a_dotenv_that_is_no_text_counts_as_not_there(workspace: Workspace) -> None:
    (workspace.root / ".env").write_bytes(b"\xff\xfe\x00 = \xff")
    assert secrets.find_secret(workspace, NAME) is None


def test_a_broken_keyring_counts_as_empty(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    _keyring(monkeypatch, None)

    def locked(service: str, name: str) -> str:
        raise RuntimeError("no backend")

    monkeypatch.setattr(sys.modules["keyring"], "get_password", locked)
    assert secrets.find_secret(workspace, NAME) is None


def test_values_with_a_dollar_stay_as_they_are(workspace: Workspace) -> None:
    _write(Path.cwd() / ".env", f"{NAME}=a${{HOME}}b\n")
    assert secrets.find_secret(workspace, NAME) == "a${HOME}b"
    assert secrets.find_secret(None, NAME) == "a${HOME}b"


def test_lent_only_for_the_launch(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(workspace.root / ".env", f"{NAME}=lent\n")
    monkeypatch.setenv("HF_TOKEN", "own")
    with pytest.raises(ValueError, match="launch"), secrets.lent(workspace, NAME, "HF_TOKEN"):
        assert os.environ[NAME] == "lent"
        raise ValueError("launch failed")
    assert NAME not in os.environ
    assert os.environ["HF_TOKEN"] == "own"
