"""The server's WebSocket: how far a picture is, and a nudge when something has ended.

Nothing depends on it: the queue and the history are the truth. A dropped socket is dialled again for as long as it is wanted.
"""

from __future__ import annotations

import json
import queue
import threading
from contextlib import suppress
from typing import Any

from studio.evaluation.comfyui.servers import Server

REDIAL_S = (0.2, 0.5, 1.0, 2.0, 5.0)
"""Pauses between attempts to reach the server again; the last one repeats."""

_ENDINGS = frozenset({"execution_error", "execution_interrupted", "execution_success"})


class Listener:
    """Listens to one server in a thread of its own.

    events:    (kind, prompt id, data): "step" with the share done, "ended", "dropped" and "open".
    dropped:   how often the connection was lost.
    """

    def __init__(self, server: Server, client_id: str) -> None:
        self.server = server
        self.events: queue.Queue[tuple[str, str, Any]] = queue.Queue()
        self.dropped = 0
        self._url = f"{server.address.replace('http', 'ws', 1)}/ws?clientId={client_id}"
        self._over = threading.Event()
        self._connection: Any = None
        self._thread = threading.Thread(target=self._listen, name=f"comfyui {server.name}", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def close(self) -> None:
        """Hang up."""
        self._over.set()
        connection = self._connection
        if connection is not None:
            with suppress(Exception):
                connection.close()
        self._thread.join(timeout=15)

    @property
    def is_open(self) -> bool:
        """Whether the socket stands right now."""
        return self._connection is not None

    def _listen(self) -> None:
        from websockets.exceptions import WebSocketException
        from websockets.sync.client import connect

        tries = 0
        while not self._over.is_set():
            try:
                with connect(
                    self._url,
                    proxy=None if self._url.startswith("ws://") else True,
                    max_size=64_000_000,  # previews come as pictures
                    open_timeout=10,
                    close_timeout=2,
                ) as connection:
                    self._connection = connection
                    tries = 0
                    self.events.put(("open", "", None))
                    for message in connection:
                        self._heard(message)
                        if self._over.is_set():
                            break
            except (WebSocketException, OSError, TimeoutError, EOFError):
                pass
            if self._connection is not None:
                self._connection = None
                if not self._over.is_set():
                    self.dropped += 1
                    self.events.put(("dropped", "", None))
            if self._over.wait(REDIAL_S[min(tries, len(REDIAL_S) - 1)]):
                return
            tries += 1

    def _heard(self, message: str | bytes) -> None:
        if isinstance(message, bytes):
            return  # a preview of the picture at hand
        try:
            told = json.loads(message)
            kind, data = str(told["type"]), told.get("data") or {}
            prompt_id = str(data.get("prompt_id") or "")
        except (ValueError, KeyError, TypeError, AttributeError):
            return
        if kind == "progress" and data.get("max"):
            with suppress(TypeError, ValueError, ZeroDivisionError):
                self.events.put(("step", prompt_id, float(data["value"]) / float(data["max"])))
        elif (kind == "executing" and data.get("node") is None) or kind in _ENDINGS:
            # After execution_success the history is still being written; `executing` without a node comes after it. Either
            # way the history is asked, and asked again until it knows.
            self.events.put(("ended", prompt_id, kind))
