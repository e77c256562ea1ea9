"""What a description service offers: asked over the network, when somebody wants to choose."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio import secrets
from studio.captions.auto import load
from studio.captions.describe import WordSettings

if TYPE_CHECKING:
    from studio.project import Project


def service_models(project: Project) -> list[str]:
    """The models that the chosen description service has. Asks over the network. Raises StudioError."""
    from studio.captions.workers.endpoint import EndpointEngine

    own = load(project).endpoint
    with secrets.lent(project.workspace, secrets.OPENAI):
        engine = EndpointEngine(own, "", "sentences", WordSettings(), lambda seconds: False)
    with engine as asked:
        return asked.models()
