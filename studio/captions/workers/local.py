"""A vision-language model in a folder, run by transformers (`image-text-to-text`). Nothing is fetched, no code of the
folder is run, and only safetensors weights are opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from studio.captions import describe
from studio.captions.auto import LocalSettings
from studio.captions.describe import Format, WordSettings
from studio.captions.proposals import Answer, Ask, Trouble
from studio.captions.workers.asking import Refused, understood, unreadable
from studio.captions.workers.picture import opened, small
from studio.errors import EnvironmentalError

ANSWER_TOKENS = 512


class LocalEngine:
    """Describes pictures on this computer. device: known after entering."""

    def __init__(self, settings: LocalSettings, question: str, format: Format, words: WordSettings) -> None:
        self._own, self._question, self._format, self._words = settings, question, format, words
        self._model: Any = None
        self._processor: Any = None
        self.device = ""

    def __enter__(self) -> LocalEngine:
        try:
            import torch
            from transformers import AutoModelForImageTextToText, AutoProcessor
        except ImportError as e:
            raise EnvironmentalError(
                "transformers is not installed.", f"{e}.", "Install it: pip install transformers torch"
            ) from e
        folder = Path(self._own.folder).expanduser()
        cuda = torch.cuda.is_available()
        options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
        try:
            self._processor = AutoProcessor.from_pretrained(folder, **options)
            model = AutoModelForImageTextToText.from_pretrained(
                folder, use_safetensors=True, dtype=torch.bfloat16 if cuda else torch.float32, **options
            )
        except Exception as e:
            first = (str(e).strip().splitlines() or [type(e).__name__])[0]
            raise Refused(
                f"{folder.name} cannot be loaded.",
                f"transformers answered: {first[:300]}",
                "It must be a model for 'image-text-to-text' in safetensors that needs no code of its own; "
                "download the whole folder again, or take another model.",
            ) from e
        if not getattr(self._processor, "chat_template", None):
            raise Refused(
                f"{folder.name} has no form for questions.",
                "Its processor brings no chat template, so it cannot be told what to do.",
                "Take a model that was trained to follow instructions.",
            )
        self._model = model.to("cuda" if cuda else "cpu").eval()
        self.device = "graphics card" if cuda else "processor"
        return self

    def __exit__(self, *_: object) -> None:
        self._model = self._processor = None

    def caption(self, pictures: Iterable[Ask], should_stop: Callable[[], bool]) -> Iterator[Answer]:
        """A description of each picture, one after the other. Stops between two tokens."""
        for ask in pictures:
            if should_stop():
                return
            image = opened(ask, self._own.side)
            if isinstance(image, Trouble):
                yield image
                continue
            said = self._say(small(image, self._own.side), should_stop)
            if should_stop():
                return
            try:
                yield understood(ask, said, self._format, self._words)
            except describe.Unreadable as e:
                yield unreadable(ask, str(e), said)

    def _say(self, image: Any, should_stop: Callable[[], bool]) -> str:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        class Asked(StoppingCriteria):
            def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
                return torch.full(
                    (input_ids.shape[0],), should_stop(), device=input_ids.device, dtype=torch.bool
                )

        text = f"{describe.SYSTEM}\n\n{self._question}"
        messages = [
            {"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": text}]}
        ]
        inputs = self._processor.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
        ).to(self._model.device)
        if "pixel_values" in inputs:
            inputs["pixel_values"] = inputs["pixel_values"].to(self._model.dtype)
        with torch.inference_mode():
            out = self._model.generate(
                **inputs,
                max_new_tokens=ANSWER_TOKENS,
                do_sample=False,
                stopping_criteria=StoppingCriteriaList([Asked()]),
            )
        new = out[0, inputs["input_ids"].shape[1] :]
        return str(self._processor.decode(new, skip_special_tokens=True))
