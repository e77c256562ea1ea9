"""What one training step of sd-scripts keeps in memory, counted tensor by tensor without weights and without a graphics card.

    PYTHON scripts/sdscripts/count_tensors.py SOURCE [FAMILY,SIDE,BATCH,CHECKPOINTING,STORED ...]

PYTHON is the interpreter of sd-scripts' environment, SOURCE its folder. A case is such as `flux,1024,2,yes,fp8`: family (sd15,
sdxl, sd35, flux), side of the picture in pixels, batch, gradient checkpointing (yes, no), base model (16, fp8). Without one all
cases of tests/vram/points.csv are counted. Prints GiB: the base model, its LoRA of rank 16 in full precision, and the most that
was there at once with gradients and the two states of AdamW.

The script's own models and LoRA modules run forward and backward on tensors that have a shape and no values; each one's memory
is added when it appears and taken off when it goes. On a card, autocast reckons some functions in 32 bit that it does not on a
processor; here they are too. What kernels take for themselves (work space, alignment, the driver) comes on top: it is the least.
"""

from __future__ import annotations

import gc
import logging
import sys
import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

GIB = 2**30
RANK = 16
HALF = torch.bfloat16
STORED = {"16": HALF, "fp8": torch.float8_e4m3fn}
CASES = (
    "sd15,512,1,yes,16", "sd15,512,1,no,16", "sd15,512,4,yes,16",
    "sdxl,1024,1,yes,16", "sdxl,1024,1,no,16", "sdxl,1024,4,yes,16", "sdxl,512,1,yes,16", "sdxl,512,1,no,16",
    "sd35,1024,1,yes,16", "sd35,1024,2,yes,fp8", "sd35,512,1,yes,16", "sd35,512,1,no,16", "sd35,1024,1,no,16",
    "flux,512,1,yes,fp8", "flux,1024,1,yes,16", "flux,1024,2,yes,16", "flux,512,1,no,16",
)  # fmt: skip
_IN_FULL = {
    F: "layer_norm group_norm softmax mse_loss",
    torch: "layer_norm group_norm softmax pow rsqrt exp log sum norm prod cumsum",
    torch.Tensor: "softmax pow __pow__ rsqrt exp log sum norm prod",
}


class Counter(TorchDispatchMode):
    """Bytes of all tensors that are there (`now`) and that were there at once (`peak`), each rounded up to 512."""

    def __init__(self) -> None:
        super().__init__()
        self._sizes: dict[int, int] = {}
        self.now = self.peak = 0

    def add(self, tensor: torch.Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = -(-storage.nbytes() // 512) * 512
        self.now += self._sizes[key]
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key, 0)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        tree_map_only(torch.Tensor, self.add, out)
        return out


def _as_on_a_card() -> None:
    """Under autocast, reckon in 32 bit what CUDA reckons in 32 bit. Also while a checkpoint is reckoned again."""

    def wrapped(f: Callable[..., Any]) -> Callable[..., Any]:
        def full(*args: Any, **kwargs: Any) -> Any:
            if torch.is_autocast_enabled("cpu"):
                args, kwargs = tree_map_only(
                    torch.Tensor,
                    lambda t: t.float() if t.dtype in (HALF, torch.float16) else t,
                    (args, kwargs),
                )
            return f(*args, **kwargs)

        return full

    for owner, names in _IN_FULL.items():
        for name in names.split():
            setattr(owner, name, wrapped(getattr(owner, name)))


def _cast(model: torch.nn.Module, dtype: torch.dtype, *, taught: bool = False) -> None:
    for module in model.modules():
        for name, value in list(module._parameters.items()):
            if value is not None:
                module._parameters[name] = torch.nn.Parameter(
                    torch.empty(value.shape, dtype=dtype), requires_grad=taught
                )
        for name, buffer in list(module._buffers.items()):
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = torch.empty(buffer.shape, dtype=dtype)


def _empty(*shape: int, taught: bool = False, dtype: torch.dtype = HALF) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, requires_grad=taught)


def _built(family: str, side: int, batch: int, saving: bool) -> tuple[Any, Any, Callable[[], torch.Tensor]]:
    """The model, sd-scripts' module of LoRAs for it, and one call as the script makes it."""
    small = side // 8
    model: Any
    if family == "flux":
        from library import flux_models
        from networks import lora_flux as loras

        model = flux_models.Flux(flux_models.configs["dev"].params)
        tokens = (side // 16) ** 2
        full = torch.float32

        def call() -> torch.Tensor:
            out: torch.Tensor = model(
                img=_empty(batch, tokens, 64, taught=saving), img_ids=_empty(batch, tokens, 3, taught=saving, dtype=full),
                txt=_empty(batch, 512, 4096, taught=saving), txt_ids=_empty(batch, 512, 3, dtype=full),
                y=_empty(batch, 768, taught=saving), timesteps=_empty(batch, dtype=full),
                guidance=_empty(batch, taught=saving, dtype=full), txt_attention_mask=None,
            )  # fmt: skip
            return out

        return model, loras, call
    if family == "sd35":
        from library import sd3_models
        from networks import lora_sd3 as loras

        told = sd3_models.SD3Params(
            patch_size=2, depth=38, num_patches=192**2, pos_embed_max_size=192, adm_in_channels=2048, qk_norm="rms",
            x_block_self_attn_layers=[], context_embedder_in_features=4096, context_embedder_out_features=2432,
            model_type="5-large",
        )  # fmt: skip
        model = sd3_models.create_sd3_mmdit(told)

        def call() -> torch.Tensor:
            x, text = _empty(batch, 16, small, small, taught=saving), _empty(batch, 410, 4096, taught=saving)
            out: torch.Tensor = model(
                x, _empty(batch, dtype=torch.float32), context=text, y=_empty(batch, 2048)
            )
            return out

        return model, loras, call

    from networks import lora as loras

    if family == "sdxl":
        from library.sdxl_original_unet import SdxlUNet2DConditionModel

        model, wide, more = SdxlUNet2DConditionModel(), 2048, (2816,)
    else:
        from library import model_util
        from library.original_unet import UNet2DConditionModel

        model, wide, more = UNet2DConditionModel(**model_util.create_unet_diffusers_config(False)), 768, ()
    model.set_use_sdpa(True)

    def call() -> torch.Tensor:
        x = _empty(batch, 4, small, small, taught=saving, dtype=HALF if more else torch.float32)
        text = _empty(batch, 77, wide, taught=saving)
        out = model(x, _empty(batch, dtype=torch.float32), text, *(_empty(batch, n) for n in more))
        kept: torch.Tensor = getattr(out, "sample", out)
        return kept

    return model, loras, call


def count(family: str, side: int, batch: int, saving: bool, stored: str) -> tuple[int, int, int]:
    """Bytes of the base model, of its LoRA, and of the most that was there at once with AdamW's two states."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        model, loras, call = _built(family, side, batch, saving)
        _cast(model, HALF)
        network = loras.create_network(1.0, RANK, 1, None, [], model)
        network.apply_to([], model, False, True)
        _cast(network, torch.float32, taught=True)
        _cast(model, STORED[stored])
        if saving:
            model.enable_gradient_checkpointing()
        model.train()
        with Counter() as seen:
            for value in (*model.parameters(), *model.buffers()):
                seen.add(value)
            base = seen.now
            for value in network.parameters():
                seen.add(value)
            lora = seen.now - base
            with torch.autocast("cpu", dtype=HALF):
                out = call()
            loss = F.mse_loss(out.float(), torch.empty_like(out).float())
            del out
            loss.backward()
            del loss
            gc.collect()
        return base, lora, seen.peak + 2 * lora


def main(source: str, *cases: str) -> None:
    sys.path.insert(0, source)
    logging.disable(logging.INFO)
    _as_on_a_card()
    for case in cases or CASES:
        family, side, batch, saving, stored = case.split(",")
        began = time.monotonic()
        base, lora, peak = (n / GIB for n in count(family, int(side), int(batch), saving == "yes", stored))
        took = time.monotonic() - began
        print(f"{case}: base {base:.2f}, LoRA {lora:.2f}, peak {peak:.2f} GiB ({took:.0f} s)", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
