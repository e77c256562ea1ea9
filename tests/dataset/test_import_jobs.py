"""Imports as jobs: from an address, from a browser; stopped, killed at every stage, gone on with."""

from __future__ import annotations

import os
import signal
import threading
import time
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from studio.captions.store import CaptionStore
from studio.dataset.incoming import import_url, incoming_dir, is_url
from studio.dataset.scan import scan
from studio.dataset.tasks import (
    give_up,
    go_on,
    start_fix,
    start_import,
    start_upload_import,
    start_url_import,
    unfinished_import,
)  # fmt: skip
from studio.errors import InputError, NotFoundError
from studio.jobs.job import Job, list_jobs
from studio.project import Project
from tests.dataset.pictures import encoded, folder_of, scene, write
from tests.dataset.test_bars import barred

COUNT = 30


class _Files(BaseHTTPRequestHandler):
    """Serves `content`, with ranges; slowly, so that a job can be caught in the middle."""

    content: bytes = b""
    slow = False
    asked: ClassVar[list[str | None]] = []

    def do_HEAD(self) -> None:
        self._answer(False)

    def do_GET(self) -> None:
        self._answer(True)

    def _answer(self, body: bool) -> None:
        wanted = self.headers.get("Range")
        if body:
            self.asked.append(wanted)
        start = int(wanted.split("=")[1].split("-")[0]) if wanted else 0
        rest = self.content[start:]
        if self.path.startswith("/missing"):
            self.send_error(404)
            return
        if self.path.startswith("/page"):
            rest, wanted = b"<html>Sign in to download</html>", None
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", '"one"')
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{len(self.content) - 1}/{len(self.content)}")
        self.end_headers()
        try:
            for at in range(0, len(rest) if body else 0, 20_000):
                self.wfile.write(rest[at : at + 20_000])
                if self.slow:
                    time.sleep(0.03)
        except OSError:
            pass

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = folder_of(tmp_path_factory.mktemp("z") / "3_set", COUNT, size=(120, 90))
    path = folder.parent / "set.zip"
    with zipfile.ZipFile(path, "w") as z:
        for p in sorted(folder.iterdir()):
            z.write(p, f"3_set/{p.name}")
    return path.read_bytes()


@pytest.fixture
def server(archive: bytes) -> Iterator[tuple[str, type[_Files]]]:
    handler = type("Handler", (_Files,), {"content": archive, "asked": []})
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}", handler
    httpd.shutdown()
    httpd.server_close()


def whole(project: Project) -> None:
    """Every picture and caption of the archive is there, and nothing waits any more."""
    seen = scan(project)
    assert [p.name for p in seen] == [f"p{i:02d}.png" for i in range(COUNT)]
    assert all(p.error is None and p.caption == f"mirastyle, thing{i}" for i, p in enumerate(seen))
    assert not incoming_dir(project).exists()


def test_a_zip_comes_from_an_address(project: Project, server: tuple[str, type[_Files]]) -> None:
    base, _ = server
    told: list[tuple[int, int | None]] = []
    report = import_url(
        project, f"{base}/sets/my%20set.zip?token=x", allow=(base,), fetching=lambda *a: told.append(a)
    )
    assert len(report.added) == COUNT and set(report.repeats.values()) == {3} and told
    whole(project)
    again = import_url(project, f"{base}/sets/my%20set.zip?token=x", allow=(base,))
    assert again.added == [] and len(again.already_there) == COUNT


def test_what_is_no_zip_or_not_to_be_fetched_is_told(
    project: Project, server: tuple[str, type[_Files]]
) -> None:
    base, _ = server
    with pytest.raises(InputError, match="There is no ZIP"):
        import_url(project, f"{base}/page.zip", allow=(base,))
    with pytest.raises(NotFoundError):
        import_url(project, f"{base}/missing.zip", allow=(base,))
    for bad in (f"{base}/x.zip", "http://example.com/a.zip", "https://127.0.0.1/a.zip", "https://u:p@example.com/a.zip",
                "ftp://example.com/a.zip", "file:///etc/passwd", "https://[::1]/a.zip", "https://", "https://169.254.169.254/latest"):  # fmt: skip
        with pytest.raises(InputError):
            start_url_import(project, bad)
    assert list_jobs(project.jobs_dir) == []
    assert is_url("https://x") and is_url("ftp://x") and not is_url("C:\\x") and not is_url("/a/b")


def _until(job: Job, ready: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end and job.is_alive, (job.state, job.error)
        time.sleep(0.005)


def _kill(job: Job) -> None:
    """End supervisor and worker at once, as the computer's switch would."""
    pid = int(job.raw.get("pid") or 0)
    import psutil

    mine = [
        p for p in psutil.process_iter(["cmdline"]) if str(job.folder) in " ".join(p.info["cmdline"] or [])
    ]
    assert mine, pid
    for p in mine:
        os.kill(p.pid, signal.SIGKILL)
    job.wait(20)


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
def test_killed_at_every_stage_the_import_of_an_address_goes_on(
    project: Project, server: tuple[str, type[_Files]], archive: bytes
) -> None:
    base, handler = server
    handler.slow = True
    job = start_url_import(project, f"{base}/set.zip", allow=(base,))
    _until(job, lambda: any(p.stat().st_size > 40_000 for p in incoming_dir(project).rglob("*.part")))
    _kill(job)
    assert job.state == "interrupted" and unfinished_import(project, list_jobs(project.jobs_dir)) is not None
    assert scan(project).pictures == []

    handler.slow = False
    handler.asked.clear()
    job = go_on(job)  # the rest is fetched; killed again while pictures come in
    _until(job, lambda: any(p.suffix == ".tmp" or p.suffix == ".png" for p in project.dataset_dir.iterdir()))
    if job.is_alive:
        _kill(job)
    assert any(r and r != "bytes=0-0" for r in handler.asked), "gone on with, not begun again"
    for path in project.dataset_dir.glob("*.png"):
        assert path.read_bytes() in archive, "no half picture"
    if job.state != "finished":
        job = go_on(job)
        assert job.wait(60) == "finished", job.error
    whole(project)
    assert unfinished_import(project, [job]) is None


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
def test_what_a_browser_sent_waits_until_it_has_come_in(project: Project, archive: bytes) -> None:
    odd = [(f"set/שלום {i}:?.png", encoded(scene(100 + i))) for i in range(3)]
    job = start_upload_import(project, [("my set.zip", archive), *odd, ("set/notes.txt", b"x")])
    _kill(job)
    if job.state != "finished":
        assert any(incoming_dir(project).rglob("*.zip"))
        job = go_on(job)
    assert job.wait(60) == "finished", job.error
    assert len(scan(project)) == COUNT + 3 and not incoming_dir(project).exists()


def test_the_rest_of_a_stopped_import_can_be_left(
    project: Project, archive: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = start_upload_import(project, [("set.zip", archive)])
    job.stop()
    job.wait(30)
    if unfinished_import(project, [job]) is not None:
        give_up(project, job)
    assert unfinished_import(project, [job]) is None and not incoming_dir(project).exists()


def test_many_pictures_are_changed_by_a_job(project: Project, tmp_path: Path) -> None:
    for i in range(3):
        write(project.dataset_dir / f"film{i}.png", barred(scene(i), 0, 20, 0, 20), "mirastyle, film")
    job = start_fix(project, "trim", [f"film{i}.png" for i in range(3)])
    assert job.wait(60) == "finished", job.error
    assert job.result["changed"] == ["film0.png", "film1.png", "film2.png"]
    assert {p.height for p in scan(project)} == {120} and CaptionStore(project).get("film1.png").text
    with pytest.raises(InputError):
        start_import(project, [tmp_path / "absent"])
