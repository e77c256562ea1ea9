"""Settings: training on Replicate. Only its backend reads them."""

from __future__ import annotations

from pydantic import BaseModel

from studio.settings.knob import knob


class WhereItRents(BaseModel):
    """What a training on rented computers needs on top."""

    cloud_destination: str = knob(
        "",
        "Destination on Replicate",
        "The model on Replicate that takes the result, as yourname/my-lora. It has to be yours.",
        group="Cloud",
        pattern=r"^$|^[a-z0-9]([a-z0-9-]*[a-z0-9])?/[a-z0-9]([a-z0-9._-]*[a-z0-9])?$",
    )
    cloud_create: bool = knob(
        False,
        "Make the destination",
        "Allows the studio to make the destination model, private, when it does not exist. Making it costs nothing.",
        group="Cloud",
    )
    cloud_spending_limit: float = knob(
        0.0,
        "Spending limit",
        "The training is cancelled when it has cost this much, and nothing comes out of it then. 0 means no limit.",
        group="Cloud",
        zero="no limit",
        unit="dollars",
        ge=0,
        le=10_000,
    )
    cloud_resolutions: str = knob(
        "",
        "Resolutions on Replicate",
        "Sizes in pixels that pictures are scaled to, with commas between, such as 768,1024. Empty: the resolution above.",
        group="Cloud",
        pattern=r"^$|^\d{3,4}(,\d{3,4})*$",
    )
    cloud_dataset_url: str = knob(
        "",
        "Dataset URL",
        "The https address of a ZIP with the same pictures and captions, for datasets too large to be sent. Empty: the "
        "studio packs and sends them.",
        group="Cloud",
    )
    cloud_version: str = knob(
        "",
        "Trainer version",
        "64 hex digits of another version of the trainer. Empty: the one that the studio knows.",
        group="Cloud",
        pattern=r"^$|^[0-9a-f]{64}$",
    )
