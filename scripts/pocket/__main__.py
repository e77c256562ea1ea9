"""`python -m scripts.pocket STAGE --work DIR`: build the embedded base model and the sample pictures."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

STAGES = ("pictures", "tokenizer", "vae", "unet", "export", "check", "sample", "lora")


def main(argv: list[str] | None = None) -> int:
    """Run one stage, or all of them in order, skipping those whose result is already in the work folder."""
    parser = argparse.ArgumentParser(prog="python -m scripts.pocket", description=__doc__)
    parser.add_argument("stage", choices=("all", *STAGES), help="one stage, or all in order")
    parser.add_argument(
        "--work", type=Path, required=True, help="scratch folder for pictures, checkpoints and logs"
    )
    parser.add_argument(
        "--vae-minutes", type=float, default=13.4, help="training time of the autoencoder (default 13.4)"
    )
    parser.add_argument(
        "--unet-minutes", type=float, default=40.0, help="training time of the UNet (default 40)"
    )
    options = parser.parse_args(argv)
    # imported late: --help and wrong options answer at once instead of after loading torch
    from scripts.pocket import stages

    options.work.mkdir(parents=True, exist_ok=True)
    run: dict[str, Callable[[], None]] = stages.table(options.work, options.vae_minutes, options.unet_minutes)
    for stage in STAGES if options.stage == "all" else (options.stage,):
        run[stage]()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
