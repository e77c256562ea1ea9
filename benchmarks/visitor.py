"""Somebody at the running app without a browser: speaks Streamlit's own protocol, so that a rerun costs what it costs the
server, and every byte that a browser would be sent is counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.proto.WidgetStates_pb2 import WidgetState
from websockets.sync.client import connect

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Cost:
    """One rerun.

    cpu: processor seconds of the server, all its threads together.   wall: seconds until the page was whole.
    down, up: bytes of the messages to the browser and from it, before compression.
    """

    cpu: float
    wall: float
    down: int
    up: int


class Server:
    """The app in a process of its own, for one workspace."""

    def __init__(self, home: Path, port: int) -> None:
        self.home, self.port = home, port

    def __enter__(self) -> Server:
        self._log = (self.home / "server.log").open("wb")
        line = [sys.executable, "-m", "streamlit", "run", str(ROOT / "streamlit_app.py")]
        line += ["--server.port", str(self.port), "--server.headless", "true"]
        self.process = subprocess.Popen(
            line, cwd=ROOT, env={**os.environ, "STUDIO_HOME": str(self.home)}, stdin=subprocess.DEVNULL,
            stdout=self._log, stderr=subprocess.STDOUT,
        )  # fmt: skip
        until = time.monotonic() + 300
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/_stcore/health", timeout=5).close()
                return self
            except OSError:
                if self.process.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.2)

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.process.terminate()
        self.process.wait(20)
        self._log.close()

    def cpu(self) -> float:
        """Processor seconds since its start, threads that have ended included."""
        pid = self.process.pid
        if (
            sys.platform == "linux"
        ):  # the process's own clock, in ns; the times in /proc go by hundredths of a second
            return time.clock_gettime((~pid << 3) | 2)
        told = psutil.Process(pid).cpu_times()
        return float(told.user + told.system)


class Visitor:
    """One tab. Widgets are named by their keys; what was put into one stays there, as in a browser."""

    def __init__(self, server: Server, page: str, project: str) -> None:
        self.server, self.page, self.query = server, page, f"project={project}"
        self.ids: dict[str, str] = {}
        self.texts: list[str] = []
        self.options: dict[str, list[str]] = {}
        self.refreshing: dict[
            str, float
        ] = {}  # parts that ask to be drawn again by themselves -> after how many seconds
        self._states: dict[str, WidgetState] = {}
        self._hash = ""
        self._wire = connect(
            f"ws://127.0.0.1:{server.port}/_stcore/stream", subprotocols=["streamlit"], max_size=None  # type: ignore[list-item]
        )  # fmt: skip

    def close(self) -> None:
        self._wire.close()

    def put(self, key: str, **value: Any) -> None:
        """Set the value of a widget for the next rerun: `string_value="fox"`, or `json_value` with any plain data."""
        if "json_value" in value:
            value = {"json_value": json.dumps(value["json_value"])}
        state = WidgetState(id=self.ids[key])
        for kind, told in value.items():
            if kind.endswith("_array_value"):
                getattr(state, kind).data.extend(told)
            else:
                setattr(state, kind, told)
        self._states[key] = state

    def rerun(self, fragment: str = "") -> Cost:
        """Draw the page with the widgets as they are, or only one of the parts in `refreshing`, as its clock would. Buttons are
        let go afterwards."""
        message = BackMsg()
        client = message.rerun_script
        client.fragment_id, client.is_auto_rerun = fragment, bool(fragment)
        client.query_string, client.page_name = self.query, "" if self._hash else self.page
        client.page_script_hash = self._hash
        client.context_info.timezone, client.context_info.locale = "UTC", "en"
        client.context_info.url = f"http://127.0.0.1:{self.server.port}/{self.page}?{self.query}"
        client.widget_states.widgets.extend(self._states.values())
        raw = message.SerializeToString()
        self.texts, down = [], 0
        before, began = self.server.cpu(), time.monotonic()
        self._wire.send(raw)
        while True:
            came = self._wire.recv(timeout=600)
            down += len(came)
            if self._take(ForwardMsg.FromString(came)):  # type: ignore[arg-type]
                break
        wall = time.monotonic() - began
        time.sleep(0.03)  # what the server tidies up after the last message is a part of the rerun
        cost = Cost(self.server.cpu() - before, wall, down, len(raw))
        self._states = {k: s for k, s in self._states.items() if s.WhichOneof("value") != "trigger_value"}
        return cost

    def _take(self, message: ForwardMsg) -> bool:
        kind = message.WhichOneof("type")
        if kind == "auto_rerun":
            self.refreshing[message.auto_rerun.fragment_id] = message.auto_rerun.interval
        elif kind == "navigation":
            self._hash = message.navigation.page_script_hash
        elif kind == "delta" and message.delta.HasField("new_element"):
            element = message.delta.new_element
            told = getattr(element, str(element.WhichOneof("type")))
            name = str(getattr(told, "id", ""))
            if name.startswith("$$ID-"):
                key = name.split("-", 2)[2]
                self.ids[key] = name
                self.options[key] = [getattr(o, "content", o) for o in getattr(told, "options", ())]
            for field in ("body", "label"):
                self.texts.append(str(getattr(told, field, "")))
        elif kind == "delta" and message.delta.HasField("add_block"):
            block = message.delta.add_block
            inner = block.WhichOneof("type")
            name = str(getattr(getattr(block, inner), "id", "")) if inner else ""
            if name.startswith("$$ID-"):
                self.ids[name.split("-", 2)[2]] = name
        return kind == "script_finished"
