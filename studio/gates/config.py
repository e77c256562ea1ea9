"""Gate 2: the settings fit together, fit the base model, and fit into this computer's memory."""

from __future__ import annotations

from studio import machine as computer
from studio.captions.store import CaptionStore
from studio.dataset.buckets import too_narrow
from studio.dataset.scan import scan
from studio.dataset.subsets import subset_findings, teaching_count
from studio.errors import StudioError
from studio.estimate import estimate, file_of, fitting_batch
from studio.files import human_memory
from studio.findings import Finding
from studio.gates.forecasts import forecast
from studio.gates.native import keep_native_files
from studio.gates.standing import picture_counts
from studio.gates.verdicts import Verdict, current_fingerprint, save_verdict
from studio.models import BaseModelEntry, file_findings, get_model
from studio.presets import default_for, fill, get_preset
from studio.project import Project
from studio.settings import TrainingSettings, unusual
from studio.training.registry import get_backend


def config_gate(project: Project) -> Verdict:
    """Run gate 2 and store its verdict. It may fill in the standard preset, or halve the batch, and says so."""
    entry = get_model(project.workspace, project.intent.base_model)
    found = _from_standard(project, entry)
    settings, reduced = _made_to_fit(project, entry)
    found += reduced
    machine = computer.detect()
    found += get_backend(settings.backend).check(settings, machine, entry)
    # Gate 3 looks again: files may go meanwhile. Only headers are read, once as long as the files stay the same.
    found += file_findings(project.workspace, entry)
    found += unusual(settings)
    found += subset_findings(project, settings, CaptionStore(project).all())
    counts = picture_counts(project, settings)
    plan = estimate(
        entry.family, settings, counts, device=machine.device, file=file_of(entry, project.workspace)
    )
    found += plan.refused
    if not counts:
        found.append(
            Finding(
                severity="block",
                code="config-no-pictures",
                what="There are no pictures to train on.",
                why="A run without pictures would end at once and teach nothing.",
                fix="Add pictures on the dataset page.",
            )
        )
    elif plan.steps.total_steps < 20:
        found.append(
            Finding(
                severity="warn",
                code="config-few-steps",
                what=f"The run has only {plan.steps.total_steps} steps.",
                why="So few changes hardly show in pictures.",
                fix="Raise the epochs or the repeats.",
                where=("epochs", "repeats"),
            )
        )
    found += _batch_of(counts, settings)
    found += _too_narrow(project, settings)
    if not plan.fits(machine.memory_bytes):
        why, fix = plan.short_of(machine.memory_bytes)
        found.append(
            Finding(
                severity="block",
                code="memory-short",
                what=f"The run needs about {human_memory(plan.memory_bytes)}, and this computer has {human_memory(machine.memory_bytes)}.",
                why=why,
                fix=fix,
                where=("gradient_checkpointing", "resolution", "rank"),
            )
        )
    elif plan.memory_high > machine.memory_bytes:
        found.append(
            Finding(
                severity="warn",
                code="memory-close",
                what=f"Memory may be close: about {human_memory(plan.memory_low)} to {human_memory(plan.memory_high)}.",
                why=f"{plan.known_words} The dry run measures it.",
                fix="Nothing to do now; the dry run will tell.",
            )
        )
    facts = {
        "steps": plan.steps.total_steps,
        "steps_per_epoch": plan.steps.steps_per_epoch,
        "epochs": plan.steps.epochs,
        "memory_bytes": plan.memory_bytes,
        "memory_low": plan.memory_low,
        "memory_high": plan.memory_high,
        "available_bytes": machine.memory_bytes,
        "disk_bytes": plan.disk_bytes,
        "lora_bytes": plan.lora_bytes,
        "settings": settings.model_dump(mode="json"),
        "preset": project.preset,
        "base_model": entry.id,
        "device": machine.words,
        "seconds": forecast(project).seconds,
        "preset_time": _preset_time(project),
        "config_files": [p.relative_to(project.folder).as_posix() for p in keep_native_files(project)],
    }
    return save_verdict(project, "config", found, current_fingerprint(project, "config"), facts)


def _too_narrow(project: Project, settings: TrainingSettings) -> list[Finding]:
    """A block when sd-scripts would stop at a picture."""
    if settings.backend != "kohya":
        return []
    names = tuple(p.name for p in scan(project).readable if too_narrow(p.width, p.height, settings))
    if not names:
        return []
    one = len(names) == 1
    return [
        Finding(
            severity="block",
            code="picture-too-narrow",
            what=f"{'One picture is' if one else f'{len(names)} pictures are'} too narrow for a bucket step of {settings.bucket_step} px.",
            why="At this resolution less than one step is left across, and sd-scripts stops with a division by zero.",
            fix=f"Set {'it' if one else 'them'} aside or crop {'it' if one else 'them'}, or let small pictures be enlarged.",
            where=names,
        )
    ]


def _batch_of(counts: list[int], settings: TrainingSettings) -> list[Finding]:
    """A warning when a step takes more pictures than there are to take. counts: pictures of an epoch in each bucket."""
    size, step = settings.batch_size, settings.batch_size * settings.gradient_accumulation
    if not counts or (size <= max(counts) and step <= sum(counts)):
        return []
    if size > max(counts):
        what = (
            f"A batch of {size} is never full: no bucket shows more than {max(counts)} pictures in an epoch."
        )
        fix = f"Lower the batch size to {max(counts)} or less."
    else:
        what = f"One step takes {step} pictures, and an epoch shows {sum(counts)}."
        fix = f"Lower the batch size or gradient accumulation, to {sum(counts)} pictures a step or less."
    return [
        Finding(
            severity="warn",
            code="config-batch-large",
            what=what,
            why="There are then fewer steps than it seems, and each teaches less than its learning rate is meant for.",
            fix=fix,
            where=("batch_size", "gradient_accumulation"),
        )
    ]


def _preset_time(project: Project) -> str:
    """How long the preset says that it takes, and where; empty without a preset, or when its file is gone."""
    try:
        return get_preset(project.workspace, project.preset).time if project.preset else ""
    except StudioError:
        return ""


def _from_standard(project: Project, entry: BaseModelEntry) -> list[Finding]:
    """Fill the settings of a project that never chose any from the standard preset of its base model. A project without
    pictures waits: the repeats of a preset follow from how many there are."""
    pictures = teaching_count(project)
    if project.settings_chosen or not pictures:
        return []
    preset = default_for(project.workspace, entry)
    project.save_settings(fill(preset, entry, pictures, computer.detect()), preset.id, repeats_follow=True)
    project.decided("preset chosen", preset=preset.id, by="default")
    return [
        Finding(
            severity="info",
            code="settings-from-preset",
            what=f"The settings come from the preset {preset.title} ({preset.id}).",
            why="None had been chosen yet.",
            fix="Nothing to do. Choose another preset, or change a setting, whenever you like.",
        )
    ]


def _made_to_fit(project: Project, entry: BaseModelEntry) -> tuple[TrainingSettings, list[Finding]]:
    """The project's settings, the batch halved until the estimate fits; accumulation is raised alike, so that as many
    pictures as before make one step and the learning rate stays right."""
    settings = project.settings
    counts = picture_counts(project, settings)
    machine = computer.detect()
    batch = fitting_batch(
        entry.family, settings, counts, machine.memory_bytes, device=machine.device,
        file=file_of(entry, project.workspace),
    )  # fmt: skip
    if batch in (0, settings.batch_size):
        return settings, []
    factor = settings.batch_size // batch
    smaller = settings.model_copy(
        update={"batch_size": batch, "gradient_accumulation": settings.gradient_accumulation * factor}
    )
    project.save_settings(smaller)
    project.decided("batch size reduced to fit memory", before=settings.batch_size, after=batch)
    return smaller, [
        Finding(
            severity="warn",
            code="batch-reduced",
            what=f"Batch size was reduced from {settings.batch_size} to {batch}.",
            why="The larger batch would not fit into this computer's memory with 20 % kept free.",
            fix=f"Nothing to do: gradient accumulation was raised to {smaller.gradient_accumulation}, so the result stays the same.",
            where=("batch_size", "gradient_accumulation"),
        )
    ]
