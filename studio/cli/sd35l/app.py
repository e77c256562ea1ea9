"""The one way in: reads the line with click, says every problem at once, answers with words or one JSON document.

Exit codes: 0 done · 1 the training gave no result, or something went wrong · 2 what was typed cannot be used ·
3 it does not exist · 5 it is not known whether a training was started · 6 token, payment, network or this computer ·
130 Ctrl-C (a training that is under way goes on).
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress

import click

from studio.cli.output import Out
from studio.cli.sd35l import manage, setup, train  # noqa: F401  they add their commands
from studio.cli.sd35l.group import Group, Reply, cli
from studio.errors import EnvironmentalError, InputError, StudioError


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name); its exit code."""
    line = list(sys.argv[1:] if argv is None else argv)
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError, OSError):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    out = Out(json="--json" in line)
    name = next((word for word in line if not word.startswith("-")), "")
    try:
        reply = cli.main(args=line, prog_name="sd35l-trainer", standalone_mode=False, obj=out)
        if not isinstance(reply, Reply):
            return reply if isinstance(reply, int) else 0
        if out.json:
            out.document({"command": name, "ok": reply.code == 0, "exit_code": reply.code, **reply.data})
        return reply.code
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.ctx.get_help())
        return 0
    except click.ClickException as e:
        told = InputError(
            f"{e.format_message().rstrip('.')}.",
            "",
            f"sd35l-trainer {name} --help shows what it takes.".replace("  ", " "),
        )
        return _refused(out, name, told, 2)
    except (KeyboardInterrupt, click.Abort):
        return _refused(out, name, StudioError("Stopped by Ctrl-C.", "", ""), 130)
    except BrokenPipeError:
        return 0
    except StudioError as e:
        return _refused(out, name, e, e.exit_code)
    except OSError as e:
        refused = EnvironmentalError(
            f"The computer refused: {e.strerror or e}.",
            f"It happened with {e.filename}." if e.filename else "",
            "Check that the file or folder is there, that you may use it, and that the disk has room.",
        )
        return _refused(out, name, refused, 6)
    except Exception as e:  # noqa: BLE001  the last net: a user never sees a traceback
        told_ = StudioError(
            "Something went wrong inside.",
            f"{type(e).__name__}: {e}".rstrip(": "),
            "Nothing was started that is not shown by `sd35l-trainer list`. Try again; if it stays, report it.",
        )
        return _refused(out, name, told_, 1)


def _about(name: str) -> str:
    known = name in cli.commands or name in Group.aliases
    return f"sd35l-trainer {name}" if known else "sd35l-trainer"


def _refused(out: Out, name: str, e: StudioError, code: int) -> int:
    if out.json:
        out.document({"command": name, "ok": False, "exit_code": code, **e.as_dict()})
    else:
        out.error(e)
    return code
