"""A disk that runs full at a checkpoint: told in plain words, nothing half written, and the run goes on when there is room."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from studio import files
from studio.jobs import causes
from studio.training.base import TrainingPlan

Make = Callable[..., TrainingPlan]
Train = Callable[..., tuple[dict[str, Any] | None, list[dict[str, Any]]]]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 24 MB in memory."""
    place = tmp_path / "small"
    place.mkdir()
    try:
        made = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)], capture_output=True, check=False
        )
    except OSError:
        pytest.skip("there is no mount command here")
    if made.returncode:
        pytest.skip("a small disk can only be made by root")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@pytest.mark.skipif(os.name == "nt", reason="needs a disk of its own")
def test_a_disk_that_runs_full_at_a_checkpoint(make_plan: Make, train: Train, small: Path) -> None:
    settings = {"epochs": 4, "save_every_epochs": 2}
    plan = make_plan(folder="small/run", **settings)
    _result, _events = train(plan, 7)  # one checkpoint is there, and a state
    first = {p.name: p.read_bytes() for p in plan.checkpoints_dir.iterdir()}
    assert len(first) == 1
    filler = small / "filler"
    with filler.open("wb") as f, pytest.raises(OSError, match="No space"):
        while True:
            f.write(b"\0" * 65536)
            f.flush()
    assert files.free_bytes(small) < 65536

    with pytest.raises(Exception) as caught:
        train(plan)
    told = causes.of_exception(caught.value)  # what the job's record says
    assert "No space left" in told["why"] and "Free some room on the disk" in told["fix"], told
    assert {p.name: p.read_bytes() for p in plan.checkpoints_dir.iterdir()} == first, "nothing half written"

    filler.unlink()
    result, events = train(plan)
    assert result is not None
    assert [e["step"] for e in events if e["type"] == "resume"], "it went on, and did not begin again"
    whole = make_plan(folder="whole", **settings)
    train(whole)
    name = "mine.safetensors"
    assert (plan.checkpoints_dir / name).read_bytes()[-4096:] == (whole.checkpoints_dir / name).read_bytes()[
        -4096:
    ]
