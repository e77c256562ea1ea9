"""Which layer and which role a tensor of a LoRA file has, by its name alone. Needs no torch.

Names as their writers make them: kohya's sd-scripts and LyCORIS (`lora_unet_..._to_q.lora_down.weight`), diffusers with peft
(`unet....to_q.lora_A.weight`), peft alone (`base_model.model....lora_A.weight`), older diffusers (`...lora.down.weight`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

Naming = Literal["kohya", "diffusers", "peft", "diffusers-old", "unknown"]
NAMING_WORDS: dict[str, str] = {
    "kohya": "kohya (sd-scripts, ComfyUI, A1111, Forge)",
    "diffusers": "diffusers with peft",
    "peft": "peft",
    "diffusers-old": "diffusers before peft",
    "unknown": "not known",
}

_ROLES: tuple[tuple[str, str], ...] = (
    (".lora_down.weight", "down"),
    (".lora_up.weight", "up"),
    (".lora_mid.weight", "mid"),
    (".lora_A.default.weight", "down"),
    (".lora_B.default.weight", "up"),
    (".lora_A.weight", "down"),
    (".lora_B.weight", "up"),
    (".lora.down.weight", "down"),
    (".lora.up.weight", "up"),
    (".processor.to_q_lora.down.weight", "down"),
    (".lora_magnitude_vector.weight", "dora"),
    (".lora_magnitude_vector", "dora"),
    (".dora_scale", "dora"),
    (".alpha", "alpha"),
    *((f".hada_{x}", f"hada_{x}") for x in ("w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    *((f".lokr_{x}", f"lokr_{x}") for x in ("w1", "w2", "w1_a", "w1_b", "w2_a", "w2_b", "t1", "t2")),
    (".oft_blocks", "oft"),
    (".oft_diag", "oft"),
    (".on_input", "ia3"),
    (".diff_b", "bias"),
    (".diff", "diff"),
    (".w_norm", "norm"),
    (".b_norm", "norm"),
    (".a1.weight", "glora"),
    (".a2.weight", "glora"),
    (".b1.weight", "glora"),
    (".b2.weight", "glora"),
)


def split(name: str) -> tuple[str, str]:
    """A tensor's layer and role: down, up, mid, alpha, dora, hada_*, lokr_*, oft, ia3, diff, norm, glora; role "" when it is none
    of these."""
    for ending, role in _ROLES:
        if name.endswith(ending):
            return name.removesuffix(ending), role
    return name, ""


def naming(names: Iterable[str]) -> Naming:
    """Whose way of naming a file follows; the first name that tells decides."""
    for name in names:
        if name.startswith(("lora_unet_", "lora_te", "lora_transformer_", "lycoris_")):
            return "kohya"
        if name.startswith("base_model.model."):
            return "peft"
        if ".lora.down." in name or ".lora.up." in name or "_lora.down." in name:
            return "diffusers-old"
        if ".lora_A." in name or ".lora_B." in name:
            return "diffusers"
        if ".lora_down." in name or ".hada_" in name or ".lokr_" in name:
            return "kohya"
    return "unknown"


def kind_of(roles: Iterable[str], *, spatial: bool) -> str:
    """What kind of adapter a layer holds: LoRA, LoCon, LoHa, LoKr, OFT, IA3, GLoRA or full; "DoRA" is told beside it.

    spatial: one of its tensors is a convolution's with a kernel larger than one pixel.
    """
    found = set(roles)
    if any(r.startswith("hada_") for r in found):
        return "LoHa"
    if any(r.startswith("lokr_") for r in found):
        return "LoKr"
    for role, word in (("oft", "OFT"), ("ia3", "IA3"), ("glora", "GLoRA")):
        if role in found:
            return word
    if "down" in found or "up" in found:
        return "LoCon" if spatial else "LoRA"
    if found & {"diff", "norm", "bias"}:
        return "full"
    return ""
