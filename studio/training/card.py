"""Whether PyTorch can use the graphics card: driver, CUDA of the build, architectures, number formats. In findings.

Figures: NVIDIA's table of drivers (CUDA 11 from 450, 12 from 525, 13 from 580; RTX 50 cards from 570), PyTorch's release
notes for which builds know which cards, bitsandbytes' notes (compute capability 6.0 and above). What a build really knows is
asked of PyTorch itself (`torch.cuda.get_arch_list`), and counts before any table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from studio.findings import Finding
from studio.machine import Gpu, Machine
from studio.settings import TrainingSettings

_DRIVER_FOR = {11: 450, 12: 525, 13: 580}
_NEWEST_DRIVER = 570  # the first that knows RTX 50 cards
_INDEX = "https://download.pytorch.org/whl"


def findings(
    machine: Machine, seen: Mapping[str, Any], settings: TrainingSettings, pip: str
) -> list[Finding]:
    """What speaks against computing on this card with the PyTorch that was asked; [] without a card, or when nothing does.

    seen: the answer of the process that imported it (torch, cuda_build, cuda, capability, arch, bf16, torch_error).
    pip: how that environment's pip is started, for the commands that mend it.
    """
    if not machine.gpus or not seen.get("torch"):
        return []
    card = machine.gpus[0]
    capability = tuple(seen.get("capability") or ())
    if not seen.get("cuda"):
        return [_unusable(card, seen, pip)]
    found = []
    arch = [str(a) for a in seen.get("arch") or ()]
    if capability and arch and not knows(arch, capability):
        found.append(
            Finding(
                severity="block",
                code="card-not-in-build",
                what=f"This PyTorch does not know the {card.name}.",
                why=f"The card has compute capability {capability[0]}.{capability[1]}; PyTorch {seen['torch']} was built for "
                f"{', '.join(arch)}. Training would end with 'no kernel image is available'.",
                fix=f"Run: {install_line(card, capability, pip)}",
            )
        )
    elif seen.get("torch_error"):
        found.append(
            Finding(
                severity="block",
                code="cuda-fails",
                what=f"A first calculation on the {card.name} failed.",
                why=str(seen["torch_error"]),
                fix=f"Restart the computer. If it stays, run: {install_line(card, capability, pip)}",
            )
        )
    return found + _formats(card, capability, seen, settings)


def knows(arch: Sequence[str], capability: Sequence[int]) -> bool:
    """Whether a build with these architectures (`sm_86`, `compute_90`) runs on a card: code for the same major version and no
    newer minor one runs, and PTX (`compute_`) runs on anything newer."""
    major, minor = int(capability[0]), int(capability[1])
    for name in arch:
        told = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", name)
        if not told:
            continue
        its = (int(told[2]), int(told[3]))
        if told[1] == "sm" and its[0] == major and its[1] <= minor:
            return True
        if told[1] == "compute" and its <= (major, minor):
            return True
    return False


def install_line(card: Gpu, capability: Sequence[int], pip: str) -> str:
    """The pip command that installs a PyTorch for this card and its driver."""
    return f"{pip} install --force-reinstall torch torchvision --index-url {_INDEX}/{build_for(card, capability)}"


def build_for(card: Gpu, capability: Sequence[int]) -> str:
    """The CUDA build that fits a card and its driver: `cu126`, `cu128` or `cu130`."""
    driver = driver_of(card)
    newest = int(capability[0]) >= 10 if capability else bool(re.search(r"RTX\s*50\d\d|B[12]00", card.name))
    oldest = bool(capability) and (int(capability[0]), int(capability[1])) < (7, 5)
    if oldest:
        return "cu126"  # the last that knows Maxwell, Pascal and Volta
    if newest:
        return "cu130" if driver >= _DRIVER_FOR[13] else "cu128"
    return "cu130" if driver >= _DRIVER_FOR[13] else "cu126"


def driver_of(card: Gpu) -> int:
    """Main number of the card's driver; 0 when it is not told."""
    told = re.match(r"\d+", card.driver)
    return int(told[0]) if told else 0


def _unusable(card: Gpu, seen: Mapping[str, Any], pip: str) -> Finding:
    build, driver = str(seen.get("cuda_build") or ""), driver_of(card)
    needed = _DRIVER_FOR.get(int(build.partition(".")[0] or 0), 0) if build else 0
    if not build:
        why = f"PyTorch {seen['torch']} was built without CUDA."
        fix = f"Run: {install_line(card, (), pip)}"
    elif driver and driver < needed:
        why = (
            f"It is built for CUDA {build}, which needs driver {needed} or later; this one is {card.driver}."
        )
        fix = f"Update the NVIDIA driver, or run: {install_line(card, (), pip)}"
    else:
        why = f"It is built for CUDA {build}, the driver is {card.driver}. {seen.get('torch_error', '')}".strip()
        fix = "Run nvidia-smi. If that fails too, install the NVIDIA driver anew and restart the computer."
    if driver and driver < _DRIVER_FOR[12]:
        fix = f"Update the NVIDIA driver to {_DRIVER_FOR[12]} or later: this one is too old for every PyTorch that can train here."
    return Finding(
        severity="block",
        code="cuda-unusable",
        what=f"{card.name} is there, but PyTorch cannot use it.",
        why=why,
        fix=fix,
    )


def _formats(
    card: Gpu, capability: tuple[int, ...], seen: Mapping[str, Any], s: TrainingSettings
) -> list[Finding]:
    found = []
    if s.precision == "bf16" and not seen.get("bf16"):
        found.append(
            Finding(
                severity="block",
                code="bf16-unsupported",
                what="This graphics card cannot compute in bf16.",
                why="Cards before the RTX 30 series lack it.",
                fix="Set the precision to fp16.",
                where=("precision",),
            )
        )
    if s.precision == "fp16" and re.search(r"GTX\s*16\d\d", card.name):
        found.append(
            Finding(
                severity="warn",
                code="fp16-on-gtx16",
                what=f"Half precision often fails on the {card.name}.",
                why="Cards of the GTX 16 series are known for NaN in fp16.",
                fix="Set the precision to full if the loss becomes NaN.",
                where=("precision",),
            )
        )
    if s.optimizer == "adamw8bit" and capability and capability[0] < 6:
        found.append(
            Finding(
                severity="block",
                code="card-too-old-for-8bit",
                what=f"The {card.name} is too old for AdamW 8-bit.",
                why="bitsandbytes needs compute capability 6.0.",
                fix="Choose AdamW or Adafactor.",
                where=("optimizer",),
            )
        )
    if s.attention == "xformers" and capability and capability[0] >= 10:
        found.append(
            Finding(
                severity="warn",
                code="xformers-on-blackwell",
                what="xformers is known to fail on cards of the RTX 50 series.",
                why="Its builds pick a kernel that these cards do not have.",
                fix="Set the attention to PyTorch's own; it is as fast.",
                where=("attention",),
            )
        )
    return found
