"""Whether a file is what it should be, before anything is started with it: the family, the prediction, all its parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from studio.errors import InputError, StudioError
from studio.findings import Finding
from studio.modelfiles.kinds import PART_WORDS, WORDS, Kind, Look, Prediction, look

__all__ = ["TRAINABLE", "Kind", "Look", "base_model", "mismatch", "part_mismatch"]

TRAINABLE: dict[str, str] = {
    "sd15": "sd15",
    "sdxl": "sdxl",
    "sd35": "sd35",
    "flux": "flux",
    "flux-schnell": "flux",
}
"""Family as it is found -> family of the studio; the others cannot be trained here."""
PARTS: dict[str, tuple[str, ...]] = {"sd35": ("clip_l", "clip_g", "t5xxl"), "flux": ("clip_l", "t5xxl", "ae")}
"""Files that a model of a family needs beside its own."""
_OLD = {"text_encoder": ("sd15", "sdxl"), "text_encoder_2": ("sdxl",), "unet": ("sd15", "sdxl")}


def base_model(path: Path) -> Look:
    """What the base model at `path` is: a .safetensors file, or a folder in diffusers' layout.

    Raises InputError when it is no base model, or one that cannot be trained here; nothing is loaded.
    """
    found = _folder(path) if path.is_dir() else look(path)
    if found.kind != "base":
        raise _no_base(path, found)
    if found.family not in TRAINABLE:
        raise InputError(
            f"{path.name} is {WORDS.get(found.family, WORDS[''])}, of a kind that cannot be trained here.",
            "Its tensors are named unlike those of the families that the studio knows.",
            "Choose an SD1.5, SDXL, SD3.5 Large or FLUX.1 dev model.",
        )
    if found.inpainting:
        raise InputError(
            f"{path.name} is a model for inpainting, which cannot be trained here.",
            "It takes a mask and a picture beside the noise, and training would give it neither.",
            "Choose the ordinary version of the model.",
        )
    if found.quantised:
        raise InputError(
            f"{path.name} was made small for drawing, so it cannot be trained.",
            "Its numbers are packed (NF4 or scaled fp8), which the trainers cannot unpack.",
            "Choose the version in fp16 or bf16.",
        )
    return found


def _no_base(path: Path, found: Look) -> InputError:
    fix = {
        "lora": "Choose the base model that it was made for.",
        "text-encoder": "Choose the file of the model itself; this one is a part that goes beside it.",
        "vae": "Choose the file of the model itself; this one is a part that goes beside it.",
        "unet": "Choose the full checkpoint, which holds the text encoder and the VAE as well.",
    }.get(found.kind, "Choose an SD1.5, SDXL, SD3.5 Large or FLUX.1 dev model.")
    if found.kind == "other":
        return InputError(
            f"{path.name} is of a kind that cannot be trained here.",
            "Its tensors are named like those of no model that the studio knows.",
            fix,
        )
    made_for = WORDS.get(found.family, "") if found.kind == "lora" and found.family else ""
    why = {
        "lora": f"It holds only small changes{f' to {made_for}' if made_for else ' to a base model'}.",
        "text-encoder": "It reads captions; it draws nothing.",
        "vae": "It turns pictures into latents and back; it draws nothing.",
        "unet": "The text encoders are missing, without which no caption can be read.",
        "controlnet": "It steers a base model; it draws nothing by itself.",
        "embedding": "It holds one word for a text encoder.",
    }[found.kind]
    return InputError(f"{path.name} is {found.words}, not a base model.", why, fix)


def mismatch(path: Path, family: str, prediction: str, title: str = "") -> list[Finding]:
    """What is wrong with the file at `path` as a base model of a family, without raising; [] when it fits.

    family: a family of the studio; prediction: what the settings will tell the trainer. For gates: whatever this finds would
    otherwise end the run minutes later, or train on the wrong noise without a word.
    """
    name = title or path.name
    try:
        found = base_model(path)
    except StudioError as e:
        return [_block("model-file", e.what, e.why, e.fix)]
    told = []
    if TRAINABLE[found.family] != family:
        told.append(
            _block(
                "model-family",
                f"{name} is listed as {_family_words(family)}, but its file is {found.words}.",
                "The script of the other family would stop, or train something that no program can use.",
                "Take it off the list and add the file again: its family is read from the file.",
            )
        )
    elif found.sure and family in ("sd15", "sdxl") and found.prediction != prediction:
        told.append(
            _block(
                "model-prediction",
                f"{name} is listed with {_prediction_words(prediction)}, but its file says {_prediction_words(found.prediction)}.",
                "Trained the wrong way, the LoRA turns every picture to noise.",
                "Take it off the list and add the file again.",
            )
        )
    elif not found.sure and prediction == "epsilon" and _says_v(path.name):
        told.append(
            Finding(
                severity="warn",
                code="model-prediction-unsure",
                what=f"The name of {path.name} says v-prediction; the file itself does not.",
                why="It will be trained as a model that predicts noise (epsilon). If that is wrong, the LoRA turns pictures to noise.",
                fix="Look at the page you got it from; add it again with v-prediction if that is said there.",
                where=(path.name,),
            )
        )
    if found.family == "flux-schnell":
        told.append(
            Finding(
                severity="warn",
                code="model-schnell",
                what=f"{name} is FLUX.1 schnell.",
                why="It was distilled to draw in four steps, and training undoes that.",
                fix="Train on FLUX.1 dev; its LoRAs work on schnell too.",
                where=(path.name,),
            )
        )
    return told


def part_mismatch(path: Path, part: str, title: str) -> list[Finding]:
    """What is wrong with the file at `path` as a part (`clip_l`, `t5xxl`, `ae` ...) of the model `title`; [] when it fits."""
    try:
        found = look(path)
    except StudioError as e:
        return [_block("model-part", e.what, e.why, e.fix)]
    if found.part == part:
        return []
    return [
        _block(
            "model-part",
            f"{path.name} is {found.words}, not {PART_WORDS[part]}.",
            f"{title} needs {PART_WORDS[part]} in a file beside its own.",
            "Choose the right file, or download it on the Set-up page.",
        )
    ]


def _says_v(name: str) -> bool:
    plain = name.lower().replace("-", "").replace("_", "")
    return "vpred" in plain or "vprediction" in plain


def _prediction_words(prediction: str) -> str:
    return {"v_prediction": "v-prediction", "flow": "rectified flow"}.get(prediction, "noise prediction (epsilon)")  # fmt: skip


def _family_words(family: str) -> str:
    return WORDS.get(family, f"a model of the family {family}")


def _block(code: str, what: str, why: str, fix: str) -> Finding:
    return Finding(severity="block", code=code, what=what, why=why, fix=fix)


# --- Folders in diffusers' layout


def _json(path: Path) -> dict[str, Any]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as e:
        raise InputError(
            f"{path.parent.name}/{path.name} cannot be read.",
            f"{e} ({path})",
            "Get the folder again; one of its files is damaged.",
        ) from e
    return raw if isinstance(raw, dict) else {}


def _folder(path: Path) -> Look:
    if not (path / "model_index.json").is_file():
        raise InputError(
            f"{path.name} is not a base model.",
            "The folder holds no model_index.json, so it is no diffusers model.",
            "Choose the folder that holds model_index.json, unet and text_encoder; or a .safetensors file.",
        )
    index, unet = _json(path / "model_index.json"), _json(path / "unet" / "config.json")
    scheduler = _json(path / "scheduler" / "scheduler_config.json")
    pipeline = str(index.get("_class_name", ""))
    told = str(scheduler.get("prediction_type", ""))
    prediction: Prediction = "v_prediction" if told == "v_prediction" else "epsilon"
    if pipeline.startswith(("Flux", "StableDiffusion3")):
        raise InputError(
            f"{path.name} is a folder in diffusers' layout, and for this family one file is needed.",
            "kohya's scripts for FLUX and SD3.5 read the single .safetensors file of the model and of each text encoder.",
            "Choose the single file instead, such as flux1-dev.safetensors or sd3.5_large.safetensors.",
        )
    width = unet.get("cross_attention_dim")
    family = {768: "sd15", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}.get(
        width if isinstance(width, int) else 0, ""
    )
    if family in ("sd15", "sdxl"):
        _weights(path, family)
        return Look("base", family, "", prediction, bool(told), has_text=True, has_vae=True,
                    zero_snr=bool(scheduler.get("rescale_betas_zero_snr")), inpainting=unet.get("in_channels") in (8, 9))  # fmt: skip
    raise InputError(
        f"{path.name} is of a kind that cannot be trained here.",
        f"Its text width is {width}; SD1.5 has 768, SDXL 2048.",
        "Choose an SD1.5 or SDXL model.",
    )


def _weights(path: Path, family: str) -> None:
    """Refuse folders whose weights are pickles, or whose safetensors are not whole."""
    for part, families in _OLD.items():
        if family not in families or not (path / part).is_dir():
            continue
        safe = sorted((path / part).glob("*.safetensors"))
        if not safe and any((path / part).glob("*.bin")):
            raise InputError(
                f"{path.name} holds its weights as pickle files (.bin).",
                "Such files can run any program when they are loaded, so the studio never opens them.",
                "Get the version of the model with .safetensors files.",
            )
        for file in safe:
            look(file)
