"""Combinations that cannot work or that cost more than they save, named before anything runs."""

from __future__ import annotations

from dataclasses import replace

from studio.files import human_memory
from studio.findings import Finding
from studio.vram.conditions import STORED, Conditions
from studio.vram.families import Transformer, sized
from studio.vram.model import forecast


def refusals(c: Conditions) -> list[Finding]:
    """What must not be combined; [] when nothing speaks against it."""
    shape = sized(c.family, c.inner, c.blocks).shape
    found = []
    if STORED[c.stored] < c.computed and not c.checkpointing:
        needs = forecast(c).total
        plain = forecast(replace(c, stored="16" if c.computed == 2 else "fp32")).total
        found.append(
            _refused(
                "fp8-without-checkpointing",
                "An fp8 base model without gradient checkpointing takes more memory, not less.",
                f"A 16 bit copy of each layer is kept for the way back: about {human_memory(needs)} instead of "
                f"{human_memory(plain)}. Measured runs of SDXL took 26 GiB so, and 13 GiB without fp8.",
                "Turn gradient checkpointing on, or turn fp8 off.",
                ("fp8_base", "gradient_checkpointing"),
            )
        )
    if c.swapped and not isinstance(shape, Transformer):
        found.append(
            _refused(
                "swap-without-blocks",
                "Blocks cannot be swapped with this base model.",
                "Only SD3.5 and FLUX are made of blocks that can wait in the computer's memory.",
                "Set the blocks to swap to 0; gradient checkpointing saves memory here.",
                ("blocks_to_swap",),
            )
        )
    elif isinstance(shape, Transformer) and c.swapped > shape.swap_limit:
        found.append(
            _refused(
                "swap-too-many",
                f"{c.swapped} blocks cannot be swapped.",
                f"Some have to stay on the card; sd-scripts takes at most {shape.swap_limit} for this base model.",
                f"Set it to {shape.swap_limit} or less.",
                ("blocks_to_swap",),
            )
        )
    if c.swapped and c.offloaded:
        found.append(
            _refused(
                "swap-and-offload",
                "Swapping blocks and keeping checkpoints in the computer's memory exclude each other.",
                "Both move data over the same way at the same moment, and sd-scripts refuses it.",
                "Turn one of the two off.",
                ("blocks_to_swap", "cpu_offload_checkpointing"),
            )
        )
    return found


def _refused(code: str, what: str, why: str, fix: str, where: tuple[str, ...]) -> Finding:
    return Finding(severity="block", code=code, what=what, why=why, fix=fix, where=where)
