"""Real steps of sd-scripts itself for SDXL, SD3.5 and FLUX, on files of random weights (see CONTRIBUTING).

STUDIO_RANDOM_MODELS names the folder that scripts/sdscripts/random_models.py wrote; STUDIO_T5_TOKENIZER one that holds T5's
word table. A family whose file is not in the folder is passed over. Memory: 14 GB for SDXL, 12 GB for FLUX and SD3.5; 3 GB for
those that are stopped and resumed, which train the thin models (`random_models.py SOURCE OUT thin`).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from scripts.sdscripts import thin
from studio.jobs.job import JobSpec
from studio.jobs.launch import launch, relaunch
from studio.lora.info import describe
from studio.modelfiles.kinds import look
from studio.training.kohya import KohyaBackend
from studio.training.progress import Metrics
from studio.training.runs import Run
from studio.training.sdscripts import families
from studio.training.sdscripts.explain import explain_job
from tests.training.sdscripts.sdscripts_small import make_plan
from tests.training.sdscripts.test_kohya_job import events, processes, until

SOURCE, PYTHON = os.environ.get("STUDIO_SD_SCRIPTS", ""), os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", "")
MODELS = Path(os.environ.get("STUDIO_RANDOM_MODELS", ""))
WORDS = os.environ.get("STUDIO_T5_TOKENIZER", "")
KEEP = os.environ.get("STUDIO_KEEP_LORAS", "")

# What the base model predicts, the settings that are not those of a plain run, and the file.
CASES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "sdxl": ("sdxl", "sdxl-random.safetensors", {"min_snr_gamma": 5.0, "noise_offset": 0.03}),
    "sdxl-v": ("sdxl", "sdxl-random-v.safetensors", {}),
    "sdxl-text": ("sdxl", "sdxl-random.safetensors", {"train_text_encoder": True}),
    "sd35": ("sd35", "sd35-random.safetensors", {"cache_text_embeddings": True}),
    "flux": ("flux", "flux-random.safetensors", {"cache_text_embeddings": True}),
}


pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        not (SOURCE and PYTHON and os.environ.get("STUDIO_RANDOM_MODELS")),
        reason="STUDIO_SD_SCRIPTS, STUDIO_SD_SCRIPTS_PYTHON and STUDIO_RANDOM_MODELS name nothing to train with",
    ),
]


def parts_of(family: str, folder: Path) -> dict[str, Path]:
    """What a family's base model consists of besides its file; the test is passed over without T5's words."""
    parts = {r: folder / f"{r}.safetensors" for r in families.PARTS.get(family, ())}
    if family in families.FLOW:
        if not WORDS:
            pytest.skip("STUDIO_T5_TOKENIZER names no folder with T5's word table")
        parts[families.T5_TOKENIZER] = Path(WORDS)
    return parts


@pytest.mark.parametrize("case", CASES)
def test_the_real_scripts_train_every_family(tmp_path: Path, case: str) -> None:
    family, file, settings = CASES[case]
    model = MODELS / file
    if not model.is_file():
        pytest.skip(f"{file} is not in {MODELS}")
    parts = parts_of(family, MODELS)
    plan = make_plan(
        tmp_path / "run", {"source": SOURCE, "python": PYTHON, "commit": ""}, model=model, precision="bf16", resolution=256,
        gradient_checkpointing=True, limit_steps=2,
        # UNets are read in full precision otherwise, which takes 14 GB for a moment; T5 reads whole captions for minutes.
        extra_options=("full_bf16 = true",) if family == "sdxl" else ("t5xxl_max_token_length = 64",),
        **{"train_text_encoder": False, "cache_text_embeddings": family != "sdxl", **settings},
    )  # fmt: skip
    prediction = "v_prediction" if look(model).prediction == "v_prediction" else "epsilon"
    plan = plan.model_copy(
        update={"family": family, "parts": parts, "prediction": prediction, "output_name": case}
    )
    plan.save()
    job = launch(plan.run_folder, JobSpec("training", "Training", KohyaBackend().command(plan)))
    assert job.wait(3000) == "finished", job.log_tail()
    seen = Metrics().add(job.events()[0])
    assert seen.steps == [1, 2] and all(0 < loss < 100 for loss in seen.losses)
    assert seen.done["peak_bytes"] > 0 and seen.done["seconds_per_step"] > 0
    made = plan.run_folder / seen.done["path"]
    found = look(made)
    assert (found.kind, found.family) == ("lora", family)
    told = describe(made)
    assert told.family == {"sd35": "sd3"}.get(family, family)
    if KEEP:
        (Path(KEEP) / f"{case}.safetensors").write_bytes(made.read_bytes())
    print(
        f"{case}: {seen.done['seconds_per_step']:.1f} s/step, {seen.done['peak_bytes'] / 2**30:.1f} GiB, loss {seen.losses}"
    )


@pytest.mark.parametrize("family", ["sdxl", "sd35", "flux"])
def test_every_family_is_stopped_and_goes_on_twice(tmp_path: Path, family: str) -> None:
    """The script counts each start from 0, and the state of a resumed run tells too few steps; the run shows the true ones."""
    model = MODELS / "thin" / f"{family}-random.safetensors"
    if not model.is_file():
        pytest.skip(f"{model.name} is not in {model.parent}")
    thin.main(SOURCE, str(tmp_path / "sd"))
    plan = make_plan(
        tmp_path / "run", {"source": str(tmp_path / "sd"), "python": PYTHON, "commit": ""}, model=model, precision="bf16",
        resolution=128, epochs=3, train_text_encoder=False, cache_text_embeddings=True, sample_every_epochs=3,
        gradient_checkpointing=True,
    )  # fmt: skip
    parts = parts_of(family, model.parent)
    plan = plan.model_copy(update={"family": family, "parts": parts, "output_name": family})
    plan.save()
    job = launch(plan.run_folder, JobSpec("training", "Training", KohyaBackend().command(plan)))
    for wanted in (1, 2):
        until(
            lambda n=wanted: len({e["path"] for e in events(job, "checkpoint")}) >= n or not job.is_alive, 900
        )
        assert job.is_alive, job.log_tail()
        job.stop()
        assert job.wait(300) == "stopped", job.log_tail()
        until(lambda: not processes(plan.run_folder))
        relaunch(job, KohyaBackend().command(plan))
    assert job.wait(1800) == "finished", job.log_tail()
    seen = Metrics().add(job.events()[0])
    each = seen.steps_per_epoch
    assert each > 1 and (seen.total_steps, seen.done["steps"]) == (3 * each, 3 * each)
    assert seen.steps == list(range(1, 3 * each + 1)) and all(0 < loss < 100 for loss in seen.losses)
    assert all(rates["unet"] > 0 for rates in seen.rates[:-1] if rates) and seen.rates[-1]
    saved = KohyaBackend().checkpoints(plan.run_folder)
    assert [(c.step, c.epoch, c.final) for c in saved] == [
        (each, 1, False),
        (2 * each, 2, False),
        (3 * each, 3, True),
    ]
    assert {look(c.path).family for c in saved} == {family}
    pictures = Run(plan.run_folder).samples()
    assert 3 * each in {p.step for p in pictures}
    for p in pictures:
        with Image.open(p.path) as picture:
            picture.load()
            assert picture.size == (128, 128)
    told = explain_job(plan.run_folder)
    assert (told.outcome, told.step, told.resumed_at) == ("finished", 3 * each, 2 * each)
