"""The backends that the studio knows. A new one is one file, and one line here."""

from __future__ import annotations

from functools import lru_cache

from studio.errors import NotFoundError
from studio.training.base import Backend
from studio.training.diffusers import DiffusersBackend
from studio.training.kohya import KohyaBackend
from studio.training.replicate import ReplicateBackend


@lru_cache(maxsize=1)
def _all() -> tuple[Backend, ...]:
    return (DiffusersBackend(), KohyaBackend(), ReplicateBackend())


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


def secrets_of(backend: Backend) -> tuple[str, ...]:
    """Names of the secrets that its jobs are handed; see studio.secrets."""
    return tuple(getattr(backend, "secrets", ()))


def env_of(backend: Backend) -> dict[str, str]:
    """Variables that its jobs get on top of the allow-list."""
    told = getattr(backend, "job_env", None)
    return dict(told()) if told else {}


def is_rented(backend_id: str) -> bool:
    """Whether a backend trains on someone else's computer: its runs leave this one free."""
    return bool(getattr(get_backend(backend_id), "rented", False))
