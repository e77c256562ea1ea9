"""What the studio ships: the built-in base model and the sample pictures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from studio.models import tensor_header
from studio.workspace import shipped

POCKET, SAMPLE, FLAWED = (
    shipped("data", "pocket"),
    shipped("data", "sample"),
    shipped("data", "sample_flawed"),
)


def test_the_base_model_is_small_whole_and_without_pickles() -> None:
    every = [p for p in POCKET.rglob("*") if p.is_file()]
    assert sum(p.stat().st_size for p in every) < 25_000_000
    assert {p.suffix for p in every} <= {".json", ".txt", ".safetensors", ".md", ".png", ".csv"}
    weights = [p for p in every if p.suffix == ".safetensors"]
    assert {p.parent.name for p in weights} == {"unet", "vae", "text_encoder"}
    for p in weights:
        assert all(t["dtype"] == "F16" for n, t in tensor_header(p).items() if n != "__metadata__"), p


def test_the_model_card_tells_licence_data_recipe_and_limits() -> None:
    card = (POCKET / "README.md").read_text()
    for word in (
        "Apache-2.0",
        "Noto Emoji",
        "emojibase",
        "python -m scripts.pocket all",
        "Limits",
        "loss",
        "64",
    ):
        assert word in card, word


def test_the_tokenizer_takes_any_word() -> None:
    from tokenizers import Tokenizer

    t = Tokenizer.from_file(str(POCKET / "tokenizer" / "tokenizer.json"))
    vocabulary = json.loads((POCKET / "tokenizer" / "vocab.json").read_text())
    assert t.get_vocab_size() == len(vocabulary)
    unknown = vocabulary.get("<|unk|>", -1)
    for text in ("bluprnt, dog", "Zyzzyva-42", "絵", "naïve café"):
        ids = t.encode(text).ids
        assert len(ids) > 2 and unknown not in ids, text


def test_every_sample_picture_has_a_caption_with_the_trigger_first() -> None:
    pictures = sorted(SAMPLE.glob("*.png"))
    assert 15 <= len(pictures) <= 30
    for p in pictures:
        with Image.open(p) as im:
            im.load()
            assert im.mode == "RGB" and min(im.size) >= 64
        assert p.with_suffix(".txt").read_text().startswith("bluprnt, ")
    assert "OFL" in (SAMPLE / "README.md").read_text() and "Apache" in (SAMPLE / "README.md").read_text()


def test_the_flawed_folder_has_its_flaws() -> None:
    pictures = {p.name: p for p in FLAWED.iterdir() if p.suffix in (".png", ".jpg")}
    damaged = []
    for name, p in pictures.items():
        try:
            with Image.open(p) as im:
                im.load()
        except OSError:
            damaged.append(name)
    captions = {
        n: p.with_suffix(".txt").read_text() for n, p in pictures.items() if p.with_suffix(".txt").exists()
    }
    pixels = [Image.open(p).tobytes() for n, p in pictures.items() if n not in damaged]
    assert damaged == ["12_penguin_broken.png"]
    assert len(pictures) - len(captions) == 1
    assert [n for n, c in captions.items() if not c.startswith("bluprnt")] == ["05_sailboat.png"]
    assert len(pixels) - len(set(pixels)) == 1, "one picture is there twice"


_DRAW = """
import sys, torch
from diffusers import StableDiffusionPipeline
torch.set_num_threads(1)
p = StableDiffusionPipeline.from_pretrained(sys.argv[1], dtype=torch.float32, safety_checker=None)
p.set_progress_bar_config(disable=True)
a, b, c = (p([t], num_inference_steps=8, guidance_scale=4.0, height=64, width=64, generator=torch.Generator().manual_seed(1),
             output_type="np").images[0] for t in ("red car on a white background", "sunflower on a blue background", "red car on a white background"))
assert a.shape == (64, 64, 3) and a.std() > 0.05
assert abs(a - b).mean() > 0.1, abs(a - b).mean()
assert (a == c).all()
assert b[:6, :6, 2].mean() > b[:6, :6, 0].mean() + 0.2, "a blue ground is blue"
assert a[:6, :6].mean() > 0.85, "a white ground is white"
"""


@pytest.mark.slow
def test_it_draws_what_the_prompt_says() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _DRAW, str(POCKET)],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_the_build_of_the_model_explains_itself() -> None:
    root = Path(__file__).resolve().parent.parent.parent
    run = [sys.executable, "-m", "scripts.pocket"]
    told = subprocess.run([*run, "--help"], capture_output=True, text=True, timeout=60, cwd=root, check=False)
    assert told.returncode == 0 and "--work" in told.stdout
    wrong = subprocess.run([*run, "paint"], capture_output=True, text=True, timeout=60, cwd=root, check=False)
    assert wrong.returncode == 2 and "paint" in wrong.stderr
