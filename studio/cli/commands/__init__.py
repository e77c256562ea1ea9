"""All commands, in the order of the help."""

from __future__ import annotations

from studio.cli.commands import (
    app,
    autocaption,
    captions,
    captions_bulk,
    comfyui,
    config,
    curation,
    dataset,
    demo,
    doctor,
    engines,
    evaluate,
    explain,
    export,
    gates,
    library,
    loras,
    models,
    projects,
    runs,
    status,
    subsets,
)
from studio.cli.spec import Command

COMMANDS: tuple[Command, ...] = (
    *projects.COMMANDS,
    *dataset.COMMANDS,
    *curation.COMMANDS,
    *subsets.COMMANDS,
    *captions.COMMANDS,
    *captions_bulk.COMMANDS,
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
    *loras.COMMANDS,
    *demo.COMMANDS,
    *doctor.COMMANDS,
    *engines.COMMANDS,
    *comfyui.COMMANDS,
    *app.COMMANDS,
)
