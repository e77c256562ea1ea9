"""Letterbox bars: plain strips along the edges, as around a film still or a phone's screenshot.

A bar is a run of rows (or columns) of one brightness that ends in a clean edge: the first row behind it differs from
it over most of its length. So a figure on a white ground has no bars, however much white there is around it, and a
film still has.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

EVEN = 10
"""Levels of brightness (of 256) that a bar may vary by: compression noise, no more."""
CLEAN = 0.6
"""Share of the row behind a bar that has to differ from it."""
NARROWEST = 0.015
"""Share of the side below which a strip is a scanner's edge rather than a bar."""
_SOFT = 3  # rows that a resized edge may be spread over
_RIPPLE = 8  # rows of a JPEG's block

Sides = tuple[int, int, int, int]
"""Pixels of bar at the left, top, right and bottom."""


def find_bars(grey: NDArray[np.uint8]) -> Sides:
    """The bars of a picture given as brightness, shape (height, width). All zero when there are none.

    What would remain is at least a quarter of each side; a picture of one plain colour has no bars.
    """
    height, width = grey.shape
    if min(height, width) < 16:
        return 0, 0, 0, 0
    top, bottom = _ends(grey)
    inner = grey[top : height - bottom]
    left, right = _ends(np.ascontiguousarray(inner.T))
    if (left or right) and not (top or bottom):
        return left, 0, right, 0
    if left or right:
        return left, top, right, bottom
    return 0, top, 0, bottom


def _ends(rows: NDArray[np.uint8]) -> tuple[int, int]:
    """Rows of bar at the start and at the end. A bar at one end only is not believed: skies and floors end cleanly."""
    count = rows.shape[0]
    low, high = rows.min(axis=1).astype(np.int16), rows.max(axis=1).astype(np.int16)
    even = high - low <= EVEN
    if not (even[0] and even[-1]):
        return 0, 0
    start, end = _run(rows, even, low), _run(rows[::-1], even[::-1], low[::-1])
    if not start or not end or start + end > 0.75 * count:
        return 0, 0
    return start, end


def _run(rows: NDArray[np.uint8], even: NDArray[np.bool_], low: NDArray[np.int16]) -> int:
    """Length of the bar at the first row; 0 without a clean edge behind it."""
    level = int(np.median(rows[0]))
    same = even & (np.abs(low - int(low[0])) <= EVEN)
    length = int(np.argmin(same)) if not same.all() else len(same)
    if length < max(2, round(NARROWEST * len(rows))) or length >= len(rows):
        return 0
    # The compression block that holds both bar and picture ripples: rows that are still mostly bar go with it.
    for row in rows[length : length + _RIPPLE].astype(np.int16):
        if (np.abs(row - level) <= 2 * EVEN).mean() < CLEAN:
            break
        length += 1
    behind = rows[length : length + _SOFT].astype(np.int16)
    differs = (np.abs(behind - level) > EVEN * 1.5).mean(axis=1).max()
    return length + _soft(rows, length, level) if differs >= CLEAN else 0


def _soft(rows: NDArray[np.uint8], length: int, level: int) -> int:
    """Rows of the soft edge itself, a mix of bar and picture, which go with the bar."""
    away = np.abs(rows[length : length + _SOFT + 1].astype(np.int16) - level).mean(axis=1)
    extra = 0
    while extra < len(away) - 1 and away[extra] < 0.75 * away[extra + 1]:
        extra += 1
    return extra
