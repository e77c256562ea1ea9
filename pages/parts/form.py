"""A settings knob as a widget, and widgets that follow the disk."""

from __future__ import annotations

from typing import Any

import streamlit as st

from studio.settings import Knob

_NOTHING = object()


def synced(key: str, disk_value: Any) -> None:
    """Let a widget with this key follow the disk: when the stored value changes elsewhere (a preset, another window), the
    widget shows it; while the user edits, the edit stays. Call it right before the widget, and give the widget no value
    (a number: None, so that a field that was emptied, or holds letters only, takes its old number back).
    """
    seen = f"_disk_{key}"
    emptied = st.session_state.get(key, _NOTHING) is None
    if key not in st.session_state or emptied or st.session_state.get(seen, _NOTHING) != disk_value:
        st.session_state[key] = disk_value
        st.session_state[seen] = disk_value


def taken(key: str, disk_value: Any) -> None:
    """Say that the disk now holds what this widget's user typed, so that `synced` does not write it back. Writing back would
    undo letters typed meanwhile, and take away a space at the end that the disk does not keep.
    """
    st.session_state[f"_disk_{key}"] = disk_value


def help_text(knob: Knob) -> str:
    """The tooltip of a knob: what it does, its range, its default."""
    parts = [knob.help]
    if knob.range_words:
        parts.append(f"Range: {knob.range_words}.")
    if knob.kind not in ("lines",):
        parts.append(f"Default: {shown(knob, knob.default)}.")
    return "\n\n".join(parts)


def shown(knob: Knob, value: Any) -> str:
    """A value in words: on / off, the choice with its meaning, numbers with their unit."""
    if knob.kind == "bool":
        return "on" if value else "off"
    if knob.kind == "choice":
        return f"{value}: {knob.choices[value]}" if knob.choices.get(value, value) != value else str(value)
    if knob.kind == "lines":
        return f"{len(value)} line{'s' if len(value) != 1 else ''}" if value else "none"
    if knob.zero and value == 0:
        return f"0 ({knob.zero})"
    if knob.kind == "float":
        return f"{value:g}" + (f" {knob.unit}" if knob.unit else "")
    unit = knob.unit.removesuffix("s") if value == 1 and len(knob.unit) > 2 else knob.unit
    return f"{value}" + (f" {unit}" if unit and value != "" else "")


def knob_widget(knob: Knob, value: Any, *, key: str, label: str | None = None, disabled: bool = False) -> Any:
    """Draw one setting and return its value now; `value` is what the disk says.

    The caller stores what comes back when it differs from `value`; limits and meanings come from the knob.
    """
    named = not knob.unit or knob.unit in knob.title.lower()  # not "Epochs (epochs)"
    title = label or (knob.title if named else f"{knob.title} ({knob.unit})")
    common: dict[str, Any] = {"key": key, "help": help_text(knob), "disabled": disabled}
    if knob.kind == "bool":
        synced(key, bool(value))
        return st.toggle(title, **common)
    if knob.kind == "choice":
        options = list(knob.choices)
        synced(key, value if value in options else options[0])
        return st.selectbox(title, options, format_func=lambda c: shown(knob, c), **common)
    if knob.kind == "int":
        synced(key, int(value))
        return st.number_input(
            title,
            value=None,
            min_value=None if knob.minimum is None else int(knob.minimum),
            max_value=None if knob.maximum is None else int(knob.maximum),
            step=8 if knob.unit == "px" else 1,
            **common,
        )
    if knob.kind == "float":
        synced(key, float(value))
        return st.number_input(
            title,
            value=None,
            min_value=knob.minimum,
            max_value=knob.maximum,
            step=_float_step(knob),
            format="%.6g",
            **common,
        )
    if knob.kind == "lines":
        synced(key, "\n".join(value))
        text = st.text_area(title, **common)
        return tuple(line.strip() for line in text.splitlines() if line.strip())
    synced(key, str(value))
    return st.text_input(title, **common)


def _float_step(knob: Knob) -> float:
    default = float(knob.default)
    if 0 < default < 0.01:
        return default / 10
    high = knob.safe[1] if knob.safe else 1.0
    return 0.01 if high <= 1 else 1.0 if high >= 20 else 0.1
