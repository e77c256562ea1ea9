"""Which bytes are a picture, how large one may be, and what a safe file name is.

Whether a file is a picture is decided by its first bytes, never by its name: a truncated JPEG is still a JPEG (and
the audit says that it is damaged), a text file called `photo.png` is none.
"""

from __future__ import annotations

import io
import re
import unicodedata
from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from pathlib import PurePosixPath

from PIL import Image

from studio.dataset.folder import PICTURE_SUFFIXES

# HEIC is read where an optional plugin is installed: pi-heif, which only reads and so brings no patented encoder
# along, or its larger sister.
for _plugin in ("pi_heif", "pillow_heif"):
    with suppress(ImportError):
        import_module(_plugin).register_heif_opener()
        break

MAX_PIXELS = 200_000_000
"""Pixels of the largest picture taken in: beyond any camera, and 600 MB once decoded."""
Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # Pillow's own guard, which warns at 89 million pixels unless told
MAX_FILE_BYTES = 1_000_000_000
"""Bytes of the largest picture file taken in."""
MAX_NAME_BYTES = 160
"""UTF-8 bytes of a stem; leaves room for suffixes and temporary names within the usual 255."""

SUFFIXES: dict[str, tuple[str, ...]] = {
    "JPEG": (".jpg", ".jpeg"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
    "GIF": (".gif",),
    "HEIF": (".heic", ".heif"),
}
"""Formats that are taken in, by Pillow's name, with the file endings that suit them; the first is given to misnamed files."""
_PILLOW = [*SUFFIXES, "MPO"]
_RAW = frozenset(
    [
        ".cr2",
        ".cr3",
        ".nef",
        ".nrw",
        ".arw",
        ".dng",
        ".raf",
        ".orf",
        ".rw2",
        ".pef",
        ".srw",
        ".x3f",
        ".3fr",
        ".iiq",
    ]
)
_BMP_HEADERS = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_RESERVED = re.compile(r"^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])$", re.IGNORECASE)


def sniff(head: bytes) -> str:
    """The picture format that the first 32 bytes announce, as Pillow calls it; empty when it is none of SUFFIXES."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return "TIFF"
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        if brand in (b"avif", b"avis"):
            return "AVIF"
        if brand in (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"):
            return "AVIF" if b"avif" in head[16:] else "HEIF"
    if head[:2] == b"BM" and int.from_bytes(head[14:18], "little") in _BMP_HEADERS:
        return "BMP"
    return ""


def refusal(name: str, size: int, head: bytes) -> tuple[str, str, str] | None:
    """Why a file cannot be a picture of the dataset, as (code, why, fix); None when it can.

    Judges by size and first bytes only; `open_picture` says whether the rest is sound.
    """
    suffix = PurePosixPath(name).suffix.lower()
    if size == 0:
        return "file-empty", "The file has no content.", "Export or download it again."
    if size > MAX_FILE_BYTES:
        return (
            "file-too-large",
            f"It is larger than {MAX_FILE_BYTES // 1_000_000_000} GB.",
            "Export it as JPEG or PNG in a smaller size.",
        )
    if suffix in _RAW:
        return (
            "camera-raw",
            "It is a camera's raw file, which trainers cannot read.",
            "Develop it and export it as JPEG or PNG.",
        )
    found = sniff(head)
    if not found:
        if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL ")):
            return (
                "not-supported",
                "It is a JPEG XL picture, which this computer cannot read.",
                "Save it as PNG or JPEG.",
            )
        if suffix in (".svg", ".svgz"):
            return (
                "not-supported",
                "It is a drawing made of lines and shapes, which has no pixels yet.",
                "Export it as PNG, in the size that is to be trained or larger.",
            )
        return (
            "not-a-picture",
            "Its content is not that of a picture, whatever its name says.",
            "Leave it out, or export it as PNG or JPEG.",
        )
    if found == "HEIF" and "HEIF" not in _readable():
        return (
            "not-supported",
            "It is a HEIC picture, and no reader for it is installed.",
            "Save it as JPEG, or run `pip install pi-heif`.",
        )
    return None


@lru_cache(maxsize=1)
def _readable() -> list[str]:
    """Those of the formats that this Pillow can read."""
    Image.init()
    return [f for f in _PILLOW if f in Image.OPEN]


class TooManyPixels(Exception):
    """The picture's header announces more than MAX_PIXELS."""


def open_picture(raw: bytes) -> Image.Image:
    """Open a picture's header without decoding it.

    Raises TooManyPixels, or OSError / SyntaxError / ValueError when the header is damaged.
    """
    if sniff(raw[:32]) == "WEBP":
        _guard_webp(raw)
    try:
        image = Image.open(io.BytesIO(raw), formats=_readable())
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as e:
        raise TooManyPixels(str(e)) from e
    if image.width * image.height > MAX_PIXELS:
        raise TooManyPixels(f"{image.width} x {image.height}")
    return image


def _guard_webp(raw: bytes) -> None:
    """Pillow allocates a WebP's canvas while opening it, so its size is read from the header first."""
    if raw[12:16] == b"VP8X" and len(raw) >= 30:
        width = int.from_bytes(raw[24:27], "little") + 1
        height = int.from_bytes(raw[27:30], "little") + 1
        if width * height > MAX_PIXELS:
            raise TooManyPixels(f"{width} x {height}")


def safe_name(label: str, kind: str) -> str:
    """A file name that every system takes, in any script: the last part of `label`, made safe, with an ending that
    suits the format `kind` (one of SUFFIXES)."""
    base = unicodedata.normalize("NFC", label.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1])
    stem, dot, suffix = base.rpartition(".")
    if not dot or f".{suffix.lower()}" not in PICTURE_SUFFIXES:
        stem, suffix = base, ""
    suffix = f".{suffix.lower()}"
    if suffix not in SUFFIXES[kind]:
        suffix = SUFFIXES[kind][0]
    stem = "".join(c if c.isprintable() and c not in '<>:"/\\|?*' else "_" for c in stem)
    stem = re.sub(r"\s+", " ", stem).strip(" .")
    while len(stem.encode("utf-8", "replace")) > MAX_NAME_BYTES:
        stem = stem[:-1].rstrip(" .")
    stem = stem.encode("utf-8", "replace").decode("utf-8")
    if _RESERVED.match(stem.split(".", 1)[0]):
        stem = f"_{stem}"
    return (stem or "picture") + suffix


def same_stem(stem: str) -> str:
    """A key under which two stems are equal when any common file system would take them for one name."""
    return unicodedata.normalize("NFC", stem).casefold()
