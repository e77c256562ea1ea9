"""The build of the base model: its words, pictures, styles and charts; training itself is not repeated here."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from scripts.pocket import captions, pictures

ROOT = Path(__file__).resolve().parent.parent.parent
WORDS = captions.Words("car", ("automobile",), "red")


def _captions(ground: str, style: str | None = None, count: int = 2000) -> list[str]:
    random_ = random.Random(1)
    return [captions.caption(WORDS, ground, style, random_) for _ in range(count)]


def test_there_are_64_subjects_and_no_word_means_two_of_them() -> None:
    names = list(pictures.SUBJECTS.values())
    said = Counter(names + [word for words in pictures.SYNONYMS.values() for word in words])
    assert len(names) == 64
    assert [word for word, times in said.items() if times > 1] == []
    assert set(pictures.SYNONYMS) | set(pictures.COLOURS) <= set(names)


def test_a_coloured_ground_is_always_named_and_a_tenth_of_captions_is_empty() -> None:
    texts = _captions("yellow")
    empty = texts.count("")
    assert 0.07 < empty / len(texts) < 0.13
    assert all(text.endswith(" on a yellow background") for text in texts if text)


def test_white_may_go_unsaid_and_styles_are_said() -> None:
    spoken = [text for text in _captions("white") if text]
    assert 0.4 < sum("white" in text for text in spoken) / len(spoken) < 0.6
    assert all(text.endswith(" in neon light") for text in _captions("white", "in neon light") if text)


def test_a_made_up_word_often_stands_before_the_name() -> None:
    first = Counter(text.split()[0] for text in _captions("white") if text)
    known = {"car", "automobile", "red", *(phrase.split()[0] for phrase in captions.PLAIN_FILLERS)}
    before = sum(times for word, times in first.items() if word not in known)
    assert 0.12 < before / sum(first.values()) < 0.25


def test_made_up_words_are_short_letters_and_vary() -> None:
    random_ = random.Random(3)
    words = [captions.made_up(random_) for _ in range(300)]
    assert all(word.isalpha() and word.islower() and 1 <= len(word) <= 8 for word in words)
    assert len(set(words)) > 250


_MODEL_PARTS = """
import sys
from pathlib import Path
import torch
from scripts.pocket import curves, styles, vae
rgba = torch.zeros(2, 4, 64, 64)
rgba[:, 0, 16:48, 16:48] = 1
rgba[:, 3, 16:48, 16:48] = 1
drawn = {name: draw(rgba) for name, draw in styles.STYLES.items()}
for name, rgb in drawn.items():
    assert rgb.shape == (2, 3, 64, 64) and 0 <= rgb.min() and rgb.max() <= 1, name
flat = torch.stack(list(drawn.values())).flatten(1)
assert min((a - b).abs().mean() for i, a in enumerate(flat) for b in flat[:i]) > 0.02
corner = styles.composite(rgba, torch.tensor([styles.GROUNDS["blue"]]))[0, :, 0, 0]
assert torch.allclose(corner, torch.tensor(styles.GROUNDS["blue"]))
big = styles.blueprint(rgba.repeat_interleave(2, 2).repeat_interleave(2, 3))
assert (torch.nn.functional.avg_pool2d(big, 2) - drawn["blueprint"]).abs().mean() < 0.05

torch.manual_seed(0)
model = vae.build().eval()
images = torch.rand(8, 3, 64, 64) * 2 - 1
with torch.no_grad():
    before = model.decode(model.encode(images).latent_dist.mean).sample
    vae.whiten(model, images)
    latents = model.encode(images).latent_dist.mean
    after = model.decode(latents).sample
assert latents.mean((0, 2, 3)).abs().max() < 1e-4 and (latents.std((0, 2, 3)) - 1).abs().max() < 1e-4
assert (before - after).abs().max() < 1e-4
curves.write(Path(sys.argv[1]), Path(sys.argv[1]))
"""


def test_styles_differ_whitening_changes_no_picture_and_logs_become_a_chart(tmp_path: Path) -> None:
    """One process for the three, since loading torch takes longer than all of them."""
    for name in ("vae_colours", "vae_details", "unet_log"):
        rows = "\n".join(f"{step},{2 / step**0.5:.4f},9.0" for step in range(1, 101))
        (tmp_path / f"{name}.csv").write_text(f"step,loss,psnr_db\n{rows}\n", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _MODEL_PARTS, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    table = (tmp_path / "loss.csv").read_text(encoding="utf-8").splitlines()
    assert len(table) == 1 + 3 * 4
    with Image.open(tmp_path / "loss.png") as chart:
        assert chart.width == 3 * 420


@pytest.mark.skipif(not pictures.FONT.exists(), reason="needs Debian's fonts-noto-color-emoji")
def test_the_font_gives_pictures_of_one_size() -> None:
    from fontTools.ttLib import TTFont

    font = TTFont(pictures.FONT)
    glyphs = pictures.glyph_of(font)
    drawn = {
        name: pictures.strike(font, glyphs[(int(code, 16),)]) for code, name in pictures.SUBJECTS.items()
    }
    assert [name for name, image in drawn.items() if image is None or image.size != (128, 128)] == []
    small = pictures.shrink(drawn["car"])
    assert small.shape == (64, 64, 4)
    solid = small[small[..., 3] == 255][:, :3].mean(0)
    assert solid[0] > solid[1] + 40 and solid[0] > solid[2] + 40, "the car is red"
