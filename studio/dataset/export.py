"""Taking a dataset elsewhere: a folder or a ZIP in kohya's layout, which sd-scripts trains on as it is.

    folders (the default)                     flat
    img/5_mirastyle/boat.png, boat.txt        pictures/boat.png, boat.txt
    reg/1_reg/harbour.png, harbour.txt        reg/harbour.png, harbour.txt
    dataset.toml                              dataset.toml

Pictures that sd-scripts could not read, or would read otherwise than the studio shows them, go as PNG: it knows no
TIFF, GIF or HEIC, turns no picture upright and shows what transparency hides (`load_image` and `IMAGE_EXTENSIONS`,
library/train_util.py v0.10.1). All others go byte for byte. Nothing in the project changes, and nothing that exists
is ever written over.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from studio import files
from studio.captions.store import CaptionStore
from studio.dataset import origins
from studio.dataset.buckets import bucket_sizes
from studio.dataset.export_place import export_place
from studio.dataset.folder import full_look, stem_of
from studio.dataset.formats import open_picture, same_stem
from studio.dataset.pixels import eight_bits, on_white, orientation, turned
from studio.dataset.scan import Picture, scan
from studio.dataset.subsets import Subset, subsets_of, taught_caption
from studio.dataset.wording import about
from studio.errors import EnvironmentalError, InputError
from studio.findings import Finding

if TYPE_CHECKING:
    from studio.project import Project
    from studio.settings import TrainingSettings

Layout = Literal["folders", "flat"]
LAYOUTS: dict[Layout, str] = {
    "folders": "Folders with the repeats in their names, as in 5_mirastyle",
    "flat": "Plain folders; the repeats stand in dataset.toml",
}
"""How the pictures are laid out, with its name in the app."""

READ_AS_IT_IS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp"})
"""Endings that every sd-scripts reads; AVIF only where a plug-in is installed."""
Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Part:
    """One folder of an export: `folder` inside the target, its repeats, and how many pictures and captions lie in it."""

    folder: str
    repeats: int
    regularisation: bool
    pictures: int
    captions: int


@dataclass
class ExportReport:
    """What was written.

    target:    the folder or ZIP.   parts: its folders.   bytes: of pictures and captions.
    converted: pictures that went as PNG, by their name in the project -> their name in the export.
    left_out:  what could not go, and what trainers will not read as it stands here.
    stopped:   ended before it was done; nothing was left behind.
    """

    target: Path
    layout: Layout = "folders"
    parts: list[Part] = field(default_factory=list)
    converted: dict[str, str] = field(default_factory=dict)
    left_out: list[Finding] = field(default_factory=list)
    bytes: int = 0
    stopped: bool = False

    @property
    def pictures(self) -> int:
        return sum(p.pictures for p in self.parts)

    @property
    def captions(self) -> int:
        return sum(p.captions for p in self.parts)

    @property
    def words(self) -> str:
        """What was written, in one sentence."""
        if self.stopped:
            return "Stopped. Nothing was written."
        count = f"{self.pictures} picture{'s' if self.pictures != 1 else ''}"
        return f"{count} with {self.captions} captions written to {self.target} ({files.human_size(self.bytes)})."

    def as_dict(self) -> dict[str, Any]:
        """As plain data, for `--json`."""
        return {
            "target": str(self.target), "layout": self.layout, "pictures": self.pictures, "captions": self.captions,
            "bytes": self.bytes, "stopped": self.stopped, "converted": self.converted,
            "parts": [vars(p) for p in self.parts],
            "findings": [f.model_dump(mode="json") for f in self.left_out],
        }  # fmt: skip


@full_look()
def export_dataset(
    project: Project,
    target: Path,
    *,
    layout: Layout = "folders",
    own_repeats: bool = False,
    progress: Progress | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> ExportReport:
    """Write the dataset to a new folder, or to a new ZIP when `target` ends in `.zip`; all of it or nothing.

    own_repeats: leave the setting `repeats` out, so that importing the export again gives the same repeats; otherwise
                 the repeats are those that training uses.
    progress:    told (done, total, name) before each picture.   should_stop: asked before each.
    Raises InputError when the target exists or lies inside the project, or when there is no picture; EnvironmentalError
    when the disk has no room or refuses.
    """
    target = check_target(project, target, layout)
    seen = scan(project).pictures
    good = {p.name: p for p in seen if not p.error}
    if not good:
        raise InputError(
            "There are no pictures to export.",
            "The dataset is empty." if not seen else "None of its pictures can be read.",
            "Import pictures first.",
        )
    settings, trigger = project.settings, project.intent.trigger
    captions = CaptionStore(project).all()
    subsets = subsets_of(
        good,
        origins.picture_repeats(project),
        origins.regularisation_pictures(project),
        1 if own_repeats else settings.repeats,
    )
    report = ExportReport(target, layout)
    report.left_out += about(
        "warn", "picture-unreadable", [p.name for p in seen if p.error], "{0} cannot be read and stays here.",
        "{0} pictures cannot be read and stay here.", "A trainer would stop at it.", "See the audit.",
    )  # fmt: skip
    texts = {
        n: taught_caption(captions[n].text if n in captions else "", trigger, s.regularisation).strip()
        for s in subsets
        for n in s.names
    }
    _about_texts(report, texts)
    _must_fit(target, sum(p.bytes for p in good.values()))
    folders = _folders(subsets, layout, trigger)
    with export_place(target) as place:
        done = 0
        for subset, folder in zip(subsets, folders, strict=True):
            taken: set[str] = set()
            captioned = 0
            for name in subset.names:
                if should_stop is not None and should_stop():
                    report.stopped = True
                    place.drop()
                    return ExportReport(target, layout, stopped=True)
                if progress is not None:
                    progress(done, len(good), name)
                done += 1
                raw = (project.dataset_dir / name).read_bytes()
                content, suffix = _readable(good[name], raw)
                stem = _free_stem(stem_of(name), taken, captioned=bool(texts[name]))
                if content is not raw or stem + suffix != name:
                    report.converted[name] = stem + suffix
                place.put(f"{folder}/{stem}{suffix}", content)
                report.bytes += len(content)
                if texts[name]:
                    words = texts[name].encode("utf-8", "replace")
                    place.put(f"{folder}/{stem}.txt", words)
                    report.bytes += len(words)
                    captioned += 1
            report.parts.append(
                Part(folder, subset.repeats, subset.regularisation, len(subset.names), captioned)
            )
        base = None if place.packed else target
        place.put("dataset.toml", dataset_toml(project.intent.name, report.parts, settings, base).encode())
    if progress is not None:
        progress(done, len(good), "")
    project.decided(
        "dataset exported", target=str(target), pictures=report.pictures, captions=report.captions
    )
    return report


def dataset_toml(name: str, parts: list[Part], settings: TrainingSettings, base: Path | None) -> str:
    """The dataset config for sd-scripts (`--dataset_config`). base: the folder that holds the parts; None writes paths
    relative to the folder that sd-scripts is started in."""
    sizes = bucket_sizes(settings.resolution, settings.bucket_step)
    shuffled = settings.shuffle_captions
    general = {
        "caption_extension": ".txt",
        "shuffle_caption": shuffled,
        "keep_tokens": max(1, settings.keep_tokens) if shuffled else settings.keep_tokens,
        "caption_dropout_rate": float(settings.caption_dropout),
        "flip_aug": settings.flip,
    }
    dataset = {
        "resolution": settings.resolution,
        "batch_size": settings.batch_size,
        "enable_bucket": settings.buckets,
        "min_bucket_reso": min(min(s) for s in sizes),
        "max_bucket_reso": max(max(s) for s in sizes),
        "bucket_reso_steps": settings.bucket_step,
        "bucket_no_upscale": settings.bucket_no_upscale,
    }
    where = (
        ""
        if base
        else "# Start sd-scripts in the folder that holds this file, or put its path before image_dir.\n"
    )
    lines = [
        f"# The dataset of {_one_line(name)}, for kohya's sd-scripts: --dataset_config dataset.toml\n{where}",
        "[general]",
        *(f"{k} = {_toml(v)}" for k, v in general.items()),
        "",
        "[[datasets]]",
        *(f"{k} = {_toml(v)}" for k, v in dataset.items()),
    ]
    for part in parts:
        folder = str(base / part.folder) if base else part.folder
        lines += ["", "[[datasets.subsets]]", f"image_dir = {_toml(folder)}", f"num_repeats = {part.repeats}"]
        if part.regularisation:
            lines.append("is_reg = true")
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    """A value as TOML; its strings are JSON's, but for the character DEL."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


# ---------------------------------------------------------------- before anything is written


def check_target(project: Project, target: Path, layout: str) -> Path:
    """The full path of an export. Raises InputError when it exists, lies inside the project or cannot be made."""
    if layout not in LAYOUTS:
        raise InputError(
            f"'{layout}' is no layout.", "Trainers look for pictures in a certain way.", f"Use one of: {', '.join(LAYOUTS)}."
        )  # fmt: skip
    try:
        target = Path(target).expanduser().absolute()
        inside = target.resolve().is_relative_to(project.folder.resolve())
        there = target.is_dir() and any(target.iterdir()) if target.is_dir() else os.path.lexists(target)
    except (OSError, ValueError, RuntimeError) as e:
        raise InputError(
            f"'{target}' is not a path that this computer knows.", str(e), "Check its spelling."
        ) from e
    if inside:
        raise InputError(
            "The export would lie inside the project.",
            "Its pictures would be taken for a part of what they are a copy of.",
            "Choose a folder elsewhere.",
        )
    if there:
        raise InputError(
            f"'{target}' exists already.",
            "An export never writes over anything.",
            f"Choose another name, such as {target.with_name(target.stem + '-2' + target.suffix).name}.",
        )
    if not target.name or target.parent.is_file():
        raise InputError(
            f"'{target}' cannot be made.", "Its parent is a file.", "Choose a name inside a folder."
        )
    return target


def _must_fit(target: Path, need: int) -> None:
    free = files.free_bytes(target.parent)
    if free < need + 50_000_000:
        raise EnvironmentalError(
            "There is not enough room for the export.",
            f"It needs about {files.human_size(need)}; {files.human_size(free)} are free.",
            "Free some room, or choose another disk.",
        )


def _about_texts(report: ExportReport, texts: Mapping[str, str]) -> None:
    report.left_out += about(
        "warn", "caption-missing", [n for n, t in texts.items() if not t], "{0} has no caption and goes without one.",
        "{0} pictures have no caption and go without one.", "Trainers then use an empty text, or the folder's name.",
        "Describe them on the captions page, then export again.",
    )  # fmt: skip
    report.left_out += about(
        "info", "caption-lines", [n for n, t in texts.items() if "\n" in t], "The caption of {0} has more than one line.",
        "{0} captions have more than one line.", "All lines go along, but sd-scripts reads the first one only.",
        "Join the lines if it should read them all.",
    )  # fmt: skip


# ---------------------------------------------------------------- names and contents


def _folders(subsets: list[Subset], layout: Layout, trigger: str) -> list[str]:
    """The folder of each subset, inside the target."""
    found = []
    for s in subsets:
        alike = sum(o.regularisation == s.regularisation for o in subsets)
        if layout == "folders":
            found.append(
                f"reg/{s.repeats}_reg"
                if s.regularisation
                else f"img/{s.repeats}_{trigger.strip() or 'pictures'}"
            )
        else:
            base = "reg" if s.regularisation else "pictures"
            found.append(base if alike == 1 else f"{base}/{s.repeats}x")
    return found


def _free_stem(stem: str, taken: set[str], *, captioned: bool) -> str:
    """A stem that no other picture of the folder has. For a picture without a caption, one whose end sd-scripts does
    not cut off in search of another's (it drops the last four of five or more parts between underscores)."""
    if not captioned and stem.count("_") >= 4:
        stem = stem.replace("_", "-")
    free, n = stem, 2
    while same_stem(free) in taken:
        free, n = f"{stem}-{n}", n + 1
    taken.add(same_stem(free))
    return free


def _readable(picture: Picture, raw: bytes) -> tuple[bytes, str]:
    """What a trainer gets, and its ending: the file itself where sd-scripts reads it as the studio shows it, else a PNG."""
    suffix = Path(picture.name).suffix.lower()
    if suffix in READ_AS_IT_IS and not (picture.exif_rotated or picture.has_alpha or picture.frames > 1):
        return raw, suffix
    image = open_picture(raw)
    turn = orientation(image)
    image.load()
    if image.mode.startswith(("I", "F")):
        image = eight_bits(image)
    elif image.mode in ("P", "PA"):
        image = image.convert("RGBA" if "transparency" in image.info or image.mode == "PA" else "RGB")
    flat, _ = on_white(turned(image, turn))
    out = io.BytesIO()
    (flat if flat.mode in ("RGB", "L") else flat.convert("RGB")).save(out, "PNG")
    return out.getvalue(), ".png"
