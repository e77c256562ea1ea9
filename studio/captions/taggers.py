"""Tagger models: those that can be downloaded (`data/taggers.yaml`), those in a folder of the user's, and whether one fits.

A tagger is a folder with `model.onnx` and `selected_tags.csv`. The interface is that of the WD taggers: float32 pictures
(batch, side, side, 3) in, one probability a tag out, in the order of the table. Everything that can be told without
running the model is checked before any time is spent: both files there, the table's columns, as many tags as outputs.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from studio import files
from studio.captions.onnx_header import FLOAT32, NotOnnx, read_header
from studio.errors import InputError, NotFoundError
from studio.findings import Finding
from studio.workspace import Workspace, shipped

MODEL, TABLE = "model.onnx", "selected_tags.csv"
RATING, GENERAL, CHARACTER = 9, 0, 4
"""Categories of the table: `9` rating, `0` general, `4` character. Others (artist, series) are treated as general."""
COLUMNS = ("name", "category")
MOST_TABLE_BYTES = 50_000_000
HUB = "https://huggingface.co"


class TaggerFile(BaseModel):
    """One file of a tagger on the hub."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    bytes: int
    sha256: str


class TaggerEntry(BaseModel):
    """A tagger that can be downloaded. Its files lie in `models/taggers/<id>` of the workspace afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: str
    title: str
    repo: str
    revision: str
    licence: str
    summary: str
    files: dict[str, TaggerFile]

    @property
    def size_bytes(self) -> int:
        return sum(f.bytes for f in self.files.values())

    def url(self, name: str, hub: str = HUB) -> str:
        """Where a file lies on the hub."""
        return f"{hub}/{self.repo}/resolve/{self.revision}/{name}"

    def folder(self, workspace: Workspace) -> Path:
        """Where its files belong on this computer."""
        return workspace.models_dir / "taggers" / self.id

    def is_here(self, workspace: Workspace) -> bool:
        """Whether all its files are here in full length; their hashes were checked when they came."""
        folder = self.folder(workspace)
        try:
            return all((folder / n).stat().st_size == f.bytes for n, f in self.files.items())
        except OSError:
            return False


@dataclass(frozen=True)
class Tag:
    """One tag of the table: its name as the table spells it, and its category."""

    name: str
    category: int


@dataclass(frozen=True)
class Tagger:
    """A tagger that was checked: its folder, tags in the order of the outputs, the side of its input in pixels, how many
    pictures it takes at once (None: any number), and a short hash that changes when either file does."""

    folder: Path
    tags: tuple[Tag, ...]
    side: int
    batch: int | None
    input_name: str
    mark: str

    @property
    def title(self) -> str:
        return self.folder.name


@lru_cache(maxsize=1)
def downloadable() -> tuple[TaggerEntry, ...]:
    """The taggers of the shipped list."""
    raw = files.read_yaml(shipped("data", "taggers.yaml")) or {}
    try:
        return tuple(TaggerEntry.model_validate(t) for t in raw["taggers"])
    except (ValidationError, KeyError, TypeError) as e:
        raise InputError("data/taggers.yaml cannot be used.", str(e), "Install the studio again.") from e


def entry(tagger_id: str) -> TaggerEntry:
    """An entry of the list. Raises NotFoundError."""
    for found in downloadable():
        if found.id == tagger_id:
            return found
    raise NotFoundError(
        f"There is no tagger called '{tagger_id}'.",
        "It is neither on the list nor a folder on this computer.",
        f"Use one of: {', '.join(t.id for t in downloadable())}; or give the folder of a tagger that you have.",
    )


def folder_of(workspace: Workspace, model: str) -> Path:
    """The folder meant by a setting: an id of the list, or a path. Raises NotFoundError, InputError when it is not here."""
    known = {t.id: t for t in downloadable()}
    if model in known:
        found = known[model]
        if not found.is_here(workspace):
            raise InputError(
                f"The tagger {found.title} is not on this computer yet.",
                f"It is downloaded once: {files.human_size(found.size_bytes)}.",
                f"Download it here, or with `lora-studio autocaption download {found.id}`.",
            )
        return found.folder(workspace)
    if not model.strip():
        raise InputError(
            "No folder is named.",
            "A tagger is a folder with model.onnx and selected_tags.csv.",
            "Give its full path, or choose a tagger of the list.",
        )
    path = Path(model).expanduser()
    if not path.is_absolute():
        return entry(model).folder(workspace)  # raises, naming what there is
    return path


def check_folder(folder: Path) -> Tagger:
    """A tagger folder, checked. Raises InputError with every problem at once. Remembered while the files stay the same."""
    problems = [
        _missing(folder, name, words)
        for name, words in ((MODEL, "the model itself"), (TABLE, "the table with the names of its tags"))
        if not (folder / name).is_file()
    ]
    if not folder.is_dir():
        raise InputError(
            f"There is no folder {folder}.",
            "A tagger is a folder with model.onnx and selected_tags.csv.",
            "Give the path of such a folder, or download a tagger.",
        )
    if problems:
        raise _refused(folder, problems)
    stamps = tuple((s.st_size, s.st_mtime_ns) for s in ((folder / n).stat() for n in (MODEL, TABLE)))
    return _checked(folder, stamps)


@lru_cache(maxsize=8)
def _checked(folder: Path, stamps: tuple[tuple[int, int], ...]) -> Tagger:
    problems: list[Finding] = []
    tags = read_table(folder / TABLE, problems)
    side, batch, name, outputs = 0, None, "", 0
    try:
        header = read_header(folder / MODEL)
        if len(header.inputs) != 1 or not header.outputs:
            problems.append(
                _wrong(
                    MODEL,
                    f"has {len(header.inputs)} inputs and {len(header.outputs)} outputs",
                    "A tagger takes pictures and gives one list of probabilities.",
                )
            )
        else:
            port, out = header.inputs[0], header.outputs[0]
            name, shape = port.name, port.shape
            if (
                port.kind != FLOAT32
                or len(shape) != 4
                or shape[3] != 3
                or shape[1] != shape[2]
                or not shape[1]
            ):
                problems.append(
                    _wrong(
                        MODEL,
                        f"takes {_shape(shape)}, not square pictures with the colours last",
                        "The interface of the WD taggers is (batch, 448, 448, 3) in float32.",
                    )
                )
            else:
                side, batch = shape[1], shape[0]
            outputs = (out.shape[-1] if out.shape else 0) or 0
    except NotOnnx as e:
        problems.append(
            _wrong(MODEL, f"is not an ONNX model: {e}", "The file is damaged, or something else.")
        )
    if tags and outputs and len(tags) != outputs:
        problems.append(
            _wrong(
                TABLE,
                f"names {len(tags):,} tags, but the model gives {outputs:,} numbers",
                "Each number belongs to the tag in the same place; with another table every tag would be wrong.",
            )
        )
    if problems:
        raise _refused(folder, problems)
    mark = files.fingerprint([files.ends_hash(folder / MODEL), files.sha256_file(folder / TABLE), side])
    return Tagger(folder, tuple(tags), side, batch, name, mark)


def read_table(path: Path, problems: list[Finding]) -> list[Tag]:
    """The tags in order. What is wrong goes to `problems`; the answer is empty then."""
    if path.stat().st_size > MOST_TABLE_BYTES:
        problems.append(_wrong(TABLE, "is larger than any table of tags", "It must be another file."))
        return []
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"))))
    except (UnicodeDecodeError, csv.Error) as e:
        problems.append(_wrong(TABLE, "is not a table in UTF-8", f"{e}."))
        return []
    missing = [c for c in COLUMNS if not rows or c not in rows[0]]
    if missing:
        problems.append(
            _wrong(
                TABLE,
                f"has no column {' and no column '.join(missing)}" if rows else "has no rows",
                "The table has a line for each tag, with the columns tag_id, name, category and count.",
            )
        )
        return []
    tags = []
    for n, row in enumerate(rows, 2):
        name, category = (row["name"] or "").strip(), (row["category"] or "").strip()
        if not name or not category.isdigit():
            problems.append(
                _wrong(TABLE, f"has no name or no category in line {n}", "Every output needs both.")
            )
            return []
        tags.append(Tag(name, int(category)))
    return tags


def _shape(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('any' if d is None else str(d) for d in shape)})"


def _missing(folder: Path, name: str, words: str) -> Finding:
    return Finding(
        severity="block", code="tagger-file-missing", what=f"{name} is missing.", where=(name,),
        why=f"It is {words}.", fix=f"Put {name} into {folder}.",
    )  # fmt: skip


def _wrong(name: str, what: str, why: str) -> Finding:
    return Finding(
        severity="block", code="tagger-file-wrong", what=f"{name} {what}.", why=why, where=(name,),
        fix=f"Take {MODEL} and {TABLE} from the same place, and copy them again.",
    )  # fmt: skip


def _refused(folder: Path, problems: list[Finding]) -> InputError:
    if len(problems) == 1:
        one = problems[0]
        return InputError(f"{folder.name}: {one.what}", one.why, one.fix, problems)
    return InputError(
        f"{folder.name} cannot be used as a tagger: {len(problems)} problems.",
        "A tagger is a folder with model.onnx and selected_tags.csv that belong together.",
        "Mend all of them, or download a tagger.",
        problems,
    )
