"""Sending a publication as a job: it can be watched and stopped, and sends nothing but what was looked at."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from studio import files, secrets
from studio.basemodels.download import HUB, hub
from studio.errors import InputError
from studio.jobs.job import Job, list_jobs
from studio.jobs.launch import launch_call
from studio.library.entry import LibraryEntry
from studio.library.hub.publication import Publication, publication
from studio.workspace import Workspace

KIND = "publish"


def publish_jobs(workspace: Workspace) -> list[Job]:
    """Jobs that published or publish something, newest first."""
    return [j for j in list_jobs(workspace.root / "jobs") if j.spec.kind == KIND]


def token_state(workspace: Workspace) -> tuple[bool, str]:
    """Whether a token for the hub is set, and where; never its value."""
    return secrets.secret_state(workspace, secrets.HUGGING_FACE)


def need_token(workspace: Workspace) -> None:
    """Raises InputError with the steps to a token when none is set."""
    if not token_state(workspace)[0]:
        raise InputError(
            "There is no token for the hub.",
            "It says who you are, and that this program may write into your account.",
            f"1. Make a token with the right to write at {HUB}/settings/tokens. 2. Set it as {secrets.HUGGING_FACE}: in the environment, "
            f"in the system's keyring, or in {workspace.root / '.streamlit' / 'secrets.toml'} below [cloud]. Then publish again.",
        )


def start_publish(
    workspace: Workspace,
    entry: LibraryEntry,
    agreed: Publication,
    *,
    licence: str = "",
    leave_out: Iterable[str] | None = None,
    most_pictures: int = 4,
    update: bool = False,
    base: str = "",
    allow: Collection[str] = (),
) -> Job:
    """Send what was looked at and agreed to.

    agreed: from `publication`, made with the same `licence`, `leave_out` and `most_pictures`. update: write into a repository that
    is there already, even one that was not made here. base: another hub; allow: origins besides public https ones, for tests and
    mirrors in a closed network.
    Raises InputError when no token is set, or when what would be sent is not what was agreed to any more.
    """
    need_token(workspace)
    groups = list(leave_out) if leave_out is not None else None
    now = publication(workspace, entry, agreed.repo, private=agreed.private, licence=licence, leave_out=groups, most_pictures=most_pictures)  # fmt: skip
    if now.fingerprint != agreed.fingerprint:
        raise InputError(
            "What would be sent has changed since you looked at it.",
            "The file, its pictures or the choices are not the same any more, and only what was looked at is sent.",
            "Look at it again, then publish.",
        )
    with secrets.lent(workspace, secrets.HUGGING_FACE):
        return launch_call(
            workspace.root / "jobs" / files.new_id(KIND),
            "studio.library.hub.workers.sending:publish_job",
            {
                "workspace": str(workspace.root),
                "lora": entry.slug,
                "repo": agreed.repo,
                "private": agreed.private,
                "licence": licence,
                "leave_out": groups,
                "most_pictures": most_pictures,
                "update": update,
                "fingerprint": agreed.fingerprint,
                "hub": base or hub(),
                "allow": list(allow),
            },
            kind=KIND,
            title=f"Publishing {entry.title} as {agreed.repo}",
            secrets=(secrets.HUGGING_FACE,),
            stop_grace_s=20.0,
        )
