"""The one way in: read the line, do the command, answer with words or one JSON document, and an exit code."""

from __future__ import annotations

import os
import re
import shlex
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from studio import __version__, files
from studio.cli import helptext
from studio.cli.commands import COMMANDS
from studio.cli.context import Context, workspace_at
from studio.cli.output import Out
from studio.cli.parser import parse, route
from studio.cli.spec import Reply
from studio.errors import EnvironmentalError, StudioError
from studio.jobs.processes import wait_for_children
from studio.workspace import default_home


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name); its exit code."""
    line = list(sys.argv[1:] if argv is None else argv)
    before_words = line[: line.index("--")] if "--" in line else line
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    out = Out(json="--json" in before_words)
    name = ""
    wait_for_children()
    try:
        if helptext.wanted(before_words):
            return helptext.show(before_words, COMMANDS, out)
        if "--version" in before_words:
            out.document({"version": __version__}) if out.json else out.say(f"lora-studio {__version__}")
            return 0
        command, rest = route(line, COMMANDS)
        name = command.name
        args = parse(command, rest)
        out.hint = hints(args.home, getattr(args, "project", None))
        workspace = workspace_at(args.home)
        with _home_for_children(workspace.root):
            reply = command.run(Context(workspace, out, args), args)
        return _finish(out, name, reply)
    except KeyboardInterrupt:
        if not out.json:
            print("\nStopped. What was finished so far is kept.", file=out.stderr)
        return _refused(
            out, name, StudioError("Stopped by Ctrl-C.", "", "Run the command again to go on."), 130
        )
    except BrokenPipeError:
        # The reader of a pipe went away (`| head`): nothing to say, and nobody to say it to.
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except StudioError as e:
        return _refused(out, name, e, e.exit_code)
    except OSError as e:
        _log(line)
        told = EnvironmentalError(
            f"The computer refused: {e.strerror or e}.",
            f"It happened with {e.filename}." if e.filename else "",
            "Check that the file or folder is there, that you may use it, and that the disk has room.",
        )
        return _refused(out, name, told, told.exit_code)
    except Exception as e:  # noqa: BLE001  the last net: a user never sees a traceback
        place = _log(line)
        told_ = StudioError(
            "Something went wrong inside the studio.",
            f"{type(e).__name__}: {e}".rstrip(": "),
            f"Try again. If it stays, report it with the end of {place}." if place else "Try again.",
        )
        return _refused(out, name, told_, 1)


def hints(home: str | None, project: str | None) -> Callable[[str], str]:
    """Adds the `--home` and `-p` of this line to the commands that an answer advises."""
    takes_project = {c.name.split(" ")[0] for c in COMMANDS if c.project}
    names = {c.name.split(" ")[0] for c in COMMANDS}

    def complete(found: re.Match[str]) -> str:
        added = [] if home is None else ["--home", home]
        if project is not None and found[1] in takes_project:
            added += ["-p", project]
        return " ".join(["lora-studio", *map(shlex.quote, added), found[1]])

    pattern = re.compile(rf"lora-studio ({'|'.join(sorted(names, key=len, reverse=True))})\b")
    return (lambda text: pattern.sub(complete, text)) if home is not None or project is not None else str


def _finish(out: Out, name: str, reply: Reply) -> int:
    if out.json:
        out.document({"command": name, "ok": reply.code == 0, "exit_code": reply.code, **reply.data})
    out.stdout.flush()
    return reply.code


def _refused(out: Out, name: str, e: StudioError, code: int) -> int:
    if out.json:
        out.document({"command": name, "ok": False, "exit_code": code, **e.as_dict()})
    elif code != 130:
        out.error(e)
    return code


@contextmanager
def _home_for_children(root: Path) -> Iterator[None]:
    """Jobs that are started meanwhile belong to the same workspace."""
    before = os.environ.get("STUDIO_HOME")
    os.environ["STUDIO_HOME"] = str(root)
    try:
        yield
    finally:
        if before is None:
            os.environ.pop("STUDIO_HOME", None)
        else:
            os.environ["STUDIO_HOME"] = before


def _log(line: Sequence[str]) -> Path | None:
    """Append the traceback at hand to <workspace>/logs/cli.log; None when that cannot be written."""
    root = default_home()
    with suppress(Exception):
        told = next((line[i + 1] for i, t in enumerate(line[:-1]) if t == "--home"), None) or next(
            (t.split("=", 1)[1] for t in line if t.startswith("--home=")), None
        )
        root = workspace_at(told).root
    path = root / "logs" / "cli.log"
    words: list[Any] = [files.now(), " ".join(line), "\n", traceback.format_exc(), "\n"]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", errors="replace") as f:
            f.write(" ".join(str(w) for w in words))
    except OSError:
        return None
    return path
