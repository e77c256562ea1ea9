"""Descriptions in words: what a vision-language model is asked, and how its answer is read.

The question keeps what is shown (content) and how it is made (style) apart, because a LoRA learns what its captions do
not say: for a style the caption leaves the style out, for a character it leaves out what never changes. The answer is a
JSON object with both lists and the caption; models wrap it in many ways, so it is read tolerantly.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from studio.project import Kind

Format = Literal["tags", "sentences"]
SYSTEM = (
    "You write captions for teaching an image model. You look at one picture and answer with one JSON object and "
    "nothing else: no greeting, no explanation, no code fence."
)


class WordSettings(BaseModel):
    """How descriptions are written; the same for every service.

    format:     `tags`, `sentences`, or `auto`: as the base model was raised.
    say:        `content`: the caption leaves out what is taught; `both`: it also says how the picture is made.
    hint:       the user's own words to the model, such as "the woman is called Mira".
    most_words: length of a caption, 5 to 200 words; for tags, three words count as two tags.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal["auto", "tags", "sentences"] = "auto"
    say: Literal["content", "both"] = "content"
    hint: str = Field(default="", max_length=1000)
    most_words: int = Field(default=40, ge=5, le=200)


@dataclass(frozen=True)
class Described:
    """An answer, read."""

    caption: str
    content: tuple[str, ...]
    style: tuple[str, ...]


class Unreadable(ValueError):
    """An answer that holds no caption; the message says how it failed."""


_LEAVE_OUT: dict[Kind, str] = {
    "style": (
        "The pictures teach a style, and one made-up word will stand for it. The caption must therefore not name the "
        "style: no medium, no technique, no words like painting, drawing, photo, watercolour, palette or brushwork."
    ),
    "character": (
        "The pictures teach one character, and one made-up word will stand for them. The caption must therefore not "
        "describe what never changes (face, eyes, hair, body, name). Do say what may change: pose, expression, "
        "clothes, what they do, where they are, the light, how near the view is."
    ),
    "object": (
        "The pictures teach one object, and one made-up word will stand for it. The caption must therefore not "
        "describe its shape, parts or own colours. Do say where it is, what surrounds it, how it is used, the light, "
        "and from which side it is seen."
    ),
}
_ALSO_STYLE = "After what is shown, the caption also says in a few words how the picture is made."


def prompt(kind: Kind, format: Format, settings: WordSettings, examples: Sequence[str] = ()) -> str:
    """The question to the model.

    examples: captions that a person approved or wrote, which the model shall take as a model.
    """
    if format == "tags":
        most = max(4, settings.most_words * 2 // 3)
        shape = (
            f"short lower-case tags as image boards use them, separated by commas, at most {most}, the most important "
            "first, spaces instead of underscores, no sentence"
        )
    else:
        shape = (
            f"one or two plain sentences, at most {settings.most_words} words, facts instead of moods; do not begin "
            "with 'this image', 'the picture' or the like"
        )
    parts = [
        "Look at the picture and keep two things apart.",
        "content: what is shown. Subject, action, setting, objects, framing. 3 to 12 short phrases.",
        "style: how it is made. Technique, line or brushwork, palette, quality of light, composition, edges, texture, "
        "colour harmony. 2 to 8 short phrases.",
        f"caption: {shape}.",
        _LEAVE_OUT[kind] if settings.say == "content" else _ALSO_STYLE,
        "Say only what can be seen. Do not guess names, places or dates.",
    ]
    if settings.hint.strip():
        parts.append(f"Also heed: {settings.hint.strip()}")
    if examples:
        told = "\n".join(f"- {e}" for e in examples[:5])
        parts.append(
            f"A person approved these captions of other pictures. Write in the same manner, not the same words:\n{told}"
        )
    parts.append('Answer as JSON: {"content": ["..."], "style": ["..."], "caption": "..."}')
    return "\n".join(parts)


_FENCE = re.compile(r"```[a-zA-Z]*\s*(.*?)```", re.DOTALL)
_THOUGHTS = re.compile(r"<(think|thinking|reasoning)>.*?</\1>", re.DOTALL | re.IGNORECASE)
_HEAD = re.compile(
    r"^[\s>*#_-]*(content|style|caption)(?:[ _]?elements?)?\s*[*_]*\s*[::][*_]*\s*",
    re.IGNORECASE | re.MULTILINE,
)
_LONGEST = 20_000  # letters of an answer that are read; what is asked for has some hundred
_TRIED = 100  # places at which an object may begin; models that break down repeat one sign for pages


def read(answer: str, format: Format = "sentences", say: str = "content") -> Described:
    """The answer of a model, read: JSON anywhere in it, else headed lines ("Caption: ..."). Raises Unreadable."""
    text = _THOUGHTS.sub("", answer[:_LONGEST]).strip()
    if not text:
        raise Unreadable("the answer is empty")
    found = _json_in(text)
    if found is None:
        found = _headed(text)
    if found is None:
        raise Unreadable(
            "the answer was cut off in the middle"
            if text.count("{") > text.count("}")
            else "it holds no JSON and no caption"
        )
    content = _listed(found.get("content"))
    style = _listed(found.get("style"))
    caption = _caption(found.get("caption"))
    if not caption and content:
        caption = ", ".join((*content, *style) if say == "both" else content)
    if not caption:
        raise Unreadable("it holds no caption")
    if format == "tags":
        caption = caption.rstrip(" .")
    return Described(caption, content, style)


def _json_in(text: str) -> dict[str, Any] | None:
    """The first JSON object that has one of our keys."""
    decoder = json.JSONDecoder(strict=False)
    for piece in [*_FENCE.findall(text), text]:
        mended = _mended(piece)  # has the same brackets
        places = zip(re.finditer(r"\{", piece), re.finditer(r"\{", mended), strict=True)
        for as_it_is, better in islice(places, _TRIED):
            for candidate, at in ((piece, as_it_is.start()), (mended, better.start())):
                try:
                    raw, _ = decoder.raw_decode(candidate, at)
                except (ValueError, RecursionError):
                    continue
                known = _keys(raw)
                if known:
                    return known
    return None


def _mended(text: str) -> str:
    """The slips that models make most: commas before a closing bracket, and curly quotation marks around keys."""
    text = re.sub(r",(\s*[}\]])", r"\1", text)
    return re.sub(r"[“”]", '"', text)


def _keys(raw: object) -> dict[str, Any]:
    """The three keys, however they are spelled or nested."""
    if not isinstance(raw, dict):
        return {}
    found: dict[str, Any] = {}
    for key, value in raw.items():
        plain = re.sub(r"[^a-z]", "", str(key).lower())
        for wanted in ("content", "style", "caption"):
            if plain in (wanted, f"{wanted}s", f"{wanted}elements", f"{wanted}element", f"{wanted}text"):
                found[wanted] = value
    if not found and len(raw) == 1:
        return _keys(next(iter(raw.values())))
    return found


def _headed(text: str) -> dict[str, Any] | None:
    marks = list(_HEAD.finditer(text))
    if not any(m[1].lower() == "caption" for m in marks):
        return None
    ends = [*(m.start() for m in marks[1:]), len(text)]
    found: dict[str, Any] = {}
    for mark, end in zip(marks, ends, strict=True):
        found[mark[1].lower()] = text[mark.end() : end].strip().strip("*")
    return found


def _listed(value: object) -> tuple[str, ...]:
    if isinstance(value, dict):
        value = [f"{v}" for v in value.values()]
    if isinstance(value, str):
        value = re.split(r"[,;\n]", value)
    if not isinstance(value, list):
        return ()
    flat = [p for v in value for p in (v if isinstance(v, list) else [v]) if isinstance(p, str | int | float)]
    phrases = (re.sub(r"\s+", " ", str(p)).strip(" \t-*•.,\"'") for p in flat)
    return tuple(dict.fromkeys(p for p in phrases if p))[:40]


def _caption(value: object) -> str:
    if isinstance(value, list):
        value = ", ".join(str(v) for v in value if isinstance(v, str))
    if not isinstance(value, str):
        return ""
    return re.sub(r"\s+", " ", value).strip().strip("\"'“”").strip()
