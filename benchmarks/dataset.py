"""The dataset's audit, its search for duplicates and its tagger, measured in one run.

    python -m benchmarks.dataset [--pictures 650] [--hashes 5000,50000,200000] [--deep] [--cleanvision PYTHON]
                                 [--sd-scripts FOLDER --python THEIR_PYTHON [--rounds 3]]

1. The whole look at a picture (read, sha256, decode, thumbnail, hashes, bars, blur) beside bare decoding (Pillow `load`)
   and beside cleanvision doing all its checks. cleanvision has its own virtual environment: give its `python`;
   without it that line is left out. CPU time a picture, everything on one thread.
2. Recall and precision of the search for duplicates on planted copies of thirteen kinds, with studio shots of one
   ground as hard negatives (`benchmarks.planted`); with --deep also of the deep look, which takes about 0.1 s a picture.
3. CPU time of the search in many hashes, with its growth, and its recall beside comparing all pairs.
4. With --sd-scripts: the tagger beside its own on some of the pictures (`benchmarks.tagger`, which takes others too).

Prints a table and, with --json, the figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks import tagger
from benchmarks.planted import KINDS, plant
from studio.dataset import near
from studio.dataset.duplicates import find_duplicates
from studio.dataset.pixels import look_at
from studio.dataset.scan import Scan, scan
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace

_CLEANVISION = """
import resource, sys, time, logging, warnings
warnings.simplefilter("ignore")
from cleanvision import Imagelab
lab = Imagelab(data_path=sys.argv[1])
before = time.process_time()
lab.find_issues(n_jobs=1, verbose=False)
print(time.process_time() - before)
"""


def cpu(work: Any, *args: Any) -> tuple[Any, float]:
    """What it answers, and its CPU seconds."""
    before = time.process_time()
    answer = work(*args)
    return answer, time.process_time() - before


def decode_all(paths: list[Path]) -> None:
    for path in paths:
        with Image.open(path) as image:
            image.load()


def look_all(paths: list[Path]) -> None:
    for path in paths:
        look_at(path)


def audit(folder: Path, cleanvision: str | None) -> dict[str, float]:
    """Milliseconds of CPU a picture, JPEGs only, as in most sets."""
    paths = sorted(folder.glob("*.jpg"))
    decode_all(paths[:5])
    look_all(paths[:5])
    found = {
        "decode_ms": cpu(decode_all, paths)[1] / len(paths) * 1000,
        "audit_ms": cpu(look_all, paths)[1] / len(paths) * 1000,
    }
    if cleanvision:
        with tempfile.TemporaryDirectory() as aside:
            for path in paths:
                (Path(aside) / path.name).symlink_to(path)
            ran = subprocess.run(
                [cleanvision, "-c", _CLEANVISION, aside], capture_output=True, text=True, check=False
            )
        if ran.returncode:
            print("cleanvision did not run:", ran.stderr.strip().splitlines()[-1:], file=sys.stderr)
        else:
            found["cleanvision_ms"] = float(ran.stdout.strip().splitlines()[-1]) / len(paths) * 1000
    return found


def judged(seen: Scan, planted: dict[str, Any]) -> dict[str, Any]:
    """Recall, precision, and what is missed of each kind. A pair counts as found when both are in one group."""
    wanted = {tuple(sorted((copy, original))): kind for copy, (original, kind) in planted["copies"].items()}
    told = {tuple(sorted((g.names[0], other))) for g in find_duplicates(seen) for other in g.names[1:]}
    right = told & set(wanted)
    missed = Counter(kind for pair, kind in wanted.items() if pair not in right)
    studio = sum(all(n.startswith("studio") for n in pair) for pair in told - set(wanted))
    return {
        "recall": len(right) / len(wanted),
        "precision": len(right) / max(1, len(told)),
        "missed": dict(missed),
        "false_studio": studio,
    }


def deep_look(project: Project, seen: Scan) -> float:
    """The deep look in this process; CPU milliseconds a picture."""
    import torch

    from studio.dataset.workers.deep_look import compare, look

    torch.set_num_threads(1)
    todo = [(p.sha256, p.name) for p in seen.readable]
    _, seconds = cpu(look, project.cache_dir, project.dataset_dir, todo, lambda done, total: True)
    compare(seen)
    return seconds / len(todo) * 1000


def realistic_hashes(count: int, copies: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of random pictures with the spectrum of photographs (amplitude falls with frequency), `copies` of them
    twice with a little noise: the bits of one hash hang together as those of real ones do."""
    u, v = np.meshgrid(np.arange(16), np.arange(16))
    amplitude = 1 / (1 + u + v)
    hashes, flips = [], []
    for start in range(0, count, 20_000):
        part = min(20_000, count - start)
        waves = rng.normal(0, 1, (part, 16, 16)) * amplitude
        if start == 0:
            n = min(copies, part // 2)
            waves[n : 2 * n] = waves[:n] + rng.normal(0, 0.08, (n, 16, 16)) * amplitude
        for target, w in ((hashes, waves), (flips, waves * np.where(u % 2, -1, 1))):
            bits = (w > np.median(w, axis=(1, 2), keepdims=True)).reshape(part, 256)
            target.append(np.packbits(bits, axis=1).view(">u8").astype(np.uint64))
    return np.concatenate(hashes), np.concatenate(flips)


def search(counts: list[int]) -> list[dict[str, float]]:
    """CPU seconds of the search in so many hashes, and its recall on a thousand planted copies."""
    found = []
    rng = np.random.default_rng(0)
    for count in counts:
        copies = min(1000, count // 10)
        hashes, flips = realistic_hashes(count, copies, rng)
        wanted = {
            (n, n + copies)
            for n in range(copies)
            if int(np.bitwise_count(hashes[n] ^ hashes[n + copies]).sum()) <= near.HASH_DISTANCE
        }

        def pairs(h: np.ndarray = hashes, f: np.ndarray = flips) -> tuple[int, set[tuple[int, int]]]:
            total, kept = 0, set()
            for (i, j), mirrored in near.close_pairs(h, f):
                total += len(i)
                if not mirrored:
                    kept.update(zip(i.tolist(), j.tolist(), strict=True))
            return total, kept

        (total, kept), seconds = cpu(pairs)
        recall = len(wanted & kept) / max(1, len(wanted))
        found.append({"hashes": count, "cpu_s": seconds, "candidates": total, "recall": recall})
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the dataset's audit and duplicate search.")
    parser.add_argument("--pictures", type=int, default=650)
    parser.add_argument("--hashes", default="5000,50000,200000")
    parser.add_argument("--deep", action="store_true", help="also the deep look")
    parser.add_argument(
        "--cleanvision", metavar="PYTHON", help="the python of an environment with cleanvision"
    )
    tagger.options(parser)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if bool(args.sd_scripts) != bool(args.python):
        parser.error("--sd-scripts and --python go together")
    told: dict[str, Any] = {"pictures": args.pictures}
    with tempfile.TemporaryDirectory() as home:
        project = create_project(
            Workspace(Path(home)), Intent(kind="character", name="Bench", trigger="benchxq")
        )
        planted = plant(project.dataset_dir, args.pictures)
        told["audit"] = audit(project.dataset_dir, args.cleanvision)
        seen = scan(project)
        told["layout"] = judged(seen, planted)
        if args.deep:
            told["deep_ms"] = deep_look(project, seen)
            told["with_deep"] = judged(seen, planted)
        if args.sd_scripts:
            args.pictures = [project.dataset_dir]
            told["tagger"] = tagger.compare(args, Path(home) / "tagger")
    told["search"] = search([int(n) for n in args.hashes.split(",")])
    if args.json:
        print(json.dumps(told, indent=1))
        return
    a = told["audit"]
    print(
        f"Audit, CPU ms a JPEG: {a['audit_ms']:.1f}; bare decoding {a['decode_ms']:.1f} ({a['audit_ms'] / a['decode_ms']:.2f} times)"
    )
    if "cleanvision_ms" in a:
        print(
            f"cleanvision, all checks: {a['cleanvision_ms']:.1f} ({a['cleanvision_ms'] / a['audit_ms']:.1f} times ours)"
        )
    else:
        print("cleanvision: not measured, no --cleanvision given or it did not run")
    print(
        f"Planted copies: {len(KINDS)} kinds, {len(planted['copies'])} copies, {len(planted['studio'])} studio shots"
    )
    for key, words in (("layout", "by layout"), ("with_deep", "with the deep look")):
        if key in told:
            j = told[key]
            print(
                f"  {words}: recall {j['recall']:.3f}, precision {j['precision']:.3f}, false studio pairs {j['false_studio']}, missed {j['missed']}"
            )
    if args.deep:
        print(f"  deep look, CPU ms a picture: {told['deep_ms']:.0f}")
    last = None
    for row in told["search"]:
        growth = (
            ""
            if last is None
            else f", {row['cpu_s'] / last['cpu_s']:.1f} times for {row['hashes'] / last['hashes']:.0f} times as many"
        )
        print(
            f"Search in {row['hashes']:,} hashes: {row['cpu_s']:.2f} CPU s, recall {row['recall']:.3f}{growth}"
        )
        last = row
    if "tagger" in told:
        print("Tagger:")
        tagger.show(told["tagger"])


if __name__ == "__main__":
    main()
