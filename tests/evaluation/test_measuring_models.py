"""Models that measure: which folders are taken, what is refused and why, and that real CLIP, DINO and ONNX classes run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from studio import files
from studio.errors import InputError, NotFoundError
from studio.evaluation import measures
from studio.evaluation.grid import Grid
from studio.evaluation.likeness import Seen, figures
from studio.evaluation.measuring_models import (
    ROLES,
    Role,
    check_folder,
    choose,
    chosen,
    downloadable,
    forget,
    role_of,
)
from studio.evaluation.spec import GridSpec, plan_cells
from studio.evaluation.store import CellStore
from studio.evaluation.workers.measuring import measure_grid
from studio.project import Project
from studio.workspace import Workspace, shipped
from tests.evaluation.measuring_models import tiny_ccip, tiny_clip, tiny_dino

MAKE: dict[Role, Callable[[Path], Path]] = {"clip": tiny_clip, "dino": tiny_dino, "ccip": tiny_ccip}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[Role, Path]:
    """One model of each kind."""
    place = tmp_path_factory.mktemp("measuring")
    return {role: make(place / role) for role, make in MAKE.items()}


@pytest.fixture
def copies(made: dict[Role, Path], tmp_path: Path) -> Callable[[Role], Path]:
    """A copy of a model, to be spoilt."""

    def copy(role: Role) -> Path:
        target = tmp_path / f"my-{role}"
        shutil.copytree(made[role], target)
        return target

    return copy


def drawn_grid(project: Project, spec: GridSpec) -> Grid:
    """A grid whose pictures are there: bluer with each weight, each prompt with a shape of its own, two of a kind a seed."""
    folder = project.grids_dir / spec.id
    files.write_text(folder / "grid.json", spec.model_dump_json())
    store = CellStore(project)
    places = {p.id: i for i, p in enumerate(spec.prompts)}
    for cell in plan_cells(spec):
        i = places[cell.prompt.id]
        chance = np.random.default_rng(i * 10 + cell.seed)
        pixels = np.full((32, 32, 3), 200.0) + chance.normal(size=(32, 32, 1)) * 25
        pixels[4 + 3 * i : 12 + 3 * i, 6:26] = (220, 60, 40)
        blue = np.array([30, 60, 160])
        if cell.prompt.family != "no_trigger":
            pixels = pixels * (1 - 0.8 * cell.weight) + blue * 0.8 * cell.weight
        store.put(cell.hash, Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), {"seed": str(cell.seed)})
    return Grid(folder)


@pytest.fixture
def grid(project: Project, plan: Callable[..., GridSpec]) -> Grid:
    return drawn_grid(project, plan(seeds=(1, 2)))


def test_every_measure_is_told_whole() -> None:
    assert len({m.id for m in measures.MEASURES}) == len(measures.MEASURES)
    for m in measures.MEASURES:
        assert m.says.endswith(".") and m.unseen.endswith(".") and m.source.endswith("."), m.id
        assert m.unseen in m.help and m.source in m.help
    guide = shipped("data", "guides", "evaluation.md").read_text(encoding="utf-8")
    assert all(m.title in guide for m in measures.MEASURES if not m.model), "each measure is in the guide"
    assert all(role.upper() in guide for role in ROLES)


def test_more_than_the_whole_way_is_no_percentage() -> None:
    assert (
        measures.BY_ID["effect"].words(1.05) == "1.05 ×" and measures.BY_ID["nearness"].words(0.72) == "72%"
    )
    assert measures.BY_ID["clip_text"].words(None) == "not available"


def test_a_grid_is_measured_by_real_models_and_nothing_twice(
    grid: Grid, made: dict[Role, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int, str]] = []
    first = measure_grid(grid, tell=lambda *t: told.append(t))
    assert first is not None and first["models"] == {} and first["looks"]["new"] > 0
    assert all(row.get("clip_text") is None for row in first["weights"])
    assert "no CLIP model" in measures.lacking(first, measures.BY_ID["clip_text"])

    for role, folder in made.items():
        choose(grid.project.workspace, role, folder)
    told.clear()
    found = measure_grid(grid, tell=lambda *t: told.append(t))
    assert found is not None
    assert {r: m["title"] for r, m in found["models"].items()} == {
        "clip": "clip",
        "dino": "dino",
        "ccip": "ccip",
    }
    assert {w for *_n, w in told} >= {"Measuring with clip", "Measuring with dino", "Measuring with ccip"}
    assert all(0 <= done <= whole for done, whole, _w in told) and told[-1][0] == told[-1][1]
    row = next(r for r in found["weights"] if r["weight"] == 1.0)
    base = next(r for r in found["weights"] if r["weight"] == 0.0)
    for key in ("clip_text", "clip_image", "dino", "dino_copies", "ccip"):
        assert row[key] is not None, key
    assert row["ccip"] >= base["ccip"], "bluer pictures are nearer to the blue set"
    low, high = row["spread"]["clip_text"]
    assert low <= row["clip_text"] <= high and low < high
    assert measures.with_spread(measures.BY_ID["clip_text"], row).endswith(f"({low:.3f} to {high:.3f})")

    class Never:
        def __init__(self, *_: object) -> None:
            raise AssertionError("what was measured is measured again")

    from studio.evaluation.workers import embedding, measuring

    monkeypatch.setattr(embedding, "open_embedder", Never)
    monkeypatch.setattr(measuring, "as_drawable", lambda p, *_: p if not p else Never())
    monkeypatch.setattr("studio.evaluation.workers.features.EfficientNetLite", Never)
    again = measure_grid(grid)
    assert again is not None and again["looks"]["new"] == 0
    assert again["weights"] == found["weights"] and again["cells"] == found["cells"]


def test_built_in_figures_do_not_depend_on_the_other_models(grid: Grid, made: dict[Role, Path]) -> None:
    first = measure_grid(grid)
    choose(grid.project.workspace, "dino", made["dino"])
    second = measure_grid(grid)
    assert first is not None and second is not None
    for a, b in zip(first["weights"], second["weights"], strict=True):
        assert {k: b[k] for k in a if k != "spread"} == {k: v for k, v in a.items() if k != "spread"}


def test_a_changed_picture_is_measured_anew(grid: Grid) -> None:
    first = measure_grid(grid)
    cell = next(c for c in grid.cells() if c.weight == 1.0)
    assert cell.path is not None and first is not None
    Image.new("RGB", (32, 32), "red").save(cell.path)
    second = measure_grid(grid)
    assert second is not None and second["looks"]["new"] == 1
    assert second["cells"][cell.hash] != first["cells"][cell.hash]


def test_spoilt_features_are_made_again(grid: Grid) -> None:
    first = measure_grid(grid)
    stored = sorted((grid.project.cache_dir / "features").glob("*.npz"))
    for path, content in zip(stored, (b"", b"PK\x03\x04 broken"), strict=False):
        path.write_bytes(content)
    second = measure_grid(grid)
    assert first is not None and second is not None
    assert second["looks"]["new"] == 2 and second["weights"] == first["weights"]


def test_measuring_can_be_stopped_and_keeps_what_it_has(grid: Grid) -> None:
    class Stop(Exception):
        pass

    calls = 0

    def check() -> None:
        nonlocal calls
        calls += 1
        if len(list((grid.project.cache_dir / "features").glob("*.npz"))) > 20:
            raise Stop

    with pytest.raises(Stop):
        measure_grid(grid, check)
    found = measure_grid(grid)
    assert found is not None and found["looks"]["known"] > 20


def test_a_model_that_breaks_leaves_its_figures_out_and_says_why(
    grid: Grid, copies: Callable[[Role], Path]
) -> None:
    folder = copies("dino")
    choose(grid.project.workspace, "dino", folder)
    (folder / "config.json").write_text('{"model_type": "dinov2", "hidden_size": 7}', encoding="utf-8")
    found = measure_grid(grid)
    assert found is not None and "cannot be loaded" in found["models"]["dino"]["error"]
    assert all(r.get("dino") is None and r["nearness"] is not None for r in found["weights"])
    (folder / "model.safetensors").unlink()
    found = measure_grid(grid)
    assert found is not None and "model.safetensors is missing" in found["models"]["dino"]["error"]
    assert "missing" in measures.lacking(found, measures.BY_ID["dino"])


def test_weights_that_are_not_in_the_file_are_not_made_up(copies: Callable[[Role], Path]) -> None:
    from safetensors.numpy import load_file, save_file

    from studio.evaluation.workers.embedding import open_embedder

    folder = copies("dino")
    path = str(folder / "model.safetensors")
    save_file({f"other.{k}": v for k, v in load_file(path).items()}, path)
    with pytest.raises(InputError, match="does not hold all of its weights"):
        open_embedder(check_folder("dino", folder))


# --- figures on vectors whose truth is known


def test_figures_of_vectors_whose_truth_is_known() -> None:
    eye = np.eye(6, dtype=np.float32)
    train = np.concatenate([eye[:3], eye[:3]])
    cells = np.stack([eye[5], (eye[0] + eye[5]) / np.sqrt(2), eye[1]])
    base = np.array([0, 0, 0])
    clip = figures("clip", Seen(cells, train, np.stack([eye[5]] * 3), base))
    assert clip["clip_text"] == pytest.approx([1, 1 / np.sqrt(2), 0])
    assert clip["clip_image"] == pytest.approx([0, 1 / np.sqrt(2) / 3, 1 / 3])
    dino = figures("dino", Seen(cells, train, None, base))
    assert dino["dino_copies"] == [False, True, True]
    assert figures("ccip", Seen(cells, train, None, base))["ccip"] == pytest.approx([0, 1 / 3, 1 / 3])
    nothing = figures("dino", Seen(cells, None, None, base))
    assert nothing == {"dino": [None] * 3, "dino_copies": [None] * 3}


# --- choosing


@pytest.mark.parametrize("role", ROLES)
def test_a_folder_is_chosen_kept_and_taken_off(
    workspace: Workspace, made: dict[Role, Path], role: Role
) -> None:
    assert chosen(workspace)[role].state == "absent"
    model = choose(workspace, role, f"  '{made[role]}' ")
    now = chosen(workspace)[role]
    assert now.state == "ready" and now.model == model and len(model.mark) == 16
    forget(workspace, role)
    assert chosen(workspace)[role].state == "absent"
    with pytest.raises(NotFoundError, match=r"No .* model is in use"):
        forget(workspace, role)


def test_other_weights_have_another_mark(tmp_path: Path) -> None:
    a, b = tiny_dino(tmp_path / "a", seed=1), tiny_dino(tmp_path / "b", seed=2)
    assert check_folder("dino", a).mark != check_folder("dino", b).mark


def spoil(folder: Path, how: str) -> None:
    """Make a folder wrong in one way."""
    if how.startswith("no "):
        for name in how[3:].split(" and "):
            (folder / name).unlink()
    elif how == "pickle":
        (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    elif how == "cut off":
        raw = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(raw[: len(raw) // 2])
    elif how == "other type":
        (folder / "config.json").write_text('{"model_type": "bert"}', encoding="utf-8")
    elif how == "bad json":
        (folder / "config.json").write_text("{", encoding="utf-8")
    elif how == "list":
        (folder / "config.json").write_text("[1]", encoding="utf-8")
    elif how == "half":
        from safetensors.numpy import load_file, save_file

        path = str(folder / "model.safetensors")
        save_file({k: v for k, v in load_file(path).items() if k != "text_projection.weight"}, path)
    elif how == "index":
        (folder / "model.safetensors").unlink()
        index = {"weight_map": {"a": "../other.safetensors", "b": "model-2.bin"}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    elif how == "bad onnx":
        (folder / "model_feat.onnx").write_bytes(b"hello")
    elif how == "other name":
        (folder / "model_feat.onnx").rename(folder / "model.onnx")


@pytest.mark.parametrize(
    ("role", "how", "words"),
    [
        ("clip", "no tokenizer.json and vocab.json", "Prompts cannot be read"),
        ("clip", "half", "only one half of CLIP"),
        ("clip", "pickle", "can run any program"),
        ("dino", "no model.safetensors", "model.safetensors is missing"),
        ("dino", "no config.json", "config.json is missing"),
        ("dino", "cut off", "not whole"),
        ("dino", "other type", "type 'bert'"),
        ("dino", "bad json", "cannot be read"),
        ("dino", "list", "holds no settings"),
        ("dino", "index", "../other.safetensors"),
        ("ccip", "bad onnx", "not an ONNX model"),
        ("ccip", "other name", "has to have that name"),
    ],
)
def test_what_is_wrong_is_said(
    workspace: Workspace, copies: Callable[[Role], Path], role: Role, how: str, words: str
) -> None:
    folder = copies(role)
    if how.startswith("no tokenizer") and not (folder / "tokenizer.json").exists():
        how = "no vocab.json"
    spoil(folder, how)
    with pytest.raises(InputError) as e:
        choose(workspace, role, folder)
    told = f"{e.value.what} {e.value.why} {e.value.fix}" + " ".join(
        f"{f.what} {f.why}" for f in e.value.findings or ()
    )
    assert words in told, told
    assert not (workspace.root / "measuring.yaml").exists()


@pytest.mark.parametrize(
    ("role", "folder", "words"),
    [
        ("clip", "", "No folder is named"),
        ("clip", "models/clip", "not a full path"),
        ("clip", "/nowhere/at/all", "There is no folder"),
        ("dino", "clip-vit-b-32", "is no DINO model"),
        ("clip", "clip-vit-b-32", "There is no folder"),
    ],
)
def test_wrong_folders(workspace: Workspace, role: Role, folder: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        choose(workspace, role, folder)


def test_all_problems_at_once(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError) as e:
        check_folder("clip", empty)
    assert {f.where[0] for f in e.value.findings or ()} == {"config.json", "model.safetensors"}
    with pytest.raises(InputError, match="is no kind of model"):
        role_of("vgg")


def test_the_hubs_own_cache_is_pointed_at(tmp_path: Path, made: dict[Role, Path]) -> None:
    inner = tmp_path / "models--facebook--dinov2" / "snapshots" / "abc"
    shutil.copytree(made["dino"], inner)
    with pytest.raises(InputError) as e:
        check_folder("dino", tmp_path / "models--facebook--dinov2")
    assert str(inner) in " ".join(f.why for f in e.value.findings or ())
    assert check_folder("dino", inner).role == "dino"


def test_downloads_are_pinned_and_whole() -> None:
    for found in downloadable():
        assert len(found.revision) == 40 and found.role in ROLES and found.licence
        assert all(not f.name.endswith((".bin", ".pt", ".pth", ".ckpt")) for f in found.files)
        assert (
            found.config is not None
            or found.role == "ccip"
            or any(f.name == "config.json" for f in found.files)
        )
