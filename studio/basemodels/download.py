"""Downloading a base model as a job: one file after the other, gone on with after an interruption, hashes checked."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files, secrets
from studio.answers import NotOpen
from studio.basemodels.fetching import Wanted, fetch
from studio.basemodels.holdings import KIND, downloading, holding, place_of, refuse_full
from studio.errors import BusyError, InputError, NotFoundError
from studio.jobs import locks
from studio.jobs.job import Job
from studio.jobs.launch import launch_call
from studio.models import BaseModelEntry, ModelFile, file_findings, get_model
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker

HUB = "https://huggingface.co"


def hub() -> str:
    """The hub that models come from: Hugging Face, or the mirror named by HF_ENDPOINT, as Hugging Face's own tools take it."""
    return os.environ.get("HF_ENDPOINT", "").strip().rstrip("/") or HUB


def url(file: ModelFile, base: str = HUB) -> str:
    """Where a file lies on a hub."""
    return f"{base}/{file.repo}/resolve/{file.revision}/{file.path}"


def start_download(
    workspace: Workspace, model_id: str, *, base: str = "", allow: Collection[str] = ()
) -> Job:
    """Download what is missing of a base model; goes on where an earlier download stopped.

    base: another hub; allow: origins besides public https ones, for tests and mirrors in a closed network.
    Raises NotFoundError; InputError when there is nothing to download, no room, a file in the way, or a sign-in is needed
    and no token is set; BusyError while another model is being downloaded.
    """
    entry = get_model(workspace, model_id)
    now = holding(workspace, entry)
    if not entry.files:
        raise InputError(
            f"{entry.title} cannot be downloaded here.",
            "It is trained on rented computers; nothing of it is needed here."
            if entry.format == "cloud"
            else "It is yours or built in, so there is nothing to fetch.",
            "Choose another base model, or add a file that you have.",
        )
    if now.state == "ready":
        raise InputError(
            f"{entry.title} is on this computer already.",
            f"It lies in {workspace.models_dir}.",
            "Use it; or remove it first to get it anew.",
        )
    if now.wrong:
        raise InputError(
            f"Another file is in the place of {entry.title}: {', '.join(p.name for p in now.wrong)}.",
            "It has another size than the original: a download by other means that broke off, or another version.",
            f"Move it out of {workspace.models_dir}, or remove it with: lora-studio models remove {entry.id}",
        )
    refuse_full(workspace, now)
    token, _ = secrets.secret_state(workspace, secrets.HUGGING_FACE)
    gated = next((f for f in now.missing if f.gated), None)
    if gated is not None and not token:
        raise sign_in(workspace, entry, gated)
    workspace.models_dir.mkdir(parents=True, exist_ok=True)
    lock = locks.take(workspace.models_dir / ".download.lock", busy="A download is being started right now.")
    try:
        running = downloading(workspace)
        if running is not None:
            raise BusyError(
                f"{running.spec.title} is going on.",
                "One at a time is faster than two that share the line.",
                "Wait until it is here, or stop it; it can be gone on with later.",
            )
        with secrets.lent(workspace, secrets.HUGGING_FACE):
            return launch_call(
                workspace.root / "jobs" / files.new_id(KIND),
                "studio.basemodels.download:download_job",
                {
                    "workspace": str(workspace.root),
                    "model": entry.id,
                    "hub": base or hub(),
                    "allow": list(allow),
                },
                kind=KIND,
                title=f"Download of {entry.title}",
                secrets=(secrets.HUGGING_FACE,),
                stop_grace_s=20.0,
            )
    finally:
        lock.release()


def sign_in(workspace: Workspace, entry: BaseModelEntry, file: ModelFile) -> InputError:
    """How to get at a gated model, step by step."""
    return InputError(
        f"{entry.title} can only be downloaded with a Hugging Face account.",
        "Its makers ask that you accept the licence first. The studio needs a token that says who you are.",
        f"1. Sign in and accept the licence at {HUB}/{file.repo}. 2. Make a token of the kind 'read' at {HUB}/settings/tokens. "
        f"3. Set it as {secrets.HUGGING_FACE}: in the environment, or in {workspace.root / '.streamlit' / 'secrets.toml'} "
        f"below [cloud]. Then download again. Or download {file.name} in the browser and put it into {workspace.models_dir}.",
    )


def download_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the download runs: each file takes its name only when it is whole and its hash is right."""
    workspace = Workspace(Path(payload["workspace"]))
    entry = get_model(workspace, payload["model"])
    base, before, fetched = str(payload["hub"]), 0, 0
    # Smallest first: what is wrong with the account or the line shows in seconds, not after 20 GB.
    for file in sorted(entry.files, key=lambda f: (not f.gated, f.bytes)):
        wanted = Wanted(url(file, base), place_of(workspace, file), file.bytes, file.sha256, _headers(file))
        try:
            came = fetch(worker, wanted, before, entry.download_bytes, payload["allow"])
        except NotOpen as e:
            raise _closed(workspace, entry, file, e.status, bool(_headers(file))) from e
        except NotFoundError as e:
            raise NotFoundError(
                f"{file.name} is not at its place on the hub any more.",
                f"{url(file, base)} does not exist: it was moved, renamed or taken down.",
                f"Look for {file.name} elsewhere and put it into {workspace.models_dir}, or add it by its path.",
            ) from e
        before += file.bytes
        fetched += file.bytes if came else 0
    found = [f for f in file_findings(workspace, entry) if f.severity == "block"]
    if found:
        raise InputError(found[0].what, found[0].why, found[0].fix, found if len(found) > 1 else None)
    return {"model": entry.id, "bytes": fetched, "files": [str(place_of(workspace, f)) for f in entry.files]}


def _headers(file: ModelFile) -> dict[str, str] | None:
    """The token goes along only where it is asked for; remote.py takes it off when the hub leads to another server."""
    token = os.environ.get(secrets.HUGGING_FACE, "").strip()
    return {"authorization": f"Bearer {token}"} if token and file.gated else None


def _closed(
    workspace: Workspace, entry: BaseModelEntry, file: ModelFile, status: int, signed_in: bool
) -> InputError:
    if not signed_in and file.gated:
        return sign_in(workspace, entry, file)
    if not signed_in:
        return InputError(
            f"{file.name} cannot be downloaded without an account any more.",
            f"Its page at {HUB}/{file.repo} was open, and answers {status} now.",
            f"Open that page, do what it asks, download {file.name} in the browser and put it into {workspace.models_dir}.",
        )
    _, where = secrets.secret_state(workspace, secrets.HUGGING_FACE)
    if status == 401:
        return InputError(
            "Hugging Face does not know your token.",
            f"{secrets.HUGGING_FACE} ({where or 'environment'}) was mistyped, has expired or was deleted.",
            f"Make a new token of the kind 'read' at {HUB}/settings/tokens and set it. Then download again.",
        )
    return InputError(
        f"Your Hugging Face account may not download {entry.title} yet.",
        "The licence was not accepted with this account, the request waits for its makers, or the token may not read gated models.",
        f"Open {HUB}/{file.repo} with the account of the token and accept the licence. With a fine-grained token, allow it to "
        "read gated repositories. Then download again.",
    )
