"""The four gates before every training: dataset, config, environment, dry run.

A gate looks at stated inputs and gives a verdict: a list of findings, and a fingerprint of those inputs. It passes when
nothing blocks. When an input changes, the fingerprint no longer fits and the verdict is stale: it has to be run again.
`require_gates` is what launching asks; there is no way past it.

verdicts.py   what a gate said, and the fingerprint of what it looked at
standing.py   how each gate stands now
forecasts.py  what the next run will take
config.py     the config gate, which may adjust settings
native.py     the backend's own files for the next run
pages.py      the pages of the gates in the record
running.py    running them, and refusing a launch
"""

from __future__ import annotations

from studio.gates.forecasts import forecast, measured
from studio.gates.native import native_files
from studio.gates.running import require_environment, require_gates, run_gate, start_dry_run
from studio.gates.standing import picture_counts, state, states, verdict
from studio.gates.verdicts import (
    GATES,
    PURPOSE,
    TITLES,
    GateName,
    GateStatus,
    State,
    Verdict,
    current_fingerprint,
    save_verdict,
)

__all__ = [
    "GATES",
    "PURPOSE",
    "TITLES",
    "GateName",
    "GateStatus",
    "State",
    "Verdict",
    "current_fingerprint",
    "forecast",
    "measured",
    "native_files",
    "picture_counts",
    "require_environment",
    "require_gates",
    "run_gate",
    "save_verdict",
    "start_dry_run",
    "state",
    "states",
    "verdict",
]
