"""The command group that each command adds itself to, and the form of its answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import click

from studio import __version__

EXIT_CODES = (
    "Exit codes: 0 done, 1 no result, 2 cannot be used as typed, 3 does not exist, 5 not known whether a training "
    "was started, 6 token, payment, network or this computer, 130 Ctrl-C (a training goes on)."
)
SETTINGS: dict[str, Any] = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class Group(click.Group):
    """Commands in the order they are used; `list-jobs` means `list`."""

    aliases: ClassVar[dict[str, str]] = {"list-jobs": "list"}

    def list_commands(self, ctx: click.Context) -> list[str]:
        order = ("setup", "init-config", "train", "list", "status", "cancel", "download")
        return sorted(self.commands, key=order.index)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, self.aliases.get(cmd_name, cmd_name))


@click.group(cls=Group, context_settings=SETTINGS, epilog=EXIT_CODES, no_args_is_help=True)
@click.version_option(__version__, message="sd35l-trainer %(version)s")
def cli() -> None:
    """Train LoRAs for Stable Diffusion 3.5 Large on Replicate.

    \b
    Begin:   sd35l-trainer setup
    Check:   sd35l-trainer train --config config.yaml --dry-run
    Train:   sd35l-trainer train --config config.yaml --wait

    The token is read from REPLICATE_API_TOKEN, .streamlit/secrets.toml, the keyring or .env; never from the line.
    """


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds --json."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document and nothing else.")(
        command
    )


class Reply:
    """What a command answers. data: for --json; code: the exit code."""

    def __init__(self, data: dict[str, Any], code: int = 0) -> None:
        self.data, self.code = data, code
