"""The job of `studio.dataset.deep`: EfficientNet-Lite0 over every picture, then near copies by content."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from studio.dataset import deep, forecast
from studio.dataset.apart import Apart
from studio.dataset.bars import find_bars
from studio.dataset.duplicates import best_first
from studio.dataset.formats import open_picture
from studio.dataset.pixels import WORK_SIDE, cpu_threads, on_white, shrink
from studio.dataset.scan import Scan, known_looks, scan, waiting_sizes
from studio.dataset.workers.efficientnet import BATCH, EfficientNetLite
from studio.jobs.lifeline import Worker
from studio.project import open_project
from studio.workspace import Workspace

SIDE = 224
"""Pixels a side of the network's input, as it was trained."""


def prepared(path: Path) -> np.ndarray | None:
    """A picture without its bars as the network's input; None when it cannot be read."""
    try:
        image = open_picture(path.read_bytes())
        if image.format in ("JPEG", "MPO"):
            image.draft(None, (WORK_SIDE, WORK_SIDE))
        image.load()
        small, _ = on_white(shrink(ImageOps.exif_transpose(image)))
    except Exception:  # noqa: BLE001  the audit names it
        return None
    left, top, right, bottom = find_bars(np.asarray(small.convert("L")))
    small = small.crop((left, top, small.width - right, small.height - bottom))
    return np.asarray(small.resize((SIDE, SIDE), Image.Resampling.BICUBIC), dtype=np.uint8)


def look(cache: Path, folder: Path, todo: list[tuple[str, str]], tell: Callable[[int, int], bool]) -> int:
    """Store the features of pictures given as (content hash, name). tell(done, total) answers False to stop. How many
    were looked at."""
    net = EfficientNetLite(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    done = 0
    with ThreadPoolExecutor(2, thread_name_prefix="deep") as pool:
        for part in _parts(todo):
            if not tell(done, len(todo)):
                break
            read = pool.map(lambda item: prepared(folder / item[1]), part)
            ready = [(sha, image) for (sha, _), image in zip(part, read, strict=True) if image is not None]
            if ready:
                content, style = net([image for _, image in ready])
                deep.put(cache, [(sha, c, s) for (sha, _), c, s in zip(ready, content, style, strict=True)])
            done += len(part)
    return done


def _parts(todo: list[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    for start in range(0, len(todo), BATCH):
        yield todo[start : start + BATCH]


def compare(scan: Scan) -> int:
    """Find near copies by content among all that was looked at; how many pairs."""
    return deep.compare(scan.cache, best_first(scan), Apart(scan.folder.parent))


def _comparing(count: int) -> float:
    """Seconds of `compare`, on the machine of `studio.dataset.forecast`."""
    return 2e-4 * count + 4e-8 * count * count


def run(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the job runs. Its result: pictures looked at, pairs found."""
    project = open_project(Workspace(Path(payload["workspace"])), payload["project"])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or cpu_threads()))
    left = forecast.Forecast(worker)
    unseen, known = waiting_sizes(project), len(known_looks(project))
    left.expect("look", forecast.LOOK_S * sum(forecast.weights(unseen)))
    left.expect("deep", forecast.DEEP_S * max(len(unseen), known - len(deep.features(project.cache_dir))))
    left.expect("compare", _comparing(max(known, len(unseen))))
    seen = scan(project, left.teller("look"), lambda: worker.should_stop)
    wanted = set(deep.missing(seen))
    todo = [(p.sha256, p.name) for p in seen.readable if p.name in wanted]
    left.expect("deep", forecast.DEEP_S * len(todo))
    left.expect("compare", _comparing(len(seen)))
    deeper = left.teller("deep")

    def tell(done: int, total: int) -> bool:
        deeper(done, total, "Looking at what is on them")
        return not worker.should_stop

    done = look(project.cache_dir, project.dataset_dir, todo, tell) if todo else 0
    worker.check()
    left.teller("compare")(0, len(seen), "Comparing them")
    return {"looked_at": done, "pairs": compare(seen)}
