"""Base models in figures: parameters, the size of an adapter, what is kept for the way back, and how sure that is.

Parameter counts: SD1.5 UNet and FLUX as printed by public runs; SD3.5 Large and the adapters from the shapes of the layers,
checked for FLUX against the size of published files. Activations: fitted to published peaks of training runs (SimpleTuner's
tables of 2026 for SD1.5, SDXL and SD3-medium), then tried on other published peaks and on what the tensors of one step of
sd-scripts' own layers add up to, counted without a card (scripts/sdscripts/count_tensors.py); tests/vram names every one of
them and says which were used and which were kept back. None was measured on this computer until a dry run does it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

CLIP_L = 123.06e6
CLIP_BIG_G = 694.7e6
T5_XXL = 4762e6
# Adapter parameters of T5 for each unit of rank: in each of 24 layers four of 4096 x 4096 and three of 4096 x 10240. Its width and
# how many words it is given.
T5_RANK, T5_LAYERS, T5_WIDTH, T5_TOKENS = 24 * (4 * 8192 + 3 * 14_336), 24, 4096, 512
VAE = 83.65e6


@dataclass(frozen=True)
class Unet:
    """Activations in GiB at 16 bit: (fixed, for each megapixel and picture), with gradient checkpointing and without."""

    saved: tuple[float, float]
    full: tuple[float, float]
    # Attention without an efficient kernel keeps whole score matrices: layers at the largest size, heads, and how many
    # times smaller than the picture the sides are there.
    layers: int
    heads: int
    shrink: int
    # Share of the parameters that are in linear layers, counted on the models themselves; the others are convolutions.
    linear: float


@dataclass(frozen=True)
class Transformer:
    """width: of a token. blocks: how many. text_tokens: beside those of the picture. full: values kept for each token and
    width without checkpointing. swap_pair: parameters that leave the card with each two blocks that are swapped."""

    width: int
    blocks: int
    text_tokens: int
    full: float
    swap_pair: float
    swap_limit: int


@dataclass(frozen=True)
class Family:
    """One geometry.

    base, text, vae:  parameters; text of all text encoders together, text_large the share that is a T5.
    rank_all, rank_attention, rank_text: adapter parameters for each unit of rank.
    segment:          parameters of the largest part that is recomputed at once with checkpointing.
    band:             what share the true peak can lie below and above the forecast with checkpointing; band_full without.
    known:            what the error band rests on, in words.
    """

    base: float
    text: float
    text_large: float
    vae: float
    rank_all: int
    rank_attention: int
    rank_text: int
    segment: float
    shape: Unet | Transformer
    band: tuple[float, float]
    band_full: tuple[float, float]
    known: str


FAMILIES: dict[str, Family] = {
    "pocket": Family(
        8.89e6, 1.23e6, 0, 0.65e6, 26_000, 12_000, 12_000, 1e6,
        # Measured on a CPU: 0.7 GB in all for batch 8 at 64 px.
        Unet((0.05, 4.0), (0.05, 8.0), 4, 4, 8, 0.3),
        (0.3, 0.3), (0.3, 0.3),
        "Measured with the built-in trainer on a CPU.",
    ),
    "sd15": Family(
        859.52e6, CLIP_L, 0, VAE, 423_936, 199_296, 165_888, 65e6,
        Unet((0.0, 1.4), (0.0, 5.0), 5, 8, 8, 0.314),
        (0.25, 0.25), (0.40, 0.60),
        "Fitted to two measured peaks at 512 px; what sd-scripts itself keeps in a step was counted and is up to 17 % less.",
    ),
    "sdxl": Family(
        2567.5e6, CLIP_L + CLIP_BIG_G, 0, VAE, 2_659_840, 1_451_520, 903_168, 190e6,
        Unet((0.16, 1.59), (0.48, 7.8), 10, 10, 16, 0.870),
        (0.40, 0.15), (0.40, 0.60),
        "Fitted to two measured peaks at 1024 px, tried on two of sd-scripts; batches above one were seen and counted to take less.",
    ),
    "sd35": Family(
        8056.6e6 + 89.7e6, CLIP_L + CLIP_BIG_G + T5_XXL, T5_XXL, VAE, 4_212_224, 1_473_792, 903_168, 213e6,
        Transformer(2432, 38, 333, 66, 2 * 213e6, 36),
        (0.20, 0.20), (0.60, 0.60),
        "Carried over from measured peaks of its smaller sister, SD3 medium; what sd-scripts keeps in a step of SD3.5 Large was counted "
        "and is up to 8 % less. No reliable measured peak of it is known.",
    ),
    "flux": Family(
        11_901_408_320, CLIP_L + T5_XXL, T5_XXL, 83.82e6, 4_786_176, 2_801_664, 165_888, 340e6,
        # Counted on the layers of sd-scripts itself; a trainer that reckons in 16 bit throughout keeps 38, diffusers' own about 93.
        Transformer(3072, 57, 512, 53, 340e6 + 2 * 141.6e6, 35),
        (0.12, 0.12), (0.60, 0.60),
        "Tried on measured peaks of six trainers and the card sizes that sd-scripts names; a monitor adds what other programs hold.",
    ),
}  # fmt: skip

# Adapter parameters for each unit of rank of a double and of a single block of FLUX, from the shapes of their layers.
_FLUX_RANK = (141_312, 55_296)


def _sd35_rank(blocks: int) -> int:
    """Adapter parameters for each unit of rank: two streams of 23 widths a block, and the last block has little of the second."""
    return 64 * blocks * (46 * blocks - 16)


def sized(name: str, inner: int = 0, blocks: tuple[int, ...] = ()) -> Family:
    """A family as one file of it is: with fewer or more blocks than the original, such as the "lite" versions of FLUX.

    inner: parameters of the part that draws, as counted in the file; blocks: see `modelfiles.kinds.Look`. 0 and () for the
    original. Raises KeyError for an unknown family.
    """
    family = FAMILIES[name]
    if inner <= 0 or (name != "flux" and not blocks):
        return family
    shape = family.shape
    if name == "flux" and len(blocks) == 2 and min(blocks) > 0 and isinstance(shape, Transformer):
        double, single = blocks
        part = (double * _FLUX_RANK[0] + single * _FLUX_RANK[1]) / family.rank_all
        # Half of what is swapped are double blocks, and two single ones go for each of the other half; two of each kind stay.
        most = max(
            (n for n in range(single) if n // 2 <= double - 2 and 2 * (n - n // 2) <= single - 2), default=0
        )
        return replace(
            family, base=inner, rank_all=round(family.rank_all * part), rank_attention=round(family.rank_attention * part),
            shape=replace(shape, blocks=double + single, swap_limit=most),
        )  # fmt: skip
    if name == "sd35" and len(blocks) == 1 and blocks[0] > 0 and isinstance(shape, Transformer):
        share = blocks[0] / shape.blocks  # its width is 64 for each block
        return replace(
            family, base=inner, rank_all=_sd35_rank(blocks[0]), rank_attention=round(family.rank_attention * share**2),
            segment=family.segment * share**2,
            shape=replace(
                shape, width=64 * blocks[0], blocks=blocks[0], swap_pair=shape.swap_pair * share**2,
                swap_limit=max(0, blocks[0] - 2),
            ),
        )  # fmt: skip
    return family
