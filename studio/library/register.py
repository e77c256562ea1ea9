"""Registering a LoRA: a copy in the library with its metadata, preview and sidecar, and taking it out again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from studio import files, models
from studio.errors import InputError, NotFoundError
from studio.evaluation.grid import Grid
from studio.evaluation.plan import RunLike, choose_checkpoints
from studio.evaluation.report import record
from studio.evaluation.spec import Cell
from studio.library.entry import LibraryEntry, get_entry, list_library
from studio.library.folder import OnClash, free_slug, place
from studio.library.page import write_page
from studio.library.weight import checked
from studio.lora import privacy
from studio.lora.file import metadata_of
from studio.project import Project
from studio.training.base import steps_trained
from studio.training.record import write_status
from studio.workspace import Workspace

__all__ = [
    "LibraryEntry",
    "OnClash",
    "get_entry",
    "list_library",
    "propose_good_for",
    "register",
    "restore",
    "unregister",
]


def register(
    project: Project,
    grid: Grid | None = None,
    run: RunLike | None = None,
    checkpoint: Path | str | int | None = None,
    weight: float | None = None,
    good_for: str = "",
    notes: str = "",
    *,
    name: str = "",
    on_clash: OnClash = "ask",
    leave_out: Iterable[str] | None = None,
) -> LibraryEntry:
    """Put a LoRA into the library.

    checkpoint: a file, or a label or epoch of the grid or run; when None, the one that the grid's verdict names, else
                the last of the run. weight: -1 to 2, not 0; when None, the verdict's.
    name:       title in the library; the project's name when empty.
    on_clash:   when the name is taken: `ask` refuses and says so, `version` adds -v2, `replace` moves the old
                one to the trash.
    leave_out:  what the file's metadata shall not tell (`studio.lora.privacy.GROUPS`); as last chosen when None.
    Raises InputError when weight or checkpoint are not known or not usable, NotFoundError for a checkpoint that does
    not exist.
    """
    workspace, intent = project.workspace, project.intent
    verdict = grid.verdict if grid is not None else None
    path, label = _choose_file(grid, run, checkpoint, verdict.checkpoint if verdict else None)
    if weight is None:
        weight = verdict.weight if verdict else None
    if weight is None:
        raise InputError(
            "There is no recommended weight yet.",
            "No grid was measured for this LoRA, or its verdict does not know.",
            "Name the weight to recommend, such as 0.7.",
        )
    weight = checked(weight)
    title = " ".join((name or intent.name).split())[:80]
    slug = free_slug(workspace, files.slug(title), on_clash)
    stem = slug
    entry_model = models.get_model(workspace, grid.spec.base_model if grid is not None else intent.base_model)
    told = metadata_of(path)
    in_range = bool(
        verdict
        and verdict.low is not None
        and verdict.high is not None
        and verdict.low <= weight <= verdict.high
    )
    entry = LibraryEntry(
        slug=slug,
        name=stem,
        title=title if slug == files.slug(title) else f"{title} {slug.rpartition('-')[2]}",
        kind=intent.kind,
        trigger=intent.trigger,
        weight=weight,
        weight_low=verdict.low if verdict and in_range else None,
        weight_high=verdict.high if verdict and in_range else None,
        base_model=entry_model.id,
        base_title=entry_model.title,
        family=entry_model.family,
        good_for=" ".join(good_for.split()),
        notes=notes.strip(),
        trained=_trained(told, path),
        registered=files.now(),
        params=_params(told, project, run),
        project=project.slug,
        run=run.id if run is not None else (grid.spec.run if grid is not None else None),
        grid=grid.id if grid is not None else None,
        checkpoint=label,
        verdict=verdict.headline if verdict else "",
    )
    groups = privacy.remembered(workspace) if leave_out is None else leave_out
    entry = place(workspace, entry, path, groups, _preview(grid, entry), on_clash=on_clash)
    write_page(workspace)
    if grid is not None:
        record(grid)  # with the ratings as they were when it was approved
    project.decided(
        "registered", library=slug, checkpoint=label, weight=entry.weight, grid=entry.grid, run=entry.run
    )
    write_status(
        project, f"COMPLETE ({slug})", "Use the LoRA: its weight and its trigger word stand in the library."
    )
    return entry


def unregister(workspace: Workspace, slug: str) -> Path:
    """Take a LoRA out of the library; its folder goes to the trash, from where `restore` brings it back.

    Returns its place in the trash. Raises NotFoundError.
    """
    entry = get_entry(workspace, slug)
    trashed = workspace.to_trash(entry.folder(workspace))
    write_page(workspace)
    return trashed


def restore(workspace: Workspace, trashed: Path) -> LibraryEntry:
    """Undo `unregister`. Raises InputError when its name was taken meanwhile, NotFoundError when it left the trash."""
    if not (trashed / "entry.json").is_file():
        raise NotFoundError(
            "This LoRA is not in the trash any more.",
            "The trash was emptied, or it was brought back already.",
            "Register it again from its run.",
        )
    if (workspace.library_dir / trashed.name).exists():
        raise InputError(
            f"'{trashed.name}' cannot be put back.",
            "Another LoRA in the library has that name now.",
            "Take that one out of the library first; it can be put back later as well.",
        )
    folder = workspace.put_back(trashed)
    write_page(workspace)
    return get_entry(workspace, folder.name)


def propose_good_for(project: Project, grid: Grid | None) -> str:
    """A first text for "good for", from the intent and the verdict; the user changes it."""
    intent = project.intent
    text = (
        intent.description.strip().rstrip(".")
        or {
            "style": f"pictures in the style of {intent.name}",
            "character": f"scenes with {intent.name}",
            "object": f"pictures of {intent.name}",
        }[intent.kind]
    )
    verdict = grid.verdict if grid is not None else None
    if verdict and verdict.low is not None and verdict.high is not None and verdict.low < verdict.high:
        text += f"; best between {verdict.low:g} and {verdict.high:g}"
    return text


def _choose_file(
    grid: Grid | None, run: RunLike | None, checkpoint: Path | str | int | None, advised: str | None
) -> tuple[Path, str]:
    """The LoRA file and its label."""
    known = {lora.label: lora for lora in grid.spec.lora_files} if grid is not None else {}
    if isinstance(checkpoint, Path):
        path, label = checkpoint.expanduser(), checkpoint.stem
        label = next((lora.label for lora in known.values() if lora.path == path.resolve()), label)
    elif checkpoint is None and advised is not None and advised in known:
        path, label = known[advised].path, advised
    elif checkpoint is None and known and run is None:
        path, label = list(known.values())[-1].path, list(known)[-1]
    elif checkpoint is not None and str(checkpoint) in known:
        path, label = known[str(checkpoint)].path, str(checkpoint)
    elif run is not None:
        lora = choose_checkpoints(run.checkpoints(), "final" if checkpoint is None else [checkpoint])[0]
        path, label = lora.path, lora.label
    elif checkpoint is not None and Path(str(checkpoint)).expanduser().is_file():
        path, label = Path(str(checkpoint)).expanduser(), Path(str(checkpoint)).stem
    elif known:
        raise NotFoundError(
            f"There is no checkpoint '{checkpoint}' on this grid.",
            "Only those on the grid were looked at.",
            f"Use one of: {', '.join(known)}.",
        )
    else:
        raise InputError(
            "There is nothing to register.",
            "Neither a run, nor a grid, nor a LoRA file was named.",
            "Choose a run's checkpoint or a .safetensors file.",
        )
    if not path.is_file():
        raise NotFoundError(
            f"The file of {label} is not there any more.",
            f"Nothing lies at {path}; older checkpoints are removed to save room.",
            "Choose another checkpoint.",
        )
    return path, label


def _preview(grid: Grid | None, entry: LibraryEntry) -> Callable[[Path], None] | None:
    cell = _preview_cell(grid, entry) if grid is not None else None
    picture = cell.path if cell is not None else None
    return None if picture is None else lambda target: files.copy_atomic(picture, target)


def _preview_cell(grid: Grid, entry: LibraryEntry) -> Cell | None:
    """The cell to show: a standard prompt of the checkpoint at the drawn weight nearest to the recommended one; the best
    rated among them, if any was rated."""
    cells = [
        c for c in grid.cells() if c.path is not None and c.weight > 0 and c.checkpoint == entry.checkpoint
    ]
    shown = [c for c in cells if c.prompt.family in ("standard", "scene", "own")] or cells
    if not shown:
        return None
    closest = min(abs(c.weight - entry.weight) for c in shown)
    column = [c for c in shown if abs(c.weight - entry.weight) == closest]
    given = grid.review.all()
    return max(column, key=lambda c: (given[c.hash].rating or 0) if c.hash in given else 0)


def _params(told: dict[str, str], project: Project, run: RunLike | None) -> dict[str, Any]:
    """How it was trained, from the file's own metadata; the preset from the run, else from the project."""
    manifest = getattr(run, "manifest", None)
    preset = manifest.get("preset") if isinstance(manifest, dict) else None
    params: dict[str, Any] = {"preset": preset or project.preset}
    for key, name in (
        ("epochs", "ss_num_epochs"),
        ("steps", "ss_steps"),
        ("rank", "ss_network_dim"),
        ("alpha", "ss_network_alpha"),
        ("learning_rate", "ss_learning_rate"),
        ("optimizer", "ss_optimizer"),
        ("pictures", "ss_num_train_images"),
        ("seed", "ss_seed"),
    ):
        value = told.get(name)
        if value not in (None, "", "None"):
            params[key] = _number(str(value))
    if "steps" in params:  # a resumed run of sd-scripts tells only those since it was resumed
        params["steps"] = steps_trained(told) or params["steps"]
    return {k: v for k, v in params.items() if v not in (None, "")}


def _number(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() and abs(number) < 1e15 else number


def _trained(told: dict[str, str], path: Path) -> str:
    """When training ended: the file's own word (seconds since 1970), else when the file was last written."""
    try:
        stamp = float(told["ss_training_finished_at"])
    except (KeyError, ValueError):
        stamp = path.stat().st_mtime
    return datetime.fromtimestamp(stamp, UTC).isoformat(timespec="seconds")
