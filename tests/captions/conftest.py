from __future__ import annotations

import pytest

from studio.models import BaseModelEntry
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace


@pytest.fixture
def project(workspace: Workspace) -> Project:
    """An empty project that teaches a style with the trigger word `mirastyle`."""
    return create_project(workspace, Intent(kind="style", name="Mira", trigger="mirastyle"))


@pytest.fixture
def entry() -> BaseModelEntry:
    """A base model that works at 128 pixels and is not on this computer."""
    return BaseModelEntry(
        id="small", title="Small", family="sd15", format="checkpoint", resolution=128, bucket_step=32
    )
