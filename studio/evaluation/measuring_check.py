"""Whether a folder holds a CLIP, DINO or CCIP model that can be used; told from JSON files and from the headers of its weights.

Only safetensors and ONNX are taken: a pickle can run anything. Nothing is loaded.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, get_args

from studio import files
from studio.captions.onnx_header import FLOAT32, NotOnnx, read_header
from studio.errors import InputError
from studio.findings import Finding
from studio.models import tensor_header

Role = Literal["clip", "dino", "ccip"]
ROLES: tuple[Role, ...] = get_args(Role)
WEIGHTS, INDEX, CONFIG, ONNX = (
    "model.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "model_feat.onnx",
)
_TYPES: dict[str, tuple[str, ...]] = {
    "clip": ("clip",),
    "dino": ("dinov2", "dinov2_with_registers", "dinov3_vit", "vit"),
}
_CLIP_TENSORS = ("text_projection.weight", "visual_projection.weight")
_MOST_JSON = 20_000_000


@dataclass(frozen=True)
class MeasuringModel:
    """A folder that was checked. mark: a short hash that changes when the weights or the configuration do; figures of
    different marks are never mixed."""

    role: Role
    folder: Path
    mark: str

    @property
    def title(self) -> str:
        return self.folder.name


def check_folder(role: Role, folder: Path) -> MeasuringModel:
    """A folder, checked without loading it. Raises InputError with every problem at once."""
    if folder.is_file() and role == "ccip" and folder.name == ONNX:
        folder = folder.parent
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}.",
            f"A {role.upper()} model is a folder with {ONNX if role == 'ccip' else f'{CONFIG} and {WEIGHTS}'}.",
            "Give the path of such a folder, or download one.",
        )
    try:
        stamps = tuple(
            sorted((p.name, p.stat().st_size, p.stat().st_mtime_ns) for p in folder.iterdir() if p.is_file())
        )
    except OSError as e:
        raise InputError(
            f"{folder} cannot be read.", str(e.strerror or e), "Check that you may read it."
        ) from e
    return _checked(role, folder, stamps)


@lru_cache(maxsize=16)
def _checked(role: Role, folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> MeasuringModel:
    problems: list[Finding] = []
    weights = _onnx(folder, problems) if role == "ccip" else _transformer(role, folder, problems)
    if problems:
        one = problems[0]
        if len(problems) == 1:
            raise InputError(f"{folder.name}: {one.what}", one.why, one.fix, problems)
        raise InputError(
            f"{folder.name} cannot be used as a {role.upper()} model: {len(problems)} problems.",
            "What is missing or wrong is listed below.",
            "Mend all of them, or download a model.",
            problems,
        )
    settings = [
        files.sha256_file(folder / n)
        for n, size, _ in stamps
        if n.endswith((".json", ".txt")) and size < _MOST_JSON
    ]
    return MeasuringModel(
        role, folder, files.fingerprint([role, [files.ends_hash(w) for w in weights], settings])
    )


def _transformer(role: Role, folder: Path, problems: list[Finding]) -> list[Path]:
    """Weights of a folder in the layout of the transformers library; what is wrong goes to `problems`."""
    config = _json(folder / CONFIG, problems, _inner(folder))
    if config is not None:
        kind = str(config.get("model_type", ""))
        if kind not in _TYPES[role]:
            problems.append(
                _wrong(
                    CONFIG,
                    f"describes a model of the type '{kind or 'unknown'}'",
                    f"A {role.upper()} model here is one of: {', '.join(_TYPES[role])}.",
                    "Choose the folder of another model.",
                )
            )
            return []
    weights = _weights(folder, problems)
    if role == "clip" and config is not None:
        names = {name for w in weights for name in _header(w, problems)}
        missing = [t for t in _CLIP_TENSORS if weights and t not in names]
        if missing:
            problems.append(
                _wrong(
                    WEIGHTS,
                    f"has no {' and no '.join(missing)}",
                    "It holds only one half of CLIP: pictures and prompts cannot be compared with it.",
                    "Choose a whole CLIP model, such as openai/clip-vit-base-patch32.",
                )
            )
        if not (folder / "tokenizer.json").is_file() and not all(
            (folder / n).is_file() for n in ("vocab.json", "merges.txt")
        ):
            problems.append(
                _wrong(
                    "tokenizer.json",
                    "is missing",
                    "Prompts cannot be read without it.",
                    f"Put it into {folder}.",
                )
            )
    elif config is not None:
        for w in weights:
            _header(w, problems)
    return weights


def _header(path: Path, problems: list[Finding]) -> dict[str, Any]:
    try:
        return tensor_header(path)
    except InputError as e:
        problems.append(
            Finding(
                severity="block", code="measuring-file", what=e.what, why=e.why, fix=e.fix, where=(path.name,)
            )
        )
        return {}


def _weights(folder: Path, problems: list[Finding]) -> list[Path]:
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if (folder / INDEX).is_file():
        index = _json(folder / INDEX, problems, "") or {}
        names = (
            {str(n) for n in (index.get("weight_map") or {}).values()}
            if isinstance(index.get("weight_map"), dict)
            else set()
        )
        bad = sorted(n for n in names if not n.endswith(".safetensors") or "/" in n or "\\" in n)
        gone = sorted(n for n in names if not (folder / n).is_file())
        if not names or bad or gone:
            problems.append(
                _wrong(
                    INDEX,
                    f"names {', '.join((bad or gone)[:3]) or 'no files'}",
                    "The weights are in several files, and all of them are needed.",
                    f"Put all files into {folder}.",
                )
            )
            return []
        return [folder / n for n in sorted(names)]
    pickled = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    why = (
        f"{pickled[0]} is there, but a file of that kind can run any program when it is opened."
        if pickled
        else "They are the model itself."
    )
    problems.append(_wrong(WEIGHTS, "is missing", why, f"Put the safetensors version into {folder}."))
    return []


def _onnx(folder: Path, problems: list[Finding]) -> list[Path]:
    path = folder / ONNX
    if not path.is_file():
        others = sorted(p.name for p in folder.glob("*.onnx"))
        why = f"There is {others[0]}; it has to have that name." if others else "It is the model itself."
        problems.append(_wrong(ONNX, "is missing", why, f"Put {ONNX} into {folder}."))
        return []
    try:
        header = read_header(path)
    except NotOnnx as e:
        problems.append(
            _wrong(
                ONNX,
                f"is not an ONNX model: {e}",
                "The file is damaged, or something else.",
                "Copy it again.",
            )
        )
        return []
    ports = header.inputs
    shape = ports[0].shape if ports else ()
    if len(ports) != 1 or not header.outputs or ports[0].kind != FLOAT32 or len(shape) != 4 or shape[1] != 3:
        problems.append(
            _wrong(
                ONNX,
                "does not take pictures with the colours first",
                "CCIP takes (batch, 3, 384, 384) in float32.",
                "Choose the file model_feat.onnx of a CCIP model.",
            )
        )
        return []
    return [path]


def _json(path: Path, problems: list[Finding], hint: str) -> dict[str, Any] | None:
    if not path.is_file():
        problems.append(
            _wrong(
                path.name, "is missing", hint or "It says what the model is.", f"Put it into {path.parent}."
            )
        )
        return None
    try:
        if path.stat().st_size > _MOST_JSON:
            raise ValueError("it is far too large")
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise ValueError("it holds no settings")
    except (OSError, ValueError, RecursionError) as e:
        problems.append(_wrong(path.name, "cannot be read", f"{e}.", "Copy it again."))
        return None
    return found


def _inner(folder: Path) -> str:
    """A hint for the folders of the hub's own cache, whose files lie deeper."""
    inner = next(folder.glob("snapshots/*/config.json"), None)
    return f"The files lie deeper, in {inner.parent}." if inner is not None else ""


def _wrong(name: str, what: str, why: str, fix: str) -> Finding:
    return Finding(
        severity="block", code="measuring-file", what=f"{name} {what}.", why=why, fix=fix, where=(name,)
    )
