"""The contact sheet: weights across with large titles, prompts down, one block a checkpoint and seed."""

from __future__ import annotations

import io
import textwrap
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from studio import files
from studio.evaluation.curve import nearest_drawn
from studio.evaluation.spec import FAMILY_WORDS, Cell, GridSpec

PAPER, INK, QUIET, LINE, ACCENT = "#faf9f7", "#1c1b1a", "#6b6862", "#e3e0da", "#0b6e5f"
_GAP, _EDGE, _LABEL = 10, 28, 230
_MAX_SIDE = 16_000
"""Longest side in pixels; a grid that would be larger gets smaller cells."""


def write_sheet(
    spec: GridSpec, cells: list[Cell], target: Path, headline: str = "", sweet: float | None = None
) -> None:
    """Draw and store the sheet. Cells that are not there are drawn as an empty frame with the reason.

    headline: the verdict, under the title. sweet: recommended weight; its column (or the drawn one nearest to it) is marked.
    """
    picture = draw_sheet(spec, cells, headline, sweet)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=4)
    files.write_bytes(target, buffer.getvalue())


def draw_sheet(
    spec: GridSpec, cells: list[Cell], headline: str = "", sweet: float | None = None
) -> Image.Image:
    """The sheet as a picture."""
    by_place = {(c.checkpoint, c.seed, c.prompt.id, c.weight): c for c in cells}
    blocks = [(lora.label, seed) for lora in spec.lora_files for seed in spec.seeds]
    width, height = _cell_size(spec, len(blocks))
    columns = len(spec.weights)
    total_width = 2 * _EDGE + _LABEL + columns * (width + _GAP)
    title = _font(30)
    head = 70 + (30 if headline else 0)
    block_head = 56 if len(blocks) == 1 else 96
    block_height = block_head + len(spec.prompts) * (height + _GAP) + 14
    sheet = Image.new("RGB", (total_width, _EDGE + head + len(blocks) * block_height + _EDGE), PAPER)
    pen = ImageDraw.Draw(sheet)

    name = spec.lora_files[0].path.stem if len(spec.lora_files) == 1 else spec.project
    facts = f"{spec.base_model} · {spec.steps} steps · guidance {spec.guidance:g} · seed {', '.join(map(str, spec.seeds))}"
    pen.text((_EDGE, _EDGE), _cut(pen, name, title, total_width // 2), INK, title)
    pen.text((total_width - _EDGE, _EDGE + 10), facts, QUIET, _font(16), anchor="ra")
    if headline:
        pen.text(
            (_EDGE, _EDGE + 48), _cut(pen, headline, _font(19), total_width - 2 * _EDGE), ACCENT, _font(19)
        )
    drawn = [w for w in spec.weights if w > 0]
    marked = nearest_drawn(drawn, sweet) if sweet and drawn else None

    for index, (label, seed) in enumerate(blocks):
        top = _EDGE + head + index * block_height
        if len(blocks) > 1:
            words = label + (f" · seed {seed}" if len(spec.seeds) > 1 else "")
            pen.line((_EDGE, top, total_width - _EDGE, top), LINE, 2)
            pen.text((_EDGE, top + 10), words, INK, _font(22))
        titles = top + block_head - 44
        for column, weight in enumerate(spec.weights):
            middle = _EDGE + _LABEL + column * (width + _GAP) + width // 2
            shown = f"{weight:.1f}" if round(weight, 1) == weight else f"{weight:g}"
            words = shown if weight else "0 base" if width < 150 else "0 (base)"
            pen.text((middle, titles), words, ACCENT if weight == marked else INK, _font(28), anchor="ma")
            if weight == marked:
                pen.rectangle((middle - width // 2, titles + 36, middle + width // 2, titles + 39), ACCENT)
        for row, prompt in enumerate(spec.prompts):
            y = top + block_head + row * (height + _GAP)
            _row_label(pen, prompt.text, FAMILY_WORDS[prompt.family], y, height)
            for column, weight in enumerate(spec.weights):
                x = _EDGE + _LABEL + column * (width + _GAP)
                _put(sheet, pen, by_place.get((label, seed, prompt.id, weight)), (x, y, width, height))
    return sheet


def _cell_size(spec: GridSpec, blocks: int) -> tuple[int, int]:
    """Shown size of a cell: small pictures three times as large, large ones 256 px wide, less when the sheet would not fit."""
    scale = 192 / spec.width if spec.width <= 96 else min(1.0, 256 / spec.width)
    rows = blocks * len(spec.prompts)
    fit = min(
        (_MAX_SIDE - _LABEL - len(spec.weights) * _GAP) / (len(spec.weights) * spec.width * scale),
        max(1, _MAX_SIDE - rows * _GAP - blocks * 110) / (rows * spec.height * scale),
        1.0,
    )
    return max(24, int(spec.width * scale * fit)), max(24, int(spec.height * scale * fit))


def _row_label(pen: ImageDraw.ImageDraw, text: str, family: str, y: int, height: int) -> None:
    font, small = _font(19), _font(15)
    lines = textwrap.wrap(text, 22)
    room = max(1, (height - 24) // 24)
    if len(lines) > room:
        lines = [*lines[: room - 1], lines[room - 1][:19] + "…"]
    block = len(lines) * 24 + 22
    at = y + max(0, (height - block) // 2)
    for line in lines:
        pen.text((_EDGE, at), _cut(pen, line, font, _LABEL - 16), INK, font)
        at += 24
    pen.text((_EDGE, at + 2), family, QUIET, small)


def _put(
    sheet: Image.Image, pen: ImageDraw.ImageDraw, cell: Cell | None, box: tuple[int, int, int, int]
) -> None:
    x, y, width, height = box
    if cell is not None and cell.path is not None:
        try:
            with Image.open(cell.path) as raw:
                # Whole-number enlargement keeps the pixels of a tiny picture as the model drew them.
                whole = width % raw.width == 0 and height % raw.height == 0 and width > raw.width
                how = Image.Resampling.BICUBIC if whole else Image.Resampling.LANCZOS
                sheet.paste(raw.convert("RGB").resize((width, height), how, reducing_gap=2.0), (x, y))
            return
        except OSError:
            pass
    pen.rectangle((x, y, x + width - 1, y + height - 1), outline=LINE, width=2)
    reason = (cell.error if cell is not None else None) or "not drawn"
    for i, line in enumerate(textwrap.wrap(reason, max(8, width // 9))[: max(1, height // 20 - 1)]):
        pen.text((x + 8, y + 8 + 20 * i), line, QUIET, _font(15))


def _cut(
    pen: ImageDraw.ImageDraw, text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, room: int
) -> str:
    """The text, shortened with an ellipsis to fit into `room` pixels."""
    if pen.textlength(text, font) <= room:
        return text
    while text and pen.textlength(text + "…", font) > room:
        text = text[:-1]
    return text.rstrip() + "…"


_FONTS: dict[int, ImageFont.FreeTypeFont | ImageFont.ImageFont] = {}


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Aileron, which comes inside Pillow (CC0), at a size."""
    if size not in _FONTS:
        _FONTS[size] = ImageFont.load_default(size)
    return _FONTS[size]
