"""The ComfyUI renderer against a real server, when one is named: see CONTRIBUTING.md.

STUDIO_COMFYUI             its address
STUDIO_COMFYUI_CHECKPOINT  a checkpoint of the SD1.5 family that it has
STUDIO_COMFYUI_LORA        a LoRA file for it
"""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest

from studio.evaluation.comfyui import checking, editor, explain, graphs
from studio.evaluation.comfyui.client import Client
from studio.evaluation.comfyui.servers import Server, tidy
from studio.evaluation.spec import GridLora, GridSpec, lora_content, plan_cells
from tests.evaluation.comfy_world import Drawing, make_spec
from tests.evaluation.conversation import converse, differences, kept
from tests.fakes.comfyui_server import ComfyServer

ADDRESS = os.environ.get("STUDIO_COMFYUI", "")
pytestmark = [
    pytest.mark.skipif(not ADDRESS, reason="set STUDIO_COMFYUI to the address of a real server"),
    pytest.mark.timeout(1200),
]


@pytest.fixture
def real(tmp_path: Path) -> GridSpec:
    lora = Path(os.environ["STUDIO_COMFYUI_LORA"]).resolve()
    return make_spec(
        tmp_path,
        lora_files=(GridLora(path=lora, label="final", content=lora_content(lora)),),
        drawn_with={"checkpoint": os.environ["STUDIO_COMFYUI_CHECKPOINT"]},
        steps=1,
    )


class _There:
    def __init__(self) -> None:
        self.address = tidy(ADDRESS)


def test_a_real_server_draws_a_grid(real: GridSpec) -> None:
    state = checking.look_at(Server(address=tidy(ADDRESS)))
    assert state.is_ready and checking.for_grid(real, state) == []
    with Client(Server(address=tidy(ADDRESS))) as client:
        before = set(client.models("loras"))
    drawing = Drawing(real, _There(), patience=60)  # type: ignore[arg-type]
    for thread in drawing.threads:
        thread.join(1000)
    pictures = drawing.desk.pictures
    assert len(pictures) == 6 and not drawing.desk.failures
    base, full = (next(c for c in plan_cells(real) if c.weight == w) for w in (0.0, 1.0))
    assert pictures[base.hash].tobytes() != pictures[full.hash].tobytes()
    with Client(Server(address=tidy(ADDRESS))) as client:
        assert set(client.models("loras")) == before, "what was put there is taken away"


def test_a_real_server_explains_what_it_refuses(real: GridSpec) -> None:
    made = graphs.build(real, [plan_cells(real)[1]], real.drawn_with, "no.safetensors")
    graph = json.loads(json.dumps(made.graph))
    sampler = next(n for n in graph.values() if n["class_type"] == "KSampler")
    sampler["inputs"] |= {"sampler_name": "nope", "steps": 0}
    with Client(Server(address=tidy(ADDRESS))) as client, pytest.raises(explain.Rejected) as e:
        client.submit(graph)
    assert (
        e.value.missing_lora and "the sampler 'nope'" in e.value.why and "steps is too small" in e.value.why
    )


def test_the_tables_of_the_editor_are_those_of_the_server(real: GridSpec) -> None:
    """Every node has the linked inputs, widgets and outputs that the server tells of it."""
    with Client(Server(address=tidy(ADDRESS))) as client:
        for kind, linked in editor._LINKED.items():
            told = client._told(f"/object_info/{kind}", dict)[kind]
            names = [n for group in ("required", "optional") for n in told["input_order"].get(group, [])]
            widgets = [w for w in editor._WIDGETS.get(kind, ()) if not w.startswith("*")]
            assert [n for n in names if n not in linked] == widgets, kind
            assert [n for n in names if n in linked] == list(linked), kind
            assert list(told["output"]) == list(editor._OUTPUTS[kind]), kind


def test_the_stand_in_answers_as_the_server_does(tmp_path: Path) -> None:
    """The same questions, right and wrong, to both; kept in a file when STUDIO_COMFYUI_KEEP names one."""
    state = checking.look_at(Server(address=tidy(ADDRESS)))
    assert state.lora_folder is not None
    broken = state.lora_folder / "lora-studio-broken.safetensors"
    broken.write_bytes(b"no LoRA")
    try:
        real = converse(tidy(ADDRESS), os.environ["STUDIO_COMFYUI_CHECKPOINT"], broken.name)
    finally:
        broken.unlink()
    if os.environ.get("STUDIO_COMFYUI_KEEP"):
        Path(os.environ["STUDIO_COMFYUI_KEEP"]).write_text(json.dumps(kept(real), indent=1) + "\n")
    (tmp_path / "loras").mkdir()
    (tmp_path / "loras" / "broken.safetensors").write_bytes(b"no LoRA")
    stand_in = ComfyServer(tmp_path / "loras")
    try:
        said = converse(stand_in.address, "tiny_sd15.safetensors", "broken.safetensors")
    finally:
        stand_in.close()
    assert differences(said, real) == []


def test_stopping_leaves_the_server_idle(real: GridSpec) -> None:
    drawing = Drawing(real.model_copy(update={"steps": 150, "seeds": (991,)}), _There(), patience=60)  # type: ignore[arg-type]
    threading.Event().wait(2)
    drawing.stop.set()
    drawing.wait()
    with Client(Server(address=tidy(ADDRESS))) as client:
        mine = set(client.queued())
        for _ in range(600):
            if not mine:
                break
            threading.Event().wait(0.2)
            mine = set(client.queued())
    assert not mine
