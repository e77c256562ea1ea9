"""The ComfyUI renderer against the stand-in: graphs, checks, and all that servers do to a grid in the middle."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from studio import files
from studio.errors import EnvironmentalError, InputError, StudioError
from studio.evaluation.comfyui import checking, editor, explain, graphs, placing, servers
from studio.evaluation.comfyui.board import Board
from studio.evaluation.comfyui.client import Away, Client, NotComfyError
from studio.evaluation.comfyui.lane import Lane
from studio.evaluation.comfyui.servers import Server
from studio.evaluation.spec import Cell, GridLora, GridPrompt, GridSpec, plan_cells
from studio.findings import blocking
from studio.workspace import Workspace
from tests.fakes.comfyui_server import ComfyServer

LIMIT = 60.0


@pytest.fixture
def comfy(tmp_path: Path) -> Iterator[ComfyServer]:
    (tmp_path / "loras").mkdir()
    server = ComfyServer(tmp_path / "loras")
    yield server
    server.close()


@pytest.fixture
def spec(tmp_path: Path) -> GridSpec:
    return make_spec(tmp_path)


def make_spec(folder: Path, **more: Any) -> GridSpec:
    lora = folder / "my style.safetensors"
    if not lora.exists():
        lora.write_bytes(b"weights")
    told: dict[str, Any] = {
        "id": "grid-1",
        "project": "p",
        "base_model": "sd15",
        "base_path": folder,
        "base_fingerprint": "f",
        "family": "sd15",
        "lora_files": (GridLora(path=lora, label="final", content="00112233445566ff"),),
        "weights": (0, 0.5, 1.0),
        "prompts": (GridPrompt(id="a", text="sks, a boat"), GridPrompt(id="b", text="a (red) dog")),
        "renderer": "comfyui",
        "sampler": "euler",
        "drawn_with": {"checkpoint": "tiny_sd15.safetensors"},
    }
    return GridSpec.model_validate(told | more)


class Desk:
    """Takes down what lanes report."""

    def __init__(self) -> None:
        self.pictures: dict[str, Image.Image] = {}
        self.by: dict[str, str] = {}
        self.failures: dict[str, StudioError] = {}
        self.notes: list[str] = []

    def drawn(self, cell: Cell, picture: Image.Image, server: str) -> None:
        assert cell.hash not in self.pictures, "drawn twice"
        self.pictures[cell.hash] = picture
        self.by[cell.hash] = server

    def failed(self, cell: Cell, error: StudioError) -> None:
        self.failures[cell.hash] = error

    def note(self, message: str) -> None:
        self.notes.append(message)

    def moved(self, shares: float) -> None: ...


class Drawing:
    """Lanes at work in threads."""

    def __init__(
        self, spec: GridSpec, *found: ComfyServer, patience: float = LIMIT, folder: Path | None = None
    ) -> None:
        self.desk, self.stop = Desk(), threading.Event()
        cells = {c.hash: c for c in plan_cells(spec)}
        self.board = Board(cells.values(), self.desk, self.stop.is_set)
        self.lanes = [
            Lane(
                Server(address=s.address, lora_folder=folder),
                spec,
                dict(spec.drawn_with),
                self.board,
                patience,
            )
            for s in found
        ]
        for lane in self.lanes:
            self.board.join(lane.name)
        self.threads = [threading.Thread(target=x.run, daemon=True) for x in self.lanes]
        for thread in self.threads:
            thread.start()

    def wait(self) -> Desk:
        for thread in self.threads:
            thread.join(LIMIT)
            assert not thread.is_alive()
        return self.desk


def until(true: Callable[[], Any]) -> None:
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, "it never came"
        time.sleep(0.01)


# --- Graphs


@pytest.mark.parametrize("family", graphs.FAMILIES)
def test_a_graph_of_each_family_is_whole(tmp_path: Path, family: str) -> None:
    """Every link leads to an earlier node, every type is known, weight 0 has no LoRA, and the editor's form holds the same."""
    ways = graphs.PARTS[family]
    for parts in ({p: f"{p}.safetensors" for p in way} for way in ways):
        spec = make_spec(tmp_path, family=family, drawn_with=parts, clip_skip=2)
        for cell in plan_cells(spec):
            made = graphs.build(spec, [cell], parts, "x.safetensors")
            seen: set[str] = set()
            for name, node in made.graph.items():
                links = [v for v in node["inputs"].values() if isinstance(v, list)]
                assert all(v[0] in seen for v in links)
                seen.add(name)
            kinds = [n["class_type"] for n in made.graph.values()]
            assert ("LoraLoader" in kinds) == (cell.weight != 0)
            assert ("CLIPSetLastLayer" in kinds) == (family in ("sd15", "sdxl"))
            assert list(made.outputs.values()) == [cell.hash]
            opened = editor.workflow(made.graph)
            assert [n["type"] for n in sorted(opened["nodes"], key=lambda n: n["id"])] == kinds
            assert len(opened["links"]) == sum(
                isinstance(v, list) for n in made.graph.values() for v in n["inputs"].values()
            )


def test_clip_skip_weight_and_parentheses_are_told_as_meant(spec: GridSpec) -> None:
    cell = next(c for c in plan_cells(spec) if c.weight == 0.5 and c.prompt.id == "b")
    skipping = spec.model_copy(update={"clip_skip": 2})
    nodes = {
        n["class_type"]: n["inputs"]
        for n in graphs.build(skipping, [cell], spec.drawn_with, "x").graph.values()
    }
    assert nodes["CLIPSetLastLayer"]["stop_at_clip_layer"] == -2
    assert nodes["LoraLoader"]["strength_model"] == nodes["LoraLoader"]["strength_clip"] == 0.5
    assert graphs.literal("a (red) dog") == "a \\(red\\) dog" == graphs.literal("a \\(red\\) dog")
    assert "CLIPSetLastLayer" not in {
        n["class_type"] for n in graphs.build(spec, [cell], spec.drawn_with, "x").graph.values()
    }


@pytest.mark.parametrize(
    ("family", "zero_snr"), [("sd15", False), ("sdxl", True), ("sdxl", None), ("sd35", None)]
)
def test_a_model_that_predicts_v_is_drawn_as_one(tmp_path: Path, family: str, zero_snr: bool | None) -> None:
    """As its own noise levels say; a model that is not on this computer (None) is left to the server."""
    spec = make_spec(tmp_path, family=family, prediction="v_prediction")
    if zero_snr is not None:
        files.write_json(
            tmp_path / "scheduler" / "scheduler_config.json", {"rescale_betas_zero_snr": zero_snr}
        )
    for cell in plan_cells(spec)[:2]:
        graph = graphs.build(spec, [cell], spec.drawn_with, "x.safetensors").graph
        found = {n["class_type"]: (name, n["inputs"]) for name, n in graph.items()}
        assert ("ModelSamplingDiscrete" in found) == (zero_snr is not None)
        if zero_snr is not None:
            name, told = found["ModelSamplingDiscrete"]
            assert told["sampling"] == "v_prediction" and told["zsnr"] is zero_snr
            assert found["KSampler"][1]["model"] == [name, 0]


# --- Addresses


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("127.0.0.1", "http://127.0.0.1:8188"),
        (" http://localhost:9000/ ", "http://localhost:9000"),
        ("gpu-box", "http://gpu-box:8188"),
        ("http://192.168.1.5:8188", "http://192.168.1.5:8188"),
        ("https://comfy.example.com", "https://comfy.example.com"),
    ],
)
def test_addresses_are_tidied(typed: str, meant: str) -> None:
    assert servers.tidy(typed) == meant


@pytest.mark.parametrize(
    "typed",
    [
        "", "   ", "ftp://127.0.0.1", "http://", "http://8.8.8.8:8188", "http://comfy.example.com", "http://u:p@127.0.0.1:8188",
        "http://127.0.0.1:99999", "http://127.0.0.1:8188/prompt", "http://exa mple", "http://0.0.0.0:8188", "http://127.0.0.1:8188?x=1",
    ],
)  # fmt: skip
def test_addresses_that_cannot_be_used(typed: str) -> None:
    with pytest.raises(InputError) as e:
        servers.tidy(typed)
    assert e.value.what and e.value.why and e.value.fix


def test_servers_are_remembered_and_forgotten(workspace: Workspace, tmp_path: Path) -> None:
    servers.add_server(workspace, "127.0.0.1")
    servers.add_server(workspace, "gpu-box", tmp_path)
    servers.add_server(workspace, "127.0.0.1:8188")
    assert [s.address for s in servers.load(workspace).servers] == [
        "http://127.0.0.1:8188",
        "http://gpu-box:8188",
    ]
    servers.forget_server(workspace, "127.0.0.1")
    assert servers.load(workspace).servers == [Server(address="http://gpu-box:8188", lora_folder=tmp_path)]
    with pytest.raises(StudioError, match="not one of your"):
        servers.forget_server(workspace, "127.0.0.1")


# --- Checking


def test_a_server_is_looked_at(comfy: ComfyServer, spec: GridSpec) -> None:
    state = checking.look_at(Server(address=comfy.address))
    assert state.is_ready and state.version == "0.27.0" and state.lora_folder == comfy.lora_folder
    assert checking.for_grid(spec, state) == []
    comfy.nodes.discard("KSampler")
    other = spec.model_copy(update={"drawn_with": {"checkpoint": "other.safetensors"}})
    assert {f.code for f in checking.for_grid(other, state)} == {"comfyui-nodes", "comfyui-model"}
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
    comfy.get = lambda _p, _q: (404, None)  # type: ignore[method-assign]
    with Client(Server(address=comfy.address)) as client, pytest.raises(NotComfyError):
        client.stats()


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
        comfy.hold = 0
        drawing = Drawing(spec, comfy, other, patience=0.2)
        until(lambda: len(comfy.submitted) == 2)
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
