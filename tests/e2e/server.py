"""The app as a user starts it: `python -m streamlit run streamlit_app.py`."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
START_SECONDS = 90


def free_port() -> int:
    """A port of this computer that nobody listens on."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


class Server:
    """A running app; `restart` ends it in the hard way and starts it again at the same address."""

    def __init__(self, home: Path, log: Path) -> None:
        self.home, self.log, self.port = home, log, free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._out: IO[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(
        self, _t: type[BaseException] | None, _e: BaseException | None, _tb: TracebackType | None
    ) -> None:
        self.end()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._out = self.log.open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "streamlit", "run", "streamlit_app.py", "--server.port", str(self.port),
             "--server.headless", "true"],
            cwd=ROOT, env={**os.environ, "STUDIO_HOME": str(self.home)}, stdin=subprocess.DEVNULL,
            stdout=self._out, stderr=subprocess.STDOUT,
        )  # fmt: skip
        until = time.monotonic() + START_SECONDS
        while not self._healthy():
            assert self.process.poll() is None, (
                f"The server ended at once:\n{self.log.read_text(errors='replace')}"
            )
            assert time.monotonic() < until, (
                f"No answer after {START_SECONDS} s:\n{self.log.read_text(errors='replace')}"
            )
            time.sleep(0.1)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def end(self, *, hard: bool = False) -> None:
        """End it; `hard` like a crash."""
        if self.process is not None and self.process.poll() is None:
            self.process.kill() if hard else self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(20)
        if self._out is not None:
            self._out.close()
            self._out = None

    def restart(self) -> None:
        """A crash, and a new start at the same address."""
        self.end(hard=True)
        self.start()

    def check_log(self) -> None:
        """No traceback may stand in what the server said."""
        said = self.log.read_text(encoding="utf-8", errors="replace")
        assert "Traceback (most recent call last)" not in said, (
            f"The server's log has a traceback:\n{said[-8000:]}"
        )
