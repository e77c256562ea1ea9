"""The charts, as figures."""

from __future__ import annotations

import pytest

from pages.parts import charts
from studio.training.progress import Metrics


def test_the_legend_keeps_above_the_curve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        charts, "colours", lambda: dict.fromkeys(("line", "second", "third", "text", "grid", "red"), "#888")
    )
    layout = charts.loss_figure(Metrics().add([{"type": "step", "step": 1, "loss": 1.0}]), [], []).layout
    assert (layout.legend.yref, layout.legend.yanchor, layout.legend.y) == ("container", "top", 1.0)
    assert layout.margin.t >= 2 * 1.9 * layout.legend.font.size, "two rows of it fit above the plot"
