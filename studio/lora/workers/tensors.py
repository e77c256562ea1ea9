"""The layers of a LoRA file as torch tensors: their factors, their whole change, and the best factors of a lower rank."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save

from studio import files
from studio.errors import InputError
from studio.lora.names import naming, split
from studio.lora.reader import need_safetensors
from studio.models import tensor_header

TYPES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
_STALE = ("sshs_model_hash", "sshs_legacy_hash", "modelspec.hash_sha256")
_SMALLEST = 1e-6
"""Largest singular value below which a change counts as none, as sd-scripts takes it."""


@dataclass
class Layer:
    """One adapted layer. parts: role -> tensor (down, up, mid, alpha, dora, hada_*, lokr_* and others)."""

    name: str
    parts: dict[str, torch.Tensor] = field(default_factory=dict)
    tensor_names: dict[str, str] = field(default_factory=dict)

    @property
    def is_lora(self) -> bool:
        """Whether it is a plain pair of factors (with or without DoRA's scale)."""
        return {"down", "up"} <= set(self.parts) and "mid" not in self.parts

    @property
    def rank(self) -> int:
        for role, axis in (("down", 0), ("hada_w1_b", 0), ("lokr_w2_b", 0), ("lokr_w1_b", 0)):
            if role in self.parts:
                return int(self.parts[role].shape[axis])
        return 0

    @property
    def scale(self) -> float:
        """alpha / rank; 1 without alpha or without a rank (LoKr with whole factors ignores alpha, as LyCORIS does)."""
        if "alpha" not in self.parts or not self.rank:
            return 1.0
        return float(self.parts["alpha"].reshape(-1)[0]) / self.rank

    @property
    def kernel(self) -> tuple[int, ...]:
        """The kernel's height and width for a convolution; () for a linear layer."""
        return tuple(self.parts["down"].shape[2:]) if "down" in self.parts else ()

    def delta(self) -> torch.Tensor:
        """The change at weight 1 in the shape of the layer's weight, 32 bit. Raises InputError for kinds without one."""
        p = {k: v.float() for k, v in self.parts.items()}
        if "mid" in p:  # CP-decomposed convolution: 1x1, then kernel in the small space, then 1x1
            up, mid, down = p["up"].flatten(1), p["mid"], p["down"].flatten(1)
            return torch.einsum("om,mnkl,ni->oikl", up, mid, down) * self.scale
        if "down" in p and "up" in p:
            return (p["up"].flatten(1) @ p["down"].flatten(1)).view(
                p["up"].shape[0], *p["down"].shape[1:]
            ) * self.scale
        if "hada_w1_a" in p and "hada_t1" not in p:
            return (p["hada_w1_a"] @ p["hada_w1_b"]) * (p["hada_w2_a"] @ p["hada_w2_b"]) * self.scale
        if any(k.startswith("lokr_") for k in p) and "lokr_t2" not in p and "lokr_t1" not in p:
            first = p["lokr_w1"] if "lokr_w1" in p else p["lokr_w1_a"] @ p["lokr_w1_b"]
            second = p["lokr_w2"] if "lokr_w2" in p else p["lokr_w2_a"] @ p["lokr_w2_b"].flatten(1)
            if "lokr_w2" not in p and p["lokr_w2_b"].dim() == 4:
                second = second.view(p["lokr_w2_a"].shape[0], *p["lokr_w2_b"].shape[1:])
            if second.dim() == 4 and first.dim() == 2:
                first = first[..., None, None]
            return torch.kron(first, second.contiguous()) * self.scale
        raise InputError(
            f"The layer {self.name} is of a kind that cannot be turned into LoRA factors.",
            f"It holds {', '.join(sorted(self.parts))}.",
            "Use the tool that made the file.",
        )

    def factors(self) -> tuple[torch.Tensor, torch.Tensor]:
        """up (out × rank) and down (rank × the rest), 32 bit, whose product is the change at weight 1. Only for plain pairs."""
        up, down = self.parts["up"].float().flatten(1), self.parts["down"].float().flatten(1)
        return up * self.scale, down


@dataclass
class LoraFile:
    """A LoRA file in memory. rest: tensors that belong to no layer known here; kept as they are."""

    path: Path
    layers: dict[str, Layer]
    rest: dict[str, torch.Tensor]
    metadata: dict[str, str]
    naming: str
    dtype: torch.dtype


def read(path: Path) -> LoraFile:
    """Load a LoRA file. Raises InputError when it is a pickle, not whole, or holds no adapter layers."""
    need_safetensors(path)
    header = tensor_header(path)
    told = header.pop("__metadata__", None) or {}
    layers: dict[str, Layer] = {}
    rest: dict[str, torch.Tensor] = {}
    widest: torch.dtype | None = None
    with safe_open(str(path), framework="pt") as opened:
        for name in header:
            tensor = opened.get_tensor(name)
            stem, role = split(name)
            if not role:
                rest[name] = tensor
                continue
            layer = layers.setdefault(stem, Layer(stem))
            layer.parts[role], layer.tensor_names[role] = tensor, name
            if role != "alpha" and tensor.is_floating_point():
                widest = tensor.dtype if widest is None else torch.promote_types(widest, tensor.dtype)
    if not any(set(layer.parts) - {"alpha"} for layer in layers.values()):
        raise InputError(
            f"{path.name} is not a LoRA.",
            "None of its tensors has the name of an adapter's layer.",
            "Choose a file that a LoRA training wrote.",
        )
    metadata = {str(k): str(v) for k, v in told.items()}
    return LoraFile(path, layers, rest, metadata, naming(header), widest or torch.float32)


def write(path: Path, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write a LoRA file atomically. Hashes of the old content leave the metadata; `sshs_model_hash` (SHA-256 of what follows the
    header, as A1111 and sd-scripts count it) is made anew."""
    told = {k: v for k, v in metadata.items() if k not in _STALE}
    content = {k: v.contiguous() for k, v in tensors.items()}
    plain = save(content)
    start = 8 + struct.unpack("<Q", plain[:8])[0]
    told["sshs_model_hash"] = hashlib.sha256(memoryview(plain)[start:]).hexdigest()
    del plain
    files.write_bytes(path, save(content, told))


@dataclass(frozen=True)
class Reduced:
    """Factors of a lower rank. kept, total: squared Frobenius norms of what they hold and of the whole change."""

    up: torch.Tensor
    down: torch.Tensor
    rank: int
    kept: float
    total: float


def reduce(up: torch.Tensor, down: torch.Tensor, rank: int, keep: float | None = None) -> Reduced:
    """The best factors of at most `rank` for up @ down (Eckart and Young 1936), by QR of both and an SVD of a small matrix:
    the same as the SVD of the whole product, which is never made.

    keep: share of the Frobenius norm, 0..1: the smallest rank that keeps it, at most `rank`.
    """
    left, r_left = torch.linalg.qr(up.double())
    right, r_right = torch.linalg.qr(down.double().T)
    u, s, vh = torch.linalg.svd(r_left @ r_right.T, full_matrices=False)
    squares = s.square()
    total = float(squares.sum())
    new = min(rank, len(s))
    if not len(s) or float(s[0]) <= _SMALLEST:
        new = 1
    elif keep is not None:
        shares = torch.sqrt(torch.cumsum(squares, 0) / squares.sum())
        new = max(1, min(new, int(torch.searchsorted(shares, torch.tensor(keep, dtype=shares.dtype))) + 1))
    found_up = (left @ u[:, :new]) * s[:new]
    found_down = vh[:new] @ right.T
    return Reduced(found_up.float(), found_down.float(), new, float(squares[:new].sum()), total)


def from_delta(delta: torch.Tensor, rank: int, keep: float | None = None) -> Reduced:
    """The best factors of a whole change."""
    flat = delta.flatten(1)
    if flat.shape[0] <= flat.shape[1]:
        return reduce(torch.eye(flat.shape[0]), flat, rank, keep)
    return reduce(flat, torch.eye(flat.shape[1]), rank, keep)
