"""What goes with each optimizer: its learning rate beside AdamW's, its weight decay, and why.

Sources: lion-pytorch's notes (a rate 3 to 10 times lower, a weight decay 3 to 10 times higher; gains mostly at batches of 64
and more), konstmish/prodigy (rate 1, scales it itself), sd-scripts' FLUX notes for Adafactor (fixed rate, constant with
warm-up, no gradient clipping), spacepxl/demystifying-sd-finetuning (AdamW and AdamW8bit learn alike).
"""

from __future__ import annotations

from typing import Final

RATE_SHARE: Final = {"adamw": 1.0, "adamw8bit": 1.0, "adafactor": 1.0, "lion": 0.2}
"""The rate of an optimizer as a share of AdamW's. Prodigy's 1 stands for no rate of the kind."""

DECAY_SHARE: Final = {"lion": 5.0}
"""Weight decay as a multiple of AdamW's: rate times decay stays the same."""

ABOUT: Final = {
    "adamw": "The rate decides everything: too high breaks pictures, too low teaches nothing. The presets know a good one.",
    "adamw8bit": "Learns like AdamW and holds its notes in 8 bits; the same learning rate. Needs the package bitsandbytes and an "
    "NVIDIA card.",
    "prodigy": "Looks for the rate by itself, so the learning rate is 1. It needs the most memory, and keeps one rate for "
    "everything: a rate of its own for the text encoder is ignored. It goes well with a cosine schedule.",
    "lion": "Moves every weight by the same amount, so it wants a fifth of AdamW's rate and five times its weight decay. Its gain "
    "shows at large batches; with a batch of one AdamW is the safer choice.",
    "adafactor": "Holds the fewest notes. The rate is fixed here, as for AdamW, instead of found by itself. It learns more slowly.",
}
"""What to know about each optimizer, in words."""
