"""The stages of the build, each leaving its result in the work folder; one that is there already is skipped."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from scripts.pocket import check, curves, export, lora, parallel, pictures, sample, tokenizer, unet, vae


def _once(result: Path, body: Callable[[], None]) -> Callable[[], None]:
    def run() -> None:
        if result.exists():
            print(f"{result.name} is there already, skipped")
        else:
            body()

    return run


def table(work: Path, vae_minutes: float, unet_minutes: float) -> dict[str, Callable[[], None]]:
    """Stage name -> what runs it. `export` writes `<work>/pocket`, `sample` writes `<work>/data`: look at them, then
    copy them over `data/`."""
    folder, data = work / "pocket", work / "data"

    def read_pictures() -> None:
        found = pictures.load(work)
        torch.save(found, work / "pictures.pt")
        print(f"{len(found.names)} pictures, {len(found.subjects())} subjects")

    def make_tokenizer() -> None:
        tokenizer.build(torch.load(work / "pictures.pt", weights_only=False), work / "tokenizer")

    def train_vae() -> None:
        for number in range(len(vae.ROUNDS)):
            parallel.launch(vae.train, work, work, vae_minutes, number)

    def train_unet() -> None:
        unet.latents(work)
        parallel.launch(unet.train, work, work, unet_minutes)

    def write_folder() -> None:
        export.export(work, work / "unet.pt", folder)
        curves.write(work, folder)

    return {
        "pictures": _once(work / "pictures.pt", read_pictures),
        "tokenizer": _once(work / "tokenizer", make_tokenizer),
        "vae": _once(work / f"vae_{vae.ROUNDS[-1].name}.pt", train_vae),
        "unet": _once(work / "unet.pt", train_unet),
        "export": _once(folder, write_folder),
        "check": _once(work / "check_1.png", lambda: check.check(folder, work / "check.png")),
        "sample": _once(data / "sample", lambda: sample.build(work, data)),
        "lora": _once(work / "lora.json", lambda: lora.verify(folder, data / "sample", sample.TRIGGER, work)),
    }
