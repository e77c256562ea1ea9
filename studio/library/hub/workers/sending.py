"""The job that publishes a LoRA: stage, make the repository, send, commit. It sends what was agreed to, or nothing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.answers import Passing
from studio.errors import InputError
from studio.library.entry import LibraryEntry, get_entry
from studio.library.hub.publication import publication, published, stage
from studio.library.hub.workers.talk import Conflict, Hub, Upload, uploads_of
from studio.secrets import HUGGING_FACE
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker

_MEGA = 1_000_000


def publish_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """Publish; the result names the repository's address and the commit."""
    workspace = Workspace(Path(payload["workspace"]))
    entry = get_entry(workspace, payload["lora"])
    repo, private, most = str(payload["repo"]), bool(payload["private"]), int(payload["most_pictures"])
    worker.progress(0, None, "", "Putting it together")
    what = publication(
        workspace, entry, repo, private=private, licence=payload["licence"], leave_out=payload["leave_out"], most_pictures=most
    )  # fmt: skip
    if what.fingerprint != payload["fingerprint"]:
        raise InputError("What would be sent has changed since you looked at it.", "Only what was looked at is sent.",
                         "Look at it again, then publish.")  # fmt: skip
    uploads = uploads_of(stage(workspace, entry, what, Path(worker.folder) / "outgoing", most))
    total, sent = sum(u.size for u in uploads), 0

    def said(count: int) -> None:
        nonlocal sent
        sent += count
        worker.progress(min(sent, total) / _MEGA, total / _MEGA, "MB", "Sending")

    hub = Hub(str(payload["hub"]), os.environ.get(HUGGING_FACE, ""), payload["allow"], worker, said)
    try:
        parent = _ready(hub, repo, private, update=bool(payload["update"]) or _ours(workspace, entry, repo))
        modes = hub.modes(repo, uploads)
        large = [u for u in uploads if modes.get(u.path) == "lfs"]
        small = [u for u in uploads if modes.get(u.path) != "lfs"]
        if large:
            hub.send_large(repo, large)
        worker.check()
        worker.progress(total / _MEGA, total / _MEGA, "MB", "Writing the commit")
        done = _commit(hub, repo, entry, small, large, parent)
    finally:
        hub.close()
    result = {"repo": repo, "url": f"{hub.base}/{repo}", "commit": done, "private": private, "files": [u.path for u in uploads]}  # fmt: skip
    files.write_json(
        entry.folder(workspace) / "published.json",
        [*published(workspace, entry), {**result, "at": files.now()}],
    )
    return result


def _ready(hub: Hub, repo: str, private: bool, *, update: bool) -> str:
    """A repository to write into, made when there is none; the id of its last commit. Nothing is sent before its visibility is
    known to be the one that was agreed to."""
    hub.whoami()
    there = hub.info(repo)
    if there is not None and not update:
        raise InputError(
            f"There is a repository called {repo} already.",
            "It may hold something else, and its files of the same names would be replaced.",
            "Choose another name, or say that it shall be updated.",
        )
    if there is None:
        try:
            hub.create(repo, private)
        except Conflict as e:
            raise InputError(
                f"There is a repository called {repo} already.", e.why, "Choose another name."
            ) from e
        there = hub.info(repo)
    if there is None:
        raise InputError(f"{repo} was made, but cannot be read.", "The token may write, but not read there.", "Use a token that may do both.")  # fmt: skip
    if private and there.get("private") is not True:
        raise InputError(
            f"{repo} can be seen by everybody.",
            "You chose to publish privately; nothing was sent.",
            "Make it private on the hub first, choose another name, or publish openly.",
        )
    return str(there.get("sha") or "")


def _commit(
    hub: Hub, repo: str, entry: LibraryEntry, small: list[Upload], large: list[Upload], parent: str
) -> str:
    try:
        done = hub.commit(repo, f"{entry.title}: LoRA, card and pictures", small, large, parent)
        return str(done.get("commitOid") or "")
    except Passing:
        # The line broke after everything was sent: the repository itself knows whether the commit was made.
        now = str((hub.info(repo) or {}).get("sha") or "")
        if now and now != parent:
            return now
        raise


def _ours(workspace: Workspace, entry: LibraryEntry, repo: str) -> bool:
    return any(x.get("repo") == repo for x in published(workspace, entry))
