"""The training loop of the built-in backend: steps, epochs, checkpoints, samples, states, and what it says of them."""

from __future__ import annotations

import time
from typing import Any

import torch

from studio import vram
from studio.errors import InputError, StudioError
from studio.findings import Finding
from studio.jobs.lifeline import Worker
from studio.training import anomalies
from studio.training.base import TrainingPlan
from studio.training.watching import Watch
from studio.training.workers import failures, memory, saving, state
from studio.training.workers.learner import Learner
from studio.training.workers.optim import rates
from studio.training.workers.pictures import epoch_batches, heaviest_first, shown_counts
from studio.training.workers.sampling import Sampler
from studio.training.workers.setup import Setup, Stages, prepare
from studio.vram.conditions import STATE

STATE_EVERY_S = 30.0
# Between epochs a state is saved only after so long, and only so often that saving takes a fiftieth of the time.
STATE_AT_LEAST_S = 2.0
STATE_SHARE = 50.0
CHECK_EVERY_STEPS = 25


class Trainer:
    """One run, from its plan to its last checkpoint. Make one, call `run` once.

    frozen: the plan as the run began, when this one differs in its batch because memory ran out; states belong to it.
    """

    def __init__(self, plan: TrainingPlan, worker: Worker, frozen: TrainingPlan | None = None) -> None:
        self.plan = plan
        self.frozen = frozen or plan
        self.settings = plan.settings
        self.worker = worker
        self.progress = state.Progress()
        self._began = time.time()
        self._clock = time.perf_counter()
        self._times: list[float] = []
        self._saved_at = time.perf_counter()
        self._saving_took = 0.0
        self._stages = Stages(worker)
        self._watch = Watch(plan.run_folder, self._notice, _save_bytes(plan))

    @property
    def saved_step(self) -> int:
        """The step of the newest state; 0 when there is none."""
        found = state.latest(self.plan.state_dir)
        return int(found.name) if found is not None and found.name.isdigit() else 0

    def run(self) -> dict[str, Any] | None:
        """Train to the end; what to report. None when the job was asked to stop, after its state was saved.

        Raises StudioError with a named cause for what goes wrong, JobStopped when it stopped before the first step.
        """
        try:
            self.it: Setup = prepare(self.plan, self._stages)
            self._restore()
            self._sampler = Sampler(self.it, self.worker)
            self._learner = Learner(self.it)
            self._say_plan()
            with self._watch:
                return self._train()
        except StudioError:
            raise
        except Exception as e:
            when = f"at step {self.progress.step + 1}" if self._times else "before the first step was done"
            named = failures.named(e, self.plan, when)
            if named is None:
                raise
            raise named from e

    def _say_plan(self) -> None:
        it = self.it
        self.worker.emit(
            "plan",
            total_steps=it.total,
            epochs=it.steps.epochs,
            steps_per_epoch=it.steps.steps_per_epoch,
            trainable=sum(p.numel() for p in it.parameters),
            layers=len(it.network.layers),
            buckets=[[*it.items[b[0]].placement.bucket, len(b)] for b in it.buckets],
            device=str(it.device),
            threads=torch.get_num_threads(),
        )

    # --- The loop

    def _train(self) -> dict[str, Any] | None:
        p, it = self.progress, self.it
        self._stages.enter("training", "Training")
        first = p.step
        start_seconds = time.perf_counter() - self._clock
        if not self._samples_due():
            return self._stopped()
        it.network.train()
        while p.step < it.total:
            batches = epoch_batches(it.buckets, it.items, self.settings, p.epoch)
            if self.plan.limit_steps:
                batches = heaviest_first(batches, it.items)
            while p.batch < len(batches) and p.step < it.total:
                self._one_step(batches)
                if self.worker.should_stop and p.step < it.total:
                    break
                if time.perf_counter() - self._saved_at > STATE_EVERY_S:
                    self._save_state()
            if p.batch >= len(batches) and not self._end_epoch():
                return self._stopped()
            if self.worker.should_stop and p.step < it.total:
                return self._stopped()
        return self._finished(first, start_seconds)

    def _one_step(self, batches: list[list[int]]) -> None:
        p = self.progress
        group = batches[p.batch : p.batch + self.settings.gradient_accumulation]
        at = time.perf_counter()
        value, norm = self._learner.step(p.step + 1, group, p.losses)
        took = time.perf_counter() - at
        p.batch += len(group)
        p.step += 1
        p.elapsed += took
        p.losses.append(value)
        self._times.append(took)
        self._watch.heard(self._pace())
        mean = anomalies.mean_of_last(p.losses, self.it.steps.steps_per_epoch)
        self.worker.emit(
            "step",
            step=p.step,
            epoch=p.epoch,
            loss=value,
            loss_avg=mean,
            lr=rates(self.it.raw_optimizer),
            grad_norm=norm,
            s_per_step=self._pace(),
            memory=memory.now(self.it.device),
        )
        self.worker.progress(
            p.step,
            self.it.total,
            "steps",
            f"Epoch {p.epoch} of {self.it.steps.epochs}",
            stage="training",
            step=p.step,
            epoch=p.epoch,
            epochs=self.it.steps.epochs,
            loss=mean,
        )
        # Looking reads every loss; in a long run it is done less often, so that it stays a small share of the time.
        if p.step % max(CHECK_EVERY_STEPS, p.step // 100) == 0:
            self._look_for_anomalies()

    def _pace(self) -> float:
        """Seconds a step: mean of the last 50, without this attempt's first one, which also warms caches up."""
        recent = self._times[1:][-50:] or self._times
        return sum(recent) / len(recent)

    def _look_for_anomalies(self) -> None:
        p = self.progress
        for finding in anomalies.detect(p.losses, self.it.steps.steps_per_epoch, self.it.total):
            if finding.code not in p.anomalies:
                p.anomalies.append(finding.code)
                self._notice(finding)

    def _notice(self, finding: Finding) -> None:
        self.worker.emit("anomaly", finding=finding.model_dump(mode="json"), step=self.progress.step)

    # --- After an epoch, and at the end

    def _end_epoch(self) -> bool:
        """Checkpoint, samples and state after an epoch; False when the job shall stop."""
        p = self.progress
        epoch = p.epoch
        mean = anomalies.mean_of_last(p.losses, self.it.steps.steps_per_epoch)
        self.worker.emit("epoch", epoch=epoch, step=p.step, loss_avg=mean)
        p.epoch, p.batch = epoch + 1, 0
        if p.step >= self.it.total:
            return True
        if epoch % self.settings.save_every_epochs == 0:
            self._checkpoint(epoch, final=False)
        going_on = self._samples_due()
        since = time.perf_counter() - self._saved_at
        if going_on and since > max(STATE_AT_LEAST_S, STATE_SHARE * self._saving_took):
            self._save_state()
        return going_on

    def _samples_due(self) -> bool:
        """Draw samples when training stands at an epoch's end that wants some; False when the job shall stop."""
        p, every = self.progress, self.settings.sample_every_epochs
        if every and p.batch == 0 and (p.epoch - 1) % every == 0:
            return self._sampler.draw_missing(p.step, p.epoch - 1)
        return not self.worker.should_stop

    def _checkpoint(self, epoch: int, *, final: bool) -> str:
        plan, it, p = self.plan, self.it, self.progress
        if plan.limit_steps and not final:
            return ""
        name = f"{plan.output_name}.safetensors" if final else f"{plan.output_name}-{epoch:06d}.safetensors"
        kind = type(it.raw_optimizer)
        about = saving.metadata(
            plan,
            epoch=epoch,
            step=p.step,
            epochs=it.steps.epochs,
            total_steps=it.total,
            batches_per_epoch=len(epoch_batches(it.buckets, it.items, self.settings, 1)),
            bucket_counts={
                it.items[b[0]].placement.bucket: n
                for b, n in zip(it.buckets, shown_counts(it.buckets, it.items), strict=True)
            },
            started=self._began,
            optimizer=f"{kind.__module__}.{kind.__name__}",
        )
        # fp16 after mixed precision: LoRA values fit its range, and it keeps more digits than bf16.
        dtype = torch.float32 if self.settings.precision == "no" else torch.float16
        path = plan.checkpoints_dir / name
        it.with_average(lambda: saving.write_lora(path, it.network.as_file(dtype), about))
        self.worker.emit("checkpoint", path=f"checkpoints/{name}", step=p.step, epoch=epoch, final=final)
        for old in saving.prune(plan.checkpoints_dir, plan.output_name, self.settings.keep_checkpoints):
            self.worker.emit("checkpoint_removed", path=f"checkpoints/{old.name}")
        return name

    def _finished(self, first: int, start_seconds: float) -> dict[str, Any]:
        p, it = self.progress, self.it
        epoch = p.epoch - 1 if p.batch == 0 else p.epoch
        name = self._checkpoint(epoch, final=True)
        if self.settings.sample_every_epochs:
            self._sampler.draw_missing(p.step, epoch)
        self._look_for_anomalies()
        result: dict[str, Any] = {
            "path": f"checkpoints/{name}",
            "steps": p.step,
            "steps_run": p.step - first,
            "epochs": epoch,
            "seconds_per_step": self._pace() if self._times else None,
            "first_step_seconds": self._times[0] if self._times else None,
            "start_seconds": start_seconds,
            "train_seconds": p.elapsed,
            "peak_bytes": memory.peak(it.device),
            "first_loss": p.losses[0] if p.losses else None,
            "last_loss": p.losses[-1] if p.losses else None,
            "loss_avg": anomalies.mean_of_last(p.losses, it.steps.steps_per_epoch),
        }
        self.worker.emit("done", **result)
        return result

    def _stopped(self) -> dict[str, Any] | None:
        if self.progress.step:
            self._save_state()
        self.worker.emit("stopped", step=self.progress.step, reason=self.worker.stop_reason)
        return None

    # --- State

    def _about(self) -> dict[str, str]:
        """What a state belongs to, and under which conditions its numbers came about."""
        return {
            "plan": self.frozen.fingerprint(),
            "batch": str(self.settings.batch_size),
            "device": str(self.it.device.type),
            "threads": str(torch.get_num_threads()),
            "torch": str(torch.__version__),
        }

    def _save_state(self) -> None:
        it = self.it
        if self.plan.limit_steps:
            return
        at = time.perf_counter()
        average = None
        if it.average is not None:
            names = [n for n, _ in it.network.weights()]
            average = {
                n: t.detach().cpu().contiguous() for n, t in zip(names, it.average.shadow_params, strict=True)
            }
        state.save(
            self.plan.state_dir,
            progress=self.progress,
            network=it.network.snapshot(),
            average=average,
            optimizer=it.raw_optimizer,
            scheduler=it.scheduler,
            scaler=it.accelerator.scaler,
            about=self._about(),
        )
        self._saved_at = time.perf_counter()
        self._saving_took = self._saved_at - at
        self.worker.emit("state", step=self.progress.step)

    def _restore(self) -> None:
        """Go on from the run's own newest state, else from the plan's, else from the start."""
        it = self.it
        found = state.latest(self.plan.state_dir) or self.plan.resume_from
        if found is None or self.plan.limit_steps:
            return
        loaded = state.load(found)
        about = self._about()
        if loaded.about.get("plan") != about["plan"]:
            raise InputError(
                "The saved state belongs to another run.",
                "Its pictures, captions, settings or base model differ from this run's, so the result would be neither.",
                "Start a new run.",
            )
        it.network.restore(loaded.network)
        loaded.put_into(it.raw_optimizer, it.scheduler, it.accelerator.scaler)
        if it.average is not None and loaded.average is not None:
            names = [n for n, _ in it.network.weights()]
            it.average.shadow_params = [loaded.average[n].to(it.device) for n in names]
            it.average.optimization_step = loaded.progress.step
        self.progress = loaded.progress
        before = int(loaded.about.get("batch", about["batch"]))
        if before != self.settings.batch_size:
            # Batches are drawn by lot, so this is the same place only in number: some pictures of this epoch are shown twice.
            self.progress.batch = self.progress.batch * before // self.settings.batch_size
        changed = [k for k, v in about.items() if k != "batch" and loaded.about.get(k) != v]
        if changed:
            self._notice(
                Finding(
                    severity="info",
                    code="resumed-elsewhere",
                    what=f"The run goes on under other conditions than it began: {', '.join(changed)}.",
                    why="Its numbers can differ in the last digits from a run without a break.",
                    fix="Nothing to do.",
                )
            )
        self.worker.emit("resume", step=self.progress.step, epoch=self.progress.epoch)


def _save_bytes(plan: TrainingPlan) -> int:
    """About the size of one checkpoint and the state beside it."""
    trained = vram.forecast(vram.conditions(plan.family, plan.settings)).trained
    return int(trained * (4 + 4 + STATE[plan.settings.optimizer]))
