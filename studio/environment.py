"""Whether this computer can run a backend: packages, graphics card, memory, disk. The inputs of gate 3.

torch is asked in a process of its own: importing it here would cost the app 200 MB and two seconds for good.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from studio import files
from studio.estimate import MARGIN
from studio.files import human_memory, human_size
from studio.findings import Finding
from studio.machine import Machine, detect
from studio.models import BaseModelEntry, file_findings
from studio.settings import TrainingSettings
from studio.training import card
from studio.training.registry import get_backend
from studio.training.sdscripts import install, parts
from studio.workspace import Workspace

DISK_RESERVE = 500_000_000  # Bytes kept free whatever happens: logs, the browser, the system itself.
PYTHON_FROM, PYTHON_BELOW = (3, 11), (3, 15)
_PROBE_SECONDS = 180
# What the built-in backend imports, beside torch.
NEEDED = ("torch", "diffusers", "transformers", "peft", "accelerate", "safetensors")
_EXTRA = {"prodigy": "prodigyopt", "lion": "lion_pytorch", "adamw8bit": "bitsandbytes"}

_PROBE = """
import importlib, json, sys
out = {"failed": {}}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as e:
        out["failed"][name] = f"{type(e).__name__}: {e}"[:300]
try:
    import torch
    out.update(torch=torch.__version__, cuda_build=torch.version.cuda, cuda=torch.cuda.is_available(), threads=torch.get_num_threads())
    if out["cuda"]:
        out.update(gpu=torch.cuda.get_device_name(0), bf16=torch.cuda.is_bf16_supported(),
                   capability=list(torch.cuda.get_device_capability(0)), arch=torch.cuda.get_arch_list())
        torch.zeros(8, device="cuda").sum().item()
except BaseException as e:
    out["torch_error"] = f"{type(e).__name__}: {e}"[:300]
print("PROBE" + json.dumps(out))
"""


def probe(modules: tuple[str, ...]) -> dict[str, Any]:
    """Import `modules` in a fresh process and ask torch about the graphics card.

    Returns {"failed": {module: error}, "torch": version, "cuda": bool, ...}; {"crashed": words} when the process died.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _PROBE, *modules],
            capture_output=True,
            text=True,
            timeout=_PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"crashed": f"no answer within {_PROBE_SECONDS} seconds"}
    for line in done.stdout.splitlines():
        if line.startswith("PROBE"):
            return dict(json.loads(line[5:]))
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"crashed": f"it ended with code {done.returncode}: {last[:300]}"}


def _pip(packages: list[str]) -> str:
    return (
        f"{Path(sys.executable).name} -m pip install -r requirements.txt"
        if set(packages) <= set(NEEDED)
        else f"{Path(sys.executable).name} -m pip install {' '.join(packages)}"
    )


def check(
    workspace: Workspace,
    settings: TrainingSettings,
    entry: BaseModelEntry,
    disk_bytes: int,
    memory_bytes: int,
) -> tuple[list[Finding], dict[str, Any]]:
    """Every finding about this computer for a run with these settings, and the figures looked at.

    disk_bytes, memory_bytes: what the run is expected to need. Safe to repeat; writes one small file and removes it.
    """
    machine = detect()
    own = getattr(get_backend(settings.backend), "environment", None)
    if own is not None:
        told, about = own(workspace, settings, entry)
        return [*told, *_writable(workspace)], {"computer": machine.words, "disk_needed": disk_bytes, **about}
    extra: tuple[str, ...] = (_EXTRA[settings.optimizer],) if settings.optimizer in _EXTRA else ()
    engine: list[Finding] = []
    pip = f"{Path(sys.executable).name} -m pip"
    if settings.backend == "kohya":
        extra += ("xformers",) if settings.attention == "xformers" else ()
        used = install.current(workspace)
        pip = f'"{used.python}" -m pip' if used else pip
        # Its packages live in an environment of its own, which is asked instead.
        engine, seen = install.findings(workspace, entry.family, extra)
        seen.setdefault("failed", {})
        seen.pop("crashed", None)
    else:
        seen = probe((*NEEDED, *extra))
    free, ram_free = files.free_bytes(workspace.root), psutil.virtual_memory().available
    found = [
        *_python(),
        *engine,
        *package_findings(seen),
        *_card(machine, seen, settings, pip),
        *file_findings(workspace, entry),
        *(parts.findings(entry, workspace) if settings.backend == "kohya" else []),
        *_disk(workspace, entry, disk_bytes, free),
        *_writable(workspace),
    ]
    if machine.device != "cuda" and memory_bytes > ram_free:
        found.append(
            Finding(
                severity="warn",
                code="memory-busy",
                what=f"Other programs hold much memory: {human_memory(ram_free)} are free, about {human_memory(memory_bytes)} will be used.",
                why="When memory runs out the system stops the run.",
                fix="Close other programs first.",
            )
        )
    facts = {
        "python": machine.python,
        "system": machine.system,
        "device": machine.device,
        "computer": machine.words,
        "torch": seen.get("torch"),
        "cuda_build": seen.get("cuda_build"),
        "cuda": bool(seen.get("cuda")),
        "driver": machine.gpus[0].driver if machine.gpus else "",
        "packages": machine.packages,
        "sdscripts": seen.get("sdscripts"),
        "engine_packages": seen.get("versions") or {},
        "gpu": seen.get("gpu", ""),
        "disk_free": free,
        "disk_needed": disk_bytes,
        "memory_free": ram_free,
        "memory_needed": memory_bytes,
        "margin": MARGIN,
    }
    return found, facts


def _python() -> list[Finding]:
    here = sys.version_info[:2]
    if PYTHON_FROM <= here < PYTHON_BELOW:
        return []
    return [
        Finding(
            severity="block",
            code="python-version",
            what=f"This is Python {here[0]}.{here[1]}.",
            why="The backend's packages are made for Python 3.11 to 3.14.",
            fix="Install Python 3.11 or later and set the studio up again.",
        )
    ]


def package_findings(seen: dict[str, Any]) -> list[Finding]:
    """What the answer of `probe` means, with the command that mends it; the doctor and gate 3 say the same."""
    if "crashed" in seen:
        return [
            Finding(
                severity="block",
                code="probe-crashed",
                what="The backend's packages could not be asked.",
                why=f"The test process said: {seen['crashed']}.",
                fix="Run the environment gate again; if it stays, set the studio up again with `make setup`.",
            )
        ]
    return [
        Finding(
            severity="block",
            code="package-broken",
            what=f"The package '{name}' does not load.",
            why=error,
            fix=f"Run: {_pip([name])}",
            where=(name,),
        )
        for name, error in seen["failed"].items()
    ]


def _card(machine: Machine, seen: dict[str, Any], settings: TrainingSettings, pip: str) -> list[Finding]:
    if not machine.gpus:
        return [
            Finding(
                severity="info",
                code="cpu-only",
                what="Training will run on the CPU.",
                why="No NVIDIA graphics card was found.",
                fix="Fine for the built-in model; larger base models take days on a CPU.",
            )
        ]
    return card.findings(machine, seen, settings, pip)


def _disk(workspace: Workspace, entry: BaseModelEntry, disk_bytes: int, free: int) -> list[Finding]:
    """disk_bytes: checkpoints, states, caches and samples; what is still to be downloaded comes on top."""
    coming = entry.download_bytes if entry.missing(workspace) else 0
    need = disk_bytes + coming + DISK_RESERVE
    if free >= need:
        return []
    download = f", {human_size(coming)} of it for the base model" if coming else ""
    return [
        Finding(
            severity="block",
            code="disk-short",
            what=f"{human_size(free)} are free on the disk; the run needs about {human_size(need)}{download}.",
            why="A full disk in the middle of a run loses the checkpoint being written.",
            fix=f"Free some room on the disk of {workspace.root}, or keep fewer checkpoints.",
        )
    ]


def _writable(workspace: Workspace) -> list[Finding]:
    test = workspace.root / f".write-test-{os.getpid()}"
    try:
        files.write_bytes(test, b"ok")
        test.unlink()
    except Exception as e:  # noqa: BLE001 - whatever stops writing is the finding
        return [
            Finding(
                severity="block",
                code="workspace-readonly",
                what=f"Nothing can be written to {workspace.root}.",
                why=str(e).splitlines()[0],
                fix="Check the folder's permissions, or set STUDIO_HOME to a folder of yours.",
            )
        ]
    return []
