"""The counted rows of points.csv, counted again on the real sd-scripts (see CONTRIBUTING); about half a minute for three of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.vram.test_points import ROWS

SOURCE, PYTHON = os.environ.get("STUDIO_SD_SCRIPTS", ""), os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", "")
COUNT = Path(__file__).parents[2] / "scripts" / "sdscripts" / "count_tensors.py"


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not (SOURCE and PYTHON), reason="STUDIO_SD_SCRIPTS and STUDIO_SD_SCRIPTS_PYTHON name nothing to count"
)
@pytest.mark.parametrize("case", ["sd15,512,1,no,16", "sd35,1024,2,yes,fp8", "flux,512,1,yes,fp8"])
def test_what_was_counted_is_counted_again(case: str) -> None:
    family, side, batch, saving, stored = case.split(",")
    row = next(
        r for r in ROWS
        if r["trainer"] == "sd-scripts, counted"
        and (r["family"], r["width"], r["batch"], r["checkpointing"], r["stored"])
        == (family, side, batch, "yes" if saving == "yes" else "", stored)
    )  # fmt: skip
    done = subprocess.run([PYTHON, str(COUNT), SOURCE, case], capture_output=True, text=True, timeout=800, check=True)  # fmt: skip
    peak = float(done.stdout.strip().splitlines()[-1].partition("peak ")[2].partition(" GiB")[0])
    assert peak == pytest.approx(float(row["gib"]), abs=0.02)
