"""What the evaluation page costs with 300, 500 and 900 pictures on one table.

    python -m benchmarks.grid_page [--sizes 300,500,900] [--times 8] [--workspace FOLDER] [--browser] [--chromium FILE] [--json]

Of each size: processor time of the server, wall time and bytes to the browser for the first visit after a start, a rerun in which
nothing changed, and one in which a rating was said. With --browser (Playwright and a Chromium) also what a person meets: until the
first picture is seen and until all in sight are, the longest time for which the browser answered nothing, from a key to the
mark that moved, and from a key to the rating on the disk; with the processor seconds of the browser's page. Pictures are patterns of 512 px, and each
grid has weights across, one checkpoint and one seed. A workspace that is named is kept and used again.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.visitor import Server, Visitor
from studio import files
from studio.evaluation.grid import Grid
from studio.evaluation.spec import GridLora, GridPrompt, GridSpec, plan_cells
from studio.evaluation.store import CellStore
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace

WEIGHTS = tuple(round(0.1 * k, 1) for k in range(10))
SIDE = 512
CHROMIUM = "/usr/bin/chromium"


def make(workspace: Workspace, size: int) -> Grid:
    """A finished and measured grid of so many pictures in a project of its own; the one that is there already when it is."""
    name = f"grid {size}"
    slug = name.replace(" ", "-")
    if slug in workspace.project_slugs():
        return Grid(next(Project(workspace, slug).grids_dir.glob("grid-*")))
    intent = Intent(kind="style", name=name, trigger="bluprnt", description="Plans")
    project = create_project(workspace, intent)
    lora = project.runs_dir / "final.safetensors"
    files.write_bytes(lora, b"x")
    rows = range(size // len(WEIGHTS))
    prompts = tuple(
        GridPrompt(id=f"p{n}", text=f"bluprnt, a house with {n} windows beside a river") for n in rows
    )
    spec = GridSpec(
        id=files.new_id("grid"), project=slug, trigger="bluprnt", base_model="pocket", base_path=workspace.root,
        base_fingerprint="b", family="sd15", lora_files=(GridLora(path=lora, label="final", content="c"),),
        weights=WEIGHTS, prompts=prompts, width=SIDE, height=SIDE,
    )  # fmt: skip
    folder = project.grids_dir / spec.id
    store, noise, cells = CellStore(project), np.random.default_rng(size), plan_cells(spec)
    for cell in cells:
        small = noise.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        store.put(cell.hash, Image.fromarray(small).resize((SIDE, SIDE), Image.Resampling.BICUBIC), {})
    told = {"pixels": 0.1, "effect": 0.4, "kept": 0.8, "fault": 0.0, "nearest": "", "nearest_similarity": 0.6}
    per_weight = [
        {"checkpoint": "final", "weight": w, "cells": len(prompts), "pixels": w / 3, "effect": w, "nearness": w,
         "nearness_spread": 0.1, "kept": round(1 - 0.6 * w**2, 3), "fault": 0.0, "damage": round(0.6 * w**2, 3), "leak": 0.2,
         "nearest_similarity": 0.5}
        for w in WEIGHTS
    ]  # fmt: skip
    files.write_json(
        folder / "metrics.json",
        {"version": 2, "kind": "style", "features": "none", "cells": {c.hash: {**told, "nearness": c.weight} for c in cells},
         "weights": per_weight, "reference": {"training_pictures": 8, "separable": True, "distance": 3.0, "prompts": 6, "seeds": 1}},
    )  # fmt: skip
    files.write_json(folder / "job.json", {"kind": "grid", "title": "Grid", "command": ["python"]})
    files.write_json(
        folder / "exit.json", {"state": "finished", "code": 0, "attempt": 1, "seconds": 1.0, "result": None}
    )
    files.write_text(folder / "grid.json", spec.model_dump_json(indent=2))
    return Grid(folder)


def reruns(server: Server, grid: Grid, times: int) -> dict[str, Any]:
    """The first visit, reruns in which nothing changed, and reruns that say a rating."""
    visitor = Visitor(server, "evaluation", grid.project.slug)
    try:
        first = visitor.rerun()
        plain = [visitor.rerun() for _ in range(times)]
        key, rated = f"board_{grid.id}", []
        cells = [c for c in grid.cells() if c.weight]
        for n in range(times if key in visitor.ids else 0):
            change = {"seq": n + 1, "cell": cells[n].hash, "what": "rating", "value": n % 5 + 1}
            visitor.put(
                key, json_value={"said": {"window": f"bench{time.time_ns() // 10**9}", "changes": [change]}}
            )
            rated.append(visitor.rerun())
    finally:
        visitor.close()
    out: dict[str, Any] = {}
    for name, found in (("first", [first]), ("plain", plain), ("rating", rated)):
        if found:
            out[name] = {
                "cpu_ms": 1000 * statistics.median(c.cpu for c in found),
                "wall_ms": 1000 * statistics.median(c.wall for c in found),
                "down_kb": max(c.down for c in found) / 1000,
            }
    return out


_WATCH = """
window.__long = [];
new PerformanceObserver((l) => l.getEntries().forEach((e) => window.__long.push(e.duration))).observe({ type: "longtask", buffered: true });
"""
_MOVED = """
(before) => new Promise((done) => {
  const root = [...document.querySelectorAll('*')].map((e) => e.shadowRoot).find((s) => s && s.querySelector('.board'));
  const began = performance.now(), cell = root.querySelector('.cell.here');
  cell.dispatchEvent(new KeyboardEvent('keydown', { key: before, code: before, bubbles: true, composed: true, cancelable: true }));
  requestAnimationFrame(() => setTimeout(() => done([performance.now() - began, root.querySelector('.cell.here') !== cell])));
})
"""
_SEEN = """
() => {
  const roots = [document, ...[...document.querySelectorAll('*')].map((e) => e.shadowRoot).filter(Boolean)];
  const inSight = roots.flatMap((r) => [...r.querySelectorAll('[data-testid=stMain] img, .frame img')]).filter((i) => {
    const b = i.getBoundingClientRect(); return b.bottom > 0 && b.top < innerHeight && b.width > 0; });
  return [inSight.length, inSight.filter((i) => i.complete && i.naturalWidth > 0).length];
}
"""


def browse(server: Server, grid: Grid, chromium: str) -> dict[str, float]:
    """What a person meets in a browser window of 1440 by 900, with an empty cache."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=chromium,
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        try:
            page = browser.new_page(viewport={"width": 1440, "height": 900})
            page.add_init_script(_WATCH)
            wire = page.context.new_cdp_session(page)
            wire.send("Performance.enable")
            page.goto(f"http://127.0.0.1:{server.port}/library")  # the app's own scripts are loaded
            page.get_by_role("heading", name="Library").first.wait_for(timeout=120_000)
            page.goto("about:blank")
            cpu, began = server.cpu(), time.monotonic()
            page.goto(
                f"http://127.0.0.1:{server.port}/evaluation?project={grid.project.slug}", wait_until="commit"
            )
            first = _until(lambda: page.evaluate(_SEEN)[1] > 0) - began
            whole = (
                _until(lambda: len(set(page.evaluate(_SEEN))) == 1 and page.evaluate(_SEEN)[0] > 6) - began
            )
            spent = server.cpu() - cpu
            measures = {m["name"]: m["value"] for m in wire.send("Performance.getMetrics")["metrics"]}
            found = {
                "first_picture_ms": first * 1000, "all_in_sight_ms": whole * 1000, "server_cpu_ms": spent * 1000,
                "page_cpu_ms": measures["TaskDuration"] * 1000, "longest_task_ms": max(page.evaluate("window.__long"), default=0.0),
            }  # fmt: skip
            if page.locator(".board").count():
                found |= _keys(page, grid)
            return found
        finally:
            browser.close()


def _keys(page: Any, grid: Grid) -> dict[str, float]:
    page.locator(".cell.here").focus()
    moves = [page.evaluate(_MOVED, "ArrowDown" if n % 2 else "ArrowRight") for n in range(8)]
    if not all(moved for _ms, moved in moves):
        raise RuntimeError("A key did not move the mark.")
    saved = []
    for n in range(5):
        before = grid.review.path.stat().st_mtime_ns if grid.review.path.exists() else 0
        page.keyboard.press(str(1 + n % 5))
        began = time.monotonic()
        _until(lambda was=before: grid.review.path.exists() and grid.review.path.stat().st_mtime_ns > was)
        saved.append(time.monotonic() - began)
        page.keyboard.press("ArrowDown")
        page.locator(".bar .status").filter(has_text="Saved").wait_for(timeout=30_000)
    return {
        "key_to_mark_ms": statistics.median(ms for ms, _ in moves), "key_to_mark_worst_ms": max(ms for ms, _ in moves),
        "key_to_disk_ms": 1000 * statistics.median(saved), "key_to_disk_worst_ms": 1000 * max(saved),
    }  # fmt: skip


def _until(true: Callable[[], bool], limit: float = 180.0) -> float:
    began = time.monotonic()
    while not true():
        if time.monotonic() - began > limit:
            raise TimeoutError
        time.sleep(0.01)
    return time.monotonic()


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(prog="benchmarks.grid_page", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", default="300,500,900")
    parser.add_argument("--times", type=int, default=8)
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--port", type=int, default=8698)
    parser.add_argument("--browser", action="store_true")
    parser.add_argument("--chromium", default=CHROMIUM)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(args.workspace or Path(scratch))
        workspace.root.mkdir(parents=True, exist_ok=True)
        grids = {s: make(workspace, s) for s in map(int, args.sizes.split(","))}
        for size, grid in grids.items():
            with Server(workspace.root, args.port) as server:
                rows[str(size)] = reruns(server, grid, args.times)
                if args.browser:
                    rows[str(size)]["browser"] = browse(server, grid, args.chromium)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    for size, row in rows.items():
        print(f"{size} pictures")
        for name, told in row.items():
            print(f"  {name:<8}" + "  ".join(f"{k} {v:,.0f}" for k, v in told.items()))


if __name__ == "__main__":
    main()
