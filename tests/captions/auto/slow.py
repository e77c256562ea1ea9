"""The captioning jobs with a pause before each picture, so that a test can meet them in the middle."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import pytest

PAUSE_S = 0.04


def slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Captioning jobs launched from now on run through this file."""
    from studio import files
    from studio.jobs.job import JobSpec
    from studio.jobs.launch import launch

    def launch_slow(folder: Path, target: str, payload: dict[str, Any], **spec: Any) -> Any:
        files.write_json(folder / "payload.json", payload)
        root = Path(__file__).resolve().parents[3]
        code = f"import sys; sys.path.insert(0, {str(root)!r}); from tests.captions.auto.slow import main; sys.exit(main())"
        return launch(folder, JobSpec(command=[sys.executable, "-c", code, target, str(folder)], **spec))

    monkeypatch.setattr("studio.captions.batch.launch_call", launch_slow)


def main() -> int:
    """Run a captioning job slowly."""
    from studio.captions.workers.work import _Batch
    from studio.jobs import call

    take = _Batch._take

    def slow_take(self: Any, answer: Any) -> None:
        time.sleep(PAUSE_S)
        take(self, answer)

    _Batch._take = slow_take  # type: ignore[method-assign]
    return call.main(sys.argv[1:])
