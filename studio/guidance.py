"""Where a project stands: the five steps, each done, to check, working, needing the user, or not yet; and what comes next.

A step is done when its gate has passed on what is there now. To check: nothing to mend is known, and the gate has not looked
at it yet, or not since it was changed.

Every page asks on every visit, so only cheap facts are used: answers that are kept while nothing on disk changes, verdicts
and exit records. Nothing here looks at a picture for the first time or starts anything.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from studio import choices, gates
from studio.captions.store import Caption, CaptionStore
from studio.captions.tally import tally
from studio.dataset.audit import audit, beside
from studio.dataset.folder import Listing, look
from studio.dataset.origins import regularisation_pictures
from studio.dataset.scan import known_looks, scan, thumb_path
from studio.errors import StudioError
from studio.evaluation.grid import list_grids
from studio.findings import Finding, blocking
from studio.library.entry import LibraryEntry, list_library
from studio.models import BaseModelEntry, get_model
from studio.project import Intent, Project
from studio.settings import TrainingSettings
from studio.training.runs import Run, list_runs

StepName = Literal["dataset", "captions", "config", "run", "evaluation"]
StepState = Literal["done", "to check", "working", "needs you", "not yet"]
STEP_NAMES: tuple[StepName, ...] = ("dataset", "captions", "config", "run", "evaluation")


@dataclass(frozen=True)
class Step:
    """One step of the path.

    done_words:    what is there already, such as "24 pictures"; empty when nothing is.
    missing_words: what is missing, or what is still to happen; empty when the step is done.
    next_words:    what to do, as the label of a button; empty when there is nothing to do.
    """

    name: StepName
    title: str
    state: StepState
    done_words: str = ""
    missing_words: str = ""
    next_words: str = ""


def count_words(count: int, one: str, many: str = "") -> str:
    """`1 picture`, `24 pictures`."""
    return f"{count} {one if count == 1 else many or one + 's'}"


# ---------------------------------------------------------------- the dataset, cheaply


def picture_count(project: Project) -> int:
    """How many pictures the dataset holds, whether or not they open."""
    return len(look(project.dataset_dir).pictures)


def planned_settings(project: Project) -> TrainingSettings:
    """The settings of the next run; before any were chosen, those of the base model's standard preset."""
    if (project.folder / "settings.yaml").is_file():
        return project.settings
    try:
        return choices.reference(project)
    except StudioError:
        return project.settings


def unseen(project: Project) -> int:
    """How many pictures were never looked at, or have changed since. Costs a directory listing."""
    return _unseen(project, look(project.dataset_dir))


def _unseen(project: Project, listing: Listing) -> int:
    known, pictures = known_looks(project), listing.pictures
    have = _waiting.get(project.folder)
    if have is None or have[0] is not known or have[1] is not pictures:
        count = sum(name not in known or known[name][0] != stamp for name, stamp in pictures.items())
        if len(_waiting) > 16:
            _waiting.clear()
        have = _waiting[project.folder] = (known, pictures, count)
    return have[2]


# Both are the same objects while neither the index nor the pictures change.
_waiting: dict[Path, tuple[object, object, int]] = {}


@dataclass(frozen=True)
class _Answer:
    """What was found, and what it was found in."""

    listing: Listing
    captions: Mapping[str, Caption]
    intent: Intent
    entry: BaseModelEntry | None
    also: tuple[object, ...]
    found: list[Finding]


_answers: dict[Path, _Answer] = {}


def findings(project: Project) -> list[Finding]:
    """What the audit says of the dataset now, the most harmful first; kept while pictures, captions and intent stay.

    Looks at new pictures, so ask `unseen` first where that could take long.
    """
    listing = look(project.dataset_dir)
    return _findings(project, listing, CaptionStore(project).of(listing))


def _findings(project: Project, listing: Listing, captions: Mapping[str, Caption]) -> list[Finding]:
    intent, entry, also = project.intent, _entry(project), beside(project)
    have = _answers.get(project.folder)
    # The store hands out the same object while no caption, author or mark changes.
    if (
        have is not None
        and have.captions is captions
        and have.listing.pictures is listing.pictures
        and have.listing.captions is listing.captions
        and have.listing.subfolders == listing.subfolders
        and (have.intent, have.entry, have.also) == (intent, entry, also)
    ):
        return have.found
    found = audit(project, scan(project), entry)
    if len(_answers) > 16:
        _answers.clear()
    _answers[project.folder] = _Answer(listing, captions, intent, entry, also, found)
    return found


def _entry(project: Project) -> BaseModelEntry | None:
    try:
        return get_model(project.workspace, project.intent.base_model)
    except StudioError:
        return None


def about_captions(finding: Finding) -> bool:
    """Whether a finding is mended on the captions page rather than on the dataset page."""
    return finding.code != "caption-shared" and finding.code.startswith(("caption-", "trigger-", "term-"))


# ---------------------------------------------------------------- the steps


def steps(project: Project) -> list[Step]:
    """The five steps in their order."""
    listing = look(project.dataset_dir)
    captions_now = CaptionStore(project).of(listing)
    waiting = _unseen(project, listing)
    bad = blocking(_findings(project, listing, captions_now)) if listing.pictures and not waiting else []
    seen = (
        bool(listing.pictures) and not waiting
    )  # a gate asked about pictures that nobody read would read them
    gate_one = gates.state(project, "dataset") if seen else None
    if gate_one is not None and gate_one.state == "blocked" and gate_one.verdict is not None:
        known = {
            f.code for f in bad
        }  # the gate decodes every picture, and may have found more than the audit
        bad = [*bad, *(f for f in blocking(gate_one.verdict.findings) if f.code not in known)]
    dataset = _dataset(len(listing.pictures), waiting, [f for f in bad if not about_captions(f)])
    captions = _captions(
        captions_now, missing_captions(project, captions_now), [f for f in bad if about_captions(f)]
    )
    if gate_one is None or gate_one.state not in ("passed", "blocked"):
        dataset, captions = _to_check(dataset, "gate 1"), _to_check(captions, "gate 1")
    ready = {dataset.state, captions.state} <= _READY
    config = _config(project, ready, len(listing.pictures), seen)
    run = _run(project, ready and config.state in _READY)
    return [dataset, captions, config, run, _evaluation(project, run)]


# Nothing to do for the user there: what follows may be begun.
_READY = {"done", "to check"}


def _to_check(step: Step, gate: str) -> Step:
    """A step that would be done, before its gate has looked."""
    if step.state != "done":
        return step
    return dataclasses.replace(step, state="to check", missing_words=f"{gate} checks it before training")


def next_step(project: Project, known: Iterable[Step] | None = None) -> Step:
    """The step to go on with: the first that needs the user, else one that is working, else the last."""
    all_steps = list(known) if known is not None else steps(project)
    for state in ("needs you", "working"):
        for step in all_steps:
            if step.state == state:
                return step
    return all_steps[-1]


def _dataset(there: int, waiting: int, bad: list[Finding]) -> Step:
    if not there:
        return Step("dataset", "Dataset", "needs you", "", "no pictures yet", "Add pictures")
    words = count_words(there, "picture")
    if waiting:
        return Step(
            "dataset",
            "Dataset",
            "needs you",
            words,
            f"{count_words(waiting, 'picture')} not checked yet",
            "Check the pictures",
        )
    if bad:
        return Step(
            "dataset",
            "Dataset",
            "needs you",
            words,
            f"{count_words(len(bad), 'finding')} to mend",
            "Mend the findings",
        )
    return Step("dataset", "Dataset", "done", words)


def missing_captions(project: Project, captions: Mapping[str, Caption]) -> int:
    """How many pictures lack the caption that training needs; those for regularisation may go without."""
    with tally(captions, project.intent.trigger) as told:
        empty = told.status["empty"]
    if not empty:
        return 0
    extra = regularisation_pictures(project)
    return empty - sum(n in captions and captions[n].status == "empty" for n in extra)


def _captions(captions: Mapping[str, Caption], empty: int, bad: list[Finding]) -> Step:
    if not captions:
        return Step("captions", "Captions", "not yet", "", "pictures come first")
    written = (
        f"{len(captions) - empty} of {len(captions)} written"
        if empty
        else count_words(len(captions), "caption")
    )
    if empty:
        return Step(
            "captions", "Captions", "needs you", written, f"{empty} missing", "Write the missing captions"
        )
    if bad:
        return Step(
            "captions",
            "Captions",
            "needs you",
            written,
            f"{count_words(len(bad), 'finding')} to mend",
            "Mend the captions",
        )
    return Step("captions", "Captions", "done", written)


def _config(project: Project, ready: bool, pictures: int, seen: bool) -> Step:
    if not pictures:  # a look at the page stores the standard preset, which is no choice yet
        return Step("config", "Config", "not yet", "", "pictures come first")
    if not (project.folder / "settings.yaml").is_file():
        return Step(
            "config", "Config", "needs you" if ready else "not yet", "", "no preset chosen", "Choose a preset"
        )
    try:
        project.settings  # noqa: B018  a file damaged by hand shows itself by being read
        said = gates.verdict(project, "config")
    except StudioError:
        return Step("config", "Config", "needs you", "", "the settings cannot be read", "Mend the settings")
    now = gates.state(project, "config").state if said is not None and seen else "missing"
    if now == "blocked":
        return Step("config", "Config", "needs you", "", "gate 2 is blocked", "Mend the settings")
    step = Step(
        "config", "Config", "done", f"preset {project.preset}" if project.preset else "your own settings"
    )
    return step if now == "passed" else _to_check(step, "gate 2")


def _run(project: Project, ready: bool) -> Step:
    runs = list_runs(project)
    trained = [r for r in runs if r.job.state == "finished"]
    words = f"{count_words(len(trained), 'run')} finished" if trained else ""
    live = next((r for r in runs if r.job.is_alive), None)
    if live is not None:
        return Step(
            "run", "Run", "working", words or "training now", live.job.progress.left, "Watch it learn"
        )
    if trained:
        return Step("run", "Run", "done", words)
    if runs:
        return Step("run", "Run", "needs you", "", f"the last run was {_ended(runs[0])}", "See what happened")
    return Step(
        "run", "Run", "needs you" if ready else "not yet", "", "not trained yet", "Check the gates and train"
    )


def _ended(run: Run) -> str:
    return {"failed": "not able to finish", "stopped": "stopped"}.get(run.job.state, "interrupted")


def _evaluation(project: Project, run: Step) -> Step:
    grids = list_grids(project)
    live = next((g for g in grids if g.job.is_alive), None)
    if live is not None:
        return Step(
            "evaluation",
            "Evaluation",
            "working",
            "drawing the grid now",
            live.job.progress.left,
            "Watch the grid",
        )
    entries = registered(project)
    if entries:
        return Step("evaluation", "Evaluation", "done", f"in the library, weight {entries[-1].weight:g}")
    drawn = sum(g.job.state == "finished" for g in grids)
    if drawn:
        return Step(
            "evaluation",
            "Evaluation",
            "needs you",
            f"{count_words(drawn, 'grid')} drawn",
            "not in the library yet",
            "Choose the weight and register",
        )
    trained = run.state == "done" or (run.state == "working" and "finished" in run.done_words)
    return Step(
        "evaluation",
        "Evaluation",
        "needs you" if trained else "not yet",
        "",
        "no grid yet",
        "Find the best weight",
    )


def registered(project: Project) -> list[LibraryEntry]:
    """The LoRAs of the library that came from this project, oldest first."""
    return sorted(
        (e for e in list_library(project.workspace) if e.project == project.slug), key=lambda e: e.registered
    )


# ---------------------------------------------------------------- for the home page


def best_picture(project: Project) -> Path | None:
    """What a project looks like: the preview of its LoRA, else the newest sample of its newest run, else its first picture."""
    for entry in reversed(registered(project)):
        preview = entry.preview(project.workspace)
        if preview is not None:
            return preview
    for run in list_runs(project):
        samples = run.samples()
        if samples:
            return samples[-1].path
    known = known_looks(project)
    for name in look(project.dataset_dir).pictures:
        small = thumb_path(project.cache_dir, known[name][1].sha256) if name in known else None
        if small is not None and small.is_file():
            return small
    return None


def last_words(project: Project) -> str:
    """The last decision of a project in words, such as "preset chosen"; empty when there is none."""
    history = project.history()
    return str(history[-1].get("what", "")) if history else ""
