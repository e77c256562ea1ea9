"""The whole path on the sample pictures: a flawed folder is refused and mended, then trained, drawn, judged, registered.

Each stage can be repeated without harm and is noted in `<project>/demo.json` when it is done, so that a demo that was
stopped goes on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from studio import choices, files, models
from studio.cli import grids
from studio.cli.commands import config, doctor, gates, library, runs
from studio.cli.context import Context
from studio.cli.spec import Reply
from studio.cli.watch import say_left
from studio.errors import EnvironmentalError, InputError, StudioError
from studio.files import human_time
from studio.findings import blocking
from studio.project import Intent, Project, create_project
from studio.shelf import SAMPLE_NAME, SAMPLE_PRESET, SAMPLE_TRIGGER
from studio.workspace import shipped

NOTE = "demo.json"
USUAL_WEIGHT = 0.7
"""Registered when the verdict does not know; the middle of the seed's weights. The demo says that it was not measured."""


class Stopped(Exception):
    """A stage was left with Ctrl-C; carries what to answer."""

    def __init__(self, reply: Reply) -> None:
        super().__init__("stopped")
        self.reply = reply


def unfinished(ctx: Context) -> Project | None:
    """The newest demo project that did not come to its end; None when there is none."""
    for slug in ctx.workspace.project_slugs():
        project = Project(ctx.workspace, slug)
        try:
            note = files.read_json(project.folder / NOTE)
        except InputError:
            continue
        if isinstance(note, dict) and not note.get("finished"):
            return project
    return None


class Demo:
    """One demo: its project and what is noted of its stages."""

    def __init__(self, ctx: Context, project: Project, preset: str) -> None:
        self.ctx = ctx
        self.out = ctx.out
        self.project = project
        self.preset = preset
        note = files.read_json(project.folder / NOTE) or {}
        self.note: dict[str, Any] = {
            "project": project.slug,
            "folder": str(project.folder),
            "started": files.now(),
            "finished": None,
            "seconds": 0.0,
            "stages": [],
            **note,
        }

    def save(self) -> None:
        """Write demo.json."""
        self.note["seconds"] = round(sum(s["seconds"] for s in self.note["stages"]), 2)
        files.write_json(self.project.folder / NOTE, self.note)

    def stage(self, name: str, title: str, work: Callable[[], dict[str, Any]]) -> None:
        """Do a stage unless it was done, and note how long it took and what came of it."""
        known = {s["name"]: s for s in self.note["stages"]}
        number = [n for n, _t, _w in self.plan()].index(name) + 1
        self.out.heading(f"{number}. {title}")
        if name in known and known[name]["done"]:
            self.out.dim("Done before.")
            return
        earlier = float(known[name]["seconds"]) if name in known else 0.0
        record: dict[str, Any] = {"name": name, "title": title, "seconds": 0.0, "done": False}
        began = time.monotonic()
        try:
            record |= work()
            record["done"] = True
        finally:
            record["seconds"] = round(earlier + time.monotonic() - began, 2)
            self.note["stages"] = [s for s in self.note["stages"] if s["name"] != name] + [record]
            self.save()
        self.out.dim(f"({human_time(record['seconds'])})")

    def plan(self) -> list[tuple[str, str, Callable[[], dict[str, Any]]]]:
        """All stages in order."""
        return [
            ("computer", "This computer", self.computer),
            ("flawed", "A folder with planted mistakes", self.flawed),
            ("refusal", "Gate 1 refuses it", self.refusal),
            ("fixes", "The mistakes are mended", self.fixes),
            ("sample", "The rest of the sample pictures", self.sample),
            ("settings", "Settings from a preset", self.settings),
            ("gates", "The four gates", self.gates),
            ("train", "Training", self.train),
            ("grid", "The grid and its verdict", self.grid),
            ("register", "Into the library", self.register),
        ]

    def run(self) -> dict[str, Any]:
        """All stages; what is noted in the end."""
        self.out.say(f"Project '{self.project.slug}' in {self.ctx.workspace.root}", "bold")
        self.save()
        self.out.advises = False
        try:
            for name, title, work in self.plan():
                self.stage(name, title, work)
        finally:
            self.out.advises = True
        self.note["finished"] = files.now()
        self.save()
        return self.note

    # --- the stages

    def computer(self) -> dict[str, Any]:
        """What the path needs is here."""
        machine, found = doctor.look(self.ctx)
        self.out.say(machine.words)
        bad = blocking(found)
        if bad:
            raise EnvironmentalError(
                "This computer cannot run the demo yet.",
                "Something that it needs is missing.",
                "Mend each point below, then run `lora-studio demo` again.",
                bad,
            )
        return {"computer": machine.words}

    def _import(self, *parts: str) -> dict[str, Any]:
        from studio.dataset.intake import import_pictures

        folder = shipped("data", *parts)
        if not folder.is_dir():
            raise EnvironmentalError(
                "The sample pictures are not here.", f"There is no {folder}.", "Get the studio's files again."
            )
        report = import_pictures(self.project, [folder])
        self.out.good(report.words)
        for source, name in report.already_there.items():
            if parts[-1].endswith("flawed"):
                self.out.dim(f"  {source} is the same picture as {name}, so it did not come in twice")
        self.out.findings(report.refused)
        return {"added": len(report.added), "already_there": len(report.already_there)}

    def flawed(self) -> dict[str, Any]:
        """Import the folder with the planted mistakes."""
        return self._import("sample_flawed")

    def _gate(self, name: str) -> Any:
        from studio import gates as engine

        with self.out.live() as line:
            verdict = engine.run_gate(self.project, name, tell=line.update)  # type: ignore[arg-type]
        gates.show_verdict(self.ctx, verdict, engine.TITLES[name])
        return verdict

    def refusal(self) -> dict[str, Any]:
        """Gate 1 on the flawed pictures."""
        verdict = self._gate("dataset")
        if verdict.passed:
            raise StudioError(
                "Gate 1 let the flawed pictures pass.",
                "They were changed, or the demo was stopped after they were mended.",
                "Start afresh: lora-studio demo --fresh",
            )
        return {"passed": False, "codes": [f.code for f in verdict.findings]}

    def fixes(self) -> dict[str, Any]:
        """Do what each finding advises: set aside, keep the best, write the caption, put the trigger word first."""
        from studio.captions.store import CaptionStore
        from studio.dataset.gate import FIXES, dataset_findings, fix_finding

        done: list[dict[str, Any]] = []
        store = CaptionStore(self.project)
        for name, caption in store.all().items():
            if caption.text:
                continue
            words = name.rsplit(".", 1)[0].partition("_")[2].replace("_", " ") or "picture"
            store.set(name, words)
            done.append({"action": "caption", "where": [name]})
            self.out.say(f"Caption written for {name}: {store.get(name).text}")
        entry = models.get_model(self.ctx.workspace, self.project.intent.base_model)
        found, _facts = dataset_findings(self.project, entry)
        for f in found:
            if f.action not in ("set-aside", "keep-best", "add-trigger"):
                continue
            changed = fix_finding(self.project, f.action, f.where)
            done.append({"action": f.action, "where": changed})
            self.out.say(f"{FIXES[f.action]}: {', '.join(changed)}")
        return {"fixes": done}

    def sample(self) -> dict[str, Any]:
        """Import the sound sample; what is there already does not come in twice."""
        return self._import("sample")

    def settings(self) -> dict[str, Any]:
        """Fill the settings from the preset."""
        preset = config.get_preset(self.ctx, self.preset)
        settings = choices.choose_preset(self.project, preset.id)
        self.out.say(f"{preset.title}: {preset.summary}")
        self.out.facts(
            [
                ("Epochs", settings.epochs),
                ("Repeats", settings.repeats),
                ("Batch", settings.batch_size),
                ("Rank", settings.rank),
                ("Learning rate", f"{settings.learning_rate:g}"),
            ]
        )
        return {"preset": preset.id}

    def gates(self) -> dict[str, Any]:
        """All four, the dry run with real steps."""
        try:
            done = gates.run_gates(self.ctx, self.project, gates.NAMES, again=False)
        except gates.Left as left:
            say_left(self.out, left.job)
            raise Stopped(Reply({"project": self.project.slug, "left": True}, code=130)) from None
        if not all(n in done and done[n]["passed"] for n in gates.NAMES):
            from studio import gates as engine

            engine.require_gates(self.project)  # raises GateError with every reason
        return {"verdicts": {n: {"passed": v["passed"], "facts": v["facts"]} for n, v in done.items()}}

    def train(self) -> dict[str, Any]:
        """Train; goes on with a run that was stopped before."""
        from studio import launch
        from studio.training.runs import list_runs

        old = list_runs(self.project)
        since = old[0].job.events()[1] if old else 0
        if old and (old[0].job.is_alive or old[0].job.state == "finished"):
            run = old[0]
        elif old and old[0].resumable:
            run = launch.resume_run(self.project, old[0].id)
        else:
            self._still_passed()
            run = launch.start_training(self.project)
        self.out.say(f"Run {run.id}")
        reply = self._followed(runs.follow_run(self.ctx, self.project, run, detach=False, since=since))
        facts = reply["facts"]
        return {
            "run": run.id,
            "steps": facts["step"],
            "first_loss": facts["first_loss"],
            "loss": facts["loss"],
            "checkpoints": [c["path"] for c in reply["checkpoints"]],
        }

    def _still_passed(self) -> None:
        """Run the gates again when something changed since they passed, as between two parts of a stopped demo."""
        from studio import gates as engine

        if any(s.state != "passed" for s in engine.states(self.project).values()):
            self.gates()

    def grid(self) -> dict[str, Any]:
        """Draw the grid and read its verdict."""
        from studio.evaluation.grid import Grid, list_grids, plan_grid, resume_grid, start_grid
        from studio.training.runs import get_run

        old = list_grids(self.project)
        if old:
            grid = old[0]
            if not grid.job.is_alive and not grid.done:
                resume_grid(grid)
        else:
            spec = plan_grid(self.project, get_run(self.project))
            start_grid(self.project, spec)
            grid = Grid(self.project.grids_dir / spec.id)
        self.out.facts(
            [
                ("Weights", ", ".join(f"{w:g}" for w in grid.spec.weights)),
                ("Prompts", " | ".join(p.text for p in grid.spec.prompts)),
            ]
        )
        reply = self._followed(grids.show_grid(self.ctx, self.project, grid, detach=False))
        verdict = reply["verdict"]
        return {
            "grid": grid.id,
            "sheet": reply["sheet"],
            "weight": verdict["weight"],
            "headline": verdict["headline"],
            "reasons": verdict["reasons"],
        }

    def _followed(self, reply: Reply) -> dict[str, Any]:
        if reply.code == 130:
            raise Stopped(reply)
        if reply.code:
            data = reply.data
            raise StudioError(str(data["what"]), str(data["why"]), str(data["fix"]))
        return reply.data

    def register(self) -> dict[str, Any]:
        """Register with the weight of the verdict; when it does not know, with a usual one, and say so."""
        from studio.evaluation.grid import get_grid
        from studio.library.register import list_library, propose_good_for, register

        entry = next((e for e in list_library(self.ctx.workspace) if e.project == self.project.slug), None)
        if entry is None:
            grid = get_grid(self.project)
            verdict = grid.verdict
            weight = verdict.weight if verdict is not None else None
            doubt = ""
            if weight is None:
                weight = USUAL_WEIGHT
                doubt = (
                    f"The verdict does not know which weight is best. {weight:g} is only a usual start, not a measured weight: "
                    "look at the contact sheet and rate some pictures."
                )
            elif verdict is not None and verdict.state != "found":
                doubt = f"{verdict.headline} {weight:g} is the best of the weights that were drawn, not a good one."
            if doubt:
                self.out.paragraph(doubt, "", "bold yellow")
            entry = register(
                self.project,
                grid,
                weight=weight,
                good_for=propose_good_for(self.project, grid),
                notes=doubt,
                on_clash="version",
            )
        library.show_entry(self.ctx, entry)
        return {
            "library": entry.slug,
            "file": str(entry.file(self.ctx.workspace)),
            "weight": entry.weight,
            "doubt": entry.notes,
        }


def start(ctx: Context, fresh: bool, preset: str | None) -> Demo:
    """A demo to go on with, or a new one. Raises NotFoundError for an unknown preset."""
    chosen = preset or SAMPLE_PRESET
    family = config.get_preset(ctx, chosen).family
    if family != "pocket":
        raise InputError(
            f"The preset '{chosen}' is for {family} models.",
            "The demo trains the built-in model.",
            "Choose one of those that `lora-studio presets --family pocket` lists.",
        )
    project = None if fresh else unfinished(ctx)
    if project is None:
        project = create_project(
            ctx.workspace,
            Intent(
                kind="style",
                name=SAMPLE_NAME,
                trigger=SAMPLE_TRIGGER,
                description="Line drawings on blueprint paper",
                base_model="pocket",
            ),
        )
    else:
        ctx.out.say(f"Going on with the demo in '{project.slug}'; --fresh begins a new one.")
    return Demo(ctx, project, chosen)


__all__ = ["Demo", "Stopped", "start", "unfinished"]
