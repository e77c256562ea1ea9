"""The training job: `accelerate launch -m studio.training.workers.train RUN_FOLDER`.

Reads `RUN_FOLDER/plan.json` and nothing else of the studio's; says everything through events. A run that was stopped,
killed or failed is gone on with by starting the same command again: it finds its own state.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from studio.errors import StudioError
from studio.jobs.lifeline import Worker
from studio.training import recovery
from studio.training.base import TrainingPlan
from studio.training.record import recorded


def main(arguments: list[str]) -> None:
    """Train the plan of the folder named by the only argument."""
    folder = Path(arguments[0])
    # Before torch loads: cuBLAS repeats itself bit for bit only with a fixed workspace (NVIDIA cuBLAS docs); threads that
    # wait asleep lose little alone, and much less when something else wants the cores; nothing is to be fetched.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    with Worker(folder) as worker:
        worker.emit("stage", name="start", message="Starting PyTorch")
        worker.progress(0, None, "", "Starting PyTorch", stage="start")
        plan = TrainingPlan.load(folder)
        with recorded(folder):
            result = _train(plan, worker)
            worker.finish(result, complete=result is not None)
        if result is None:
            return
        shutil.rmtree(plan.state_dir, ignore_errors=True)  # a finished run has nothing to go on with


def _train(plan: TrainingPlan, worker: Worker) -> dict[str, Any] | None:
    """Train, and go on with half the batch when memory runs out; what came out, None when it was stopped."""
    from studio.training.workers import memory
    from studio.training.workers.trainer import Trainer

    while True:
        trainer = Trainer(recovery.adjusted(plan), worker, frozen=plan)
        try:
            return trainer.run()
        except StudioError as error:
            left = trainer.saved_step
            note = recovery.reduce(trainer.plan, error, step=trainer.progress.step, resumed_at=left)
        del trainer
        memory.release()
        number = len(recovery.halvings(plan.run_folder))
        worker.emit("anomaly", finding=recovery.finding(note, number).model_dump(mode="json"))
        worker.emit("stage", name="retry", message=note.sentence)


if __name__ == "__main__":
    main(sys.argv[1:])
