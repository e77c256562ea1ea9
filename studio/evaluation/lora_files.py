"""Whether a LoRA file can be drawn: it is one, it is for the grid's family, and the renderer knows its kind."""

from __future__ import annotations

from pathlib import Path

from studio.errors import InputError
from studio.findings import Finding
from studio.lora.info import LoraInfo, describe
from studio.lora.names import split
from studio.models import tensor_header

_FAMILIES = {"sd3": "sd35"}  # the name that files give themselves -> the studio's
FAMILY_WORDS = {"pocket": "the built-in model", "sd15": "SD1.5", "sd2": "SD2", "sdxl": "SDXL", "sd35": "SD3.5", "flux": "FLUX"}  # fmt: skip
_PLAIN = frozenset({"down", "up", "alpha"})


def problem(path: Path, family: str, *, plain: bool) -> InputError | None:
    """What is wrong with a LoRA file for a grid of `family`, from its header; None when nothing is.

    plain: whether only plain LoRA and LoCon layers can be drawn. A file that would be drawn in part only counts as wrong: its
    pictures would be those of another LoRA.
    """
    try:
        info = describe(path)
    except InputError as e:
        return e
    own = _FAMILIES.get(info.family, info.family)
    if own and own != family:
        return InputError(
            f"{path.name} is for {FAMILY_WORDS.get(own, own)}, and the base model is {FAMILY_WORDS.get(family, family)}.",
            "Layers of one kind of model have no place in another: it would change nothing, or only a part.",
            "Choose the base model that it was trained on, or another file.",
        )
    return _not_plain(path, info) if plain else None


def _not_plain(path: Path, info: LoraInfo) -> InputError | None:
    fix = "Draw the grid with ComfyUI, which reads it, or turn it into a plain LoRA first: lora-studio lora resize FILE."
    odd = {k: n for k, n in info.kinds.items() if k not in ("LoRA", "LoCon")}
    if odd or info.dora:
        words = ", ".join(f"{n} layers of {k}" for k, n in {**odd, **({"DoRA": info.dora} if info.dora else {})}.items())  # fmt: skip
        return InputError(
            f"{path.name} is a kind of LoRA that the built-in renderer does not draw: {info.kind}.",
            f"It holds {words}; left out, the pictures would be those of another LoRA.",
            fix,
        )
    rest = sorted(n for n in tensor_header(path) if n != "__metadata__" and split(n)[1] not in _PLAIN)
    if rest:
        tucker = all(split(n)[1] == "mid" for n in rest)
        return InputError(
            f"{path.name} holds more than the built-in renderer draws.",
            f"{len(rest)} tensors are {'cores of Tucker layers' if tucker else 'of no plain LoRA layer'}, such as {rest[0]}.",
            fix,
        )
    return None


def findings(paths: list[Path], family: str, *, plain: bool) -> list[Finding]:
    """A blocking finding for each file with a `problem`."""
    found = []
    for path in paths:
        e = problem(path, family, plain=plain)
        if e is not None:
            found.append(Finding(severity="block", code="lora-unreadable", what=e.what, why=e.why, fix=e.fix,
                                 where=(str(path),)))  # fmt: skip
    return found
