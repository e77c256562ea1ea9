"""Looking at one picture, once: everything the studio wants to know comes from a single read and a single decode.

The bytes are read and hashed, the header is opened, JPEGs are decoded at a reduced size (Pillow's draft mode, which
still reads the file to its end, so that truncation is caught), and all measures are taken on a copy of at most
WORK_SIDE pixels a side.
"""

from __future__ import annotations

import hashlib
import io
import os
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

from studio.dataset.bars import find_bars
from studio.dataset.formats import MAX_FILE_BYTES, TooManyPixels, open_picture, refusal

WORK_SIDE = 320
"""Longest side in pixels of the copy on which everything is measured."""
THUMB_SIDE = 256
"""Longest side in pixels of a thumbnail."""
HASH_SIDE = 16
"""The perceptual hash has HASH_SIDE squared bits."""
GREY_SIDE = 64
"""Side of the grey copy by which near duplicates are verified."""
TINT_SIDE = 8
"""Side of the copy by which colours are compared."""
GROUND_LEVELS = 6
"""Levels of brightness (of 256) around the commonest one that count as the same ground."""
BURNT = 250
"""Level from which a pixel is as good as white; the mirrored level is as good as black."""

_LARGE = 40_000_000
_one_large = threading.Lock()  # pictures beyond _LARGE pixels are decoded one at a time, to bound memory


@dataclass(frozen=True)
class Look:
    """What one look at a picture's bytes found. All but `sha256` and `error` are empty when it cannot be decoded.

    width, height: pixels as shown, that is after EXIF rotation.
    mode:    Pillow's colour mode of the file, such as RGB, RGBA, P, L, CMYK, I;16.
    frames:  2 for an animation of any length, otherwise 1.
    phash:   perceptual hash, 256 bits (imagehash.phash with hash_size 16); phash_flip: of the mirrored picture.
    sharpness: variance of the Laplacian over the variance of brightness, both on the work copy; low means blurred.
    light:   mean brightness, 0 (black) to 1 (white).
    has_alpha: some pixel is not fully opaque.
    depth:   bits a channel in the file: 1, 8, 16 or 32.
    profile: name of the colour profile when it is not sRGB; empty for sRGB, grey and when there is none.
    bars:    share of the area that letterbox bars take, 0 to 1 (see `studio.dataset.bars`).
    ground:  share of the picture that is within a few levels of its commonest brightness, 0 to 1; 1 is one plain colour.
    burnt:   share of pixels as good as white, 0 to 1.   drowned: share of pixels as good as black.
    grey:    GREY_SIDE squared brightness bytes.
    tint:    TINT_SIDE squared colour bytes, Cb and Cr of each point in turn; 128 is no colour.
    thumb:   the thumbnail as WebP bytes, bars included.

    Hashes, grey, tint and the measures of sharpness and light are of the picture without its bars, so that a
    letterboxed copy is known for what it is.
    """

    sha256: str
    error: str = ""
    width: int = 0
    height: int = 0
    mode: str = ""
    format: str = ""
    frames: int = 1
    exif_rotated: bool = False
    has_alpha: bool = False
    phash: int = 0
    phash_flip: int = 0
    sharpness: float = 0.0
    light: float = 0.0
    depth: int = 8
    profile: str = ""
    bars: float = 0.0
    ground: float = 0.0
    burnt: float = 0.0
    drowned: float = 0.0
    grey: bytes = b""
    tint: bytes = b""
    thumb: bytes = b""


def look_at(path: Path) -> Look:
    """Read and measure one file. Never raises for what is in the file; raises OSError when it cannot be read."""
    if path.stat().st_size > MAX_FILE_BYTES:
        return Look("", "The file is larger than any picture.")
    return measure(path.read_bytes())


def measure(raw: bytes, sha256: str = "") -> Look:
    """Everything about a picture from its bytes: the whole pass of the audit. sha256: of the bytes, when known."""
    sha = sha256 or hashlib.sha256(raw).hexdigest()
    refused = refusal("", len(raw), raw[:32])
    if refused is not None:
        return Look(sha, refused[1])
    try:
        image = open_picture(raw)
        with _one_large if image.width * image.height > _LARGE else nullcontext():
            return _measured(image, sha)
    except TooManyPixels as e:
        return Look(sha, f"It is too large to be decoded safely ({e} pixels).")
    except Exception as e:  # noqa: BLE001  Pillow's decoders raise whatever a damaged file leads them to
        return Look(sha, _plain_reason(e))


def _measured(image: Image.Image, sha: str) -> Look:
    width, height, mode, kind = image.width, image.height, image.mode, image.format or ""
    depth = bit_depth(image)  # first: asking a PNG for its EXIF decodes it, and then it no longer tells
    turn, profile = orientation(image), profile_name(image.info.get("icc_profile"))
    animated = kind in ("GIF", "WEBP", "PNG", "AVIF") and bool(getattr(image, "is_animated", False))
    if kind in ("JPEG", "MPO"):
        image.draft(None, (WORK_SIDE, WORK_SIDE))
        kind = "JPEG"
    image.load()
    small = shrink(image)
    small = turned(small, turn)
    if turn in (5, 6, 7, 8):
        width, height = height, width
    small, see_through = on_white(small)
    grey = small.convert("L")
    thumb = _thumb(small)
    left, top, right, bottom = found = find_bars(np.asarray(grey))
    share = 0.0
    if any(found):
        box = (left, top, small.width - right, small.height - bottom)
        share = 1 - (box[2] - box[0]) * (box[3] - box[1]) / (small.width * small.height)
        small, grey = small.crop(box), grey.crop(box)
    square = grey.resize((GREY_SIDE, GREY_SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(grey, dtype=np.float32)
    levels = np.asarray(grey.histogram(), dtype=np.float64) / pixels.size
    return Look(
        sha256=sha, width=width, height=height, mode=mode, format=kind, frames=2 if animated else 1, exif_rotated=turn in _TURNS,
        has_alpha=see_through, phash=_phash(square), phash_flip=_phash(ImageOps.mirror(square)), sharpness=_sharpness(pixels),
        light=float(pixels.mean() / 255), depth=depth, profile=profile, bars=share,
        ground=float(np.convolve(levels, np.ones(2 * GROUND_LEVELS + 1), "same").max()),
        burnt=float(levels[BURNT:].sum()), drowned=float(levels[: 256 - BURNT].sum()),
        grey=square.tobytes(), tint=_tint(small), thumb=thumb,
    )  # fmt: skip


def bit_depth(image: Image.Image) -> int:
    """Bits a channel in the file: Pillow opens a 16-bit RGB PNG as an ordinary one, so the file is asked."""
    if image.mode == "1":
        return 1
    if image.mode.startswith("I;16"):
        return 16
    if image.format == "PNG":
        with suppress(Exception):  # the raw mode that the decoder was set up for, such as RGB;16B
            return 16 if "16" in str(image.tile[0][3]) else 8  # type: ignore[attr-defined]
    if image.format == "TIFF":
        with suppress(Exception):  # tag 258, BitsPerSample
            return int(max(image.tag_v2.get(258, (8,))))  # type: ignore[attr-defined]
    return 32 if image.mode in ("I", "F") else 8


@lru_cache(maxsize=64)
def profile_name(profile: bytes | None) -> str:
    """What a colour profile calls itself; empty for sRGB, for grey ones and without one.

    Trainers ignore profiles, so the numbers of a Display P3 picture are read as if they were sRGB: duller colours.
    """
    if not profile or profile[16:20] == b"GRAY":
        return ""
    try:
        name = (ImageCms.getProfileDescription(io.BytesIO(profile)) or "").strip()
    except Exception:  # noqa: BLE001  a damaged profile raises whatever its bytes lead to; it is then ignored
        return ""
    plain = name.lower().replace(" ", "")
    return "" if "srgb" in plain or plain in ("c2", "") else name[:60]


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM, 5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90,
}  # fmt: skip


def orientation(image: Image.Image) -> int:
    """EXIF orientation, 1 (upright) to 8; 1 when there is none or it is damaged."""
    try:
        turn = image.getexif().get(0x0112, 1)
    except Exception:  # noqa: BLE001  a damaged EXIF block raises whatever its bytes lead to; the picture is fine
        return 1
    return turn if isinstance(turn, int) and turn in _TURNS else 1


def turned(image: Image.Image, turn: int) -> Image.Image:
    """The picture as its EXIF orientation wants it shown."""
    return image.transpose(_TURNS[turn]) if turn in _TURNS else image


def shrink(image: Image.Image) -> Image.Image:
    """A copy of at most WORK_SIDE a side, 8 bits a channel, in mode L, RGB, RGBA, LA or CMYK."""
    if image.mode.startswith(("I", "F")):
        image = eight_bits(image)
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    elif image.mode == "1":
        image = image.convert("L")
    elif "transparency" in image.info and image.mode in ("RGB", "L"):
        image = image.convert("RGBA")
    scale = WORK_SIDE / max(image.size)
    if scale >= 1:
        return image.copy()
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=2.0)


def eight_bits(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float pictures scaled to 8 bits by their range, where Pillow's own conversion would clip."""
    values = np.asarray(image).astype(np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    top = float(values.max(initial=0.0))
    if image.mode.startswith("F"):
        full = 1.0 if top <= 1.0 else 255.0 if top <= 255 else top
    else:
        full = 255.0 if top <= 255 and image.mode == "I" else 65535.0 if top <= 65535 else top
    return Image.fromarray(np.clip(values * (255.0 / full), 0, 255).astype(np.uint8), "L")


def on_white(image: Image.Image) -> tuple[Image.Image, bool]:
    """The picture as RGB with transparent parts white, and whether any pixel was not fully opaque."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa"):
        image = image.convert("RGBA")
        alpha = image.getchannel("A")
        lowest = alpha.getextrema()[0]
        if isinstance(lowest, int | float) and lowest < 255:
            ground = Image.new("RGB", image.size, "white")
            ground.paste(image, mask=alpha)
            return ground, True
    return image.convert("RGB"), False


def _phash(square: Image.Image) -> int:
    import imagehash

    bits = imagehash.phash(square, hash_size=HASH_SIDE).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def _tint(small: Image.Image) -> bytes:
    tiny = small.resize((TINT_SIDE, TINT_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    return np.ascontiguousarray(np.asarray(tiny.convert("YCbCr"))[:, :, 1:]).tobytes()


def _sharpness(grey: NDArray[np.float32]) -> float:
    """Energy of the finest detail relative to the picture's contrast; independent of brightness and contrast."""
    if min(grey.shape) < 3:
        return 0.0
    spread = float(grey.var())
    if spread < 1.0:
        return 0.0
    middle = grey[1:-1, 1:-1]
    laplacian = grey[:-2, 1:-1] + grey[2:, 1:-1] + grey[1:-1, :-2] + grey[1:-1, 2:] - 4 * middle
    return float(laplacian.var()) / spread


def _thumb(small: Image.Image) -> bytes:
    small = small.copy()
    # So little smaller, nobody sees a difference to BICUBIC (48 dB), which takes half as long again.
    small.thumbnail((THUMB_SIDE, THUMB_SIDE), Image.Resampling.HAMMING)
    out = io.BytesIO()
    small.save(out, "WEBP", quality=78, method=1)
    return out.getvalue()


def _plain_reason(error: BaseException) -> str:
    text = str(error).lower()
    if any(
        w in text
        for w in ("truncated", "unexpected end", "broken data stream", "not enough", "premature", "buffer")
    ):
        return "The file ends too early: a part of the picture is missing."
    if isinstance(error, MemoryError):
        return "It is too large for this computer's memory."
    return "Its content is damaged and cannot be decoded."


def full_pixels(path: Path) -> NDArray[np.uint8]:
    """The whole picture as shown: RGB on white, turned as EXIF says. For comparing two pictures exactly.

    Shape (height, width, 3). Raises OSError and others when it cannot be decoded.
    """
    return np.asarray(as_shown(open_picture(path.read_bytes())))


def as_shown(image: Image.Image) -> Image.Image:
    """An opened picture, decoded: RGB with 8 bits, transparent parts white, turned as EXIF says."""
    turn = orientation(image)
    image.load()
    if image.mode.startswith(("I", "F")):
        image = eight_bits(image)
    elif image.mode in ("P", "PA", "1") or "transparency" in image.info:
        image = image.convert("RGBA")
    image = turned(image, turn)
    return on_white(image)[0]


def preview(path: Path, side: int = 1400) -> Image.Image:
    """The picture as shown, at most `side` px a side, whatever its format: browsers show neither HEIC nor TIFF.

    Raises OSError and others when it cannot be decoded.
    """
    return shown_small(path.read_bytes(), side)


def shown_small(raw: bytes, side: int) -> Image.Image:
    """`preview` of a file's content."""
    image = open_picture(raw)
    if image.format in ("JPEG", "MPO"):
        image.draft("RGB", (side, side))
    image = as_shown(image)
    image.thumbnail((side, side), Image.Resampling.BICUBIC, reducing_gap=2.0)
    return image


def cpu_threads() -> int:
    """Threads that decode at once: one a core that this process may use."""
    return max(1, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
