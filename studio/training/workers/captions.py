"""Captions on their way into training: dropout, shuffling, tokens, embeddings."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import torch

from studio.settings import TrainingSettings
from studio.training.workers.base_model import BaseModel


@dataclass(frozen=True)
class Embedded:
    """What the UNet hears. hidden: (B, tokens, width); pooled: (B, width) for SDXL, else None."""

    hidden: torch.Tensor
    pooled: torch.Tensor | None

    def to(self, device: torch.device, dtype: torch.dtype) -> Embedded:
        return Embedded(
            self.hidden.to(device, dtype), None if self.pooled is None else self.pooled.to(device, dtype)
        )


def caption_for(caption: str, settings: TrainingSettings, trigger: str, chance: random.Random) -> str:
    """The caption as this step hears it.

    Dropout empties it. Shuffling mixes its comma-separated parts; the first `keep_tokens` parts stay, and the trigger
    word is moved to the front if it was not among them.
    """
    dropped = chance.random() < settings.caption_dropout
    if dropped or not settings.shuffle_captions:
        return "" if dropped else caption
    parts = [p.strip() for p in caption.split(",") if p.strip()]
    kept, loose = parts[: settings.keep_tokens], parts[settings.keep_tokens :]
    lowered = trigger.strip().lower()
    if lowered and not any(p.lower() == lowered for p in kept):
        own = [p for p in loose if p.lower() == lowered]
        kept = own[:1] + kept
        loose = [p for p in loose if p not in own[:1]]
    chance.shuffle(loose)
    return ", ".join(kept + loose)


class TextReader:
    """Turns captions into embeddings; remembers them when that is allowed."""

    def __init__(self, base: BaseModel, device: torch.device, *, remember: bool) -> None:
        self._base = base
        self._device = device
        self._remember = remember
        self._ids: dict[tuple[int, str], torch.Tensor] = {}
        self._known: dict[str, Embedded] = {}

    @property
    def remembers(self) -> bool:
        """Whether embeddings are kept; then the encoders can leave after `learn`."""
        return self._remember

    @torch.no_grad()
    def learn(self, captions: list[str]) -> None:
        """Read captions now, so that `read` finds them. One at a time, which makes each independent of the others."""
        for caption in captions:
            if caption not in self._known:
                said = self._encode([caption])
                self._known[caption] = said.to(torch.device("cpu"), said.hidden.dtype)

    def read(self, captions: list[str]) -> Embedded:
        """Embeddings of a batch. With text encoders that learn, gradients flow through it."""
        if self._remember and all(c in self._known for c in captions):
            found = [self._known[c] for c in captions]
            pooled = [f.pooled for f in found if f.pooled is not None]
            said = Embedded(torch.cat([f.hidden for f in found]), torch.cat(pooled) if pooled else None)
            return said.to(self._device, said.hidden.dtype)
        return self._encode(captions)

    def _tokens(self, which: int, captions: list[str]) -> torch.Tensor:
        """Token numbers, cut and padded to the model's length; shape (B, tokens)."""
        tokenizer = self._base.tokenizers[which]
        rows = []
        for caption in captions:
            row = self._ids.get((which, caption))
            if row is None:
                row = tokenizer(
                    caption,
                    padding="max_length",
                    max_length=tokenizer.model_max_length,
                    truncation=True,
                    return_tensors="pt",
                ).input_ids
                if len(self._ids) < 50_000:
                    self._ids[which, caption] = row
            rows.append(row)
        return torch.cat(rows).to(self._device)

    def _encode(self, captions: list[str]) -> Embedded:
        encoders: list[Any] = self._base.text_encoders
        if not self._base.is_sdxl:
            return Embedded(encoders[0](self._tokens(0, captions))[0], None)
        # SDXL hears the layer before the last of both encoders, and the second one's summary (Podell et al. 2023).
        said = [
            encoder(self._tokens(i, captions), output_hidden_states=True)
            for i, encoder in enumerate(encoders)
        ]
        return Embedded(torch.cat([s.hidden_states[-2] for s in said], dim=-1), said[1][0])
