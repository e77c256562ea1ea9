"""Is a LoRA file sound? Numbers that are not finite, layers that do nothing, halves without their other half, odd sizes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from studio.findings import Finding
from studio.lora.info import rank_of
from studio.lora.names import split
from studio.lora.reader import opened

LOUD = 8.0
"""A layer whose change is this many times the median of its file is named: practice, no measured limit."""


@dataclass
class CheckReport:
    """What a check found.

    layers: adapter layers looked at; dead: those that change nothing; broken: with numbers that are not finite; loud: (layer,
    its size over the median's), largest first; size: median size of a layer's change (Frobenius norm of up @ down * alpha / rank).
    """

    layers: int = 0
    dead: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    lonely: list[str] = field(default_factory=list)
    loud: list[tuple[str, float]] = field(default_factory=list)
    size: float | None = None
    findings: list[Finding] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not any(f.severity in ("block", "warn") for f in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json` and the job's result."""
        return {
            "sound": self.sound,
            "layers": self.layers,
            "dead": self.dead,
            "broken": self.broken,
            "lonely": self.lonely,
            "loud": [[n, round(x, 2)] for n, x in self.loud],
            "size": self.size,
            "findings": [f.model_dump(mode="json") for f in self.findings],
        }


def check_lora(path: Path, tick: Callable[[int, int], None] = lambda _done, _all: None) -> CheckReport:
    """Read every tensor once. tick(done, all layers): called for each layer; may raise to leave early.

    Raises InputError when the file is no whole safetensors file.
    """
    report = CheckReport()
    sizes: dict[str, float] = {}
    large_alpha = 0
    with opened(path) as tensors:
        layers: dict[str, dict[str, str]] = defaultdict(dict)
        for name in tensors.header:
            stem, role = split(name)
            layers[stem][role or name] = name
        for done, (stem, roles) in enumerate(layers.items()):
            tick(done, len(layers))
            found = {role: tensors.read(name) for role, name in roles.items()}
            if any(not np.isfinite(v).all() for v in found.values()):
                report.broken.append(stem)
                continue
            if not set(found) - {"alpha"}:
                report.lonely.append(stem)
                continue
            report.layers += 1
            if ("down" in found) != ("up" in found):
                report.lonely.append(stem)
                continue
            rank = rank_of(roles, tensors)
            alpha = float(found["alpha"].reshape(-1)[0]) if "alpha" in found else float(rank)
            large_alpha += alpha > rank > 0
            change = _size(found, alpha / rank if rank else 1.0)
            if change == 0 or (rank and alpha == 0):
                report.dead.append(stem)
            elif "down" in found:
                sizes[stem] = change
    if sizes:
        middle = float(np.median(list(sizes.values())))
        report.size = round(middle, 6)
        report.loud = sorted(
            ((n, s / middle) for n, s in sizes.items() if middle > 0 and s > LOUD * middle),
            key=lambda x: -x[1],
        )[:20]
    report.findings = _findings(path, report, large_alpha)
    return report


def _size(found: dict[str, Any], scale: float) -> float:
    """How much a layer changes; 0 when it changes nothing. For up and down: the norm of their product, by r × r products only."""
    if "down" in found and "up" in found and "mid" not in found:
        up, down = found["up"].reshape(len(found["up"]), -1), found["down"].reshape(len(found["down"]), -1)
        if up.shape[1] != down.shape[0]:
            return float(np.linalg.norm(up) * np.linalg.norm(down))
        # ||UD||^2 = trace((U'U)(DD'))
        square = float(np.sum((up.T.astype(np.float64) @ up) * (down.astype(np.float64) @ down.T)))
        return abs(scale) * float(np.sqrt(max(0.0, square)))
    pairs = [("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b"), ("down", "up", "mid")]
    for group in pairs:
        if group[0] in found:
            return float(np.prod([np.linalg.norm(found[r]) for r in group if r in found]))
    if any(r.startswith("lokr_") for r in found):
        norms = [np.linalg.norm(v) for r, v in found.items() if r.startswith("lokr_")]
        return float(np.prod(norms))
    return float(max(np.abs(v).max(initial=0.0) for r, v in found.items() if r != "alpha"))


def _findings(path: Path, report: CheckReport, large_alpha: int) -> list[Finding]:
    found = []

    def add(severity: Any, code: str, what: str, why: str, fix: str, where: list[str]) -> None:
        found.append(
            Finding(severity=severity, code=code, what=what, why=why, fix=fix, where=tuple(where[:20]))
        )

    if report.broken:
        add("block", "lora-not-finite", f"{len(report.broken)} layers hold numbers that are not finite.",
            "Training broke down (NaN). Pictures drawn with this file are black or noise.",
            "Use an earlier checkpoint, and train with a lower learning rate or in bf16.", report.broken)  # fmt: skip
    if report.lonely:
        add("warn", "lora-half", f"{len(report.lonely)} layers have only one of their two halves.",
            "A layer works with both; programs that load the file skip them or refuse it.",
            "Save the LoRA again with the tool that made it.", report.lonely)  # fmt: skip
    if report.layers and len(report.dead) == report.layers:
        add("block", "lora-dead", "This LoRA does nothing: every layer is zero.",
            "It is a checkpoint from before the first step, or the learning rate was 0.",
            "Use a later checkpoint, or train with a learning rate above 0.", report.dead)  # fmt: skip
    elif report.dead:
        add("warn", "lora-dead-layers", f"{len(report.dead)} of {report.layers} layers do nothing.",
            "Their numbers are all zero: they were frozen, or never reached while training.",
            "Nothing to do when a part was left out on purpose; else check which parts are trained.", report.dead)  # fmt: skip
    if report.loud:
        name, times = report.loud[0]
        add("info", "lora-loud", f"One layer changes {times:.0f} times as much as the middle one: {name}.",
            "A few layers that stand out can be all right, and can be a sign of a learning rate that was too high.",
            "Compare pictures at weight 0.5 and 1; if they look burnt, use an earlier checkpoint.", [n for n, _ in report.loud])  # fmt: skip
    if large_alpha:
        add("info", "lora-alpha", f"In {large_alpha} layers alpha is larger than the rank.",
            "The effect is multiplied by alpha over rank, so this LoRA is strong at weight 1.",
            "Start with a lower weight, such as 0.5.", [])  # fmt: skip
    if not found:
        add("info", "lora-sound", f"{path.name} is sound.",
            f"All {report.layers} layers hold finite numbers and change something.", "Nothing to do.", [])  # fmt: skip
    return found
