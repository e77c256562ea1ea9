"""A dataset taken elsewhere: whole, never over anything, and read alike by sd-scripts and by the studio itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from studio.captions.store import CaptionStore
from studio.dataset import export as exporting
from studio.dataset.export import ExportReport, Layout, export_dataset
from studio.dataset.intake import import_pictures
from studio.dataset.origins import picture_repeats, regularisation_pictures
from studio.dataset.scan import scan
from studio.dataset.subsets import mark_regularisation, project_subsets, set_repeats, times_shown
from studio.errors import EnvironmentalError, InputError
from studio.project import Intent, Project, create_project
from studio.workspace import Workspace
from tests.dataset.pictures import scene

SD_SCRIPTS = os.environ.get("STUDIO_SD_SCRIPTS", "")
SD_PYTHON = os.environ.get("STUDIO_SD_SCRIPTS_PYTHON", "")


def fill(project: Project) -> None:
    """Pictures of many kinds, captions of many kinds, three sorts of repeats, two regularisation pictures."""
    folder, save = project.dataset_dir, {}
    for i in range(6):
        scene(i, (96, 80)).save(folder / f"plain{i}.png")
        save[f"plain{i}.png"] = f"boat {i}, on a lake"
    scene(10, (80, 96)).convert("CMYK").save(folder / "cmyk.JPG", quality=95)
    save["cmyk.JPG"] = "four inks"
    turned = scene(11, (96, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    save["turned.jpg"] = "turned by the camera"
    clear = scene(12, (64, 64)).convert("RGBA")
    clear.putalpha(Image.linear_gradient("L").resize((64, 64)))
    clear.save(folder / "clear.webp", lossless=True)
    save["clear.webp"] = "see-through"
    scene(13, (72, 72)).save(folder / "scan.tiff")
    save["scan.tiff"] = 'a "quoted" \\ caption, 猫, naïve'
    scene(14, (72, 72)).save(folder / "мост 猫 [1] %d.webp")
    save["мост 猫 [1] %d.webp"] = "first line\nsecond line"
    scene(15, (64, 72)).save(
        folder / "plain1_10_20_30_40.png"
    )  # no caption: sd-scripts would take that of plain1
    scene(16, (64, 64)).save(folder / "harbour.png")
    scene(17, (64, 64)).save(folder / "street.png")
    save |= {"harbour.png": "a harbour", "street.png": "a street"}
    CaptionStore(project).set_many(save)
    (folder / "broken.png").write_bytes((folder / "plain0.png").read_bytes()[:200])
    set_repeats(project, ["plain0.png", "turned.jpg", "scan.tiff"], 3)
    set_repeats(project, ["harbour.png"], 2)
    mark_regularisation(project, ["harbour.png", "street.png"])


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of many kinds, with the setting `repeats` at 2. Not to be changed."""
    workspace = Workspace(tmp_path_factory.mktemp("export"))
    project = create_project(workspace, Intent(kind="style", name='Mira "x"\n\\', trigger="mirastyle"))
    fill(project)
    project.save_settings(
        project.settings.model_copy(update={"repeats": 2, "resolution": 64, "bucket_step": 8})
    )
    return project


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def expected(project: Project) -> dict[str, tuple[int, bool, str]]:
    """By stem: repeats, regularisation, caption."""
    readable = [p.name for p in scan(project).readable]
    texts = {n: c.text for n, c in CaptionStore(project).all().items()}
    return {
        Path(n).stem: (
            s.repeats,
            s.regularisation,
            texts[n].removeprefix("mirastyle, ") if s.regularisation else texts[n],
        )
        for s in project_subsets(project, project.settings, readable)
        for n in s.names
    }


def test_folders_with_repeats_in_their_names(filled: Project, tmp_path: Path) -> None:
    before = files_of(filled.dataset_dir)
    told: list[tuple[int, int, str]] = []
    report = export_dataset(filled, tmp_path / "new" / "out", progress=lambda *a: told.append(a))
    out = files_of(tmp_path / "new" / "out")
    assert {n.rsplit("/", 1)[0] for n in out if "/" in n} == {
        "img/2_mirastyle",
        "img/6_mirastyle",
        "reg/1_reg",
        "reg/2_reg",
    }
    assert out["img/6_mirastyle/plain0.png"] == before["plain0.png"], "byte for byte"
    assert out["img/6_mirastyle/plain0.txt"] == b"mirastyle, boat 0, on a lake"
    assert out["reg/2_reg/harbour.txt"] == b"a harbour", "taught without the trigger word"
    assert out["img/2_mirastyle/мост 猫 [1] %d.txt"].decode() == "mirastyle, first line\nsecond line"
    assert (report.pictures, report.captions) == (14, 13)
    assert [(p.repeats, p.regularisation, p.pictures) for p in report.parts] == [
        (2, False, 9),
        (6, False, 3),
        (1, True, 1),
        (2, True, 1),
    ]
    assert {f.code: f.where for f in report.left_out} == {
        "picture-unreadable": ("broken.png",), "caption-missing": ("plain1_10_20_30_40.png",), "caption-lines": ("мост 猫 [1] %d.webp",),
    }  # fmt: skip
    assert told[0][:2] == (0, 14) and told[-1][:2] == (14, 14)
    assert report.bytes == sum(len(c) for n, c in out.items() if n != "dataset.toml")
    assert "14 pictures with 13 captions" in report.words
    assert json.dumps(report.as_dict())
    assert files_of(filled.dataset_dir) == before
    assert not [p for p in (tmp_path / "new").iterdir() if p.name != "out"]


def test_pictures_that_trainers_read_otherwise_go_as_they_are_shown(filled: Project, tmp_path: Path) -> None:
    report = export_dataset(filled, tmp_path / "out", layout="flat")
    assert report.converted == {
        "turned.jpg": "turned.png", "clear.webp": "clear.png", "scan.tiff": "scan.png", "cmyk.JPG": "cmyk.jpg",
        "plain1_10_20_30_40.png": "plain1-10-20-30-40.png",
    }  # fmt: skip
    found = {p.name: p for p in (tmp_path / "out").rglob("*.png")}
    with Image.open(found["turned.png"]) as image:
        assert image.size == (64, 96) and not image.getexif()
    with Image.open(found["clear.png"]) as image:
        assert image.mode == "RGB" and min(image.getpixel((5, 0))) >= 250, "white shows through"  # type: ignore[type-var]
    with Image.open(found["scan.png"]) as image, Image.open(filled.dataset_dir / "scan.tiff") as source:
        assert image.tobytes() == source.tobytes()


@pytest.mark.parametrize("layout", ["folders", "flat"])
def test_the_dataset_config_says_what_training_would_do(
    filled: Project, tmp_path: Path, layout: Layout
) -> None:
    report = export_dataset(filled, tmp_path / 'o\'ut "2"', layout=layout)
    told = tomllib.loads((report.target / "dataset.toml").read_text(encoding="utf-8"))
    settings = filled.settings
    (dataset,) = told["datasets"]
    assert (dataset["resolution"], dataset["batch_size"], dataset["bucket_reso_steps"]) == (
        64,
        settings.batch_size,
        8,
    )
    assert dataset["enable_bucket"] is settings.buckets and told["general"]["caption_extension"] == ".txt"
    for subset, part in zip(dataset["subsets"], report.parts, strict=True):
        assert Path(subset["image_dir"]) == report.target / part.folder and Path(subset["image_dir"]).is_dir()
        assert (subset["num_repeats"], subset.get("is_reg", False)) == (part.repeats, part.regularisation)


def test_a_zip_holds_the_same_with_paths_that_can_move(filled: Project, tmp_path: Path) -> None:
    export_dataset(filled, tmp_path / "out")
    report = export_dataset(filled, tmp_path / "out.zip")
    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        packed = {n: archive.read(n) for n in archive.namelist()}
    unpacked = files_of(tmp_path / "out")
    config = tomllib.loads(packed.pop("dataset.toml").decode())
    unpacked.pop("dataset.toml")
    assert packed == unpacked
    assert [s["image_dir"] for s in config["datasets"][0]["subsets"]] == [p.folder for p in report.parts]
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_importing_it_gives_the_same_captions_and_repeats(filled: Project, tmp_path: Path, name: str) -> None:
    export_dataset(filled, tmp_path / name, own_repeats=True)
    again = create_project(
        Workspace(tmp_path / "home"), Intent(kind="style", name="Again", trigger="mirastyle")
    )
    report = import_pictures(again, [tmp_path / name])
    assert (len(report.added), report.refused) == (14, [])
    names = {Path(n).stem: n for n in (p.name for p in scan(filled).readable)}
    names["plain1-10-20-30-40"] = names.pop("plain1_10_20_30_40")
    here = {Path(n).stem: c.text for n, c in CaptionStore(again).all().items()}
    there = {s: CaptionStore(filled).get(n).text for s, n in names.items()}
    for stem in ("harbour", "street"):
        there[stem] = there[stem].removeprefix("mirastyle, ")
    assert here == there
    own = picture_repeats(filled)
    assert {Path(n).stem: r for n, r in picture_repeats(again).items()} == {
        s: own.get(n, 1) for s, n in names.items()
    }
    assert {Path(n).stem for n in regularisation_pictures(again)} == {"harbour", "street"}


@pytest.mark.skipif(
    not (SD_SCRIPTS and SD_PYTHON),
    reason="set STUDIO_SD_SCRIPTS to a checkout of sd-scripts and STUDIO_SD_SCRIPTS_PYTHON to the Python it is installed in",
)
@pytest.mark.parametrize("way", ["folders", "flat", "by names"])
def test_sd_scripts_itself_reads_every_picture_repeat_and_caption(
    filled: Project, tmp_path: Path, way: str
) -> None:
    """Through sd-scripts' own dataset classes: by the config in both layouts, and by the folders' names alone."""
    report = export_dataset(filled, tmp_path / "out", layout="flat" if way == "flat" else "folders")
    script = Path(__file__).with_name("sdscripts_reads.py")
    given = ["folders", "out/img", "out/reg"] if way == "by names" else ["config", "out/dataset.toml"]
    given = [given[0], *(str(tmp_path / g) for g in given[1:])]
    done = subprocess.run(
        [SD_PYTHON, str(script), *given], cwd=SD_SCRIPTS, capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, "COLUMNS": "400"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    line = next(li for li in done.stdout.splitlines() if li.startswith("RESULT "))
    found = json.loads(line.removeprefix("RESULT "))
    ours = expected(filled)
    ours["plain1-10-20-30-40"] = ours.pop("plain1_10_20_30_40")
    if way == "by names":  # without a caption file, sd-scripts takes the folder's name
        ours["plain1-10-20-30-40"] = (*ours["plain1-10-20-30-40"][:2], "mirastyle")
    shown = {
        Path(n).stem: t
        for n, t in times_shown(
            project_subsets(filled, filled.settings, [p.name for p in scan(filled).readable])
        ).items()
    }
    shown["plain1-10-20-30-40"] = shown.pop("plain1_10_20_30_40")
    theirs = {
        Path(p["path"]).stem: (p["repeats"], p["regularisation"], p["caption"]) for p in found["pictures"]
    }
    # sd-scripts reads the first line; regularisation pictures are shown until they are as many as the others
    assert theirs == {s: (shown[s], reg, text.split("\n")[0]) for s, (_, reg, text) in ours.items()}
    assert len(found["pictures"]) == report.pictures
    assert found["train_images"] == sum(r for r, reg, _ in ours.values() if not reg)
    sizes = {
        Path(p.name).stem.replace("plain1_10_20_30_40", "plain1-10-20-30-40"): [p.width, p.height]
        for p in scan(filled).readable
    }
    assert {Path(p["path"]).stem: p["size"] for p in found["pictures"]} == sizes, (
        "turned pictures are upright"
    )


# ---------------------------------------------------------------- nothing is written over, nothing is left behind


def test_wrong_targets_are_refused_and_nothing_is_made(filled: Project, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    (tmp_path / "there.zip").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    (tmp_path / "inside").symlink_to(filled.dataset_dir)
    before = files_of(tmp_path)
    for wrong, words in (
        ("full", "exists already"), ("file", "exists already"), ("there.zip", "exists already"), ("link", "exists already"),
        ("file/below", "cannot be made"), (str(filled.dataset_dir / "x"), "inside the project"), (str(filled.folder / "x.zip"), "inside the project"),
        ("inside/x", "inside the project"), ("nul\0", "not a path"), (str(filled.folder), "inside the project"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=words) as e:
            export_dataset(filled, tmp_path / wrong)
        assert e.value.why and e.value.fix
    with pytest.raises(InputError, match="no layout"):
        export_dataset(filled, tmp_path / "out", layout="sideways")  # type: ignore[arg-type]
    empty = create_project(
        Workspace(tmp_path / "home"), Intent(kind="style", name="Empty", trigger="emptyxq")
    )
    with pytest.raises(InputError, match="no pictures"):
        export_dataset(empty, tmp_path / "out")
    assert {n: c for n, c in files_of(tmp_path).items() if not n.startswith("home")} == before
    assert not (tmp_path / "out").exists()


def test_an_empty_folder_may_be_filled(filled: Project, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    export_dataset(filled, tmp_path / "out")
    assert (tmp_path / "out" / "dataset.toml").is_file()


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_stopping_leaves_nothing(filled: Project, tmp_path: Path, name: str) -> None:
    asked: list[int] = []
    report = export_dataset(filled, tmp_path / name, should_stop=lambda: len(asked) == 5 or asked.append(1))  # type: ignore[arg-type,func-returns-value]
    assert report == ExportReport(tmp_path / name, stopped=True) and "Nothing was written" in report.words
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out", "out.zip"])
def test_somebody_else_takes_the_name_meanwhile(filled: Project, tmp_path: Path, name: str) -> None:
    def meanwhile(done: int, total: int, _: str) -> None:
        if done == 3:
            if name == "out":
                (tmp_path / name).mkdir()
                (tmp_path / name / "theirs.txt").write_text("theirs")
            else:
                (tmp_path / name).write_text("theirs")

    with pytest.raises(EnvironmentalError, match="could not be written"):
        export_dataset(filled, tmp_path / name, progress=meanwhile)
    assert list(files_of(tmp_path).values()) == [b"theirs"]


def test_too_little_room_is_told_before(
    filled: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting.files, "free_bytes", lambda _: 1000)
    with pytest.raises(EnvironmentalError, match="not enough room"):
        export_dataset(filled, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


_DIES = """
import os, signal, sys
from pathlib import Path
from studio.dataset.export import export_dataset
from studio.project import open_project
from studio.workspace import Workspace

def dies(done, total, name):
    if done == 5:
        os.kill(os.getpid(), signal.SIGKILL)
export_dataset(open_project(Workspace(Path(sys.argv[1])), sys.argv[2]), Path(sys.argv[3]), progress=dies)
"""


@pytest.mark.skipif(os.name == "nt", reason="kills with a signal")
def test_a_killed_export_leaves_no_half_dataset(filled: Project, tmp_path: Path) -> None:
    arguments = [str(filled.workspace.root), filled.slug, str(tmp_path / "out")]
    child = subprocess.run([sys.executable, "-c", _DIES, *arguments], check=False)
    assert child.returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert export_dataset(filled, tmp_path / "out").pictures == 14
