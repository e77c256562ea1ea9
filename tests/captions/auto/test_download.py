"""A tagger comes from the hub: with progress, resumed after a break, and only when its hash is right."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from studio.captions import taggers
from studio.captions.batch import download_of, start_download
from studio.captions.taggers import TaggerEntry, check_folder
from studio.captions.workers.work import download_job
from studio.errors import InputError, NotFoundError
from studio.jobs.lifeline import Worker
from studio.workspace import Workspace
from tests.captions.auto import standin


@contextmanager
def hub(files: dict[str, bytes], break_at: int = 0) -> Iterator[tuple[str, list[str]]]:
    """A hub on loopback that does ranges; with `break_at` the first answer breaks off after so many bytes."""
    seen: list[str] = []
    broken = [break_at]

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            return

        def do_GET(self) -> None:
            name = self.path.rsplit("/", 1)[-1]
            seen.append(f"{self.path} {self.headers.get('range', '')}".strip())
            data = files.get(name)
            if data is None:
                self.send_error(404)
                return
            start = int(self.headers.get("range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("content-range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.send_header("content-length", str(len(data) - start))
            self.send_header("etag", '"mark"')
            self.end_headers()
            until = broken.pop() if broken and broken[0] and name == "model.onnx" else 0
            self.wfile.write(data[start:until] if until else data[start:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The stand-in tagger as an entry of the list."""
    folder = standin.write(tmp_path / "origin")
    content = {n: (folder / n).read_bytes() for n in ("model.onnx", "selected_tags.csv")}
    entry = TaggerEntry(
        id="stand-in", title="Stand-in", repo="someone/stand-in", revision="0" * 40, licence="Apache-2.0", summary="x",
        files={n: {"bytes": len(c), "sha256": hashlib.sha256(c).hexdigest()} for n, c in content.items()},
    )  # fmt: skip
    monkeypatch.setattr(taggers, "downloadable", lambda: (entry,))
    return content


def run(workspace: Workspace, tmp_path: Path, address: str) -> Any:
    payload = {"workspace": str(workspace.root), "tagger": "stand-in", "hub": address, "allow": [address]}
    with Worker(tmp_path / "job") as worker:
        worker._stop.wait = lambda seconds=None: False  # type: ignore[method-assign]
        return download_job(worker, payload)


def test_a_download_that_breaks_off_goes_on(
    workspace: Workspace, tmp_path: Path, served: dict[str, bytes]
) -> None:
    with hub(served, break_at=500) as (address, seen):
        result = run(workspace, tmp_path, address)
    folder = workspace.models_dir / "taggers" / "stand-in"
    assert result["folder"] == str(folder) and result["tags"] == 15
    assert check_folder(folder).side == 448
    path = f"/someone/stand-in/resolve/{'0' * 40}"
    assert seen == [f"{path}/selected_tags.csv", f"{path}/model.onnx", f"{path}/model.onnx bytes=500-"]
    assert taggers.entry("stand-in").is_here(workspace)
    with pytest.raises(InputError, match="already"):
        start_download(workspace, "stand-in")


def test_another_content_is_not_used(workspace: Workspace, tmp_path: Path, served: dict[str, bytes]) -> None:
    wrong = {**served, "model.onnx": served["model.onnx"][:-1] + b"x"}
    with hub(wrong) as (address, _), pytest.raises(InputError, match="not the file that was expected"):
        run(workspace, tmp_path, address)
    assert not (workspace.models_dir / "taggers" / "stand-in" / "model.onnx").exists()
    larger = {**served, "model.onnx": served["model.onnx"] + b"x"}
    with hub(larger) as (address, _), pytest.raises(InputError, match="too large"):
        run(workspace, tmp_path, address)


def test_loopback_is_not_reached_unless_allowed(workspace: Workspace) -> None:
    """The job itself, in its own process, with the shipped list: a hub on loopback is refused without the allow-list."""
    with hub({}) as (address, seen):
        job = start_download(workspace, "wd-vit-v3", hub=address)
        assert job.wait(60) == "failed"
        assert job.error is not None and "https" in job.error["what"]
        assert seen == []
        found = download_of(workspace, "wd-vit-v3")
        assert found is not None and found.id == job.id
        job = start_download(workspace, "wd-vit-v3", hub=address, allow=[address])
        assert job.wait(60) == "failed"
        assert job.error is not None and "not there" in job.error["what"] and len(seen) == 1
    with pytest.raises(NotFoundError):
        start_download(workspace, "nope")
