"""Makes `data/sample` (20 pictures in one style, captioned) and `data/sample_flawed` (planted mistakes).

Nothing here is random: the same font and names give the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from scripts.pocket import pictures, styles

TRIGGER = "bluprnt"
STYLE = "blueprint"
NAMES = (
    "car", "bus", "bicycle", "airplane", "sailboat", "train", "house", "castle", "tree", "mushroom",
    "cat", "rabbit", "fox", "penguin", "fish", "butterfly", "apple", "strawberry", "gift", "guitar",
)  # fmt: skip
"""Twenty of the 64 subjects; dog, robot, umbrella and others stay out so that prompts can ask for unseen ones."""
FLAWED = NAMES[:9]


def render(work: Path) -> dict[str, Image.Image]:
    """Subject -> 128 x 128 RGB picture in the sample style."""
    rows = pictures.load_strikes(work, only=set(pictures.SUBJECTS))
    drawn = {}
    for _, name, _, strike in rows:
        if name in NAMES:
            rgba = torch.from_numpy(np.array(strike)).permute(2, 0, 1)[None].float() / 255
            rgb = styles.STYLES[STYLE](rgba)[0].permute(1, 2, 0)
            drawn[name] = Image.fromarray((rgb * 255).round().byte().numpy())
    return drawn


def _write(folder: Path, stem: str, picture: Image.Image, caption: str | None) -> None:
    picture.save(folder / f"{stem}.png", optimize=True)
    if caption is not None:
        (folder / f"{stem}.txt").write_text(caption + "\n", encoding="utf-8")


def _empty(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for old in [*folder.glob("*.png"), *folder.glob("*.jpg"), *folder.glob("*.txt")]:
        old.unlink()


def good(drawn: dict[str, Image.Image], folder: Path) -> None:
    """The sample set: `NN_name.png` and `NN_name.txt` holding 'trigger, name'."""
    _empty(folder)
    for number, name in enumerate(NAMES, start=1):
        _write(folder, f"{number:02d}_{name.replace(' ', '_')}", drawn[name], f"{TRIGGER}, {name}")


def flawed(drawn: dict[str, Image.Image], folder: Path) -> None:
    """Nine sound pictures of which three have bad captions or bytes, and three more that should not be there."""
    _empty(folder)
    for number, name in enumerate(FLAWED, start=1):
        _write(folder, f"{number:02d}_{name}", drawn[name], f"{TRIGGER}, {name}")
    # an exact duplicate: the same pixels saved by another program, so that the bytes differ and it gets as far as gate 1
    drawn["car"].save(folder / "10_car_copy.png", compress_level=1)
    (folder / "10_car_copy.txt").write_text(f"{TRIGGER}, car\n", encoding="utf-8")
    # a near duplicate: a little darker, a little smaller and saved as JPEG, as a second export of the picture would be
    near = Image.fromarray((np.asarray(drawn["house"]).astype(np.float32) * 0.96).round().astype(np.uint8))
    near.resize((120, 120), Image.Resampling.LANCZOS).save(folder / "11_house_again.jpg", quality=88)
    (folder / "11_house_again.txt").write_text(f"{TRIGGER}, house\n", encoding="utf-8")
    # a truncated file: the second half of a download that broke off is missing
    _write(folder, "12_penguin_broken", drawn["penguin"], f"{TRIGGER}, penguin")
    broken = folder / "12_penguin_broken.png"
    data = broken.read_bytes()
    broken.write_bytes(data[: len(data) // 2])
    # a missing caption, and a caption without the trigger word
    (folder / "04_airplane.txt").unlink()
    (folder / "05_sailboat.txt").write_text("sailboat\n", encoding="utf-8")


def build(work: Path, data: Path) -> None:
    """Both folders under `data`."""
    drawn = render(work)
    good(drawn, data / "sample")
    flawed(drawn, data / "sample_flawed")
