"""A model that measures comes from a server that behaves as the hub does: broken off, stopped, spoilt, and with a full disk."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from studio import files
from studio.errors import BusyError, EnvironmentalError, InputError, NotFoundError
from studio.evaluation import measuring_models
from studio.evaluation.measuring_download import download_job, download_of, start_download
from studio.evaluation.measuring_models import MeasuringEntry, chosen, entry
from studio.jobs.lifeline import JobStopped, Worker
from studio.workspace import Workspace
from tests.basemodels.hub import Hub, serving
from tests.evaluation.measuring_models import tiny_ccip

NAMES = ("model_feat.onnx", "about.json")
REPO = "lab/tiny-ccip"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a small real model, and one more beside it."""
    folder = tiny_ccip(tmp_path_factory.mktemp("origin") / "ccip")
    (folder / NAMES[1]).write_text('{"threshold": 0.178}', encoding="utf-8")
    return {n: (folder / n).read_bytes() for n in NAMES}


@pytest.fixture(scope="module")
def hub_server() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(hub_server: Hub, made: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub with the model, and a list that names it."""
    hub_server.files.clear()
    hub_server.asked.clear()
    hub_server.cuts = 0
    hub_server.gate.set()
    rows = [hub_server.put(REPO, n, c) for n, c in made.items()]
    offered = MeasuringEntry(
        id="tiny", role="ccip", title="Tiny CCIP", repo=REPO, revision="main", licence="MIT", summary="x",
        files=tuple({k: r[k] for k in ("path", "bytes", "sha256")} for r in rows),
    )  # fmt: skip
    monkeypatch.setattr(measuring_models, "downloadable", lambda: (offered,))
    return hub_server


def worker_of(workspace: Workspace) -> Worker:
    """What the job's process has, without its waiting between tries."""
    worker = Worker(workspace.root / "jobs" / files.new_id("try"))
    worker.sleep = lambda _seconds: worker.should_stop  # type: ignore[method-assign]
    return worker


def fetch(workspace: Workspace, hub: Hub, worker: Worker | None = None) -> dict[str, Any]:
    """The download in this process, as the job runs it."""
    payload = {"workspace": str(workspace.root), "model": "tiny", "hub": hub.base, "allow": [hub.base]}
    return download_job(worker or worker_of(workspace), payload)


def ranges(hub: Hub) -> list[str | None]:
    """What was asked of the weights, one for each try."""
    return [told.get("range") for path, told in hub.asked if path.endswith(NAMES[0])]


def test_a_line_that_breaks_is_taken_up_where_it_was_and_the_model_is_in_use(
    workspace: Workspace, hub: Hub, made: dict[str, bytes]
) -> None:
    hub.cut, hub.cuts = 700, 3  # the small file comes whole in the first answer, the weights break off twice
    told = fetch(workspace, hub)
    folder = workspace.models_dir / "measuring" / "tiny"
    assert ranges(hub) == [None, "bytes=700-", "bytes=1400-"]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == made, "whole, and nothing else lies there"
    assert told == {
        "folder": str(folder), "role": "ccip", "mark": told["mark"], "bytes": sum(len(c) for c in made.values()),
    }  # fmt: skip
    now = chosen(workspace)["ccip"]
    assert now.model is not None and (now.model.folder, now.model.mark) == (folder.resolve(), told["mark"])
    with pytest.raises(InputError, match="on this computer already"):
        start_download(workspace, "tiny")
    with pytest.raises(NotFoundError, match="Use one of: tiny"):
        try:
            start_download(workspace, "dinov3")
        except NotFoundError as e:
            raise NotFoundError(e.fix, "", "") from e


def test_a_stopped_one_keeps_what_came_and_goes_on(
    workspace: Workspace, hub: Hub, made: dict[str, bytes]
) -> None:
    hub.cut, hub.cuts = 700, 2
    stopping = worker_of(workspace)

    def asked_to_stop(
        _seconds: float,
    ) -> bool:  # the line broke off: before the next try somebody stops the job
        stopping._stopping("asked")
        return True

    stopping.sleep = asked_to_stop  # type: ignore[method-assign]
    with pytest.raises(JobStopped):
        fetch(workspace, hub, stopping)
    assert chosen(workspace)["ccip"].state == "absent" and not entry("tiny").is_here(workspace)
    fetch(workspace, hub)
    assert ranges(hub)[0] is None and ranges(hub)[-1] == "bytes=700-", "the weights go on where they were"
    assert sum(path.endswith(NAMES[1]) for path, _ in hub.asked) == 1, "the small file is not asked for again"
    assert chosen(workspace)["ccip"].state == "ready"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "not the file that was expected"),
        (lambda c: c[:-7], "not the file that was expected"),
        (lambda c: c + b"more", "too large"),
    ],
    ids=("one bit", "shorter", "longer"),
)
def test_another_content_is_not_kept_and_not_used(
    workspace: Workspace, hub: Hub, name: str, spoil: Any, words: str
) -> None:
    path = f"/{REPO}/resolve/main/{name}"
    right, hub.files[path] = hub.files[path], spoil(hub.files[path])
    with pytest.raises(InputError, match=words):
        fetch(workspace, hub)
    folder = workspace.models_dir / "measuring" / "tiny"
    assert not list(folder.glob(f"{name}*")), "neither under its name nor as a part to go on with"
    assert chosen(workspace)["ccip"].state == "absent"
    hub.files[path] = right
    fetch(workspace, hub)
    assert chosen(workspace)["ccip"].state == "ready"


def test_a_file_that_is_gone_is_told(workspace: Workspace, hub: Hub) -> None:
    hub.files.clear()
    with pytest.raises(NotFoundError, match=r"about\.json is not there"):
        fetch(workspace, hub)


def test_no_room_is_told_before_and_a_disk_that_fills_up_loses_nothing(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as m:
        m.setattr(files, "free_bytes", lambda _path: 1000)
        with pytest.raises(InputError, match="no room for Tiny CCIP"):
            start_download(workspace, "tiny", base=hub.base, allow=[hub.base])
    assert hub.asked == []
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (1500, hard)
    )  # no file may grow beyond this: the system refuses as a full disk does
    try:
        with pytest.raises(EnvironmentalError, match=r"model_feat\.onnx could not be written") as told:
            fetch(workspace, hub)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Free some room" in told.value.fix and chosen(workspace)["ccip"].state == "absent"
    fetch(workspace, hub)
    last = ranges(hub)[-1]
    assert last is not None and 0 < int(last.removeprefix("bytes=").removesuffix("-")) <= 1500
    assert chosen(workspace)["ccip"].state == "ready"


def test_the_job_itself_is_refused_twice_stopped_and_told_of(workspace: Workspace, hub_server: Hub) -> None:
    """A process of its own with the shipped list: the line breaks off again and again."""
    found = min(entry("dinov2-small").files, key=lambda f: f.bytes)
    hub_server.files = {
        f"/facebook/dinov2-small/resolve/{entry('dinov2-small').revision}/{found.path}": b"x" * found.bytes
    }
    hub_server.asked.clear()
    hub_server.cut, hub_server.cuts = (
        10,
        1000,
    )  # it waits longer and longer between tries, and hears of the stop meanwhile
    job = start_download(workspace, "dinov2-small", base=hub_server.base, allow=[hub_server.base])
    end = time.monotonic() + 60
    while not hub_server.asked:
        assert time.monotonic() < end and job.is_alive, job.log_tail()
        threading.Event().wait(0.02)
    with pytest.raises(BusyError, match="is being downloaded"):
        start_download(workspace, "dinov2-small", base=hub_server.base, allow=[hub_server.base])
    job.stop()
    assert job.wait(60) == "stopped", job.log_tail()
    known = download_of(workspace, "dinov2-small")
    assert known is not None and known.id == job.id and download_of(workspace, "clip-vit-b-32") is None
    assert chosen(workspace)["dino"].state == "absent"
