"""The faster adapter arithmetic gives what peft gives, forwards and backwards."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture(scope="module")
def layer() -> nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(0)
        model = get_peft_model(
            nn.Sequential(nn.Linear(12, 20)),
            LoraConfig(r=3, lora_alpha=5, target_modules=["0"], init_lora_weights=False),
        )
    found = model.base_model.model[0]
    assert isinstance(found, nn.Module)
    return found


@pytest.mark.parametrize("shape", [(4, 12), (2, 7, 12)])
@pytest.mark.parametrize("wants_gradient", [True, False])
def test_same_as_peft(layer: nn.Module, shape: tuple[int, ...], wants_gradient: bool) -> None:
    from studio.training.workers.fused import fuse

    fast = copy.deepcopy(layer)
    assert fuse(fast)
    x = torch.randn(shape, requires_grad=wants_gradient)
    answers = []
    for one in (layer, fast):
        one.zero_grad()
        x.grad = None
        out = one(x)
        (out * torch.linspace(-1, 1, 20)).sum().backward()
        gradients = [p.grad.clone() for p in (one.lora_A["default"].weight, one.lora_B["default"].weight)]  # type: ignore[union-attr, index]
        answers.append([out.detach(), *gradients, *([x.grad.clone()] if x.grad is not None else [])])
        assert one.base_layer.weight.grad is None  # type: ignore[union-attr]
    for ours, theirs in zip(*answers, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_the_formula_by_finite_differences(layer: nn.Module) -> None:
    from studio.training.workers.fused import _AdaptedLinear

    told = [
        torch.randn(s, dtype=torch.float64, requires_grad=True)
        for s in ((5, 4), (3, 4), (3,), (2, 4), (3, 2))
    ]
    x, weight, bias, down, up = told
    weight, bias = weight.detach(), bias.detach()
    assert torch.autograd.gradcheck(
        lambda *t: _AdaptedLinear.apply(t[0], weight, bias, t[1], t[2], 0.7), (x, down, up)
    )


def test_it_stays_away_from_what_it_does_not_fit(layer: nn.Module) -> None:
    from studio.training.workers.fused import fuse

    half = copy.deepcopy(layer).to(torch.bfloat16)
    assert not fuse(half)
    dropping = copy.deepcopy(layer)
    dropping.lora_dropout["default"] = nn.Dropout(0.1)  # type: ignore[index, operator]
    assert not fuse(dropping)


@pytest.mark.parametrize(("family", "count"), [("pocket", 7), ("sdxl", 0)])
def test_projections_become_matrices_without_a_change(
    models: Callable[..., Path], family: str, count: int
) -> None:
    from diffusers import UNet2DConditionModel

    from studio.training.workers.fused import projections_as_matrices

    unet = UNet2DConditionModel.from_pretrained(models(family) / "unet")
    told = (
        {"added_cond_kwargs": {"text_embeds": torch.randn(1, 24), "time_ids": torch.ones(1, 6)}}
        if family == "sdxl"
        else {}
    )
    inputs = (
        torch.randn(1, 4, 8, 8),
        torch.tensor([300]),
        torch.randn(1, 16, 40 if family == "sdxl" else 16),
    )
    with torch.no_grad():
        before = unet(*inputs, return_dict=False, **told)[0]
        assert projections_as_matrices(unet) == count
        torch.testing.assert_close(unet(*inputs, return_dict=False, **told)[0], before, rtol=1e-4, atol=1e-5)
