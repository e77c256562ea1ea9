"""All commands, in the order of the help."""

from __future__ import annotations

from studio.cli.commands import (
    app,
    autocaption,
    captions,
    config,
    curation,
    dataset,
    demo,
    doctor,
    evaluate,
    explain,
    export,
    gates,
    library,
    models,
    projects,
    runs,
    status,
)
from studio.cli.spec import Command

COMMANDS: tuple[Command, ...] = (
    *projects.COMMANDS,
    *dataset.COMMANDS,
    *curation.COMMANDS,
    *captions.COMMANDS,
    *autocaption.COMMANDS,
    *export.COMMANDS,
    *models.COMMANDS,
    *config.COMMANDS,
    *gates.COMMANDS,
    *runs.COMMANDS,
    *explain.COMMANDS,
    *status.COMMANDS,
    *evaluate.COMMANDS,
    *library.COMMANDS,
    *demo.COMMANDS,
    *doctor.COMMANDS,
    *app.COMMANDS,
)
