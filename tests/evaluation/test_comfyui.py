"""The ComfyUI renderer against the stand-in: checks, and all that servers do to a grid in the middle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.errors import EnvironmentalError
from studio.evaluation.comfyui import checking, explain, graphs, placing
from studio.evaluation.comfyui.client import Away, Client, NotComfyError
from studio.evaluation.comfyui.servers import Server
from studio.evaluation.spec import GridSpec, plan_cells
from studio.findings import blocking
from tests.evaluation.comfy_world import Drawing, make_spec, until
from tests.evaluation.conversation import converse, differences, recorded
from tests.fakes.comfyui_server import ComfyServer


@pytest.fixture
def comfy(tmp_path: Path) -> Iterator[ComfyServer]:
    (tmp_path / "loras").mkdir()
    server = ComfyServer(tmp_path / "loras")
    yield server
    server.close()


@pytest.fixture
def spec(tmp_path: Path) -> GridSpec:
    return make_spec(tmp_path)


# --- The stand-in itself


def test_the_stand_in_answers_as_a_real_server_did(comfy: ComfyServer) -> None:
    """`comfyui_talk.json` is what ComfyUI 0.27 answered to the same questions; test_comfyui_real.py keeps it anew."""
    (comfy.lora_folder / "broken.safetensors").write_bytes(b"no LoRA")
    said = converse(comfy.address, comfy.checkpoints[0], "broken.safetensors")
    assert differences(said, recorded(Path(__file__).with_name("comfyui_talk.json"))) == []


# --- Checking


def test_a_server_is_looked_at(comfy: ComfyServer, spec: GridSpec) -> None:
    state = checking.look_at(Server(address=comfy.address))
    assert state.is_ready and state.version == "0.27.0" and state.lora_folder == comfy.lora_folder
    assert checking.for_grid(spec, state) == []
    comfy.nodes.discard("KSampler")
    other = spec.model_copy(update={"drawn_with": {"checkpoint": "other.safetensors"}})
    assert {f.code for f in checking.for_grid(other, state)} == {"comfyui-nodes", "comfyui-model"}
    for version, code in (
        ("0.3.30", "comfyui-older"),
        ("0.31.2", "comfyui-newer"),
        ("1.0.0", "comfyui-newer"),
    ):
        comfy.version = version
        newly = checking.look_at(Server(address=comfy.address))
        assert newly.is_ready and [f.code for f in newly.findings] == [code] and newly.findings[0].fix
    comfy.version = "0.2.1"
    assert [f.code for f in blocking(checking.look_at(Server(address=comfy.address)).findings)] == [
        "comfyui-old"
    ]


def test_a_folder_out_of_reach_is_told_with_the_very_name(comfy: ComfyServer, spec: GridSpec) -> None:
    comfy.tells_folders = False
    state = checking.look_at(Server(address=comfy.address))
    found = checking.for_grid(spec, state)
    name = placing.unique_name(spec.lora_files[0])
    assert [f.code for f in found] == ["comfyui-lora"] and name in found[0].fix
    (comfy.lora_folder / "sub").mkdir()
    (comfy.lora_folder / "sub" / name).write_bytes(b"weights")
    assert checking.for_grid(spec, state) == []


def test_nobody_answers_or_somebody_else(tmp_path: Path, comfy: ComfyServer) -> None:
    comfy.stop()
    with Client(Server(address=comfy.address)) as client, pytest.raises(Away):
        client.stats()
    assert [f.code for f in checking.look_at(Server(address=comfy.address)).findings] == ["comfyui-away"]
    comfy.start()
    odd: list[tuple[int, Any]] = [
        (404, None),
        (200, []),
        (200, {"system": "x"}),
        (200, {"system": {}, "devices": 5}),
        (302, None),
    ]
    for answer in [*odd, (401, None), (200, {"system": {}, "devices": ["cpu"]})]:
        comfy.get = lambda _p, _q, a=answer: a  # type: ignore[method-assign,misc]
        with Client(Server(address=comfy.address)) as client, pytest.raises(NotComfyError) as e:
            client.stats()
        assert e.value.what and e.value.why and e.value.fix


# --- Drawing


def test_a_grid_is_drawn_and_leaves_nothing_behind(comfy: ComfyServer, spec: GridSpec) -> None:
    desk = Drawing(spec, comfy).wait()
    assert len(desk.pictures) == 6 and not desk.failures
    assert all(p.size == (64, 64) for p in desk.pictures.values())
    used = {
        n["inputs"]["lora_name"]
        for g in comfy.submitted
        for n in g.values()
        if n["class_type"] == "LoraLoader"
    }
    assert used == {"lora-studio/my-style-00112233445566ff.safetensors"}
    assert comfy.loras() == [] and comfy.queue() == {"queue_running": [], "queue_pending": []}


def test_two_servers_share_a_grid(comfy: ComfyServer, spec: GridSpec, tmp_path: Path) -> None:
    other = ComfyServer(tmp_path / "loras")
    try:
        comfy.hold = other.hold = 0
        drawing = Drawing(spec, comfy, other)
        until(lambda: len(comfy.submitted) == len(other.submitted) == 2)
        comfy.hold = other.hold = None
        desk = drawing.wait()
    finally:
        other.close()
    assert len(desk.pictures) == 6 and len(set(desk.by.values())) == 2


def test_a_server_started_anew_in_the_middle(comfy: ComfyServer, spec: GridSpec) -> None:
    """What was in its queue is drawn all the same, nothing twice, and the socket is dialled again."""
    comfy.hold = 2
    drawing = Drawing(spec, comfy)
    until(lambda: len(drawing.desk.pictures) == 2 and comfy.queue()["queue_pending"])
    comfy.stop()
    comfy.hold = None
    until(lambda: any("does not answer" in n for n in drawing.desk.notes))
    comfy.start()
    desk = drawing.wait()
    assert len(desk.pictures) == 6 and not desk.failures
    assert any("lost a picture" in n for n in desk.notes) and any("answers again" in n for n in desk.notes)


def test_a_dropped_socket_costs_nothing(comfy: ComfyServer, spec: GridSpec) -> None:
    comfy.hold = 1
    drawing = Drawing(spec, comfy)
    until(lambda: len(drawing.desk.pictures) == 1 and comfy.sockets_opened)
    assert comfy.drop_sockets() == 1
    until(lambda: comfy.sockets_opened == 2)
    comfy.hold = None
    desk = drawing.wait()
    assert len(desk.pictures) == 6 and any("dropped" in n for n in desk.notes)


def test_a_server_that_stays_away_leaves_its_cells_to_the_others(
    comfy: ComfyServer, spec: GridSpec, tmp_path: Path
) -> None:
    other = ComfyServer(tmp_path / "loras")
    try:
        comfy.hold = other.hold = 0  # or the other one may draw them all before this one has asked for any
        drawing = Drawing(spec, comfy, other, patience=0.2)
        until(lambda: len(comfy.submitted) == 2)
        other.hold = None
        comfy.stop()
        desk = drawing.wait()
    finally:
        other.close()
    assert len(desk.pictures) == 6 and set(desk.by.values()) == {other.address.partition("//")[2]}
    assert isinstance(drawing.board.lost[comfy.address.partition("//")[2]], Away)


def test_alone_and_away_the_rest_stays_for_later(comfy: ComfyServer, spec: GridSpec) -> None:
    comfy.hold = 2
    drawing = Drawing(spec, comfy, patience=0.2)
    until(lambda: len(drawing.desk.pictures) == 2)
    comfy.stop()
    desk = drawing.wait()
    assert len(drawing.board.left) == 4 and not desk.failures


def test_stopping_takes_only_its_own_from_the_queue(comfy: ComfyServer, spec: GridSpec) -> None:
    comfy.hold = 0
    with Client(Server(address=comfy.address)) as somebody:
        graph = graphs.build(spec, [plan_cells(spec)[0]], spec.drawn_with, None).graph
        foreign = somebody.submit(
            {**graph, "2": {**graph["2"], "inputs": {**graph["2"]["inputs"], "width": 32}}}
        )
        drawing = Drawing(spec, comfy)
        until(lambda: len(comfy.submitted) == 3)
        drawing.stop.set()
        desk = drawing.wait()
        assert somebody.queued() == {foreign}
    assert not desk.pictures and not desk.failures and comfy.interrupts == []


@pytest.mark.parametrize(
    ("faults", "failed", "words"),
    [
        (["oom"], 0, ""),
        (["error"], 1, "cannot read a model file"),
        (["black"], 1, "came out black"),
        (["interrupt"], 0, ""),
        (["gone"], 0, ""),
        (["partly"], 1, "refused the graph"),
    ],
)
def test_one_thing_that_goes_wrong(
    comfy: ComfyServer, spec: GridSpec, faults: list[str], failed: int, words: str
) -> None:
    comfy.faults = list(faults)
    desk = Drawing(spec, comfy).wait()
    assert len(desk.failures) == failed and len(desk.pictures) == 6 - failed
    assert all(words in e.what and e.why and e.fix for e in desk.failures.values())
    assert len({p.tobytes() for p in desk.pictures.values()}) == len(desk.pictures)
    assert (comfy.freed > 0) == (faults[0] in ("oom", "gone"))


def test_memory_that_is_short_twice_is_said(comfy: ComfyServer, spec: GridSpec) -> None:
    one = spec.model_copy(update={"weights": (0.0, 1.0), "prompts": spec.prompts[:1]})
    comfy.faults = ["oom", "oom", "oom", "oom"]
    desk = Drawing(one, comfy).wait()
    assert len(desk.failures) == 2
    assert all("not enough memory" in e.what for e in desk.failures.values())


def test_a_lora_that_is_taken_away_before_it_is_read_is_put_there_again(
    comfy: ComfyServer, spec: GridSpec
) -> None:
    """Another grid with the same LoRA ends, while graphs that name the file wait in the queue."""
    comfy.hold = 2
    drawing = Drawing(spec, comfy)
    until(lambda: len(drawing.desk.pictures) == 2 and len(comfy.queue()["queue_pending"]) == 2)
    for name in comfy.loras():
        (comfy.lora_folder / name).unlink()
    comfy.allow(100)
    desk = drawing.wait()
    assert len(desk.pictures) == 6 and not desk.failures and comfy.loras() == []


def test_a_lora_that_nobody_can_place_fails_its_cells_only(comfy: ComfyServer, spec: GridSpec) -> None:
    comfy.tells_folders = False
    desk = Drawing(spec, comfy).wait()
    assert len(desk.pictures) == 2 and len(desk.failures) == 4
    assert all("Copy" in e.fix and "00112233445566ff" in e.fix for e in desk.failures.values())


# --- What refusals say


def test_a_refused_graph_is_explained_node_by_node(comfy: ComfyServer, spec: GridSpec) -> None:
    graph = json.loads(
        json.dumps(graphs.build(spec, [plan_cells(spec)[1]], spec.drawn_with, "no.safetensors").graph)
    )
    sampler = next(n for n in graph.values() if n["class_type"] == "KSampler")
    sampler["inputs"] |= {"sampler_name": "nope", "steps": 0}
    del sampler["inputs"]["seed"]
    with Client(Server(address=comfy.address)) as client:
        with pytest.raises(explain.Rejected) as e:
            client.submit(graph)
        for words in (
            "'no.safetensors' is not on the server",
            "the sampler 'nope'",
            "the seed is missing",
            "steps is too small",
            "KSampler",
        ):
            assert words in e.value.why
        assert e.value.missing_lora
        comfy.nodes.discard("KSampler")
        with pytest.raises(explain.Rejected, match="refused"):
            client.submit(graph)
        with pytest.raises(explain.Rejected) as none:
            client.submit({})
        assert "saves a picture" in none.value.why


def test_a_place_that_the_server_does_not_list_is_said(
    comfy: ComfyServer, spec: GridSpec, tmp_path: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    with Client(Server(address=comfy.address, lora_folder=tmp_path / "elsewhere")) as client:
        placer = placing.Placer(client)
        with pytest.raises(EnvironmentalError, match="does not see"):
            placer.place(spec.lora_files[0])
        placer.clear()
    assert not any((tmp_path / "elsewhere").rglob("*"))
