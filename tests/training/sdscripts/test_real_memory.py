"""Memory runs out in the real scripts, at the start and in the middle of a run: the system refuses it, as `ulimit -v` makes it
do, and PyTorch's own allocator says so. Needs sd-scripts (see CONTRIBUTING)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from studio.training import recovery
from studio.training.kohya import KohyaBackend
from studio.training.progress import Metrics
from tests.training.sdscripts.sdscripts_small import make_plan
from tests.training.sdscripts.test_kohya_job import PYTHON, SMALL, SOURCE, small_model, start

# With a batch of four nothing more can be had at the first step; with two, once the first epoch's state lies on the disk.
SHORT = """
import glob, resource, sys, tomllib
taken = []
def told(name):
    with open(sys.argv[sys.argv.index(name) + 1], "rb") as f:
        return tomllib.load(f)
SIZE, OUT = told("--dataset_config")["datasets"][0]["batch_size"], told("--config_file")["output_dir"]
def no_more(self, *args, **kwargs):
    if SIZE == 4 or (SIZE == 2 and glob.glob(OUT + "/*-state/random_states_*")):
        now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + (8 << 20), resource.RLIM_INFINITY))
        try:  # what was freed before could be had again: take that, too
            while True:
                taken.append(u.torch.empty(50_000))
        except RuntimeError:
            pass
    return forward(self, *args, **kwargs)
forward = u.UNet2DConditionModel.forward
u.UNet2DConditionModel.forward = no_more
"""


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.skipif(
    not (SOURCE and PYTHON) or sys.platform != "linux",
    reason="STUDIO_SD_SCRIPTS and STUDIO_SD_SCRIPTS_PYTHON name no sd-scripts",
)
def test_the_real_scripts_run_out_of_memory_and_the_run_goes_on(tmp_path: Path) -> None:
    source = tmp_path / "small"
    source.mkdir()
    script = SMALL.format(real=SOURCE).replace("runpy.run_path", f"{SHORT}\nrunpy.run_path")
    (source / "train_network.py").write_text(script)
    engine = {"source": str(source), "python": PYTHON, "commit": ""}
    plan = make_plan(
        tmp_path / "run",
        engine,
        model=small_model(tmp_path / "model"),
        batch_size=4,
        resolution=256,
        epochs=3,
    )
    job = start(plan)
    assert job.wait(2700) == "finished", job.log_tail()
    first, second = recovery.halvings(plan.run_folder)
    assert (first.batch, second.batch, second.accumulation) == ((4, 2), (2, 1), (2, 4))
    assert "at the start" in first.sentence and "started again" in first.sentence
    assert second.resumed_at == second.step > 0 and "went on from step" in second.sentence
    seen = Metrics().add(job.events()[0])
    assert [f.code for f in seen.findings if f.code.startswith("memory")] == [
        "memory-retry-1",
        "memory-retry-2",
    ]
    said = job.log_tail(4_000_000)
    assert "DefaultCPUAllocator: can't allocate memory" in said or "could not create a primitive" in said
    assert seen.steps == list(range(1, seen.total_steps + 1))
    assert [c.final for c in KohyaBackend().checkpoints(plan.run_folder)][-1]
