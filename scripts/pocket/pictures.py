"""Reads the colour-emoji font and the emojibase names into captioned RGBA pictures.

The font is Noto Color Emoji (Debian package `fonts-noto-color-emoji`), whose bitmaps lie in a CBDT table as
136 x 128 PNG strikes. Names and synonyms come from the npm package `emojibase-data` (MIT).
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fontTools.ttLib import TTFont
from PIL import Image

FONT = Path("/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf")
EMOJIBASE = "emojibase-data@17.0.0"
STRIKE = 128
"""Side in pixels of a strike after cropping the 4 empty columns on either side of the font's 136 x 128."""
NATIVE = 64
"""Side in pixels of the pictures the model is trained on: half a strike, and four times the latent side."""
SKIN_TONES = range(0x1F3FB, 0x1F400)
JOINERS = {0xFE0F, 0x200D}

SUBJECTS: dict[str, str] = {
    "1F697": "car", "1F68C": "bus", "1F6B2": "bicycle", "2708": "airplane", "1F680": "rocket",
    "26F5": "sailboat", "1F682": "train", "1F681": "helicopter", "1F69C": "tractor", "1F3E0": "house",
    "1F3F0": "castle", "26FA": "tent", "1F332": "tree", "1F334": "palm tree", "1F335": "cactus",
    "1F33B": "sunflower", "1F339": "rose", "1F337": "tulip", "1F344": "mushroom", "1F341": "maple leaf",
    "1F436": "dog", "1F431": "cat", "1F42D": "mouse", "1F430": "rabbit", "1F98A": "fox",
    "1F43B": "bear", "1F43C": "panda", "1F42F": "tiger", "1F981": "lion", "1F42E": "cow",
    "1F437": "pig", "1F438": "frog", "1F435": "monkey", "1F427": "penguin", "1F989": "owl",
    "1F41F": "fish", "1F433": "whale", "1F422": "turtle", "1F98B": "butterfly", "1F41E": "ladybug",
    "1F419": "octopus", "1F34E": "apple", "1F34C": "banana", "1F353": "strawberry", "1F347": "grapes",
    "1F34B": "lemon", "1F349": "watermelon", "1F352": "cherries", "1F355": "pizza", "1F354": "hamburger",
    "1F369": "donut", "1F366": "ice cream", "26BD": "ball", "1F388": "balloon", "1F381": "gift",
    "1F511": "key", "23F0": "clock", "2602": "umbrella", "1F451": "crown", "1F3B8": "guitar",
    "2B50": "star", "2764": "heart", "1F916": "robot", "26C4": "snowman",
}  # fmt: skip
"""The 64 subjects the UNet learns: hexcode -> the one name used first in captions. Chosen for shapes that stay
apart at 64 x 64; no two share a name or a silhouette as close as taxi and car do."""

SYNONYMS: dict[str, tuple[str, ...]] = {
    "car": ("automobile",), "bus": ("coach",), "bicycle": ("bike", "cycle"), "airplane": ("plane", "jet"),
    "rocket": ("spaceship",), "sailboat": ("boat", "yacht"), "train": ("locomotive", "steam train"),
    "helicopter": ("copter",), "tractor": ("farm tractor",), "house": ("home", "building"), "castle": ("fortress",),
    "tent": ("camping tent",), "tree": ("pine", "evergreen"), "palm tree": ("palm",), "cactus": ("desert plant",),
    "rose": ("red rose",), "mushroom": ("toadstool",), "maple leaf": ("leaf", "autumn leaf"),
    "dog": ("puppy", "dog face"), "cat": ("kitten", "kitty", "cat face"), "mouse": ("mouse face",),
    "rabbit": ("bunny", "rabbit face"), "fox": ("fox face",), "bear": ("grizzly", "bear face"),
    "panda": ("panda face",), "tiger": ("tiger face",), "lion": ("lion face",), "cow": ("cow face",),
    "pig": ("piglet", "pig face"), "frog": ("toad", "frog face"), "monkey": ("ape", "monkey face"),
    "owl": ("night owl",), "whale": ("spouting whale",), "turtle": ("tortoise",), "ladybug": ("ladybird", "beetle"),
    "octopus": ("squid",), "strawberry": ("berry",), "grapes": ("bunch of grapes",), "lemon": ("citrus",),
    "watermelon": ("melon",), "cherries": ("cherry",), "pizza": ("slice of pizza",),
    "hamburger": ("burger", "cheeseburger"), "donut": ("doughnut",), "ice cream": ("icecream",),
    "ball": ("soccer ball", "football"), "gift": ("present", "gift box"), "clock": ("alarm clock",),
    "umbrella": ("parasol",), "crown": ("royal crown",), "guitar": ("electric guitar",), "heart": ("love",),
    "robot": ("robot face",),
}  # fmt: skip
"""Other words for a subject; each belongs to one subject only."""

COLOURS: dict[str, str] = {
    "car": "red", "bus": "blue", "tractor": "green", "cactus": "green", "tree": "green", "sunflower": "yellow",
    "rose": "red", "tulip": "pink", "fox": "orange", "bear": "brown", "tiger": "orange", "pig": "pink",
    "frog": "green", "monkey": "brown", "owl": "brown", "fish": "blue", "whale": "blue", "turtle": "green",
    "ladybug": "red", "octopus": "pink", "apple": "red", "banana": "yellow", "strawberry": "red",
    "grapes": "purple", "lemon": "yellow", "cherries": "red", "balloon": "red", "umbrella": "purple",
    "crown": "yellow", "guitar": "red", "star": "yellow", "heart": "red",
}  # fmt: skip
"""The main colour of the subjects that clearly have one."""


@dataclass(frozen=True)
class Pictures:
    """All pictures at native size, with their words; row i of each list belongs to picture i."""

    rgba: np.ndarray
    """uint8, N x 64 x 64 x 4, straight (not premultiplied) alpha."""
    hexcodes: list[str]
    names: list[str]
    tags: list[list[str]]

    def subjects(self) -> list[int]:
        """Row numbers of the 64 subjects, in the order of `SUBJECTS`."""
        rows = {code: row for row, code in enumerate(self.hexcodes)}
        return [rows[code] for code in SUBJECTS]


def fetch_names(work: Path) -> list[dict[str, object]]:
    """English emojibase entries, through `npm pack` the first time and from `work` afterwards."""
    cached = work / "emojibase.json"
    if not cached.exists():
        done = subprocess.run(
            ["npm", "pack", "--silent", EMOJIBASE], cwd=work, check=True, capture_output=True, text=True
        )
        with tarfile.open(work / done.stdout.strip().splitlines()[-1]) as archive:
            member = archive.extractfile("package/en/data.json")
            assert member is not None, "emojibase-data holds no en/data.json"
            cached.write_bytes(member.read())
    return json.loads(cached.read_text(encoding="utf-8"))


def glyph_of(font: TTFont) -> dict[tuple[int, ...], str]:
    """Codepoint sequence (variation selectors and joiners removed) -> glyph name, from cmap and GSUB ligatures."""
    cmap = font.getBestCmap()
    point = {glyph: code for code, glyph in cmap.items()}
    found: dict[tuple[int, ...], str] = {(code,): glyph for code, glyph in cmap.items()}
    for lookup in font["GSUB"].table.LookupList.Lookup:
        for table in lookup.SubTable:
            table = getattr(table, "ExtSubTable", table)
            for first, ligatures in getattr(table, "ligatures", {}).items():
                for ligature in ligatures:
                    parts = [first, *ligature.Component]
                    if all(part in point for part in parts):
                        codes = tuple(c for c in (point[part] for part in parts) if c not in JOINERS)
                        found.setdefault(codes, ligature.LigGlyph)
    return found


def strike(font: TTFont, glyph: str) -> Image.Image | None:
    """The glyph's bitmap as 128 x 128 RGBA, or None where the font draws nothing or another size."""
    bitmap = font["CBDT"].strikeData[0].get(glyph)
    if bitmap is None or not getattr(bitmap, "imageData", b""):
        return None
    image = Image.open(io.BytesIO(bitmap.imageData)).convert("RGBA")
    if image.size != (136, STRIKE):
        return None
    return image.crop((4, 0, 4 + STRIKE, STRIKE))


def load_strikes(work: Path, only: set[str] | None = None) -> list[tuple[str, str, list[str], Image.Image]]:
    """(hexcode, name, tags, 128 x 128 RGBA) of each emoji that font and names share; no flags, no skin tones."""
    font = TTFont(FONT)
    glyphs = glyph_of(font)
    rows: list[tuple[str, str, list[str], Image.Image]] = []
    for entry in fetch_names(work):
        codes = [int(part, 16) for part in str(entry["hexcode"]).split("-")]
        code = "-".join(f"{c:X}" for c in codes if c not in JOINERS)
        if only is not None and code not in only:
            continue
        if any(c in SKIN_TONES for c in codes) or entry.get("group") in (None, 9):
            continue
        glyph = glyphs.get(tuple(c for c in codes if c not in JOINERS))
        image = strike(font, glyph) if glyph else None
        if image is not None:
            tags = [str(tag).lower() for tag in entry.get("tags", [])]  # type: ignore[attr-defined]
            rows.append((code, SUBJECTS.get(code, str(entry["label"]).lower()), tags, image))
    return rows


def shrink(image: Image.Image, side: int = NATIVE) -> np.ndarray:
    """RGBA at side x side. Colours are averaged weighted by alpha, so that no dark fringe appears at edges."""
    data = np.asarray(image, dtype=np.float32) / 255
    factor = image.width // side
    blocks = data.reshape(side, factor, side, factor, 4)
    alpha = blocks[..., 3:].mean(axis=(1, 3))
    colour = (blocks[..., :3] * blocks[..., 3:]).mean(axis=(1, 3)) / np.maximum(alpha, 1e-6)
    return (np.concatenate([colour, alpha], axis=-1).clip(0, 1) * 255).round().astype(np.uint8)


def load(work: Path) -> Pictures:
    """Every captioned picture at native size."""
    rows = load_strikes(work)
    return Pictures(
        rgba=np.stack([shrink(image) for *_, image in rows]),
        hexcodes=[code for code, *_ in rows],
        names=[name for _, name, *_ in rows],
        tags=[tags for _, _, tags, _ in rows],
    )
