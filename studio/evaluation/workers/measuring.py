"""From a grid's pictures to its measurements. What was measured before is taken from the project's cache of features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from studio import files
from studio.errors import StudioError
from studio.evaluation.grid import Grid
from studio.evaluation.likeness import Seen, figures
from studio.evaluation.measuring_models import MeasuringModel, chosen
from studio.evaluation.metrics import Extra, MeasuredCell, Pictures, measure
from studio.evaluation.prompts import training_pictures, without_trigger
from studio.evaluation.workers.cache import Arrays, FeatureCache
from studio.evaluation.workers.features import NAME, VERSION, Extractor, open_all
from studio.evaluation.workers.reference import as_drawable as as_drawable

MAX_TRAINING = 100
"""Most training pictures to compare with; more do not move the means, and cost time."""
GROUP = 16
"""Pictures looked at together: between two groups the job may be stopped."""


class Tell(Protocol):
    """Called with how many of how many looks are done, and what is being done."""

    def __call__(self, done: int, whole: int, words: str, /) -> None: ...


def _silent(_done: int, _whole: int, _words: str, /) -> None:
    """Nobody listens."""


class Looked:
    """One set of pictures and what decides their features: the pictures, and a key each."""

    def __init__(self, pictures: Sequence[Image.Image], keys: Sequence[str]) -> None:
        self.pictures, self.keys = list(pictures), list(keys)

    def mirrored(self) -> Looked:
        """The same pictures as in a mirror."""
        flip = Image.Transpose.FLIP_LEFT_RIGHT
        return Looked([p.transpose(flip) for p in self.pictures], [f"{k} mirrored" for k in self.keys])

    def __add__(self, other: Looked) -> Looked:
        return Looked([*self.pictures, *other.pictures], [*self.keys, *other.keys])


class Measuring:
    """One pass over a grid. check: called often, may raise to leave early; tell: hears of the progress."""

    def __init__(self, grid: Grid, check: Callable[[], None], tell: Tell) -> None:
        self.grid, self.check, self.tell = grid, check, tell
        self.cache = FeatureCache(grid.project.cache_dir / "features")
        self.models = {
            role: now for role, now in chosen(grid.project.workspace).items() if now.state != "absent"
        }
        self.done = self.whole = 0

    def run(self) -> dict[str, Any] | None:
        """The measurements of the cells that are there; None when no base cell is, or nothing else."""
        cells = [c for c in self.grid.cells() if c.path is not None]
        if not any(c.weight == 0 for c in cells) or not any(c.weight != 0 for c in cells):
            return None
        drawn, row = self._drawn({c.hash: c.path for c in cells if c.path is not None})
        train, names = self._trained()
        usable = {r: n.model for r, n in self.models.items() if n.model is not None}
        self.whole = (len(drawn.keys) + 2 * len(train.keys)) * (1 + len(usable))
        both = train + train.mirrored()
        pictures = self._features(drawn, "Measuring the pictures")
        reference = self._features(both, "Measuring your pictures") if train.keys else None

        base = {(c.prompt.id, c.seed): row[c.hash] for c in cells if c.weight == 0}
        base_row = np.full(len(drawn.keys), -1)
        prompts = [""] * len(drawn.keys)
        for cell in cells:
            base_row[row[cell.hash]] = base.get((cell.prompt.id, cell.seed), -1)
            prompts[row[cell.hash]] = without_trigger(cell.prompt.text, self.grid.spec.trigger)
        arrays = [np.asarray(p, dtype=np.float32) / 255 for p in drawn.pictures]
        change = np.asarray(
            [
                float(np.abs(a - arrays[b]).mean()) if b >= 0 else np.nan
                for a, b in zip(arrays, base_row, strict=True)
            ]
        )
        order = [
            MeasuredCell(c.hash, c.checkpoint, c.weight, c.prompt.id, c.prompt.family, c.seed, c.prompt.pair)
            for c in cells
        ]
        extra = self._extra(usable, drawn, both if train.keys else None, prompts, base_row)
        metrics = measure(self.grid.spec.kind, order, row, pictures, change, reference, names, NAME, extra)
        metrics["looks"] = {"new": self.cache.new, "known": self.cache.known}
        return metrics

    # --- pictures

    def _drawn(self, paths: dict[str, Path]) -> tuple[Looked, dict[str, int]]:
        pictures, keys = [], []
        for path in paths.values():
            self.check()
            with Image.open(path) as raw:
                pictures.append(raw.convert("RGB"))
            keys.append(files.sha256_file(path))
        return Looked(pictures, keys), {h: i for i, h in enumerate(paths)}

    def _trained(self) -> tuple[Looked, list[str]]:
        spec = self.grid.spec
        paths = training_pictures(self.grid.project)
        step = max(1, -(-len(paths) // MAX_TRAINING))
        pictures, there = open_all(paths[::step], (spec.width, spec.height))
        keys = [f"{files.sha256_file(p)} {spec.width}x{spec.height}" for p in there]
        if spec.family == "pocket" and pictures:
            place = spec.base_path / "vae"
            weights = sorted(place.glob("*.safetensors"))
            mark = self.cache.key(*[files.sha256_file(w) for w in weights])
            keys = [f"{k} through {mark}" for k in keys]
            pictures = self._drawable(pictures, keys, place)
        return Looked(pictures, keys), [p.name for p in there]

    def _drawable(self, pictures: list[Image.Image], keys: list[str], place: Path) -> list[Image.Image]:
        """The training pictures as the base model's autoencoder gives them back, remembered."""
        named = [self.cache.key("drawable", k) for k in keys]
        there = [self.cache.get(k) for k in named]
        missing = [i for i, found in enumerate(there) if found is None]
        found = as_drawable([pictures[i] for i in missing], place, self.check)
        for i, picture in zip(missing, found, strict=True):
            there[i] = {"pixels": np.asarray(picture, dtype=np.float32)}
            self.cache.put(named[i], there[i] or {})
        return [Image.fromarray((t or {})["pixels"].astype(np.uint8)) for t in there]

    # --- looking

    def _remembered(
        self, mark: str, looked: Looked, words: str, look: Callable[[list[Image.Image]], list[Arrays]]
    ) -> list[Arrays]:
        """The arrays of each picture: from the cache, or looked at now in groups."""
        named = [self.cache.key(mark, k) for k in looked.keys]
        there = [self.cache.get(k) for k in named]
        missing = [i for i, found in enumerate(there) if found is None]
        self.done += len(named) - len(missing)
        for start in range(0, len(missing), GROUP):
            self.check()
            self.tell(self.done, self.whole, words)
            part = missing[start : start + GROUP]
            for i, arrays in zip(part, look([looked.pictures[i] for i in part]), strict=True):
                self.cache.put(named[i], arrays)
                there[i] = arrays
            self.done += len(part)
        self.tell(self.done, self.whole, words)
        return [found for found in there if found is not None]

    def _features(self, looked: Looked, words: str) -> Pictures:
        extract = Extractor()

        def look(pictures: list[Image.Image]) -> list[Arrays]:
            found = extract(pictures, self.check)
            return [
                {f.name: np.asarray(getattr(found, f.name)[i], dtype=np.float32) for f in fields(Pictures)}
                for i in range(len(pictures))
            ]

        rows = self._remembered(f"{NAME} {VERSION}", looked, words, look)
        return Pictures(*(np.stack([r[f.name] for r in rows]).astype(np.float64) for f in fields(Pictures)))

    def _extra(
        self,
        usable: dict[Any, MeasuringModel],
        drawn: Looked,
        train: Looked | None,
        prompts: list[str],
        base: Any,
    ) -> Extra:
        """What the chosen models say. One that cannot be used leaves its measures out and says why."""
        told: dict[str, Any] = {}
        models: dict[str, dict[str, str]] = {}
        for role, now in self.models.items():
            if now.error is not None:
                models[role] = {"error": f"{now.error.what} {now.error.why}".strip()}
        for role, model in usable.items():
            models[role] = {"title": model.title, "mark": model.mark}
            try:
                told |= figures(role, self._seen(model, drawn, train, prompts, base))
            except StudioError as e:
                models[role]["error"] = f"{e.what} {e.why}".strip()
        return Extra(told, models)

    def _seen(
        self, model: MeasuringModel, drawn: Looked, train: Looked | None, prompts: list[str], base: Any
    ) -> Seen:
        from studio.evaluation.workers.embedding import Clip, Embedder, open_embedder

        opened: list[Embedder] = []

        def embedder() -> Embedder:
            if not opened:
                self.tell(self.done, self.whole, f"Loading {model.title}")
                opened.append(open_embedder(model))
            return opened[0]

        def look(pictures: list[Image.Image]) -> list[Arrays]:
            return [{"vector": v} for v in embedder().pictures(pictures, self.check)]

        words = f"Measuring with {model.title}"
        cells = np.stack([r["vector"] for r in self._remembered(model.mark, drawn, words, look)])
        trained = None
        if train is not None:
            trained = np.stack([r["vector"] for r in self._remembered(model.mark, train, words, look)])
        texts = None
        if model.role == "clip":
            by_text: dict[str, Any] = {}
            for text in dict.fromkeys(prompts):
                key = self.cache.key(model.mark, "prompt", text)
                found = self.cache.get(key)
                if found is None:
                    self.check()
                    clip = embedder()
                    assert isinstance(clip, Clip)
                    found = {"vector": clip.prompts([text])[0]}
                    self.cache.put(key, found)
                by_text[text] = found["vector"]
            texts = np.stack([by_text[t] for t in prompts])
        return Seen(cells, trained, texts, base)


def measure_grid(
    grid: Grid, check: Callable[[], None] = lambda: None, tell: Tell = _silent
) -> dict[str, Any] | None:
    """Measurements of the cells that are there; None when no base cell is. check: called often; may raise to leave early."""
    return Measuring(grid, check, tell).run()
