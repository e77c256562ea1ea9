"""Opening the app."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from argparse import Namespace

from studio.cli.context import Context
from studio.cli.spec import Command, Option, Reply
from studio.cli.values import whole
from studio.errors import EnvironmentalError
from studio.workspace import shipped


def _app(ctx: Context, args: Namespace) -> Reply:
    script = shipped("streamlit_app.py")
    if importlib.util.find_spec("streamlit") is None:
        raise EnvironmentalError(
            "The app's package Streamlit is not installed.",
            "The pages are drawn by it.",
            f"Run: {sys.executable} -m pip install -r requirements.txt",
        )
    if not script.is_file():
        raise EnvironmentalError(
            "The app's pages are not here.", f"There is no {script}.", "Get the studio's files again."
        )
    line = [sys.executable, "-m", "streamlit", "run", str(script), "--server.port", str(args.port)]
    if args.no_browser:
        line += ["--server.headless", "true"]
    address = f"http://localhost:{args.port}"
    data = {"address": address, "workspace": str(ctx.workspace.root), "command": line}
    if args.dry:
        ctx.out.say(" ".join(line))
        return Reply(data)
    ctx.out.say(f"The app is at {address}. Ctrl-C ends it; jobs that run go on.")
    env = {**os.environ, "STUDIO_HOME": str(ctx.workspace.root)}
    server = subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL if ctx.out.json else None)
    try:
        code = server.wait()
    except KeyboardInterrupt:
        server.terminate()
        server.wait(10)
        return Reply(data)
    if code:
        raise EnvironmentalError(
            "The app ended at once.",
            f"Streamlit left with code {code}; it says why above.",
            "If the port is taken, use another: --port 8502.",
        )
    return Reply(data)


COMMANDS = (
    Command(
        "app",
        "Help",
        "Open the app in a browser.",
        _app,
        options=(
            Option(
                "--port", "Port to serve it on.", metavar="N", convert=whole(1, 65535, 8501), default=8501
            ),
            Option("--no-browser", "Serve it without opening a browser."),
            Option("--dry", "Only print the command that would run."),
        ),
        aliases=("run",),
        project=False,
    ),
)
