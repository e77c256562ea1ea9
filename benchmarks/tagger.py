"""Our tagger beside the one of sd-scripts: are the tags equal, and how fast is each?

    python -m benchmarks.tagger --sd-scripts FOLDER --python THEIR_PYTHON --pictures FOLDER [--pictures FOLDER ...]
                                [--count 40] [--batch 4] [--models 1] [--rounds 1] [--json]

Both run in a process of their own over the same pictures with the same ONNX models (stand-ins with the interface of the
WD taggers: one that only averages, so that reading pictures is what counts, and one or more of random convolutions,
where the model counts and fine detail decides). Ours runs in both of its ways to make pictures smaller: `area`, which is
that of sd-scripts, so that tags must be equal, and `bicubic`, which is that of the taggers' authors. Each is
run over few and over all pictures: the difference is the time for the pictures themselves, told apart from the start.
With several rounds these runs take turns, and each figure is the median of its kind. The photographs are joined by
derived ones: transparent, CMYK, grey, 16 bits, palette, turned by EXIF.

Tags are compared picture by picture. For pictures turned by EXIF and with 16 bits ours differ on purpose: we tag what a
viewer shows; sd-scripts tags pixels as they lie in the file, and cuts 16 bits off at white. Characters are left out:
sd-scripts at 48d368fa ends with an UnboundLocalError when a character's tag passes its threshold.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from studio.captions.batch import ENVIRONMENT

SIDE = 448
GENERAL, NO_CHARACTERS = "0.35", "1.1"
FEW = 4
ON_PURPOSE = ("exif", "16bit")
WAYS = ("area", "bicubic")
CHARACTERS = [f"person_{i}_(series)" for i in range(40)]


def stand_in(folder: Path, *, heavy: bool, seed: int = 7) -> Path:
    """A tagger with 240 tags. Light: the average of each of 7 x 7 tiles decides; heavy: convolutions before it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    chance = np.random.default_rng(seed)
    names = (
        [(n, 9) for n in ("general", "sensitive", "questionable", "explicit")]
        + [(f"general_tag_{i}", 0) for i in range(196)]
        + [(name, 4) for name in CHARACTERS]
    )
    nodes = [
        helper.make_node("Transpose", ["input"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["nchw", "scale"], ["x0"]),
    ]
    weights: dict[str, Any] = {"scale": np.array(1 / 255, np.float32)}
    channels, last = 3, "x0"
    for n, wide in enumerate((24, 48, 96, 192, 192, 192) if heavy else ()):
        stride = 2 if n < 4 else 1
        weights[f"w{n}"] = (
            chance.standard_normal((wide, channels, 3, 3)) * np.sqrt(2 / (channels * 9))
        ).astype(np.float32)
        nodes.append(
            helper.make_node("Conv", [last, f"w{n}"], [f"c{n}"], strides=[stride] * 2, pads=[1, 1, 1, 1])
        )
        nodes.append(helper.make_node("Relu", [f"c{n}"], [f"x{n + 1}"]))
        channels, last = wide, f"x{n + 1}"
    tile = 64 if not heavy else 4
    nodes.append(
        helper.make_node("AveragePool", [last], ["tiles"], kernel_shape=[tile] * 2, strides=[tile] * 2)
    )
    nodes.append(helper.make_node("Flatten", ["tiles"], ["flat"]))
    size = channels * 49
    weights["w"] = (chance.standard_normal((size, len(names))) * (8 / np.sqrt(size))).astype(np.float32)
    weights["b"] = chance.uniform(-4, 0, len(names)).astype(np.float32)
    nodes += [
        helper.make_node("MatMul", ["flat", "w"], ["product"]),
        helper.make_node("Add", ["product", "b"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "standin",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["N", len(names)])],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(folder / "model.onnx"))
    lines = ["tag_id,name,category,count", *(f"{i},{n},{c},{1000 - i}" for i, (n, c) in enumerate(names))]
    (folder / "selected_tags.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def photographs(sources: Sequence[Path], target: Path, count: int) -> list[str]:
    """Copies of `count` pictures, and derived ones of each awkward kind."""
    target.mkdir(parents=True)
    found = sorted(
        p for s in sources for p in s.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")
    )
    for n, path in enumerate(found[:count]):
        shutil.copy(path, target / f"{n:03}_{path.stem}{path.suffix.lower()}")
    first = Image.open(found[0]).convert("RGB")
    first.thumbnail((1600, 1600))
    alpha = first.convert("RGBA")
    alpha.putalpha(Image.linear_gradient("L").resize(first.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    alpha.save(target / "900_transparent.png")
    first.convert("CMYK").save(target / "901_cmyk.jpg")
    first.convert("L").save(target / "902_grey.jpg")
    first.convert("P", palette=Image.Palette.ADAPTIVE).save(target / "903_palette.png")
    first.resize((300, 200)).save(target / "904_small.png")
    first.save(target / "905_exif.jpg", exif=exif)
    Image.fromarray(np.asarray(first.convert("L")).astype(np.uint16) * 257).save(target / "906_16bit.png")
    return sorted(p.name for p in target.iterdir())


def timed(
    command: list[str], cwd: Path | None = None, env: dict[str, str] | None = None
) -> tuple[float, float]:
    """Seconds by the clock and of the processors that a command took. Raises when it fails."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(model: Path, pictures: Path, out: Path, batch: int, way: str) -> tuple[float, float]:
    return timed(
        [
            sys.executable,
            "-m",
            "benchmarks.tagger",
            "--ours",
            str(model),
            str(pictures),
            str(out),
            str(batch),
            way,
        ],
        env={**os.environ, **ENVIRONMENT},
    )


def run_ours(model: Path, pictures: Path, out: Path, batch: int, way: str) -> None:
    """What the process of ours does: the engine of the captioning job."""
    from studio.captions.proposals import Ask, Proposal
    from studio.captions.tagger import TaggerSettings
    from studio.captions.taggers import check_folder
    from studio.captions.workers.tagging import TaggingEngine

    settings = TaggerSettings.model_validate(
        # A probability of exactly 1 passes the highest threshold; theirs goes beyond it.
        {"model": str(model), "order": "model", "batch": batch, "resize": way, "exclude": CHARACTERS}
    )
    asks = [Ask(p.name, p) for p in sorted(pictures.iterdir())]
    with TaggingEngine(check_folder(model), settings) as engine:
        found = {
            a.name: a.caption if isinstance(a, Proposal) else "" for a in engine.caption(asks, lambda: False)
        }
    out.write_text(json.dumps(found), encoding="utf-8")


def theirs(args: argparse.Namespace, model: Path, pictures: Path, out: Path) -> tuple[float, float]:
    command = [
        args.python, "finetune/tag_images_by_wd14_tagger.py", str(pictures), "--onnx", "--repo_id", f"local/{model.name}",
        "--model_dir", str(model.parent), "--batch_size", str(args.batch), "--max_data_loader_n_workers", str(args.workers),
        "--remove_underscore", "--general_threshold", GENERAL, "--character_threshold", NO_CHARACTERS,
        "--output_path", str(out),
    ]  # fmt: skip
    return timed(
        command,
        args.sd_scripts,
        {**os.environ, "PYTHONPATH": os.pathsep.join([*args.path, str(args.sd_scripts)])},
    )


def compare(args: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Both over both models."""
    names = photographs(args.pictures, work / "all", args.count)
    (work / "few").mkdir()
    for name in names[:FEW]:
        shutil.copy(work / "all" / name, work / "few" / name)
    told: dict[str, Any] = {"pictures": len(names), "models": {}}
    for kind in ("light", *(f"heavy{n}" for n in range(args.models))):
        model = stand_in(
            work / "models" / f"local_{kind}", heavy=kind != "light", seed=7 + int(kind[5:] or 0)
        )
        model_for_them = model.parent / kind  # their folder is <model_dir>/<repo id with _>
        seen: dict[str, dict[str, list[tuple[float, float]]]] = {
            who: {"few": [], "all": []} for who in (*WAYS, "theirs")
        }
        for _ in range(args.rounds):
            for part in ("few", "all"):
                out = work / f"theirs_{kind}.json"
                seen["theirs"][part].append(theirs(args, model_for_them, work / part, out))
                for way in WAYS:
                    out = work / f"{way}_{kind}.json"
                    seen[way][part].append(ours(model, work / part, out, args.batch, way))
        runs = {who: {part: medians(r) for part, r in parts.items()} for who, parts in seen.items()}
        each = {
            who: {
                "seconds_each": round((r["all"][0] - r["few"][0]) / (len(names) - FEW), 4),
                "cpu_each": round((r["all"][1] - r["few"][1]) / (len(names) - FEW), 4),
                "whole_run": round(r["all"][0], 2),
                "start": round(r["few"][0], 2),
            }
            for who, r in runs.items()
        }
        other = {
            Path(k).name: v["tags"] for k, v in json.loads((work / f"theirs_{kind}.json").read_text()).items()
        }
        told["models"][kind] = {"theirs": each["theirs"]}
        for way in WAYS:
            mine = json.loads((work / f"{way}_{kind}.json").read_text())
            told["models"][kind][way] = {
                **each[way],
                **against(each[way], each["theirs"], names, mine, other),
            }
    return told


def medians(runs: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Of the seconds by the clock and of those of the processors."""
    clock, cpu = zip(*runs, strict=True)
    return statistics.median(clock), statistics.median(cpu)


def against(
    own: dict[str, float],
    their: dict[str, float],
    names: list[str],
    mine: dict[str, str],
    other: dict[str, str],
) -> dict[str, Any]:
    """How many times faster ours is, and which captions differ."""
    differ = {n: (mine.get(n, ""), other.get(n, "")) for n in names if mine.get(n, "") != other.get(n, "")}
    return {
        "ratio_clock": round(their["seconds_each"] / own["seconds_each"], 2),
        "ratio_cpu": round(their["cpu_each"] / own["cpu_each"], 2),
        "ratio_whole_run": round(their["whole_run"] / own["whole_run"], 2),
        "equal": len(names) - len(differ),
        "tags": sum(len(v.split(", ")) for v in mine.values()),
        "differ_on_purpose": sorted(n for n in differ if any(k in n for k in ON_PURPOSE)),
        "differ": {
            n: sorted(set(m.split(", ")) ^ set(o.split(", ")))
            for n, (m, o) in differ.items()
            if not any(k in n for k in ON_PURPOSE)
        },
    }


def options(parser: argparse.ArgumentParser) -> None:
    """How to reach sd-scripts, and how much to run."""
    parser.add_argument("--sd-scripts", type=Path, help="its folder")
    parser.add_argument("--python", help="the Python that has sd-scripts' packages")
    parser.add_argument("--path", action="append", default=[], help="further folders for its PYTHONPATH")
    parser.add_argument("--count", type=int, default=40, help="pictures to tag")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--models", type=int, default=1, help="stand-ins of random convolutions")
    parser.add_argument("--rounds", type=int, default=1, help="how often each tagger is timed")
    parser.add_argument("--workers", type=int, default=2, help="its DataLoader workers")


def show(told: dict[str, Any]) -> None:
    """What `compare` found, in words."""
    for kind, found in told["models"].items():
        their = found["theirs"]
        print(
            f"{kind}: sd-scripts {their['seconds_each']:.3f} s a picture, {their['cpu_each']:.3f} processor seconds, whole run {their['whole_run']} s"
        )
        for way in WAYS:
            r = found[way]
            print(
                f"  ours, {way}: {r['seconds_each']:.3f} s ({r['ratio_clock']} times), {r['cpu_each']:.3f} processor seconds ({r['ratio_cpu']} times), whole run {r['whole_run']} s ({r['ratio_whole_run']} times)"
            )
            print(
                f"    equal captions: {r['equal']} of {told['pictures']} ({r['tags']} tags); on purpose not: {r['differ_on_purpose']}; else: {r['differ']}"
            )


def main() -> None:
    if sys.argv[1:2] == ["--ours"]:
        run_ours(Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4]), int(sys.argv[5]), sys.argv[6])
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options(parser)
    parser.add_argument("--pictures", type=Path, action="append", required=True)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if not (args.sd_scripts and args.python):
        parser.error("--sd-scripts and --python are needed")
    with tempfile.TemporaryDirectory() as work:
        told = compare(args, Path(work))
    if args.json:
        print(json.dumps(told, indent=2))
    else:
        show(told)


if __name__ == "__main__":
    main()
