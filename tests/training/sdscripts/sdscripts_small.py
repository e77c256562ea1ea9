"""What the tests of the kohya backend train: few small pictures, and sd-scripts itself or a stand-in that prints what the
recorded runs printed, in their order and to the same streams."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio.files import sha256_file
from studio.settings import TrainingSettings
from studio.training.base import PlannedPicture, TrainingPlan

# Says and leaves what the script does, from its own options; HOW decides what goes wrong.
STAND_IN = """
import json, math, os, struct, sys, time, tomllib
args = dict(zip(sys.argv[1::2], sys.argv[2::2]))
train = tomllib.load(open(args["--config_file"], "rb"))
data = tomllib.load(open(args["--dataset_config"], "rb"))
how = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "how")).read().strip()
subsets = data["datasets"][0]["subsets"]
count = 0
for s in subsets:
    for n in os.listdir(s["image_dir"]):
        if n.endswith(".png"):
            assert os.path.exists(os.path.join(s["image_dir"], n[:-4] + ".txt")), n
            count += s["num_repeats"]
say = lambda t: print(t, file=sys.stderr, end="", flush=True)
say("2026-11-21 09:26:12 INFO     prepare images.                  train_util.py:2112\\n")
if how == "nothing" or not count:
    say("                    ERROR    No data found. Please verify arguments (train_data_dir must be the parent) / x\\n")
    sys.exit(0)
size = data["datasets"][0]["batch_size"]
def out_of_memory():
    say("Traceback (most recent call last):\\n  File \\"x.py\\", line 1, in <module>\\n    f()\\n"
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.\\n")
    sys.exit(1)
if how == "oom":
    out_of_memory()
if "max_train_steps" in train:
    time.sleep(0.8)  # a dry run's memory is measured, which takes a moment
per = math.ceil(count / data["datasets"][0]["batch_size"])
epochs = train.get("max_train_epochs", 1)
total = train.get("max_train_steps", per * epochs)
print("accelerator device: cpu", flush=True)
first = 0
if "--resume" in args:
    told = json.load(open(os.path.join(args["--resume"], "train_state.json")))
    say(f"INFO     load train state from {args['--resume']}/train_state.json: {told}\\n")
    first = int(args["--initial_epoch"]) - 1
for name, value in (("num train images * repeats / x", count), ("num reg images / x", 0), ("num batches per epoch / 1", per),
                    ("num epochs / epoch", epochs), ("batch size per device / x", 1), ("total optimization steps / x", total)):
    print(f"  {name}: {value}", flush=True)
out = train["output_dir"]
os.makedirs(out, exist_ok=True)
def save(name, broken=False):
    print(f"\\nsaving checkpoint: {out}/{name}", flush=True)
    time.sleep(0.3 if how == "slow" else 0)
    value = struct.pack("<ff", 1.0, float("nan") if broken else 1.0)
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    head = json.dumps({f"{layer}.lora_{way}.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [i * 4, i * 4 + 4]}
                       for i, way in enumerate(("down", "up"))}).encode()
    with open(f"{out}/{name}", "wb") as f:
        f.write(struct.pack("<Q", len(head)) + head + value)
done = 0
for epoch in range(first + 1, epochs + 1):
    print(f"\\nepoch {epoch}/{epochs}\\n", flush=True)
    if how == "oom-mid" and size > 1 and epoch > 1:
        out_of_memory()
    for _ in range(per):
        if done + 0 >= total:
            break
        done += 1
        time.sleep(0.2 if how == "slow" else 0.01)
        loss = "nan" if how == "nan" and done > 2 else f"{1 / done:.3g}"
        for post in ("", f", avr_loss={loss}"):
            say(f"\\rsteps:  10%|#         | {done}/{total} [00:01<00:01,  9.00it/s{post}]")
    if epoch < epochs and "save_every_n_epochs" in train:
        save(f"{train['output_name']}-{epoch:06d}.safetensors")
        state = f"{out}/{train['output_name']}-{epoch:06d}-state"
        os.makedirs(state, exist_ok=True)
        time.sleep(1.5 if how == "slow-state" else 0)
        open(f"{state}/model.safetensors", "wb").write(b"x")
        json.dump({"current_epoch": epoch, "current_step": done}, open(f"{state}/train_state.json", "w"))
        open(f"{state}/random_states_0.pkl", "wb").write(b"x")
if how == "vanish":
    os._exit(0)
if how == "killed":  # as by the system when memory runs out; nobody is left to say so
    os.kill(os.getpid(), 9)
save(f"{train['output_name']}.safetensors", broken=how == "nan-file")
say("                    INFO     model saved.                  train_network.py:1729\\n")
"""


# Its Python. Loading PyTorch only to start the stand-in would cost each test more than all else in it, so what accelerate would
# start is started at once. What the script can import is answered by a file `probed` where there is one.
PYTHON = """#!/bin/sh
case "$*" in
*accelerate.commands.launch*)
    while [ $# -gt 0 ]; do
        case "$1" in *sdscripts_guard.py) break ;; esac
        shift
    done ;;
*'print("PROBE"'*)
    told="$(dirname "$0")/probed"
    [ -f "$told" ] && exec cat "$told" ;;
esac
exec "{python}" "$@"
"""


def stand_in(folder: Path, how: str = "", *, accelerate: bool = False) -> dict[str, str]:
    """A folder that is started like sd-scripts; what the plan's `engine` says of it. accelerate: the real one starts it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("train_network", "sdxl_train_network", "sd3_train_network", "flux_train_network"):
        (folder / f"{name}.py").write_text(STAND_IN)
    (folder / "how").write_text(how)
    python = Path(sys.executable)
    if os.name != "nt" and not accelerate:
        python = folder / "python"
        python.write_text(PYTHON.format(python=sys.executable))
        python.chmod(0o755)
    return {"source": str(folder), "python": str(python), "commit": ""}


def make_plan(
    folder: Path, engine: dict[str, str], *, model: Path | None = None, **changes: Any
) -> TrainingPlan:
    """A saved plan over four drawn pictures, one of them for regularisation."""
    pictures = folder.parent / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    planned = []
    rng = np.random.default_rng(7)
    for i in range(4):
        path = pictures / f"p{i}.png"
        if not path.exists():
            Image.fromarray(rng.integers(0, 255, (128, 160, 3), dtype=np.uint8)).save(path)
        planned.append(
            PlannedPicture(
                path=path,
                caption=f"bluprnt, thing {i}\nin two lines",
                sha256=sha256_file(path),
                repeats=2 if i == 1 else 1,
                regularisation=i == 3,
            )
        )
    limit = changes.pop("limit_steps", None)
    settings = TrainingSettings(
        **{
            "backend": "kohya", "rank": 4, "alpha": 4, "epochs": 3, "batch_size": 1, "resolution": 128,
            "learning_rate": 1e-3, "sample_every_epochs": 0, "cache_text_embeddings": False, **changes,
        }
    )  # fmt: skip
    plan = TrainingPlan(
        run_folder=folder,
        model_path=model or folder.parent / "model.safetensors",
        family="sd15",
        pictures=tuple(planned),
        settings=settings,
        trigger="bluprnt",
        output_name="small",
        limit_steps=limit,
        engine=engine,
    )
    folder.mkdir(parents=True, exist_ok=True)
    plan.save()
    return plan
