"""Writes data/sdscripts/options.json: the options that each training script of sd-scripts takes.

The studio checks every key of a config that it writes or reads against this list, since the scripts pass over unknown
keys of a config file without a word. Run it again when the pinned commit changes:

    python -m scripts.sdscripts.options FOLDER PYTHON

FOLDER is a checkout of sd-scripts, PYTHON the interpreter of its environment.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from studio import files
from studio.workspace import shipped

SCRIPTS = ("train_network", "sdxl_train_network", "sd3_train_network", "flux_train_network")

# Runs inside of the environment of sd-scripts; prints the parser of one script as JSON.
_ASK = """
import argparse, importlib, json, sys
sys.path.insert(0, ".")
parser = importlib.import_module(sys.argv[1]).setup_parser()
out = {}
for a in parser._actions:
    if isinstance(a, argparse._HelpAction):
        continue
    switch = a.nargs == 0
    kind = "bool" if switch else getattr(a.type, "__name__", "str") if a.type else "str"
    default = a.default if isinstance(a.default, (int, float, str, bool, type(None))) else str(a.default)
    out[a.dest] = {"type": kind, "many": a.nargs in ("*", "+"), "default": default,
                   "choices": None if a.choices is None else [str(c) for c in a.choices]}
print("OPTIONS" + json.dumps(out))
"""


def ask(folder: Path, python: str, script: str) -> dict[str, Any]:
    """The options of one script: name -> type, many (takes several values), default, choices."""
    done = subprocess.run(
        [python, "-c", _ASK, script], cwd=folder, capture_output=True, text=True, check=False, timeout=600
    )
    for line in done.stdout.splitlines():
        if line.startswith("OPTIONS"):
            return dict(json.loads(line[7:]))
    raise SystemExit(f"{script} could not be asked:\n{done.stderr[-2000:]}")


def main(folder: str, python: str) -> None:
    """Ask every script and write the list: what all share once, then what each has on top or otherwise."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    found = {s: ask(Path(folder), python, s) for s in SCRIPTS}
    first = found[SCRIPTS[0]]
    shared = {k: v for k, v in first.items() if all(found[s].get(k) == v for s in SCRIPTS)}
    own = {s: {k: v for k, v in found[s].items() if k not in shared} for s in SCRIPTS}
    files.write_json(
        shipped("data", "sdscripts", "options.json"), {"commit": commit, "shared": shared, "scripts": own}
    )
    print({s: len(found[s]) for s in SCRIPTS}, len(shared))


if __name__ == "__main__":
    main(*sys.argv[1:])
