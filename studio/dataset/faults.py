"""What can be wrong with single pictures, measured by the scan: each fault in plain words, with its one-click fix."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median
from typing import TYPE_CHECKING, Protocol

from studio.dataset.buckets import bucket_for
from studio.dataset.wording import about
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.dataset.scan import Picture, Scan

STRETCHED = 3.0
"""Longer side over shorter side beyond which a picture is a strip."""
SMALL = 0.9
"""A picture is small when its area is below that of a square of this share of the base model's resolution."""
BLURRED = 0.12
"""A picture is blurred when its sharpness is below this share of the set's median: a soft style is soft throughout
and none of it stands out. Of fifteen sample photographs of scikit-image it names one as they are (a clock in motion),
eleven blurred by 0.4 % of their width and all blurred by 0.8 %."""
COMPARE_FROM = 6
"""Pictures from which on blur and exposure are compared within the set; with fewer there is nothing to compare with."""
CLIPPED, CLIPPED_USUALLY = 0.35, 0.05
"""Share of white (or black) pixels from which a picture is badly exposed, where the set's median is below the second:
a set on a white ground is white throughout and none of it stands out."""
EMPTY = 0.998
"""Share of one brightness from which there is next to nothing in a picture; a thin line drawing has about 0.98."""
BARS = 0.02
"""Share of the area from which letterbox bars are worth a word."""
READ_EVERYWHERE = frozenset({"JPEG", "PNG", "WEBP", "BMP"})
"""Formats that every trainer reads: those of `IMAGE_EXTENSIONS` of sd-scripts (library/train_util.py v0.10.1)."""


class ModelSize(Protocol):
    """What the audit needs to know of a base model."""

    @property
    def resolution(self) -> int: ...
    @property
    def bucket_step(self) -> int: ...


def size_faults(scan: Scan, entry: ModelSize) -> list[Finding]:
    """Pictures that do not suit the base model's resolution."""
    side = entry.resolution
    small = [p for p in scan.readable if p.pixels < (SMALL * side) ** 2]
    cut = [p.name for p in scan.readable if _strip(p)]
    lost = [
        p.name
        for p in scan.readable
        if not _strip(p) and bucket_for(p.width, p.height, side, entry.bucket_step).kept < 0.75
    ]
    most = max((side / p.pixels**0.5 for p in small if p.pixels), default=1.0)
    enlarged = f"{'It is' if len(small) == 1 else 'They are'} enlarged for training, {'up to ' if len(small) > 1 else ''}{most:.1f} times"
    return [
        *about("warn", "small", [p.name for p in small], f"{{0}} is smaller than the base model works at ({side} x {side}).",
               f"{{0}} pictures are smaller than the base model works at ({side} x {side}).",
               f"{enlarged}, which teaches softness and blocks instead of detail.",
               "Use larger versions if you have them; an upscaler adds detail of its own making. Otherwise set the smallest aside.", "set-aside"),
        *about("warn", "strip", cut, "{0} is a long strip.", "{0} pictures are long strips.",
               "Most of a strip is cut off or shrunk to nothing.", "Cut the interesting part out of it, or set it aside.", "set-aside"),
        *about("info", "cropped", lost, "{0} loses more than a quarter to cropping.", "{0} pictures lose more than a quarter to cropping.",
               "They are trained in the nearest size that the base model takes.", "See the buckets for what remains."),
    ]  # fmt: skip


def _strip(p: Picture) -> bool:
    return max(p.width, p.height) > STRETCHED * min(p.width, p.height)


def look_faults(scan: Scan) -> list[Finding]:
    """Pictures that show little: blurred, empty, badly exposed, with bars around them."""
    ok = scan.readable
    plain = [p.name for p in ok if p.blur == 0.0]
    detailed = [p for p in ok if p.blur > 0.0]
    dark = [p.name for p in detailed if p.light < 0.03]
    empty = [p.name for p in detailed if p.ground >= EMPTY and p.light >= 0.03]
    blurred, burnt, drowned = [], [], []
    if len(detailed) >= COMPARE_FROM:
        middle = median(p.blur for p in detailed)
        blurred = [p.name for p in detailed if p.blur < BLURRED * middle]
        burnt = _clipped((p.name, p.burnt) for p in detailed if p.name not in empty and not p.has_alpha)
        drowned = _clipped((p.name, p.drowned) for p in detailed if p.name not in {*empty, *dark})
    barred = [p for p in ok if p.bars >= BARS]
    taken = max((p.bars for p in barred), default=0.0)
    return [
        *about("warn", "bars", [p.name for p in barred], f"{{0}} has plain bars at its edges, {taken:.0%} of its area.",
               f"{{0}} pictures have plain bars at their edges, up to {taken:.0%} of the area.",
               "Bars are learned like everything else and come out in what you make.", "Trim them off.", "trim"),
        *about("warn", "blurred", blurred, "{0} is much softer than the rest.", "{0} pictures are much softer than the rest.",
               "Blur is learned like everything else.", "Look at them, and set aside what is out of focus.", "set-aside"),
        *about("warn", "plain", plain, "{0} is one plain colour.", "{0} pictures are one plain colour.", "There is nothing to learn from it.",
               "Set aside what is empty.", "set-aside"),
        *about("warn", "almost-empty", empty, "{0} is almost empty.", "{0} pictures are almost empty.",
               "Nearly all of it is one plain ground.", "Look at them, and set aside what shows nothing.", "set-aside"),
        *about("warn", "dark", dark, "{0} is almost black.", "{0} pictures are almost black.", "There is little to learn from it.",
               "Look at them, and set aside or brighten what is too dark.", "set-aside"),
        *about("warn", "overexposed", burnt, "Large parts of {0} are burnt out to white.", "Large parts of {0} pictures are burnt out to white.",
               "The others are not, and what is white holds nothing to learn.", "Look at them; a white ground is fine, a lost sky may be too.", "set-aside"),
        *about("warn", "underexposed", drowned, "Large parts of {0} are pure black.", "Large parts of {0} pictures are pure black.",
               "The others are not, and what is black holds nothing to learn.", "Look at them; a black ground is fine, a lost face is not.", "set-aside"),
    ]  # fmt: skip


def _clipped(shares: Iterable[tuple[str, float]]) -> list[str]:
    shares = list(shares)
    if not shares or median(s for _, s in shares) >= CLIPPED_USUALLY:
        return []
    return [n for n, s in shares if s >= CLIPPED]


def file_faults(scan: Scan) -> list[Finding]:
    """Files that trainers read wrongly or not at all."""
    ok = scan.readable
    moving = [p.name for p in ok if p.frames > 1]
    deep = [p.name for p in ok if p.depth > 8]
    other = [p for p in ok if p.format not in READ_EVERYWHERE and p.name not in {*moving, *deep}]
    kinds = " and ".join(sorted({_KINDS.get(p.format, p.format) for p in other}))
    print_ = [p.name for p in ok if p.mode == "CMYK"]
    profiled = [p for p in ok if p.profile and p.mode != "CMYK"]
    profiles = ", ".join(sorted({p.profile for p in profiled})[:3])
    return [
        *about("warn", "animated", moving, "{0} is an animation.", "{0} files are animations.",
               "Only the first frame is used, and not every trainer reads it.", "Keep the first frame as a picture, or import the frame that you want.", "convert"),
        *about("warn", "sixteen-bit", deep, "{0} holds 16 bits a channel or more.", "{0} pictures hold 16 bits a channel or more.",
               "Trainers expect 8. Grey pictures of 16 bits come out as plain white.", "Convert to 8 bits.", "convert"),
        *about("warn", "file-format", [p.name for p in other], f"{{0}} is a {kinds} file.", f"{{0}} pictures are {kinds} files.",
               "Some trainers, sd-scripts among them, pass such files over without a word.", "Convert to PNG or JPEG.", "convert"),
        *about("info", "transparent", [p.name for p in ok if p.has_alpha], "{0} has transparent parts.", "{0} pictures have transparent parts.",
               "They become white in training, or black, as the trainer likes.", "Flatten onto white, or put them on the ground you want.", "flatten"),
        *about("info", "rotated", [p.name for p in ok if p.exif_rotated], "{0} is stored turned and shown upright.",
               "{0} pictures are stored turned and shown upright.", "The built-in backend turns them; not every trainer does.", "Convert: turned upright for good.", "convert"),
        *about("info", "colour-mode", print_, "{0} is in print colours (CMYK).", "{0} pictures are in print colours (CMYK).",
               "Trainers take them for ordinary colours; tones shift.", "Convert to ordinary colours.", "convert"),
        *about("info", "colour-profile", [p.name for p in profiled], f"{{0}} has colours of its own ({profiles}).",
               f"{{0}} pictures have colours of their own ({profiles}).", "Trainers ignore colour profiles, so colours come out duller or shifted.",
               "Convert to sRGB.", "convert"),
    ]  # fmt: skip


_KINDS = {"HEIF": "HEIC", "TIFF": "TIFF", "GIF": "GIF", "AVIF": "AVIF"}
