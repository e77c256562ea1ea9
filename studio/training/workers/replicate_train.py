"""The job of a run on Replicate: `python -m studio.training.workers.replicate_train RUN_FOLDER`.

Packs and sends the dataset, starts the training once, follows it, and puts its LoRA where a local run would. It computes
nothing. Killed at any moment and started again it goes on with the same paid training: see studio.replicate.submit.

Stop: someone who asks for it ends the training at Replicate too, for it costs until it ends. When only this process is
ended (a restart, a power cut), the training goes on there and is taken up again by resuming the run.
"""

from __future__ import annotations

import json
import struct
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from studio import files, secrets
from studio.answers import Passing
from studio.errors import InputError, StudioError
from studio.files import human_size
from studio.findings import blocking
from studio.jobs.lifeline import JobStopped, Worker
from studio.models import tensor_header
from studio.replicate.api import Api, local_origins
from studio.replicate.checks import check_online, forecast_of
from studio.replicate.config import Config
from studio.replicate.costs import money, price_of, sizes
from studio.replicate.follow import LimitReached, Look, ended_badly, follow
from studio.replicate.submit import Order, Ticket, ensure_destination, submit
from studio.replicate.trainers import catalogue
from studio.replicate.weights import fetch
from studio.training.base import TrainingPlan
from studio.training.packing import Packed, pack
from studio.training.record import recorded
from studio.training.replicate import TICKET, config_of, steps_of
from studio.workspace import Workspace

DATASET = "dataset.zip"


class CloudRun:
    """One run; see the module."""

    def __init__(self, plan: TrainingPlan, worker: Worker) -> None:
        self.plan, self.worker = plan, worker
        self.folder = plan.run_folder
        self.ticket = Ticket(self.folder / TICKET)
        steps = (files.read_json(self.folder / "run.json") or {}).get("steps") or {}
        self.epochs = int(steps.get("epochs") or plan.settings.epochs)
        self.per_epoch = int(steps.get("per_epoch") or 0)
        config, found = config_of(
            plan.settings,
            plan.family,
            trigger=plan.trigger,
            steps=steps_of(plan, int(steps.get("total") or 0)),
        )
        if blocking(found):
            raise InputError("These settings cannot be trained on Replicate.", "", "Mend each one.", found)
        self.config: Config = config
        self.token = secrets.find_secret(Workspace.default(), secrets.REPLICATE)
        self.steps = int(config.values["steps"])
        self._last_step = 0

    # --- gate 4

    def rehearse(self) -> dict[str, Any]:
        """Do everything but the paid request; the figures for the gate. Raises InputError with every problem."""
        self._stage("Packing the dataset")
        packed = None if self.plan.settings.cloud_dataset_url else self._pack()
        self._stage("Asking Replicate")
        config = self.config
        report = check_online(
            config,
            self.token,
            create_destination=self.plan.settings.cloud_create,
            ask_dataset=packed is None,
            allow=local_origins(config.dataset_url),
        )
        found = list(report.findings)
        limit = catalogue().upload_limit_bytes
        if packed is not None and packed.size > limit:
            found.append(_too_large(packed.size, limit))
        if blocking(found):
            raise InputError(
                "The training cannot be started on Replicate like this.", "Nothing was sent and nothing was spent.",
                "Mend each one.", found,
            )  # fmt: skip
        told = forecast_of(config)
        assert told is not None
        (self.folder / DATASET).unlink(missing_ok=True)
        middle = (told.seconds_low + told.seconds_high) / 2
        start = sum(config.trainer.seconds_to_start) / 2
        packed_words = (
            f"{packed.pictures} pictures and {packed.captions} captions packed, {human_size(packed.size)}; "
            if packed
            else "the dataset URL answers; "
        )
        return {
            "steps_run": 0,
            "seconds_per_step": (middle - start) / max(1, self.steps),
            "start_seconds": start,
            "peak_bytes": 0,
            "cost_low": told.low,
            "cost_high": told.high,
            "cost_words": told.words,
            "what": f"Everything but the paid request was done: it will cost {told.words}.",
            "why": f"{packed_words}token taken by {report.account or 'the account'}; {self.steps} steps fit the trainer "
            f"{config.trainer.model}:{report.version[:12]}.",
        }

    # --- the run

    def run(self) -> dict[str, Any]:
        """Start or take up the training, follow it to its end, fetch its LoRA; the result of the job."""
        self.worker.emit(
            "plan", total_steps=self.steps, epochs=self.epochs, steps_per_epoch=self.per_epoch, trainable=0,
            device=f"Replicate {self.config.trainer.hardware.upper()}",
        )  # fmt: skip
        with Api(self.token, wait=self._wait) as api:
            training_id = self.ticket.id or self._start(api)
            self.worker.emit("stage", name="cloud", message=f"Training {training_id} at Replicate")
            self.ticket.note(settled=False)
            try:
                last = follow(
                    api, training_id, tell=self._tell, wait=self._wait, should_leave=lambda: self.worker.should_stop,
                    limit=self.plan.settings.cloud_spending_limit,
                )  # fmt: skip
            except LimitReached:
                self.ticket.note(settled=True, status="canceled")
                raise
            if last is None:
                self._leave(api, training_id)
                raise JobStopped
            self.ticket.note(
                settled=True,
                status=last.training.status,
                seconds=round(last.seconds, 1),
                cost=round(last.cost, 4),
            )
            bad = ended_badly(last.training)
            if bad is not None:
                raise bad
            path = self._fetch(api, last)
        told = {
            "training": training_id,
            "cost_dollars": round(last.cost, 4),
            "seconds": round(last.seconds, 1),
        }
        self.worker.emit("done", steps_run=self.steps, peak_bytes=0, checkpoint=path.name, **told)
        return {"checkpoint": path.name, **told}

    def _start(self, api: Api) -> str:
        if ended := self.ticket.read().get("status"):
            raise StudioError(
                f"The training of this run has ended at Replicate: {ended}.",
                "It cannot be gone on with.",
                "Start a new run.",
            )
        made = ensure_destination(
            api,
            self.config.destination,
            create=self.plan.settings.cloud_create,
            hardware=self.config.trainer.hardware,
        )
        if made:
            self.worker.emit("stage", name="destination", message=f"Made {self.config.destination}, private")
        version = self.config.version or self._newest(api)
        config = replace(
            self.config, dataset_url=self.plan.settings.cloud_dataset_url or self._send(api), version=version
        )
        self.worker.check()
        self._stage("Starting the training")
        return submit(
            api,
            Order(config.trainer.model, version, config.destination, config.inputs, {}),
            self.ticket,
            wait=self._wait,
        )

    def _newest(self, api: Api) -> str:
        model = api.model(self.config.trainer.model) or {}
        newest = (model.get("latest_version") or {}).get("id")
        if not isinstance(newest, str):
            raise StudioError(
                f"{self.config.trainer.model} has no version on Replicate.", "", "Run the dry run again."
            )
        return newest

    def _send(self, api: Api) -> str:
        """Pack and upload the dataset once; its address is kept for another try."""
        known = str(self.ticket.read().get("dataset_url") or "")
        if known:
            return known
        packed = self._pack()
        self._stage(f"Sending the dataset ({human_size(packed.size)})")
        url = api.upload(self.folder / DATASET, name=f"{self.plan.output_name}.zip")
        self.ticket.note(dataset_url=url, dataset_bytes=packed.size)
        (self.folder / DATASET).unlink(missing_ok=True)
        return url

    def _pack(self) -> Packed:
        return pack(
            self.plan.pictures,
            self.folder / DATASET,
            largest=max(sizes(str(self.config.values["resolution"]))),
            progress=lambda done, total: self.worker.progress(
                done, total, "pictures", "Packing the dataset", stage="pack"
            ),
            check=self.worker.check,
        )

    def _fetch(self, api: Api, last: Look) -> Path:
        self._stage("Fetching the LoRA")
        target = self.plan.checkpoints_dir / f"{self.plan.output_name}.safetensors"

        def tell(done: int, whole: int | None) -> None:
            self.worker.progress(
                done, whole, "bytes", "Fetching the LoRA", stage="fetch", cost_dollars=round(last.cost, 4)
            )

        came = fetch(
            api, last.training, self.folder / "result" / target.name, progress=tell,
            should_stop=lambda: self.worker.should_stop, wait=self._wait,
        )  # fmt: skip
        put_with_metadata(came, target, self._metadata())
        came.unlink()
        return target

    def _metadata(self) -> dict[str, str]:
        plan = self.plan
        return {
            **plan.metadata,
            "ss_output_name": plan.output_name,
            "ss_steps": str(self.steps),
            "ss_epoch": str(self.epochs),
            "ss_num_train_images": str(len(plan.pictures)),
            "ss_network_dim": str(plan.settings.rank),
            "ss_sd_model_name": plan.model_title,
            "modelspec.title": plan.output_name,
            "modelspec.trigger_phrase": plan.trigger,
            "studio_trainer": self.config.trainer.model,
        }

    # --- words and stops

    def _stage(self, words: str) -> None:
        self.worker.emit("stage", name="cloud", message=words)
        self.worker.progress(0, None, "", words, stage="cloud")
        print(words, flush=True)

    def _tell(self, now: Look) -> None:
        bar = now.bar
        if bar is not None and bar.step > self._last_step and bar.loss is not None:
            epoch = min(self.epochs, -(-bar.step // self.per_epoch)) if self.per_epoch else 0
            self.worker.emit("step", step=bar.step, epoch=epoch, loss=bar.loss, lr={"unet": bar.rate or 0.0},
                             s_per_step=bar.seconds_per_step)  # fmt: skip
        if bar is not None and bar.step > self._last_step:
            self._last_step = bar.step
            print(now.words, flush=True)
        limit = self.plan.settings.cloud_spending_limit
        self.worker.progress(
            bar.step if bar else 0, bar.total if bar else self.steps, "steps",
            now.words if now.trouble or bar is None else f"{now.training.words[:1].upper()}{now.training.words[1:]}",
            step=bar.step if bar else 0, stage="cloud", eta_seconds=now.eta_seconds,
            cost_dollars=round(now.cost, 4), cost_words=money(now.cost) + (f" of {money(limit)}" if limit else ""),
            price_per_second=price_of(now.training.model), training=now.training.id, status=now.training.status,
        )  # fmt: skip

    def _wait(self, seconds: float) -> None:
        self.worker.sleep(seconds)

    def _leave(self, api: Api, training_id: str) -> None:
        """Asked to stop: cancel, because it costs. Only the process is ended: let the training go on."""
        if not (self.folder / "stop").exists():
            print(
                f"This process ends; training {training_id} goes on at Replicate. Resume the run to take it up.",
                flush=True,
            )
            return
        try:
            api.cancel(training_id)
        except Passing as e:
            raise StudioError(
                f"Training {training_id} could not be cancelled and goes on, and costs, at Replicate.",
                e.what,
                f"Cancel it at replicate.com/p/{training_id}, or with: sd35l-trainer cancel {training_id}",
            ) from e
        self.ticket.note(settled=True, status="canceled")
        self.worker.emit("stage", name="cloud", message=f"Training {training_id} was cancelled at Replicate")
        print(f"Training {training_id} was cancelled at Replicate.", flush=True)


def _too_large(size: int, limit: int) -> Any:
    from studio.findings import Finding

    return Finding(
        severity="block", code="dataset-too-large",
        what=f"The packed dataset is {human_size(size)}; Replicate takes at most {human_size(limit)} by upload.",
        why="Larger files have to lie somewhere on the web.",
        fix="Export the dataset as a ZIP, put it where it can be reached by https, and give its address as Dataset URL; or "
        "leave out pictures that look alike.",
        where=("cloud_dataset_url",),
    )  # fmt: skip


def put_with_metadata(source: Path, target: Path, metadata: dict[str, str]) -> None:
    """Copy a safetensors file with text fields added to its header; tensors stay as they are, byte for byte."""
    header = tensor_header(source)
    own = header.get("__metadata__")
    header["__metadata__"] = {**(own if isinstance(own, dict) else {}), **metadata}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with source.open("rb") as s, files.atomic_file(target) as out:
        s.seek(8 + struct.unpack("<Q", s.read(8))[0])
        out.write(struct.pack("<Q", len(text)) + text)
        while piece := s.read(1024 * 1024):
            out.write(piece)


def main(arguments: list[str]) -> None:
    """Train, or rehearse, the plan of the folder named by the only argument."""
    folder = Path(arguments[0])
    with Worker(folder) as worker, recorded(folder):
        plan = TrainingPlan.load(folder)
        cloud = CloudRun(plan, worker)
        if plan.limit_steps is not None:
            told = cloud.rehearse()
            worker.emit("done", **told)
            worker.finish(told, complete=True)
            return
        worker.finish(cloud.run(), complete=True)


if __name__ == "__main__":
    main(sys.argv[1:])
