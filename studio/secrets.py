"""Where access tokens come from. They are looked up when needed and never written, shown or put on a command line.

Order: the environment, then `.streamlit/secrets.toml` (its `[cloud]` table), then the system's keyring (when the
package `keyring` is installed; service "lora-studio"), then `.env`. Files are looked for in the workspace, in the
working folder and in the studio's own checkout; `.streamlit/secrets.toml` also in the user's home, as Streamlit does.

A job gets a secret by `JobSpec.secrets`, out of the environment of whoever launches it: launch inside `lent(...)`,
which puts what was found in a file or the keyring into the environment for as long as the launch takes.
"""

from __future__ import annotations

import importlib
import os
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from studio.workspace import Workspace, shipped

REPLICATE = "REPLICATE_API_TOKEN"
HUGGING_FACE = "HF_TOKEN"
OPENAI = "OPENAI_API_KEY"
WANDB = "WANDB_API_KEY"
KNOWN: dict[str, str] = {
    REPLICATE: "Training on Replicate",
    HUGGING_FACE: "Base models of Hugging Face that ask for a sign-in",
    OPENAI: "Captions through an OpenAI-compatible service",
    WANDB: "Charts at Weights & Biases",
}
"""Secrets that the studio knows what to do with, and what each is for."""

SERVICE = "lora-studio"
"""Name of the studio in the system's keyring."""

_lending = threading.Lock()


def find_secret(ws: Workspace | None, name: str) -> str | None:
    """The value of a secret, stripped; None when it is set nowhere. A file that cannot be read counts as not there."""
    return _found(ws, name)[0]


def secret_state(ws: Workspace | None, name: str) -> tuple[bool, str]:
    """Whether a secret is set, and where in words ("environment", "keyring", or the file's path); never its value."""
    value, where = _found(ws, name)
    return value is not None, where


@contextmanager
def lent(ws: Workspace | None, *names: str) -> Iterator[None]:
    """Put the named secrets into this process's environment while a job is launched, then take them out again.

    One at a time; a secret that the environment has already stays as it is.
    """
    with _lending:
        added = []
        try:
            for name in names:
                value, where = _found(ws, name)
                if value is not None and where != "environment":
                    os.environ[name] = value
                    added.append(name)
            yield
        finally:
            for name in added:
                os.environ.pop(name, None)


def _found(ws: Workspace | None, name: str) -> tuple[str | None, str]:
    value = os.environ.get(name, "").strip()
    if value:
        return value, "environment"
    for path in _places(ws, ".streamlit/secrets.toml", home=True):
        if value := _of_toml(path, name):
            return value, str(path)
    if value := _of_keyring(name):
        return value, "keyring"
    for path in _places(ws, ".env"):
        if value := _of_dotenv(path, name):
            return value, str(path)
    return None, ""


def _places(ws: Workspace | None, name: str, *, home: bool = False) -> list[Path]:
    """Existing files of this name where secrets may lie, the nearest to the user's work first."""
    folders = [ws.root] if ws else []
    folders += [Path.cwd(), shipped()]
    if home:
        folders.append(Path.home())
    paths = (folder / name for folder in folders)
    return [p for p in dict.fromkeys(paths) if p.is_file()]


def _of_toml(path: Path, name: str) -> str:
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8")).get("cloud")
    except (OSError, ValueError):
        return ""
    return str(table.get(name, "")).strip() if isinstance(table, dict) else ""


def _of_keyring(name: str) -> str:
    try:
        keyring = importlib.import_module("keyring")
    except ImportError:
        return ""
    try:
        return (keyring.get_password(SERVICE, name) or "").strip()
    except Exception:  # noqa: BLE001 - a locked or missing keyring fails in a way of its own on each system
        return ""


def _of_dotenv(path: Path, name: str) -> str:
    from dotenv import dotenv_values

    try:
        return (dotenv_values(path, interpolate=False).get(name) or "").strip()
    except (OSError, ValueError):
        return ""
