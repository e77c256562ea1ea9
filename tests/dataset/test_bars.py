"""Letterbox bars: films and screenshots have them, a figure on a white ground has none."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageCms, ImageDraw

from studio.dataset.bars import find_bars
from studio.dataset.pixels import measure
from tests.dataset.pictures import encoded, scene


def barred(
    inner: Image.Image, left: int, top: int, right: int, bottom: int, colour: str = "black"
) -> Image.Image:
    """`inner` with bars around it."""
    size = (inner.width + left + right, inner.height + top + bottom)
    out = Image.new("RGB", size, colour)
    out.paste(inner, (left, top))
    return out


@pytest.mark.parametrize(
    "sides", [(0, 30, 0, 30), (40, 0, 40, 0), (20, 24, 20, 24), (0, 12, 0, 40), (0, 6, 0, 6)]
)
@pytest.mark.parametrize("colour", ["black", "white", "#808080"])
def test_bars_are_found_to_the_pixel(sides: tuple[int, int, int, int], colour: str) -> None:
    found = find_bars(np.asarray(barred(scene(3, (240, 180)), *sides, colour).convert("L")))
    assert all(abs(a - b) <= 1 for a, b in zip(found, sides, strict=True)), found


def test_a_figure_on_a_plain_ground_has_no_bars() -> None:
    for colour in ("white", "black", "#d0d0d0"):
        picture = Image.new("RGB", (300, 400), colour)
        ImageDraw.Draw(picture).ellipse([90, 60, 210, 340], fill="#a05030")
        assert find_bars(np.asarray(picture.convert("L"))) == (0, 0, 0, 0)


def test_what_is_plain_or_tiny_or_barred_at_one_end_only_has_none() -> None:
    assert find_bars(np.full((100, 100), 30, np.uint8)) == (0, 0, 0, 0)
    assert find_bars(np.zeros((8, 8), np.uint8)) == (0, 0, 0, 0)
    assert find_bars(np.asarray(barred(scene(3), 0, 30, 0, 0).convert("L"))) == (0, 0, 0, 0)
    assert find_bars(np.asarray(scene(5).convert("L"))) == (0, 0, 0, 0)


def test_a_letterboxed_jpeg_is_measured_and_hashed_without_its_bars() -> None:
    inner = scene(8, (900, 500))
    plain, boxed = measure(encoded(inner, "JPEG")), measure(encoded(barred(inner, 0, 120, 0, 120), "JPEG"))
    assert boxed.bars == pytest.approx(240 / 740, abs=0.01) and plain.bars == 0
    assert (plain.phash ^ boxed.phash).bit_count() <= 40
    assert boxed.light == pytest.approx(plain.light, abs=0.02)


def test_bits_a_channel_come_from_the_file() -> None:
    grey16 = Image.fromarray((np.arange(64 * 64, dtype=np.uint16) * 15).reshape(64, 64))
    assert measure(encoded(grey16)).depth == 16
    rgb16 = _png16()
    assert measure(rgb16).depth == 16 and measure(rgb16).mode == "RGB"
    assert measure(encoded(scene(1))).depth == 8
    assert measure(encoded(scene(1), "TIFF")).depth == 8
    assert measure(encoded(scene(1).convert("1"))).depth == 1


def _png16() -> bytes:
    """A 16-bit RGB PNG, which Pillow cannot write."""
    import struct
    import zlib

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    rows = b"".join(b"\0" + bytes((7 * x + y) % 256 for x in range(32 * 6)) for y in range(32))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 32, 32, 16, 2, 0, 0, 0))
        + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_a_profile_other_than_srgb_is_named() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    assert measure(encoded(scene(1), "JPEG", icc_profile=srgb)).profile == ""
    assert measure(encoded(scene(1), "JPEG", icc_profile=lab)).profile != ""
    assert measure(encoded(scene(1), "JPEG", icc_profile=b"not a profile at all" * 9)).profile == ""


def test_ground_and_ends_of_the_scale() -> None:
    flat = measure(encoded(Image.new("RGB", (200, 200), "teal")))
    assert flat.ground == 1.0
    half = Image.new("RGB", (200, 200), "white")
    half.paste("black", (0, 0, 200, 50))
    seen = measure(encoded(half))
    assert (seen.burnt, seen.drowned) == pytest.approx((0.75, 0.25), abs=0.02)
