"""Pictures of a user's own: ten things in one recognisable style (cream chalk on red brick), in the forms that pictures
come in: PNG and JPEG, upright and wide, one turned by EXIF, one with transparency."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

CREAM, BRICK, JOINT = (250, 238, 205), (168, 58, 42), (126, 40, 30)
Pen = Callable[..., None]


class Chalk:
    """Draws on a square of 100 x 100 units with one thick, slightly trembling line."""

    def __init__(self, image: Image.Image, chance: random.Random) -> None:
        self.draw, self.chance = ImageDraw.Draw(image), chance
        self.unit = min(image.size) / 100
        self.left = (image.width - 100 * self.unit) / 2
        self.top = (image.height - 100 * self.unit) / 2

    def line(self, *points: tuple[float, float], closed: bool = False) -> None:
        path = [*points, *points[:1]] if closed else list(points)
        for _ in range(2):  # chalk goes over a line twice
            moved = [
                (self.left + (x + self.chance.uniform(-0.8, 0.8)) * self.unit,
                 self.top + (y + self.chance.uniform(-0.8, 0.8)) * self.unit)
                for x, y in path
            ]  # fmt: skip
            self.draw.line(moved, CREAM, width=max(3, round(4.5 * self.unit)), joint="curve")

    def round(
        self, x: float, y: float, r: float, squeeze: float = 1.0, start: float = 0, end: float = 360
    ) -> None:
        angles = [math.radians(start + (end - start) * i / 24) for i in range(25)]
        self.line(*((x + r * math.cos(a), y + r * squeeze * math.sin(a)) for a in angles))


def _house(c: Chalk) -> None:
    c.line((22, 85), (22, 45), (50, 18), (78, 45), (78, 85), closed=True)
    c.line((44, 85), (44, 62), (57, 62), (57, 85))


def _tree(c: Chalk) -> None:
    c.round(50, 38, 26)
    c.line((50, 90), (50, 45), (64, 34))


def _sun(c: Chalk) -> None:
    c.round(50, 50, 18)
    for i in range(8):
        a = math.radians(45 * i)
        c.line((50 + 25 * math.cos(a), 50 + 25 * math.sin(a)), (50 + 40 * math.cos(a), 50 + 40 * math.sin(a)))


def _star(c: Chalk) -> None:
    ring = [(38 if i % 2 == 0 else 16, math.radians(36 * i - 90)) for i in range(10)]
    c.line(*((50 + r * math.cos(a), 52 + r * math.sin(a)) for r, a in ring), closed=True)


def _boat(c: Chalk) -> None:
    c.line((15, 68), (85, 68), (70, 86), (30, 86), closed=True)
    c.line((50, 68), (50, 14), (80, 58), (50, 58))


def _fish(c: Chalk) -> None:
    c.round(44, 50, 28, 0.6)
    c.line((70, 50), (90, 32), (90, 68), closed=True)
    c.round(30, 46, 2)


def _cup(c: Chalk) -> None:
    c.line((25, 32), (30, 82), (62, 82), (67, 32), closed=True)
    c.round(70, 54, 14, 1.1, -80, 80)


def _moon(c: Chalk) -> None:
    c.round(50, 50, 34, 1, 50, 310)
    c.round(66, 50, 27, 1, 75, 285)


def _car(c: Chalk) -> None:
    c.line((10, 66), (10, 50), (28, 48), (38, 30), (66, 30), (76, 48), (90, 52), (90, 66), closed=True)
    c.round(30, 68, 9)
    c.round(70, 68, 9)


def _flower(c: Chalk) -> None:
    for i in range(6):
        a = math.radians(60 * i)
        c.round(50 + 17 * math.cos(a), 34 + 17 * math.sin(a), 9)
    c.round(50, 34, 7)
    c.line((50, 48), (50, 92))


THINGS: dict[str, tuple[Pen, tuple[int, int], str]] = {
    "house": (_house, (400, 400), "png"),
    "tree": (_tree, (360, 480), "jpg"),
    "sun": (_sun, (512, 512), "jpg"),
    "star": (_star, (300, 300), "png"),
    "boat": (_boat, (640, 480), "jpg"),
    "fish": (_fish, (480, 400), "png"),
    "cup": (_cup, (420, 420), "jpg"),
    "moon": (_moon, (256, 256), "png"),
    "car": (_car, (600, 450), "jpg"),
    "flower": (_flower, (380, 460), "png"),
}
TURNED, SEE_THROUGH = "tree", "moon"


def chalk_pictures(folder: Path) -> dict[Path, str]:
    """Draw the ten pictures into `folder`; each with what it shows."""
    folder.mkdir(parents=True, exist_ok=True)
    made: dict[Path, str] = {}
    for name, (pen, size, kind) in THINGS.items():
        chance = random.Random(name)
        image = _wall(size, chance)
        pen(Chalk(image, chance))
        path = folder / f"{name}.{kind}"
        if name == TURNED:
            exif = Image.Exif()
            exif[0x0112] = 6  # "turn by 90 degrees": as phones store an upright picture
            image.transpose(Image.Transpose.ROTATE_90).save(path, quality=90, exif=exif)
        elif name == SEE_THROUGH:
            image.putalpha(Image.new("L", size, 255))
            image.save(path)
        else:
            image.save(path, **({"quality": 90} if kind == "jpg" else {}))
        made[path] = name
    return made


def _wall(size: tuple[int, int], chance: random.Random) -> Image.Image:
    image = Image.new("RGB", size, JOINT)
    draw = ImageDraw.Draw(image)
    high = max(size) // 9
    for row in range(-(-size[1] // high)):
        for column in range(-1, -(-size[0] // (2 * high)) + 1):
            x = column * 2 * high + (row % 2) * high
            tone = chance.randint(-14, 14)
            colour = tuple(max(0, v + tone) for v in BRICK)
            draw.rectangle((x + 2, row * high + 2, x + 2 * high - 2, (row + 1) * high - 2), colour)
    return image
