"""Following a run that goes on: what it said so far, of which only what is new is read from the disk."""

from __future__ import annotations

from studio.training.progress import Metrics
from studio.training.runs import Run


class Reading:
    """Everything one run said, read on at each `more`. Belongs to one reader; two at once each take their own."""

    def __init__(self) -> None:
        self.metrics = Metrics()
        self._offset = 0

    def more(self, run: Run) -> Metrics:
        """What the run said until now."""
        events, further = run.events(self._offset)
        if further < self._offset:  # the file was replaced, and has been read from its beginning
            self.metrics = Metrics()
        self._offset = further
        self.metrics.add(events)
        return self.metrics
