"""What a job is asked to do, the states it can be in, and how far it says it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

from studio.errors import InputError
from studio.files import human_span
from studio.jobs.environment import is_secret_name

State = Literal["starting", "running", "stopping", "finished", "failed", "stopped", "interrupted"]
ALIVE: frozenset[str] = frozenset({"starting", "running", "stopping"})
STATE_WORDS: dict[str, str] = {
    "starting": "Starting",
    "running": "Running",
    "stopping": "Stopping, saving what is there",
    "finished": "Finished",
    "failed": "Failed",
    "stopped": "Stopped",
    "interrupted": "Interrupted",
}


@dataclass(frozen=True)
class JobSpec:
    """What to run.

    kind:    short machine name, such as `training`, `dry-run`, `grid`, `import`, `scan`.
    title:   one line for people.
    command: program and arguments; one that starts with `sys.executable` finds the `studio` package.
    env:     variables on top of the allow-list; secrets are refused here, since this is written to disk.
    cwd:     working folder; the job folder when None.
    project: slug of the project that it belongs to.
    stop_grace_s: seconds that the worker gets to save after being asked to stop, before it is ended by force.
    secrets: names of variables that are handed from the launcher's environment to the job without being written.
    """

    kind: str
    title: str
    command: list[str]
    env: dict[str, str] = field(default_factory=dict)
    cwd: str | None = None
    project: str | None = None
    stop_grace_s: float = 60.0
    secrets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.command:
            raise InputError("The job has no command.", "There is nothing to run.", "Name a program.")
        open_secrets = [n for n in self.env if is_secret_name(n)]
        if open_secrets:
            raise InputError(
                f"{', '.join(open_secrets)} cannot be passed in the job's env.",
                "The job's description is written to disk, where a secret does not belong.",
                "Name the variable in `secrets`; its value is then handed on without being written.",
            )

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "secrets": list(self.secrets)}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> JobSpec:
        """From `job.json`; keys of other meaning are left alone. Raises InputError when something is missing."""
        known = {f.name for f in fields(cls)}
        try:
            spec = cls(**{k: v for k, v in raw.items() if k in known})
            return cls(
                **{**asdict(spec), "command": [str(c) for c in spec.command], "secrets": tuple(spec.secrets)}
            )
        except TypeError as e:
            raise InputError(
                "job.json cannot be used.", f"{e}.", "The job's description was damaged; start the job anew."
            ) from e


@dataclass(frozen=True)
class Progress:
    """How far a job is.

    fraction: 0 to 1, or None when the whole is not known. done / total: in `unit` (such as "steps", "pictures").
    eta_seconds: forecast from the recent pace, measured with a clock that nobody can set; None when unknown.
    eta_between: the least and the most of it while the pace is not steady, such as when the computer's load changes.
    elapsed_seconds: since the worker began this attempt. updated: wall clock, seconds since 1970.
    step, epoch, epochs, loss, stage: given by training; others in `extra`.
    """

    fraction: float | None = None
    done: float = 0
    total: float | None = None
    unit: str = ""
    message: str = ""
    eta_seconds: float | None = None
    eta_between: Sequence[float] | None = None
    elapsed_seconds: float = 0.0
    updated: float = 0.0
    stage: str = ""
    step: int | None = None
    epoch: int | None = None
    epochs: int | None = None
    loss: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def left(self) -> str:
        """The time left in words, `about 3 min left` or `about 3 to 5 min left`; empty while it is not known, or nothing."""
        if not self.eta_seconds or self.eta_seconds < 0.5:
            return ""
        return f"about {human_span(*(self.eta_between or (self.eta_seconds, self.eta_seconds)))} left"
