"""Real steps of sd-scripts itself for SDXL, SD3.5 and FLUX, on files of random weights (see CONTRIBUTING).

STUDIO_RANDOM_MODELS names the folder that scripts/sdscripts/random_models.py wrote; STUDIO_T5_TOKENIZER one that holds T5's
word table. A family whose file is not in the folder is passed over. Memory: 9 GB for SDXL, 12 GB for FLUX and SD3.5.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from studio.jobs.job import JobSpec
from studio.jobs.launch import launch
from studio.lora.info import describe
from studio.modelfiles.kinds import look
from studio.training.kohya import KohyaBackend
from studio.training.progress import Metrics
from studio.training.sdscripts import families
from tests.training.sdscripts.sdscripts_small import make_plan

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


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.skipif(
    not (SOURCE and PYTHON and os.environ.get("STUDIO_RANDOM_MODELS")),
    reason="STUDIO_SD_SCRIPTS, STUDIO_SD_SCRIPTS_PYTHON and STUDIO_RANDOM_MODELS name nothing to train with",
)
@pytest.mark.parametrize("case", CASES)
def test_the_real_scripts_train_every_family(tmp_path: Path, case: str) -> None:
    family, file, settings = CASES[case]
    model = MODELS / file
    if not model.is_file():
        pytest.skip(f"{file} is not in {MODELS}")
    parts = {r: MODELS / f"{r}.safetensors" for r in families.PARTS.get(family, ())}
    if family in families.FLOW:
        if not WORDS:
            pytest.skip("STUDIO_T5_TOKENIZER names no folder with T5's word table")
        parts[families.T5_TOKENIZER] = Path(WORDS)
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
