"""Runs one function of the studio as a job: `python -m studio.jobs.call studio.module:function JOB_FOLDER`.

For imports, scans and the like, which need no program of their own. See `studio.jobs.launch.launch_call`.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from studio.errors import InputError
from studio.jobs import disk
from studio.jobs.launch import checked_target
from studio.jobs.lifeline import Worker


def main(arguments: list[str]) -> int:
    """Run the function named by the first argument in the job folder named by the second; 0 when it returned."""
    target, folder = arguments[0], Path(arguments[1])
    with Worker(folder) as worker:
        module, name = checked_target(target)
        function = getattr(importlib.import_module(module), name, None)
        if not callable(function):
            raise InputError(
                f"{module} has no function called '{name}'.",
                "The job was started by another version of the studio.",
                "Start it again from this version.",
            )
        payload = disk.read_json(folder / "payload.json")
        if payload is None:
            raise InputError(
                "The job's payload.json cannot be read.",
                f"It should lie in {folder}.",
                "Start the job again.",
            )
        worker.finish(function(worker, payload))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
