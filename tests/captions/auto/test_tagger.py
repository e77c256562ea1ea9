"""Tags: what the model sees, thresholds and spelling, and what is refused before any time is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from studio.captions.onnx_header import NotOnnx, read_header
from studio.captions.proposals import Ask, Proposal, Trouble
from studio.captions.tagger import Chooser, TaggerSettings, caption_of, mcut, spelled
from studio.captions.taggers import Tag, check_folder, downloadable, folder_of
from studio.captions.workers.picture import area_square, jpeg, opened, tagger_input
from studio.captions.workers.tagging import TaggingEngine
from studio.errors import InputError, NotFoundError
from studio.workspace import Workspace
from tests.captions.auto import standin


def tagged(folder: Path, paths: list[Path], **settings: Any) -> dict[str, str]:
    own = TaggerSettings(**{"model": str(folder), "order": "model", **settings})
    with TaggingEngine(check_folder(folder), own) as engine:
        found = list(engine.caption([Ask(p.name, p) for p in paths], lambda: False))
    assert [a.name for a in found] == [p.name for p in paths]
    return {a.name: a.caption if isinstance(a, Proposal) else a.what for a in found}


@pytest.fixture
def red(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    Image.new("RGB", (300, 300), (255, 0, 0)).save(path)
    return path


# ---------------------------------------------------------------- what the model sees


def test_channels_are_blue_first_and_from_0_to_255() -> None:
    seen = tagger_input(Image.new("RGB", (10, 10), (255, 128, 7)), 448)
    assert seen.shape == (448, 448, 3) and seen.dtype == np.float32
    assert seen[200, 200].tolist() == [7, 128, 255]


def test_a_wide_picture_gets_white_above_and_below(tmp_path: Path) -> None:
    seen = tagger_input(Image.new("RGB", (400, 100), (0, 0, 0)), 448)
    assert (seen[:160] == 255).all() and (seen[-160:] == 255).all()
    assert (seen[175:273] == 0).all()


def test_kinds_of_pictures(tmp_path: Path, tagger_folder: Path) -> None:
    """Whatever way red comes, it is tagged red; half transparent becomes pale, turned ones are turned."""
    base = Image.new("RGB", (64, 64), (250, 10, 10))
    made: dict[str, Image.Image] = {
        "rgb.png": base, "grey.png": base.convert("L"), "rgba.png": base.convert("RGBA"), "palette.png": base.convert("P"),
        "cmyk.jpg": base.convert("CMYK"), "webp.webp": base, "bmp.bmp": base,
    }  # fmt: skip
    made["clear.png"] = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    for name, image in made.items():
        image.save(tmp_path / name)
    Image.fromarray(np.full((64, 64), 65535, np.uint16)).save(tmp_path / "white16.png")
    Image.fromarray(np.full((64, 64), 3000, np.uint16)).save(tmp_path / "dark16.png")
    found = tagged(tagger_folder, [tmp_path / n for n in (*made, "white16.png", "dark16.png")])
    for name in ("rgb.png", "rgba.png", "palette.png", "webp.webp", "bmp.bmp", "cmyk.jpg"):
        assert found[name].startswith("red theme"), (name, found[name])
    assert "red theme" not in found["grey.png"]
    assert "white background" in found["clear.png"] and "white background" in found["white16.png"]
    assert "dark" in found["dark16.png"], "16 bits are scaled, not cut off at white"


def test_exif_rotation(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (100, 50), "red").save(tmp_path / "t.jpg", exif=exif)
    image = opened(Ask("t.jpg", tmp_path / "t.jpg"), 448)
    assert isinstance(image, Image.Image) and image.size == (50, 100)


@pytest.mark.parametrize("size", [(1900, 1200), (900, 1111), (450, 449), (200, 120), (60, 2400)])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_large_pictures_are_read_cheaply_but_look_the_same(
    tmp_path: Path, size: tuple[int, int], suffix: str
) -> None:
    """The short cut (the JPEG decoder's halves, averaging) against padding and scaling the whole picture."""
    ramp = np.linspace(0, 255, size[0])[None, :] * np.ones((size[1], 1))
    rows = np.linspace(0, 255, size[1])[:, None] * np.ones((1, size[0]))
    pixels = np.stack([ramp, rows, 255 - ramp], -1).astype(np.uint8)
    pixels[size[1] // 3 : size[1] // 2, size[0] // 4 : size[0] // 2] = (250, 240, 10)
    path = tmp_path / f"p{suffix}"
    Image.fromarray(pixels).save(path, **({"quality": 95} if suffix == ".jpg" else {}))
    image = opened(Ask(path.name, path), 448)
    assert isinstance(image, Image.Image)
    assert max(image.size) <= 2 * 448 * 2
    fast, whole = tagger_input(image, 448), tagger_input(Image.open(path).convert("RGB"), 448)
    assert np.abs(fast - whole).mean() < 1.0
    assert np.quantile(np.abs(fast - whole), 0.99) < 12


def test_smaller_pictures_for_services(tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (900, 1400, 3), dtype=np.uint8))
    assert len(jpeg(noise, 1024, 190_000)) < len(jpeg(noise, 1024))


# What OpenCV 4.10 makes of `pattern`, padded to a white square: cv2.resize(..., interpolation=cv2.INTER_AREA). Height,
# width, side, and the points in hexadecimal (of the last two the green ones only).
OPENCV = [
    (13, 9, 4, "abbfd3598ba1898678d8d2c8cfe4e3a37a697c8293d9ddd9d7b5ba6a77977f8179cfd1cdb6cbdf7a94806d868bc4c0c8"),
    (8, 8, 4, "13487d4075aaa59a4f8277ac5085ba89beb37a6f64a3988d8dc2b7d2473c4f84b984796eca7f345b5085a4998e659a8f"),
    (5, 16, 4, "ffffffffffffffffffffffff6b93bba7af97aba39ba79f97c6d1cbbdb8c2b4bfc9bbc6c0ffffffffffffffffffffffff"),
    (20, 20, 5, "4b80a591867b877c817d827793587da1766b778c917d928783887d696e93677c916d728783787d798e936f94997d927783887d897e838f"
                "8479958a6f73787d797e837f8479758a6f7b7085"),
    (11, 11, 10, "38435e89bb7c6fcc86d5586685b47f44a55c9842788aacc58776ae829b7b98adba7150a86d883faab8bc60347e9a78c17c81d8c62"
                 "15fad7f7a949f42556448899167af78c682183b6fb4956f6e7f6bb1385f969251a077a56e2c5882bdac655358348042"),
    (7, 32, 14, "ff" * 70 + "76a49ab3af92ae756c98ab9389b483b177816e82766c6e8b7b79798fbb4a909d7e78a5868a869595827df2cbe1d5dfe5bf"
                "d2b7d6e4d7dfda" + "ff" * 70),
]  # fmt: skip


def pattern(height: int, width: int) -> np.ndarray:
    y, x, c = np.mgrid[0:height, 0:width, 0:3]
    return ((x * x * 7 + y * 29 + x * y * 3 + c * 53) % 256).astype(np.uint8)


@pytest.mark.parametrize(("height", "width", "side", "points"), OPENCV)
def test_made_smaller_by_area_as_sd_scripts_does_it(height: int, width: int, side: int, points: str) -> None:
    """Half, a quarter and uneven parts of the size; upright, lying and square; points the studio's own, not OpenCV's."""
    made = area_square(pattern(height, width), side)
    assert made.shape == (side, side, 3) and made.dtype == np.uint8
    assert (made if side <= 5 else made[:, :, 1]).tobytes().hex() == points
    seen = tagger_input(Image.fromarray(pattern(height, width)), side, "area")
    assert (seen[:, :, ::-1] == made).all(), "the model gets the same, blue first"


def test_by_area_every_pixel_of_the_file_counts_and_small_pictures_grow_by_lanczos(tmp_path: Path) -> None:
    """Reading a JPEG at half its size, as the other way does, would change the points."""
    path = tmp_path / "p.jpg"
    Image.fromarray(pattern(300, 500)).save(path, quality=90)
    image = opened(Ask("p.jpg", path), 64, whole=True)
    assert isinstance(image, Image.Image) and image.size == (500, 300)
    assert (np.asarray(image) == np.asarray(Image.open(path))).all()
    square = Image.new("RGB", (30, 30), "white")
    square.paste(Image.fromarray(pattern(20, 30)), (0, 5))
    grown = square.resize((64, 64), Image.Resampling.LANCZOS)
    seen = tagger_input(Image.fromarray(pattern(20, 30)), 64, "area")
    assert (seen[:, :, ::-1] == np.asarray(grown)).all()


def test_the_engine_makes_pictures_smaller_as_it_was_told(tmp_path: Path, tagger_folder: Path) -> None:
    path = tmp_path / "p.png"
    Image.fromarray(pattern(700, 900)).save(path)
    prepared = [
        TaggingEngine(check_folder(tagger_folder), TaggerSettings(model=str(tagger_folder), resize=way))._prepare(
            Ask("p.png", path)
        )
        for way in ("bicubic", "area")
    ]  # fmt: skip
    assert isinstance(prepared[0], np.ndarray) and isinstance(prepared[1], np.ndarray)
    assert (prepared[1][:, :, ::-1] == area_square(pattern(700, 900), prepared[1].shape[0])).all()
    assert (prepared[0] != prepared[1]).any()


# ---------------------------------------------------------------- the model


@pytest.mark.parametrize("batch", [None, 1, 3])
def test_batches(tmp_path: Path, batch: int | None) -> None:
    """A free batch axis, one picture at a time, and a fixed batch that is not full at the end give the same tags."""
    folder = standin.write(tmp_path / f"t{batch}", batch=batch)
    paths = []
    for n in range(7):
        paths.append(tmp_path / f"{n}.png")
        Image.new("RGB", (50, 50), (255 if n % 2 else 0, 0, 0 if n % 2 else 255)).save(paths[-1])
    assert check_folder(folder).batch == batch
    found = tagged(folder, paths, batch=4)
    assert [("red theme" in found[p.name]) for p in paths] == [n % 2 == 1 for n in range(7)]


def test_another_size_is_read_from_the_model(tmp_path: Path, red: Path) -> None:
    folder = standin.write(tmp_path / "small", side=64)
    assert check_folder(folder).side == 64
    assert tagged(folder, [red])["red.png"].startswith("red theme")


def test_a_damaged_picture_is_named_and_the_rest_goes_on(
    tmp_path: Path, tagger_folder: Path, red: Path
) -> None:
    (tmp_path / "cut.png").write_bytes(red.read_bytes()[:90])
    (tmp_path / "text.png").write_bytes(b"hello")
    own = TaggerSettings(model=str(tagger_folder))
    asks = [Ask(n, tmp_path / n) for n in ("cut.png", "text.png", "gone.png", "red.png")]
    with TaggingEngine(check_folder(tagger_folder), own) as engine:
        found = list(engine.caption(asks, lambda: False))
    assert [type(a) for a in found] == [Trouble, Trouble, Trouble, Proposal]
    assert "no longer in the dataset" in found[2].what  # type: ignore[union-attr]


def test_no_tag_sure_enough_is_said(tagger_folder: Path, red: Path) -> None:
    found = tagged(tagger_folder, [red], general=1.0, character=1.0)
    assert "sure enough" in found["red.png"]


# ---------------------------------------------------------------- choosing

TAGS = [Tag(n, c) for n, c, _, _ in standin.TAGS]


def scores(**high: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    names = [t.name for t in TAGS]
    out = np.full(len(TAGS), 0.05, np.float32)
    for name, value in high.items():
        out[
            names.index({"kao": ">_<", "eyes": "(o)_(o)", "hood": "red_riding_hood_(grimm)"}.get(name, name))
        ] = value
    return out


def chosen(found: np.ndarray[Any, Any], **settings: Any) -> str:
    return caption_of(Chooser(TAGS, TaggerSettings(**settings)).tags(found))


def test_thresholds_for_each_kind() -> None:
    seen = scores(long_hair=0.35, outdoors=0.349, hatsune_miku=0.85, hood=0.84, general=0.99)
    assert chosen(seen, order="model") == "long hair, hatsune miku"
    assert chosen(seen, order="confidence") == "hatsune miku, long hair"
    assert (
        chosen(seen, general=0.3, character=0.8, order="model")
        == "long hair, outdoors, hatsune miku, red riding hood (grimm)"
    )
    assert chosen(seen, order="model", rating=True) == "long hair, hatsune miku, general"


def test_spelling_and_exclusions() -> None:
    seen = scores(kao=0.9, eyes=0.8, long_hair=0.7, dark=0.6)
    assert chosen(seen) == ">_<, (o)_(o), long hair, dark", "kaomoji keep their underscores"
    assert chosen(seen, underscores=True) == ">_<, (o)_(o), long_hair, dark"
    assert chosen(seen, exclude=(" Long_Hair", "DARK")) == ">_<, (o)_(o)"
    assert chosen(seen, exclude=("long hair",), underscores=True) == ">_<, (o)_(o), dark"
    assert spelled("^_^") == "^_^" and spelled("a_b") == "a b"


def test_mcut() -> None:
    assert mcut([0.9, 0.8, 0.3, 0.2]) == pytest.approx(0.55)
    assert mcut([0.5]) == 1.0 and mcut([]) == 1.0
    seen = scores(long_hair=0.8, dark=0.75, outdoors=0.2, hatsune_miku=0.1)
    assert chosen(seen, mcut=True) == "long hair, dark", "noise is no character"


@pytest.mark.parametrize(
    "wrong", [{"general": 1.5}, {"general": -0.1}, {"character": float("nan")}, {"batch": 0}, {"batch": 65},
              {"order": "random"}, {"exclude": tuple(map(str, range(501)))}, {"threshold": 0.3}]
)  # fmt: skip
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        TaggerSettings(**wrong)


# ---------------------------------------------------------------- folders


def test_what_is_refused_by_name(tmp_path: Path, workspace: Workspace) -> None:
    cases: dict[str, tuple[str, ...]] = {}
    standin.write(tmp_path / "fewer", table=9)
    cases["fewer"] = ("selected_tags.csv", "9 tags", "15 numbers")
    standin.write(tmp_path / "columns")
    (tmp_path / "columns/selected_tags.csv").write_text("id,tag\n1,cat\n")
    cases["columns"] = ("no column name and no column category",)
    standin.write(tmp_path / "text")
    (tmp_path / "text/model.onnx").write_text("<html>404 not found</html>")
    cases["text"] = ("model.onnx is not an ONNX model",)
    standin.write(tmp_path / "cut")
    (tmp_path / "cut/model.onnx").write_bytes((tmp_path / "cut/model.onnx").read_bytes()[:-30])
    cases["cut"] = ("model.onnx is not an ONNX model: it ends too early",)
    standin.write(tmp_path / "nothing")
    (tmp_path / "nothing/model.onnx").write_bytes(b"")
    cases["nothing"] = ("holds no graph",)
    standin.write(tmp_path / "pointer")
    (tmp_path / "pointer/model.onnx").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4\n"
    )
    cases["pointer"] = ("not an ONNX model",)
    standin.write(tmp_path / "nocsv")
    (tmp_path / "nocsv/selected_tags.csv").unlink()
    cases["nocsv"] = ("selected_tags.csv is missing",)
    standin.write(tmp_path / "binary")
    (tmp_path / "binary/selected_tags.csv").write_bytes(b"\xff\xfe\x00\x80")
    cases["binary"] = ("not a table in UTF-8",)
    standin.write(tmp_path / "blank")
    (tmp_path / "blank/selected_tags.csv").write_text("tag_id,name,category,count\n1,cat,0,1\n2,,0,1\n")
    cases["blank"] = ("line 3",)
    (tmp_path / "empty").mkdir()
    cases["empty"] = ("2 problems",)
    cases["absent"] = ("There is no folder",)
    for name, words in cases.items():
        with pytest.raises(InputError) as e:
            check_folder(tmp_path / name)
        assert all(w in str(e.value) for w in words), str(e.value)
        assert e.value.why and e.value.fix
    with pytest.raises(NotFoundError, match="no tagger called"):
        folder_of(workspace, "../../etc")
    with pytest.raises(InputError, match="not on this computer"):
        folder_of(workspace, "wd-vit-v3")


def test_another_kind_of_model_is_refused(tmp_path: Path) -> None:
    import onnx
    from onnx import TensorProto, helper

    standin.write(tmp_path / "nchw")
    shape = ["N", 3, 448, 448]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["pixel_values"], ["y"])],
        "other",
        [helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
    )
    onnx.save(helper.make_model(graph), str(tmp_path / "nchw/model.onnx"))
    with pytest.raises(InputError, match="colours last"):
        check_folder(tmp_path / "nchw")


def test_the_header_agrees_with_onnx(tagger_folder: Path) -> None:
    import onnx

    header, model = read_header(tagger_folder / "model.onnx"), onnx.load(str(tagger_folder / "model.onnx"))
    assert [p.name for p in header.inputs] == [i.name for i in model.graph.input] == ["input"]
    assert header.inputs[0].shape == (None, 448, 448, 3) and header.outputs[0].shape == (None, 15)


def test_a_model_that_onnxruntime_cannot_run_is_told(tmp_path: Path, red: Path) -> None:
    folder = standin.write(tmp_path / "odd")
    raw = (folder / "model.onnx").read_bytes()
    (folder / "model.onnx").write_bytes(raw.replace(b"ReduceMean", b"ReduceMoon"))
    with pytest.raises(InputError, match="cannot be run") as e:
        tagged(folder, [red])
    assert "ReduceMoon" in e.value.why


@pytest.mark.parametrize(
    "junk", [b"", b"\x00" * 400, b"\xff" * 400, b"\x3a\xff\xff\xff\xff\xff\x7f", b"PK\x03\x04" + b"a" * 99]
)
def test_any_bytes_are_refused_calmly(tmp_path: Path, junk: bytes) -> None:
    (tmp_path / "m.onnx").write_bytes(junk)
    with pytest.raises(NotOnnx):
        read_header(tmp_path / "m.onnx")


def test_the_list_of_taggers() -> None:
    for t in downloadable():
        assert set(t.files) == {"model.onnx", "selected_tags.csv"}
        assert all(len(f.sha256) == 64 and f.bytes > 1000 for f in t.files.values())
        assert t.url("model.onnx").startswith(f"https://huggingface.co/{t.repo}/resolve/{t.revision}/")
        assert len(t.revision) == 40 and t.licence and t.summary
