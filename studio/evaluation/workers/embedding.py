"""CLIP, DINO and CCIP at work: pictures and prompts become unit vectors. Only the measuring job imports this.

Pictures are prepared here, and not by the library's own processors, which want packages of their own: the shorter side to
the model's size (bicubic), the middle cut out, and each channel scaled as the model's makers did.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from studio.errors import EnvironmentalError, InputError, StudioError
from studio.evaluation.measuring_check import ONNX, MeasuringModel

Vectors = NDArray[np.float32]
BATCH = 8
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
"""Mean and spread of the channels that CLIP (arXiv 2103.00020) and CCIP scale with."""
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_UNUSED = ("pooler.", "embeddings.mask_token")
"""Layers that are not asked here, and that some files leave out."""
_DINO_SIDE = 224
"""DINOv2 takes any multiple of its patch; 224 is what its own evaluation uses (arXiv 2304.07193)."""


class Embedder(Protocol):
    """Turns RGB pictures into vectors of length 1."""

    def pictures(self, pictures: Sequence[Image.Image], tick: Callable[[], None]) -> Vectors: ...


def unit(rows: NDArray[Any]) -> Vectors:
    """Rows scaled to length 1."""
    norms = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(rows / np.maximum(norms, 1e-9), dtype=np.float32)


def open_embedder(model: MeasuringModel) -> Embedder:
    """The model, loaded. Raises InputError when it cannot be run, EnvironmentalError when memory is short."""
    kinds: dict[str, type[Clip] | type[Dino] | type[Ccip]] = {"clip": Clip, "dino": Dino, "ccip": Ccip}
    try:
        return kinds[model.role](model.folder)
    except MemoryError as e:
        raise EnvironmentalError(
            f"{model.title} does not fit into memory.",
            "Its weights are larger than what is free.",
            "Close other programs.",
        ) from e
    except StudioError:
        raise
    except Exception as e:  # a foreign library on a foreign file: anything may come
        raise InputError(
            f"{model.title} cannot be loaded.", _first(e), "Download it again, or choose another model."
        ) from e


def _first(error: Exception) -> str:
    """The first line of what a library says."""
    lines = str(error).strip().splitlines()
    return lines[0][:200] if lines else type(error).__name__


def _scaling(folder: Path, usual: tuple[tuple[float, ...], tuple[float, ...]]) -> tuple[Vectors, Vectors]:
    """Mean and spread of the channels as the model's own file says, else the usual ones."""
    mean, spread = usual
    path = folder / "preprocessor_config.json"
    if path.is_file():
        told = json.loads(path.read_text(encoding="utf-8"))
        mean, spread = told.get("image_mean", mean), told.get("image_std", spread)
    return np.asarray(mean, np.float32), np.asarray(spread, np.float32)


def prepared(picture: Image.Image, side: int, mean: Vectors, spread: Vectors, *, cut: bool = True) -> Vectors:
    """A picture as input: 3 × side × side. cut: the middle square; else squeezed into the square, as CCIP was taught."""
    if cut:
        shown = ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)
    else:
        shown = picture.resize((side, side), Image.Resampling.BILINEAR)
    pixels = np.asarray(shown, dtype=np.float32) / 255
    return np.asarray(((pixels - mean) / spread).transpose(2, 0, 1), dtype=np.float32)


class _Torch(ABC):
    """What CLIP and DINO share."""

    def __init__(self, folder: Path, loader: Any, usual: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
        self._mean, self._spread = _scaling(folder, usual)
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        net, info = loader.from_pretrained(
            str(folder), local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
            output_loading_info=True,
        )  # fmt: skip
        # What is not in the file, the library fills with random numbers, and says so on the screen only.
        missing = sorted(k for k in info["missing_keys"] if not k.startswith(_UNUSED))
        if missing or info["mismatched_keys"]:
            raise InputError(
                f"{folder.name} does not hold all of its weights.",
                f"{len(missing) + len(info['mismatched_keys'])} of its layers are missing or of another size"
                f"{f', such as {missing[0]}' if missing else ''}.",
                "Download it again, or choose another model.",
            )
        self._net = net.eval().to(self._device)
        self.side = _DINO_SIDE

    @abstractmethod
    def _see(self, batch: torch.Tensor) -> torch.Tensor:
        """Vectors (batch, width) of prepared pictures (batch, 3, side, side), as the model gives them."""

    @torch.inference_mode()
    def pictures(self, pictures: Sequence[Image.Image], tick: Callable[[], None]) -> Vectors:
        """Vectors of RGB pictures. tick: called between batches; may raise to leave early."""
        found = []
        for start in range(0, len(pictures), BATCH):
            tick()
            batch = [
                prepared(p, self.side, self._mean, self._spread) for p in pictures[start : start + BATCH]
            ]
            seen = _run(self._see, torch.from_numpy(np.stack(batch)).to(self._device))
            found.append(seen.float().cpu().numpy())
        return unit(np.concatenate(found)) if found else np.zeros((0, 1), np.float32)


class Clip(_Torch):
    """CLIP: pictures and prompts in one space (arXiv 2103.00020)."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoTokenizer, CLIPModel, CLIPTokenizerFast

        super().__init__(folder, CLIPModel, _CLIP)
        self.side = int(self._net.config.vision_config.image_size)
        told = (folder / "tokenizer_config.json").is_file()
        kind = AutoTokenizer if told else CLIPTokenizerFast
        self._tokens = kind.from_pretrained(str(folder), local_files_only=True)
        self._longest = int(self._net.config.text_config.max_position_embeddings)

    def _see(self, batch: torch.Tensor) -> torch.Tensor:
        return _tensor(self._net.get_image_features(pixel_values=batch))

    @torch.inference_mode()
    def prompts(self, prompts: Sequence[str]) -> Vectors:
        """Vectors of prompts; what does not fit into the model's text is cut off."""
        found = []
        for prompt in prompts:
            tokens = self._tokens(
                prompt or " ", truncation=True, max_length=self._longest, return_tensors="pt"
            )
            words = {k: v.to(self._device) for k, v in tokens.items() if k in ("input_ids", "attention_mask")}
            found.append(_tensor(self._net.get_text_features(**words)).float().cpu().numpy())
        return unit(np.concatenate(found)) if found else np.zeros((0, 1), np.float32)


class Dino(_Torch):
    """DINO and DINOv2: the class token of the last layer (arXiv 2104.14294, 2304.07193)."""

    def __init__(self, folder: Path) -> None:
        from transformers import AutoModel

        super().__init__(folder, AutoModel, _IMAGENET)
        patch = int(self._net.config.patch_size)
        self.side = max(patch, _DINO_SIDE // patch * patch)
        if self._net.config.model_type == "vit":  # its positions are not stretched
            self.side = int(self._net.config.image_size)

    def _see(self, batch: torch.Tensor) -> torch.Tensor:
        return _tensor(self._net(pixel_values=batch).last_hidden_state[:, 0])


class Ccip:
    """CCIP: which drawn character it is. The difference of two vectors is half of one minus their cosine, which is what the
    makers' own comparing network computes."""

    def __init__(self, folder: Path) -> None:
        import onnxruntime as ort

        ort.set_default_logger_severity(3)
        options = ort.SessionOptions()
        options.log_severity_level = 3
        try:
            self._session: Any = ort.InferenceSession(
                str(folder / ONNX), options, providers=["CPUExecutionProvider"]
            )
        except Exception as e:
            raise ValueError(str(e)) from e
        port = self._session.get_inputs()[0]
        self._name = port.name
        self.side = port.shape[2] if isinstance(port.shape[2], int) else 384
        self._mean, self._spread = (np.asarray(v, np.float32) for v in _CLIP)

    def pictures(self, pictures: Sequence[Image.Image], tick: Callable[[], None]) -> Vectors:
        """Vectors of RGB pictures."""
        found = []
        for picture in pictures:
            tick()
            data = prepared(picture, self.side, self._mean, self._spread, cut=False)[None]
            found.append(
                np.asarray(self._session.run(None, {self._name: data})[0], np.float32).reshape(1, -1)
            )
        return unit(np.concatenate(found)) if found else np.zeros((0, 1), np.float32)

    def _ask(self, data: Vectors) -> Any:
        try:
            return self._session.run(None, {self._name: data})
        except Exception as e:
            raise ValueError(str(e)) from e


def _run(see: Callable[[Any], Any], batch: Any) -> Any:
    """One look. Raises InputError when the model cannot take what it was made for."""
    try:
        return see(batch)
    except (RuntimeError, ValueError, TypeError, IndexError) as e:
        raise InputError(
            "The model cannot be run.", _first(e), "Download it again, or choose another model."
        ) from e


def _tensor(found: Any) -> torch.Tensor:
    """The vectors of an answer, which newer versions of the library wrap."""
    vectors = found if isinstance(found, torch.Tensor) else found.pooler_output
    assert isinstance(vectors, torch.Tensor)
    return vectors
