"""The renderers that the studio knows."""

from __future__ import annotations

from studio.errors import NotFoundError
from studio.evaluation.base import Renderer
from studio.evaluation.comfy import ComfyUIRenderer
from studio.evaluation.diffusers import DiffusersRenderer

_RENDERERS: dict[str, Renderer] = {r.id: r for r in (DiffusersRenderer(), ComfyUIRenderer())}


def renderers() -> list[Renderer]:
    """All renderers, the built-in one first."""
    return list(_RENDERERS.values())


def get_renderer(renderer_id: str) -> Renderer:
    """The renderer of an id. Raises NotFoundError naming those that exist."""
    try:
        return _RENDERERS[renderer_id]
    except KeyError:
        raise NotFoundError(
            f"There is no renderer called '{renderer_id}'.",
            "Grids can only be drawn by an engine that the studio knows.",
            f"Use one of: {', '.join(_RENDERERS)}.",
        ) from None
