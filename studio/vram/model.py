"""The memory of a training, term by term.

    step   = base model + its working copies + text encoders and VAE where they stay + adapters + gradients + optimizer
             + what is kept of the pictures for the way back (+ attention scores without an efficient kernel)
    peak   = the largest phase: a step, reading captions, encoding pictures, drawing samples
    device = peak x 1.03 + 0.45 GiB

0.45 GiB: what CUDA and PyTorch hold beside their own tensors, read off four published out-of-memory messages (0.40 to 0.50).
3 %: memory that PyTorch holds and does not use when it runs short, from the same messages (0.03 to 2.6 %). A monitor shows
more while there is room, because PyTorch gives nothing back; that is not what decides whether a run fits.
"""

from __future__ import annotations

from dataclasses import dataclass

from studio.vram.conditions import STATE, STORED, Conditions
from studio.vram.families import (
    FAMILIES,
    T5_LAYERS,
    T5_RANK,
    T5_TOKENS,
    T5_WIDTH,
    Family,
    Transformer,
    Unet,
    sized,
)

GIB = 2**30
MARGIN = 0.20  # Share of memory that stays free; a desktop, a browser and fragmentation need it.
CONTEXT = 0.45 * GIB
SLACK = 0.03
# A transformer block recomputed with its gradients, for each token and its width: fitted to one peak of SD3 medium.
BLOCK_BYTES = 133.0
T5_FULL = 66.0
# Teaching a text encoder keeps this much more of it for the way back, for each picture.
TEXT_ACTIVATIONS = 0.2 * GIB
# Encoding or decoding: five tensors of 128 channels at full size, a reckoning that nobody has published a measurement of.
VAE_TENSORS, VAE_CHANNELS = 5, 128
READING = "Reading captions"
# Weights that are in their file as they are reckoned with are read from there where they are needed: on a CPU they count as
# memory in use, and the system may take that memory back. Seen with FLUX: 12.1 GB in use, of which 1.2 GB could not be taken.
MAPPED = "On a CPU, text encoders that were read once may be dropped from memory when it runs short; then it shows less."


@dataclass(frozen=True)
class Forecast:
    """What a run is going to take.

    terms:      bytes by part during a step, in words; they add up to `phases["Training"]`.
    phases:     bytes in use in each phase; the largest is what has to fit.
    allocated:  the largest phase, without what the driver and PyTorch take for themselves.
    total:      what the card (or the computer) has to have for it. reading: for reading captions alone; steps: for all else.
    low, high:  the error band around total. known: what it rests on, in words.
    trained:    count of trained parameters.
    """

    terms: dict[str, int]
    phases: dict[str, int]
    allocated: int
    total: int
    low: int
    high: int
    known: str
    trained: int
    reading: int
    steps: int

    @property
    def fullest(self) -> str:
        """The phase that takes the most."""
        return max(self.phases, key=lambda name: self.phases[name])


def trained_parameters(c: Conditions) -> float:
    """How many values the adapters have."""
    if c.trained is not None:
        return c.trained
    family = sized(c.family, c.inner, c.blocks)
    per_rank = family.rank_all if c.targets == "attention+ff" else family.rank_attention
    text = (family.rank_text if c.teach_text else 0) + (T5_RANK if c.teach_t5 else 0)
    return c.rank * (per_rank + text)


def _swapped(c: Conditions, family: Family) -> float:
    """Parameters that wait outside of the card."""
    if not isinstance(family.shape, Transformer) or not c.swapped:
        return 0.0
    return min(c.swapped, family.shape.swap_limit) / 2 * family.shape.swap_pair


def _copies(c: Conditions, family: Family) -> float:
    """16 bit working copies of a base model that is stored smaller than it is computed. Without checkpointing they are kept
    for the way back, all of them: then it needs more than if it had been stored whole."""
    if STORED[c.stored] >= c.computed:
        return 0.0
    if not c.checkpointing:
        return family.base * _shrunk(c, family) * c.computed
    return family.segment * c.computed


def _shrunk(c: Conditions, family: Family) -> float:
    """Share of the base model that is stored smaller than it is computed."""
    return family.shape.linear if c.linear_only and isinstance(family.shape, Unet) else 1.0


def _stored(c: Conditions, family: Family) -> float:
    """Bytes of the base model, less the blocks that wait outside of the card."""
    shrunk = _shrunk(c, family)
    each = shrunk * STORED[c.stored] + (1 - shrunk) * c.computed
    return (family.base - _swapped(c, family)) * each


def _text(c: Conditions, family: Family, *, small: bool) -> float:
    """Bytes of all text encoders; small: the T5 among them is fp8."""
    large = family.text_large if small else 0.0
    return (family.text - large) * c.computed + large


def _activations(c: Conditions, family: Family) -> float:
    shape, wide = family.shape, c.computed / 2
    if isinstance(shape, Unet):
        fixed, slope = shape.saved if c.checkpointing else shape.full
        return (fixed + slope * c.megapixels * c.batch) * GIB * wide
    tokens = (c.width // 16) * (c.height // 16) + shape.text_tokens
    each = tokens * shape.width * c.batch * wide
    if not c.checkpointing:
        return shape.full * each * shape.blocks
    return BLOCK_BYTES * each + (0.0 if c.offloaded else 2 * each * shape.blocks)


def _t5_activations(c: Conditions) -> float:
    """What T5 keeps of the words where it is taught, reckoned as for the blocks of SD3, which are built alike; not measured."""
    if not c.teach_t5:
        return 0.0
    each = T5_TOKENS * T5_WIDTH * c.batch * c.computed / 2
    if not c.checkpointing:
        return T5_FULL * each * T5_LAYERS
    return BLOCK_BYTES * each + 2 * each * T5_LAYERS


def _scores(c: Conditions, family: Family) -> float:
    shape = family.shape
    if c.efficient or not isinstance(shape, Unet):
        return 0.0
    tokens = (c.width // shape.shrink) * (c.height // shape.shrink)
    kept = 1 if c.checkpointing else shape.layers
    return 2.0 * kept * shape.heads * tokens**2 * c.computed * c.batch


def _coding(c: Conditions, pictures: int) -> float:
    """Turning pictures into latents, or back."""
    return pictures * VAE_TENSORS * VAE_CHANNELS * c.width * c.height * c.computed


def _loading(c: Conditions, family: Family) -> float:
    """sd-scripts reading a model into the computer's memory. UNets and their text encoders arrive in full precision and are made
    smaller afterwards, unless all of the training is in half precision; SD3.5 and FLUX arrive as they are computed. Measured
    with SDXL on a CPU: 13.3 GiB at this moment, and 8.6 GiB in half precision."""
    if not isinstance(family.shape, Unet):
        return (family.base + family.text + family.vae) * c.computed
    each = c.computed if c.adapters < 4 else 4
    whole = (family.base + family.vae) * each + family.text * 4.0
    # SD1.5's layers are made before its file is read, so both are there.
    return whole + (family.base * 4.0 if family is FAMILIES["sd15"] else 0.0)


def forecast(c: Conditions) -> Forecast:
    """The forecast of a run. Raises KeyError for a family that it does not know."""
    family = sized(c.family, c.inner, c.blocks)
    trained = trained_parameters(c)
    weights = _stored(c, family)
    text = _text(c, family, small=c.text_small)
    if c.resident and not c.text_kept and isinstance(family.shape, Unet):
        text = family.text * 4.0  # cached text encoders of UNets are put away in full precision
    held_text = text if c.text_kept or c.resident else 0.0
    if c.teach_text and not held_text:
        held_text = text - family.text_large * (1 if c.text_small else c.computed)
    vae = family.vae * c.computed
    terms = {
        "Base model": weights,
        "Its working copies": _copies(c, family),
        "Text encoders": held_text,
        "VAE": vae if c.vae_kept or c.resident else 0.0,
        "LoRA": trained * c.adapters,
        "Its gradients": trained * c.adapters,
        "Optimizer": trained * STATE[c.optimizer],
        "Pictures being learned": _activations(c, family)
        + _t5_activations(c)
        + (TEXT_ACTIVATIONS * c.batch * c.computed / 2 if c.teach_text and c.family != "pocket" else 0.0),
        "Attention": _scores(c, family),
    }
    step = sum(terms.values())
    held = weights + terms["Text encoders"] + trained * (c.adapters + STATE[c.optimizer])
    phases = {"Training": step}
    if not c.text_kept and family.text_large and not c.text_before:
        phases[READING] = _text(c, family, small=c.text_read_small)
    if c.family != "pocket":
        phases["Encoding pictures"] = vae + (_coding(c, c.batch) + held if c.vae_kept else _coding(c, 1))
        if c.sampling:
            phases["Drawing samples"] = vae + held + _coding(c, 1)
    if c.resident:
        phases["Loading"] = _loading(c, family)
    elif c.device == "cpu":
        # The file's weights and the model's are both there for a moment.
        phases["Loading"] = 2 * family.base * STORED[c.stored] + text
    if c.whole_first:
        phases["Loading"] = family.base * c.computed
    peak = max(phases.values())
    slack = 1 + (SLACK if c.device == "cuda" else 0.0)
    total = peak * slack + CONTEXT
    reading = phases.get(READING, 0.0)
    low, high = family.band if c.checkpointing else family.band_full
    mapped = text if c.resident and not c.text_kept and family.text_large else 0.0
    return Forecast(
        terms={name: int(size) for name, size in terms.items() if size},
        phases={name: int(size) for name, size in phases.items()},
        allocated=int(peak),
        total=int(total),
        low=int((total - mapped) * (1 - low)),
        high=int(total * (1 + high)),
        known=f"{family.known} {MAPPED}" if mapped else family.known,
        trained=int(trained),
        reading=int(reading * slack + CONTEXT) if reading else 0,
        steps=int(max(size for name, size in phases.items() if name != READING) * slack + CONTEXT),
    )
