"""The pages of the gates in the record: what was decided, and what the run will take.

    records/dataset-report.md  config.md  environment.md  dry-run.md    config/: the backend's own files, to be read

Written for people and never read back; the verdicts in `gates/` are the truth.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from studio import files
from studio.files import human_memory, human_size, human_time
from studio.findings import Finding
from studio.project import Project
from studio.records import finding_lines
from studio.settings import TrainingSettings, changed, knobs
from studio.training import record

PAGE: dict[str, tuple[int, str, str]] = {
    "dataset": (1, "Dataset report", "dataset-report.md"),
    "config": (2, "Training config", "config.md"),
    "environment": (3, "Environment", "environment.md"),
    "dry_run": (4, "Dry run", "dry-run.md"),
}

_AFTER = ("Check the config, gate 2.", "Check the environment, gate 3.", "Try a few real steps, gate 4.")


def write_page(
    project: Project, gate: str, passed: bool, findings: Iterable[Finding], facts: Mapping[str, Any], at: str
) -> None:
    """The page of a gate. The dataset's is longer, and made by `studio.dataset.report`."""
    number, title, name = PAGE[gate]
    following = (*_AFTER, "Start the training.")[number - 1] if passed else f"Mend what gate {number} found."
    record.write_status(project, f"GATE {number} {'GO' if passed else 'NO-GO'}", following)
    if gate == "dataset":
        from studio.dataset.report import dataset_report  # here, because it reads every caption

        files.write_text(project.records_dir / name, dataset_report(project))
        return
    lines = {"config": config_lines, "environment": environment_lines}.get(gate, _dry_run_lines)(facts)
    page = [
        f"# {title}: {project.intent.name}",
        "",
        f"## Gate {number} decision: {'GO' if passed else 'NO-GO'}",
        "",
        f"Looked at {at}.",
        "",
        *lines,
        "",
        "## Findings",
        "",
        *finding_lines(findings),
    ]
    files.write_text(project.records_dir / name, "\n".join(page).rstrip() + "\n")


def config_lines(facts: Mapping[str, Any]) -> list[str]:
    """config.md: what was chosen, what it takes, where the backend's files lie, and every setting."""
    s = TrainingSettings.model_validate(facts["settings"])
    lines = [
        f"- **Backend**: {s.backend}",
        f"- **Base model**: {facts['base_model']}",
        f"- **Preset**: {facts['preset'] or 'none'}",
        f"- **Key parameters**: learning rate {s.learning_rate:g}, epochs {s.epochs}, batch {s.batch_size}, rank {s.rank}",
        f"- **Steps**: {facts['steps']} ({facts['steps_per_epoch']} an epoch)",
        f"- **Estimated memory**: {_memory(facts)}",
        f"- **Estimated time**: {_time(facts)}",
        f"- **Disk**: {human_size(facts['disk_bytes'])}",
        f"- **Computer**: {facts['device']}",
        *_config_files(facts.get("config_files") or ()),
        "",
        "## Every setting",
        "",
        "| setting | value | |",
        "|---|---|---|",
    ]
    other = changed(s)
    for k in knobs().values():
        lines.append(f"| {k.title} | {getattr(s, k.name)} | {'chosen' if k.name in other else 'default'} |")
    return lines


def _memory(facts: Mapping[str, Any]) -> str:
    if not facts["memory_bytes"]:
        return "none here: it is trained on a rented computer"
    return f"{human_memory(facts['memory_bytes'])} (available: {human_memory(facts['available_bytes'])})"


def _time(facts: Mapping[str, Any]) -> str:
    where = str(facts["device"]).rstrip(".")
    if facts.get("seconds"):
        return f"{human_time(facts['seconds'])}, from the steps of the dry run on this computer ({where})"
    told = f"; the preset by itself says {facts['preset_time']}" if facts.get("preset_time") else ""
    return f"not measured on this computer yet, the dry run will{told}"


def _config_files(places: Sequence[str]) -> list[str]:
    """Where the files for the backend lie; relative to the project, so that a moved workspace stays right."""
    if not places:
        return []
    first, *others = places
    more = f", beside it {', '.join(p.rpartition('/')[2] for p in others)}" if others else ""
    return [f"- **Config file**: `{first}`{more}; a run keeps its own in `runs/`"]


def environment_lines(facts: Mapping[str, Any]) -> list[str]:
    """environment.md: what this computer has for the run, in words, and the versions that compute it."""
    if "memory_free" not in facts:  # a rented run looks at other things
        return [f"- **{k.replace('_', ' ')}**: {_figure(k, v)}" for k, v in facts.items() if not isinstance(v, dict)]  # fmt: skip
    cuda, driver = facts.get("cuda_build"), facts.get("driver")
    built = f" built for CUDA {cuda}" if cuda else " without CUDA" if facts.get("torch") else ""
    card = "none was found; it trains on the CPU"
    if driver:
        card = f"{facts.get('gpu') or facts['computer'].partition(' with ')[0]}, driver {driver}"
        card += "" if facts.get("cuda") else "; PyTorch cannot use it"
    lines = [
        f"- **Computer**: {str(facts['computer']).rstrip('.')}",
        f"- **System**: {facts['system']}, Python {facts['python']}",
        f"- **Graphics card**: {card}",
        f"- **PyTorch**: {facts.get('torch') or 'not found'}{built}",
        f"- **Training backend**: {_backend(facts)}",
        f"- **Memory**: {human_memory(facts['memory_free'])} free, about {human_memory(facts['memory_needed'])} needed",
        f"- **Disk**: {human_size(facts['disk_free'])} free, about {human_size(facts['disk_needed'])} needed for caches, checkpoints "
        "and samples",
    ]
    its = facts.get("engine_packages") or {}
    told = {"Versions in the backend's environment": its, "Versions in the studio's environment": facts["packages"]}  # fmt: skip
    for title, packages in told.items():
        if packages:
            lines += ["", f"## {title}", "", *(f"- **{name}**: {v}" for name, v in packages.items())]
    return lines


def _backend(facts: Mapping[str, Any]) -> str:
    used = facts.get("sdscripts")
    if not used:
        return facts.get("backend") or "comes with the studio"
    commit = f"commit {used['commit'][:12]}" if used.get("commit") else "version unknown"
    return f"kohya sd-scripts, {commit}, in `{used['source']}`, started by `{used['python']}`"


def _dry_run_lines(facts: Mapping[str, Any]) -> list[str]:
    return [f"- **{k.replace('_', ' ')}**: {_figure(k, v)}" for k, v in facts.items() if not isinstance(v, dict)]  # fmt: skip


def _figure(name: str, value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        if name.startswith(("memory_", "peak_")):
            return human_memory(value)
        if name.endswith(("_bytes", "_free", "_needed")):
            return human_size(value)
        if name == "seconds_per_step":
            return f"{value:.3g} s"
        if name.endswith("_seconds"):
            return human_time(value)
    return str(value)
