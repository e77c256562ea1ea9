"""What ComfyUI is told and which of its files are meant: graphs, addresses, and base models among a server's files."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio import files, models
from studio.errors import InputError, StudioError
from studio.evaluation.comfyui import checking, editor, graphs, matching, servers
from studio.evaluation.comfyui.servers import Server
from studio.evaluation.spec import GridSpec, plan_cells
from studio.workspace import Workspace
from tests.evaluation.comfy_world import make_spec


@pytest.fixture
def spec(tmp_path: Path) -> GridSpec:
    return make_spec(tmp_path)


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
        "http://169.254.169.254", "metadata.google.internal", "http://[fd00:ec2::254]:8188",
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


_TEXT = ["clip_g.safetensors", "clip_l.safetensors", "t5xxl_fp16.safetensors"]
_DEV = {
    "diffusion_model": "flux1-dev.safetensors",
    "clip_l": _TEXT[1],
    "t5xxl": _TEXT[2],
    "vae": "ae.safetensors",
}


@pytest.mark.parametrize(
    ("model", "has", "found"),
    [
        ("sdxl", {"checkpoints": ["a.safetensors", "sub/sd_xl_base_1.0.safetensors"]}, {"checkpoint": "sub/sd_xl_base_1.0.safetensors"}),
        ("sdxl", {"checkpoints": ["something_xl.safetensors"]}, {}),
        ("flux-dev", {"diffusion_models": ["flux1-schnell.safetensors", "flux1-dev.safetensors"], "text_encoders": _TEXT, "vae": ["ae.safetensors"]}, _DEV),
        ("flux-dev", {"diffusion_models": ["flux1-schnell.safetensors"], "text_encoders": _TEXT, "vae": ["ae.safetensors"]}, {}),
        ("flux", {"checkpoints": ["flux1-fill-dev.safetensors", "flux1-dev-fp8.safetensors"]}, {"checkpoint": "flux1-dev-fp8.safetensors"}),
        ("sd35-large", {"checkpoints": ["sd3.5_large_turbo.safetensors", "sd3.5_medium.safetensors", "sd3.5_large_fp8_scaled.safetensors"]},
         {"checkpoint": "sd3.5_large_fp8_scaled.safetensors"}),
        ("sd35-large-local", {"checkpoints": ["sd3.5_large.safetensors"]}, {}),
        ("sd35-large-local", {"checkpoints": ["sd3.5_large.safetensors"], "text_encoders": _TEXT},
         {"checkpoint": "sd3.5_large.safetensors", "clip_g": _TEXT[0], "clip_l": _TEXT[1], "t5xxl": _TEXT[2]}),
    ],
)  # fmt: skip
def test_the_base_model_is_found_among_a_servers_files(
    workspace: Workspace, model: str, has: dict[str, list[str]], found: dict[str, str]
) -> None:
    """By its name; a model made for something else is not taken for it. What is found is remembered."""
    state = checking.State(Server(address="http://127.0.0.1:9"), has=has)
    assert matching.match_model(workspace, models.get_model(workspace, model), [state]) == found
    assert servers.load(workspace).models == ({model: found} if found else {})
