"""A grid without a server at hand: its workflows to carry away, and the pictures to bring back.

FOLDER/
  READ ME.txt            what to do, in order
  loras/                 the LoRA files under the names that the workflows use
  editor/*.json          to drag into ComfyUI's window: one press of Run draws a whole column of the grid
  api/*.json             the same for scripts: the body's `prompt` for POST /prompt
  send.py                sends all of api/ to a server, with nothing but Python
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from studio import files
from studio.errors import InputError, NotFoundError
from studio.evaluation.comfyui import editor, graphs
from studio.evaluation.comfyui.placing import put, unique_name
from studio.evaluation.grid import Grid
from studio.evaluation.spec import Cell, GridSpec, plan_cells
from studio.evaluation.store import CellStore, cell_note
from studio.project import Project
from studio.workspace import shipped

_CELL = re.compile(r"(?<![0-9a-f])([0-9a-f]{16})(?![0-9a-f])")
_PICTURES = frozenset({".png", ".webp", ".jpg", ".jpeg"})
_USUAL = {"flux": "flux1-dev-fp8.safetensors", "sd35": "sd3.5_large_fp8_scaled.safetensors"}
"""What ComfyUI's own templates call these base models."""
MOST_FILES = 20_000
"""Files looked at in a folder that is brought back."""


@dataclass
class Saved:
    """What was saved: the folder, its workflows, cells in them, and cells that are drawn already and left out."""

    folder: Path
    workflows: list[Path] = field(default_factory=list)
    cells: int = 0
    there: int = 0


@dataclass
class Brought:
    """What came of a folder of pictures.

    matched: cells that have their picture now. missing: cells without one. refused: file name -> why.
    """

    matched: int = 0
    missing: int = 0
    refused: dict[str, str] = field(default_factory=dict)


def free_folder(project: Project) -> Path:
    """A path in the workspace's folder `exports` that nothing has yet, such as `exports/mira-grid`."""
    folder, n = project.workspace.root / "exports", 1
    while (path := folder / f"{project.slug}-grid{f'-{n}' if n > 1 else ''}").exists() or path.is_symlink():
        n += 1
    return path


def save_workflows(project: Project, spec: GridSpec, folder: Path) -> Saved:
    """Write the workflows of all cells that are not drawn yet, and keep the grid, so that pictures can come back to it.

    Raises InputError when the folder holds other things, nothing is left to draw, or the family is not one that ComfyUI draws.
    """
    if spec.family not in graphs.FAMILIES:
        raise InputError(
            f"ComfyUI cannot draw '{spec.family}' models.",
            "It knows SD1.5, SDXL, SD3.5 and FLUX models.",
            "Draw the grid with the built-in renderer.",
        )
    folder = folder.expanduser().resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"{folder} is not an empty folder.",
            "Workflows of two grids would be mixed up, or a file of yours replaced.",
            "Name a folder that does not exist yet.",
        )
    own = spec.base_path.name if spec.base_path.suffix in (".safetensors", ".ckpt") else ""
    parts = spec.drawn_with or {
        graphs.CHECKPOINT: own or _USUAL.get(spec.family, f"{spec.base_model}.safetensors")
    }
    known = CellStore(project).known()
    cells = {c.hash: c for c in plan_cells(spec)}
    todo = [c for h, c in cells.items() if h not in known]
    if not todo:
        raise InputError(
            "All pictures of this grid are there already.",
            "Workflows are saved for those that are not drawn yet.",
            "Put the grid together here: that takes seconds and needs no server.",
        )
    saved = Saved(folder, cells=len(todo), there=len(cells) - len(todo))
    loras = {lora.label: lora for lora in spec.lora_files}
    for number, column in enumerate(_columns(todo), 1):
        lora = loras[column[0].checkpoint]
        name = f"{graphs.PREFIX}/{unique_name(lora)}"
        made = graphs.build(spec, column, parts, name, save=lambda c: f"{graphs.PREFIX}/{spec.id}/{c.hash}")
        weight = column[0].weight
        words = f"{number:02} {lora.label} at {weight:g}" if weight else f"{number:02} base model"
        stem = re.sub(r"[^A-Za-z0-9 ._-]+", "", words).strip()
        for kind, content in (("api", made.graph), ("editor", editor.workflow(made.graph))):
            path = folder / kind / f"{stem}.json"
            files.write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
            saved.workflows.append(path)
    for lora in spec.lora_files:
        if any(c.checkpoint == lora.label and c.weight for c in todo):
            put(lora.path, folder / "loras" / graphs.PREFIX / unique_name(lora))
    files.write_bytes(folder / "send.py", shipped("data", "comfyui", "send.py").read_bytes())
    files.write_text(folder / "READ ME.txt", _read_me(spec, parts, saved))
    kept = project.grids_dir / spec.id / "grid.json"
    if not kept.exists():
        files.write_text(kept, spec.model_dump_json(indent=2) + "\n")
        project.decided("grid's workflows saved", grid=spec.id, run=spec.run, folder=str(folder))
    return saved


def _columns(cells: Iterable[Cell]) -> list[list[Cell]]:
    """Cells by LoRA and weight, the base first."""
    found: dict[tuple[str, float], list[Cell]] = {}
    for cell in cells:
        found.setdefault((cell.checkpoint if cell.weight else "", cell.weight), []).append(cell)
    return [found[k] for k in sorted(found, key=lambda k: (k[1] != 0,))]


def _read_me(spec: GridSpec, parts: dict[str, str], saved: Saved) -> str:
    needs = "\n".join(
        f"   - {name}  in ComfyUI's folder models/{graphs.FOLDERS.get(part, part)}"
        for part, name in parts.items()
    )
    return f"""Grid {spec.id}: {saved.cells} pictures to draw with ComfyUI

1. ComfyUI needs the base model under this name (or choose yours in the workflow's first node):
{needs}
2. Copy what is in the folder loras into ComfyUI's folder models/loras, the folder {graphs.PREFIX} included.
3. Draw, one way or the other:
   - Drag each file of the folder editor into ComfyUI's window and press Run.
   - Or, next to a running ComfyUI: python send.py http://127.0.0.1:8188
4. Bring the pictures back. They are in ComfyUI's folder output/{graphs.PREFIX}/{spec.id}:
   lora-studio grid bring-back FOLDER --grid {spec.id}
   Keep the names of the pictures: they say which cell of the grid each of them is.
"""


def bring_back(grid: Grid, folder: Path) -> Brought:
    """Take pictures of a folder (and the folders in it) into the grid: by the cell's hash in their names, else by the
    workflow that ComfyUI writes into them. Nothing in the folder is changed. Cells that have a picture keep it.

    Raises NotFoundError when there is no such folder or no picture in it.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        raise NotFoundError(
            f"There is no folder at {folder}.",
            "The pictures are looked for in it.",
            f"Name ComfyUI's output folder, or {graphs.PREFIX}/{grid.id} in it.",
        )
    spec = grid.spec
    store = CellStore(grid.project)
    wanted = {c.hash: c for c in grid.cells() if c.path is None}
    ours = {c.hash for c in plan_cells(spec)}
    found = Brought()
    pictures = _pictures(folder)
    if not pictures:
        raise NotFoundError(
            f"There is no picture in {folder}.",
            "PNG, WebP and JPEG files are looked for, in the folders inside as well.",
            "Name the folder that ComfyUI saved into.",
        )
    for path in pictures:
        name = str(path.relative_to(folder))
        try:
            cell_hash = _cell_of(path, ours)
            if cell_hash not in wanted:
                if cell_hash is None:
                    found.refused[name] = "its name and its workflow say nothing of a cell of this grid"
                continue
            picture = _opened(path, (spec.width, spec.height))
        except InputError as e:
            found.refused[name] = e.what
            continue
        cell = wanted.pop(cell_hash)
        store.put(cell_hash, picture, {**cell_note(spec, cell), "renderer": "ComfyUI, brought back"})
        found.matched += 1
    found.missing = len(wanted)
    if found.matched:
        left = {h: why for h, why in grid.failures.items() if h in wanted}
        files.write_json(grid.folder / "failures.json", left)
        grid.project.decided("pictures brought back", grid=grid.id, matched=found.matched, folder=str(folder))
    return found


def _pictures(folder: Path) -> list[Path]:
    """Newest first, so that of two pictures of a cell the later one counts."""
    found: list[tuple[float, Path]] = []
    for path in folder.rglob("*"):
        if path.suffix.lower() in _PICTURES and path.is_file() and not path.is_symlink():
            found.append((path.stat().st_mtime, path))
            if len(found) > MOST_FILES:
                raise InputError(
                    f"{folder} holds more than {MOST_FILES:,} pictures.",
                    "It can hardly be the folder of one grid.",
                    "Name the grid's own folder.",
                )
    return [p for _, p in sorted(found, key=lambda f: (-f[0], str(f[1])))]


def _cell_of(path: Path, ours: set[str]) -> str | None:
    for told in _CELL.findall(path.stem.lower()):
        if told in ours:
            return str(told)
    named = _saved_as(path) & ours
    return next(iter(named)) if len(named) == 1 else None


def _saved_as(path: Path) -> set[str]:
    """Hashes in the file names that the picture's own workflow saves to; several when it drew a whole column."""
    try:
        with Image.open(path) as picture:
            graph: Any = json.loads(str(picture.info.get("prompt") or "{}"))
    except (OSError, ValueError, SyntaxError):
        return set()
    found: set[str] = set()
    for node in graph.values() if isinstance(graph, dict) else ():
        inputs = node.get("inputs") if isinstance(node, dict) else None
        if isinstance(inputs, dict):
            found |= set(_CELL.findall(str(inputs.get("filename_prefix", ""))))
    return found


def _opened(path: Path, size: tuple[int, int]) -> Image.Image:
    try:
        with Image.open(path) as raw:
            if raw.size != size:
                raise InputError(f"it has {raw.size[0]} x {raw.size[1]} pixels, not {size[0]} x {size[1]}")
            raw.load()
            return raw.convert("RGB")
    except (OSError, ValueError, SyntaxError) as e:
        raise InputError(f"it cannot be read: {e}") from e


def columns_of(saved: Sequence[Path]) -> int:
    """How many workflows there are to run by hand."""
    return sum(p.parent.name == "editor" for p in saved)
