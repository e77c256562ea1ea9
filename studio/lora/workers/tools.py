"""The jobs of `studio.lora.tasks`: resize, merge, convert and check LoRA files."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from studio.errors import InputError
from studio.lora.blocks import block_of, block_order
from studio.lora.check import check_lora
from studio.lora.info import family_of
from studio.lora.reader import opened
from studio.lora.workers import tensors as lt
from studio.lora.workers.keys import converted

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker


def check_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """Look at every number of a file."""

    def tick(done: int, total: int) -> None:
        worker.check()
        worker.progress(done, total, "layers", "Reading")

    return check_lora(Path(payload["file"]), tick).as_dict()


def resize_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """A copy with a lower rank: the best approximation of each layer's change."""
    source = lt.read(Path(payload["file"]))
    rank, conv_rank = int(payload["rank"]), int(payload.get("conv_rank") or payload["rank"])
    dtype = lt.TYPES.get(payload.get("type") or "", source.dtype)
    out: dict[str, torch.Tensor] = {
        k: v.to(dtype) if v.is_floating_point() else v for k, v in source.rest.items()
    }
    ranks: list[int] = []
    kept = total = 0.0
    rows: list[dict[str, Any]] = []
    blocks: dict[str, list[tuple[float, float, int]]] = {}
    for done, layer in enumerate(source.layers.values()):
        worker.check()
        worker.progress(done, len(source.layers), "layers", "Computing the best smaller factors")
        if not ({"down", "up"} <= set(layer.parts)) and not any(
            r.startswith(("hada_", "lokr_")) for r in layer.parts
        ):
            for role, tensor in layer.parts.items():
                out[layer.tensor_names[role]] = tensor.to(dtype) if tensor.is_floating_point() else tensor
            continue
        limit = conv_rank if math.prod(layer.kernel or (1,)) > 1 else rank
        reduced, new = shrunk(layer, limit, payload.get("keep"))
        scale = layer.scale if layer.is_lora else 1.0
        names = layer.tensor_names if layer.is_lora else {}
        out[names.get("down", f"{layer.name}.lora_down.weight")] = new["down"].to(dtype)
        out[names.get("up", f"{layer.name}.lora_up.weight")] = new["up"].to(dtype)
        if "alpha" in layer.parts or not layer.is_lora:
            out[names.get("alpha", f"{layer.name}.alpha")] = torch.tensor(
                scale * reduced.rank, dtype=torch.float32
            ).to(dtype)
        if "dora" in layer.parts:
            out[layer.tensor_names["dora"]] = layer.parts["dora"].to(dtype)
        ranks.append(reduced.rank)
        kept += reduced.kept * scale**2
        total += reduced.total * scale**2
        share = math.sqrt(reduced.kept / reduced.total) if reduced.total else 1.0
        weighed = (reduced.kept * scale**2, reduced.total * scale**2, reduced.rank)
        blocks.setdefault(block_of(layer.name), []).append(weighed)
        rows.append({"layer": layer.name, "rank": reduced.rank, "was": layer.rank, "kept": round(share, 5)})
    if not ranks:
        raise InputError(f"{source.path.name} has no layer that can be resized.", "Only LoRA, LoCon, LoHa and LoKr layers have a rank.",
                         "Use the file as it is.")  # fmt: skip
    low, high = min(ranks), max(ranks)
    share = math.sqrt(kept / total) if total else 1.0
    told = {
        **source.metadata,
        "ss_network_dim": str(high) if low == high else "Dynamic",
        "ss_network_alpha": _alpha_word(out),
        "ss_training_comment": f"resized to rank {low if low == high else f'{low} to {high}'}, {share:.1%} kept; "
        + source.metadata.get("ss_training_comment", ""),
    }
    target = Path(payload["out"])
    lt.write(target, out, told)
    return {
        "file": str(target), "size_bytes": target.stat().st_size, "was_bytes": source.path.stat().st_size, "layers": len(ranks),
        "rank_low": low, "rank_high": high, "kept": round(share, 5), "worst": sorted(rows, key=lambda r: float(r["kept"]))[:10],
        "blocks": [_block(name, blocks[name]) for name in sorted(blocks, key=block_order)],
    }  # fmt: skip


def _block(name: str, layers: list[tuple[float, float, int]]) -> dict[str, Any]:
    """What a block keeps: the share of the norm of its whole change, and the ranks of its layers."""
    kept, total = sum(k for k, _t, _r in layers), sum(t for _k, t, _r in layers)
    ranks = [r for _k, _t, r in layers]
    share = math.sqrt(kept / total) if total else 1.0
    return {
        "block": name,
        "layers": len(layers),
        "kept": round(share, 5),
        "rank_low": min(ranks),
        "rank_high": max(ranks),
    }


def shrunk(layer: lt.Layer, rank: int, keep: float | None) -> tuple[lt.Reduced, dict[str, torch.Tensor]]:
    """The best smaller factors of a layer, and both in the shapes that a file holds."""
    if layer.is_lora:
        up, down = layer.parts["up"].float(), layer.parts["down"].float()
        found = lt.reduce(up.flatten(1), down.flatten(1), min(rank, layer.rank), keep)
        tail, ones = down.shape[1:], up.shape[2:]
    else:
        delta = layer.delta()
        found = lt.from_delta(delta, rank, keep)
        tail, ones = delta.shape[1:], torch.Size([1] * (delta.dim() - 2))
    return found, {"down": found.down.view(found.rank, *tail), "up": found.up.view(-1, found.rank, *ones)}


def _alpha_word(out: dict[str, torch.Tensor]) -> str:
    values = {round(float(v), 4) for k, v in out.items() if k.endswith(".alpha")}
    return str(values.pop()) if len(values) == 1 else "Dynamic"


def merge_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """One file that does what several do together, each at its weight: exact by joining the factors, or of a given rank."""
    sources = [(lt.read(Path(p)), float(w)) for p, w in payload["sources"]]
    rank = payload.get("rank")
    _mergeable([s for s, _ in sources], rank)
    dtype = lt.TYPES.get(payload.get("type") or "") or _widest([s for s, _ in sources])
    stems = list(dict.fromkeys(stem for s, _ in sources for stem in s.layers))
    out: dict[str, torch.Tensor] = {}
    ranks: list[int] = []
    kept = total = 0.0
    for done, stem in enumerate(stems):
        worker.check()
        worker.progress(done, len(stems), "layers", "Putting them together")
        found = [(s.layers[stem], w) for s, w in sources if stem in s.layers]
        up, down, tail = _joined(stem, found)
        if rank:
            reduced = lt.reduce(up, down, int(rank))
            up, down = reduced.up, reduced.down
            kept, total = kept + reduced.kept, total + reduced.total
        size = down.shape[0]
        plain = next((layer for layer, _ in found if layer.is_lora), None)
        names = plain.tensor_names if plain is not None else {}
        ones = [1] * (len(tail) - 1)
        out[names.get("down", f"{stem}.lora_down.weight")] = down.view(size, *tail).to(dtype)
        out[names.get("up", f"{stem}.lora_up.weight")] = up.view(-1, size, *ones).to(dtype)
        if sources[0][0].naming == "kohya":
            out[f"{stem}.alpha"] = torch.tensor(float(size)).to(dtype)
        ranks.append(size)
    target = Path(payload["out"])
    lt.write(target, out, _merged_metadata(sources, ranks))
    return {
        "file": str(target), "size_bytes": target.stat().st_size, "layers": len(ranks), "rank_low": min(ranks), "rank_high": max(ranks),
        "kept": round(math.sqrt(kept / total), 5) if rank and total else 1.0,
    }  # fmt: skip


def _joined(stem: str, found: list[tuple[lt.Layer, float]]) -> tuple[torch.Tensor, torch.Tensor, torch.Size]:
    """up and down whose product is the weighted sum of the layers' changes, and the shape behind the rank."""
    ups, downs, tails = [], [], []
    for layer, weight in found:
        if layer.is_lora:
            up, down = layer.factors()
            tails.append(layer.parts["down"].shape[1:])
        else:
            delta = layer.delta()
            reduced = lt.from_delta(delta, min(delta.flatten(1).shape))
            up, down = reduced.up, reduced.down
            tails.append(delta.shape[1:])
        ups.append(up * weight)
        downs.append(down)
    if len({u.shape[0] for u in ups}) > 1 or len({d.shape[1] for d in downs}) > 1:
        raise InputError("These LoRAs cannot be merged.", f"The layer {stem} has another size in each, so they were made for different base models.",
                         "Merge only LoRAs of one base model family.")  # fmt: skip
    return torch.cat(ups, 1), torch.cat(downs, 0), max(tails, key=len)


def _mergeable(found: list[lt.LoraFile], rank: int | None) -> None:
    """Refuse what cannot be added up. Raises InputError."""
    kinds = {s.naming for s in found}
    if len(kinds) > 1:
        raise InputError("These LoRAs cannot be merged.", f"Their layers are named in different ways: {', '.join(sorted(kinds))}.",
                         "Convert them to the same names first (`lora convert`).")  # fmt: skip
    dora = [s.path.name for s in found if any("dora" in layer.parts for layer in s.layers.values())]
    if dora:
        raise InputError(f"{dora[0]} is a DoRA, and DoRAs cannot be merged.", "They rescale the base model's weights, which does not add up.",
                         "Load both beside each other at the weights you like.")  # fmt: skip
    odd = [
        s.path.name
        for s in found
        if any(not layer.is_lora and set(layer.parts) - {"alpha"} for layer in s.layers.values())
    ]
    if odd and not rank:
        raise InputError(f"{odd[0]} is not a plain LoRA, so it cannot be joined exactly.", "LoHa, LoKr and full differences have no factors to put side by side.",
                         "Give a rank (`--rank 32`): then the sum is approximated.")  # fmt: skip


def _widest(found: list[lt.LoraFile]) -> torch.dtype:
    dtype = found[0].dtype
    for source in found[1:]:
        dtype = torch.promote_types(dtype, source.dtype)
    return dtype


def _merged_metadata(sources: list[tuple[lt.LoraFile, float]], ranks: list[int]) -> dict[str, str]:
    first = sources[0][0].metadata
    same = (
        "ss_base_model_version",
        "ss_v2",
        "modelspec.architecture",
        "ss_sd_model_name",
        "ss_sd_model_hash",
        "modelspec.sai_model_spec",
    )
    rank = str(ranks[0]) if len(set(ranks)) == 1 else "Dynamic"
    return {
        **{
            k: first[k] for k in same if k in first and all(s.metadata.get(k) == first[k] for s, _ in sources)
        },
        "ss_network_module": "networks.lora",
        "ss_network_dim": rank,
        "ss_network_alpha": f"{float(rank)}" if rank.isdigit() else rank,
        "modelspec.merged_from": ", ".join(s.path.stem for s, _ in sources),
        "lora_studio.merged": json.dumps([[s.path.name, w] for s, w in sources]),
    }


def convert_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """A copy with other key names, another number format, or both."""
    path = Path(payload["file"])
    source = lt.read(path)
    dtype = lt.TYPES.get(payload.get("type") or "", source.dtype)
    worker.progress(0, 2, "steps", "Renaming")
    told = dict(source.metadata)
    if payload.get("names"):
        with opened(path) as header:
            family = family_of(header)
        out, told = converted(source, str(payload["names"]), family, dtype)
    else:
        out = {
            layer.tensor_names[r]: t for layer in source.layers.values() for r, t in layer.parts.items()
        } | source.rest
    out = {k: v.to(dtype) if v.is_floating_point() else v for k, v in out.items()}
    lost = [k for k, v in out.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if dtype == torch.float16 and lost:
        raise InputError("This LoRA does not fit into fp16.", f"Numbers above 65,504 in {len(lost)} tensors, such as {lost[0]}, would become infinite.",
                         "Use bf16 or fp32.")  # fmt: skip
    worker.check()
    target = Path(payload["out"])
    lt.write(target, out, told)
    return {
        "file": str(target),
        "size_bytes": target.stat().st_size,
        "was_bytes": path.stat().st_size,
        "tensors": len(out),
    }
