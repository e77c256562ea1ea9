"""What ComfyUI says went wrong, in plain words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from studio.errors import EnvironmentalError, InputError, StudioError

_INPUTS = {
    "lora_name": "the LoRA file",
    "ckpt_name": "the checkpoint",
    "unet_name": "the diffusion model",
    "clip_name": "the text encoder",
    "clip_name1": "the first text encoder",
    "clip_name2": "the second text encoder",
    "clip_name3": "the third text encoder",
    "vae_name": "the autoencoder (VAE)",
    "sampler_name": "the sampler",
    "scheduler": "the scheduler",
    "steps": "the number of steps",
    "cfg": "the guidance",
    "seed": "the seed",
    "width": "the width",
    "height": "the height",
    "strength_model": "the weight",
    "strength_clip": "the weight",
}
_FILES = frozenset(
    {"lora_name", "ckpt_name", "unet_name", "vae_name"} | {k for k in _INPUTS if k.startswith("clip_")}
)
_OUT_OF_MEMORY = re.compile(
    r"out of memory|outofmemory|CUDA_ERROR_OUT_OF_MEMORY|not enough memory|alloc\w* .{0,40}fail|DefaultCPUAllocator",
    re.IGNORECASE,
)


class Rejected(InputError):
    """The server refused a graph. missing_lora: it does not see the LoRA file that the graph names."""

    missing_lora = False


class LoraGone(EnvironmentalError):
    """The LoRA file was there when the graph was queued and is not any more: the end of another grid took it away."""


class ServerMemory(EnvironmentalError):
    """The server has not enough memory for the cell."""


def rejected(answer: Any, graph: Mapping[str, Any], server: str) -> Rejected:
    """What a refused graph (HTTP 400, or a 200 with node errors) means, node by node."""
    body = answer if isinstance(answer, dict) else {}
    told = body.get("error")
    error: dict[str, Any] = told if isinstance(told, dict) else {"message": str(told or "")}
    per_node = body.get("node_errors") or {}
    lines: list[str] = []
    missing_lora = False
    for node_id, found in per_node.items() if isinstance(per_node, dict) else ():
        kind = str(found.get("class_type", "?")) if isinstance(found, dict) else "?"
        title = (graph.get(str(node_id), {}).get("_meta") or {}).get("title", "")
        node = f"node {node_id} ({kind}{f', {title!r}' if title else ''})"
        for one in found.get("errors", []) if isinstance(found, dict) else ():
            missing_lora |= _input_of(one) == "lora_name" and one.get("type") == "value_not_in_list"
            lines.append(f"{node}: {_node_error(one)}")
    kind = str(error.get("type", ""))
    if kind == "missing_node_type":
        extra = error.get("extra_info") or {}
        name = extra.get("class_type") or error.get("message", "a node")
        lines.insert(0, f"it has no node of the type {name}; it is too old, or built without it")
    elif kind == "prompt_no_outputs":
        lines.insert(0, "nothing in the graph saves a picture")
    elif not lines:
        lines.append(str(error.get("message") or "it gave no reason"))
    fix = "Update ComfyUI, or choose other settings for the grid."
    if missing_lora:
        fix = "Put the LoRA file into the server's LoRA folder under that very name, then try again."
    elif any("not on the server" in x for x in lines):
        fix = "Put the file on the server, or choose one that is there, then try again."
    problem = Rejected(f"ComfyUI at {server} refused the graph.", f"{'; '.join(dict.fromkeys(lines))}.", fix)
    problem.missing_lora = missing_lora
    return problem


def _input_of(error: Mapping[str, Any]) -> str:
    extra = error.get("extra_info") or {}
    return str(extra.get("input_name", "")) if isinstance(extra, dict) else ""


def _node_error(error: Mapping[str, Any]) -> str:
    kind, name = str(error.get("type", "")), _input_of(error)
    words = _INPUTS.get(name, f"the input '{name}'" if name else "an input")
    extra = error.get("extra_info") or {}
    value = extra.get("received_value") if isinstance(extra, dict) else None
    if kind == "value_not_in_list":
        if name in _FILES:
            return f"{words} '{value}' is not on the server"
        return f"{words} '{value}' is not one that it knows"
    if kind == "required_input_missing":
        return f"{words} is missing"
    if kind == "invalid_input_type":
        return f"{words} is {value!r}, which is not a number it can read"
    if kind in ("value_smaller_than_min", "value_bigger_than_max"):
        return f"{words} is too {'small' if 'smaller' in kind else 'large'}: {error.get('message', '')}"
    if kind == "return_type_mismatch":
        return f"{words} gets something of the wrong kind ({error.get('details', '')})"
    if kind == "exception_during_inner_validation":
        return f"{words} comes from a node that is not there ({error.get('details', '')})"
    told = f"{error.get('message', kind)} {error.get('details', '')}".strip()
    return told.rstrip(".")


def failed(data: Mapping[str, Any], server: str) -> StudioError:
    """What an `execution_error` message means."""
    message = str(data.get("exception_message", "")).strip()
    kind = str(data.get("exception_type", "")).rpartition(".")[2]
    node = str(data.get("node_type", "a node"))
    first = message.splitlines()[0] if message else kind or "it gave no reason"
    if _OUT_OF_MEMORY.search(f"{kind} {message}"):
        return ServerMemory(
            f"ComfyUI at {server} has not enough memory for this picture.",
            f"{node} ran out of it.",
            "Close what else uses its graphics card, start it with --lowvram, or draw a smaller size.",
        )
    if "clip input is invalid: None" in message or "VAE is invalid: None" in message:
        lacks = "text encoder" if "clip" in message else "autoencoder (VAE)"
        return InputError(
            f"The base model's file on ComfyUI at {server} holds no {lacks}.",
            "SD3.5 and FLUX are often handed around without; their text encoders are then files of their own.",
            "Say which files belong to it where the grid is planned, or: lora-studio setup comfyui --model "
            "ID=checkpoint:FILE,clip_l:FILE,clip_g:FILE,t5xxl:FILE.",
        )
    if node == "LoraLoader" and kind == "FileNotFoundError":
        return LoraGone(
            f"ComfyUI at {server} does not have the LoRA file any more.",
            "It was taken away before the picture was drawn.",
            "Try again.",
        )
    if node == "LoraLoader" or "Safetensor" in kind:
        return InputError(
            f"ComfyUI at {server} cannot read a model file.",
            f"{node}: {first}",
            "Copy the file to the server again; it may have been cut off.",
        )
    return StudioError(
        f"ComfyUI at {server} could not draw this picture.",
        f"{node}: {kind}: {first}" if kind and kind not in first else f"{node}: {first}",
        "Its own window shows more. Try again; when it fails once more, update ComfyUI.",
    )
