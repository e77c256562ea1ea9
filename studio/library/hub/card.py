"""The model card: what the hub shows of a LoRA, from what the library knows."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from studio.library.entry import LibraryEntry
from studio.library.hub.licences import Licence
from studio.models import BaseModelEntry

_PIPELINES = {
    "sd15": "StableDiffusionPipeline",
    "sdxl": "StableDiffusionXLPipeline",
    "sd35": "StableDiffusion3Pipeline",
    "flux": "FluxPipeline",
}
_TAGS = {"sd15": "stable-diffusion", "sdxl": "stable-diffusion-xl", "sd35": "sd3.5", "flux": "flux"}


@dataclass(frozen=True)
class Shown:
    """A picture on the card. path: in the repository; prompt: what drew it."""

    path: str
    prompt: str


def base_repo(model: BaseModelEntry | None) -> str:
    """Where the base model lies on the hub ("owner/name"); "" when that is not known."""
    if model is None:
        return ""
    if model.files:
        return model.files[0].repo
    told = model.source.partition(",")[0].strip()
    return told if re.fullmatch(r"[\w.-]+/[\w.-]+", told) else ""


def card_text(
    entry: LibraryEntry,
    model: BaseModelEntry | None,
    licence: Licence,
    repo: str,
    file: str,
    shown: Sequence[Shown],
) -> str:
    """The card as Markdown with its YAML head (keys as the hub documents them for LoRAs)."""
    base = base_repo(model)
    head: dict[str, object] = {**licence.fields(), "pipeline_tag": "text-to-image"}
    if base:
        head |= {"base_model": base, "base_model_relation": "adapter"}
    if entry.family in _PIPELINES:
        head["library_name"] = "diffusers"
    family = [_TAGS[entry.family]] if entry.family in _TAGS else []
    head["tags"] = ["lora", "text-to-image", "template:sd-lora", *family]
    if entry.trigger:
        head["instance_prompt"] = entry.trigger
    if shown:
        head["widget"] = [{"text": s.prompt or "-", "output": {"url": s.path}} for s in shown]
    lines = ["---", yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=1000).rstrip(), "---", ""]
    lines += [f"# {_line(entry.title)}", ""]
    lines += ["<Gallery />", ""] if shown else []
    if entry.good_for:
        lines += [f"{_line(entry.good_for)}", ""]
    if entry.trigger:
        lines += ["## Trigger words", "", f"Use `{entry.trigger.replace('`', '')}` in the prompt.", ""]
    lines += ["## Weight", "", f"Recommended: {entry.weight_words}.", ""]
    lines += _use(entry, base, repo, file)
    lines += _training(entry, base)
    lines += [
        "## Licence",
        "",
        f"{_line(licence.words)}" + (f", as the base model {base}." if base else "."),
        "",
    ]
    return "\n".join(lines)


def _use(entry: LibraryEntry, base: str, repo: str, file: str) -> list[str]:
    pipeline = _PIPELINES.get(entry.family)
    if not pipeline or not base:
        return (
            []
            if not entry.only_here
            else ["## Use", "", "It belongs to the model that comes with LoRA Studio.", ""]
        )
    half = "torch.float16" if entry.family in ("sd15", "sdxl") else "torch.bfloat16"
    prompt = (entry.trigger or entry.good_for or "a picture").replace('"', "'").replace("\\", "")
    code = f"""```python
import torch
from diffusers import {pipeline}

pipe = {pipeline}.from_pretrained("{base}", torch_dtype={half}).to("cuda")
pipe.load_lora_weights("{repo}", weight_name="{file}", adapter_name="lora")
pipe.set_adapters("lora", {entry.weight:g})
image = pipe("{prompt}").images[0]
```"""
    return [
        "## Use",
        "",
        f"ComfyUI, A1111 and Forge: put `{file}` into their folder for LoRAs.",
        "",
        "diffusers:",
        "",
        code,
        "",
    ]


def _training(entry: LibraryEntry, base: str) -> list[str]:
    labels = {"steps": "Steps", "epochs": "Epochs", "rank": "Rank", "alpha": "Alpha", "learning_rate": "Learning rate",
              "optimizer": "Optimizer", "pictures": "Pictures, repeats counted"}  # fmt: skip
    rows = [("Base model", base or entry.base_title)]
    rows += [
        (label, entry.params[key]) for key, label in labels.items() if entry.params.get(key) not in (None, "")
    ]
    if entry.trained and "dates" not in entry.left_out:
        rows.append(("Trained", entry.trained[:10]))
    table = [f"| {label} | {_cell(value)} |" for label, value in rows]
    evaluated = ["", f"Evaluated on a grid of weights: {_line(entry.verdict)}"] if entry.verdict else []
    return ["## Training", "", "| | |", "|---|---|", *table, *evaluated, ""]


def _cell(value: object) -> str:
    return _line(str(value)).replace("|", "\\|")


def _line(text: str) -> str:
    """Text on one line that cannot open a tag or a heading on the card."""
    return re.sub(r"([<>`*_\[\]#])", r"\\\1", " ".join(text.split()))
