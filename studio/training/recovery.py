"""Running out of memory, and going on with half the batch: what is changed, how often, and in which words it is told.

    <run>/recovery.json   the batch sizes tried, in order; the frozen plan itself stays as it was

Half the batch and twice the gradient accumulation make each change of the LoRA from as many pictures as before, so the
learning rate stays right. At most three times: a run that needs less than an eighth of its batch was not set up for this
computer, and somebody should look at it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from studio import files
from studio.errors import StudioError
from studio.findings import Finding
from studio.settings import TrainingSettings
from studio.training.base import TrainingPlan

TRIES = 3
FILE = "recovery.json"
CODES = frozenset({"out-of-memory", "computer-memory"})


@dataclass(frozen=True)
class Halving:
    """One reduction. batch, accumulation: before and after. step: done when memory ran out. resumed_at: the step that it goes
    on from, 0 for a fresh start. at: ISO time."""

    batch: tuple[int, int]
    accumulation: tuple[int, int]
    step: int = 0
    resumed_at: int = 0
    at: str = ""

    @property
    def pictures(self) -> tuple[int, int]:
        """Pictures that make one change of the LoRA, before and after."""
        return self.batch[0] * self.accumulation[0], self.batch[1] * self.accumulation[1]

    @property
    def sentence(self) -> str:
        """Such as "Memory ran out at step 12: the batch went from 4 to 2 and the run went on from step 10."."""
        when = f"at step {self.step + 1}" if self.step else "at the start"
        how = f"went on from step {self.resumed_at}" if self.resumed_at else "started again"
        return f"Memory ran out {when}: the batch went from {self.batch[0]} to {self.batch[1]}, and the run {how}."

    @property
    def rate_words(self) -> str:
        """What becomes of the learning rate."""
        before, after = self.pictures
        if before == after:
            return (
                f"Gradient accumulation was raised to {self.accumulation[1]}, so {after} pictures still make one change of the "
                "LoRA and the learning rate stays right."
            )
        return (
            f"Gradient accumulation was raised to {self.accumulation[1]}: {after} pictures make one change of the LoRA instead "
            f"of {before}. So small a difference does not ask for another learning rate."
        )


def halved(settings: TrainingSettings) -> TrainingSettings | None:
    """The settings with half the batch and as many pictures for each change; None when the batch is one already."""
    if settings.batch_size < 2:
        return None
    batch = settings.batch_size // 2
    # Rounded up: fewer pictures for each change would make the learning rate too high for them.
    accumulation = -(-settings.batch_size * settings.gradient_accumulation // batch)
    return settings.model_copy(update={"batch_size": batch, "gradient_accumulation": min(256, accumulation)})


def halvings(folder: Path) -> list[Halving]:
    """What was reduced in a run so far, oldest first."""
    told = files.read_json(folder / FILE) or {}
    return [
        Halving(**{**h, "batch": tuple(h["batch"]), "accumulation": tuple(h["accumulation"])})
        for h in told.get("halvings", [])
    ]


def adjusted(plan: TrainingPlan) -> TrainingPlan:
    """The plan as it is to be run now: with the batch of the last reduction. The same plan while there was none."""
    done = halvings(plan.run_folder)
    if not done:
        return plan
    last = done[-1]
    return with_settings(
        plan,
        plan.settings.model_copy(
            update={"batch_size": last.batch[1], "gradient_accumulation": last.accumulation[1]}
        ),
    )


def with_settings(plan: TrainingPlan, settings: TrainingSettings) -> TrainingPlan:
    """The plan with other settings; its pictures, folder and name stay."""
    return plan.model_copy(update={"settings": settings})


def is_shortage(error: StudioError) -> bool:
    """Whether an error is one of too little memory."""
    return any(f.code in CODES for f in error.findings)


def reduce(plan: TrainingPlan, error: StudioError, *, step: int, resumed_at: int) -> Halving:
    """Note one more reduction of a run that ran out of memory; `adjusted` then gives the plan to go on with.

    plan: as it was run. step: done when memory ran out. resumed_at: the step of the state it will go on from.
    Raises the error itself when it is another one, when this was a dry run, whose task is to find out, when there was
    nothing left to halve, or when it was halved three times; then it says so.
    """
    smaller = halved(plan.settings)
    done = halvings(plan.run_folder)
    if not is_shortage(error) or plan.limit_steps:
        raise error
    if smaller is None or len(done) >= TRIES:
        if not done:
            raise error
        tried = " → ".join(str(b) for b in (done[0].batch[0], *(h.batch[1] for h in done)))
        raise StudioError(
            error.what,
            f"{error.why} The batch had been reduced already: {tried}.",
            "Turn gradient checkpointing on, lower the resolution or the rank, or leave the text encoder out; then start a new run.",
            error.findings,
        ) from error
    old, new = plan.settings, smaller
    note = Halving(
        batch=(old.batch_size, new.batch_size),
        accumulation=(old.gradient_accumulation, new.gradient_accumulation),
        step=step,
        resumed_at=resumed_at,
        at=files.now(),
    )
    files.write_json(plan.run_folder / FILE, {"halvings": [asdict(h) for h in (*done, note)]})
    return note


def finding(note: Halving, number: int) -> Finding:
    """A reduction as it is told while the run goes on. number: the how manieth, from 1; each is told on its own."""
    return Finding(
        severity="warn",
        code=f"memory-retry-{number}",
        what=note.sentence,
        why=f"The settings need more memory than there is. {note.rate_words}",
        fix=f"Nothing to do: this was try {number} of {TRIES}. For the next run choose a batch of {note.batch[1]} yourself.",
        where=("batch_size", "gradient_accumulation"),
    )
