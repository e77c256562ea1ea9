"""What a LoRA file's text fields tell of its maker, and a copy without it. The tensors stay byte for byte as they are.

Field names are those of sd-scripts (`ss_*`) and of the model metadata standard 1.0.0 (`modelspec.*`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from studio.errors import InputError
from studio.lora.file import metadata_of, rewrite
from studio.workspace import Workspace

GROUPS: dict[str, str] = {
    "folders": "Names of your picture folders",
    "paths": "Places on your computer (folders above a file)",
    "tags": "Words of your captions, with their counts",
    "dates": "When it was trained",
}
"""What can be left out, in words."""
USUAL: tuple[str, ...] = ("folders", "paths")
"""Left out until the user chooses otherwise: what no program reads and nobody else needs to know."""
_PREFERENCE = "metadata_left_out"

_BY_FOLDER = ("ss_tag_frequency", "ss_dataset_dirs", "ss_reg_dataset_dirs")
_FOLDER_KEYS = frozenset(("image_dir", "metadata_file", "json_file", "jsonl_file"))
_TAG_FIELDS = frozenset(("ss_tag_frequency", "ss_training_comment"))
_TAG_KEYS = frozenset(("tag_frequency", "class_tokens", "caption_prefix", "caption_suffix", "caption"))
_DATE_FIELDS = frozenset(
    ("ss_training_started_at", "ss_training_finished_at", "ss_session_id", "modelspec.date")
)
# Base64 pictures hold slashes, but no paths.
_BINARY = ("ssmd_cover_images", "modelspec.thumbnail")
# An absolute path at the start of a value or after a quote, bracket, comma, equals sign or space; not a web address.
_PATH = re.compile(
    r"""(?:(?<=^)|(?<=[\s"'=(\[{,;]))(?:[A-Za-z]:(?:\\{1,2}|/)|\\{2,4}(?=\w)|~?/(?=[\w.]))[^"'<>|*?,;\n\]})]*"""
)


@dataclass(frozen=True)
class Change:
    """One field that a copy would tell otherwise. after: "" when the field is gone."""

    key: str
    before: str
    after: str


def checked(groups: Iterable[str]) -> tuple[str, ...]:
    """Names of groups in their usual order. Raises InputError for one that does not exist."""
    asked = list(groups)
    unknown = [g for g in asked if g not in GROUPS]
    if unknown:
        raise InputError(
            f"'{unknown[0]}' is nothing that can be left out of a LoRA's metadata.",
            f"There are: {', '.join(GROUPS)}.",
            "Use one or more of these, or none.",
        )
    return tuple(g for g in GROUPS if g in asked)


def remembered(workspace: Workspace) -> tuple[str, ...]:
    """What the user last chose to leave out; `USUAL` at first."""
    told = workspace.preferences().get(_PREFERENCE)
    return tuple(g for g in GROUPS if g in told) if isinstance(told, list) else USUAL


def remember(workspace: Workspace, groups: Iterable[str]) -> None:
    """Take this choice as the default from now on."""
    workspace.remember(**{_PREFERENCE: list(checked(groups))})


def without(metadata: Mapping[str, str], groups: Iterable[str]) -> dict[str, str]:
    """The text fields without what the groups name. Counts and settings stay; folders are numbered instead of named, so that
    programs which add up pictures per folder still can."""
    out = set(checked(groups))
    kept: dict[str, str] = {}
    for key, value in metadata.items():
        if ("dates" in out and key in _DATE_FIELDS) or ("tags" in out and key in _TAG_FIELDS):
            continue
        kept[key] = value if key in _BINARY or value.startswith("data:") else _told(key, value, out)
    return kept


def changes(metadata: Mapping[str, str], groups: Iterable[str]) -> list[Change]:
    """What would be told otherwise, in the order of the file."""
    after = without(metadata, groups)
    return [Change(k, v, after.get(k, "")) for k, v in metadata.items() if after.get(k) != v]


def clean_copy(source: Path, target: Path, groups: Iterable[str]) -> list[Change]:
    """Write a copy without what the groups name; what is told otherwise in it.

    Raises InputError when `target` exists, is the source, or the source is no whole safetensors file.
    """
    groups = checked(groups)
    if target.exists():
        raise InputError(
            f"{target} is there already.", "The studio overwrites nothing.", "Choose another name."
        )
    told = metadata_of(source)
    rewrite(source, target, without(told, groups))
    return changes(told, groups)


def _told(key: str, value: str, out: set[str]) -> str:
    told = _plain(value)
    if isinstance(told, dict | list):
        if "folders" in out and key in _BY_FOLDER and isinstance(told, dict):
            told = {str(n): inner for n, inner in enumerate(told.values(), 1)}
        cleaned = _walked(told, out)
        return value if cleaned == _plain(value) else json.dumps(cleaned, ensure_ascii=False)
    return _shortened(value) if "paths" in out else value


def _plain(value: str) -> Any:
    if value[:1] not in "{[":
        return None
    try:
        return json.loads(value)
    except ValueError:
        return None


def _walked(told: Any, out: set[str]) -> Any:
    if isinstance(told, dict):
        found: dict[str, Any] = {}
        for key, inner in told.items():
            if "tags" in out and key in _TAG_KEYS:
                continue
            if "folders" in out and key in _FOLDER_KEYS:
                continue
            if "folders" in out and key in ("tag_frequency", "dirs") and isinstance(inner, dict):
                inner = {str(n): v for n, v in enumerate(inner.values(), 1)}
            found[_shortened(str(key)) if "paths" in out else key] = _walked(inner, out)
        return found
    if isinstance(told, list):
        return [_walked(inner, out) for inner in told]
    return _shortened(told) if isinstance(told, str) and "paths" in out else told


def _shortened(text: str) -> str:
    """Absolute paths cut down to the last name in them."""

    def last(found: re.Match[str]) -> str:
        return re.split(r"[\\/]+", found.group().rstrip("\\/ "))[-1]

    return _PATH.sub(last, text)
