"""The kohya backend's job. The stand-in speaks the recorded output; with STUDIO_SD_SCRIPTS set, the real scripts train a
small model (see CONTRIBUTING)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from studio import files
from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch, relaunch
from studio.training.base import TrainingPlan
from studio.training.kohya import KohyaBackend
from studio.training.progress import Metrics
from studio.training.runs import Run
from studio.training.workers.kohya import newest_state
from tests.training.sdscripts.sdscripts_small import make_plan, stand_in


def start(plan: TrainingPlan) -> Job:
    return launch(plan.run_folder, JobSpec("training", "Training", KohyaBackend().command(plan)))


def events(job: Job, kind: str) -> list[dict[str, Any]]:
    return [e for e in job.events()[0] if e["type"] == kind]


def until(condition: Any, seconds: float = 60.0) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, "it did not happen in time"
        time.sleep(0.05)


def processes(folder: Path) -> list[psutil.Process]:
    found = []
    for p in psutil.process_iter():
        try:
            if p.status() != psutil.STATUS_ZOMBIE and str(folder) in " ".join(p.cmdline()):
                found.append(p)
        except psutil.Error:
            continue
    return found


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", stand_in(tmp_path / "sd", accelerate=True))
    job = start(plan)
    assert job.wait(120) == "finished", job.log_tail()
    seen = Metrics().add(job.events()[0])
    # 2 pictures once and 1 twice, and the regularisation picture once: 5 a step each, 3 epochs.
    assert (seen.total_steps, seen.total_epochs, seen.steps_per_epoch) == (15, 3, 5)
    assert seen.steps == list(range(1, 16))
    assert seen.epochs == [1] * 5 + [2] * 5 + [3] * 5
    assert seen.done["path"] == "checkpoints/small.safetensors"
    assert seen.done["steps"] == 15
    assert [c.path.name for c in KohyaBackend().checkpoints(plan.run_folder)] == [
        "small-000001.safetensors", "small-000002.safetensors", "small.safetensors"
    ]  # fmt: skip
    assert [e["path"] for e in events(job, "checkpoint")][-1] == "checkpoints/small.safetensors"
    assert not list((plan.run_folder / "checkpoints").glob("*-state")), "nothing is left to go on with"
    assert "steps:" in job.log_tail()


@pytest.mark.parametrize(("how", "words"), [
    ("nothing", "trained on nothing"),
    ("oom", "graphics card ran out of memory"),
    ("nan", "no number any more since step 3"),
    ("nan-file", "weights are no numbers"),
    ("vanish", "without a LoRA"),
])  # fmt: skip
def test_success_is_never_the_exit_code_alone(tmp_path: Path, how: str, words: str) -> None:
    job = start(make_plan(tmp_path / "run", stand_in(tmp_path / "sd", how)))
    assert job.wait(120) == "failed"
    assert job.error is not None
    assert words in job.error["what"]
    assert job.error["why"] and job.error["fix"]


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
def test_a_trainer_that_was_killed_is_named_though_nobody_said_so(tmp_path: Path) -> None:
    job = start(make_plan(tmp_path / "run", stand_in(tmp_path / "sd", "killed")))
    assert job.wait(120) == "failed"
    assert job.error is not None
    assert job.error["what"] == "The training was ended from outside (SIGKILL)."
    assert "memory" in job.error["why"] + job.error["fix"] and "last checkpoint or state" in job.error["fix"]


def test_stopped_and_gone_on_with_twice(tmp_path: Path) -> None:
    """A state that a resumed run saved counts its steps from 0 again; the totals stay right all the same."""
    plan = make_plan(tmp_path / "run", stand_in(tmp_path / "sd", "slow"), epochs=4)
    job = start(plan)
    for wanted in (1, 2):
        until(lambda n=wanted: len(events(job, "checkpoint")) >= n or not job.is_alive)
        assert job.is_alive, job.log_tail()
        job.stop()
        assert job.wait(60) == "stopped"
        until(lambda: not processes(plan.run_folder))
        relaunch(job, KohyaBackend().command(plan))
    (tmp_path / "sd" / "how").write_text("")
    assert job.wait(120) == "finished", job.log_tail()
    seen = Metrics().add(job.events()[0])
    assert seen.steps == list(range(1, 21))
    assert seen.done["steps"] == 20


def test_a_stop_lets_the_state_behind_a_checkpoint_become_whole(tmp_path: Path) -> None:
    """The state is written after the file; without it the run would go on from the epoch before, or from its start."""
    plan = make_plan(tmp_path / "run", stand_in(tmp_path / "sd", "slow-state"), epochs=40)
    job = start(plan)
    until(lambda: events(job, "checkpoint") or not job.is_alive)
    job.stop()
    assert job.wait(60) == "stopped", job.log_tail()
    assert newest_state(plan) is not None


@pytest.mark.skipif(os.name == "nt", reason="there are no such signals")
@pytest.mark.parametrize("victim", ["supervisor", "worker", "both"])
def test_nothing_trains_on_unseen(tmp_path: Path, victim: str) -> None:
    plan = make_plan(tmp_path / "run", stand_in(tmp_path / "sd", "slow", accelerate=True), epochs=200)
    job = start(plan)
    until(lambda: events(job, "step"))
    told = files.read_json(plan.run_folder / "process.json")
    for name in ("supervisor", "worker"):
        if victim in (name, "both"):
            os.kill(int(told[name]), signal.SIGKILL)
    until(lambda: not processes(plan.run_folder))
    until(lambda: job.state in ("interrupted", "failed"))


def test_a_dry_run(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", stand_in(tmp_path / "sd"), limit_steps=4)
    job = start(plan)
    assert job.wait(120) == "finished", job.log_tail()
    done = events(job, "done")[0]
    assert (done["steps_run"], done["peak_bytes"] > 0) == (4, True)
    assert done["seconds_per_step"] > 0


# --- The real thing

SOURCE, PYTHON = os.environ.get("STUDIO_SD_SCRIPTS", ""), os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", "")
# The scripts' own code over a small geometry, whose sizes are constants of its modules.
SMALL = """
import runpy, sys
REAL = {real!r}
sys.path.insert(0, REAL)
import library.original_unet as u
u.BLOCK_OUT_CHANNELS = (32, 64, 64, 64)
u.TIMESTEP_INPUT_DIM = 32
u.TIME_EMBED_DIM = 128
runpy.run_path(REAL + "/train_network.py", run_name="__main__")
"""


def small_model(folder: Path) -> Path:
    """A diffusers folder of SD1.5's shape with random weights and few channels; the text is as wide as there, which is what
    the family is told by."""
    import torch
    from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
    from transformers import CLIPTextConfig, CLIPTextModel

    torch.manual_seed(0)
    AutoencoderKL(
        block_out_channels=(32,) * 4, down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4, norm_num_groups=32, latent_channels=4, scaling_factor=0.18215,
    ).save_pretrained(folder / "vae")  # fmt: skip
    CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408, hidden_size=768, intermediate_size=768, num_hidden_layers=2, num_attention_heads=12,
            max_position_embeddings=77, projection_dim=768, bos_token_id=49406, eos_token_id=49407, pad_token_id=1,
        )
    ).save_pretrained(folder / "text_encoder")  # fmt: skip
    UNet2DConditionModel(
        sample_size=16, block_out_channels=(32, 64, 64, 64), down_block_types=("CrossAttnDownBlock2D",) * 3 + ("DownBlock2D",),
        up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * 3, cross_attention_dim=768, attention_head_dim=8,
    ).save_pretrained(folder / "unet")  # fmt: skip
    DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False, set_alpha_to_one=False, steps_offset=1
    ).save_pretrained(folder / "scheduler")  # fmt: skip
    parts = {"scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
             "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
             "tokenizer": ["transformers", "CLIPTokenizer"], "safety_checker": [None, None], "feature_extractor": [None, None]}  # fmt: skip
    files.write_json(folder / "model_index.json", {"_class_name": "StableDiffusionPipeline", **parts})
    return folder


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not (SOURCE and PYTHON), reason="STUDIO_SD_SCRIPTS and STUDIO_SD_SCRIPTS_PYTHON name no sd-scripts"
)
def test_the_real_scripts_train_stop_and_resume(tmp_path: Path) -> None:
    source = tmp_path / "small"
    source.mkdir()
    (source / "train_network.py").write_text(SMALL.format(real=SOURCE))
    engine = {"source": str(source), "python": PYTHON, "commit": ""}
    plan = make_plan(
        tmp_path / "run", engine, model=small_model(tmp_path / "model"), sample_every_epochs=1, epochs=3
    )
    job = start(plan)
    until(lambda: events(job, "checkpoint") or not job.is_alive, 900)
    job.stop()
    assert job.wait(120) == "stopped", job.log_tail()
    until(lambda: not processes(plan.run_folder))
    relaunch(job, KohyaBackend().command(plan))
    assert job.wait(900) == "finished", job.log_tail()
    seen = Metrics().add(job.events()[0])
    per_epoch = seen.steps_per_epoch
    assert seen.total_steps == 3 * per_epoch
    assert seen.steps == list(range(1, seen.total_steps + 1))
    assert seen.done["path"] == "checkpoints/small.safetensors"
    assert len(KohyaBackend().checkpoints(plan.run_folder)) == 3
    assert Run(plan.run_folder).samples()


@pytest.mark.slow
@pytest.mark.skipif(
    not (SOURCE and PYTHON), reason="STUDIO_SD_SCRIPTS and STUDIO_SD_SCRIPTS_PYTHON name no sd-scripts"
)
@pytest.mark.parametrize("family", ["sd15", "sdxl", "sd35", "flux"])
def test_the_real_scripts_understand_the_config(tmp_path: Path, family: str) -> None:
    """Their own argument parser and their own check of the dataset config, on everything that the studio writes."""
    from studio.training.sdscripts import config, families, layout, options

    plan = make_plan(
        tmp_path / "run", {}, optimizer="prodigy", learning_rate=1.0, precision="bf16", sample_every_epochs=1, train_t5=True,
        fp8_base=True, gradient_checkpointing=True, flow_shift=2.0, t5_attention_mask=True, noise_offset=0.03,
        extra_options=("scale_weight_norms = 1", "network_args = rank_dropout=0.1", "caption_tag_dropout_rate = 0.1"),
    )  # fmt: skip
    here = {r: tmp_path / f"{r}.safetensors" for r in families.PARTS.get(family, ())}
    plan = plan.model_copy(update={"family": family, "parts": here})
    paths = config.write(plan, layout.lay_out(plan))
    code = f"""
import sys, {options.SCRIPTS[family]} as script
from library import train_util, config_util
parser = script.setup_parser()
sys.argv = ["x", "--config_file", {str(paths[config.TRAIN])!r}, "--dataset_config", {str(paths[config.DATASET])!r}]
args = train_util.read_config_from_file(parser.parse_args(), parser)
user = config_util.load_user_config({str(paths[config.DATASET])!r})
generator = config_util.BlueprintGenerator(config_util.ConfigSanitizer(True, True, False, True))
blueprint = generator.generate(user, args)
import tomllib
for name, value in tomllib.load(open({str(paths[config.TRAIN])!r}, "rb")).items():
    action = next(a for a in parser._actions if a.dest == name)
    assert action.choices is None or value in action.choices, (name, value)
    assert getattr(args, name) == value, (name, value)
print("READ", args.network_dim, args.network_alpha, args.optimizer_type, len(blueprint.dataset_group.datasets[0].subsets))
"""
    done = subprocess.run(
        [PYTHON, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=False, timeout=300
    )
    assert "READ 4 4.0 Prodigy 3" in done.stdout, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.skipif(
    not (SOURCE and PYTHON), reason="STUDIO_SD_SCRIPTS and STUDIO_SD_SCRIPTS_PYTHON name no sd-scripts"
)
def test_the_keys_of_a_dataset_config_are_those_of_the_real_scripts() -> None:
    from studio.training.sdscripts import options

    code = """
import json
from library.config_util import ConfigSanitizer as C
shared = {**C.DATASET_ASCENDABLE_SCHEMA, **C.SUBSET_ASCENDABLE_SCHEMA, **C.DB_SUBSET_ASCENDABLE_SCHEMA, **C.DO_SUBSET_ASCENDABLE_SCHEMA}
subset = {**C.SUBSET_ASCENDABLE_SCHEMA, **C.DB_SUBSET_ASCENDABLE_SCHEMA, **C.DB_SUBSET_DISTINCT_SCHEMA, **C.DO_SUBSET_ASCENDABLE_SCHEMA}
print("KEYS" + json.dumps({"general": sorted(map(str, shared)), "subsets": sorted(map(str, subset))}))
"""
    done = subprocess.run(
        [PYTHON, "-c", code], cwd=SOURCE, capture_output=True, text=True, check=False, timeout=600
    )
    told = next((ln[4:] for ln in done.stdout.splitlines() if ln.startswith("KEYS")), "")
    assert told, done.stderr[-2000:]
    real = json.loads(told)
    for section in ("general", "subsets"):
        assert sorted(options.dataset_keys()[section]) == real[section]


def test_the_guard_ends_with_its_worker(tmp_path: Path) -> None:
    from studio.training.workers import sdscripts_guard

    script = tmp_path / "script.py"
    script.write_text("import sys, time\nprint(sys.argv[1:], flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        [sys.executable, sdscripts_guard.__file__, str(script), "--x", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"['--x', '1']\n"
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait(10) == 143


def test_a_state_whose_saving_was_cut_off_is_passed_over(tmp_path: Path) -> None:
    """accelerate saves train_state.json first and the random states last."""
    plan = make_plan(tmp_path / "run", stand_in(tmp_path / "sd"))
    for epoch, names in (
        (1, ("model.safetensors", "optimizer.bin", "random_states_0.pkl")),
        (2, ("model.safetensors",)),
    ):
        folder = plan.run_folder / "checkpoints" / f"{plan.output_name}-{epoch:06d}-state"
        folder.mkdir(parents=True)
        for name in ("train_state.json", *names):
            (folder / name).write_text("x")
    found = newest_state(plan)
    assert found is not None and found[1] == 1
