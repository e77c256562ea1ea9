"""Publishing to a hub that speaks the real protocol: what is shown first, what is sent, and everything that can go wrong."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image

from studio import files
from studio.errors import BusyError, InputError, NotFoundError, StudioError
from studio.jobs.lifeline import JobStopped
from studio.library.entry import LibraryEntry
from studio.library.hub import licences, publication, tasks
from studio.library.hub.publication import checked_repo, published
from studio.library.hub.workers import talk
from studio.library.hub.workers.sending import publish_job
from studio.library.register import register
from studio.lora.file import metadata_of
from studio.workspace import Workspace
from tests.fakes.hub_server import State, serving
from tests.pages import worlds

TOKEN = "hf_right-token-of-ann"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A workspace with one evaluated LoRA, for SDXL as far as its entry says."""
    root = tmp_path_factory.mktemp("published")
    workspace = Workspace(root)
    project = worlds.project(workspace, worlds.pictures(root / "in"))
    run = worlds.run(project)
    entry = register(
        project, worlds.grid(project, run), run, weight=0.7, good_for="plans | of <things>", leave_out=[]
    )
    path = entry.folder(workspace) / "entry.json"
    files.write_json(
        path, {**files.read_json(path), "family": "sdxl", "base_model": "sdxl", "base_title": "SDXL"}
    )
    return root, entry.slug


@pytest.fixture
def entry(made: tuple[Path, str], monkeypatch: pytest.MonkeyPatch) -> LibraryEntry:
    from studio.library.entry import get_entry

    monkeypatch.setenv("HF_TOKEN", TOKEN)
    root, slug = made
    (root / "library" / slug / "published.json").unlink(missing_ok=True)
    return get_entry(Workspace(root), slug)


@pytest.fixture
def ws(made: tuple[Path, str]) -> Workspace:
    return Workspace(made[0])


@pytest.fixture
def hub() -> Iterator[State]:
    with serving() as state:
        yield state


class Worker:
    """A worker without a process: waits cost nothing and are noted."""

    def __init__(self, folder: Path, stop_after: int = 10**9) -> None:
        self.folder, self.left, self.waits, self.said = folder, stop_after, [], []  # type: ignore[var-annotated]

    def check(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise JobStopped

    def sleep(self, seconds: float) -> bool:
        self.waits.append(seconds)
        return False

    def progress(self, done: float, total: float | None = None, *_: Any) -> None:
        self.said.append((done, total))


def payload(ws: Workspace, entry: LibraryEntry, hub: State, **changes: Any) -> dict[str, Any]:
    told: dict[str, Any] = {
        "repo": "ann/blue",
        "private": True,
        "licence": "",
        "leave_out": None,
        "most_pictures": 2,
        **changes,
    }
    what = publication.publication(
        ws, entry, told["repo"], private=told["private"], licence=told["licence"], leave_out=told["leave_out"],
        most_pictures=told["most_pictures"],
    )  # fmt: skip
    return {"workspace": str(ws.root), "lora": entry.slug, "update": False, "fingerprint": what.fingerprint, "hub": hub.hub,
            "allow": [hub.hub, hub.storage], **told}  # fmt: skip


def send(
    ws: Workspace,
    entry: LibraryEntry,
    hub: State,
    tmp_path: Path,
    worker: Worker | None = None,
    **changes: Any,
) -> dict[str, Any]:
    worker = worker or Worker(tmp_path)
    return publish_job(worker, payload(ws, entry, hub, **changes))  # type: ignore[arg-type]


def test_everything_is_shown_before_anything_is_sent(ws: Workspace, entry: LibraryEntry, hub: State) -> None:
    what = publication.publication(ws, entry, "ann/blue", most_pictures=2)
    assert hub.requests == [], "no server is asked"
    _, head, text = what.card.split("---\n", 2)
    told = yaml.safe_load(head)
    assert (
        told["license"] == "openrail++" and told["base_model"] == "stabilityai/stable-diffusion-xl-base-1.0"
    )
    assert told["instance_prompt"] == "bluprnt" and told["base_model_relation"] == "adapter"
    assert [w["output"]["url"] for w in told["widget"]] == ["images/01.png", "images/02.png"]
    assert told["widget"][0]["text"].startswith("bluprnt") and "template:sd-lora" in told["tags"]
    assert "StableDiffusionXLPipeline" in text and 'set_adapters("lora", 0.7)' in text
    assert "plans | of \\<things\\>" in text, "words of the user open no tag on the card"
    assert what.private and {"folders", "paths"} <= set(what.left_out)
    assert [f.path for f in what.files] == [
        "README.md",
        f"{entry.name}.safetensors",
        "images/01.png",
        "images/02.png",
    ]
    open_one = publication.publication(ws, entry, "ann/blue", private=False, most_pictures=2)
    assert open_one.fingerprint != what.fingerprint and open_one.cautions[0].code == "hub-public"


def test_what_was_shown_is_what_arrives(
    ws: Workspace, entry: LibraryEntry, hub: State, tmp_path: Path
) -> None:
    what = publication.publication(ws, entry, "ann/blue", most_pictures=2)
    worker = Worker(tmp_path)
    result = send(ws, entry, hub, tmp_path, worker)
    repo = hub.repos["ann/blue"]
    assert {p: len(c) for p, c in repo["files"].items()} == {f.path: f.size for f in what.files}
    assert repo["private"] is True and repo["commits"] == ["Blueprint: LoRA, card and pictures"]
    assert repo["files"]["README.md"].decode() == what.card
    sent = tmp_path / "sent.safetensors"
    sent.write_bytes(repo["files"][f"{entry.name}.safetensors"])
    assert metadata_of(sent)["modelspec.trigger_phrase"] == "bluprnt"
    body = entry.file(ws).read_bytes()
    assert sent.read_bytes().endswith(body[8 + int.from_bytes(body[:8], "little") :]), (
        "the tensors, byte for byte"
    )
    with Image.open(io.BytesIO(repo["files"]["images/01.png"])) as picture:
        assert not picture.info, "what the drawing noted in the picture stays here"
    assert result["url"] == f"{hub.hub}/ann/blue" and result["commit"] == repo["sha"]
    assert [x["repo"] for x in published(ws, entry)] == ["ann/blue"]
    assert worker.said[-1][0] == pytest.approx(what.size_bytes / 1e6)
    again = send(ws, entry, hub, tmp_path)
    assert again["commit"] == hub.repos["ann/blue"]["sha"] and hub.commits == 2, (
        "its own repository may be updated"
    )


def test_the_token_goes_to_the_hub_only(
    ws: Workspace, entry: LibraryEntry, hub: State, tmp_path: Path
) -> None:
    send(ws, entry, hub, tmp_path)
    puts = [h for m, _p, h in hub.requests if m == "PUT"]
    assert len(puts) == 3 and not any("authorization" in h for h in puts)
    assert all("authorization" in h for m, p, h in hub.requests if m != "PUT")
    left = [p for p in tmp_path.rglob("*") if p.is_file()] + [
        p for p in entry.folder(ws).rglob("*") if p.is_file()
    ]
    assert left and not any(TOKEN.encode() in p.read_bytes() for p in left)


def test_large_files_go_up_in_parts(ws: Workspace, entry: LibraryEntry, hub: State, tmp_path: Path) -> None:
    hub.part = 300
    send(ws, entry, hub, tmp_path)
    assert any("/complete/" in p for _m, p, _h in hub.requests)
    assert entry.name + ".safetensors" in hub.repos["ann/blue"]["files"]
    seen = len(hub.requests)
    send(ws, entry, hub, tmp_path)
    assert not any(m == "PUT" for m, _p, _h in hub.requests[seen:]), "what the hub has is not sent again"


FAULTS: list[
    tuple[dict[tuple[str, str], list[tuple[int, dict[str, str], bytes]]], type[StudioError], str]
] = [
    ({("GET", "whoami"): [(401, {}, b'{"error": "Invalid token"}')]}, InputError, "does not know this token"),
    ({("POST", "repos/create"): [(403, {}, b'{"error": "no right"}')]}, InputError, "may not write there"),
    (
        {("POST", "preupload"): [(403, {"x-error-message": "read token"}, b"")]},
        InputError,
        "may not write there",
    ),
    (
        {("POST", "repos/create"): [(409, {}, b'{"error": "You already created this model repo"}')]},
        InputError,
        "already",
    ),
    (
        {("POST", "commit"): [(412, {}, b'{"error": "A commit has happened since."}')]},
        BusyError,
        "not as expected",
    ),
    ({("PUT", "/"): [(413, {}, b"")]}, InputError, "too large"),
    ({("POST", "commit"): [(413, {}, b"<html>")]}, InputError, "too large"),
    ({("POST", "preupload"): [(429, {"retry-after": "7"}, b"")] * 5}, BusyError, "asks to wait"),
    ({("POST", "lfs/objects"): [(503, {}, b"")] * 5}, StudioError, "cannot answer just now"),
    (
        {("POST", "preupload"): [(404, {}, b'{"error": "Repository not found"}')]},
        NotFoundError,
        "no such place",
    ),
    ({("POST", "preupload"): [(307, {"location": "/elsewhere"}, b"")]}, NotFoundError, "moved"),
    ({("POST", "preupload"): [(200, {}, b"<html>hello</html>")]}, InputError, "not understood"),
    ({("POST", "preupload"): [(400, {}, b'{"error": "bad path"}')]}, InputError, "does not take it"),
]


@pytest.mark.parametrize(("faults", "error", "said"), FAULTS)
def test_what_the_hub_refuses_is_said_in_words(
    ws: Workspace,
    entry: LibraryEntry,
    hub: State,
    tmp_path: Path,
    faults: Any,
    error: type[StudioError],
    said: str,
) -> None:
    hub.faults = {k: list(v) for k, v in faults.items()}
    with pytest.raises(error, match=said) as told:
        send(ws, entry, hub, tmp_path)
    assert told.value.what and told.value.why and told.value.fix and TOKEN not in str(told.value)
    assert hub.commits == 0 and published(ws, entry) == []


def test_a_busy_hub_is_asked_again_after_the_time_it_names(
    ws: Workspace, entry: LibraryEntry, hub: State, tmp_path: Path
) -> None:
    hub.faults = {("POST", "preupload"): [(429, {"retry-after": "17"}, b"")], ("PUT", "/"): [(500, {}, b""), (0, {}, b"")],
                  ("POST", "commit"): [(503, {}, b"")]}  # fmt: skip
    worker = Worker(tmp_path)
    send(ws, entry, hub, tmp_path, worker)
    assert hub.commits == 1 and worker.waits[0] == 17


def test_a_commit_whose_answer_was_lost_is_not_made_twice(
    ws: Workspace, entry: LibraryEntry, hub: State, tmp_path: Path
) -> None:
    hub.faults = {("POST", "commit"): [(0, {}, b"")]}
    with pytest.raises(talk.Passing):
        send(ws, entry, hub, tmp_path)
    assert hub.commits == 0, "it was not made, and that is said"
    assert sum("commit" in p for _m, p, _h in hub.requests) == 1


def test_stopping_leaves_nothing_published(
    ws: Workspace, entry: LibraryEntry, hub: State, tmp_path: Path
) -> None:
    for after in range(6):
        with pytest.raises(JobStopped):
            send(ws, entry, hub, tmp_path, Worker(tmp_path, stop_after=after), update=True)
    assert hub.commits == 0 and published(ws, entry) == []


def test_a_repository_that_was_there_is_not_written_into_unasked(
    ws: Workspace, entry: LibraryEntry, hub: State, tmp_path: Path
) -> None:
    hub.repo("ann/blue", True, {"mine.txt": b"mine"})
    with pytest.raises(InputError, match="already"):
        send(ws, entry, hub, tmp_path)
    send(ws, entry, hub, tmp_path, update=True)
    assert hub.repos["ann/blue"]["files"]["mine.txt"] == b"mine"
    hub.repo("ann/open", False)
    with pytest.raises(InputError, match="seen by everybody"):
        send(ws, entry, hub, tmp_path, repo="ann/open", update=True)
    assert hub.repos["ann/open"]["files"] == {}


def test_only_what_was_looked_at_is_sent(
    ws: Workspace, entry: LibraryEntry, hub: State, tmp_path: Path
) -> None:
    told = payload(ws, entry, hub)
    with pytest.raises(InputError, match="has changed"):
        publish_job(Worker(tmp_path), {**told, "private": False})  # type: ignore[arg-type]
    assert hub.requests == []
    agreed = publication.publication(ws, entry, "ann/blue", most_pictures=2)
    with pytest.raises(InputError, match="has changed"):
        tasks.start_publish(ws, entry, agreed, most_pictures=1)


def test_without_a_token_nothing_starts(
    ws: Workspace, entry: LibraryEntry, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match="no token") as told:
        tasks.start_publish(ws, entry, publication.publication(ws, entry, "ann/blue"))
    assert "right to write" in told.value.fix
    assert tasks.publish_jobs(ws) == []


@pytest.mark.parametrize(
    "name", ["", "blue", "ann/", "/blue", "ann/blue/x", "ann/blue--x", "ann/..", "ann/blue.git", "an n/blue", "ann/" + "b" * 100, "ann/-x", "ann/ü"]
)  # fmt: skip
def test_names_that_the_hub_would_refuse(name: str) -> None:
    with pytest.raises(InputError, match=r"repository"):
        checked_repo(name)


def test_licences_are_taken_over(ws: Workspace, entry: LibraryEntry) -> None:
    from studio.models import list_models

    for model in list_models(ws):
        found = licences.of_base(model.licence, model.source)
        assert found is not None, model.id
        assert found.id != "other" or (found.name and found.link.startswith("https://")), model.id
    assert licences.of_base("unknown: see where you got it") is None
    mine = entry.model_copy(update={"base_model": "", "base_title": "something"})
    with pytest.raises(InputError, match="Nobody knows the licence"):
        publication.publication(ws, mine, "ann/blue")
    assert publication.publication(ws, mine, "ann/blue", licence="cc-by-4.0").licence.id == "cc-by-4.0"
    with pytest.raises(InputError, match="no licence"):
        publication.publication(ws, mine, "ann/blue", licence="wtf")


CLIENT = """
import sys
from huggingface_hub import CommitOperationAdd, HfApi
api = HfApi(endpoint=sys.argv[1], token=sys.argv[2])
api.create_repo("ann/theirs", private=True)
ops = [CommitOperationAdd("README.md", b"# hello"), CommitOperationAdd("x.safetensors", open(sys.argv[3], "rb"))]
print(api.create_commit("ann/theirs", ops, commit_message="theirs").oid)
"""


@pytest.mark.skipif(not os.environ.get("STUDIO_HUB_CLIENT"), reason="STUDIO_HUB_CLIENT is not set")
@pytest.mark.parametrize("part", [0, 300])
def test_the_stand_in_satisfies_the_hub_s_own_client(
    entry: LibraryEntry, ws: Workspace, hub: State, part: int
) -> None:
    hub.part = part
    env = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "NO_PROXY": "*",
    }
    done = subprocess.run(
        [sys.executable, "-c", CLIENT, hub.hub, TOKEN, str(entry.file(ws))], env=env, capture_output=True, text=True, timeout=120, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == hub.repos["ann/theirs"]["sha"]
    assert hub.repos["ann/theirs"]["files"]["x.safetensors"] == entry.file(ws).read_bytes()


def test_it_runs_as_a_job_that_is_handed_the_token(ws: Workspace, entry: LibraryEntry, hub: State) -> None:
    agreed = publication.publication(ws, entry, "ann/by-job", most_pictures=1)
    job = tasks.start_publish(ws, entry, agreed, most_pictures=1, base=hub.hub, allow=[hub.hub, hub.storage])
    assert job.wait(300) == "finished", job.log_tail()
    assert job.result and job.result["url"] == f"{hub.hub}/ann/by-job" and hub.commits == 1
    assert [j.id for j in tasks.publish_jobs(ws)] == [job.id]
    assert not any(TOKEN.encode() in p.read_bytes() for p in job.folder.rglob("*") if p.is_file())
