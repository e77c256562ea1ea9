"""The training loop of the built-in backend.

Everything that chance decides in a step (order, noise levels, noise, mirroring, caption dropout, network dropout) is drawn
from generators made of the seed and the step's number. So a run repeats itself bit for bit on one computer, and one that
was stopped goes on as if it had not been.
"""

from __future__ import annotations

import random
import time
from contextlib import AbstractContextManager
from typing import Any

import torch
from accelerate import Accelerator
from diffusers.training_utils import EMAModel

from studio.errors import InputError, StudioError
from studio.estimate import StepPlan, plan_steps
from studio.findings import Finding
from studio.jobs.lifeline import Worker
from studio.training import anomalies
from studio.training.base import TrainingPlan
from studio.training.diffusers import threads
from studio.training.workers import failures, loss, memory, saving, state
from studio.training.workers.base_model import BaseModel, load
from studio.training.workers.captions import Embedded, TextReader, caption_for
from studio.training.workers.network import Network, attach
from studio.training.workers.optim import make_optimizer, make_scheduler, rates
from studio.training.workers.pictures import (
    Item,
    Latents,
    epoch_batches,
    heaviest_first,
    into_buckets,
    read_items,
)
from studio.training.workers.sampling import SampleStopped, draw

EMA_DECAY = 0.995  # looks back over about the last 200 steps
STATE_EVERY_S = 30.0
STATE_SHARE = 50.0  # a state is saved at most so often that saving takes a fiftieth of the time
CHECK_EVERY_STEPS = 25
MAX_SAMPLES = 4
DTYPES = {"no": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}


class Trainer:
    """One run, from its plan to its last checkpoint. Make one, call `run` once."""

    def __init__(self, plan: TrainingPlan, worker: Worker) -> None:
        self.plan = plan
        self.settings = plan.settings
        self.worker = worker
        self.began = time.time()
        self._clock = time.perf_counter()

    def run(self) -> dict[str, Any] | None:
        """Train to the end; what to report. None when the job was asked to stop, after its state was saved.

        Raises StudioError with a named cause for everything that goes wrong.
        """
        try:
            self._prepare()
            return self._train()
        except (StudioError, SampleStopped):
            raise
        except Exception as e:
            named = failures.named(e, self.plan, self._step_words())
            if named is None:
                raise
            raise named from e

    # --- Before the first step

    def _prepare(self) -> None:
        s = self.settings
        torch.set_num_threads(threads())
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        self.accelerator = Accelerator(mixed_precision=s.precision)
        self.device = self.accelerator.device
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        self.dtype = DTYPES[s.precision]

        self._stage("pictures", "Opening the pictures")
        self.items: list[Item] = read_items(
            self.plan, lambda n: self._doing("pictures", n, len(self.plan.pictures))
        )
        self.buckets = into_buckets(self.items)
        self.steps: StepPlan = plan_steps([len(b) for b in self.buckets], s)
        self.total = min(self.steps.total_steps, self.plan.limit_steps or self.steps.total_steps)

        self._stage("model", f"Loading {self.plan.model_title or 'the base model'}")
        self.base: BaseModel = load(self.plan, self.dtype)
        self._check_sizes()
        self._encode()
        self._make_network()
        self._restore()
        self.worker.emit(
            "plan",
            total_steps=self.total,
            epochs=self.steps.epochs,
            steps_per_epoch=self.steps.steps_per_epoch,
            trainable=sum(p.numel() for p in self.network.parameters()),
            layers=len(self.network.layers),
            buckets=[[*self.items[b[0]].placement.bucket, len(b)] for b in self.buckets],
            device=str(self.device),
            threads=torch.get_num_threads(),
        )

    def _check_sizes(self) -> None:
        factor = self.base.pixel_factor
        odd = [i for i in self.items if i.placement.bucket[0] % factor or i.placement.bucket[1] % factor]
        if odd:
            raise InputError(
                f"{len(odd)} pictures fall into a bucket that the base model cannot hold, first {odd[0].path.name}.",
                f"Sides have to be multiples of {factor} pixels, this one is {odd[0].placement.bucket}.",
                f"Set resolution and bucket step to multiples of {factor}.",
            )

    def _encode(self) -> None:
        """Latents and caption embeddings, and then away with what is not needed any more."""
        s, plan = self.settings, self.plan
        flips = s.flip
        folder = plan.cache_dir / plan.model_hash if plan.cache_dir and plan.model_hash else None
        self.base.vae.to(self.device)
        self.latents = Latents(
            self.base.vae, self.items, folder=folder, cached=s.cache_latents, device=self.device
        )
        if s.cache_latents:
            self._stage("latents", "Encoding the pictures")
            self.latents.prepare(flips, lambda n, of: self._doing("latents", n, of))
            self.base.vae.to("cpu")
        for encoder in self.base.text_encoders:
            encoder.to(self.device)
        remember = s.cache_text_embeddings and not s.train_text_encoder and not s.shuffle_captions
        self.reader = TextReader(self.base, self.device, remember=remember)
        self.prompts = (
            [] if plan.limit_steps or not s.sample_every_epochs else list(plan.prompts[:MAX_SAMPLES])
        )
        if remember:
            self._stage("captions", "Reading the captions")
            self.reader.learn([i.caption for i in self.items])
            self.reader.learn(["", *self.prompts])
            self.base.text_encoders.clear()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _make_network(self) -> None:
        s = self.settings
        self.network: Network = attach(self.base, s, seed=s.seed)
        for model in self.network.models.values():
            model.to(self.device)
        if s.gradient_checkpointing:
            self.base.unet.enable_gradient_checkpointing()
            for encoder in self.base.text_encoders:
                encoder.gradient_checkpointing_enable({"use_reentrant": False})
        self.alphas = self.base.alphas_cumprod.to(self.device)
        self.raw_optimizer = make_optimizer(self.network, s, self.device)
        # The schedule spans the whole run also in a dry run, whose few steps are then the run's first ones.
        self.scheduler = make_scheduler(self.raw_optimizer, s, self.steps.total_steps)
        self.optimizer = self.accelerator.prepare_optimizer(self.raw_optimizer)
        self.parameters = self.network.parameters()
        self.average = EMAModel(self.parameters, decay=EMA_DECAY) if s.ema else None

    def _restore(self) -> None:
        """Go on from the run's own newest state, else from the plan's, else from the start."""
        self.progress = state.Progress()
        self._saved_at = time.perf_counter()
        self._saving_took = 0.0
        found = state.latest(self.plan.state_dir) or self.plan.resume_from
        if found is None or self.plan.limit_steps:
            return
        loaded = state.load(found)
        if loaded.about["plan"] != self.plan.fingerprint():
            raise InputError(
                "The saved state belongs to another run.",
                "Its pictures, captions, settings or base model differ from this run's, so the result would be neither.",
                "Start a new run.",
            )
        self.network.restore(loaded.network)
        loaded.put_into(self.raw_optimizer, self.scheduler, self.accelerator.scaler)
        if self.average is not None and loaded.average is not None:
            names = [n for n, _ in self.network.weights()]
            self.average.shadow_params = [loaded.average[n].to(self.device) for n in names]
            self.average.optimization_step = loaded.progress.step
        self.progress = loaded.progress
        changed = [k for k, v in self._about().items() if loaded.about.get(k) != v]
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

    def _about(self) -> dict[str, str]:
        return {
            "plan": self.plan.fingerprint(),
            "device": str(self.device.type),
            "threads": str(torch.get_num_threads()),
            "torch": str(torch.__version__),
        }

    # --- The loop

    def _train(self) -> dict[str, Any] | None:
        p = self.progress
        self._stage("training", "Training")
        self._first = p.step
        self._times: list[float] = []
        start_seconds = time.perf_counter() - self._clock
        if not self._sample_where_left():
            return self._stopped()
        self.network.train()
        while p.step < self.total:
            batches = epoch_batches(self.buckets, self.settings, p.epoch)
            if self.plan.limit_steps:
                batches = heaviest_first(batches, self.items)
            if p.batch >= len(batches):  # a state from the very end of an epoch
                p.epoch, p.batch = p.epoch + 1, 0
                continue
            group = batches[p.batch : p.batch + self.settings.gradient_accumulation]
            at = time.perf_counter()
            value, norm = self._step(group)
            took = time.perf_counter() - at
            p.batch += len(group)
            p.step += 1
            p.elapsed += took
            p.losses.append(value)
            self._times.append(took)
            self._report(value, norm)
            if p.batch >= len(batches) and not self._end_epoch():
                return self._stopped()
            if self.worker.should_stop and p.step < self.total:
                return self._stopped()
            if time.perf_counter() - self._saved_at > STATE_EVERY_S:
                self._save_state()
        return self._finished(start_seconds)

    def _step(self, group: list[list[int]]) -> tuple[float, float]:
        """One change of the LoRA from one or more batches: its loss and the length of the gradient before clipping."""
        s = self.settings
        step = self.progress.step + 1
        self.optimizer.zero_grad(set_to_none=True)
        value = 0.0
        for number, batch in enumerate(group):
            part = self._loss(batch, random.Random(f"{s.seed}/step/{step}/{number}")) / len(group)
            one = float(part.detach())
            if one != one or one in (float("inf"), float("-inf")):
                raise failures.not_finite(self.plan, step, self.progress.losses, "loss")
            value += one
            self.accelerator.backward(part)
        self.accelerator.unscale_gradients(self.optimizer)
        limit = s.max_grad_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, limit, foreach=True))
        if self.accelerator.scaler is None and norm != norm:
            raise failures.not_finite(self.plan, step, self.progress.losses, "gradient")
        self.optimizer.step()
        if not self.accelerator.optimizer_step_was_skipped:
            self.scheduler.step()
        if self.average is not None:
            self.average.step(self.parameters)
        return value, norm

    def _loss(self, batch: list[int], chance: random.Random) -> torch.Tensor:
        s = self.settings
        generator = torch.Generator().manual_seed(chance.getrandbits(62))
        if s.network_dropout:
            torch.manual_seed(chance.getrandbits(62))  # dropout draws from torch's own generator
        flipped = [s.flip and chance.random() < 0.5 for _ in batch]
        captions = [caption_for(self.items[i].caption, s, self.plan.trigger, chance) for i in batch]
        latents = self.latents.draw(batch, flipped, generator)
        levels = loss.draw_levels(len(batch), len(self.alphas), generator)
        noise = torch.randn(latents.shape, generator=generator)
        if s.noise_offset:
            noise += s.noise_offset * torch.randn((*latents.shape[:2], 1, 1), generator=generator)
        noise, levels = noise.to(self.device), levels.to(self.device)
        noisy = loss.add_noise(latents, noise, self.alphas, levels).to(self.dtype)
        with self._autocast():
            texts = self.reader.read(captions)
            guess = self.base.unet(
                noisy,
                levels,
                texts.hidden.to(self.dtype),
                **self._sizes(batch, flipped, texts),
                return_dict=False,
            )[0]
        prediction = self.plan.effective_prediction
        wanted = loss.target(prediction, latents, noise, self.alphas, levels)
        return loss.weighted_error(
            guess, wanted, loss.snr_weights(prediction, self.alphas, levels, s.min_snr_gamma)
        )

    def _sizes(self, batch: list[int], flipped: list[bool], texts: Embedded) -> dict[str, Any]:
        if texts.pooled is None:
            return {}
        told = [self.items[i].sdxl_sizes(f) for i, f in zip(batch, flipped, strict=True)]
        return {
            "added_cond_kwargs": {
                "text_embeds": texts.pooled.to(self.dtype),
                "time_ids": torch.tensor(told, device=self.device, dtype=self.dtype),
            }
        }

    def _autocast(self) -> AbstractContextManager[Any]:
        return self.accelerator.autocast()

    # --- After a step, an epoch, the run

    def _report(self, value: float, norm: float) -> None:
        p = self.progress
        recent = p.losses[-self.steps.steps_per_epoch :]
        mean = sum(recent) / len(recent)
        self.worker.emit(
            "step",
            step=p.step,
            epoch=p.epoch,
            loss=value,
            loss_avg=mean,
            lr=rates(self.raw_optimizer),
            grad_norm=norm,
            s_per_step=self._pace(),
            memory=memory.now(self.device),
        )
        self._progress(mean)
        if p.step % CHECK_EVERY_STEPS == 0:
            self._look_for_anomalies()

    def _pace(self) -> float:
        """Seconds a step: mean of the last 50, without this attempt's first one, which also warms caches up."""
        recent = self._times[1:][-50:] or self._times
        return sum(recent) / len(recent)

    def _progress(self, mean: float | None) -> None:
        p = self.progress
        epoch = min(p.epoch, self.steps.epochs)
        self.worker.progress(
            p.step,
            self.total,
            "steps",
            f"Epoch {epoch} of {self.steps.epochs}",
            stage="training",
            step=p.step,
            epoch=epoch,
            epochs=self.steps.epochs,
            loss=mean,
        )

    def _look_for_anomalies(self) -> None:
        p = self.progress
        for finding in anomalies.detect(p.losses, self.steps.steps_per_epoch, self.total):
            if finding.code not in p.anomalies:
                p.anomalies.append(finding.code)
                self._notice(finding)

    def _notice(self, finding: Finding) -> None:
        self.worker.emit("anomaly", finding=finding.model_dump(mode="json"), step=self.progress.step)

    def _end_epoch(self) -> bool:
        """Checkpoint, samples and state after an epoch; False when the job shall stop."""
        p, s = self.progress, self.settings
        epoch = p.epoch
        count = self.steps.steps_per_epoch
        self.worker.emit(
            "epoch", epoch=epoch, step=p.step, loss_avg=sum(p.losses[-count:]) / len(p.losses[-count:])
        )
        p.epoch, p.batch = epoch + 1, 0
        if p.step >= self.total:
            return True
        if epoch % s.save_every_epochs == 0 and not self.plan.limit_steps:
            self._checkpoint(epoch, final=False)
        going_on = self._sample_where_left()
        since = time.perf_counter() - self._saved_at
        if going_on and since > max(2.0, STATE_SHARE * self._saving_took):
            self._save_state()
        return going_on

    def _checkpoint(self, epoch: int, *, final: bool) -> str:
        plan, p = self.plan, self.progress
        name = f"{plan.output_name}.safetensors" if final else f"{plan.output_name}-{epoch:06d}.safetensors"
        path = plan.checkpoints_dir / name
        kind = type(self.raw_optimizer)
        about = saving.metadata(
            plan,
            epoch=epoch,
            step=p.step,
            epochs=self.steps.epochs,
            total_steps=self.total,
            batches_per_epoch=len(epoch_batches(self.buckets, self.settings, 1)),
            bucket_counts={self.items[b[0]].placement.bucket: len(b) for b in self.buckets},
            started=self.began,
            optimizer=f"{kind.__module__}.{kind.__name__}",
        )
        self._with_average(lambda: saving.write_lora(path, self.network.as_file(self._file_dtype), about))
        self.worker.emit("checkpoint", path=f"checkpoints/{name}", step=p.step, epoch=epoch, final=final)
        for old in saving.prune(plan.checkpoints_dir, plan.output_name, self.settings.keep_checkpoints):
            self.worker.emit("checkpoint_removed", path=f"checkpoints/{old.name}")
        return name

    @property
    def _file_dtype(self) -> torch.dtype:
        """32 bit after full precision, else fp16: LoRA values fit its range, and it keeps more digits than bf16."""
        return torch.float32 if self.settings.precision == "no" else torch.float16

    def _with_average(self, action: Any) -> Any:
        """Do something with the running average in place of the weights, when there is one."""
        if self.average is None:
            return action()
        self.average.store(self.parameters)
        self.average.copy_to(self.parameters)
        try:
            return action()
        finally:
            self.average.restore(self.parameters)

    def _sample(self, epoch: int) -> bool:
        """Draw the samples of now unless they are there; False when the job was asked to stop meanwhile."""
        folder, step = self.plan.samples_dir, self.progress.step
        missing = [i for i in range(len(self.prompts)) if not (folder / f"{step:06d}_{i}.png").is_file()]
        if not missing:
            return not self.worker.should_stop
        try:
            pictures = self._with_average(self._draw)
        except SampleStopped:
            return False
        for i, (picture, prompt) in enumerate(zip(pictures, self.prompts, strict=True)):
            name = f"{step:06d}_{i}"
            saving.write_sample(folder, name, picture, {"prompt": prompt, "epoch": epoch, "step": step})
            self.worker.emit("sample", path=f"samples/{name}.png", step=step, epoch=epoch, prompt=prompt)
        return not self.worker.should_stop

    def _sample_where_left(self) -> bool:
        """Samples before the first step, or those of an epoch at whose end the run was stopped."""
        p, every = self.progress, self.settings.sample_every_epochs
        due = every and p.batch == 0 and (p.epoch - 1) % every == 0
        return self._sample(p.epoch - 1) if due else not self.worker.should_stop

    def _draw(self) -> list[Any]:
        self.network.train(False)
        self.base.vae.to(self.device)
        try:
            with torch.no_grad(), self._autocast():
                texts = self.reader.read(self.prompts).to(self.device, self.dtype)
                empty = self.reader.read([""]).to(self.device, self.dtype)
            return draw(
                self.base,
                texts,
                empty,
                side=self._sample_side(),
                seed=self.settings.seed,
                device=self.device,
                autocast=self._autocast,
                should_stop=lambda: self.worker.should_stop,
            )
        finally:
            if self.settings.cache_latents:
                self.base.vae.to("cpu")
            self.network.train()

    def _sample_side(self) -> int:
        """The resolution, as a multiple of what the UNet can halve without a remainder."""
        unit = self.base.pixel_factor * 2 ** (len(self.base.unet.config.block_out_channels) - 1)
        return max(unit, self.settings.resolution // unit * unit)

    def _save_state(self) -> None:
        if self.plan.limit_steps:
            return
        at = time.perf_counter()
        average = None
        if self.average is not None:
            names = [n for n, _ in self.network.weights()]
            average = {
                n: t.detach().cpu().contiguous()
                for n, t in zip(names, self.average.shadow_params, strict=True)
            }
        state.save(
            self.plan.state_dir,
            progress=self.progress,
            network=self.network.snapshot(),
            average=average,
            optimizer=self.raw_optimizer,
            scheduler=self.scheduler,
            scaler=self.accelerator.scaler,
            about=self._about(),
        )
        self._saved_at = time.perf_counter()
        self._saving_took = self._saved_at - at
        self.worker.emit("state", step=self.progress.step)

    def _stopped(self) -> dict[str, Any] | None:
        if self.progress.step:
            self._save_state()
        self.worker.emit("stopped", step=self.progress.step, reason=self.worker.stop_reason)
        return None

    def _finished(self, start_seconds: float) -> dict[str, Any]:
        p = self.progress
        epoch = min(p.epoch - 1 if p.batch == 0 else p.epoch, self.steps.epochs)
        name = self._checkpoint(epoch, final=True)
        self._sample(epoch)
        self._look_for_anomalies()
        result: dict[str, Any] = {
            "path": f"checkpoints/{name}",
            "steps": p.step,
            "steps_run": p.step - self._first,
            "epochs": epoch,
            "seconds_per_step": self._pace() if self._times else None,
            "first_step_seconds": self._times[0] if self._times else None,
            "start_seconds": start_seconds,
            "train_seconds": p.elapsed,
            "peak_bytes": memory.peak(self.device),
            "first_loss": p.losses[0] if p.losses else None,
            "last_loss": p.losses[-1] if p.losses else None,
            "loss_avg": anomalies.mean_of_last(p.losses, self.steps.steps_per_epoch),
        }
        self.worker.emit("done", **result)
        return result

    # --- Saying how far it is

    def _stage(self, name: str, message: str) -> None:
        self.worker.check()
        self.worker.emit("stage", name=name, message=message)
        self.worker.progress(0, None, "", message, stage=name)
        self._stage_words = message

    def _doing(self, stage: str, done: int, total: int) -> None:
        self.worker.check()
        self.worker.progress(done, total, "pictures", self._stage_words, stage=stage)

    def _step_words(self) -> str:
        p = getattr(self, "progress", None)
        return (
            f"at step {p.step + 1}" if p is not None and hasattr(self, "_times") else "before the first step"
        )
