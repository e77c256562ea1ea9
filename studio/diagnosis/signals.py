"""What the studio can notice about a grid and its run: signal -> the sentence that says what was seen.

Observations come from the person's ratings and tags, the measures and the verdict; the rest says what makes a cause likely:
the file, the loss curve, the log, the dataset and the settings. Limits, and where each comes from, are in `data/diagnosis.yaml`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from studio import files
from studio.dataset.audit import audit
from studio.dataset.scan import scan
from studio.diagnosis.rows import limit
from studio.errors import StudioError
from studio.evaluation.grid import Grid
from studio.evaluation.review import FAULTS
from studio.files import human_size
from studio.lora.check import check_lora
from studio.models import get_model
from studio.project import Project
from studio.settings import TrainingSettings
from studio.settings.optimizers import RATE_SHARE
from studio.training.base import PLAN_FILE
from studio.training.diffusers_checks import USUAL_RATE
from studio.training.outcome import metrics_of
from studio.training.runs import Run

CHECKED_UP_TO = 200_000_000
"""Bytes of a LoRA file up to which its numbers are looked at here; larger ones are checked by `lora check`."""

SOURCES: dict[str, str] = {
    **{f"tag-{tag}": "fault tags" for tag in FAULTS},
    "low-ratings": "ratings",
    **dict.fromkeys(
        ("undertrained", "overdone", "weak", "no-effect", "best-high", "best-low", "early-better", "leak", "lost", "faults",
         "black", "over-coloured", "over-sharp", "too-soft", "too-dull", "memorised", "same-pictures", "prompts-fall",
         "caption-only"),
        "measures",
    ),
    **dict.fromkeys(("broken", "dead"), "file"),
    **dict.fromkeys(
        ("loss-nan", "loss-divergence", "loss-guessing", "loss-no-progress", "loss-plateau"), "loss curve"
    ),
    "log-no-kernel": "log",
    **dict.fromkeys(
        ("high-rate", "low-rate", "prodigy", "many-steps", "few-steps", "no-regularisation", "regularisation-heavy",
         "alpha-over-rank", "small-alpha", "high-rank", "flip", "offset", "no-offset", "text-encoder", "dropout",
         "no-buckets", "fp16", "prediction-set"),
        "settings",
    ),
}  # fmt: skip
"""Every signal and where it comes from. Those of the dataset are `data:` with the code of a finding of its audit."""


def signals(project: Project, grid: Grid | None, run: Run | None) -> dict[str, str]:
    """Everything noticed. grid, run: None when there is none; the dataset is always looked at."""
    found: dict[str, str] = {}
    if grid is not None:
        found |= _said(grid) | _measured(grid) | _file(grid)
    if run is not None:
        found |= _loss(run) | _settings(run, project)
    return found | _dataset(project)


# --- what the person said


def _said(grid: Grid) -> dict[str, str]:
    given = grid.review.all()
    shown = {c.hash for c in grid.cells()}
    counted = Counter(t for h, r in given.items() if h in shown for t in r.tags)
    found = {
        f"tag-{tag}": f"You marked {n} {'picture' if n == 1 else 'pictures'} as: {FAULTS[tag]}."
        for tag, n in counted.items()
    }
    ratings = [r.rating for h, r in given.items() if r.rating and h in shown]
    if ratings and median(ratings) <= limit("low-ratings"):
        found["low-ratings"] = f"Half of your {len(ratings)} ratings are {limit('low-ratings'):g} or lower."
    return found


# --- what was measured


def _measured(grid: Grid) -> dict[str, str]:
    metrics, verdict, spec = grid.metrics, grid.verdict, grid.spec
    if metrics is None or verdict is None:
        return {}
    found: dict[str, str] = {}
    if verdict.state in ("undertrained", "overdone"):
        found[verdict.state] = f"The grid's verdict: {verdict.headline}"
    rows = [r for r in metrics.get("weights", ()) if r["weight"] > 0]
    near = [float(r["nearness"]) for r in rows if r.get("nearness") is not None]
    if near and max(near) < limit("weak"):
        found["weak"] = f"Even at the strongest weight the pictures went {max(near):.0%} of the way to yours."
    change = [float(r["pixels"]) for r in rows if r.get("pixels") is not None]
    if change and max(change) < limit("no-effect"):
        found["no-effect"] = f"No weight changes the pictures by more than {max(change):.1%}."
    if verdict.state == "found" and verdict.weight is not None:
        drawn = [w for w in spec.weights if w > 0]
        if verdict.weight >= limit("best-high"):
            found["best-high"] = f"The best weight is {verdict.weight:g}."
        elif verdict.weight <= limit("best-low") and min(drawn) <= limit("best-low"):
            found["best-low"] = f"The best weight is only {verdict.weight:g}."
    labels = [x.label for x in spec.lora_files]
    if len(labels) > 1 and verdict.checkpoint in labels[:-1]:
        found["early-better"] = f"An earlier checkpoint ({verdict.checkpoint}) does better than the last one."
    return found | _by_row(rows) | _faulty(rows) | _against_base(metrics) | _by_cell(grid, metrics)


def _known(rows: list[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    """(value, weight) of the columns that people use, up to weight 1."""
    return [
        (float(r[key]), float(r["weight"])) for r in rows if r.get(key) is not None and r["weight"] <= 1.0
    ]


def _by_row(rows: list[dict[str, Any]]) -> dict[str, str]:
    found: dict[str, str] = {}

    def worst(
        key: str, which: Callable[[list[tuple[float, float]]], tuple[float, float]]
    ) -> tuple[float, float] | None:
        known = _known(rows, key)
        return which(known) if known else None

    leak, lost = worst("leak", max), worst("kept", min)
    if leak and leak[0] >= limit("leak"):
        share = "all" if leak[0] >= 0.995 else f"{leak[0]:.0%}"  # may measure a little above 1
        found["leak"] = f"At {leak[1]:g}, {share} of the effect also comes without the trigger word."
    if lost and lost[0] < limit("lost"):
        found["lost"] = f"At {lost[1]:g} only {max(0.0, lost[0]):.0%} of what prompts ask for is kept."
    for key, by in (("memorised", ""), ("dino_copies", " by DINO")):
        copied = worst(key, max)
        if copied and copied[0] > limit("memorised"):
            found["memorised"] = (
                f"At {copied[1]:g}, {copied[0]:.0%} of the pictures are nearer to a training picture than those are to each other"
                f"{by}."
            )
    alike = worst("diversity", min)
    if alike and alike[0] < limit("same-pictures"):
        found["same-pictures"] = (
            f"At {alike[1]:g} the seeds differ only {alike[0]:.0%} as much as without the LoRA."
        )
    return found


_FAULT_SIGNALS = {
    ("black", True): ("black", "large parts are black, more than in the base model's pictures and in yours"),
    ("saturation", True): (
        "over-coloured",
        "colours are stronger than in the base model's pictures and in yours",
    ),
    ("contrast", True): (
        "over-coloured",
        "contrast is harder than in the base model's pictures and in yours",
    ),
    ("white", True): (
        "over-coloured",
        "more is burnt out to white than in the base model's pictures and in yours",
    ),
    ("sharpness", True): (
        "over-sharp",
        "edges are harder, or there is noise, beyond the base model's pictures and yours",
    ),
    ("sharpness", False): ("too-soft", "pictures are softer than the base model's and yours"),
    ("saturation", False): ("too-dull", "colours are weaker than in the base model's pictures and in yours"),
    ("contrast", False): ("too-dull", "contrast is lower than in the base model's pictures and in yours"),
}
"""(fault, too much?) -> signal and its words."""


def _faulty(rows: list[dict[str, Any]]) -> dict[str, str]:
    """Picture faults at the weights that people use, by kind."""
    found: dict[str, str] = {}
    usual = [r for r in rows if r["weight"] <= 1.0]
    worst = max(usual, key=lambda r: float(r.get("fault") or 0), default=None)
    if worst is not None and float(worst.get("fault") or 0) >= limit("faults"):
        found["faults"] = (
            f"At {worst['weight']:g} clipping, flatness, contrast, colour or sharpness lie outside of what is usual."
        )
    for row in usual:
        for name, value in (row.get("faults") or {}).items():
            known = _FAULT_SIGNALS.get((name, value > 0))
            if known and abs(value) >= limit("fault-kind"):
                found.setdefault(known[0], f"At {row['weight']:g} {known[1]}.")
    return found


def _against_base(metrics: Mapping[str, Any]) -> dict[str, str]:
    """What CLIP says against the base model's own pictures."""
    base = [
        r["clip_text"]
        for r in metrics.get("weights", ())
        if r["weight"] == 0 and r.get("clip_text") is not None
    ]
    known = _known([r for r in metrics.get("weights", ()) if r["weight"] > 0], "clip_text")
    if not base or not known:
        return {}
    lowest = min(known)
    fall = float(base[0]) - lowest[0]
    if fall < limit("prompts-fall"):
        return {}
    return {
        "prompts-fall": f"At {lowest[1]:g} pictures follow their prompts less by CLIP: {lowest[0]:.3f} against {base[0]:.3f} without the LoRA."
    }


def _by_cell(grid: Grid, metrics: Mapping[str, Any]) -> dict[str, str]:
    by_family: dict[str, list[float]] = {}
    for cell in grid.cells():
        told = (metrics.get("cells") or {}).get(cell.hash) or {}
        if cell.weight > 0 and told.get("nearness") is not None:
            by_family.setdefault(cell.prompt.family, []).append(float(told["nearness"]))
    own = by_family.get("own", []) + by_family.get("scene", [])
    captions = by_family.get("caption", [])
    if own and captions and median(captions) >= limit("weak") and median(own) < limit("caption-only"):
        return {"caption-only": "Training captions draw it, other prompts do not."}
    return {}


# --- the file


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


# --- the run


def _loss(run: Run) -> dict[str, str]:
    try:
        metrics = metrics_of(run)
    except (StudioError, OSError):
        return {}
    found = {f.code: f.what for f in metrics.findings if f.code in SOURCES}
    if "no kernel image is available" in run.job.log_tail(20_000):
        found["log-no-kernel"] = "The log says: no kernel image is available."
    return found


def _settings(run: Run, project: Project) -> dict[str, str]:
    try:
        s = run.settings
        family = get_model(project.workspace, str(run.manifest["base_model"]["id"])).family
    except (StudioError, KeyError, ValueError):
        return {}
    found = _rate(s, family) | dict(_knobs(s))
    pictures = int(run.manifest.get("dataset", {}).get("pictures", 0) or 0)
    seen = s.epochs * s.repeats
    if pictures and seen > limit("many-steps"):
        found["many-steps"] = f"Each picture was seen {seen} times."
    if pictures and pictures * seen < limit("few-steps"):
        found["few-steps"] = f"{pictures * seen} pictures were seen in all, repeats counted."
    plan = files.read_json(run.folder / PLAN_FILE)
    if not any(p.get("regularisation") for p in (plan or {}).get("pictures", ()) if isinstance(p, dict)):
        found["no-regularisation"] = "No regularisation pictures were used."
    elif s.prior_loss_weight > limit("regularisation-heavy"):
        found["regularisation-heavy"] = f"Regularisation pictures weigh {s.prior_loss_weight:g}."
    return found


def _rate(s: TrainingSettings, family: str) -> dict[str, str]:
    if s.optimizer not in RATE_SHARE:
        return {"prodigy": "The optimizer is Prodigy."} if s.optimizer == "prodigy" else {}
    usual = USUAL_RATE.get(family, 1e-4) * RATE_SHARE[s.optimizer]
    if s.learning_rate > limit("high-rate") * usual:
        return {
            "high-rate": f"The learning rate, {s.learning_rate:g}, is more than {limit('high-rate'):g} times the usual {usual:g}."
        }
    if s.learning_rate < limit("low-rate") * usual:
        return {
            "low-rate": f"The learning rate, {s.learning_rate:g}, is less than {limit('low-rate'):.0%} of the usual {usual:g}."
        }
    return {}


def _knobs(s: TrainingSettings) -> Iterator[tuple[str, str]]:
    """Settings that make a cause likelier."""
    told: tuple[tuple[bool, str, str], ...] = (
        (s.alpha > s.rank, "alpha-over-rank", f"Alpha ({s.alpha:g}) is larger than the rank ({s.rank})."),
        (s.alpha <= limit("small-alpha") * s.rank, "small-alpha", f"Alpha ({s.alpha:g}) is small against the rank ({s.rank})."),
        (s.rank > limit("high-rank"), "high-rank", f"The rank is {s.rank}."),
        (s.flip, "flip", "Pictures were mirrored while training."),
        (s.noise_offset > limit("offset"), "offset", f"The noise offset is {s.noise_offset:g}."),
        (s.noise_offset == 0, "no-offset", "There was no noise offset."),
        (s.train_text_encoder, "text-encoder", "The text encoder was taught."),
        (s.caption_dropout > limit("dropout"), "dropout", f"{s.caption_dropout:.0%} of the captions were dropped."),
        (not s.buckets, "no-buckets", "Pictures were cut to one shape."),
        (s.precision == "fp16", "fp16", "It was trained in fp16."),
        (s.prediction != "auto", "prediction-set", f"The prediction type was set to {s.prediction}."),
    )  # fmt: skip
    return ((name, words) for true, name, words in told if true)


# --- the pictures and captions


def _dataset(project: Project) -> dict[str, str]:
    try:
        entry = get_model(project.workspace, project.intent.base_model)
    except StudioError:
        entry = None
    try:
        return {f"data:{f.code}": f.what for f in audit(project, scan(project), entry)}
    except (StudioError, OSError):
        return {}
