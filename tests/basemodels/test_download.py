"""Downloads of base models from a server that behaves as the hub does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio import files
from studio.basemodels import download as d
from studio.basemodels.holdings import holding, remove, words
from studio.errors import BusyError, InputError, NotFoundError
from studio.jobs.lifeline import Worker
from studio.models import file_findings, get_model
from studio.secrets import HUGGING_FACE
from studio.workspace import Workspace
from tests.basemodels.hub import NEWCOMER, TOKEN, Hub, serving
from tests.modelfiles import headers as h


@pytest.fixture(scope="module")
def hub_server() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def hub(hub_server: Hub, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """The hub with a small model of the SDXL family and a gated one that needs three files more; the list names them."""
    monkeypatch.delenv(HUGGING_FACE, raising=False)
    hub_server.files.clear()
    hub_server.asked.clear()
    hub_server.gated = {"lab/flux"}
    hub_server.cuts = 0

    def made(name: str, shapes: h.Shapes) -> bytes:
        small = {
            n: (s if "token_embedding" in n or "conv_in" in n else (1,) * len(s)) for n, s in shapes.items()
        }
        if "token_embedding" in str(shapes):
            small = {n: ((2, 768) if "token_embedding" in n else s) for n, s in small.items()}
        if name == "t5":
            small["encoder.block.0.layer.0.SelfAttention.q.weight"] = (1, 4096)
        return h.write(tmp_path / name, small).read_bytes()

    offered: dict[str, list[dict[str, Any]]] = {
        "sdxl": [hub_server.put("maker/sdxl", "sdxl.safetensors", made("sdxl", h.SDXL))],
        "flux-dev": [
            {**hub_server.put("lab/flux", "flux.safetensors", made("flux", h.FLUX)), "gated": True},
            {
                **hub_server.put("open/encoders", "clip_l.safetensors", made("clip", h.CLIP_L)),
                "part": "clip_l",
            },
            {**hub_server.put("open/encoders", "t5xxl_fp16.safetensors", made("t5", h.T5)), "part": "t5xxl"},
            {**hub_server.put("lab/flux", "ae.safetensors", made("ae", h.AE)), "part": "ae", "gated": True},
        ],
    }
    entries = []
    for model_id, rows in offered.items():
        raw = get_model(workspace, model_id).model_dump(mode="json")
        entries.append({**raw, "files": rows, "size_bytes": rows[0]["bytes"], "sha256": rows[0]["sha256"]})
    files.write_yaml(workspace.models_dir / "models.yaml", {"models": entries})
    return hub_server


def fetch(workspace: Workspace, hub: Hub, model_id: str, tries: int = 1) -> dict[str, Any]:
    """The download in this process, as the job runs it, without waiting between tries."""
    worker = Worker(workspace.root / "jobs" / f"try-{tries}")
    worker.sleep = lambda _seconds: False  # type: ignore[method-assign]
    return d.download_job(worker, {"workspace": str(workspace.root), "model": model_id, "hub": hub.base, "allow": [hub.base]})  # fmt: skip


def test_downloaded_as_a_job_and_removed(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HUGGING_FACE, TOKEN)
    hub.gated.add("maker/sdxl")
    listed = files.read_yaml(workspace.models_dir / "models.yaml")
    listed["models"][0]["files"][0]["gated"] = True
    files.write_yaml(workspace.models_dir / "models.yaml", listed)
    entry = get_model(workspace, "sdxl")
    assert words(holding(workspace, entry)) == "not here"
    job = d.start_download(workspace, "sdxl", base=hub.base, allow=[hub.base])
    assert job.wait(60) == "finished", job.log_tail()
    assert job.result["bytes"] == entry.download_bytes
    for path in workspace.root.rglob("*"):
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes(), f"a secret in {path}"
    assert TOKEN not in " ".join(job.spec.command)
    now = holding(workspace, entry)
    assert now.state == "ready" and file_findings(workspace, entry) == []
    assert entry.location(workspace) == workspace.models_dir / "sdxl.safetensors"
    with pytest.raises(InputError, match="already"):
        d.start_download(workspace, "sdxl", base=hub.base, allow=[hub.base])
    [place] = remove(workspace, "sdxl")
    assert workspace.trash_dir in place.parents and holding(workspace, entry).state == "absent"
    with pytest.raises(NotFoundError, match="Nothing of"):
        remove(workspace, "sdxl")


def test_a_stopped_one_goes_on_where_it_was(workspace: Workspace, hub: Hub) -> None:
    entry, size = get_model(workspace, "sdxl"), get_model(workspace, "sdxl").download_bytes
    hub.cut, hub.cuts = size // 2, 1
    hub.gate.clear()
    job = d.start_download(workspace, "sdxl", base=hub.base, allow=[hub.base])
    end = time.monotonic() + 60
    while holding(workspace, entry).bytes_left > size - size // 2:
        assert time.monotonic() < end and job.is_alive, job.log_tail()
        time.sleep(0.02)
    assert holding(workspace, entry).state == "downloading"
    with pytest.raises(BusyError, match="is going on"):
        d.start_download(workspace, "sdxl", base=hub.base, allow=[hub.base])
    with pytest.raises(BusyError):
        remove(workspace, "sdxl")
    job.stop()
    hub.gate.set()
    assert job.wait(60) == "stopped", job.log_tail()
    now = holding(workspace, entry)
    assert now.state == "partly" and now.bytes_left == size - size // 2
    assert "to go" in words(now)
    assert fetch(workspace, hub, "sdxl")["bytes"] == size
    ranges = [told.get("range") for path, told in hub.asked if path.endswith("sdxl.safetensors")]
    assert ranges[-1] == f"bytes={size // 2}-"
    assert holding(workspace, entry).state == "ready"


def test_a_line_that_breaks_is_taken_up_again(workspace: Workspace, hub: Hub) -> None:
    hub.cut, hub.cuts = 500, 3
    fetch(workspace, hub, "sdxl")
    assert len(hub.asked) == 4
    assert file_findings(workspace, get_model(workspace, "sdxl")) == []


def test_a_gated_bundle(workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="only be downloaded with a Hugging Face account") as told:
        d.start_download(workspace, "flux-dev", base=hub.base, allow=[hub.base])
    assert "huggingface.co/lab/flux" in told.value.fix and "secrets.toml" in told.value.fix
    assert not hub.asked, "nothing is asked for without a token"
    monkeypatch.setenv(HUGGING_FACE, "hf_" + "x" * 34)
    with pytest.raises(InputError, match="does not know your token"):
        fetch(workspace, hub, "flux-dev")
    monkeypatch.setenv(HUGGING_FACE, NEWCOMER)
    with pytest.raises(InputError, match="may not download") as told:
        fetch(workspace, hub, "flux-dev", 2)
    assert "accept the licence" in told.value.fix
    monkeypatch.setenv(HUGGING_FACE, TOKEN)
    done = fetch(workspace, hub, "flux-dev", 3)
    entry = get_model(workspace, "flux-dev")
    assert len(done["files"]) == 4 and entry.missing(workspace) == ()
    assert holding(workspace, entry).state == "ready"
    for path, headers in hub.asked:
        assert ("authorization" in headers) == path.startswith("/lab/"), (
            "the token goes only where it is asked for"
        )


def test_shared_parts_stay_when_one_model_goes(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(HUGGING_FACE, TOKEN)
    fetch(workspace, hub, "flux-dev")
    large = workspace.models_dir / "sd3.5_large.safetensors"
    large.write_bytes(b"")
    kept = {p.name for p in workspace.models_dir.glob("*.safetensors")} - {
        p.name for p in remove(workspace, "flux-dev")
    }
    assert {"clip_l.safetensors", "t5xxl_fp16.safetensors", large.name} <= kept
    large.unlink()
    assert holding(workspace, get_model(workspace, "flux-dev")).state == "absent", (
        "what is shared is no beginning"
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c[:-1] + bytes([c[-1] ^ 1]), "is not the file that was expected"),
        (lambda c: c[:-7], "is not the file that was expected"),
        (lambda c: c + b"more", "too large"),
    ],
)
def test_what_is_another_file_is_not_kept(workspace: Workspace, hub: Hub, spoil: Any, words: str) -> None:
    [path] = [p for p in hub.files if "sdxl" in p]
    hub.files[path] = spoil(hub.files[path])
    with pytest.raises(InputError, match=words):
        fetch(workspace, hub, "sdxl")
    assert not list(workspace.models_dir.glob("sdxl*"))


def test_what_is_gone_and_what_is_closed(workspace: Workspace, hub: Hub) -> None:
    hub.gated.add("maker/sdxl")
    with pytest.raises(InputError, match="without an account any more"):
        fetch(workspace, hub, "sdxl")
    hub.gated.clear()
    hub.files.clear()
    with pytest.raises(NotFoundError, match="not at its place") as told:
        fetch(workspace, hub, "sdxl", 2)
    assert "add it by its path" in told.value.fix


def test_refused_before_anything_is_asked(
    workspace: Workspace, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match="no base model called"):
        d.start_download(workspace, "sdxxl")
    for model_id in ("pocket", "flux"):
        with pytest.raises(InputError, match="cannot be downloaded"):
            d.start_download(workspace, model_id)
        with pytest.raises(InputError, match="not downloaded by the studio"):
            remove(workspace, model_id)
    in_the_way = workspace.models_dir / "sdxl.safetensors"
    in_the_way.write_bytes(b"mine")
    with pytest.raises(InputError, match="Another file is in the place"):
        d.start_download(workspace, "sdxl")
    assert in_the_way.read_bytes() == b"mine"
    in_the_way.unlink()
    monkeypatch.setattr(files, "free_bytes", lambda _: 1_000_000_100)
    with pytest.raises(InputError, match="no room for Stable Diffusion XL"):
        d.start_download(workspace, "sdxl")
    assert not hub.asked


def test_addresses(monkeypatch: pytest.MonkeyPatch, workspace: Workspace) -> None:
    file = get_model(workspace, "noobai").files[0]
    assert (
        d.url(file) == "https://huggingface.co/Laxhar/noobai-XL-1.1/resolve/main/NoobAI-XL-v1.1.safetensors"
    )
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert d.hub() == d.HUB
    monkeypatch.setenv("HF_ENDPOINT", "https://mirror.example/")
    assert d.hub() == "https://mirror.example"
