"""The built-in renderer: a grid's pictures are those that diffusers draws one by one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from studio.errors import InputError
from studio.evaluation.comfy import ComfyUIRenderer
from studio.evaluation.diffusers import DiffusersRenderer
from studio.evaluation.plan import plan_grid
from studio.evaluation.spec import GridSpec, plan_cells
from studio.evaluation.workers.drawing import Drawer, NotFinite
from studio.evaluation.workers.lora import Lora
from studio.evaluation.workers.render import batches
from studio.training.workers.layers import layer_names
from studio.workspace import Workspace
from tests.evaluation.conftest import SIDE, make_project, write_lora
from tests.training.conftest import write_model

Plan = Callable[..., GridSpec]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Pictures this small are slower on several threads."""
    torch.set_num_threads(1)


def _array(picture: Image.Image | NotFinite) -> np.ndarray:
    assert isinstance(picture, Image.Image)
    return np.asarray(picture, dtype=np.int16)


def _difference(one: Image.Image | NotFinite, other: Image.Image | NotFinite) -> int:
    return int(np.abs(_array(one) - _array(other)).max())


def _drawn(
    drawer: Drawer, spec: GridSpec, together: int, lora: Path
) -> dict[tuple[float, str], Image.Image | NotFinite]:
    cells = plan_cells(spec)
    drawer.use(Lora(lora, drawer.models, spec.family), "x")
    found = {}
    for batch in batches(cells, together, mixed=False):
        for cell, picture in zip(batch, drawer.draw(batch), strict=True):
            found[cell.weight, cell.prompt.id] = picture
    drawer.use(None)
    return found


def test_equal_to_diffusers_one_by_one(plan: Plan, pocket_model: Path, pocket_lora: Path) -> None:
    """Against the pipeline's own loader and its own scale, cell by cell."""
    from diffusers import StableDiffusionPipeline
    from transformers.utils import logging

    logging.set_verbosity_error()
    spec = plan()
    ours = _drawn(Drawer(spec, torch.device("cpu")), spec, 12, pocket_lora)
    pipe = StableDiffusionPipeline.from_pretrained(pocket_model, safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    pipe.load_lora_weights(str(pocket_lora), adapter_name="x")
    changed = 0
    for cell in plan_cells(spec):
        pipe.set_adapters(["x"], [cell.weight])
        theirs = pipe(
            cell.prompt.text,
            num_inference_steps=spec.steps,
            guidance_scale=spec.guidance,
            width=SIDE,
            height=SIDE,
            generator=torch.Generator().manual_seed(cell.seed),
        ).images[0]
        assert _difference(ours[cell.weight, cell.prompt.id], theirs) <= 1
        changed += _difference(ours[cell.weight, cell.prompt.id], ours[0, cell.prompt.id]) > 1
    assert changed == 8, "every cell above weight 0 differs from its base"


def test_batches_equal_single_cells(plan: Plan, pocket_lora: Path) -> None:
    spec = plan(weights=(0, 1.0))
    drawer = Drawer(spec, torch.device("cpu"))
    one, many = _drawn(drawer, spec, 1, pocket_lora), _drawn(drawer, spec, 8, pocket_lora)
    assert max(_difference(one[key], many[key]) for key in one) <= 1


def test_lanes_draw_the_same_pictures_and_end_together(plan: Plan, pocket_lora: Path) -> None:
    """Cells drawn side by side, one core each, are those of one lane; leaving ends all lanes and restores the threads."""
    spec = plan(weights=(0, 1.0))
    drawer = Drawer(spec, torch.device("cpu"))
    one = _drawn(drawer, spec, 8, pocket_lora)
    drawer.lanes = 3
    side_by_side = _drawn(drawer, spec, 8, pocket_lora)
    assert max(_difference(one[key], side_by_side[key]) for key in one) <= 1
    cells, steps = [c for c in plan_cells(spec) if c.weight == 0], []
    torch.set_num_threads(2)
    drawer.draw(cells, steps.append)
    assert steps == [1, 2, 3], "a step counts when all lanes have done it"

    def leave(_step: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        drawer.draw(cells, leave)
    assert torch.get_num_threads() == 2
    assert not [t for t in threading.enumerate() if t.name.startswith("lane")]


def test_a_scale_per_sample_equals_merged_weights(plan: Plan, pocket_lora: Path) -> None:
    """Cells of three weights in one batch, as a graphics card draws them."""
    spec = plan()
    drawer = Drawer(spec, torch.device("cpu"))
    merged = _drawn(drawer, spec, 12, pocket_lora)
    cells = plan_cells(spec)
    drawer.use(Lora(pocket_lora, drawer.models, spec.family), "x")
    mixed = drawer.draw(cells)
    assert max(_difference(merged[c.weight, c.prompt.id], p) for c, p in zip(cells, mixed, strict=True)) <= 1


def test_weight_zero_is_the_base_model_to_the_bit(plan: Plan, pocket_lora: Path) -> None:
    spec = plan()
    drawer = Drawer(spec, torch.device("cpu"))
    base = [c for c in plan_cells(spec) if c.weight == 0]
    before = {n: p.clone() for n, p in drawer.base.unet.named_parameters()}
    untouched = drawer.draw(base)
    drawer.use(Lora(pocket_lora, drawer.models, spec.family), "x")
    drawer.draw([c for c in plan_cells(spec) if c.weight == 1])
    again = drawer.draw(base)
    drawer.use(None)
    assert all(_difference(a, b) == 0 for a, b in zip(untouched, again, strict=True))
    assert all(torch.equal(before[n], p) for n, p in drawer.base.unet.named_parameters())


def test_noise_of_a_seed_is_the_same_for_every_weight(plan: Plan) -> None:
    drawer = Drawer(plan(), torch.device("cpu"))
    assert torch.equal(drawer.noise(5), drawer.noise(5))
    assert not torch.equal(drawer.noise(5), drawer.noise(6))


def _add_convolutions(tensors: dict[str, torch.Tensor], drawer: Drawer, family: str) -> None:
    """As a LoCon file has them: 3 x 3 down, 1 x 1 up, under the last of a layer's names, which sd-scripts writes."""
    found = {
        place[1]: (name, place[2])
        for name, place in layer_names(drawer.models, family).items()
        if "lora_unet" in name
    }
    chance = torch.Generator().manual_seed(1)
    for path, (name, module) in found.items():
        if isinstance(module, torch.nn.Conv2d) and ("resnets" in path or "samplers" in path):
            wide = (4, module.in_channels, *module.kernel_size)
            tensors[f"{name}.lora_down.weight"] = torch.randn(wide, generator=chance) * 0.03
            tensors[f"{name}.lora_up.weight"] = (
                torch.randn((module.out_channels, 4, 1, 1), generator=chance) * 0.3
            )
            tensors[f"{name}.alpha"] = torch.tensor(2.0)


@pytest.mark.parametrize("family", ["sd15", "sdxl"])
def test_other_families(family: str, workspace: Workspace, tmp_path: Path) -> None:
    """SD1.5 and SDXL geometry, kohya's SDXL block names and convolutions (LoCon) included: a batch of several weights equals
    cells drawn one by one, and each text is encoded once a text-encoder weight."""
    model = write_model(tmp_path / "model", family)
    plain = write_lora(tmp_path / "lora.safetensors", model, family, text=family == "sd15")
    project = make_project(workspace, model, family)
    told: dict[str, Any] = {
        "prompts": ["bluprnt, dog"],
        "steps": 2,
        "width": 64,
        "height": 64,
        "seeds": (1, 2),
    }
    drawer = Drawer(plan_grid(project, lora_files=[plain], weights=(0.5, 1.0), **told), torch.device("cpu"))
    lora = _changed(
        plain, tmp_path / "locon.safetensors", lambda t, _first: _add_convolutions(t, drawer, family)
    )
    spec = plan_grid(project, lora_files=[lora], weights=(0.5, 1.0), **told)
    cells = plan_cells(spec)
    fitted = Lora(lora, drawer.models, family)
    kinds = {len(x.down.shape) for x in fitted.layers if x.part == "unet"}
    assert 4 in kinds and (2 in kinds), "convolutions and linear layers"
    drawer.use(fitted, "x")
    encoded: list[str] = []
    encode = drawer._encode
    drawer._encode = lambda texts: (encoded.extend(texts), encode(texts))[1]  # type: ignore[method-assign]
    mixed = drawer.draw(cells)
    assert len(encoded) == (3 if family == "sd15" else 1), (
        "once for each weight of a LoRA that bends the text encoder"
    )
    single = [drawer.draw([c])[0] for c in cells]
    assert len(encoded) == (3 if family == "sd15" else 1), "and never again"
    assert max(_difference(a, b) for a, b in zip(mixed, single, strict=True)) <= 1
    base, full = (next(p for c, p in zip(cells, single, strict=True) if c.weight == w) for w in (0.0, 1.0))
    assert _array(base).shape == (64, 64, 3) and _difference(base, full) > 1


def test_a_lora_for_another_model_is_named_as_such(pocket_model: Path, plan: Plan, tmp_path: Path) -> None:
    other = write_model(tmp_path / "other", "sd15")
    wrong = write_lora(tmp_path / "wrong.safetensors", other, "sd15")
    drawer = Drawer(plan(), torch.device("cpu"))
    with pytest.raises(InputError, match="does not fit this base model"):
        Lora(wrong, drawer.models, "pocket")


def test_broken_numbers_are_told(plan: Plan, pocket_model: Path, pocket_lora: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(pocket_lora))
    name = next(n for n in tensors if n.endswith("lora_up.weight"))
    tensors[name][0] = float("nan")
    broken = tmp_path / "broken.safetensors"
    save_file(tensors, str(broken))
    drawer = Drawer(plan(), torch.device("cpu"))
    with pytest.raises(InputError, match="not finite"):
        Lora(broken, drawer.models, "pocket")


def _changed(source: Path, target: Path, change: Callable[[dict[str, torch.Tensor], str], None]) -> Path:
    """A copy of a LoRA file; `change` may alter its tensors, and is told the name of its first layer."""
    from safetensors.torch import load_file, save_file

    tensors = load_file(str(source))
    change(tensors, next(n for n in tensors if "attn1_to_q.lora_down" in n).partition(".")[0])
    save_file(tensors, str(target))
    return target


@pytest.mark.parametrize(
    ("words", "extra"),
    [
        ("LoHa", {f"X.hada_{w}": (4, 4) for w in ("w1_a", "w1_b", "w2_a", "w2_b")}),
        ("LoKr", {"X.lokr_w1": (4, 4), "X.lokr_w2": (4, 4)}),
        ("DoRA", {"Y.dora_scale": (8, 1)}),
        ("DoRA", {"Y.lora_magnitude_vector": (8,)}),
        ("Tucker", {"Y.lora_mid.weight": (4, 4, 3, 3)}),
        ("full", {"X.diff": (8,)}),
        ("full", {"X.diff_b": (8,)}),
        ("bundle_emb", {"bundle_emb.mood.string_to_param.*": (1, 8)}),
        ("no place in it, such as lora_unet_nowhere", {"lora_unet_nowhere.lora_down.weight": (4, 8), "lora_unet_nowhere.lora_up.weight": (8, 4)}),
        ("one of its two halves", {"X.lora_down.weight": (4, 8)}),
    ],
)  # fmt: skip
def test_a_lora_is_drawn_whole_or_refused_by_name(
    words: str, extra: dict[str, tuple[int, ...]], plan: Plan, pocket_lora: Path, tmp_path: Path
) -> None:
    """X: a layer of its own; Y: one that is a plain LoRA layer without it."""

    def add(tensors: dict[str, torch.Tensor], first: str) -> None:
        for name, shape in extra.items():
            tensors[name.replace("X.", "lora_unet_conv_in.").replace("Y.", f"{first}.")] = torch.ones(shape)

    odd = _changed(pocket_lora, tmp_path / "odd.safetensors", add)
    drawer = Drawer(plan(), torch.device("cpu"))
    with pytest.raises(InputError) as e:
        Lora(odd, drawer.models, "pocket")
    assert words in f"{e.value.what} {e.value.why}" and e.value.fix
    if "place" not in words and "halves" not in words:
        found = DiffusersRenderer().check(plan(lora_files=[odd]))
        assert [f.code for f in found] == ["lora-unreadable"], "the plan says so before anything is loaded"


def test_a_layer_that_does_nothing_may_have_no_place(plan: Plan, pocket_lora: Path, tmp_path: Path) -> None:
    """Zeros and a lonely alpha change nothing, wherever they belong."""

    def add(tensors: dict[str, torch.Tensor], _first: str) -> None:
        tensors["lora_unet_nowhere.lora_down.weight"] = torch.ones(4, 8)
        tensors["lora_unet_nowhere.lora_up.weight"] = torch.zeros(8, 4)
        tensors["lora_unet_elsewhere.alpha"] = torch.tensor(1.0)

    harmless = _changed(pocket_lora, tmp_path / "harmless.safetensors", add)
    drawer = Drawer(plan(), torch.device("cpu"))
    assert len(Lora(harmless, drawer.models, "pocket").layers) == len(
        Lora(pocket_lora, drawer.models, "pocket").layers
    )


@pytest.mark.parametrize("renderer", [DiffusersRenderer(), ComfyUIRenderer()])
def test_a_lora_of_another_family_is_refused_before_it_is_drawn(
    renderer: Any, plan: Plan, workspace: Workspace, tmp_path: Path
) -> None:
    """ComfyUI would draw it as if there were none, and only say so in its own window."""
    from safetensors.torch import save_file

    other = tmp_path / "flux.safetensors"
    save_file(
        {f"lora_unet_double_blocks_0_img_attn_proj.lora_{x}.weight": torch.ones(4, 4) for x in ("up", "down")},
        str(other),
    )  # fmt: skip
    spec = plan(lora_files=[other]).model_copy(update={"family": "sdxl"})
    found = [f for f in renderer.check(spec, workspace) if f.code == "lora-unreadable"]
    assert [f.what for f in found] == ["flux.safetensors is for FLUX, and the base model is SDXL."]


def test_a_cell_that_overflows_fails_alone(plan: Plan, pocket_lora: Path) -> None:
    """A weight so high that numbers overflow gives that cell a reason, not a black picture."""
    spec = plan()
    drawer = Drawer(spec, torch.device("cpu"))
    drawer.use(Lora(pocket_lora, drawer.models, spec.family), "x")
    cell = replace(plan_cells(spec)[2], weight=1e30)
    assert isinstance(drawer.draw([cell])[0], NotFinite)


def test_batches_are_even_and_of_one_weight(plan: Plan) -> None:
    cells = plan_cells(plan(seeds=(1, 2)))
    plain = list(batches(cells, 5, mixed=False))
    assert [len(b) for b in plain] == [4, 4] * 3
    assert all(len({c.weight for c in b}) == 1 for b in plain)
    assert [len(b) for b in batches(cells, 20, mixed=True)] == [12, 12]
