"""When a picture is called otherwise: what is known under its name goes along."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from studio.captions.store import CaptionStore
from studio.dataset import origins

if TYPE_CHECKING:
    from studio.project import Project


def carry_along(project: Project, names: Mapping[str, str]) -> None:
    """Pictures are called otherwise now (old name -> new name). Their captions' author, approval and history, their
    own repeats and the mark as regularisation pictures go along; the caption file itself is moved by the caller.

    Told twice it does nothing, so that whoever finishes the work of a killed process may tell it again. Needs the
    dataset lock. Raises BusyError, EnvironmentalError.
    """
    if names:
        origins.renamed(project, names)
        CaptionStore(project).renamed(names)
