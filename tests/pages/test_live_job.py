"""The words beside the bar of a job."""

from __future__ import annotations

import pytest

from pages.parts.live_job import _counted
from studio.jobs.job import Progress


@pytest.mark.parametrize(
    ("done", "total", "said"),
    [(3.6, 48, "3 of 48 pictures"), (48, 48.0, "48 of 48 pictures"), (0, 12000, "0 of 12,000 pictures")],
)
def test_what_is_counted_is_told_in_whole_numbers(done: float, total: float, said: str) -> None:
    assert _counted(Progress(done=done, total=total, unit="pictures")) == said


def test_what_is_fetched_is_told_in_units_of_size() -> None:
    assert _counted(Progress(done=0.4, total=4271.3, unit="MB")) == "400 KB of 4.3 GB"
