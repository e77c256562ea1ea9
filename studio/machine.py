"""What this computer has: cores, memory, graphics cards, versions. Read without importing torch.

Graphics cards are asked for with `nvidia-smi`; whether torch itself can use them is for the environment gate, which
asks in a process of its own.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from studio import files

# The packages whose versions decide what a run computes.
VERSIONED = (
    "torch",
    "diffusers",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "numpy",
    "streamlit",
    "prodigyopt",
    "lion-pytorch",
    "bitsandbytes",
)


@dataclass(frozen=True)
class Gpu:
    """One NVIDIA card. vram_bytes: total memory; driver: version as `nvidia-smi` gives it; index: its number there, which
    counts by the slots of the computer (CUDA's PCI_BUS_ID)."""

    name: str
    vram_bytes: int
    driver: str
    index: int = 0


@dataclass(frozen=True)
class Machine:
    """This computer. ram_bytes: total memory; packages: name -> installed version, absent ones left out."""

    system: str
    cpu: str
    cores: int
    ram_bytes: int
    gpus: tuple[Gpu, ...]
    python: str
    packages: dict[str, str]

    @property
    def device(self) -> str:
        """ "cuda" when there is a card, "mps" on an Apple chip, else "cpu"."""
        if self.gpus:
            return "cuda"
        return "mps" if sys.platform == "darwin" and platform.machine() == "arm64" else "cpu"

    @property
    def memory_bytes(self) -> int:
        """Memory that training may use: of the largest card, else of the computer."""
        return max((g.vram_bytes for g in self.gpus), default=self.ram_bytes)

    @property
    def words(self) -> str:
        """The computer in one sentence."""
        if self.gpus:
            g = max(self.gpus, key=lambda g: g.vram_bytes)
            return f"{g.name} with {files.human_memory(g.vram_bytes)} of memory, {self.cores} CPU cores."
        return f"No graphics card found: {self.cores} CPU cores and {files.human_memory(self.ram_bytes)} of memory."

    def as_dict(self) -> dict[str, Any]:
        """Plain data, for records and fingerprints."""
        return asdict(self)


VISIBLE, ORDER = "CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER"


def parse_cards(said: str) -> tuple[Gpu, ...]:
    """The cards of `nvidia-smi --query-gpu=index,name,memory.total,driver_version --format=csv,noheader,nounits`. Lines of
    cards that answer with an error, such as one that was lost, are left out."""
    found = []
    for line in said.splitlines():
        parts = [p.strip() for p in line.split(",")]
        if len(parts) == 4 and parts[0].isdigit() and parts[2].isdigit():
            found.append(Gpu(parts[1], int(parts[2]) * 2**20, parts[3], int(parts[0])))
    return tuple(found)


def visible(cards: tuple[Gpu, ...], shown: str | None) -> tuple[Gpu, ...]:
    """Those of the cards that programs may use. shown: CUDA_VISIBLE_DEVICES, None when it is not set. Numbers only: cards named
    otherwise (GPU-…, MIG-…) cannot be told apart here, and all are given."""
    if shown is None or any(not p.strip().lstrip("-").isdigit() for p in shown.split(",") if p.strip()):
        return cards
    wanted = []
    for number in (int(p) for p in shown.split(",") if p.strip()):
        if number not in {c.index for c in cards}:
            break  # CUDA shows none of those after the first that is not there
        wanted.append(number)
    return tuple(c for c in cards if c.index in wanted)


def card_env(gpu: int | None, cards: tuple[Gpu, ...] | None = None) -> dict[str, str]:
    """What a training is to find in its environment, so that it uses the card that its memory was reckoned for.

    gpu: the number of its card; None: no matter which, and then the largest where there are several, because CUDA by itself
    takes the fastest. {} where there is nothing to choose.
    """
    have = detect().gpus if cards is None else cards
    if gpu is None:
        if len(have) < 2:
            return {}
        gpu = max(have, key=lambda c: c.vram_bytes).index
    return {VISIBLE: str(gpu), ORDER: "PCI_BUS_ID"}


def _gpus() -> tuple[Gpu, ...]:
    tool = shutil.which("nvidia-smi")
    if tool is None:
        return ()
    try:
        done = subprocess.run(
            [tool, "--query-gpu=index,name,memory.total,driver_version", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    return parse_cards(done.stdout)


def installed_version(package: str) -> str | None:
    """Version of an installed package without importing it; None when it is absent."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def detect() -> Machine:
    """This computer, looked at once per process; of its cards those that CUDA_VISIBLE_DEVICES leaves."""
    return _detected(os.environ.get(VISIBLE))


@lru_cache(maxsize=8)
def _detected(shown: str | None) -> Machine:
    whole = _whole()
    return replace(whole, gpus=visible(whole.gpus, shown))


@lru_cache(maxsize=1)
def _whole() -> Machine:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)
    return Machine(
        system=f"{platform.system()} {platform.release()}",
        cpu=platform.processor() or platform.machine(),
        cores=cores,
        ram_bytes=psutil.virtual_memory().total,
        gpus=_gpus(),
        python=platform.python_version(),
        packages={p: v for p in VERSIONED if (v := installed_version(p)) is not None},
    )


@dataclass(frozen=True)
class Usage:
    """What is in use at this moment, in bytes. vram: used and total of the fullest card; None without one."""

    ram: tuple[int, int]
    disk_free: int
    vram: tuple[int, int] | None


def usage(path: Path) -> Usage:
    """What is in use now; path: whose disk is meant. Asks `nvidia-smi` when there is a card, about 50 ms."""
    memory = psutil.virtual_memory()
    cards = []
    tool = shutil.which("nvidia-smi") if detect().gpus else None
    if tool is not None:
        try:
            done = subprocess.run(
                [tool, "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"],
                capture_output=True, text=True, timeout=5, check=True, stdin=subprocess.DEVNULL,
            )  # fmt: skip
            rows = [line.replace(" ", "").split(",") for line in done.stdout.splitlines()]
            cards = [(int(u) << 20, int(t) << 20) for u, t in rows if u.isdigit() and t.isdigit()]
        except (OSError, ValueError, subprocess.SubprocessError):
            cards = []
    return Usage((memory.total - memory.available, memory.total), disk_free(path), max(cards, default=None))


def disk_free(path: Path) -> int:
    """Free bytes on the disk of `path`."""
    return files.free_bytes(path)
