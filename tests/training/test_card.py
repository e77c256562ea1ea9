"""What gate 3 says of a graphics card and the PyTorch that is to use it. The answers are those of real builds."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from studio.machine import Gpu, detect
from studio.settings import TrainingSettings
from studio.training import card

CU126 = ["sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"]
CU130 = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]


def said(name: str, driver: str, seen: dict[str, Any], **settings: Any) -> list[tuple[str, str]]:
    machine = dataclasses.replace(detect(), gpus=(Gpu(name, 24 << 30, driver),))
    told = {"torch": "2.9.0", "cuda": True, "bf16": True, **seen}
    found = card.findings(machine, told, TrainingSettings(**settings), '"/venv/bin/python" -m pip')
    assert all(f.what and f.why and f.fix for f in found)
    return [(f.code, f.fix) for f in found]


@pytest.mark.parametrize(("name", "driver", "seen", "code", "fix"), [
    ("RTX 3060", "550.1", {"cuda": False, "cuda_build": None}, "cuda-unusable", "whl/cu126"),
    ("RTX 3060", "550.1", {"cuda": False, "cuda_build": "13.0"}, "cuda-unusable", "Update the NVIDIA driver, or run"),
    ("RTX 3060", "590.1", {"cuda": False, "cuda_build": "13.0"}, "cuda-unusable", "nvidia-smi"),
    ("GTX 1080", "470.1", {"cuda": False, "cuda_build": "12.6"}, "cuda-unusable", "to 525 or later"),
    ("RTX 5090", "575.0", {"capability": [12, 0], "arch": CU126}, "card-not-in-build", "whl/cu128"),
    ("RTX 5090", "590.0", {"capability": [12, 0], "arch": CU126}, "card-not-in-build", "whl/cu130"),
    ("GTX 1080", "570.0", {"capability": [6, 1], "arch": CU130}, "card-not-in-build", "whl/cu126"),
    ("RTX 4090", "590.0", {"capability": [8, 9], "arch": CU130, "torch_error": "out of luck"}, "cuda-fails", "whl/cu130"),
    ("RTX 2080", "590.0", {"capability": [7, 5], "arch": CU130, "bf16": False}, "bf16-unsupported", "fp16"),
])  # fmt: skip
def test_each_failure_names_what_mends_it(
    name: str, driver: str, seen: dict[str, Any], code: str, fix: str
) -> None:
    found = said(name, driver, seen, precision="bf16")
    assert [c for c, _ in found] == [code]
    assert fix in found[0][1]


@pytest.mark.parametrize(("changes", "name", "capability", "code"), [
    ({"precision": "fp16"}, "GTX 1660", [7, 5], "fp16-on-gtx16"),
    ({"optimizer": "adamw8bit"}, "GTX 980", [5, 2], "card-too-old-for-8bit"),
    ({"attention": "xformers"}, "RTX 5090", [12, 0], "xformers-on-blackwell"),
])  # fmt: skip
def test_what_this_card_cannot_do_well(
    changes: dict[str, Any], name: str, capability: list[int], code: str
) -> None:
    arch = [f"sm_{capability[0]}{capability[1]}"]
    assert [c for c, _ in said(name, "590.0", {"capability": capability, "arch": arch}, **changes)] == [code]


def test_a_card_that_fits_is_not_talked_about() -> None:
    assert said("RTX 4090", "590.0", {"capability": [8, 9], "arch": CU130}, precision="bf16") == []
    assert (
        card.findings(dataclasses.replace(detect(), gpus=()), {"torch": "2.9"}, TrainingSettings(), "pip")
        == []
    )


@pytest.mark.parametrize(("arch", "capability", "runs"), [
    (CU126, (8, 9), True), (CU126, (12, 0), False), (CU130, (12, 1), True), (CU130, (7, 0), False),
    (["sm_90a"], (9, 0), True), (["sm_90"], (8, 9), False), ([], (8, 9), False), (["odd"], (8, 9), False),
])  # fmt: skip
def test_which_builds_run_on_which_cards(arch: list[str], capability: tuple[int, int], runs: bool) -> None:
    assert card.knows(arch, capability) is runs
