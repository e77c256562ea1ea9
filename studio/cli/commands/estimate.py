"""What the next run takes, before anything is spent."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import asdict

from studio.cli import settings_flags
from studio.cli.context import Context
from studio.cli.spec import Command, Reply
from studio.files import human_memory, human_size, human_time
from studio.settings import TrainingSettings, problems


def _estimate(ctx: Context, args: Namespace) -> Reply:
    from studio import gates
    from studio.machine import detect

    project = ctx.project()
    wanted = settings_flags.from_flags(args)
    settings = (
        TrainingSettings.model_validate({**project.settings.model_dump(), **wanted}) if wanted else None
    )
    told, machine = gates.forecast(project, settings), detect()
    fits = told.fits(machine.memory_bytes)
    ctx.out.heading(f"{project.intent.name}: {told.steps.total_steps} steps")
    if told.memory_bytes:
        ctx.out.facts(
            [
                ("Memory", f"{human_memory(told.memory_bytes)}; the true peak can lie {told.band_words} it"),
                ("This computer", f"{human_memory(machine.memory_bytes)}, of which a fifth stays free"),
                ("Fits", "yes" if fits else "no"),
                ("How sure", told.known_words),
                *((f"  {part}", human_memory(size)) for part, size in told.terms.items()),
            ]
        )
        for name, size in told.phases.items():
            if name != "Training" and size > told.phases["Training"]:
                ctx.out.say(f"More is needed for a moment: {name.lower()} takes {human_memory(size)}.")
    ctx.out.facts(
        [
            ("Time", human_time(told.seconds) if told.seconds is not None else "the dry run measures it"),
            ("Disk", human_size(told.disk_bytes)),
        ]
    )
    if not fits:
        ctx.out.say(" ".join(told.short_of(machine.memory_bytes)))
    for finding in told.refused:
        ctx.out.say(f"{finding.what} {finding.why} {finding.fix}")
    return Reply(
        {
            "project": project.slug,
            **{k: v for k, v in asdict(told).items() if k != "refused"},
            "band": told.band_words,
            "known": told.known_words,
            "fits": fits,
            "available_bytes": machine.memory_bytes,
            "refused": [f.model_dump(mode="json") for f in told.refused],
        }
    )


COMMANDS = (
    Command(
        "estimate",
        "Settings and gates",
        "Reckon memory, steps, time and disk of the next run, term by term.",
        _estimate,
        options=settings_flags.setting_options(),
        details="Settings given as flags are tried, not saved. The dry run's measurement replaces the reckoning where it fits.",
        examples=("estimate", "estimate --rank 64 --batch-size 4"),
        check=lambda args: problems(settings_flags.from_flags(args)),
    ),
)
