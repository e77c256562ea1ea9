"""Every name under which a LoRA file may mean a layer of a UNet or a text encoder."""

from __future__ import annotations

import re

from torch import nn

from studio.training.lora_keys import Part, lora_name, prefix

_ADAPTABLE = (nn.Linear, nn.Conv2d)


def layer_names(models: dict[Part, nn.Module], family: str) -> dict[str, tuple[Part, str, nn.Module]]:
    """Every name under which a file may mean a layer: kohya's, with diffusers' block names too, and peft's."""
    names: dict[str, tuple[Part, str, nn.Module]] = {}
    for part, model in models.items():
        for path, module in model.named_modules():
            if not path or not isinstance(module, _ADAPTABLE):
                continue
            found = (part, path, module)
            bare = path.removeprefix("text_model.")
            names[f"{part}.{path}"] = found
            if part == "unet":
                names[f"lora_unet_{path.replace('.', '_')}"] = found
                if family == "sdxl":
                    names[f"lora_unet_{_original(path).replace('.', '_')}"] = found
            else:
                names[f"{part}.text_model.{bare}"] = found
                names[f"{prefix(part, family)}{bare.replace('.', '_')}"] = found
    return names


_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}


def _original(path: str) -> str:
    """An SDXL UNet path in the names of the original checkpoint; attention by `lora_keys`, the convolutions that LoCon files
    adapt here (the same counting: three entries a block)."""
    try:
        return lora_name("unet", path, "sdxl").removeprefix("lora_unet_")
    except ValueError:
        pass
    m = re.match(r"^(down|up)_blocks\.(\d+)\.resnets\.(\d+)\.(\w+)$", path)
    if m:
        i, j = int(m[2]), int(m[3])
        block = f"input_blocks.{1 + 3 * i + j}.0" if m[1] == "down" else f"output_blocks.{3 * i + j}.0"
        return f"{block}.{_RESNET.get(m[4], m[4])}"
    m = re.match(r"^mid_block\.resnets\.(\d+)\.(\w+)$", path)
    if m:
        return f"middle_block.{2 * int(m[1])}.{_RESNET.get(m[2], m[2])}"
    m = re.match(r"^down_blocks\.(\d+)\.downsamplers\.0\.conv$", path)
    if m:
        return f"input_blocks.{3 * (int(m[1]) + 1)}.0.op"
    m = re.match(r"^up_blocks\.(\d+)\.upsamplers\.0\.conv$", path)
    if m:
        return f"output_blocks.{3 * int(m[1]) + 2}.2.conv"
    return {
        "conv_in": "input_blocks.0.0",
        "conv_out": "out.2",
        "time_embedding.linear_1": "time_embed.0",
        "time_embedding.linear_2": "time_embed.2",
        "add_embedding.linear_1": "label_emb.0.0",
        "add_embedding.linear_2": "label_emb.0.2",
    }.get(path, path)
