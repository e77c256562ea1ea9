"""The backends that the studio knows. A new one is one file, and one line here."""

from __future__ import annotations

from functools import lru_cache

from studio.errors import NotFoundError
from studio.training.base import Backend
from studio.training.diffusers import DiffusersBackend


@lru_cache(maxsize=1)
def _all() -> tuple[Backend, ...]:
    return (DiffusersBackend(),)


def backends() -> list[Backend]:
    """All backends, the built-in one first."""
    return list(_all())


def get_backend(backend_id: str) -> Backend:
    """The backend of an id. Raises NotFoundError naming those that exist."""
    for backend in _all():
        if backend.id == backend_id:
            return backend
    raise NotFoundError(
        f"There is no backend called '{backend_id}'.",
        "It is neither built in nor installed.",
        f"Use one of: {', '.join(b.id for b in _all())}.",
    )
