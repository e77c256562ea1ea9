"""The adapter's arithmetic in fewer passes over memory, for full precision on a CPU.

peft computes an adapted layer as W x + scale * (B (A x)), each operation on its own: the scaling and the sum read and
write the whole output again, forwards and backwards. On a CPU, where that memory traffic costs as much as the small
products themselves, the same formula with the sums folded into the matrix products saves a sixth of a step. The result
differs from peft's by rounding only, which a test holds.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F


class _AdaptedLinear(torch.autograd.Function):
    """y = x W' + b + scale (x A') B', with gradients for x, A and B; W and b are frozen.

    Shapes: x (..., in), W (out, in), b (out) or None, A (rank, in), B (out, rank).
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        down: torch.Tensor,
        up: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        narrow = flat @ down.t()
        out = F.linear(flat, weight, bias).addmm_(narrow, up.t(), alpha=scale)
        ctx.save_for_backward(flat, narrow, weight, down, up)
        ctx.scale, ctx.shape = scale, x.shape
        return out.view(*x.shape[:-1], weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        flat, narrow, weight, down, up = ctx.saved_tensors
        back = gradients[0].reshape(-1, weight.shape[0])
        narrow_back = back @ up
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (back @ weight).addmm_(narrow_back, down, alpha=ctx.scale).view(ctx.shape)
        to_down = (narrow_back.t() @ flat).mul_(ctx.scale)
        to_up = (back.t() @ narrow).mul_(ctx.scale)
        return to_x, None, None, to_down, to_up, None


def _forward(self: Any, x: torch.Tensor, *more: Any, **told: Any) -> torch.Tensor:
    adapter = self.active_adapters[0]
    base = self.base_layer
    said: torch.Tensor = _AdaptedLinear.apply(
        x,
        base.weight,
        base.bias,
        self.lora_A[adapter].weight,
        self.lora_B[adapter].weight,
        self.scaling[adapter],
    )
    return said


def fuse(layer: Any) -> bool:
    """Give an adapted layer of peft the faster forward; False when it is none that this fits (then it stays as it is)."""
    base = layer.base_layer
    plain = (
        isinstance(base, nn.Linear)
        and base.weight.dtype == torch.float32
        and base.weight.device.type == "cpu"
    )
    if not plain or not all(isinstance(d, nn.Identity) for d in layer.lora_dropout.values()):
        return False
    layer.forward = MethodType(_forward, layer)
    return True


def projections_as_matrices(unet: Any) -> int:
    """Replace the 1 x 1 convolutions around the transformers of an SD1.5-like UNet by the matrix products that they are.

    The same weights and the same result; an adapter on a matrix product is several times as fast on a CPU as one on a
    convolution. SDXL models have it this way from the start. Returns how many transformers were changed.
    """
    changed = 0
    for module in unet.modules():
        if type(module).__name__ != "Transformer2DModel" or getattr(module, "use_linear_projection", True):
            continue
        for name in ("proj_in", "proj_out"):
            conv = getattr(module, name)
            linear = nn.Linear(
                conv.in_channels, conv.out_channels, device=conv.weight.device, dtype=conv.weight.dtype
            )
            linear.weight = nn.Parameter(conv.weight.flatten(1), requires_grad=False)
            linear.bias = nn.Parameter(conv.bias, requires_grad=False)
            setattr(module, name, linear)
        module.use_linear_projection = True
        changed += 1
    return changed
