"""What the studio can notice about a grid and its run: signal -> the sentence that says what was seen.

Observations come from the person's ratings and tags, the measurements and the verdict; the rest says what makes a cause likely:
loss curve, dataset and settings. Thresholds are those of `studio.evaluation.curve`, and practice where no source gives one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from studio import files
from studio.compare import metrics_of
from studio.dataset.audit import audit
from studio.dataset.scan import scan
from studio.errors import StudioError
from studio.evaluation.curve import BARELY, CLEARLY, FAULTY, LEAKY, SOFT
from studio.evaluation.grid import Grid
from studio.evaluation.review import FAULTS
from studio.files import human_size
from studio.lora.check import check_lora
from studio.models import get_model
from studio.project import Project
from studio.settings import TrainingSettings
from studio.training.base import PLAN_FILE
from studio.training.runs import Run

CHECKED_UP_TO = 200_000_000
"""Bytes of a LoRA file up to which its numbers are looked at here; larger ones are checked by `lora check`."""
USUAL_RATE = {"pocket": 1e-3, "sd15": 1e-4, "sdxl": 1e-4, "flux": 1e-4, "sd3": 1e-4}
"""Learning rates that are usual for AdamW, from the guides; the pocket model's is its presets'."""


def signals(project: Project, grid: Grid | None, run: Run | None) -> dict[str, str]:
    """Everything noticed. grid, run: None when there is none; the dataset is always looked at."""
    found: dict[str, str] = {}
    if grid is not None:
        found |= _tags(grid) | _measured(grid) | _file(grid)
    if run is not None:
        found |= _loss(run) | _settings(run, project)
    return found | _dataset(project)


def _tags(grid: Grid) -> dict[str, str]:
    given = grid.review.all()
    shown = {c.hash for c in grid.cells()}
    counted = Counter(t for h, r in given.items() if h in shown for t in r.tags)
    found = {
        f"tag-{tag}": f"You marked {n} {'picture' if n == 1 else 'pictures'} as: {FAULTS[tag]}."
        for tag, n in counted.items()
    }
    ratings = [r.rating for h, r in given.items() if r.rating and h in shown]
    if ratings and median(ratings) <= 2:
        found["low-ratings"] = f"Half of your {len(ratings)} ratings are 2 or lower."
    return found


def _measured(grid: Grid) -> dict[str, str]:
    metrics, verdict, spec = grid.metrics, grid.verdict, grid.spec
    if metrics is None or verdict is None:
        return {}
    found: dict[str, str] = {}
    if verdict.state in ("undertrained", "overdone"):
        found[verdict.state] = f"The grid's verdict: {verdict.headline}"
    rows = [r for r in metrics.get("weights", ()) if r["weight"] > 0]
    near = [float(r["nearness"]) for r in rows if r.get("nearness") is not None]
    if near and max(near) < CLEARLY:
        found["weak"] = f"Even at the strongest weight the pictures went {max(near):.0%} of the way to yours."
    change = [float(r["pixels"]) for r in rows if r.get("pixels") is not None]
    if change and max(change) < 0.004:
        found["no-effect"] = f"No weight changes the pictures by more than {max(change):.1%}."
    if verdict.state == "found" and verdict.weight is not None:
        if verdict.weight >= 1.0:
            found["best-high"] = f"The best weight is {verdict.weight:g}."
        elif verdict.weight <= 0.4 and min(w for w in spec.weights if w > 0) <= 0.4:
            found["best-low"] = f"The best weight is only {verdict.weight:g}."
    labels = [x.label for x in spec.lora_files]
    if len(labels) > 1 and verdict.checkpoint in labels[:-1]:
        found["early-better"] = f"An earlier checkpoint ({verdict.checkpoint}) does better than the last one."
    found |= _by_row(rows)
    return found | _by_cell(grid, metrics)


def _by_row(rows: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}

    def worst(key: str, most: bool = True) -> tuple[float, float] | None:
        known = [
            (float(r[key]), float(r["weight"])) for r in rows if r.get(key) is not None and r["weight"] <= 1.0
        ]
        return (max(known) if most else min(known)) if known else None

    leak, lost, fault = worst("leak"), worst("kept", most=False), worst("fault")
    if leak and leak[0] >= LEAKY:
        found["leak"] = f"At {leak[1]:g}, {leak[0]:.0%} of the effect also comes without the trigger word."
    if lost and lost[0] < SOFT:
        found["lost"] = f"At {lost[1]:g} only {max(0.0, lost[0]):.0%} of what prompts ask for is kept."
    if fault and fault[0] >= FAULTY:
        found["faults"] = (
            f"At {fault[1]:g} clipping, flatness, contrast or colour lie outside of what is usual."
        )
    copied = worst("memorised")
    if copied and copied[0] > 0:
        found["memorised"] = (
            f"At {copied[1]:g}, {copied[0]:.0%} of the pictures are nearer to a training picture than those are to each other."
        )
    alike = worst("diversity", most=False)
    if alike and alike[0] < 0.5:
        found["same-pictures"] = (
            f"At {alike[1]:g} the seeds differ only {alike[0]:.0%} as much as without the LoRA."
        )
    return found


def _by_cell(grid: Grid, metrics: Mapping[str, Any]) -> dict[str, str]:
    by_family: dict[str, list[float]] = {}
    for cell in grid.cells():
        told = (metrics.get("cells") or {}).get(cell.hash) or {}
        if cell.weight > 0 and told.get("nearness") is not None:
            by_family.setdefault(cell.prompt.family, []).append(float(told["nearness"]))
    own = by_family.get("own", []) + by_family.get("scene", [])
    captions = by_family.get("caption", [])
    if own and captions and median(captions) >= CLEARLY and median(own) < 2 * BARELY:
        return {"caption-only": "Training captions draw it, other prompts do not."}
    return {}


def _file(grid: Grid) -> dict[str, str]:
    found: dict[str, str] = {}
    for lora in grid.spec.lora_files:
        for code, sentence in _checked(lora.path):
            found.setdefault(code, sentence)
    return found


def _checked(path: Path) -> tuple[tuple[str, str], ...]:
    try:
        stat = path.stat()
    except OSError:
        return ()
    return _look(path, stat.st_size, stat.st_mtime_ns) if stat.st_size <= CHECKED_UP_TO else ()


@lru_cache(maxsize=64)
def _look(path: Path, _size: int, _time: int) -> tuple[tuple[str, str], ...]:
    try:
        report = check_lora(path)
    except (StudioError, OSError):
        return ()
    found = []
    if report.broken:
        found.append(("broken", f"{path.name} holds numbers that are not finite."))
    if report.layers and len(report.dead) == report.layers:
        found.append(("dead", f"Every layer of {path.name} is zero ({human_size(_size)})."))
    return tuple(found)


def _loss(run: Run) -> dict[str, str]:
    try:
        metrics = metrics_of(run)
    except (StudioError, OSError):
        return {}
    found = {f.code: f.what for f in metrics.findings if f.code.startswith("loss-")}
    if "no kernel image is available" in run.job.log_tail(20_000):
        found["log-no-kernel"] = "The log says: no kernel image is available."
    return found


def _settings(run: Run, project: Project) -> dict[str, str]:
    try:
        s = run.settings
        family = get_model(project.workspace, str(run.manifest["base_model"]["id"])).family
    except (StudioError, KeyError, ValueError):
        return {}
    found = _rate(s, family) | _knobs(s)
    pictures = int(run.manifest.get("dataset", {}).get("pictures", 0) or 0)
    seen = s.epochs * s.repeats
    if pictures and seen > 100:
        found["many-steps"] = f"Each picture was seen {seen} times."
    if pictures and pictures * seen < 400 and family != "pocket":
        found["few-steps"] = f"{pictures * seen} pictures were seen in all."
    plan = files.read_json(run.folder / PLAN_FILE)
    if not any(p.get("regularisation") for p in (plan or {}).get("pictures", ()) if isinstance(p, dict)):
        found["no-regularisation"] = "No regularisation pictures were used."
    elif s.prior_loss_weight > 0.5:
        found["regularisation-heavy"] = f"Regularisation pictures weigh {s.prior_loss_weight:g}."
    return found


def _rate(s: TrainingSettings, family: str) -> dict[str, str]:
    if s.optimizer == "prodigy":
        return {"prodigy": "The optimizer is Prodigy."}
    usual = USUAL_RATE.get(family, 1e-4) * (0.2 if s.optimizer == "lion" else 1.0)
    if s.learning_rate > 3 * usual:
        return {
            "high-rate": f"The learning rate, {s.learning_rate:g}, is more than three times the usual {usual:g}."
        }
    if s.learning_rate < usual / 3:
        return {
            "low-rate": f"The learning rate, {s.learning_rate:g}, is less than a third of the usual {usual:g}."
        }
    return {}


def _knobs(s: TrainingSettings) -> dict[str, str]:
    known = {
        "alpha-over-rank": (s.alpha > s.rank, f"Alpha ({s.alpha:g}) is larger than the rank ({s.rank})."),
        "small-alpha": (s.alpha * 4 <= s.rank, f"Alpha ({s.alpha:g}) is small against the rank ({s.rank})."),
        "high-rank": (s.rank > 64, f"The rank is {s.rank}."),
        "flip": (s.flip, "Pictures were mirrored while training."),
        "offset": (s.noise_offset > 0.05, f"The noise offset is {s.noise_offset:g}."),
        "no-offset": (s.noise_offset == 0, "There was no noise offset."),
        "text-encoder": (s.train_text_encoder, "The text encoder was trained."),
        "dropout": (s.caption_dropout > 0.15, f"{s.caption_dropout:.0%} of the captions were dropped."),
        "shuffled": (
            s.shuffle_captions and s.keep_tokens == 0,
            "Captions were shuffled with the trigger word.",
        ),
        "no-buckets": (not s.buckets, "Pictures were cut to one shape."),
        "fp16": (s.precision == "fp16", "It was trained in fp16."),
        "prediction-set": (s.prediction != "auto", f"The prediction type was set to {s.prediction}."),
    }
    return {name: words for name, (true, words) in known.items() if true}


def _dataset(project: Project) -> dict[str, str]:
    try:
        return {f"data:{f.code}": f.what for f in audit(project, scan(project))}
    except (StudioError, OSError):
        return {}
