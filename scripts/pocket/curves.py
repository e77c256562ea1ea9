"""Turns the training logs of a work folder into `loss.csv` and `loss.png` for the model card."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from scripts.pocket import vae

MEAN_OVER = 25
"""Steps averaged into one row of the table and one point of the curve."""
SIZE = (420, 240)
MARGIN = 40
INK, GRID = (30, 60, 160), (220, 224, 235)


def _rows(log: Path) -> list[tuple[int, float]]:
    """(step, loss) of one log; logs that hold every step are averaged."""
    with log.open(newline="", encoding="utf-8") as file:
        rows = [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]
    if len(rows) < MEAN_OVER or rows[1][0] - rows[0][0] >= MEAN_OVER:
        return rows
    parts = [rows[at : at + MEAN_OVER] for at in range(0, len(rows) - MEAN_OVER + 1, MEAN_OVER)]
    return [(part[-1][0], sum(loss for _, loss in part) / len(part)) for part in parts]


def _chart(title: str, rows: Sequence[tuple[int, float]]) -> Image.Image:
    """One curve: steps to the right, loss upwards on a logarithmic axis."""
    canvas = Image.new("RGB", SIZE, "white")
    pen = ImageDraw.Draw(canvas)
    low, high = (math.log10(edge([loss for _, loss in rows])) for edge in (min, max))
    low, high, last = low - 0.03, high + 0.03, rows[-1][0]
    width, height = SIZE[0] - 2 * MARGIN, SIZE[1] - 2 * MARGIN

    def place(step: float, loss: float) -> tuple[float, float]:
        up = (math.log10(loss) - low) / (high - low)
        return MARGIN + step / last * width, MARGIN + (1 - up) * height

    ticks = [
        m * 10**e for e in range(-3, 2) for m in (1, 1.5, 2, 3, 5, 7) if low <= math.log10(m * 10**e) <= high
    ]
    for tick in ticks:
        y = place(0, tick)[1]
        pen.line([(MARGIN, y), (MARGIN + width, y)], fill=GRID)
        pen.text((4, y - 6), f"{tick:g}", fill="black")
    pen.line([place(step, loss) for step, loss in rows], fill=INK, width=2)
    pen.text((MARGIN, 10), title, fill="black")
    pen.text((MARGIN, SIZE[1] - MARGIN + 8), f"0 to {last} steps; last loss {rows[-1][1]:.3f}", fill="black")
    return canvas


def write(work: Path, target: Path) -> None:
    """`loss.csv` (part, step, loss) and `loss.png` (one chart a part) into `target`."""
    logs = {f"autoencoder, {r.name}": work / f"vae_{r.name}.csv" for r in vae.ROUNDS}
    parts = {title: _rows(log) for title, log in (logs | {"UNet": work / "unet_log.csv"}).items()}
    with (target / "loss.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["part", "step", "loss"])
        writer.writerows([title, step, f"{loss:.4f}"] for title, rows in parts.items() for step, loss in rows)
    charts = [_chart(title, rows) for title, rows in parts.items()]
    image = Image.new("RGB", (SIZE[0] * len(charts), SIZE[1]), "white")
    for number, chart in enumerate(charts):
        image.paste(chart, (number * SIZE[0], 0))
    image.quantize(32).save(target / "loss.png", optimize=True)
