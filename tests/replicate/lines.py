"""Running `sd35l-trainer` in tests."""

from __future__ import annotations

import json
from typing import Any

import pytest

from studio.cli.sd35l.app import main
from tests.fakes.replicate_server import OWNER, ReplicateServer

DESTINATION = f"{OWNER}/boats"


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
