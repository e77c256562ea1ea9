"""Graphs in ComfyUI's API format, one way of drawing a family each.

A graph draws one or more cells that share a LoRA and a weight: base model -> LoRA -> (clip skip) -> texts -> sampler ->
picture. The numbers per family are those of ComfyUI's own templates; see the comments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from studio import files
from studio.evaluation.spec import Cell, GridSpec
from studio.modelfiles.kinds import look

Graph = dict[str, dict[str, Any]]

CHECKPOINT = "checkpoint"
PARTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "sd15": ((CHECKPOINT,),),
    "sdxl": ((CHECKPOINT,),),
    "sd35": (
        (CHECKPOINT,),
        (CHECKPOINT, "clip_l", "clip_g", "t5xxl"),
        ("diffusion_model", "clip_l", "clip_g", "t5xxl", "vae"),
    ),
    "flux": ((CHECKPOINT,), ("diffusion_model", "clip_l", "t5xxl", "vae")),
}
"""Family -> the ways its files may come: one checkpoint that holds all, one without text encoders (as SD3.5 is published), or
single parts."""

FOLDERS = {
    CHECKPOINT: "checkpoints",
    "diffusion_model": "diffusion_models",
    "clip_l": "text_encoders",
    "clip_g": "text_encoders",
    "t5xxl": "text_encoders",
    "vae": "vae",
}
"""Part -> the model folder of the server that lists it."""

FAMILIES = tuple(PARTS)
PREFIX = "lora-studio"
"""Folder for pictures and LoRA files of the studio, inside the server's own folders."""

# The sampler's name in the spec -> (sampler, scheduler) for noise-predicting models. `dpmpp_2m` runs on Karras' noise levels, as
# the built-in renderer does.
_SAMPLERS = {
    "model": ("euler", "normal"),
    "euler": ("euler", "normal"),
    "ddim": ("ddim", "ddim_uniform"),
    "dpmpp_2m": ("dpmpp_2m", "karras"),
}
# Flow models have noise levels of their own: those of the official templates (SD3.5: sgm_uniform; FLUX: simple).
_FLOW_SCHEDULER = {"sd35": "sgm_uniform", "flux": "simple"}
_SD3_SHIFT = 3.0  # ModelSamplingSD3's value in the SD3.5 template, which is also the models' own
_FLUX_SHIFT = (1.15, 0.5)  # max_shift and base_shift of the FLUX template


@dataclass(frozen=True)
class Made:
    """A graph, and which node saves which cell: node id -> cell hash."""

    graph: Graph
    outputs: dict[str, str]


def sampling(spec: GridSpec) -> tuple[str, str]:
    """ComfyUI's names of the spec's sampler and of the noise levels it runs on."""
    if spec.family in _FLOW_SCHEDULER:
        name = "euler" if spec.sampler in ("model", "ddim") else spec.sampler
        return name, _FLOW_SCHEDULER[spec.family]
    return _SAMPLERS[spec.sampler]


def nodes_needed(spec: GridSpec) -> list[str]:
    """Types of all nodes that the spec's graphs use."""
    probe = [Cell("0" * 16, w, spec.prompts[0], spec.seeds[0], spec.lora_files[0].label) for w in (0.0, 1.0)]
    kinds = {
        n["class_type"]
        for c in probe
        for n in build(spec, [c], spec.drawn_with, "x.safetensors").graph.values()
    }
    return sorted(kinds)


def build(
    spec: GridSpec,
    cells: Sequence[Cell],
    parts: Mapping[str, str],
    lora: str | None,
    *,
    save: Callable[[Cell], str] | None = None,
) -> Made:
    """The graph of cells that share a LoRA and a weight.

    parts: part -> what the server calls that file (see PARTS). lora: the server's name of the LoRA file; not used at weight 0.
    save:  cell -> file name prefix in the server's output folder; None keeps pictures in its temporary folder only.
    """
    if len({(c.weight, c.checkpoint if c.weight else "") for c in cells}) != 1:
        raise ValueError("the cells of a graph share a LoRA and a weight")
    g = _Graph()
    model, clip, vae = _load(g, spec.family, parts)
    weight = cells[0].weight
    if weight:
        loader = g.add(
            "LoraLoader",
            f"LoRA at {weight:g}",
            model=model,
            clip=clip,
            lora_name=lora,
            strength_model=weight,
            strength_clip=weight,
        )
        model, clip = (loader, 0), (loader, 1)
    if spec.clip_skip > 1 and spec.family in ("sd15", "sdxl"):
        # Counted from the end, as in A1111: 2 reads the layer before the last. SDXL reads that one anyway.
        clip = (g.add("CLIPSetLastLayer", "Clip skip", clip=clip, stop_at_clip_layer=-spec.clip_skip), 0)
    zero_snr = _tells_v_prediction(spec)
    if zero_snr is not None:
        told = {"sampling": "v_prediction", "zsnr": zero_snr}
        model = (g.add("ModelSamplingDiscrete", "Predicts v", model=model, **told), 0)
    if spec.family == "sd35":
        model = (g.add("ModelSamplingSD3", "Noise levels", model=model, shift=_SD3_SHIFT), 0)
    elif spec.family == "flux" and not _is_schnell(spec):
        model = (
            g.add(
                "ModelSamplingFlux",
                "Noise levels",
                model=model,
                max_shift=_FLUX_SHIFT[0],
                base_shift=_FLUX_SHIFT[1],
                width=spec.width,
                height=spec.height,
            ),
            0,
        )
    empty = "EmptyLatentImage" if spec.family in ("sd15", "sdxl") else "EmptySD3LatentImage"
    latent = (g.add(empty, "Size", width=spec.width, height=spec.height, batch_size=1), 0)
    sampler, scheduler = sampling(spec)
    unsaid: tuple[str, int] | None = None
    if spec.family != "flux":
        unsaid = (g.add("CLIPTextEncode", "Negative prompt", clip=clip, text=literal(spec.negative)), 0)
    said: dict[str, tuple[tuple[str, int], tuple[str, int]]] = {}
    outputs: dict[str, str] = {}
    for cell in cells:
        text = cell.prompt.text
        if text not in said:
            words = (g.add("CLIPTextEncode", f"Prompt {cell.prompt.id}", clip=clip, text=literal(text)), 0)
            if unsaid is not None:
                said[text] = (words, unsaid)
            else:
                # FLUX dev is distilled: its guidance is told to the model, and there is no second pass to steer away from.
                guided = (g.add("FluxGuidance", "Guidance", conditioning=words, guidance=spec.guidance), 0)
                said[text] = (guided, (g.add("ConditioningZeroOut", "Nothing", conditioning=words), 0))
        positive, negative = said[text]
        drawn = g.add(
            "KSampler",
            f"{cell.prompt.id}, seed {cell.seed}",
            model=model,
            positive=positive,
            negative=negative,
            latent_image=latent,
            seed=cell.seed,
            steps=spec.steps,
            cfg=1.0 if spec.family == "flux" else spec.guidance,
            sampler_name=sampler,
            scheduler=scheduler,
            denoise=1.0,
        )
        picture = (g.add("VAEDecode", "Picture", samples=(drawn, 0), vae=vae), 0)
        if save is None:
            node = g.add("PreviewImage", "Show", images=picture)
        else:
            node = g.add("SaveImage", "Save", images=picture, filename_prefix=save(cell))
        outputs[node] = cell.hash
    return Made(g.nodes, outputs)


def _tells_v_prediction(spec: GridSpec) -> bool | None:
    """Whether a v-predicting base model was trained with zero terminal SNR; None when the server has to find out by itself.

    ComfyUI takes a file for v-predicting only when it holds an empty tensor `v_pred` (SDXL), and never one of SD1.5; drawn as
    a noise-predicting one it gives noise. One that is not on this computer is left to the server, since whether it has zero
    terminal SNR is not known here.
    """
    if spec.prediction != "v_prediction" or spec.family not in ("sd15", "sdxl"):
        return None
    place = spec.base_path
    if place.is_file():
        return look(place).zero_snr
    config = files.read_json(place / "scheduler" / "scheduler_config.json")
    return bool(config.get("rescale_betas_zero_snr")) if isinstance(config, dict) else None


def _is_schnell(spec: GridSpec) -> bool:
    """Whether the base model is FLUX.1 schnell, whose noise levels are the same for every size."""
    return spec.base_path.is_file() and look(spec.base_path).family == "flux-schnell"


def literal(text: str) -> str:
    """A prompt as the LoRA's captions mean it: parentheses are part of it. ComfyUI would read them as emphasis."""
    return re.sub(r"(?<!\\)([()])", r"\\\1", text)


class _Graph:
    def __init__(self) -> None:
        self.nodes: Graph = {}

    def add(self, class_type: str, title: str, **inputs: Any) -> str:
        name = str(len(self.nodes) + 1)
        told = {k: list(v) if isinstance(v, tuple) else v for k, v in inputs.items()}
        self.nodes[name] = {"class_type": class_type, "inputs": told, "_meta": {"title": title}}
        return name


def _load(
    g: _Graph, family: str, parts: Mapping[str, str]
) -> tuple[tuple[str, int], tuple[str, int], tuple[str, int]]:
    if CHECKPOINT in parts or "diffusion_model" not in parts:
        name = parts.get(CHECKPOINT, "model.safetensors")
        node = g.add("CheckpointLoaderSimple", "Base model", ckpt_name=name)
        if "t5xxl" not in parts:
            return (node, 0), (node, 1), (node, 2)
        return (node, 0), _text(g, family, parts), (node, 2)
    model = g.add("UNETLoader", "Base model", unet_name=parts["diffusion_model"], weight_dtype="default")
    clip = _text(g, family, parts)
    vae = g.add("VAELoader", "Autoencoder", vae_name=parts["vae"])
    return (model, 0), clip, (vae, 0)


def _text(g: _Graph, family: str, parts: Mapping[str, str]) -> tuple[str, int]:
    if family == "flux":
        names = {"clip_name1": parts["clip_l"], "clip_name2": parts["t5xxl"], "type": "flux"}
        return (g.add("DualCLIPLoader", "Text", **names), 0)
    three = {f"clip_name{i}": parts[p] for i, p in enumerate(("clip_l", "clip_g", "t5xxl"), 1)}
    return (g.add("TripleCLIPLoader", "Text", **three), 0)
