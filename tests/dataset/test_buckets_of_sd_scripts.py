"""Buckets beside those of real sd-scripts, where `STUDIO_SD_SCRIPTS` names its checkout.

`STUDIO_SD_SCRIPTS_PYTHON` names the python of its environment; without it, the one that runs the tests. Elsewhere the
recorded answers in `sd_scripts_buckets.json` stand in (`test_buckets`).
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from studio.dataset.buckets import bucket_for, bucket_sizes
from studio.dataset.subsets import subsets_of, times_shown

SCRIPTS = os.environ.get("STUDIO_SD_SCRIPTS", "")
pytestmark = pytest.mark.skipif(not SCRIPTS, reason="STUDIO_SD_SCRIPTS names no checkout of sd-scripts")

# What follows runs inside of sd-scripts' own environment. Where torchvision came without its compiled part, its import
# wants two operators declared, which nothing here calls.
READY = """
try:
    import torchvision
except (RuntimeError, ImportError):
    import sys, torch
    for name in [n for n in sys.modules if n.split(".")[0] == "torchvision"]:
        del sys.modules[name]
    operators = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
"""
ASK = """
import json, sys
sys.path.insert(0, sys.argv[1])
from library.train_util import BucketManager
answers = []
for resolution, step, no_upscale, low, high, sizes in json.load(sys.stdin):
    m = BucketManager(no_upscale, (resolution, resolution), low, high, step)
    if not no_upscale:
        m.make_buckets()
    rows = []
    for w, h in sizes:
        try:
            reso, resized, _ = m.select_bucket(w, h)
            rows.append([*reso, *resized])
        except (ZeroDivisionError, AssertionError):
            rows.append(None)
    answers.append([rows, [] if no_upscale else m.predefined_resos])
print("ANSWER" + json.dumps(answers))
"""


def ask(script: str, question: object) -> object:
    python = os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", sys.executable)
    ran = subprocess.run(
        [python, "-c", READY + script, SCRIPTS],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=False,
        cwd=SCRIPTS,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    return json.loads(ran.stdout.rpartition("ANSWER")[2])


def test_thousands_of_sizes_fall_into_the_same_buckets() -> None:
    chance = random.Random(7)
    question = []
    for resolution, step in ((512, 64), (768, 64), (1024, 64), (1024, 32), (640, 8), (64, 8), (1536, 128)):
        for no_upscale in (True, False):
            sizes = [(chance.randint(64, 6000), chance.randint(64, 6000)) for _ in range(300)]
            sizes += [
                (chance.randint(step, 2 * resolution), chance.randint(step, 2 * resolution))
                for _ in range(300)
            ]
            sizes += [(resolution + a, resolution + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
            low, high = max(step, resolution // 2 // step * step), resolution * 2
            question.append([resolution, step, no_upscale, low, high, sizes])
    answers = ask(ASK, question)
    compared, wrong = 0, []
    assert isinstance(answers, list)
    for (resolution, step, no_upscale, _, _, sizes), (rows, predefined) in zip(
        question, answers, strict=True
    ):
        if predefined:
            assert [tuple(p) for p in predefined] == list(bucket_sizes(resolution, step))
        for (w, h), row in zip(sizes, rows, strict=True):
            if row is None or min(row[:2]) == 0:
                continue  # a strip that sd-scripts cannot take; the studio enlarges it to one step
            placed = bucket_for(w, h, resolution, step, no_upscale)
            mine = [*placed.bucket, *placed.resized]
            short = (
                row[2] < row[0] or row[3] < row[1]
            )  # one pixel short by rounding: the studio takes the bucket
            theirs = [row[0], row[1], max(row[0], row[2]), max(row[1], row[3])] if short else row
            compared += 1
            if mine != theirs:
                wrong.append((resolution, step, no_upscale, w, h, theirs, mine))
    assert not wrong and compared > 7500


SUBSETS = """
import json, sys
sys.path.insert(0, sys.argv[1])
from library.train_util import DreamBoothDataset, DreamBoothSubset
import inspect
subsets = []
wanted = inspect.signature(DreamBoothSubset.__init__).parameters
defaults = dict(alpha_mask=False, class_tokens=None, caption_extension=".txt", cache_info=False, shuffle_caption=False,
                caption_separator=",", keep_tokens=0, keep_tokens_separator="", secondary_separator=None, enable_wildcard=False,
                color_aug=False, flip_aug=False, face_crop_aug_range=None, random_crop=False, caption_dropout_rate=0.0,
                caption_dropout_every_n_epochs=0, caption_tag_dropout_rate=0.0, caption_prefix=None, caption_suffix=None,
                token_warmup_min=1, token_warmup_step=0, custom_attributes=None, validation_seed=None, validation_split=0.0,
                resize_interpolation=None, system_prompt=None)
for folder, repeats, reg in json.load(sys.stdin):
    given = dict(defaults, image_dir=folder, num_repeats=repeats, is_reg=reg)
    subsets.append(DreamBoothSubset(**{k: v for k, v in given.items() if k in wanted}))
own = dict(subsets=subsets, is_training_dataset=True, batch_size=3, resolution=(64, 64), network_multiplier=1.0,
           enable_bucket=True, min_bucket_reso=32, max_bucket_reso=128, bucket_reso_steps=8, bucket_no_upscale=True,
           prior_loss_weight=0.5, debug_dataset=False, validation_split=0.0, validation_seed=None, resize_interpolation=None,
           skip_image_resolution=None)
takes = inspect.signature(DreamBoothDataset.__init__).parameters
d = DreamBoothDataset(**{k: v for k, v in own.items() if k in takes})
d.make_buckets()
shown = {p.replace("\\\\", "/").rsplit("/", 1)[-1]: i.num_repeats for p, i in d.image_data.items()}
print("ANSWER" + json.dumps([shown, len(d)]))
"""


def test_repeats_and_regularisation_are_counted_alike(tmp_path: Path) -> None:
    """Real sd-scripts reads the folders: each picture is shown as often as here, and an epoch has as many batches."""
    from PIL import Image

    from studio.dataset.buckets import place
    from studio.estimate import plan_steps
    from studio.settings import TrainingSettings

    chance = random.Random(3)
    settings = TrainingSettings(resolution=64, bucket_step=8, batch_size=3, repeats=2)
    for turn in range(3):
        names = [f"{turn}-{i:02}.png" for i in range(14)]
        own = {n: chance.randint(1, 4) for n in names}
        extra = {n for n in names if chance.random() < (0.3, 0.6, 0.8)[turn]}
        sizes = {n: (chance.choice((64, 96, 128)), chance.choice((64, 96))) for n in names}
        groups = subsets_of(names, own, extra, settings.repeats)
        question = []
        for g in groups:
            folder = tmp_path / f"{turn}" / f"{g.repeats}_{'reg' if g.regularisation else 'set'}"
            folder.mkdir(parents=True)
            for n in g.names:
                Image.new("RGB", sizes[n], "teal").save(folder / n)
            question.append([str(folder), g.repeats, g.regularisation])
        shown, batches = ask(SUBSETS, question)  # type: ignore[misc]
        assert shown == times_shown(groups)
        buckets: dict[tuple[int, int], int] = {}
        for n, times in shown.items():
            bucket = place(*sizes[n], settings).bucket
            buckets[bucket] = buckets.get(bucket, 0) + times
        assert plan_steps(list(buckets.values()), settings).steps_per_epoch == batches
