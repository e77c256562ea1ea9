from __future__ import annotations

import io
from pathlib import Path

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageFilter, ImageOps

from studio.dataset.pixels import THUMB_SIDE, full_pixels, look_at, measure
from tests.dataset.pictures import encoded, png_header, scene


@pytest.mark.parametrize("share", [0.30, 0.90, 0.99])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"])
def test_a_truncated_picture_is_an_error_in_plain_words(kind: str, share: float) -> None:
    raw = encoded(scene(3, (900, 700)), kind)
    seen = measure(raw[: int(len(raw) * share)])
    assert seen.error.endswith(".")
    assert not seen.thumb
    assert measure(raw).error == ""


def test_a_truncated_progressive_jpeg_is_an_error() -> None:
    raw = encoded(scene(3, (900, 700)), "JPEG", progressive=True)
    assert measure(raw).error == ""
    assert "too early" in measure(raw[: int(len(raw) * 0.9)]).error


def test_flipped_bytes_never_raise() -> None:
    rng = np.random.default_rng(5)
    for kind in ("JPEG", "PNG", "WEBP", "GIF"):
        raw = bytearray(encoded(scene(4, (80, 60)), kind))
        for _ in range(30):
            broken = bytearray(raw)
            for at in rng.integers(4, len(raw), 8):
                broken[at] ^= 0xFF
            assert measure(bytes(broken)).sha256


def test_what_is_no_picture_says_so() -> None:
    assert "not that of a picture" in measure(b"just text").error
    assert "no content" in measure(b"").error
    assert "too large" in measure(png_header(60_000, 60_000)).error


@pytest.mark.parametrize("turn", range(1, 9))
def test_exif_rotation_gives_the_size_and_the_hash_of_the_upright_picture(turn: int) -> None:
    upright = scene(6, (300, 200))
    exif = Image.Exif()
    exif[0x0112] = turn
    raw = encoded(upright, "JPEG", exif=exif, quality=95)
    shown = ImageOps.exif_transpose(Image.open(io.BytesIO(raw)))
    seen = measure(raw)
    assert (seen.width, seen.height) == shown.size
    assert seen.exif_rotated == (turn != 1)
    expected = measure(encoded(shown)).phash
    assert (seen.phash ^ expected).bit_count() <= 6


def test_full_pixels_are_turned_too(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.png"
    scene(6, (30, 20)).save(path, exif=exif)
    assert np.array_equal(
        full_pixels(path), np.asarray(ImageOps.exif_transpose(Image.open(path)).convert("RGB"))
    )


def test_the_hash_is_that_of_imagehash() -> None:
    image = scene(7, (200, 150))
    seen = measure(encoded(image))
    bits = imagehash.phash(image, hash_size=16).hash
    assert seen.phash == int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")
    mirrored = measure(encoded(ImageOps.mirror(image)))
    assert (seen.phash_flip ^ mirrored.phash).bit_count() <= 4


def test_colour_modes_are_decoded_and_named() -> None:
    plain = scene(8, (120, 90))
    seen = measure(encoded(plain.convert("CMYK"), "JPEG", quality=95))
    assert (seen.mode, seen.error) == ("CMYK", "")
    assert (seen.phash ^ measure(encoded(plain)).phash).bit_count() < 40
    for mode in ("L", "P", "1", "LA", "RGBA"):
        assert measure(encoded(plain.convert(mode))).error == "", mode


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 100 * 100).reshape(100, 100).astype(np.uint16)
    seen = measure(encoded(Image.fromarray(ramp)))
    assert seen.mode.startswith("I")
    assert 0.45 < seen.light < 0.55
    middle = Image.open(io.BytesIO(seen.thumb)).convert("L").getpixel((50, 50))
    assert isinstance(middle, int) and 110 < middle < 145


def test_float_tiffs_are_decoded() -> None:
    values = np.linspace(0, 1, 64 * 64).reshape(64, 64).astype(np.float32)
    seen = measure(encoded(Image.fromarray(values), "TIFF"))
    assert seen.error == "" and 0.4 < seen.light < 0.6


def test_transparency_counts_only_when_something_is_see_through() -> None:
    image = scene(9, (60, 60)).convert("RGBA")
    assert not measure(encoded(image)).has_alpha
    image.putpixel((3, 3), (0, 0, 0, 0))
    assert measure(encoded(image)).has_alpha
    palette = Image.new("P", (40, 40), 0)
    assert measure(encoded(palette, "PNG", transparency=0)).has_alpha


def test_transparent_parts_become_white() -> None:
    seen = measure(encoded(Image.new("RGBA", (50, 50), (0, 0, 0, 0))))
    assert seen.light > 0.99


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_animations_are_noticed(kind: str) -> None:
    frames = [scene(i, (50, 40)) for i in range(3)]
    moving = measure(encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50))
    assert moving.error == "" and moving.frames > 1
    assert measure(encoded(frames[0], kind)).frames == 1


def test_a_tiff_of_several_pages_is_no_animation() -> None:
    assert measure(encoded(scene(1), "TIFF", save_all=True, append_images=[scene(2)])).frames == 1


@pytest.mark.parametrize("size", [(1, 1), (2, 500), (3000, 3), (50, 50)])
def test_odd_sizes(size: tuple[int, int]) -> None:
    seen = measure(encoded(Image.new("RGB", size, "teal")))
    assert (seen.width, seen.height, seen.error) == (*size, "")
    assert max(Image.open(io.BytesIO(seen.thumb)).size) <= THUMB_SIDE


def test_blur_lowers_the_sharpness_and_dimming_does_not() -> None:
    image = scene(10, (300, 300))
    sharp = measure(encoded(image)).sharpness
    assert measure(encoded(image.filter(ImageFilter.GaussianBlur(3)))).sharpness < sharp / 5
    dim = measure(encoded(image.point(lambda v: v // 2))).sharpness
    assert 0.7 < dim / sharp < 1.4


def test_a_flat_picture_has_no_sharpness_and_no_error() -> None:
    seen = measure(encoded(Image.new("RGB", (80, 80), "grey")))
    assert seen.sharpness == 0.0 and seen.error == ""


def test_damaged_exif_does_not_damage_the_picture(tmp_path: Path) -> None:
    raw = encoded(scene(2), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f")
    path = tmp_path / "x.png"
    path.write_bytes(raw)
    assert look_at(path).error == ""
