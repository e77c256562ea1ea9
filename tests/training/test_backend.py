"""The built-in backend: what it refuses and warns of, its command, its files, the plan on disk."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError, NotFoundError
from studio.findings import Finding
from studio.machine import Gpu, Machine
from studio.models import BaseModelEntry, get_model
from studio.settings import TrainingSettings
from studio.training.base import Backend, TrainingPlan
from studio.training.progress import Metrics
from studio.training.registry import backends, get_backend
from studio.workspace import Workspace
from tests.modelfiles import headers

Make = Callable[..., TrainingPlan]
PACKAGES = {"prodigyopt": "1.1.2", "lion-pytorch": "0.2.5"}
CPU = Machine("Linux", "cpu", 2, 8 * 2**30, (), "3.11", PACKAGES)
GPU = Machine("Linux", "cpu", 8, 2**35, (Gpu("RTX 4090", 24 * 2**30, "570"),), "3.11", PACKAGES)

POCKET = {"resolution": 64, "bucket_step": 8, "learning_rate": 1e-3, "cache_text_embeddings": False}
SDXL = {
    "resolution": 1024,
    "bucket_step": 64,
    "learning_rate": 1e-4,
    "precision": "bf16",
    "train_text_encoder": False,
}


def found(model: str, machine: Machine, settings: dict[str, Any], trigger: str = "") -> dict[str, Finding]:
    entry = get_model(Workspace(Path("/nowhere")), model)
    listed = get_backend("diffusers").check(TrainingSettings(**settings), machine, entry, trigger)
    assert len({f.code for f in listed}) == len(listed)
    assert all(f.what.endswith(".") and (f.fix or f.severity == "info") and f.where for f in listed)
    return {f.code: f for f in listed}


def test_sound_settings_raise_nothing() -> None:
    assert found("pocket", CPU, POCKET) == {}
    assert found("sdxl", GPU, SDXL) == {}


@pytest.mark.parametrize(
    ("model", "machine", "change", "code", "severity"),
    [
        ("pocket", CPU, {"precision": "fp16"}, "fp16-without-gpu", "block"),
        ("pocket", CPU, {"precision": "bf16"}, "bf16-on-cpu", "info"),
        ("sdxl", CPU, {}, "large-model-on-cpu", "warn"),
        ("sdxl", GPU, {"precision": "no"}, "full-precision", "info"),
        ("pocket", CPU, {"optimizer": "adamw8bit"}, "adamw8bit-without-gpu", "block"),
        ("sdxl", GPU, {"optimizer": "adamw8bit"}, "optimizer-missing", "block"),
        ("sdxl", GPU, {"optimizer": "prodigy"}, "prodigy-rate", "warn"),
        ("sdxl", GPU, {"optimizer": "adamw", "learning_rate": 1.0}, "rate-far-too-high", "block"),
        ("sdxl", GPU, {"optimizer": "lion", "learning_rate": 3e-4}, "lion-rate", "warn"),
        ("sdxl", GPU, {"learning_rate": 5e-3}, "rate-high", "warn"),
        ("sdxl", GPU, {"learning_rate": 1e-7}, "rate-low", "warn"),
        (
            "sdxl",
            GPU,
            {"train_text_encoder": True, "text_encoder_lr": 1e-3},
            "text-encoder-rate-high",
            "warn",
        ),
        ("sdxl", GPU, {"scheduler": "constant"}, "warmup-unused", "info"),
        ("pocket", CPU, {"rank": 4, "alpha": 16}, "alpha-above-rank", "warn"),
        ("pocket", CPU, {"ema": True}, "ema-short-run", "info"),
        ("pocket", CPU, {"resolution": 512}, "resolution-impossible", "block"),
        ("sdxl", GPU, {"resolution": 512}, "resolution-far", "warn"),
        ("sdxl", GPU, {"bucket_step": 40}, "bucket-step-odd", "warn"),
        ("pocket", CPU, {"bucket_step": 64}, "bucket-step-large", "warn"),
        ("sdxl", GPU, {"prediction": "v_prediction"}, "prediction-differs", "block"),
        ("noobai-vpred", GPU, {"prediction": "epsilon"}, "prediction-differs", "block"),
        ("noobai-vpred", GPU, {"noise_offset": 0.03}, "noise-offset-with-v", "info"),
        ("pocket", CPU, {"cache_text_embeddings": True}, "text-cache-unused", "info"),
        ("pocket", CPU, {"shuffle_captions": True}, "shuffle-sentences", "warn"),
    ],
)
def test_each_problem_is_named(
    model: str, machine: Machine, change: dict[str, Any], code: str, severity: str
) -> None:
    told = found(model, machine, {**(POCKET if model == "pocket" else SDXL), **change})
    assert told[code].severity == severity
    assert code not in found(model, GPU if model == "sdxl" else CPU, POCKET if model == "pocket" else SDXL)


@pytest.mark.parametrize(("shapes", "says", "severity"), [
    (headers.SDXL, "v_prediction", "warn"),
    (headers.SDXL_V, "epsilon", "block"),
])  # fmt: skip
def test_a_file_that_says_what_it_predicts_is_not_trained_otherwise(
    tmp_path: Path, shapes: headers.Shapes, says: str, severity: str
) -> None:
    """A file that does not say may be listed wrongly, so the settings may know better."""
    own = "v_prediction" if severity == "block" else "epsilon"
    entry = BaseModelEntry(id="x", title="Mine", family="sdxl", format="checkpoint", resolution=1024, prediction=own,
                           path=headers.write(tmp_path / "mine.safetensors", shapes))  # fmt: skip
    told = {
        f.code: f
        for f in get_backend("kohya").check(TrainingSettings(**{**SDXL, "prediction": says}), GPU, entry)
    }
    assert told["prediction-differs"].severity == severity
    plain = get_backend("kohya").check(TrainingSettings(**SDXL), GPU, entry)
    assert "prediction-differs" not in {f.code for f in plain}


def test_prodigy_at_one_is_fine_but_keeps_one_rate() -> None:
    assert found("sdxl", GPU, {**SDXL, "optimizer": "prodigy", "learning_rate": 1.0}) == {}
    told = found(
        "sdxl",
        GPU,
        {
            **SDXL,
            "optimizer": "prodigy",
            "learning_rate": 1.0,
            "train_text_encoder": True,
            "text_encoder_lr": 0.5,
        },
    )
    assert "prodigy-one-rate" in told


def test_sample_prompts_without_the_trigger() -> None:
    told = found("pocket", CPU, {**POCKET, "sample_prompts": ("MyStyle, a dog", "a dog")}, trigger="mystyle")
    assert told["sample-without-trigger"].what.startswith("1 of 2")


def test_a_flow_model_is_refused() -> None:
    entry = BaseModelEntry(
        id="x", title="Flow", family="sdxl", format="checkpoint", resolution=1024, prediction="flow"
    )
    told = get_backend("diffusers").check(TrainingSettings(), GPU, entry)
    assert [(f.code, f.severity) for f in told] == [("family-not-supported", "block")]


def test_registry() -> None:
    assert all(isinstance(b, Backend) for b in backends())
    with pytest.raises(NotFoundError, match="no backend called 'kohyaa'"):
        get_backend("kohyaa")


def test_command_and_files(make_plan: Make) -> None:
    plan = make_plan(precision="bf16")
    backend = get_backend("diffusers")
    command = backend.command(plan)
    assert command[:3] == [sys.executable, "-m", "accelerate.commands.launch"]
    assert command[-3:] == ["-m", "studio.training.workers.train", str(plan.run_folder)]
    assert command[command.index("--mixed_precision") + 1] == "bf16"
    assert Path(command[command.index("--config_file") + 1]).is_file()
    told = backend.native_files(plan)
    assert TrainingPlan.model_validate_json(told["plan.json"]) == plan
    for name in TrainingSettings.model_fields:
        assert f"`{name}`" in told["plan.md"]


def test_the_log_tells_of_memory_only() -> None:
    backend = get_backend("diffusers")
    assert backend.parse("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB") is not None
    assert backend.parse("steps: 10%") is None


def test_a_plan_survives_the_disk(make_plan: Make, tmp_path: Path) -> None:
    plan = make_plan()
    assert TrainingPlan.load(plan.run_folder) == plan
    assert plan.prompts == ("bluprnt, dog", "bluprnt, tree, snow, night")
    changed = plan.model_copy(update={"trigger": "other"})
    assert changed.fingerprint() != plan.fingerprint()
    assert plan.model_copy(update={"run_folder": tmp_path / "elsewhere"}).fingerprint() == plan.fingerprint()


def test_a_moved_run_finds_its_pictures(make_plan: Make, tmp_path: Path) -> None:
    plan = make_plan()
    inside = plan.run_folder / "pictures" / "0.png"
    inside.parent.mkdir()
    inside.write_bytes(plan.pictures[0].path.read_bytes())
    plan.model_copy(
        update={"pictures": (plan.pictures[0].model_copy(update={"path": inside}),), "cache_dir": None}
    ).save()
    moved = tmp_path / "moved"
    plan.run_folder.rename(moved)
    again = TrainingPlan.load(moved)
    assert again.run_folder == moved and again.pictures[0].path == moved / "pictures" / "0.png"


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        (None, NotFoundError, "no plan.json"),
        ("{ not json", InputError, "cannot be read as JSON"),
        ('{"family": "flux"}', InputError, "cannot be used"),
    ],
)
def test_a_damaged_plan_is_told(tmp_path: Path, text: str | None, error: type[Exception], words: str) -> None:
    if text is not None:
        (tmp_path / "plan.json").write_text(text)
    with pytest.raises(error, match=words):
        TrainingPlan.load(tmp_path)


def step(number: int, loss: float | None, **more: Any) -> dict[str, Any]:
    return {
        "type": "step",
        "step": number,
        "epoch": 1 + (number - 1) // 2,
        "loss": loss,
        "t": 100.0 + number,
        **more,
    }


def test_metrics_of_a_run_that_was_killed_and_went_on() -> None:
    events = [
        {"type": "plan", "total_steps": 6, "epochs": 3, "steps_per_epoch": 2},
        step(1, 0.5, s_per_step=2.0, memory=10, lr={"unet": 0.1}),
        step(2, 0.4),
        {"type": "epoch", "epoch": 1, "loss_avg": 0.45},
        step(3, 0.3, memory=30),
        {"type": "resume", "step": 2},
        step(3, 0.31),
        step(4, None),
        {"type": "anomaly", "finding": {"severity": "warn", "code": "x", "what": "X."}},
        {"type": "anomaly", "finding": {"severity": "warn", "code": "x", "what": "X."}},
        {"type": "anomaly", "finding": {"nonsense": 1}},
        {"type": "from a later version"},
    ]
    m = Metrics().add(events)
    assert (m.steps, m.losses) == ([1, 2, 3], [0.5, 0.4, 0.31])
    assert (m.fraction, m.eta_seconds, m.memory) == (0.5, 6.0, 30)
    assert [f.code for f in m.findings] == ["x"] and m.epoch_losses == {1: 0.45}
    assert m.add([step(4, 0.2)]).step == 4 and m.epoch == 2


def test_metrics_are_thinned_for_charts() -> None:
    m = Metrics().add(step(i, 1.0 / i) for i in range(1, 5001))
    thin = m.thinned(500)
    assert 400 < len(thin["step"]) <= 502
    assert (thin["step"][0], thin["step"][-1]) == (1.0, 5000.0)
    assert json.dumps(thin)
    assert Metrics().thinned() == {"step": [], "loss": [], "smoothed": [], "lr": []}
