"""Installing sd-scripts: what is to be done, as an order; and the job that does it, step by step.

Everything goes into one folder of the workspace, pip's downloads and temporary files included. Each step is noted when it is
done, so a second try goes on after it; a step that was cut off is done anew. The version comes into use only when its
scripts were really imported by its own Python.
"""

from __future__ import annotations

import math
import re
import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio import files
from studio.errors import EnvironmentalError, StudioError
from studio.machine import detect
from studio.training.sdscripts import builds, install, options
from studio.training.sdscripts.commands import (
    Order,
    lacking_line,
    pip_line,
    source_lines,
    torch_line,
    venv_line,
)
from studio.training.sdscripts.install import Install, python_in
from studio.training.sdscripts.running import Failed, run, tool_environment
from studio.training.sdscripts.troubles import of_git, of_pip, of_venv
from studio.training.sdscripts.versions import STEPS
from studio.workspace import Workspace

if TYPE_CHECKING:
    from studio.jobs.lifeline import Worker

_WORDS = {
    "source": "Getting sd-scripts",
    "venv": "Making its environment",
    "torch": "Installing PyTorch",
    "requirements": "Installing what it needs",
    "check": "Trying its scripts",
}
# Seconds' worth of the usual pace that stand against what this computer has shown so far: the forecast begins as the usual
# one, and after a minute mostly follows the computer and its connection.
_TRUST_S = 15.0
_PACKAGES = 75  # about as many lines "Collecting ..." as the requirements of the pinned commit bring


def install_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """What the installation runs. Its result: the version, and what its check saw."""
    order = Order.from_dict(payload["order"])
    return _Installation(worker, Workspace(Path(payload["workspace"])), order).go()


def check_job(worker: Worker, payload: dict[str, Any]) -> dict[str, Any]:
    """Try the scripts of the one in use once more, and note what was seen."""
    workspace = Workspace(Path(payload["workspace"]))
    used = install.needed(workspace)
    usual, began = builds.recipe().usual["check"], time.monotonic()

    def tell() -> None:
        # No steps are to be counted. What it usually takes is left, less what went by; after that nobody knows.
        left = usual - (time.monotonic() - began)
        worker.progress(0, 1, "", _WORDS["check"], eta_seconds=left if left > 5 else math.nan)

    tell()
    seen = ask(worker, used, tell)
    found = install.judged(used, seen)
    install.checked(workspace, used, found, seen)
    if found:
        raise EnvironmentalError(found[0].what, found[0].why, found[0].fix, found if len(found) > 1 else None)
    return {"facts": seen}


def ask(worker: Worker, used: Install, on_tick: Callable[[], object] | None = None) -> dict[str, Any]:
    """Import all training scripts in their own environment; what was seen (see install.probe)."""
    first, *others = options.SCRIPTS.values()
    lines: list[str] = []
    try:
        run(
            worker, install.probe_line(used, first, tuple(others)), cwd=used.source, env=install.probe_environment(),
            on_line=lines.append, on_tick=on_tick, quiet=True,
        )  # fmt: skip
    except Failed as e:
        last = (e.lines or ["no message"])[-1]
        return {"crashed": f"it ended with code {e.code}: {last[:300]}"}
    return install.probed("\n".join(lines)) or {"crashed": "it said nothing"}


class _Installation:
    """One installation at work."""

    def __init__(self, worker: Worker, workspace: Workspace, order: Order) -> None:
        self._worker, self._workspace, self._order = worker, workspace, order
        self._folder = order.folder
        self._note = self._known()
        self._usual = builds.recipe().usual_seconds(order.build)
        self._began = self._step_began = time.monotonic()
        self._skipped: set[str] = set()
        self._now = ("source", 0.0, "")

    def go(self) -> dict[str, Any]:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._save(problem={}, at=files.now())
        steps: dict[str, Callable[[], None]] = {
            "source": self._source, "venv": self._venv, "torch": self._torch,
            "requirements": self._requirements, "check": self._check,
        }  # fmt: skip
        for name in STEPS:
            self._worker.check()
            if name in self._note["done"] and name != "check":
                self._skipped.add(name)
                continue
            self._at(name, 0.0, _WORDS[name])
            try:
                steps[name]()
            except StudioError as e:
                self._save(problem={"what": e.what, "why": e.why, "fix": e.fix})
                raise
            self._save(done=[*[d for d in self._note["done"] if d != name], name])
        self._tidy()
        self._save(size_bytes=files.folder_size(self._folder))
        used = self._installed()
        install.use(self._workspace, used, self._note["facts"])
        self._worker.progress(len(STEPS), len(STEPS), "steps", "Ready", stage="check", eta_seconds=0.0)
        return {"version": self._folder.name, **used.as_dict(), "facts": self._note["facts"]}

    # --- What is known and told

    def _known(self) -> dict[str, Any]:
        """The note of an earlier try when it was the same order; else an empty one, and what it left is removed."""
        try:
            raw = files.read_json(self._folder / "install.json")
        except StudioError:
            raw = None
        fresh = {
            "commit": self._order.commit,
            "origin": self._order.origin,
            "order": self._order.mark,
            "done": [],
        }
        if not isinstance(raw, dict):
            return fresh
        if raw.get("order") == self._order.mark:
            return {**raw, "done": self._standing(raw)}
        # Another PyTorch or Python: the source may stay, the environment may not.
        kept = (
            ["source"] if raw.get("origin") == self._order.origin and "source" in raw.get("done", []) else []
        )
        return {
            **fresh,
            "done": kept,
            "commit": raw.get("commit", self._order.commit) if kept else self._order.commit,
        }

    def _standing(self, raw: dict[str, Any]) -> list[str]:
        """The steps of an earlier try that need not be done again."""
        done = [d for d in STEPS if d in raw.get("done", [])]
        if not (self._folder / "source" / "train_network.py").is_file():
            return []
        # All was there, and still it did not work, or it is asked for once more: its packages are put in place anew.
        failed = bool(raw.get("problem")) and "requirements" in done
        if "check" in done or failed or python_in(self._folder) is None:
            return ["source"]
        return done

    def _save(self, **more: Any) -> None:
        self._note.update(more)
        files.write_json(self._folder / "install.json", self._note)

    def _at(self, step: str, share: float, message: str) -> None:
        """Say where it is: steps done, and the share of the one at work (0 to 1)."""
        if step != self._now[0]:
            self._step_began = time.monotonic()
        self._now = (step, min(1.0, share), message)
        self._tell()

    def _tell(self) -> None:
        step, share, message = self._now
        done = STEPS.index(step) + share
        self._worker.progress(
            round(done, 2), len(STEPS), "steps", message, stage=step, eta_seconds=self._left(step, share)
        )

    def _left(self, step: str, counted: float) -> float:
        """Seconds that the rest will take: what it usually takes, at the pace of this computer so far.

        counted: the share of the step as its tool's lines tell it, which is rough (one large package, then many small ones),
        so the time that went by in the step counts as much. When a step takes longer than it should, the forecast grows.
        """
        now = time.monotonic()
        at, usual = STEPS.index(step), self._usual[step]
        before = sum(self._usual[s] for s in STEPS[:at] if s not in self._skipped)
        pace = (self._step_began - self._began + _TRUST_S) / (before + _TRUST_S)
        timed = min(0.9, (now - self._step_began) / (usual * pace))
        share = (counted + timed) / 2 if counted else timed
        rest = usual * (1 - share) + sum(self._usual[s] for s in STEPS[at + 1 :] if s not in self._skipped)
        return rest * (now - self._began + _TRUST_S) / (before + usual * share + _TRUST_S)

    # --- The steps

    def _environment(self) -> dict[str, str]:
        return tool_environment(self._folder)

    def _source(self) -> None:
        target, part = self._folder / "source", self._folder / "source.part"
        for leftover in (part, target):
            shutil.rmtree(leftover, ignore_errors=True)
        if self._order.how == "folder":
            shutil.copytree(
                self._order.origin, part, symlinks=False,
                ignore=shutil.ignore_patterns("venv", ".venv", ".git", "__pycache__", "*.egg-info"),
            )  # fmt: skip
        else:
            for line in source_lines(self._order, part):
                try:
                    run(
                        self._worker,
                        line,
                        cwd=self._folder,
                        env=self._environment(),
                        on_line=self._cloning,
                        on_tick=self._tell,
                    )
                except Failed as e:
                    shutil.rmtree(part, ignore_errors=True)
                    raise of_git(e, self._order) from e
            self._refuse_damaged(part)
            self._save(commit=install.commit_of(part) or self._order.commit)
        missing = [f"{s}.py" for s in options.SCRIPTS.values() if not (part / f"{s}.py").is_file()]
        if missing:
            shutil.rmtree(part, ignore_errors=True)
            raise EnvironmentalError(
                f"{self._order.origin} holds no sd-scripts that the studio knows.",
                f"It lacks {', '.join(missing)}.",
                "Give the address or the folder of kohya's sd-scripts, and a commit that has these scripts.",
            )
        part.rename(target)

    def _refuse_damaged(self, part: Path) -> None:
        """Programs that the clone should have and lacks are refused; other files (pictures, libraries of Windows) are told in
        the log."""
        lacking: list[str] = []
        try:
            run(
                self._worker,
                lacking_line(part),
                cwd=self._folder,
                env=self._environment(),
                on_line=lacking.append,
            )
        except Failed as e:
            raise of_git(e, self._order) from e
        if any(name.endswith(".py") or name == "requirements.txt" for name in lacking):
            shutil.rmtree(part, ignore_errors=True)
            more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
            raise EnvironmentalError(
                f"{self._order.origin} is damaged: git could not read all of its files.",
                f"Missing are {', '.join(sorted(lacking, key=lambda n: not n.endswith('.py'))[:3])}{more}.",
                "Clone it anew, or leave the source empty to fetch kohya's own repository.",
            )
        if lacking:
            print(f"The clone lacks {len(lacking)} files that no training script needs.", flush=True)

    def _cloning(self, line: str) -> None:
        found = re.search(r"(Receiving objects|Resolving deltas|Updating files):\s+(\d+)%", line)
        if found:
            self._at("source", int(found[2]) / 100 * 0.9, f"{_WORDS['source']}: {found[2]} %")

    def _venv(self) -> None:
        shutil.rmtree(self._folder / "venv", ignore_errors=True)
        try:
            run(
                self._worker,
                venv_line(self._order),
                cwd=self._folder,
                env=self._environment(),
                on_tick=self._tell,
            )
        except Failed as e:
            raise of_venv(e, self._order) from e
        if python_in(self._folder) is None:
            raise of_venv(Failed(0, ["it holds no Python"]), self._order)

    def _torch(self) -> None:
        self._pip(torch_line(self._order), "torch", 12)
        names = ("torch", "torchvision")
        lines = [f"{r}\n" for r in self._order.build.requirements if r.partition("==")[0] in names]
        files.write_text(self._folder / "constraints.txt", "".join(lines))

    def _requirements(self) -> None:
        if not (self._folder / "source" / "requirements.txt").is_file():
            return
        self._pip(
            pip_line(self._order, "-r", "requirements.txt", "-c", str(self._folder / "constraints.txt")),
            "requirements",
            _PACKAGES,
        )

    def _pip(self, line: list[str], step: str, usual: int) -> None:
        seen = 0

        def said(text: str) -> None:
            nonlocal seen
            found = re.match(
                r"\s*(Collecting|Processing|Downloading|Using cached|Installing collected packages)\s*:?\s*(\S+)(.*)",
                text,
            )
            if not found:
                return
            seen += found[1] in ("Collecting", "Processing")
            size = re.search(r"\([\d.]+ [kMG]B\)", found[3])
            if found[1].startswith("Installing"):
                self._at(step, 0.9, f"{_WORDS[step]}: putting the packages in place")
            else:
                name = found[2].rpartition("/")[2].partition("-")[0] if found[1] != "Collecting" else found[2]
                told = f"{name} {size[0]}" if size else name
                self._at(step, 0.85 * seen / max(usual, seen + 2), f"{_WORDS[step]}: {told}")

        try:
            run(
                self._worker,
                line,
                cwd=self._folder / "source",
                env=self._environment(),
                on_line=said,
                on_tick=self._tell,
            )
        except Failed as e:
            raise of_pip(e, line, step) from e

    def _check(self) -> None:
        used = self._installed()
        seen = ask(self._worker, used, self._tell)
        self._worker.check()
        facts = {**{k: v for k, v in seen.items() if k != "failed"}, "at": files.now()}
        self._save(facts=facts)
        found = install.judged(used, seen)
        if found:
            raise EnvironmentalError(
                f"sd-scripts was installed, but does not start: {found[0].what}",
                found[0].why,
                found[0].fix,
                found if len(found) > 1 else None,
            )
        if detect().gpus and not seen.get("cuda"):
            self._worker.emit("note", message="PyTorch cannot use the graphics card.")

    def _installed(self) -> Install:
        python = python_in(self._folder)
        if python is None:
            raise EnvironmentalError(
                "The environment of sd-scripts is gone.",
                f"{self._folder / 'venv'} holds no Python.",
                "Install it again: lora-studio setup sd-scripts install",
            )
        return Install(self._folder / "source", python, str(self._note.get("commit", "")))

    def _tidy(self) -> None:
        """pip's downloads have done their work: they take as much room again as what was installed."""
        for name in ("tmp", "downloads"):
            with suppress(OSError):
                shutil.rmtree(self._folder / name)
