"""One server at work on a grid's cells: submit ahead, listen, collect, and survive what servers do.

The server's queue and history are the truth; the socket only makes it quick. What can happen meanwhile:

- the socket drops: it is dialled again, and the history is asked now and then until it stands;
- the server is started anew: what it had in its queue is in neither its queue nor its history any more, and is queued again;
- it goes away for longer than `patience`: its cells go back for the other servers, and the lane ends;
- somebody interrupts a picture or clears the queue: queued again, a few times;
- memory runs out: the server puts its models away, then the cell is tried once more on its own;
- the end of another grid takes the LoRA file away: it is put there again;
- a LoRA that was overwritten: cannot happen, since names hold the content's hash (see `placing`).
"""

from __future__ import annotations

import queue
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from studio import files
from studio.errors import EnvironmentalError, StudioError
from studio.evaluation.comfyui import client as comfy
from studio.evaluation.comfyui import explain, graphs
from studio.evaluation.comfyui.board import Board
from studio.evaluation.comfyui.client import Away, Client
from studio.evaluation.comfyui.placing import Placer
from studio.evaluation.comfyui.servers import Server
from studio.evaluation.comfyui.socket import Listener
from studio.evaluation.spec import Cell, GridSpec

AHEAD = 2
"""Cells in the server's queue at a time: the next one starts while the last one's picture is fetched."""
PATIENCE_S = 180.0
"""How long to wait for a server that does not answer: starting ComfyUI with many custom nodes takes a minute or two."""
ASK_S = 3.0
"""How often the history is asked although the socket said nothing; every second while the socket is down."""

T = TypeVar("T")


class _LeftError(Exception):
    """The job shall stop while a server was waited for."""


@dataclass
class _Flight:
    cell: Cell
    node: str
    mark: str
    asked: float
    ended: bool = False


class Lane:
    """Draws cells of the board on one server until there are none left.

    parts: what this server calls the base model's files.
    """

    def __init__(
        self,
        server: Server,
        spec: GridSpec,
        parts: dict[str, str],
        board: Board,
        patience: float = PATIENCE_S,
    ) -> None:
        self.server, self.spec, self.parts, self.board, self.patience = server, spec, parts, board, patience
        self.ahead = AHEAD
        self.client = Client(server)
        self.placer = Placer(self.client)
        self.listener = Listener(server, self.client.id)
        self._loras = {lora.label: lora for lora in spec.lora_files}
        self._names: dict[str, str] = {}
        self._flying: dict[str, _Flight] = {}

    @property
    def name(self) -> str:
        return self.server.name

    def run(self) -> None:
        """Work. Never raises: what drove the server out is on the board."""
        self.listener.start()
        why: StudioError | None = None
        try:
            while not self.board.over and not self.board.stopping:
                self._fill()
                if self._flying:
                    self._hear()
                    self._collect()
                else:
                    self.board.pause(0.2)
        except _LeftError:
            pass
        except StudioError as e:
            why = e
        except Exception as e:  # noqa: BLE001 - a lane that dies silently would leave its cells waiting for ever
            why = StudioError(
                f"Drawing on ComfyUI at {self.name} broke off.",
                f"{type(e).__name__}: {e}",
                "Go on with the grid.",
            )
        finally:
            self._leave(why)

    def _leave(self, why: StudioError | None) -> None:
        with suppress(StudioError):
            self.client.cancel(self._flying)
        for flight in self._flying.values():
            self.board.give_back(flight.cell)
        self._flying.clear()
        self.listener.close()
        with suppress(StudioError):
            self.placer.clear()
        self.client.close()
        self.board.leave(self.name, why)

    # --- Submitting

    def _fill(self) -> None:
        while len(self._flying) < self.ahead and not self.board.stopping:
            cell = self.board.take(self.name)
            if cell is None:
                return
            try:
                self._submit(cell)
            except explain.Rejected as e:
                self.board.failed(cell, e)
            except (Away, comfy.NotComfyError, _LeftError):
                self.board.give_back(cell)
                raise
            except StudioError as e:
                self.board.refuse(self.name, cell, e)  # its LoRA cannot be put where this server sees it

    def _submit(self, cell: Cell) -> None:
        for attempt in range(2):
            lora = self._lora_name(cell)
            made = graphs.build(self.spec, [cell], self.parts, lora)
            mark = files.fingerprint(made.graph)
            note = {"grid": self.spec.id, "cell": cell.hash, "graph": mark}
            try:
                prompt_id = self._patient(lambda g=made.graph, n=note: self.client.submit(g, n))  # type: ignore[misc]
            except explain.Rejected as e:
                if attempt or not e.missing_lora:
                    raise
                self._names.pop(cell.checkpoint, None)  # removed meanwhile, by another grid's end for one
                continue
            self._flying[prompt_id] = _Flight(cell, next(iter(made.outputs)), mark, time.monotonic())
            return

    def _lora_name(self, cell: Cell) -> str | None:
        if not cell.weight:
            return None
        if cell.checkpoint not in self._names:
            lora = self._loras[cell.checkpoint]
            self._names[cell.checkpoint] = self._patient(lambda: self.placer.place(lora))
        return self._names[cell.checkpoint]

    # --- Listening and collecting

    def _hear(self) -> None:
        """Take in what the socket said; waits for the first word, shortly when something has ended already."""
        wait = 0.05 if any(f.ended for f in self._flying.values()) else 0.5
        with suppress(queue.Empty):
            while True:
                kind, prompt_id, data = self.listener.events.get(timeout=wait)
                wait = 0.0001
                flight = self._flying.get(prompt_id)
                if kind == "dropped":
                    self.board.desk.note(
                        f"The line to ComfyUI at {self.name} dropped; it is being dialled again."
                    )
                elif flight is not None and kind == "step":
                    self.board.moved(flight.cell, float(data))
                elif flight is not None and kind == "ended":
                    flight.ended = True

    def _collect(self) -> None:
        every = ASK_S if self.listener.is_open else 1.0
        for prompt_id, flight in list(self._flying.items()):
            if not flight.ended and time.monotonic() - flight.asked < every:
                continue
            flight.asked = time.monotonic()
            entry = self._patient(lambda p=prompt_id: self._record(p))  # type: ignore[misc]
            if entry is None:
                continue
            del self._flying[prompt_id]
            try:
                if entry:
                    self._landed(flight, entry)
                else:
                    self._lost(flight)
            except Exception:
                self.board.give_back(flight.cell)
                raise

    def _record(self, prompt_id: str) -> dict[str, Any] | None:
        """The record of a graph; None while it runs or waits; {} when the server has lost it.

        It leaves the queue a moment before its record is written, so a graph that is in neither is looked for once more.
        """
        for _ in range(3):
            entry = self.client.history(prompt_id)
            if entry is not None:
                return entry
            if prompt_id in self.client.queued():
                return None
            time.sleep(0.05)
        return self.client.history(prompt_id) or {}

    def _landed(self, flight: _Flight, entry: dict[str, Any]) -> None:
        cell = flight.cell
        how, data = comfy.how_it_ended(entry)
        if how == "interrupted":
            self.board.try_again(cell, _interrupted(self.name))
        elif how == "error":
            error = explain.failed(data, self.name)
            if isinstance(error, explain.ServerMemory):
                self.ahead = 1
                self.board.desk.note(
                    f"ComfyUI at {self.name} ran short of memory; it puts its models away first."
                )
                self._patient(self.client.free)
                self.board.try_again(cell, error, most=2)
            elif isinstance(error, explain.LoraGone):
                self._names.pop(cell.checkpoint, None)
                self.board.try_again(cell, error)
            else:
                self.board.failed(cell, error)
        else:
            self._fetch(flight, entry)

    def _fetch(self, flight: _Flight, entry: dict[str, Any]) -> None:
        cell, size = flight.cell, (self.spec.width, self.spec.height)
        image = comfy.images_of(entry).get(flight.node)
        if image is None:
            self.board.try_again(cell, _empty(self.name), most=2)
            return
        try:
            picture = self._patient(lambda: self.client.picture(image, flight.mark))
        except comfy.Gone as e:
            # It remembers having drawn the picture and would answer the same again: let it forget.
            self._patient(self.client.free)
            self.board.try_again(cell, e)
            return
        except comfy.NotComfyError:
            raise
        except StudioError as e:
            self.board.try_again(cell, e, most=2)
            return
        if picture.size != size:
            self.board.failed(cell, _other_size(self.name, picture.size, size))
        elif picture.getbbox() is None:
            self.board.failed(cell, _black())
        else:
            self.board.drawn(cell, picture, self.name)

    def _lost(self, flight: _Flight) -> None:
        self._names.clear()  # a server that was started anew is asked again what it has
        if self.board.try_again(flight.cell, _forgotten(self.name)):
            self.board.desk.note(
                f"ComfyUI at {self.name} has lost a picture, as it does when it is started anew; it is queued again."
            )

    # --- Patience

    def _patient(self, call: Callable[[], T]) -> T:
        """The call's answer, waiting for a server that does not answer for up to `patience`."""
        since: float | None = None
        while True:
            try:
                found = call()
            except Away:
                if self.board.stopping:
                    raise _LeftError from None
                if since is None:
                    since = time.monotonic()
                    self.board.desk.note(f"ComfyUI at {self.name} does not answer; waiting for it.")
                elif time.monotonic() - since > self.patience:
                    raise
                self.board.pause(0.5)
                continue
            if since is not None:
                self.board.desk.note(f"ComfyUI at {self.name} answers again.")
            return found


def _interrupted(name: str) -> StudioError:
    return StudioError(
        f"The picture was interrupted on ComfyUI at {name}.",
        "Somebody pressed its stop button, several times.",
        "Try again when nobody else uses the server.",
    )


def _forgotten(name: str) -> EnvironmentalError:
    return EnvironmentalError(
        f"ComfyUI at {name} lost the picture several times.",
        "Its queue was cleared, or it crashed while drawing it; often its memory runs out.",
        "Look into its window, then try again.",
    )


def _empty(name: str) -> StudioError:
    return StudioError(
        f"ComfyUI at {name} ended without a picture.", "It says that all went well.", "Try again."
    )


def _other_size(name: str, got: tuple[int, int], wanted: tuple[int, int]) -> StudioError:
    return StudioError(
        f"ComfyUI at {name} drew {got[0]} x {got[1]} pixels.",
        f"{wanted[0]} x {wanted[1]} were asked for.",
        "Use a size whose sides are multiples of 64.",
    )


def _black() -> StudioError:
    return StudioError(
        "The picture came out black.",
        "The numbers grew beyond what half precision holds: an overdone LoRA, or an autoencoder that needs 32 bit.",
        "Use a lower weight or an earlier checkpoint; for SDXL start ComfyUI with --fp32-vae.",
    )
