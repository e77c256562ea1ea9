"""Which prompts a grid draws: a standard set for the project's kind, a training caption, the trigger word alone, and
one prompt without it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio import files
from studio.errors import InputError
from studio.evaluation.spec import FAMILY_WORDS, GridPrompt
from studio.project import Project
from studio.workspace import shipped

PICTURE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic"}
)


@dataclass(frozen=True)
class PromptSet:
    """A file of `data/prompts/`.

    pick:     how many of its prompts with the trigger word a default grid takes.
    negative: what to keep out, for base models that listen to it.
    entries:  the prompts as written, `{trigger}` not yet filled in.
    """

    id: str
    title: str
    negative: str
    pick: int
    entries: tuple[dict[str, Any], ...]


def prompt_set(kind: str, family: str) -> PromptSet:
    """The set for a kind of project and a base model family."""
    name = "pocket" if family == "pocket" else kind
    raw = files.read_yaml(shipped("data", "prompts", f"{name}.yaml"))
    entries = raw[kind] if name == "pocket" else raw["prompts"]
    return PromptSet(raw["id"], raw["title"], str(raw.get("negative", "")), int(raw["pick"]), tuple(entries))


def training_pictures(project: Project) -> list[Path]:
    """The dataset's pictures by name."""
    if not project.dataset_dir.is_dir():
        return []
    found = (p for p in project.dataset_dir.iterdir() if not p.name.startswith("."))
    return sorted(p for p in found if p.suffix.lower() in PICTURE_SUFFIXES and p.is_file())


def training_captions(project: Project) -> list[str]:
    """The captions beside the dataset's pictures, by picture name; empty ones left out."""
    texts = []
    for picture in training_pictures(project):
        path = picture.with_suffix(".txt")
        if path.is_file():
            text = " ".join(path.read_text(encoding="utf-8", errors="replace").split())
            if text:
                texts.append(text)
    return texts


def without_trigger(text: str, trigger: str) -> str:
    """The prompt with the trigger word and the comma after it taken out."""
    if not trigger:
        return text
    left = text.replace(trigger, "")
    parts = [" ".join(p.split()) for p in left.split(",")]
    return ", ".join(p for p in parts if p)


CHOOSABLE = ("standard", "scene", "caption", "trigger", "no_trigger")
"""Families that a grid can be asked for by name; the user's own prompts come beside them."""


def family_prompts(
    project: Project, family: str, caption_style: str, families: Collection[str]
) -> list[GridPrompt]:
    """All prompts of some families, in a fixed order: standard, scene, caption, trigger, no_trigger.

    Raises InputError naming families that do not exist, and when the chosen ones hold nothing here (such as captions of a
    project without pictures).
    """
    unknown = [f for f in families if f not in CHOOSABLE]
    if unknown:
        raise InputError(
            f"There are no prompts of the kind '{unknown[0]}'.",
            "Prompts are grouped by the question they answer.",
            f"Use one of: {', '.join(CHOOSABLE)}.",
        )
    trigger = project.intent.trigger
    chosen = prompt_set(project.intent.kind, family)
    captions = [c for c in training_captions(project) if c != trigger]
    found: list[GridPrompt] = []

    def add(id: str, text: str, kind: str, pair: str = "") -> None:
        if text and text not in {p.text for p in found}:
            found.append(GridPrompt.model_validate({"id": id, "text": text, "family": kind, "pair": pair}))

    for kind in ("standard", "scene"):
        for entry in chosen.entries if kind in families else ():
            if entry["family"] == kind:
                add(str(entry["id"]), _filled(entry, trigger, caption_style), kind)
    if "caption" in families and captions:
        for n, place in enumerate(
            sorted({len(captions) // 2, 0, len(captions) - 1}, key=lambda i: abs(i - len(captions) // 2))[:2]
        ):
            add("caption" if n == 0 else f"caption-{n + 1}", captions[place], "caption")
    if "trigger" in families and trigger:
        add("trigger", trigger, "trigger")
    if "no_trigger" in families:
        for entry in chosen.entries:
            if entry["family"] == "no_trigger":
                add(str(entry["id"]), _filled(entry, trigger, caption_style), "no_trigger")
            elif entry.get("no_trigger"):
                bare = without_trigger(_filled(entry, trigger, caption_style), trigger)
                add(f"no-trigger-{entry['id']}", bare, "no_trigger", str(entry["id"]))
    if not found:
        raise InputError(
            "There is no prompt of these kinds.",
            f"This project has none for: {', '.join(FAMILY_WORDS[f] for f in families)}.",
            "Choose another kind, or write prompts of your own.",
        )
    present = {p.id for p in found}
    return [p.model_copy(update={"pair": p.pair if p.pair in present else ""}) for p in found]


def _filled(entry: dict[str, Any], trigger: str, caption_style: str) -> str:
    template = str(entry["tags"] if caption_style == "tags" and "tags" in entry else entry["text"])
    return template.replace("{trigger}", trigger)


def default_prompts(project: Project, family: str, caption_style: str = "sentences") -> list[GridPrompt]:
    """About seven prompts: the standard set (subjects that the captions do not name first), one training caption, the
    trigger word alone, and one prompt without it for leakage. All in a fixed order, so that grids compare."""
    intent = project.intent
    trigger = intent.trigger
    chosen = prompt_set(intent.kind, family)
    captions = training_captions(project)
    known = {word for text in captions for word in without_trigger(text, trigger).lower().split()}

    def fill(entry: dict[str, Any]) -> str:
        return _filled(entry, trigger, caption_style)

    own_trigger = [e for e in chosen.entries if e["family"] != "no_trigger"]
    if intent.kind == "style" and family == "pocket":
        own_trigger.sort(key=lambda e: str(e["id"]) in known)  # stable: keeps the order of the file otherwise
    picked = own_trigger[: chosen.pick]
    prompts = [GridPrompt(id=str(e["id"]), text=fill(e), family=e["family"]) for e in picked]
    taken = {p.text for p in prompts}

    fresh = [c for c in captions if c not in taken and c != trigger]
    if fresh:
        prompts.append(GridPrompt(id="caption", text=fresh[len(fresh) // 2], family="caption"))
    if trigger and trigger not in taken:
        prompts.append(GridPrompt(id="trigger", text=trigger, family="trigger"))
    bare = next((e for e in picked if e.get("no_trigger")), None)
    if bare is None and intent.kind == "style":
        bare = picked[0]
    if bare is not None:
        prompts.append(
            GridPrompt(
                id="no-trigger",
                text=without_trigger(fill(bare), trigger),
                family="no_trigger",
                pair=str(bare["id"]),
            )
        )
    else:
        prompts += [
            GridPrompt(id=str(e["id"]), text=fill(e), family="no_trigger")
            for e in chosen.entries
            if e["family"] == "no_trigger"
        ][:1]
    return prompts


def own_prompts(texts: list[str], trigger: str) -> list[GridPrompt]:
    """The user's own prompts, `{trigger}` filled in; empty lines and repeats left out."""
    seen: dict[str, GridPrompt] = {}
    for text in texts:
        full = " ".join(text.replace("{trigger}", trigger).split())
        if full and full not in seen:
            family = "own" if not trigger or trigger.lower() in full.lower() else "no_trigger"
            seen[full] = GridPrompt.model_validate(
                {"id": f"own-{len(seen) + 1}", "text": full, "family": family}
            )
    return list(seen.values())
