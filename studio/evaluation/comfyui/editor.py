"""A graph in API format -> the format that ComfyUI's editor opens and saves: places on the canvas, links, widget values."""

from __future__ import annotations

import uuid
from typing import Any

from studio.evaluation.comfyui.graphs import Graph

# What the editor must know of each node that the graphs use: inputs that are linked (name -> type), widgets in the order of the
# node's own definition, outputs. From /object_info of ComfyUI 0.27.
_LINKED: dict[str, dict[str, str]] = {
    "CheckpointLoaderSimple": {},
    "UNETLoader": {},
    "DualCLIPLoader": {},
    "TripleCLIPLoader": {},
    "VAELoader": {},
    "LoraLoader": {"model": "MODEL", "clip": "CLIP"},
    "CLIPSetLastLayer": {"clip": "CLIP"},
    "CLIPTextEncode": {"clip": "CLIP"},
    "FluxGuidance": {"conditioning": "CONDITIONING"},
    "ConditioningZeroOut": {"conditioning": "CONDITIONING"},
    "ModelSamplingDiscrete": {"model": "MODEL"},
    "ModelSamplingSD3": {"model": "MODEL"},
    "ModelSamplingFlux": {"model": "MODEL"},
    "EmptyLatentImage": {},
    "EmptySD3LatentImage": {},
    "KSampler": {
        "model": "MODEL",
        "positive": "CONDITIONING",
        "negative": "CONDITIONING",
        "latent_image": "LATENT",
    },
    "VAEDecode": {"samples": "LATENT", "vae": "VAE"},
    "SaveImage": {"images": "IMAGE"},
    "PreviewImage": {"images": "IMAGE"},
}
_WIDGETS: dict[str, tuple[str, ...]] = {
    "CheckpointLoaderSimple": ("ckpt_name",),
    "UNETLoader": ("unet_name", "weight_dtype"),
    "DualCLIPLoader": ("clip_name1", "clip_name2", "type", "device"),
    "TripleCLIPLoader": ("clip_name1", "clip_name2", "clip_name3"),
    "VAELoader": ("vae_name",),
    "LoraLoader": ("lora_name", "strength_model", "strength_clip"),
    "CLIPSetLastLayer": ("stop_at_clip_layer",),
    "CLIPTextEncode": ("text",),
    "FluxGuidance": ("guidance",),
    "ModelSamplingDiscrete": ("sampling", "zsnr"),
    "ModelSamplingSD3": ("shift",),
    "ModelSamplingFlux": ("max_shift", "base_shift", "width", "height"),
    "EmptyLatentImage": ("width", "height", "batch_size"),
    "EmptySD3LatentImage": ("width", "height", "batch_size"),
    # The editor puts a choice of its own behind a seed: what becomes of it after each run.
    "KSampler": ("seed", "*after", "steps", "cfg", "sampler_name", "scheduler", "denoise"),
    "SaveImage": ("filename_prefix",),
}
_FIXED = {"*after": "fixed", "device": "default"}
_OUTPUTS: dict[str, tuple[str, ...]] = {
    "CheckpointLoaderSimple": ("MODEL", "CLIP", "VAE"),
    "UNETLoader": ("MODEL",),
    "DualCLIPLoader": ("CLIP",),
    "TripleCLIPLoader": ("CLIP",),
    "VAELoader": ("VAE",),
    "LoraLoader": ("MODEL", "CLIP"),
    "CLIPSetLastLayer": ("CLIP",),
    "CLIPTextEncode": ("CONDITIONING",),
    "FluxGuidance": ("CONDITIONING",),
    "ConditioningZeroOut": ("CONDITIONING",),
    "ModelSamplingDiscrete": ("MODEL",),
    "ModelSamplingSD3": ("MODEL",),
    "ModelSamplingFlux": ("MODEL",),
    "EmptyLatentImage": ("LATENT",),
    "EmptySD3LatentImage": ("LATENT",),
    "KSampler": ("LATENT",),
    "VAEDecode": ("IMAGE",),
    "SaveImage": ("IMAGE",),
    "PreviewImage": ("IMAGE",),
}
_SIZE = (320, 130)
_HEIGHTS = {"KSampler": 262, "SaveImage": 320, "PreviewImage": 320, "CLIPTextEncode": 180}
_GAP = (60, 50)


def workflow(graph: Graph) -> dict[str, Any]:
    """The graph as a workflow of the editor (version 0.4). Raises KeyError for a node type that is not one of the studio's."""
    depth = _depths(graph)
    links: list[list[Any]] = []
    outgoing: dict[str, dict[int, list[int]]] = {}
    incoming: dict[tuple[str, str], int] = {}
    for name, node in graph.items():
        for slot, (key, kind) in enumerate(_LINKED[node["class_type"]].items()):
            source, output = node["inputs"][key]
            link = len(links) + 1
            links.append([link, int(source), output, int(name), slot, kind])
            outgoing.setdefault(source, {}).setdefault(output, []).append(link)
            incoming[name, key] = link
    bottom: dict[int, int] = {}
    nodes = []
    for order, name in enumerate(sorted(graph, key=lambda n: (depth[n], int(n)))):
        node, kind = graph[name], graph[name]["class_type"]
        height = _HEIGHTS.get(kind, _SIZE[1])
        top = bottom.get(depth[name], 0)
        bottom[depth[name]] = top + height + _GAP[1]
        nodes.append(
            {
                "id": int(name),
                "type": kind,
                "pos": [depth[name] * (_SIZE[0] + _GAP[0]), top],
                "size": [_SIZE[0], height],
                "flags": {},
                "order": order,
                "mode": 0,
                "title": node.get("_meta", {}).get("title", kind),
                "inputs": [
                    {"name": key, "type": type_, "link": incoming[name, key]}
                    for key, type_ in _LINKED[kind].items()
                ],
                "outputs": [
                    {"name": o, "type": o, "links": outgoing.get(name, {}).get(i, []), "slot_index": i}
                    for i, o in enumerate(_OUTPUTS[kind])
                ],
                "properties": {"Node name for S&R": kind},
                "widgets_values": [node["inputs"].get(w, _FIXED.get(w)) for w in _WIDGETS.get(kind, ())],
            }
        )
    return {
        "id": str(uuid.uuid4()),
        "revision": 0,
        "last_node_id": max(int(n) for n in graph),
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def _depths(graph: Graph) -> dict[str, int]:
    """How many nodes stand before each one, at most. Nodes only link to earlier ones."""
    depth: dict[str, int] = {}
    for name, node in graph.items():
        before = [node["inputs"][k][0] for k in _LINKED[node["class_type"]]]
        depth[name] = 1 + max((depth[b] for b in before), default=-1)
    return depth
