"""Saving a grid's workflows instead of drawing it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from studio.cli.context import Context
from studio.cli.spec import Reply
from studio.project import Project


def save_workflows(ctx: Context, project: Project, spec: Any, folder: Path) -> Reply:
    """Write them into a new folder, and say what to do with them."""
    from studio.evaluation.comfyui import exchange

    saved = exchange.save_workflows(project, spec, folder)
    runs = exchange.columns_of(saved.workflows)
    ctx.out.heading(f"{saved.cells} pictures in {runs} workflows")
    ctx.out.facts([("Folder", saved.folder), ("Grid", spec.id)])
    ctx.out.say("READ ME.txt in the folder says what to do with them.")
    ctx.out.next(f"lora-studio grid bring-back FOLDER --grid {spec.id}")
    return Reply(
        {
            "project": project.slug,
            "grid": spec.id,
            "folder": str(saved.folder),
            "workflows": [str(p) for p in saved.workflows],
            "cells": saved.cells,
            "there": saved.there,
        }
    )
