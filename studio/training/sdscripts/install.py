"""Which sd-scripts the workspace uses, and whether it can be used.

It lives in an environment of its own, since its pinned packages clash with the studio's, and is only ever started as a
process. What the workspace uses is noted in `<workspace>/backends/sd-scripts.json`: source, python, commit, since; `facts`
and `problem` of its last check; `previous`, the one that was used before.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import EnvironmentalError, InputError
from studio.findings import Finding
from studio.machine import detect
from studio.training.sdscripts import options
from studio.workspace import Workspace

NOTE = "sd-scripts.json"
PROBE_SECONDS = 300

_PROBE = """
import importlib, json, sys
sys.path.insert(0, ".")
out = {"failed": {}}
for name in ("torch", "accelerate", "transformers", "diffusers", "safetensors", *sys.argv[2:], sys.argv[1]):
    try:
        importlib.import_module(name)
    except BaseException as e:
        out["failed"][name] = f"{type(e).__name__}: {e}"[:300]
from importlib import metadata
out["versions"] = {}
for name in ("torch", "torchvision", "accelerate", "transformers", "diffusers", "safetensors", "numpy", "bitsandbytes", "xformers",
             "prodigyopt", "lion-pytorch"):
    try:
        out["versions"][name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
try:
    import torch
    out.update(torch=torch.__version__, cuda_build=torch.version.cuda, cuda=torch.cuda.is_available())
    if out["cuda"]:
        out.update(gpu=torch.cuda.get_device_name(0), bf16=torch.cuda.is_bf16_supported(),
                   capability=list(torch.cuda.get_device_capability(0)), arch=torch.cuda.get_arch_list())
        torch.zeros(8, device="cuda").sum().item()
except BaseException as e:
    out["torch_error"] = f"{type(e).__name__}: {e}"[:300]
print("PROBE" + json.dumps(out))
"""


@dataclass(frozen=True)
class Install:
    """One sd-scripts on this computer. source: its folder; python: the interpreter of its environment; commit: the version
    that lies there, empty when its folder holds no git history."""

    source: Path
    python: Path
    commit: str = ""

    def as_dict(self) -> dict[str, str]:
        """Plain text for plans, manifests and the workspace's note."""
        return {"source": str(self.source), "python": str(self.python), "commit": self.commit}


def note(workspace: Workspace) -> dict[str, Any]:
    """What the workspace notes about the one in use; {} when there is none, or the note was damaged."""
    try:
        raw = files.read_json(workspace.root / "backends" / NOTE)
    except InputError:
        return {}
    return raw if isinstance(raw, dict) and raw.get("source") and raw.get("python") else {}


def use(workspace: Workspace, to: Install, facts: dict[str, Any] | None = None) -> None:
    """Use `to` from now on; the one before is noted for a roll-back. facts: what its last check saw."""
    before = note(workspace)
    previous = before.get("previous")
    if before and (before["source"], before["python"]) != (str(to.source), str(to.python)):
        previous = {k: before[k] for k in ("source", "python", "commit", "facts") if k in before}
    content = {**to.as_dict(), "since": files.now(), "facts": facts or {}}
    files.write_json(
        workspace.root / "backends" / NOTE, {**content, **({"previous": previous} if previous else {})}
    )


def checked(workspace: Workspace, install: Install, found: list[Finding], facts: dict[str, Any]) -> None:
    """Note what a check of the one in use saw; nothing is noted when another one is in use by now."""
    before = note(workspace)
    if (before.get("source"), before.get("python")) != (str(install.source), str(install.python)):
        return
    bad = next((f for f in found if f.severity == "block"), None)
    problem = {"what": f"{bad.what} {bad.why}".strip(), "fix": bad.fix} if bad else {}
    told = {k: v for k, v in facts.items() if k != "sdscripts"}
    files.write_json(
        workspace.root / "backends" / NOTE,
        {**before, "facts": {**told, "at": files.now()}, "problem": problem},
    )


def current(workspace: Workspace) -> Install | None:
    """The one that the workspace uses; None when none was set up."""
    raw = note(workspace)
    if not raw:
        return None
    return Install(Path(raw["source"]), Path(raw["python"]), str(raw.get("commit", "")))


def adopt(workspace: Workspace, source: Path, python: Path | None = None) -> Install:
    """Use an sd-scripts that is already on this computer; nothing in its folder is changed.

    python: the interpreter of its environment; None: looked for in `venv` and `.venv` inside of the folder. Raises
    InputError when the folder or the interpreter is not what it should be, naming everything at once.
    """
    source = source.expanduser().absolute()
    found = []
    missing = [f"{s}.py" for s in options.SCRIPTS.values() if not (source / f"{s}.py").is_file()]
    if not source.exists():
        found.append(
            Finding(
                severity="block",
                code="sdscripts-folder",
                what=f"There is no folder {source}.",
                why="The path may be misspelt, or the disk not connected.",
                fix="Name the folder that git cloned: it holds train_network.py.",
            )
        )
    elif missing:
        found.append(
            Finding(
                severity="block",
                code="sdscripts-folder",
                what=f"{source.name or source} is not a folder of sd-scripts.",
                why=f"It lacks {', '.join(missing)}.",
                fix="Name the folder that git cloned: it holds train_network.py.",
            )
        )
    chosen = python.expanduser().absolute() if python else python_in(source)
    if source.exists() and (chosen is None or not chosen.is_file()):
        found.append(
            Finding(
                severity="block",
                code="sdscripts-python",
                what="The Python of its environment was not found.",
                why=f"Nothing lies at {chosen}."
                if chosen
                else "There is neither venv nor .venv in its folder.",
                fix="Name its Python too (at the command line: --python): bin/python in its environment, on Windows Scripts\\python.exe.",
            )
        )
    if found:
        raise InputError(found[0].what, found[0].why, found[0].fix, found if len(found) > 1 else None)
    assert chosen is not None
    install = Install(source, chosen, commit_of(source))
    use(workspace, install)
    return install


def forget(workspace: Workspace) -> None:
    """Use it no more. Its folder stays as it is."""
    (workspace.root / "backends" / NOTE).unlink(missing_ok=True)


def python_in(source: Path) -> Path | None:
    """The interpreter of an environment `venv` or `.venv` inside of a folder; None when there is none."""
    for name in ("venv", ".venv"):
        for inside in (Path("bin") / "python", Path("Scripts") / "python.exe"):
            if (source / name / inside).is_file():
                return source / name / inside
    return None


def commit_of(source: Path) -> str:
    """The commit that is checked out, read without running anything; empty when there is none."""
    try:
        head = (source / ".git" / "HEAD").read_text(encoding="utf-8").strip()
        if not head.startswith("ref: "):
            return head
        ref = head[5:]
        loose = source / ".git" / ref
        if loose.is_file():
            return loose.read_text(encoding="utf-8").strip()
        for line in (source / ".git" / "packed-refs").read_text(encoding="utf-8").splitlines():
            if line.endswith(f" {ref}"):
                return line.split()[0]
    except OSError:
        pass
    return ""


def probe_line(install: Install, script: str, modules: tuple[str, ...] = ()) -> list[str]:
    """The command that imports a script and what it needs, and asks torch about the graphics card; run it in its folder."""
    return [str(install.python), "-W", "ignore", "-c", _PROBE, script, *modules]


def probed(output: str) -> dict[str, Any] | None:
    """The answer in what `probe_line` printed; None when there is none."""
    for line in output.splitlines():
        if line.startswith("PROBE"):
            return dict(json.loads(line[5:]))
    return None


def probe_environment() -> dict[str, str]:
    """The environment of a probe: nothing of the studio's own Python reaches the other one."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "VIRTUAL_ENV"))}


def probe(install: Install, script: str, modules: tuple[str, ...] = ()) -> dict[str, Any]:
    """Import a script and what it needs in its own environment, and ask torch about the graphics card.

    modules: further packages that the settings need. Returns {"failed": {module: error}, "torch": ...}, or
    {"crashed": words}. Takes some seconds, and much longer the first time.
    """
    try:
        done = subprocess.run(
            probe_line(install, script, modules),
            cwd=install.source,
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
            env=probe_environment(),
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"crashed": f"no answer within {PROBE_SECONDS} seconds"}
    except OSError as e:
        return {"crashed": f"{install.python} could not be started: {e.strerror or e}"}
    seen = probed(done.stdout)
    if seen is not None:
        return seen
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return {"crashed": f"it ended with code {done.returncode}: {last[:300]}"}


def needed(workspace: Workspace) -> Install:
    """The one in use. Raises EnvironmentalError when there is none, or its folder is gone."""
    install = current(workspace)
    if install is None or not install.python.is_file() or not install.source.is_dir():
        raise EnvironmentalError(
            "sd-scripts is not set up." if install is None else "sd-scripts is not where it was.",
            "The kohya backend starts it." if install is None else f"{install.source} or its Python is gone.",
            "Install it on the Set-up page, or with: lora-studio setup sd-scripts install. Or choose the built-in backend.",
        )
    return install


def findings(
    workspace: Workspace, family: str, modules: tuple[str, ...] = ()
) -> tuple[list[Finding], dict[str, Any]]:
    """What speaks against starting it for a family, and the figures looked at: the inputs of the environment gate."""
    try:
        install = needed(workspace)
    except EnvironmentalError as e:
        return [Finding(severity="block", code="sdscripts-absent", what=e.what, why=e.why, fix=e.fix)], {}
    seen = probe(install, options.SCRIPTS[family], modules)
    found = judged(install, seen, modules)
    found += other_version(install)
    facts = {"sdscripts": install.as_dict(), **{k: v for k, v in seen.items() if k != "failed"}}
    return found, facts


def judged(install: Install, seen: dict[str, Any], modules: tuple[str, ...] = ()) -> list[Finding]:
    """What a probe's answer means, each with the command that mends it."""
    found = []
    if "crashed" in seen:
        found.append(
            Finding(
                severity="block",
                code="sdscripts-crashed",
                what="sd-scripts could not be asked.",
                why=f"Its Python said: {seen['crashed']}.",
                fix="Install it again with `lora-studio setup sd-scripts install`, or start its Python by hand and import torch.",
            )
        )
    told = set()
    for name, error in seen.get("failed", {}).items():
        if error in told:  # the same cause, met again by everything that imports it
            continue
        told.add(error)
        found.append(
            Finding(
                severity="block",
                code="sdscripts-package",
                what=f"sd-scripts cannot load '{name}'.",
                why=error,
                fix=_mended(install, name, error, name in modules),
                where=(name,),
            )
        )
    return found


def _mended(install: Install, name: str, error: str, extra: bool) -> str:
    pip = f'"{install.python}" -m pip install'
    if "torchvision::" in error or "undefined symbol" in error:
        return f"PyTorch and torchvision do not belong together. Run: {pip} --force-reinstall torch torchvision, both from one index; see `lora-studio setup sd-scripts install --show`."
    if "No module named 'torch'" in error:
        return f"Run: {pip} {_torch_words()}"
    if "libGL.so" in error or "libgthread" in error:
        return (
            "Run: sudo apt install libgl1 libglib2.0-0 (OpenCV draws on them; other systems name them alike)."
        )
    if "DLL load failed" in error:
        return "Install Microsoft's Visual C++ Redistributable (x64), start the computer again; if it stays, install sd-scripts again."
    if extra and name not in options.SCRIPTS.values():
        return f"Run: {pip} {name.replace('_', '-')}"
    return f"Run in its folder: {pip} -r requirements.txt"


def _torch_words() -> str:
    """What pip is told to install as PyTorch on this computer; requirements.txt leaves it to the user."""
    from studio.training.sdscripts import builds

    try:
        build = builds.choose(detect())
    except EnvironmentalError:
        build = builds.named("cpu")
    return " ".join([*build.requirements, *(["--index-url", build.index] if build.index else [])])


def other_version(install: Install) -> list[Finding]:
    """A warning when it is not the version whose options and messages the studio knows."""
    known = options.commit()
    if not install.commit or install.commit == known:
        return []
    return [
        Finding(
            severity="warn",
            code="sdscripts-other-version",
            what=f"This sd-scripts is another version ({install.commit[:8]}) than the one the studio knows ({known[:8]}).",
            why="An option may be new, gone, or mean something else; a config key that it does not know is passed over.",
            fix=f"If something goes wrong: git checkout {known} in {install.source}.",
        )
    ]
