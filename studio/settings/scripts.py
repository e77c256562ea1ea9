"""Settings: what only the training scripts of sd-scripts read. Its backend alone shows and uses them.

Where the defaults differ from the scripts' own, theirs are known to be wrong for training: a guidance of 3.5 and plain sigma
timesteps for FLUX (flux_train_network.md of sd-scripts, section 4.1).
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from studio.settings.knob import knob

Attention = Literal["sdpa", "xformers"]
Timesteps = Literal["auto", "sigma", "uniform", "sigmoid", "shift", "flux_shift"]
Weighting = Literal["uniform", "logit_normal", "mode", "cosmap", "sigma_sqrt", "none"]


class HowScriptsRun(BaseModel):
    """What sd-scripts can do on top of what every backend shares."""

    attention: Attention = knob(
        "sdpa",
        "Attention",
        "How attention is computed. PyTorch's own is as fast and needs no package; xformers has to be installed, and fails "
        "on the RTX 50 series.",
        group="sd-scripts",
        choices={"sdpa": "PyTorch's own", "xformers": "the package xformers"},
    )
    fp8_base: bool = knob(
        False,
        "Base model in 8 bits",
        "Holds the base model in 8-bit numbers (fp8): half the memory, results may differ a little. Only saves memory together "
        "with gradient checkpointing.",
        group="sd-scripts",
    )
    blocks_to_swap: int = knob(
        0,
        "Blocks swapped",
        "Keeps this many blocks of SD3.5 or FLUX in the computer's memory and fetches them when their turn comes: less graphics "
        "memory, slower steps. FLUX in 8 bits: 16 for 12 GB, 22 for 10 GB, 28 for 8 GB. 0 keeps all on the card.",
        group="sd-scripts",
        zero="none",
        unit="blocks",
        safe=(0, 32),
        ge=0,
        le=36,
    )
    timestep_sampling: Timesteps = knob(
        "auto",
        "Timestep sampling",
        "Which noise levels FLUX is trained at. The scripts' own default is not what FLUX was trained with.",
        group="sd-scripts",
        choices={
            "auto": "what the base model was trained with",
            "flux_shift": "FLUX's own, which follows the picture size",
            "shift": "shifted by a fixed amount",
            "sigmoid": "mostly the middle (Chroma)",
            "uniform": "all alike",
            "sigma": "weighted by the loss weighting below",
        },
    )
    flow_shift: float = knob(
        0.0,
        "Timestep shift",
        "Moves training towards noisier (above 1) or cleaner steps. For FLUX only with the sampling 'shift', where 3.1582 is "
        "usual; for SD3.5 the training shift, where 1 is usual. 0 uses these.",
        group="sd-scripts",
        zero="the usual one",
        safe=(0, 6),
        ge=0,
        le=100,
    )
    loss_weighting: Weighting = knob(
        "uniform",
        "Loss weighting",
        "How much each noise level counts for SD3.5, and for FLUX with sigma timesteps.",
        group="sd-scripts",
        choices={
            "uniform": "all alike",
            "logit_normal": "the middle is drawn more often",
            "mode": "drawn as in the SD3 paper",
            "cosmap": "along a cosine",
            "sigma_sqrt": "cleaner steps count more",
            "none": "no weighting",
        },
    )
    guidance_scale: float = knob(
        1.0,
        "Guidance while training",
        "What FLUX dev is told its guidance is. 1 is right for training; 3.5, the script's own default, is not. Chroma wants 0.",
        group="sd-scripts",
        safe=(0, 1),
        ge=0,
        le=30,
    )
    t5_attention_mask: bool = knob(
        False,
        "Mask empty T5 tokens",
        "FLUX and SD3.5 were trained without it; Chroma needs it. Use the same when pictures are made.",
        group="sd-scripts",
    )
    train_t5: bool = knob(
        False,
        "Teach T5 too",
        "Also adapts the large T5 text encoder of SD3.5 and FLUX. Needs about 10 GB more, and seldom helps.",
        group="sd-scripts",
    )
    extra_options: tuple[str, ...] = knob(
        (),
        "Further options",
        "Options of the script that have no setting here, one a line, such as `scale_weight_norms = 1.0`. Each is checked "
        "against the script's own list of options.",
        group="sd-scripts",
    )
