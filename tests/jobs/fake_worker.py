"""A worker for tests: `python fake_worker.py MODE JOB_FOLDER`."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from studio.errors import InputError
from studio.jobs.lifeline import Worker

mode, folder = sys.argv[1], Path(sys.argv[2])


def save() -> None:
    time.sleep(0.4)
    (folder / "saved.txt").write_text("saved")


def steps(worker: Worker, count: int = 3000) -> None:
    """Steps of 20 ms until told to stop; then saves, which takes a while."""
    step = 0
    for step in range(1, count + 1):
        if worker.should_stop:
            break
        worker.sleep(0.02)
        worker.progress(step, count, "steps", f"Step {step}", step=step, loss=1 / step)
        worker.emit("step", step=step)
    save()
    worker.finish({"steps": step})


if mode == "import-error":
    import a_package_that_nobody_has  # noqa: F401

with Worker(folder) as worker:
    worker.emit("ready")
    if mode == "steps":
        steps(worker)
    elif mode == "short":
        steps(worker, 10)
    elif mode == "last-step":
        # Everything is done when the stop arrives; only the saving is left.
        while not worker.should_stop:
            time.sleep(0.02)
        save()
        worker.finish({"steps": 7}, complete=True)
    elif mode == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        while True:
            time.sleep(0.1)
    elif mode == "deep":
        while True:
            worker.check()
            time.sleep(0.02)
    elif mode == "strays":
        quiet = {"stdin": subprocess.DEVNULL}
        near = subprocess.Popen(["sleep", "300"], **quiet)
        far = subprocess.Popen(["sleep", "300"], start_new_session=True, **quiet)
        (folder / "strays.txt").write_text(f"{near.pid} {far.pid}")
        os._exit(0)
    elif mode == "told-error":
        raise InputError("The picture is broken.", "It ends in the middle.", "Remove it.")
    elif mode == "crash":
        raise ValueError("no such thing as 3 halves")
    elif mode == "memory":
        raise MemoryError
    elif mode == "flood":
        for n in range(40_000):
            print(f"{n} " + "x" * 90)
            if n % 100 == 0:
                worker.emit("step", step=n, text="y" * 200)
        worker.finish({"printed": 40_000})
    elif mode == "secret":
        print("token is", os.environ.get("HF_TOKEN"), flush=True)
        worker.emit("note", text=os.environ.get("HF_TOKEN"))
        raise RuntimeError(f"401 for {os.environ.get('HF_TOKEN')}")
