"""Engines beside the built-in one: installing sd-scripts, its versions, or using one that is on this computer."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from studio.cli.context import Context
from studio.cli.parser import problem
from studio.cli.spec import YES, Command, Option, Reply, Word
from studio.cli.values import text
from studio.cli.watch import DETACH, say_failed, watch
from studio.files import human_size
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.jobs.job import Job
    from studio.training.sdscripts.commands import Order

GROUP = "Computer"
ACTIONS = ("install", "update", "rollback", "use", "status", "check", "versions", "remove", "stop")
_NAMED = ("use", "remove")
_ORDERING = ("source", "commit", "torch", "torchvision", "torch_index", "wheels", "offline", "show")
_ORDERS = ("install", "update")


def _check(args: Namespace) -> list[Finding]:
    first = args.folder
    action = first if first in ACTIONS else ""
    found = []
    if args.python and (not first or (action and action not in _ORDERS)):
        found.append(
            problem(
                "--python goes with a folder, or with install.",
                "It names the Python of that sd-scripts, or the one that makes its environment.",
                "Write: setup sd-scripts FOLDER --python PYTHON.",
            )
        )
    if args.forget and first:
        found.append(
            problem(
                "--forget takes no folder.",
                "There is one sd-scripts in use at a time, and that one is forgotten.",
                "Leave the folder out, or leave --forget out.",
            )
        )
    if args.version and action not in _NAMED:
        found.append(
            problem(
                f"'{args.version}' is not expected here.",
                "Only `use` and `remove` take a version.",
                "Leave it out, or put a name with spaces in quotes.",
            )
        )
    if action in _NAMED and not args.version:
        found.append(
            problem(
                "The version is missing.",
                f"`{action}` needs to know which one.",
                "See: setup sd-scripts versions",
            )
        )
    given = [f"--{n.replace('_', '-')}" for n in _ORDERING if getattr(args, n, None)]
    if given and action not in _ORDERS:
        found.append(
            problem(
                f"{', '.join(given)} {'goes' if len(given) == 1 else 'go'} with install or update.",
                "It says how sd-scripts is installed.",
                "Write: setup sd-scripts install " + given[0],
            )
        )
    return found


def _setup(ctx: Context, args: Namespace) -> Reply:
    from studio.training.sdscripts import install, versions

    ws = ctx.workspace
    if args.forget:
        install.forget(ws)
        ctx.out.good("The kohya backend is not set up any more. The folder of sd-scripts stays as it is.")
        return Reply({"installed": None})
    action = args.folder if args.folder in ACTIONS else ""
    if action in _ORDERS:
        return _install(ctx, args, action)
    if action == "rollback":
        used = versions.roll_back(ws)
        ctx.out.good(f"In use again: {used.commit[:8] or used.source}.")
        return Reply({"installed": used.as_dict()})
    if action == "use":
        used = versions.use_version(ws, args.version)
        ctx.out.good(f"In use: {used.commit[:8] or used.source}.")
        return Reply({"installed": used.as_dict()})
    if action == "remove":
        return _remove(ctx, args.version)
    if action == "versions":
        return _versions(ctx)
    if action == "status":
        return _status(ctx)
    if action == "stop":
        return _stop(ctx)
    if args.folder and not action:
        install.adopt(ws, Path(args.folder), Path(args.python) if args.python else None)
    return _verify(ctx)


def _verify(ctx: Context) -> Reply:
    """Ask the one in use whether it works, here and now."""
    from studio.training.sdscripts import install, options

    ws = ctx.workspace
    used = install.needed(ws)
    ctx.out.say("Asking sd-scripts; the first time this takes a minute.")
    first, *others = options.SCRIPTS.values()
    seen = install.probe(used, first, tuple(others))
    found = install.judged(used, seen)
    facts: dict[str, Any] = {k: v for k, v in seen.items() if k != "failed"}
    install.checked(ws, used, found, facts)
    found += install.other_version(used)
    ctx.out.heading("sd-scripts")
    ctx.out.facts(
        [
            ("Folder", used.source),
            ("Python", used.python),
            ("Version", used.commit[:8] or "unknown"),
            ("Known to the studio", options.commit()[:8]),
            ("PyTorch", facts.get("torch", "")),
            ("Graphics card", facts.get("gpu", "none")),
        ]
    )
    ctx.out.findings(found)
    bad = [f for f in found if f.severity == "block"]
    data: dict[str, Any] = {
        "installed": used.as_dict(),
        "known": options.commit(),
        "facts": facts,
        "findings": [f.model_dump(mode="json") for f in found],
    }
    if bad:
        return Reply({**data, "what": bad[0].what, "why": bad[0].why, "fix": bad[0].fix}, code=6)
    ctx.out.good("It can be used.")
    ctx.out.next("lora-studio config set backend=kohya")
    return Reply(data)


def _ordered(ctx: Context, args: Namespace) -> Order:
    from studio.training.sdscripts import setup

    return setup.prepare(
        ctx.workspace, source=args.source or "", commit=args.commit or "", torch=args.torch or "",
        torchvision=args.torchvision or "", torch_index=args.torch_index or "",
        python=Path(args.python) if args.python else None, wheels=Path(args.wheels) if args.wheels else None,
        offline=args.offline,
    )  # fmt: skip


def _install(ctx: Context, args: Namespace, action: str) -> Reply:
    from studio.training.sdscripts import builds, install, setup
    from studio.training.sdscripts.commands import shown

    used = install.current(ctx.workspace)
    target = args.commit or builds.recipe().commit
    if action == "update" and used is not None and used.commit and used.commit.startswith(target):
        ctx.out.good(f"Version {used.commit[:8]} is in use already; there is nothing to update.")
        return Reply({"installed": used.as_dict(), "started": False})
    wanted = _ordered(ctx, args)
    lines = shown(wanted)
    data: dict[str, Any] = {"order": wanted.as_dict(), "commands": lines, "started": False}
    ctx.out.facts(
        [
            ("From", wanted.origin),
            ("Version", wanted.commit[:12] or "as it lies in the folder"),
            ("Into", wanted.folder),
            ("Python", wanted.python),
            ("PyTorch", wanted.build.words),
            ("Room while installing", f"about {human_size(wanted.build.room)}"),
        ]
    )
    if args.show:
        ctx.out.say()
        for line in lines:
            ctx.out.say(line)
        return Reply(data)
    job = setup.start(ctx.workspace, wanted)
    data |= {"started": True, "job": job.id}
    return _follow(ctx, job, args.detach, data)


def _follow(ctx: Context, job: Job, detach: bool, data: dict[str, Any]) -> Reply:
    if detach:
        ctx.out.next("lora-studio setup sd-scripts status")
        return Reply(data)
    watched = watch(ctx.out, job)
    data["state"] = watched.state
    if watched.left:
        ctx.out.say("It goes on by itself. See: lora-studio setup sd-scripts status")
        return Reply(data, code=130)
    if watched.state == "finished":
        result = dict(job.result or {})
        ctx.out.good(f"sd-scripts is ready: version {str(result.get('commit', ''))[:8] or result.get('version', '')}.")  # fmt: skip
        ctx.out.next("lora-studio config set backend=kohya")
        return Reply({**data, "result": result})
    return Reply({**data, **say_failed(ctx.out, job)}, code=1)


def _status(ctx: Context) -> Reply:
    from studio.cli.watch import progress_words
    from studio.training.sdscripts import versions

    now = versions.status(ctx.workspace)
    facts: list[tuple[str, object]] = [("sd-scripts", now.state)]
    if now.used is not None:
        facts += [("Version", now.used.commit[:8] or "unknown"), ("Folder", now.used.source)]
    if now.facts.get("torch"):
        facts += [("PyTorch", now.facts["torch"]), ("Graphics card", now.facts.get("gpu", "none"))]
    if now.job is not None and now.state == "installing":
        facts.append(("Now", progress_words(now.job)))
    if now.reason:
        facts.append(("Why", now.reason))
    if now.fix:
        facts.append(("What to do", now.fix))
    if now.update:
        facts.append(("Update", f"to {now.update[:8]}: lora-studio setup sd-scripts update"))
    if now.previous:
        facts.append(("Before", f"{now.previous}: lora-studio setup sd-scripts rollback"))
    ctx.out.facts(facts)
    if now.command:
        ctx.out.next(now.command)
    return Reply(now.as_dict())


def _versions(ctx: Context) -> Reply:
    from studio.training.sdscripts import versions

    known = versions.versions(ctx.workspace)
    ctx.out.table(
        ["Version", "State", "PyTorch", "Room", "In use"],
        [
            [
                v.name,
                "ready" if v.ready else "not finished",
                str(v.facts.get("torch", "")),
                human_size(v.size_bytes) if v.size_bytes else "",
                "yes" if v.in_use else "",
            ]
            for v in known
        ],
    )
    return Reply({"versions": [v.as_dict() for v in known]})


def _remove(ctx: Context, name: str) -> Reply:
    from studio.training.sdscripts import versions

    found = versions.version(ctx.workspace, name)
    ctx.out.say(f"{found.name} will be moved to the trash of the workspace; its room is free when that is emptied.")  # fmt: skip
    if not ctx.agreed("Remove it?"):
        return Reply({"removed": None})
    place = versions.remove(ctx.workspace, found.name)
    ctx.out.good(f"Removed. It lies in {place}.")
    return Reply({"removed": found.name, "trash": str(place)})


def _stop(ctx: Context) -> Reply:
    from studio.training.sdscripts import versions

    job = versions.running(ctx.workspace)
    if job is None:
        ctx.out.say("Nothing is being installed.")
        return Reply({"stopped": False})
    job.stop()
    ctx.out.good("It was asked to stop. What is done is kept; install again to go on.")
    return Reply({"stopped": True, "job": job.id})


COMMANDS = (
    Command(
        "setup sd-scripts",
        GROUP,
        "Install kohya's sd-scripts, or use one that is on this computer, and check that it works.",
        _setup,
        words=(
            Word(
                "ACTION",
                f"{', '.join(ACTIONS)}; or the FOLDER of one that you have. Left out, the one in use is checked.",
                convert=text(4000),
                dest_name="folder",
            ),
            Word("VERSION", "For use and remove: a version of `versions`.", convert=text(80)),
        ),
        options=(
            Option(
                "--python",
                "The Python of its environment; otherwise venv or .venv inside of the folder. For install: the one that "
                "makes the environment.",
                metavar="FILE",
                convert=text(4000),
            ),
            Option("--forget", "Use it no more. Nothing is deleted."),
            Option("--source", "Where to install from: an https address, a local clone, or a folder.", metavar="WHERE",
                   convert=text(4000), group="Installing"),
            Option("--commit", "The version to install; otherwise the one that the studio knows.", metavar="COMMIT",
                   convert=text(80), group="Installing"),
            Option("--torch", "PyTorch: cpu, cu118, cu124, cu128 or a version; otherwise what fits the graphics card.",
                   metavar="BUILD", convert=text(40), group="Installing"),
            Option("--torchvision", "The torchvision that goes with a version of --torch.", metavar="VERSION",
                   convert=text(40), group="Installing"),
            Option("--torch-index", "Where pip takes PyTorch from: an https address, or pypi.", metavar="URL",
                   convert=text(500), group="Installing"),
            Option("--wheels", "A folder of packages that pip looks into as well, for a computer without the internet.",
                   metavar="FOLDER", convert=text(4000), group="Installing"),
            Option("--offline", "Take packages from --wheels only.", group="Installing"),
            Option("--show", "Only show the commands that an installation would run.", group="Installing"),
            DETACH,
            YES,
        ),
        details="install and update put a version into the workspace, beside those that are there, and switch to it when its "
        "scripts were really imported; rollback switches back. A folder that you name is used as it is; nothing in it "
        "is changed. A folder called like an action is written ./install.",
        examples=(
            "setup sd-scripts install",
            "setup sd-scripts install --source ~/sd-scripts --torch cpu",
            "setup sd-scripts rollback",
            "setup sd-scripts ~/sd-scripts",
            "setup sd-scripts",
        ),
        check=_check,
        project=False,
    ),
)  # fmt: skip
