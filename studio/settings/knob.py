"""How a settings field is written down, and read back by whoever draws it: its title, help, range, unit, group and level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from pydantic import Field
from pydantic.fields import FieldInfo

Level = Literal["basic", "advanced"]
Kind = Literal["bool", "int", "float", "choice", "text", "lines"]
GROUPS = (
    "Model",
    "Network",
    "Length",
    "Batch and pictures",
    "Optimizer",
    "Captions",
    "Loss",
    "Memory",
    "Saving",
    "Repeatability",
    "sd-scripts",
    "Cloud",
)


def knob(
    default: Any,
    title: str,
    help: str,
    *,
    group: str,
    level: Level = "advanced",
    safe: tuple[float, float] | None = None,
    unit: str = "",
    choices: dict[str, str] | None = None,
    zero: str = "",
    **limits: Any,
) -> Any:
    """A settings field.

    default: value used when nothing else says so.
    title:   its name in the app.
    help:    one to three plain sentences: what it does, and what happens when it is too low or too high.
    group:   one of GROUPS.
    level:   `basic` fields are asked in Easy mode.
    safe:    range in which it usually works; outside it the config gate warns. Hard limits (`ge`, `le`, `gt`,
             `lt`) go in `limits` and are refused.
    unit:    what the number counts, such as "px" or "epochs".
    choices: for a fixed list: what each value means, in words.
    zero:    what 0 means where it is no amount, such as "no limit".
    """
    extra: dict[str, Any] = {"group": group, "level": level, "unit": unit, "zero": zero}
    if safe is not None:
        extra["safe"] = list(safe)
    if choices is not None:
        extra["choices"] = choices
    return Field(
        default=default,
        title=title,
        description=help,
        json_schema_extra=extra,
        validate_default=True,
        **limits,
    )


@dataclass(frozen=True)
class Knob:
    """A settings field as forms and help want it."""

    name: str
    title: str
    help: str
    group: str
    level: Level
    default: Any
    kind: Kind
    unit: str
    safe: tuple[float, float] | None
    minimum: float | None
    maximum: float | None
    choices: dict[str, str]
    zero: str = ""
    above: bool = False  # the minimum itself is refused
    multiple: int = 0  # only multiples of it are taken; 0: every number

    @property
    def range_words(self) -> str:
        """The limits in words, such as "1 to 512, usually 4 to 64", or "above 0, at most 10"; empty when there are none."""
        parts = []
        if self.minimum is not None and self.maximum is not None:
            low, high = f"{self.minimum:g}", f"{self.maximum:g}"
            steps = f" in steps of {self.multiple}" if self.multiple else ""
            parts.append((f"above {low}, at most {high}" if self.above else f"{low} to {high}") + steps)
        if self.safe is not None:
            parts.append(f"usually {self.safe[0]:g} to {self.safe[1]:g}")
        return ", ".join(parts) + (f" {self.unit}" if parts and self.unit else "")


def _limit(info: FieldInfo, names: tuple[str, ...]) -> float | None:
    for m in info.metadata:
        for n in names:
            value = getattr(m, n, None)
            if value is not None:
                return float(value)
    return None


def _kind(info: FieldInfo) -> Kind:
    if info.annotation is bool:
        return "bool"
    if info.annotation is int:
        return "int"
    if info.annotation is float:
        return "float"
    if info.annotation is str:
        return "text"
    return (
        "choice" if get_args(info.annotation) and isinstance(get_args(info.annotation)[0], str) else "lines"
    )


def knob_of(name: str, info: FieldInfo) -> Knob:
    """The knob that a field of the settings was made from."""
    extra = info.json_schema_extra if isinstance(info.json_schema_extra, dict) else {}
    told = extra.get("choices")
    choices = {str(c): str(w) for c, w in told.items()} if isinstance(told, dict) else {}
    kind = "choice" if choices else _kind(info)
    if kind == "choice" and not choices:
        choices = {str(c): str(c) for c in get_args(info.annotation)}
    safe = extra.get("safe")
    return Knob(
        name=name,
        title=info.title or name,
        help=info.description or "",
        group=str(extra["group"]),
        level="basic" if extra["level"] == "basic" else "advanced",
        default=info.default,
        kind=kind,
        unit=str(extra["unit"]),
        safe=(safe[0], safe[1]) if isinstance(safe, list) else None,  # type: ignore[arg-type]
        minimum=_limit(info, ("ge", "gt")),
        maximum=_limit(info, ("le", "lt")),
        choices=choices,
        zero=str(extra["zero"]),
        above=_limit(info, ("gt",)) is not None,
        multiple=int(_limit(info, ("multiple_of",)) or 0),
    )
