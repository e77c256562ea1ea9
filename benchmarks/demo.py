"""Wall time of the demo by stage, against the time that its training steps alone take.

    python -m benchmarks.demo [--runs 1]

Each run is a whole `python -m studio demo` in a fresh workspace. The last column is the share of the whole; "steps alone" is
what the dry run's seconds per step promise for the training, so the rest of the training stage is starting, loading, samples
and saving.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(home: Path) -> dict[str, float]:
    """One demo in `home`; seconds by stage, with `total` and `steps alone`."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, "-m", "studio", "demo"],
        cwd=ROOT,
        env={**os.environ, "STUDIO_HOME": str(home)},
        stdout=subprocess.DEVNULL,
        check=True,
    )
    total = time.perf_counter() - began
    project = next(home.glob("projects/*/demo.json")).parent
    note = json.loads((project / "demo.json").read_text(encoding="utf-8"))
    dry = json.loads((project / "gates" / "dry_run.json").read_text(encoding="utf-8"))["facts"]
    found = {s["title"]: float(s["seconds"]) for s in note["stages"]}
    return {**found, "steps alone": dry["seconds_per_step"] * dry["steps"], "total": total}


def main() -> int:
    """Print the median of each stage over the runs."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=1, help="whole demos to time (default 1)")
    count = parser.parse_args().runs
    runs = []
    for n in range(count):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(run(Path(folder)))
            print(f"run {n + 1} of {count}: {runs[-1]['total']:.1f} s", file=sys.stderr)
    total = statistics.median(r["total"] for r in runs)
    for name in runs[0]:
        seconds = statistics.median(r[name] for r in runs)
        print(f"{name:34} {seconds:8.1f} s {seconds / total:6.0%}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
