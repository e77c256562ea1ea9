"""What a rerun of a page costs with 100 and with 10,000 pictures.

    python -m benchmarks.pages [--page captions] [--sizes 100,10000] [--times 15] [--rounds 2] [--workspace FOLDER]

Both projects lie in one workspace and are served by one process; the reruns of both take turns, so that a busy computer
slows both alike. Of each action: processor time of the server (median and least), wall time until the page was whole, bytes
to and from the browser, and the ratio of the medians to that of the smallest size. Pictures are small patterns made here,
captions are tags drawn from 2,500 made-up words with the frequencies of real tags (Zipf). A workspace that is named is kept and
used again.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.visitor import Cost, Server, Visitor
from studio.captions.store import CaptionStore
from studio.dataset.folder import look
from studio.dataset.origins import Origin, add, all_origins
from studio.dataset.set_aside import remove_pictures, set_aside_list
from studio.dataset.tasks import start_scan
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace

Action = Callable[[Visitor, Project, int], None]
"""Sets what the n-th rerun of a row is about; called before it, not measured."""

_count = itertools.count(1)
_TABLE = {"box": "bench", "changes": [], "marked": []}


def plain(_visitor: Visitor, _project: Project, _n: int) -> None:
    """Nothing changed."""


def edit(visitor: Visitor, project: Project, n: int) -> None:
    """One caption is typed in the table, with a word that no caption has."""
    name = f"{n % 50:05}.jpg"
    now, seq = CaptionStore(project).get(name).text, next(_count)
    change = {
        "seq": seq,
        "name": name,
        "field": "caption",
        "value": f"{now}, word{seq}x",
        "seen": now,
        "first": now,
    }
    visitor.put(f"caption_table_{project.slug}", json_value={**_TABLE, "changes": [change]})


def approve(visitor: Visitor, project: Project, n: int) -> None:
    """One box "approved" is clicked in the table."""
    change = {"seq": next(_count), "name": f"{n % 50:05}.jpg", "field": "approved", "value": n % 2 == 0, "seen": False,
              "first": False}  # fmt: skip
    visitor.put(f"caption_table_{project.slug}", json_value={**_TABLE, "changes": [change]})


def elsewhere(_visitor: Visitor, project: Project, n: int) -> None:
    """Another process wrote a caption."""
    path = project.dataset_dir / f"{n % 50 + 50:05}.txt"
    path.write_text(f"{path.read_text(encoding='utf-8')}, other{n}", encoding="utf-8")


def search(visitor: Visitor, _project: Project, n: int) -> None:
    """A word is typed into the field above the table."""
    visitor.put("caption_query", string_value=vocabulary()[3 + n % 4])


def tag(visitor: Visitor, _project: Project, n: int) -> None:
    """A tag is clicked."""
    visitor.put("caption_query", string_value="")
    visitor.put("tags", string_array_value=[_tags(visitor)[n % 8]] if n % 2 else [])


def turn(visitor: Visitor, _project: Project, n: int) -> None:
    """The page of the table is turned."""
    if "captions_page" in visitor.ids:
        visitor.put("captions_page", int_value=1 + n % 90)


def mark(visitor: Visitor, project: Project, n: int) -> None:
    """A hundred rows are marked, or let go."""
    marked = [f"{i:05}.jpg" for i in range(100)] if n % 2 else []
    visitor.put(f"caption_table_{project.slug}", json_value={**_TABLE, "marked": marked})


def tab(name: str) -> Action:
    """A tab of the dataset page is open, and nothing changed."""

    def opened(visitor: Visitor, _project: Project, _n: int) -> None:
        visitor.put("dataset_view", string_value=name)

    return opened


def _tags(visitor: Visitor) -> list[str]:
    return visitor.options["tags"]


PAGES: dict[str, dict[str, Action]] = {
    "captions": {"plain": plain, "edit": edit, "approve": approve, "search": search, "tag": tag, "page turn": turn,
                 "mark 100": mark, "another program": elsewhere},
    "dataset": {"plain": plain, "duplicates": tab("Duplicates"), "variety": tab("Variety"), "buckets": tab("Buckets"),
                "set aside": tab("Set aside"), "report": tab("Report")},
    "home": {"plain": plain}, "config": {"plain": plain}, "run": {"plain": plain}, "evaluation": {"plain": plain},
}  # fmt: skip
"""What is done on each page. To add an action, add a function above and name it here."""


def vocabulary(size: int = 2500) -> list[str]:
    """Tags of one or two made-up words, the same each time."""
    chance, found = random.Random(7), dict[str, None]()
    parts = [
        c + v
        for c in ("b", "d", "f", "g", "k", "l", "m", "n", "p", "r", "s", "t", "st", "tr")
        for v in "aeiou"
    ]
    while len(found) < size:
        words = ("".join(chance.choices(parts, k=chance.randint(2, 4))) for _ in range(chance.randint(1, 2)))
        found[" ".join(words)] = None
    return list(found)


def make(workspace: Workspace, size: int) -> Project:
    """A project of so many pictures and captions, looked at; the one that is there already when it is."""
    name = f"bench {size}"
    slug = name.replace(" ", "-")
    if slug in workspace.project_slugs():
        start_scan(Project(workspace, slug)).wait(600)  # an index of another version is made anew
        return _imported(_some_aside(Project(workspace, slug), size))
    project = create_project(
        workspace, Intent(kind="style", name=name, trigger="bluprnt", description="Plans")
    )
    chance, noise = random.Random(size), np.random.default_rng(size)
    words = vocabulary()
    weights = [1 / (k + 3) for k in range(len(words))]
    for n in range(size):
        small = noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC).save(
            project.dataset_dir / f"{n:05}.jpg"
        )
        chosen = dict.fromkeys(chance.choices(words, weights, k=12))
        (project.dataset_dir / f"{n:05}.txt").write_text(", ".join(["bluprnt", *chosen]), encoding="utf-8")
    start_scan(project).wait(600)  # as the page has it done: with the search for copies
    CaptionStore(project).approve(f"{n:05}.jpg" for n in range(0, size, 2))
    return _imported(_some_aside(project, size))


def _some_aside(project: Project, size: int) -> Project:
    """Every twentieth picture more was set aside, and a dozen at least, which is what one page of them shows."""
    if not set_aside_list(project):
        noise = np.random.default_rng(size + 1)
        names = [f"aside {n:04}.jpg" for n in range(max(12, size // 20))]
        for name in names:
            small = noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(small).resize((96, 96), Image.Resampling.BICUBIC).save(project.dataset_dir / name)
        remove_pictures(project, names, "one of many")
        start_scan(project).wait(600)  # as the page has it done: with the search for copies
    return project


def _imported(project: Project) -> Project:
    """The pictures are remembered as having come in, as an import does."""
    names = look(project.dataset_dir).pictures
    add(
        project,
        {
            n: Origin(f"pictures/{n}", "2026-01-01T00:00:00Z")
            for n in sorted(names.keys() - all_origins(project).keys())
        },
    )
    return project


def measure(
    server: Server, project: Project, page: str, times: int, wanted: list[str]
) -> dict[str, list[Cost]]:
    """The costs of each action, `times` reruns each, after one that does not count."""
    found: dict[str, list[Cost]] = {}
    visitor = Visitor(server, page, project.slug)
    try:
        for _ in range(3):
            visitor.rerun()
        for name, action in PAGES[page].items():
            if wanted and name not in wanted:
                continue
            for n in range(times + 1):
                action(visitor, project, n)
                cost = visitor.rerun()
                if n:
                    found.setdefault(name, []).append(cost)
    finally:
        visitor.close()
    return found


def main() -> None:
    """Read the command line, measure, print."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.pages", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--page", choices=list(PAGES), default="captions")
    parser.add_argument("--sizes", default="100,10000")
    parser.add_argument("--times", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", default="", help="actions, separated by commas")
    parser.add_argument("--workspace", type=Path)
    parser.add_argument("--port", type=int, default=8699)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    sizes = [int(s) for s in args.sizes.split(",")]
    with tempfile.TemporaryDirectory() as scratch:
        workspace = Workspace(args.workspace or Path(scratch))
        workspace.root.mkdir(parents=True, exist_ok=True)
        projects = {s: make(workspace, s) for s in sizes}
        costs: dict[int, dict[str, list[Cost]]] = {s: {} for s in sizes}
        with Server(workspace.root, args.port) as server:
            for _ in range(args.rounds):
                for size in sizes:
                    wanted = [w for w in args.only.split(",") if w]
                    for name, found in measure(server, projects[size], args.page, args.times, wanted).items():
                        costs[size].setdefault(name, []).extend(found)
    rows = _rows(costs, sizes)
    if args.json:
        print(json.dumps(rows, indent=2))
        return
    print(f"{args.page}: {args.rounds} x {args.times} reruns each, processor time of the server in ms")
    print(
        f"{'action':<18}{'pictures':>9}{'median':>9}{'least':>8}{'mean':>8}{'ratio':>7}{'of least':>9}{'wall':>8}{'kB down':>9}{'up':>7}"
    )
    for r in rows:
        print(f"{r['action']:<18}{r['pictures']:>9}{r['cpu_ms']:>9.1f}{r['cpu_least_ms']:>8.1f}{r['cpu_mean_ms']:>8.1f}"
              f"{r['ratio']:>7.2f}{r['ratio_least']:>9.2f}{r['wall_ms']:>8.0f}{r['down_kb']:>9.1f}{r['up_kb']:>7.1f}")  # fmt: skip


def _rows(costs: dict[int, dict[str, list[Cost]]], sizes: list[int]) -> list[dict[str, Any]]:
    rows = []
    for name in costs[sizes[0]]:
        base: tuple[float, float] | None = None
        for size in sizes:
            found = costs[size][name]
            cpu = [c.cpu * 1000 for c in found]
            middle, least = statistics.median(cpu), min(cpu)
            base = base or (middle, least)
            rows.append({
                "action": name, "pictures": size, "cpu_ms": middle, "cpu_least_ms": least, "cpu_mean_ms": statistics.mean(cpu),
                "ratio": middle / base[0], "ratio_least": least / base[1],
                "wall_ms": statistics.median(c.wall for c in found) * 1000,
                "down_kb": max(c.down for c in found) / 1000, "up_kb": max(c.up for c in found) / 1000,
            })  # fmt: skip
    return rows


if __name__ == "__main__":
    main()
