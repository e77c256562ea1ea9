"""sd-scripts with thinner models: a folder whose four training scripts run the real ones on a geometry that fits in 2 GB.

    PYTHON scripts/sdscripts/thin.py SOURCE OUT

SOURCE is the real sd-scripts; OUT becomes a folder that is set up like one (`studio setup sd-scripts OUT`). Sizes that the real
code holds in constants of its modules are set smaller before a script begins; all else of it runs as it is. Models that fit
are written by `random_models.py SOURCE OUT thin`. How wide the text is that the inner part reads stays as it is, since families
are told apart by it.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

SCRIPTS = ("train_network", "sdxl_train_network", "sd3_train_network", "flux_train_network")
_SCRIPT = """import runpy, sys
sys.path.insert(0, {source!r})
runpy.run_path({thin!r})["apply"]()
runpy.run_path({source!r} + "/{name}.py", run_name="__main__" if __name__ == "__main__" else "{name}")
"""


def apply() -> None:
    """Set the sizes smaller; sd-scripts is on the path."""
    from library import (
        flux_models,
        flux_utils,
        model_util,
        original_unet,
        sd3_utils,
        sdxl_model_util,
        sdxl_original_unet,
    )

    original_unet.BLOCK_OUT_CHANNELS = (32, 64, 64, 64)
    original_unet.TIMESTEP_INPUT_DIM = 32
    original_unet.TIME_EMBED_DIM = 128
    sdxl_original_unet.MODEL_CHANNELS = 64
    sdxl_original_unet.TIME_EMBED_DIM = 256
    model_util.VAE_PARAMS_CH = 32
    for module in (sdxl_model_util, sd3_utils):
        module.CLIPTextConfig = _thinner(module.CLIPTextConfig)
    flux_utils.CLIPConfig = _thinner(flux_utils.CLIPConfig)
    t5_config = flux_utils.T5Config
    flux_utils.T5Config = lambda **told: t5_config(**{**told, **t5()})
    for spec in flux_models.configs.values():
        spec.params = flux(spec.params)


def flux(params: Any) -> Any:
    """FLUX of two heads: 256 numbers wide instead of 3072."""
    return replace(params, hidden_size=256, num_heads=2)


def t5() -> dict[str, int]:
    """T5-XXL of two narrow layers; its words are as wide as ever."""
    return {"num_layers": 2, "num_heads": 8, "d_ff": 512}


def clip(told: dict[str, Any]) -> dict[str, Any]:
    """A text encoder of few layers. SDXL reads the eleventh layer of CLIP-L, so that one keeps its twelve."""
    layers = 12 if told["hidden_size"] == 768 else 2
    return {**told, "num_hidden_layers": layers, "intermediate_size": told["hidden_size"]}


def _thinner(config: Any) -> Any:
    return lambda **told: config(**clip(told))


def main(source: str, out: str) -> None:
    """Write the folder."""
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    here = str(Path(__file__).resolve())
    for name in SCRIPTS:
        text = _SCRIPT.format(source=str(Path(source).resolve()), thin=here, name=name)
        (folder / f"{name}.py").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
