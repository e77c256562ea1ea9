"""How the stand-in for ComfyUI reads a graph: what it refuses, with the words of recorded answers of 0.27."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

NODES = (
    "CheckpointLoaderSimple", "UNETLoader", "DualCLIPLoader", "TripleCLIPLoader", "VAELoader", "LoraLoader", "CLIPSetLastLayer",
    "CLIPTextEncode", "FluxGuidance", "ConditioningZeroOut", "ModelSamplingDiscrete", "ModelSamplingSD3", "ModelSamplingFlux",
    "EmptyLatentImage", "EmptySD3LatentImage", "KSampler", "VAEDecode", "SaveImage", "PreviewImage",
)  # fmt: skip
SAVING = ("SaveImage", "PreviewImage")
_SAMPLERS = ["euler", "ddim", "dpmpp_2m"]
_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_INTEGERS, _NUMBERS = ("steps", "seed", "width", "height"), ("cfg", "strength_model", "strength_clip")

Answer = tuple[int, Any]


def refusal(kind: str, message: str, details: str = "", **extra: Any) -> Answer:
    """A 400 for a graph as a whole."""
    told = {"type": kind, "message": message, "details": details, "extra_info": extra}
    return 400, {"error": told, "node_errors": {}}


def refused(body: Mapping[str, Any], nodes: Collection[str], files: Mapping[str, list[str]]) -> Answer | None:
    """The 400 for what was posted to /prompt; None when some of its outputs can be drawn.

    nodes: types that are known; files: input -> file names that it may have.
    """
    graph = body.get("prompt")
    if body.get("prompt_id") is not None and not _UUID.fullmatch(str(body["prompt_id"])):
        told = "prompt_id must be a UUID string in canonical lowercase hyphenated form; omit it to let the server choose one"
        return refusal("invalid_prompt_id", "prompt_id must be a valid UUID", told)
    if graph is None:
        return refusal("no_prompt", "No prompt provided", "No prompt provided")
    for node, one in graph.items():
        if one["class_type"] not in nodes:
            told = f"Node '{one['class_type']}' not found. The custom node may not be installed."
            extra = {"node_id": node, "class_type": one["class_type"], "node_title": one["class_type"]}
            return refusal("missing_node_type", told, f"Node ID '#{node}'", **extra)
    outputs = [n for n, one in graph.items() if one["class_type"] in SAVING]
    if not outputs:
        return refusal("prompt_no_outputs", "Prompt has no outputs")
    errors = node_errors(graph, files)
    broken = {n for e in errors.values() for n in e["dependent_outputs"]}
    if set(outputs) - broken:
        return None
    status, answer = refusal("prompt_outputs_failed_validation", "Prompt outputs failed validation")
    return status, {**answer, "node_errors": errors}


def node_errors(graph: Mapping[str, Any], files: Mapping[str, list[str]]) -> dict[str, Any]:
    """Node -> what is wrong with it; only of nodes that an output needs."""
    found: dict[str, Any] = {}
    for output, body in graph.items():
        if body["class_type"] not in SAVING:
            continue
        for node in needed(graph, output):
            wrong = _wrong(graph[node], files)
            if wrong:
                told = {"errors": wrong, "dependent_outputs": [], "class_type": graph[node]["class_type"]}
                found.setdefault(node, told)["dependent_outputs"].append(output)
    return found


def needed(graph: Mapping[str, Any], output: str) -> list[str]:
    """The nodes that an output is made of, itself included, the first ones first."""
    order: list[str] = []

    def visit(node: str) -> None:
        if node in order or node not in graph:
            return
        for value in graph[node]["inputs"].values():
            if isinstance(value, list):
                visit(str(value[0]))
        order.append(node)

    visit(output)
    return order


def _error(kind: str, message: str, details: str, name: str, **more: Any) -> dict[str, Any]:
    return {"type": kind, "message": message, "details": details, "extra_info": {"input_name": name, **more}}


def _wrong(node: Mapping[str, Any], files: Mapping[str, list[str]]) -> list[dict[str, Any]]:
    inputs, found = node["inputs"], []
    lists = {**files, "sampler_name": _SAMPLERS}
    for name, value in inputs.items():
        told = {"input_config": [lists.get(name, "INT"), {}], "received_value": value}
        if name in lists and value not in lists[name]:
            found.append(
                _error(
                    "value_not_in_list",
                    "Value not in list",
                    f"{name}: '{value}' not in {lists[name]}",
                    name,
                    **told,
                )
            )
        elif name in (*_NUMBERS, *_INTEGERS):
            kind, convert = ("FLOAT", float) if name in _NUMBERS else ("INT", int)
            try:
                convert(value)
            except (TypeError, ValueError) as e:
                message = f"Failed to convert an input value to a {kind} value"
                found.append(
                    _error(
                        "invalid_input_type",
                        message,
                        f"{name}, {value}, {e}",
                        name,
                        **told,
                        exception_message=str(e),
                    )
                )
                continue
            if name == "steps" and value < 1:
                found.append(
                    _error(
                        "value_smaller_than_min", f"Value {value} smaller than min of 1", name, name, **told
                    )
                )
    required = {"KSampler": "seed", "SaveImage": "images", "PreviewImage": "images"}.get(node["class_type"])
    if required and required not in inputs:
        found.append(_error("required_input_missing", "Required input is missing", required, required))
    return found


def unreadable_lora(graph: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    """What the server says when it comes to a LoRA file that is not one; None when all can be read."""
    for node, body in graph.items():
        if body["class_type"] != "LoraLoader":
            continue
        name = body["inputs"]["lora_name"]
        kind, told = (
            "safetensors._safetensors_rust.SafetensorError",
            "Error while deserializing header: header too large\n",
        )
        try:
            start = (folder / name).read_bytes()[:9]
        except FileNotFoundError:
            start, kind = b"", "FileNotFoundError"
            told = f"Model in folder 'loras' with filename '{name}' not found."
        if len(start) < 9 or start[8:] != b"{":
            return {
                "node_id": node, "node_type": "LoraLoader", "executed": [],
                "exception_type": kind,
                "exception_message": told,
                "traceback": [], "current_inputs": {}, "current_outputs": [],
            }  # fmt: skip
    return None
