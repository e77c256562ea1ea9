"""What the engines that are asked over the network share: several questions at a time, waiting, and reading answers."""

from __future__ import annotations

import contextlib
import queue
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator

from studio.captions import describe
from studio.captions.describe import Format, WordSettings
from studio.captions.proposals import Answer, Ask, Proposal, Trouble
from studio.errors import StudioError

TRIES = 6
LAST_WORDS_S = 1.0
LONGEST_WAIT_S = 120.0
MOST_ANSWER_BYTES = 4_000_000


class Stopping(Exception):
    """The job shall stop; nobody waits for this answer."""


class Waits:
    """Waiting between tries, shared by all threads: when a service says that it is asked too often, all of them wait.

    pause: waits so many seconds or until the job shall stop; True when it shall.
    """

    def __init__(self, pause: Callable[[float], bool]) -> None:
        self._pause = pause
        self._lock = threading.Lock()
        self._until = 0.0

    def turn(self) -> None:
        """Wait for one's turn. Raises Stopping."""
        while True:
            with self._lock:
                left = self._until - time.monotonic()
            if left <= 0:
                return
            if self._pause(left):
                raise Stopping

    def hold(self, seconds: float) -> None:
        """Nobody asks for so many seconds."""
        with self._lock:
            self._until = max(self._until, time.monotonic() + seconds)

    def back_off(self, tried: int) -> None:
        """Wait longer after each try: 1, 2, 4 ... seconds. Raises Stopping."""
        if self._pause(min(30.0, 2.0 ** (tried - 1))):
            raise Stopping


def in_threads(
    ask: Callable[[Ask], Answer], pictures: Iterable[Ask], at_once: int, should_stop: Callable[[], bool]
) -> Iterator[Answer]:
    """Answers as they come, up to `at_once` questions at a time. A StudioError of `ask` ends all and is raised.

    When the job shall stop, it ends at once; answers still on their way are not waited for.
    """
    todo: queue.Queue[Ask | None] = queue.Queue(maxsize=at_once)
    came: queue.Queue[Answer | BaseException] = queue.Queue()

    def work() -> None:
        while (one := todo.get()) is not None:
            try:
                came.put(ask(one))
            except BaseException as e:  # noqa: BLE001  told to the thread that waits
                came.put(e)

    threads = [threading.Thread(target=work, daemon=True, name="ask") for _ in range(at_once)]
    for t in threads:
        t.start()
    asked = answered = 0
    rest = iter(pictures)
    more = True
    try:
        while more or answered < asked:
            while more and asked - answered < at_once:
                following = next(rest, None)
                if following is None or should_stop():
                    more = False
                    break
                todo.put(following)
                asked += 1
            if answered == asked:
                break
            try:
                answer = came.get(timeout=0.2)
            except queue.Empty:
                if should_stop():
                    return
                continue
            answered += 1
            if isinstance(answer, Stopping):
                return
            if isinstance(answer, BaseException):
                raise answer
            yield answer
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                todo.get_nowait()
        for _ in threads:
            with contextlib.suppress(queue.Full):
                todo.put_nowait(None)
        # A moment for those that are told to stop: they cancel what they asked for. Nobody waits for a slow answer.
        until = time.monotonic() + LAST_WORDS_S
        for t in threads:
            t.join(max(0.0, until - time.monotonic()))


def understood(ask: Ask, answer: str, format: Format, words: WordSettings) -> Proposal:
    """A model's answer as a proposal. Raises describe.Unreadable."""
    found = describe.read(answer, format, words.say)
    return Proposal(ask.name, found.caption, found.content, found.style, sha256=ask.sha256)


def unreadable(ask: Ask, why: str, answer: str) -> Trouble:
    """The answer held no caption."""
    said = re.sub(r"\s+", " ", answer).strip()
    return Trouble(
        ask.name,
        f"The answer about {ask.name} holds no caption.",
        f"It was asked for JSON, but {why}." + (f" It begins: {said[:120]}" if said else ""),
        "Try again; when many fail, take a larger model: small ones often cannot keep to a form.",
    )


class Refused(StudioError):
    """No picture will be captioned: the service, the key or the model is wrong."""

    exit_code = 6
