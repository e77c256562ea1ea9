"""kohya's names <-> those of diffusers for FLUX.1 and SD3 / SD3.5, whose layers are cut differently.

The original checkpoints, after which kohya's names are made, hold query, key and value (in FLUX's single blocks also the first half of
the MLP) in one layer; diffusers holds them apart. One LoRA on a joint layer is the same as LoRAs on its pieces that share their `down`;
pieces of their own become one joint layer whose `up` is zero outside of its diagonal, with the ranks added up. Both directions are exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

import torch

from studio.errors import InputError
from studio.lora.workers.tensors import Layer, LoraFile


@dataclass(frozen=True)
class Spot:
    """One layer under both names. theirs: its paths in diffusers' transformer, one for each piece; shares: rows of each piece,
    in units of the layer's width; swap: whether its rows are (shift, scale) on one side and (scale, shift) on the other when
    there are only two of them."""

    mine: str
    theirs: tuple[str, ...]
    shares: tuple[int, ...] = ()
    swap: bool = False


_FLUX_DOUBLE = (
    ("img_attn_qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),
    ("txt_attn_qkv", ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
    ("img_attn_proj", ("attn.to_out.0",)),
    ("txt_attn_proj", ("attn.to_add_out",)),
    ("img_mlp_0", ("ff.net.0.proj",)),
    ("img_mlp_2", ("ff.net.2",)),
    ("txt_mlp_0", ("ff_context.net.0.proj",)),
    ("txt_mlp_2", ("ff_context.net.2",)),
    ("img_mod_lin", ("norm1.linear",)),
    ("txt_mod_lin", ("norm1_context.linear",)),
)
_FLUX_SINGLE = (
    ("linear1", ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp")),
    ("linear2", ("proj_out",)),
    ("modulation_lin", ("norm.linear",)),
)
_SD3_JOINT = (
    ("x_block_attn_qkv", ("attn.to_q", "attn.to_k", "attn.to_v")),
    ("context_block_attn_qkv", ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj")),
    ("x_block_attn2_qkv", ("attn2.to_q", "attn2.to_k", "attn2.to_v")),
    ("x_block_attn_proj", ("attn.to_out.0",)),
    ("context_block_attn_proj", ("attn.to_add_out",)),
    ("x_block_attn2_proj", ("attn2.to_out.0",)),
    ("x_block_mlp_fc1", ("ff.net.0.proj",)),
    ("x_block_mlp_fc2", ("ff.net.2",)),
    ("context_block_mlp_fc1", ("ff_context.net.0.proj",)),
    ("context_block_mlp_fc2", ("ff_context.net.2",)),
    ("x_block_adaLN_modulation_1", ("norm1.linear",)),
    ("context_block_adaLN_modulation_1", ("norm1_context.linear",)),
)
_BLOCKS = {
    "flux": (
        ("double_blocks", "transformer_blocks", 19, _FLUX_DOUBLE),
        ("single_blocks", "single_transformer_blocks", 38, _FLUX_SINGLE),
    ),
    "sd3": (("joint_blocks", "transformer_blocks", 38, _SD3_JOINT),),
}
FAMILIES = tuple(_BLOCKS)
_CLIP = re.compile(
    r"^lora_te(?P<n>[12])_text_model_encoder_layers_(?P<layer>\d+)_(?:self_attn_(?P<attn>[qkv]|out)_proj|mlp_(?P<mlp>fc[12]))$"
)
_CLIP_THEIRS = re.compile(
    r"^text_encoder(?P<n>_2)?\.text_model\.encoder\.layers\.(?P<layer>\d+)\.(?:self_attn\.(?P<attn>[qkv]|out)_proj|mlp\.(?P<mlp>fc[12]))$"
)
Pair = tuple[torch.Tensor, torch.Tensor]


def spots(family: str) -> list[Spot]:
    """All layers of a family's transformer that can carry a LoRA, under both names."""
    found = []
    for mine, theirs, count, table in _BLOCKS[family]:
        for n in range(count):
            for own, pieces in table:
                shares = (1, 1, 1, 4)[: len(pieces)] if len(pieces) > 1 else ()
                found.append(
                    Spot(
                        f"lora_unet_{mine}_{n}_{own}",
                        tuple(f"transformer.{theirs}.{n}.{p}" for p in pieces),
                        shares,
                        own == "context_block_adaLN_modulation_1",
                    )
                )
    return found


def to_diffusers(source: LoraFile, family: str, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Every layer under diffusers' names, alpha in `lora_B`. Raises InputError naming a layer without a place there."""
    known = {s.mine: s for s in spots(family)}
    out: dict[str, torch.Tensor] = {}
    unknown = []
    for stem, layer in source.layers.items():
        up, down = _pair(layer)
        spot, text = known.get(stem), _CLIP.match(stem)
        if spot is not None:
            for path, (piece_up, piece_down) in zip(spot.theirs, _cut(spot, up, down, stem), strict=True):
                out[f"{path}.lora_A.weight"], out[f"{path}.lora_B.weight"] = (
                    piece_down.to(dtype),
                    piece_up.to(dtype),
                )
        elif text:
            path = (
                f"text_encoder{'_2' if text['n'] == '2' else ''}.text_model.encoder.layers.{text['layer']}."
            )
            path += f"self_attn.{text['attn']}_proj" if text["attn"] else f"mlp.{text['mlp']}"
            out[f"{path}.lora_A.weight"], out[f"{path}.lora_B.weight"] = down.to(dtype), up.to(dtype)
        else:
            unknown.append(stem)
    _refuse(source, unknown, "diffusers has no place for them")
    return out


def to_kohya(
    source: LoraFile, family: str, dtype: torch.dtype, alpha_of: Callable[[str, str, int], float]
) -> dict[str, torch.Tensor]:
    """Every layer under kohya's names, with alphas. alpha_of: (part, path, rank) -> alpha, as the file or peft's note tells."""
    layers = {_bare(stem): layer for stem, layer in source.layers.items()}
    out: dict[str, torch.Tensor] = {}
    taken: set[str] = set()

    def put(name: str, up: torch.Tensor, down: torch.Tensor) -> None:
        out[f"{name}.lora_down.weight"], out[f"{name}.lora_up.weight"] = down.to(dtype), up.to(dtype)
        out[f"{name}.alpha"] = torch.tensor(float(down.shape[0]))

    for spot in spots(family):
        there = [p for p in spot.theirs if p in layers]
        if not there:
            continue
        taken.update(there)
        pieces = {
            p: _scaled(layers[p], alpha_of("transformer", p.removeprefix("transformer."), layers[p].rank))
            for p in there
        }
        up, down = _joined(spot, pieces)
        put(spot.mine, _swapped(up, down) if spot.swap else up, down)
    unknown = []
    for stem, layer in layers.items():
        text = _CLIP_THEIRS.match(stem)
        if text:
            part = f"text_encoder{text['n'] or ''}"
            inner = f"self_attn_{text['attn']}_proj" if text["attn"] else f"mlp_{text['mlp']}"
            path = stem.removeprefix(f"{part}.")
            put(f"lora_te{2 if text['n'] else 1}_text_model_encoder_layers_{text['layer']}_{inner}",
                *_scaled(layer, alpha_of(part, path, layer.rank)))  # fmt: skip
        elif stem not in taken:
            unknown.append(stem)
    _refuse(source, unknown, "sd-scripts has no name for them")
    return out


def _bare(stem: str) -> str:
    bare = stem.removeprefix("base_model.model.")
    return bare if bare.startswith(("transformer.", "text_encoder")) else f"transformer.{bare}"


def _pair(layer: Layer) -> Pair:
    """up with alpha in it, and down, flat and in 32 bit."""
    return layer.parts["up"].float().flatten(1) * layer.scale, layer.parts["down"].float().flatten(1)


def _scaled(layer: Layer, alpha: float) -> Pair:
    scale = layer.scale if "alpha" in layer.parts else alpha / max(1, layer.rank)
    return layer.parts["up"].float().flatten(1) * scale, layer.parts["down"].float().flatten(1)


def _cut(spot: Spot, up: torch.Tensor, down: torch.Tensor, stem: str) -> list[Pair]:
    if not spot.shares:
        return [(_swapped(up, down) if spot.swap else up, down)]
    unit, rest = divmod(up.shape[0], sum(spot.shares))
    if rest:
        raise InputError(f"The layer {stem} has {up.shape[0]:,} rows.", f"It should be cut into {len(spot.shares)} pieces.",
                         "Check the file; it may be damaged or for another model.")  # fmt: skip
    rows = torch.split(up, [unit * s for s in spot.shares])
    count, rank = len(rows), down.shape[0]
    if rank % count == 0:
        # Made of pieces with factors of their own: give them back as they were.
        own = rank // count
        diagonal = [r[:, n * own : (n + 1) * own] for n, r in enumerate(rows)]
        if all(bool((r.abs().sum() - d.abs().sum()).abs() == 0) for r, d in zip(rows, diagonal, strict=True)):
            return [
                (d.contiguous(), down[n * own : (n + 1) * own].contiguous()) for n, d in enumerate(diagonal)
            ]
    return [(r.contiguous(), down.clone()) for r in rows]


def _joined(spot: Spot, pieces: dict[str, Pair]) -> Pair:
    if not spot.shares:
        return pieces[spot.theirs[0]]
    unit = next(
        p[0].shape[0] // s
        for path, s in zip(spot.theirs, spot.shares, strict=True)
        if (p := pieces.get(path))
    )
    downs = [p[1] for p in pieces.values()]
    shared = all(d.shape == downs[0].shape and bool(torch.equal(d, downs[0])) for d in downs[1:])
    rank = downs[0].shape[0] if shared else sum(d.shape[0] for d in downs)
    up = torch.zeros(unit * sum(spot.shares), rank)
    row = column = 0
    for path, share in zip(spot.theirs, spot.shares, strict=True):
        piece = pieces.get(path)
        if piece is not None:
            width = piece[1].shape[0]
            if piece[0].shape[0] != unit * share:
                raise InputError(f"{path} has {piece[0].shape[0]:,} rows.", f"Its neighbours make {unit * share:,} of it.",
                                 "Check the file; it may be damaged or for another model.")  # fmt: skip
            start = 0 if shared else column
            up[row : row + unit * share, start : start + width] = piece[0]
            column += width
        row += unit * share
    return up, downs[0] if shared else torch.cat(downs)


def _swapped(up: torch.Tensor, down: torch.Tensor) -> torch.Tensor:
    """The last block's context only has shift and scale, which diffusers keeps in the other order."""
    if up.shape[0] != 2 * down.shape[1]:
        return up
    first, second = up.chunk(2)
    return torch.cat([second, first])


def _refuse(source: LoraFile, unknown: list[str], why: str) -> None:
    if unknown:
        raise InputError(
            f"The names of {source.path.name} cannot be converted.",
            f"{len(unknown)} of its layers stay over, such as {unknown[0]}: {why}.",
            "Use the file as it is; the number format can be changed all the same.",
        )
