"""Half the batch when memory runs out: what is changed, how often, in which words, and with both backends for real."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from studio.errors import EnvironmentalError, StudioError
from studio.findings import Finding
from studio.jobs.job import Job, JobSpec
from studio.jobs.launch import launch
from studio.settings import TrainingSettings
from studio.training import recovery
from studio.training.base import TrainingPlan
from studio.training.kohya import KohyaBackend
from studio.training.progress import Metrics
from studio.training.sdscripts.explain import Story, conclude
from studio.training.sdscripts.log import LogReader
from tests.training.sdscripts.sdscripts_small import make_plan, stand_in

SHORT = EnvironmentalError(
    "The graphics card ran out of memory.",
    "Too large.",
    "Halve it.",
    [Finding(severity="block", code="out-of-memory", what="Too large.")],
)


@pytest.mark.parametrize(
    ("before", "after"),
    [((8, 1), (4, 2)), ((4, 2), (2, 4)), ((3, 1), (1, 3)), ((5, 1), (2, 3)), ((1, 4), None)],
)
def test_as_many_pictures_for_each_change(before: tuple[int, int], after: tuple[int, int] | None) -> None:
    s = recovery.halved(TrainingSettings(batch_size=before[0], gradient_accumulation=before[1]))
    assert (None if s is None else (s.batch_size, s.gradient_accumulation)) == after


def test_three_tries_and_then_a_person(tmp_path: Path) -> None:
    plan = make_plan(tmp_path / "run", {}, batch_size=16)
    for n, batch in enumerate((8, 4, 2), start=1):
        note = recovery.reduce(recovery.adjusted(plan), SHORT, step=5, resumed_at=0)
        told = recovery.finding(note, n)
        assert (note.batch[1], f"try {n} of 3" in told.fix, "started again" in told.what) == (
            batch,
            True,
            True,
        )
        assert "16 pictures still make one change" in told.why and "learning rate stays right" in told.why
        assert recovery.adjusted(plan).settings.batch_size == batch
    with pytest.raises(StudioError) as end:
        recovery.reduce(recovery.adjusted(plan), SHORT, step=5, resumed_at=0)
    assert "16 → 8 → 4 → 2" in end.value.why and "gradient checkpointing" in end.value.fix.lower()


def test_what_is_not_halved(tmp_path: Path) -> None:
    other = StudioError("x", "y", "z", [Finding(severity="block", code="disk-full", what="full")])
    for plan, error in (
        (make_plan(tmp_path / "a", {}, batch_size=4), other),
        (make_plan(tmp_path / "b", {}, batch_size=1), SHORT),
        (make_plan(tmp_path / "c", {}, batch_size=4, limit_steps=3), SHORT),
    ):
        with pytest.raises(StudioError) as told:
            recovery.reduce(plan, error, step=0, resumed_at=0)
        assert told.value is error and recovery.halvings(plan.run_folder) == []


# As PyTorch says it, alone and below accelerate, in a notebook's cell, and on a computer without a card.
BELOW = "Traceback (most recent call last):\nsubprocess.CalledProcessError: Command '['python', 'train_network.py']' returned non-zero exit status 1.\n"
SAYINGS = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 7.79 GiB of which 9.44 MiB is free.",
    "[rank0]: torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB (GPU 0; 11.76 GiB total capacity; 9.96 GiB already allocated)",
    "RuntimeError: CUDA out of memory. Tried to allocate 512.00 MiB",
    "torch.AcceleratorError: CUDA error: out of memory",
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 8589934592 bytes. Error code 12 (Cannot allocate memory)",
    "RuntimeError: CUDNN_STATUS_ALLOC_FAILED",
    "RuntimeError: could not create a primitive",
    "MemoryError: std::bad_alloc",
]


@pytest.mark.parametrize("said", SAYINGS, ids=lambda s: s[:32])
@pytest.mark.parametrize("glued", [False, True])
def test_a_shortage_is_known_by_its_words(said: str, glued: bool) -> None:
    bar = "\rsteps:  12%|#2        | 1/8 [00:35<04:05, 35.05s/it, avr_loss=1.03]" if glued else ""
    reader, story = LogReader(), Story()
    text = f'{bar}Traceback (most recent call last):\n  File "train.py", line 3, in <module>\n    f()\n{said}\n{BELOW}'
    for event in (*reader.feed(text), *reader.end()):
        story.take(event)
    findings = conclude(story).findings
    error = StudioError("x", "y", "z", [f for f in findings if f.severity == "block"])
    assert recovery.is_shortage(error), [f.code for f in findings]


def test_a_library_that_gives_up_and_the_system_that_ends_a_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither leaves an exception of Python's."""
    from studio.training.workers import kohya

    reader, story = LogReader(), Story()
    said = "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n"
    for event in (*reader.feed(said), *reader.end()):
        story.take(event)
    assert [f.code for f in conclude(story).findings if f.severity == "block"] == ["computer-memory"]
    killed = StudioError(
        "x", "y", "z", [Finding(severity="block", code="ended-from-outside", what="SIGKILL")]
    )
    monkeypatch.setattr(kohya, "oom_kills", lambda: 3)
    assert kohya._of_system(killed, 3) is killed and kohya._of_system(killed, None) is killed
    assert kohya._of_system(SHORT, 2) is SHORT
    assert recovery.is_shortage(kohya._of_system(killed, 2))


def run(plan: object) -> Job:
    job = launch(plan.run_folder, JobSpec("training", "Training", KohyaBackend().command(plan)))  # type: ignore[attr-defined, arg-type]
    assert job.wait(180) == "finished", job.log_tail()
    return job


def test_kohya_goes_on_from_the_last_state_with_half_the_batch(tmp_path: Path) -> None:
    """Memory runs out in the second epoch, twice; only with a batch of one it comes to its end."""
    plan = make_plan(tmp_path / "run", stand_in(tmp_path / "sd", "oom-mid"), batch_size=4)
    seen = Metrics().add(run(plan).events()[0])
    first, second = recovery.halvings(plan.run_folder)
    assert [first.batch, second.batch, second.accumulation] == [(4, 2), (2, 1), (2, 4)]
    assert first.resumed_at == first.step > 0 and "went on from step" in first.sentence
    assert [f.code for f in seen.findings] == ["memory-retry-1", "memory-retry-2"]
    assert "gradient_accumulation_steps = 4" in (plan.run_folder / "train.toml").read_text()
    assert seen.done["path"] == "checkpoints/small.safetensors"


def test_the_built_in_trainer_goes_on_with_half_the_batch(
    make_plan: Callable[..., TrainingPlan], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory runs out at the fourth step of the real trainer; it takes its last state, half the batch, and ends well."""
    from studio.jobs.lifeline import Worker
    from studio.training.workers import learner, train, trainer

    def step(
        self: learner.Learner, number: int, group: list[list[int]], losses: list[float]
    ) -> tuple[float, float]:
        if number > 3 and any(len(batch) > 1 for batch in group):
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(self, number, group, losses)

    real = learner.Learner.step
    monkeypatch.setattr(learner.Learner, "step", step)
    monkeypatch.setattr(trainer, "STATE_EVERY_S", 0.0)
    plan = make_plan(batch_size=2, epochs=3, sample_every_epochs=0)
    with Worker(plan.run_folder) as worker:
        result = train._train(plan, worker)
        worker.finish(result)
    seen = Metrics().add(Job(plan.run_folder).events()[0])
    note = recovery.halvings(plan.run_folder)[0]
    assert (note.batch, note.accumulation, note.step, note.resumed_at) == ((2, 1), (1, 2), 3, 3)
    assert result is not None and result["steps"] == seen.total_steps == seen.steps[-1]
    assert seen.steps == list(range(1, seen.total_steps + 1))
    assert [f.code for f in seen.findings] == ["memory-retry-1"]
