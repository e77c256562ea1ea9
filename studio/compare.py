"""Two runs side by side: what was different, and what came out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.dataset.folder import look
from studio.dataset.gate import dataset_fingerprint
from studio.errors import StudioError
from studio.machine import VERSIONED, detect
from studio.models import get_model, model_fingerprint
from studio.project import Project
from studio.settings import knobs
from studio.training.base import PLAN_FILE
from studio.training.outcome import Outcome, metrics_of, outcome
from studio.training.prepare import taught
from studio.training.registry import get_backend
from studio.training.runs import Run, list_runs


@dataclass(frozen=True)
class Difference:
    """Something that differs between two runs. before, after: in words."""

    what: str
    before: str
    after: str


def previous(run: Run, runs: list[Run]) -> Run | None:
    """The run before this one, None when it is the first. runs: newest first, as `list_runs` gives them."""
    older = [r for r in runs if r.id < run.id]
    return older[0] if older else None


def differences(before: Run, after: Run) -> list[Difference]:
    """What was different between two runs: base model, pictures and captions, settings, versions. [] when nothing was."""
    return _between(before.manifest, after.manifest)


def since(run: Run, project: Project) -> list[Difference]:
    """What is different now from when a run was made, its settings apart, which running it again brings back: base model,
    pictures and captions, versions, engine. [] when running it again gives the same LoRA."""
    entry = get_model(project.workspace, str(run.manifest["intent"]["base_model"]))
    location = entry.location(project.workspace)
    told = run.manifest
    now = {
        "base_model": {
            "title": entry.title,
            "fingerprint": model_fingerprint(location) if location else "not here",
        },
        "dataset": {
            "fingerprint": dataset_fingerprint(project),
            "pictures": len(look(project.dataset_dir).pictures),
        },
        "settings": told["settings"],
        "machine": detect().as_dict(),
        "engine": _engine(project, str(told["settings"]["backend"])),
    }
    found = _between({"engine": {}, **told}, now)
    if told["dataset"]["fingerprint"] != now["dataset"]["fingerprint"]:
        found += _pictures(run, project)
    intent = project.intent.model_dump(mode="json")
    for key, words in (("base_model", "Chosen base model"), ("trigger", "Trigger word")):
        if intent.get(key) != told["intent"].get(key):
            found.append(Difference(words, str(told["intent"].get(key)), str(intent.get(key))))
    return found


def bring_back(run: Run, project: Project) -> None:
    """Make the settings of a run those of the next one. Pictures and captions stay as they are now; see `since`."""
    project.save_settings(run.settings, str(run.manifest.get("preset") or ""), repeats_follow=False)
    project.decided("run again", run=run.id, differences=[d.what for d in since(run, project)])


def _pictures(run: Run, project: Project) -> list[Difference]:
    """Which pictures and captions are others than those that the run froze; [] when it froze none."""
    plan = files.read_json(run.folder / PLAN_FILE) or {}
    then = {Path(str(p["path"])).name: p for p in plan.get("pictures", ())}
    if not then:
        return []
    now = {p.path.name: p.model_dump(mode="json") for p in taught(project)}
    both = [n for n in then if n in now]

    def others(*keys: str) -> list[str]:
        return [n for n in both if any(then[n].get(k) != now[n][k] for k in keys)]

    found = []
    for what, before, names in (
        ("Pictures added", "not there", [n for n in now if n not in then]),
        ("Pictures removed", "there", [n for n in then if n not in now]),
        ("Pictures with another content", "as they were", others("sha256")),
        ("Captions", "as they were", others("caption")),
        ("Repeats and marks for regularisation", "as they were", others("repeats", "regularisation")),
    ):
        if names:
            found.append(Difference(what, before, _some(names)))
    return found


def _some(names: list[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"


def _engine(project: Project, backend_id: str) -> dict[str, str]:
    """Version of the backend's own program now; {} for a backend without one, or when it is not here."""
    engine = getattr(get_backend(backend_id), "engine", None)
    if engine is None:
        return {}
    try:
        return {k: v for k, v in engine(project.workspace).items() if k in ("commit", "version")}
    except StudioError:
        return {"commit": "not here"}


def _between(a: dict[str, Any], b: dict[str, Any]) -> list[Difference]:
    found = []
    if a["base_model"]["fingerprint"] != b["base_model"]["fingerprint"]:
        titles = a["base_model"]["title"], b["base_model"]["title"]
        same = titles[0] == titles[1]
        found.append(Difference("Base model", *(("as it was", "its files changed") if same else titles)))
    if a["dataset"]["fingerprint"] != b["dataset"]["fingerprint"]:
        counts = a["dataset"]["pictures"], b["dataset"]["pictures"]
        if counts[0] != counts[1]:
            found.append(Difference("Pictures", str(counts[0]), str(counts[1])))
        else:
            found.append(Difference("Pictures and captions", "as they were", "changed"))
    for name, knob in knobs().items():
        old, new = a["settings"].get(name, knob.default), b["settings"].get(name, knob.default)
        if old != new:
            found.append(Difference(knob.title, _words(old), _words(new)))
    for package in (p for p in VERSIONED if p != "streamlit"):  # which computes nothing
        versions = [m.get("machine", {}).get("packages", {}).get(package, "absent") for m in (a, b)]
        if versions[0] != versions[1]:
            found.append(Difference(f"Version of {package}", *versions))
    for what, told in (("Python", lambda m: m.get("python")), ("Graphics card", _cards)):
        sides = [str(told(m.get("machine", {})) or "none") for m in (a, b)]
        if all(m.get("machine") for m in (a, b)) and sides[0] != sides[1]:
            found.append(Difference(what, *sides))
    engines = [str((m.get("engine") or {}).get("commit") or "") for m in (a, b)]
    if engines[0] != engines[1]:
        found.append(Difference("Version of the engine", *(e[:12] or "none" for e in engines)))
    return found


def _cards(machine: dict[str, Any]) -> str:
    return ", ".join(str(g.get("name")) for g in machine.get("gpus") or ())


def _words(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return f"{len(value)} lines"
    return str(value)


def newest_trained(runs: list[Run]) -> Run | None:
    """The newest run that has a checkpoint; None when there is none."""
    return next((r for r in runs if r.checkpoints()), None)


__all__ = [
    "Difference",
    "Outcome",
    "bring_back",
    "differences",
    "list_runs",
    "metrics_of",
    "newest_trained",
    "outcome",
    "previous",
    "since",
]
