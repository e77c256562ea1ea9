from __future__ import annotations

import pytest
from PIL import Image

from studio.dataset.formats import (
    MAX_NAME_BYTES,
    TooManyPixels,
    open_picture,
    refusal,
    safe_name,
    same_stem,
    sniff,
)
from tests.dataset.pictures import encoded, png_header, scene


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"])
def test_a_picture_is_known_by_its_first_bytes(kind: str) -> None:
    raw = encoded(scene(1, (40, 30)), kind)
    assert sniff(raw[:32]) == kind
    assert sniff(raw[:32]) == open_picture(raw).format
    assert refusal("no ending at all", len(raw), raw[:32]) is None


@pytest.mark.parametrize(
    ("name", "raw", "code"),
    [
        ("photo.png", b"hello, I am a text", "not-a-picture"),
        ("photo.bmp", b"BM hello, I only start like a bitmap picture", "not-a-picture"),
        ("photo.jpg", b"", "file-empty"),
        ("photo.svg", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not-supported"),
        ("photo.CR2", b"II*\0\x10\0\0\0CR\x02\0", "camera-raw"),
        ("photo.jxl", b"\xff\x0a" + b"\0" * 30, "not-supported"),
        ("photo.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "not-supported"),
        ("photo.html", b"<!DOCTYPE html><html>404</html>", "not-a-picture"),
        ("photo.mp4", b"\0\0\0\x20ftypisom\0\0\2\0", "not-a-picture"),
    ],
)
def test_what_is_no_picture_is_refused_with_a_reason_and_a_fix(name: str, raw: bytes, code: str) -> None:
    if name.endswith(".heic") and "HEIF" in Image.OPEN:
        pytest.skip("this computer reads HEIC")
    answer = refusal(name, len(raw), raw[:32])
    assert answer is not None
    assert answer[0] == code
    assert answer[1].endswith(".") and answer[2].endswith(".")


def test_a_picture_beyond_the_pixel_limit_is_not_opened() -> None:
    with pytest.raises(TooManyPixels):
        open_picture(png_header(60_000, 60_000))
    with pytest.raises(TooManyPixels):
        open_picture(png_header(20_000, 10_001))
    vp8x = b"RIFF" + (100).to_bytes(4, "little") + b"WEBPVP8X" + (10).to_bytes(4, "little") + b"\0" * 4
    with pytest.raises(TooManyPixels):
        open_picture(vp8x + (16_383).to_bytes(3, "little") * 2 + b"\0" * 70)


def test_a_large_picture_within_the_limit_opens() -> None:
    assert open_picture(png_header(12_000, 10_000)).size == (12_000, 10_000)


@pytest.mark.parametrize(
    ("label", "kind", "name"),
    [
        ("photo.png", "PNG", "photo.png"),
        ("PHOTO.PNG", "PNG", "PHOTO.png"),
        ("deep/er/photo.jpeg", "JPEG", "photo.jpeg"),
        (r"C:\Users\me\photo.jpg", "JPEG", "photo.jpg"),
        ("../../etc/passwd", "PNG", "passwd.png"),
        ("photo.png", "JPEG", "photo.jpg"),
        ("photo", "WEBP", "photo.webp"),
        ("v1.5 final.png", "PNG", "v1.5 final.png"),
        ("version 1.5", "PNG", "version 1.5.png"),
        ("CON.png", "PNG", "_CON.png"),
        ("lpt1.final.jpg", "JPEG", "_lpt1.final.jpg"),
        ('a<b>c:d"e|f?g*h.png', "PNG", "a_b_c_d_e_f_g_h.png"),
        ("line\nbreak\x00.png", "PNG", "line_break_.png"),
        ("trailing. .png", "PNG", "trailing.png"),
        (".hidden.png", "PNG", "hidden.png"),
        ("...", "PNG", "picture.png"),
        (".png", "PNG", "picture.png"),
        ("猫の写真.png", "PNG", "猫の写真.png"),
        ("صورة.jpg", "JPEG", "صورة.jpg"),
        ("кошка 🐈.webp", "WEBP", "кошка 🐈.webp"),
        ("cafe\u0301.png", "PNG", "caf\u00e9.png"),
        ("bad\ud800name.png", "PNG", "bad_name.png"),
    ],
)
def test_names_become_safe_and_keep_their_script(label: str, kind: str, name: str) -> None:
    assert safe_name(label, kind) == name


def test_long_names_are_cut_at_a_whole_letter() -> None:
    name = safe_name("猫" * 300 + ".png", "PNG")
    assert name.endswith("猫.png")
    assert len(name.encode()) <= MAX_NAME_BYTES + 4


def test_names_that_some_file_system_takes_for_one_share_a_key() -> None:
    assert same_stem("Cafe\u0301") == same_stem("CAF\u00c9")
    assert same_stem("a") != same_stem("b")
