"""Where a project stands: the five steps, each done, working, needing the user, or not yet.

Only cheap facts are read (names of files, verdicts, exit records), so that every page can ask on every visit.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from studio import files
from studio.errors import StudioError
from studio.project import Project

StepName = Literal["dataset", "captions", "config", "run", "evaluation"]
StepState = Literal["done", "working", "needs you", "not yet"]
STEP_NAMES: tuple[StepName, ...] = ("dataset", "captions", "config", "run", "evaluation")
PICTURE_ENDINGS = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic", ".heif", ".avif")
)


@dataclass(frozen=True)
class Step:
    """One step of the path.

    done_words:    what is there already, such as "24 pictures"; empty when nothing is.
    missing_words: what is missing; empty when the step is done.
    next_words:    what to do, as the label of a button.
    """

    name: StepName
    title: str
    state: StepState
    done_words: str = ""
    missing_words: str = ""
    next_words: str = ""


def picture_files(project: Project) -> list[Path]:
    """The dataset's pictures by their endings, sorted by name. Says nothing about whether they can be opened."""
    try:
        found = [
            p
            for p in project.dataset_dir.iterdir()
            if p.suffix.lower() in PICTURE_ENDINGS and not p.name.startswith(".")
        ]
    except OSError:
        return []
    return sorted(found, key=lambda p: p.name)


def steps(project: Project) -> list[Step]:
    """The five steps in their order."""
    pictures = picture_files(project)
    found = [_dataset(project, pictures)]
    found.append(_captions(pictures))
    ready = all(s.state == "done" for s in found)
    found.append(_config(project, ready))
    ready = ready and found[-1].state == "done"
    found.append(_run(project, ready))
    found.append(_evaluation(project, found[-1].state == "done"))
    return found


def next_step(project: Project) -> Step:
    """The step to go on with: the first one that runs or needs the user, else the last."""
    all_steps = steps(project)
    return next((s for s in all_steps if s.state in ("working", "needs you")), all_steps[-1])


def count_words(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `24 pictures`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def _verdict(project: Project, gate: str) -> dict[str, Any]:
    try:
        found = files.read_json(project.gates_dir / f"{gate}.json")
    except StudioError:
        return {}
    return found if isinstance(found, dict) else {}


def _dataset(project: Project, pictures: list[Path]) -> Step:
    if not pictures:
        return Step("dataset", "Dataset", "needs you", "", "no pictures yet", "Add pictures")
    blocked = [
        f
        for f in _verdict(project, "dataset").get("findings", [])
        if isinstance(f, dict)
        and f.get("severity") == "block"
        and not str(f.get("code", "")).startswith("caption")
    ]
    there = count_words(len(pictures), "picture")
    if blocked:
        return Step(
            "dataset",
            "Dataset",
            "needs you",
            there,
            count_words(len(blocked), "finding") + " to mend",
            "Mend the findings",
        )
    return Step("dataset", "Dataset", "done", there)


def _captions(pictures: list[Path]) -> Step:
    if not pictures:
        return Step("captions", "Captions", "not yet", "", "pictures come first", "Write captions")
    empty = 0
    for p in pictures:
        try:
            empty += not p.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            empty += 1
    written = len(pictures) - empty
    if empty:
        return Step(
            "captions",
            "Captions",
            "needs you",
            f"{written} written" if written else "",
            f"{count_words(empty, 'picture')} without a caption",
            "Write the missing captions",
        )
    return Step("captions", "Captions", "done", f"{count_words(written, 'caption')} written")


def _config(project: Project, ready: bool) -> Step:
    if not (project.folder / "settings.yaml").exists():
        return Step(
            "config", "Config", "needs you" if ready else "not yet", "", "no preset chosen", "Choose a preset"
        )
    try:
        project.settings  # noqa: B018  (a file damaged by hand is something to mend)
    except StudioError:
        return Step("config", "Config", "needs you", "", "the settings cannot be read", "Mend the settings")
    return Step("config", "Config", "done", f"preset {project.preset}" if project.preset else "own settings")


def _finished(folder: Path) -> bool:
    try:
        found = files.read_json(folder / "exit.json")
    except StudioError:
        return False
    return isinstance(found, dict) and found.get("state") == "finished"


def _jobs(folder: Path) -> list[Path]:
    try:
        return sorted((p for p in folder.iterdir() if (p / "job.json").is_file()), reverse=True)
    except OSError:
        return []


def _alive(folder: Path) -> bool:
    from studio.jobs.job import Job

    return Job(folder).is_alive


def _run(project: Project, ready: bool) -> Step:
    runs = _jobs(project.runs_dir)
    if runs and not (runs[0] / "exit.json").exists() and _alive(runs[0]):
        return Step("run", "Run", "working", "training now", "", "Watch it learn")
    done = [r for r in runs if _finished(r)]
    if done:
        return Step("run", "Run", "done", f"{count_words(len(done), 'run')} finished")
    if runs:
        return Step("run", "Run", "needs you", "", "the last run did not finish", "See what happened")
    return Step(
        "run", "Run", "needs you" if ready else "not yet", "", "not trained yet", "Check the gates and train"
    )


def _evaluation(project: Project, ready: bool) -> Step:
    grids = _jobs(project.grids_dir)
    if grids and not (grids[0] / "exit.json").exists() and _alive(grids[0]):
        return Step("evaluation", "Evaluation", "working", "drawing the grid now", "", "Watch the grid")
    done = [g for g in grids if _finished(g)]
    registered = any(e.get("what") == "registered" for e in project.history())
    if registered:
        return Step("evaluation", "Evaluation", "done", "registered in the library")
    if done:
        return Step(
            "evaluation",
            "Evaluation",
            "needs you",
            f"{count_words(len(done), 'grid')} drawn",
            "not registered yet",
            "Choose the weight and register",
        )
    return Step(
        "evaluation",
        "Evaluation",
        "needs you" if ready else "not yet",
        "",
        "no grid yet",
        "Find the best weight",
    )
