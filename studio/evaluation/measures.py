"""Every measure of a grid in words: what it says, what it cannot see, and where it comes from.

One source for the help beside each figure, the command line, the reports and the guide. The arithmetic is in
`studio.evaluation.metrics` (what the built-in features give) and `studio.evaluation.likeness` (what other models add).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Unit = Literal["share", "times", "cosine"]
Model = Literal["", "clip", "dino", "ccip"]

BUILT_IN = "EfficientNet-Lite0 (built in)"
"""How the features that come with the studio are named wherever their figures stand."""


@dataclass(frozen=True)
class Measure:
    """One measure.

    id:     its key in `metrics.json`, per cell and per weight.
    title:  its name for people; says: what the figure means; unseen: what it cannot see.
    source: where it comes from. unit: how its figures are written: a share in percent, so many times, or a cosine.
    better: "high", "low", or "" where neither is good by itself.
    model:  the model beside the built-in one that it needs; "" when it needs none.
    needs:  what the grid must hold for it, for when it is not available.
    """

    id: str
    title: str
    says: str
    unseen: str
    source: str
    unit: Unit = "share"
    better: Literal["high", "low", ""] = ""
    model: Model = ""
    needs: str = ""

    @property
    def help(self) -> str:
        """What stands beside the figure."""
        return f"{self.says}\n\n**Does not see:** {self.unseen}\n\n**From:** {self.source}"

    def words(self, value: float | None) -> str:
        """A figure as people read it; "not available" without one."""
        if value is None or not math.isfinite(value):
            return "not available"
        if self.unit == "times":
            return f"{value:.2f} ×"
        return f"{value:.3f}" if self.unit == "cosine" else f"{value:.0%}"


_FEATURES = "EfficientNet-Lite0 features, made here"

MEASURES: tuple[Measure, ...] = (
    Measure(
        "nearness", "Nearness to your pictures",
        "How much of the way from the base model to your pictures they went: 0% is the base model, 100% is in their midst.",
        "Who it is, hands, and whether it is as strong as you meant it. Movement in other directions does not count.",
        f"{_FEATURES}: for a style means and spreads of early feature maps (Huang and Belongie 2017, arXiv 1703.06868) and "
        "colours, for a character or an object pooled features.",
        better="high", needs="training pictures that differ from what the base model draws",
    ),
    Measure(
        "effect", "Change from the base model",
        "How far the pictures moved from the base model's, in any direction. 1 × is as far as your pictures lie from them; more "
        "than 1 × means that they changed more than that, also in ways that your pictures do not show.",
        "Whether the change is the wanted one: nearness says that.",
        f"{_FEATURES}, as nearness.", unit="times", needs="training pictures",
    ),
    Measure(
        "kept", "Subjects kept",
        "Whether the pictures still differ from prompt to prompt as the base model's do: 100% as much, 0% when all look alike.",
        "Small details, hands and faces. Pictures that were alike from the start cannot lose anything.",
        f"{_FEATURES}, and histograms of oriented gradients (Dalal and Triggs 2005).",
        better="high", needs="three prompts with the trigger word",
    ),
    Measure(
        "fault", "Picture faults",
        "How far clipping, flat areas, contrast, colour and sharpness lie outside of what the base model and your pictures show.",
        "Wrong anatomy, writing, and anything that is wrong without being extreme.",
        "Counted on the pixels; the limits are those of this grid's own base pictures and your pictures.",
        better="low",
    ),
    Measure(
        "leak", "Without the trigger word",
        "How much of the nearness also comes when the trigger word is left out: 0% none, 100% as much.",
        "Whether that harms: for a LoRA that is only used on purpose it does not.",
        f"{_FEATURES}; pairs of prompts, as in sd-scripts issue 1633 and kohya_ss issue 2826.",
        better="low", needs="a prompt without the trigger word, and some nearness with it",
    ),
    Measure(
        "memorised", "Copies",
        "Share of pictures that lie nearer to one training picture (or its mirror image) than training pictures lie to each other.",
        "Copies that are cut, recoloured or put together from several: generic features miss them (arXiv 2409.19952).",
        f"{_FEATURES}; nearest neighbour as in arXiv 2212.03860 and 2301.13188, the line drawn by the training set itself.",
        better="low", needs="training pictures",
    ),
    Measure(
        "diversity", "Variety over seeds",
        "How much the seeds of a prompt differ, against the base model: 100% is as varied.",
        "Whether the variety is good: broken pictures count as varied too. Few seeds say little (compare arXiv 2210.02410).",
        f"{_FEATURES}; mean distance between the seeds of a prompt.",
        better="high", needs="two seeds, which the base model draws differently",
    ),
    Measure(
        "clip_text", "Prompt followed (CLIP)",
        "Cosine between a picture and its prompt, the trigger word left out. Compare it with the base model's column: a fall means "
        "that prompts are followed less.",
        "Quality, counts and fine detail. Good single pictures lie anywhere from 0.14 to 0.39; differences of 0.02 mean little.",
        "CLIPScore, arXiv 2104.08718, without its factor of 2.5; the range is SimpleTuner's documentation's.",
        unit="cosine", better="high", model="clip",
    ),
    Measure(
        "clip_image", "Likeness to your pictures (CLIP)",
        "Mean cosine between a picture and your pictures: the same kind of thing, in the same kind of picture.",
        "Which dog it is: two of a kind count as equal. Copied backgrounds raise it.",
        "CLIP-I of DreamBooth, arXiv 2208.12242.", unit="cosine", better="high", model="clip", needs="training pictures",
    ),
    Measure(
        "dino", "Likeness to your pictures (DINO)",
        "Mean cosine between a picture and your pictures. More about this very thing than CLIP's, less about its kind.",
        "What people find alike: it disagrees with them often (arXiv 2406.16855). Style and content are mixed.",
        "DINO of DreamBooth, arXiv 2208.12242, here with DINOv2, arXiv 2304.07193.",
        unit="cosine", better="high", model="dino", needs="training pictures",
    ),
    Measure(
        "dino_copies", "Copies (DINO)",
        "As copies, judged by DINO: share of pictures nearer to one training picture, or its mirror image, than those are to each other.",
        "Copies that are cut or put together from several.",
        "Nearest neighbour as in arXiv 2301.13188, with DINOv2.", better="low", model="dino", needs="three training pictures",
    ),
    Measure(
        "ccip", "Same character (CCIP)",
        "Share of your pictures that count as the same character as a picture, in the middle of all pictures of a column.",
        "Anything but drawn characters. Made for anime; photographs and several people in a picture confuse it.",
        "CCIP (deepghs, imgutils), with the threshold that its makers publish: a difference below 0.178.",
        better="high", model="ccip", needs="training pictures of one character",
    ),
)  # fmt: skip

BY_ID: dict[str, Measure] = {m.id: m for m in MEASURES}


def shown(metrics: Mapping[str, Any], kind: str = "") -> tuple[Measure, ...]:
    """The measures that say something for this grid: all built-in ones, and those of models. CCIP only where it has a
    figure or a character is taught."""
    kind = kind or str(metrics.get("kind", ""))
    has = {k for row in metrics.get("weights", ()) for k, v in row.items() if v is not None}
    return tuple(m for m in MEASURES if m.model != "ccip" or kind == "character" or m.id in has)


def lacking(metrics: Mapping[str, Any], measure: Measure) -> str:
    """Why a measure has no figure on this grid, in words; "" when it has one."""
    if any(row.get(measure.id) is not None for row in metrics.get("weights", ())):
        return ""
    if measure.model:
        told = (metrics.get("models") or {}).get(measure.model) or {}
        if told.get("error"):
            return f"Not available: {told['error']}"
        if not told:
            return f"Not available: no {measure.model.upper()} model was chosen when this grid was measured."
    return f"Not available: it needs {measure.needs or 'other pictures'}."


def cell_words(metrics: Mapping[str, Any] | None, cell_hash: str) -> list[tuple[Measure, str]]:
    """What was measured about one cell, as (measure, figure in words); without those that have none."""
    found = ((metrics or {}).get("cells") or {}).get(cell_hash) or {}
    told = []
    for measure in MEASURES:
        value = found.get(measure.id)
        if isinstance(value, bool):
            told.append((measure, "a copy?" if value else "none"))
        elif isinstance(value, int | float):
            told.append((measure, measure.words(float(value))))
    return told


def with_spread(measure: Measure, row: Mapping[str, Any]) -> str:
    """A column's figure, and from which to which it lies over the seeds when there are several."""
    value, spread = row.get(measure.id), (row.get("spread") or {}).get(measure.id)
    words = measure.words(value)
    if value is None or not spread:
        return words
    return f"{words} ({measure.words(spread[0])} to {measure.words(spread[1])})"


def over_checkpoints(metrics: Mapping[str, Any], weight: float) -> list[dict[str, Any]]:
    """The rows of one weight, one a checkpoint, early to late as the grid has them."""
    return [dict(r) for r in metrics.get("weights", ()) if abs(float(r["weight"]) - weight) < 1e-9]


def over_weights(metrics: Mapping[str, Any], checkpoint: str) -> list[dict[str, Any]]:
    """The rows of one checkpoint, weight 0 first."""
    rows = [dict(r) for r in metrics.get("weights", ()) if r["checkpoint"] == checkpoint]
    return sorted(rows, key=lambda r: float(r["weight"]))


def limits(measure: Measure, rows: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Lowest and highest value that a chart of these rows must show, spread included; shares always show 0 to 100%."""
    values = [float(r[measure.id]) for r in rows if r.get(measure.id) is not None]
    for row in rows:
        values += [float(v) for v in (row.get("spread") or {}).get(measure.id) or ()]
    low, high = min(values, default=0.0), max(values, default=1.0)
    if measure.unit == "cosine":
        pad = max(0.02, 0.1 * (high - low))
        return low - pad, high + pad
    return min(0.0, low), max(1.0, high)
