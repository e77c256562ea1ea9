"""A tagger at work: pictures are decoded by threads while onnxruntime is busy with the batch before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from studio.captions.proposals import Answer, Ask, Proposal, Trouble
from studio.captions.tagger import Chooser, TaggerSettings, caption_of
from studio.captions.taggers import MODEL, Tagger
from studio.captions.workers.picture import opened, tagger_input
from studio.dataset.pixels import cpu_threads
from studio.errors import EnvironmentalError, InputError

Prepared = NDArray[np.float32] | Trouble


class TaggingEngine:
    """Tags pictures with an ONNX model. CUDA where onnxruntime has it and it works, else the processor.

    device: what the model runs on, known after entering.
    """

    def __init__(self, tagger: Tagger, settings: TaggerSettings) -> None:
        self._tagger, self._settings = tagger, settings
        self._chooser = Chooser(tagger.tags, settings)
        self._session: Any = None
        self.device = ""

    def __enter__(self) -> TaggingEngine:
        self._session = open_session(self._tagger)
        self.device = "graphics card" if "CUDA" in self._session.get_providers()[0] else "processor"
        return self

    def __exit__(self, *_: object) -> None:
        self._session = None

    def caption(self, pictures: Iterable[Ask], should_stop: Callable[[], bool]) -> Iterator[Answer]:
        """Tags for each picture, in the order given."""
        size = self._tagger.batch or self._settings.batch
        with ThreadPoolExecutor(cpu_threads(), "decode") as pool:
            ahead: deque[tuple[Ask, Future[Prepared]]] = deque()
            rest = iter(pictures)

            def fill() -> None:
                for ask in islice(rest, 2 * size + cpu_threads() - len(ahead)):
                    ahead.append((ask, pool.submit(self._prepare, ask)))

            try:
                fill()
                while ahead and not should_stop():
                    batch: list[tuple[Ask, NDArray[np.float32]]] = []
                    while ahead and len(batch) < size:
                        ask, future = ahead.popleft()
                        prepared = future.result()
                        if isinstance(prepared, Trouble):
                            yield prepared
                        else:
                            batch.append((ask, prepared))
                        fill()
                    if batch:
                        yield from self._run(batch)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _prepare(self, ask: Ask) -> Prepared:
        side, resize = self._tagger.side, self._settings.resize
        image = opened(ask, side, whole=resize == "area")
        return image if isinstance(image, Trouble) else tagger_input(image, side, resize)

    def _run(self, batch: list[tuple[Ask, NDArray[np.float32]]]) -> Iterator[Answer]:
        data = np.stack([pixels for _, pixels in batch])
        fixed = self._tagger.batch
        if fixed and len(batch) < fixed:  # a model with a fixed batch wants it full
            data = np.concatenate([data, np.zeros((fixed - len(batch), *data.shape[1:]), np.float32)])
        scores = np.asarray(self._session.run(None, {self._tagger.input_name: data})[0], np.float32)
        if scores.ndim != 2 or scores.shape[1] != len(self._tagger.tags) or not np.isfinite(scores).all():
            raise InputError(
                f"{self._tagger.title} gives no probabilities.",
                f"Its answer has the shape {scores.shape}, where {len(self._tagger.tags)} numbers a picture are due.",
                "Take another tagger, or download this one again.",
            )
        for (ask, _), one in zip(batch, scores[: len(batch)], strict=True):
            tags = self._chooser.tags(one)
            if not tags:
                yield Trouble(
                    ask.name,
                    f"No tag of {ask.name} is sure enough.",
                    f"The surest has {float(one.max()):.2f}; the threshold is {self._settings.general:.2f}.",
                    "Lower the threshold for general tags, or write this caption yourself.",
                )
                continue
            yield Proposal(
                ask.name, caption_of(tags), scores=tuple((t, round(p, 4)) for t, p in tags), sha256=ask.sha256
            )


def open_session(tagger: Tagger) -> Any:
    """An onnxruntime session. Raises EnvironmentalError without onnxruntime, InputError when the model cannot be run."""
    try:
        import onnxruntime as ort
    except ImportError as e:
        raise EnvironmentalError(
            "onnxruntime is not installed.", f"{e}.", "Install it: pip install onnxruntime"
        ) from e
    ort.set_default_logger_severity(3)
    there = ort.get_available_providers()
    providers = [p for p in ("CUDAExecutionProvider", "CPUExecutionProvider") if p in there]
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = cpu_threads()
    # Its threads would otherwise wait at full speed and take the processor from those that decode: a fifth to a third of it.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = ort.InferenceSession(str(tagger.folder / MODEL), options, providers=providers)
    except Exception as e:
        first = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise InputError(
            f"{tagger.title} cannot be run.",
            f"onnxruntime answered: {first[:300]}",
            "The file is damaged, or made for a newer onnxruntime. Download it again, or take another tagger.",
        ) from e
    return session
