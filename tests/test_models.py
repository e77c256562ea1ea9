from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from studio import files
from studio.errors import InputError, NotFoundError
from studio.models import add_local_model, forget_local_model, get_model, list_models, model_fingerprint
from studio.workspace import Workspace


def _checkpoint(path: Path, names: list[str], *, cut: int = 0) -> Path:
    """A safetensors file with one 4-byte tensor for each name."""
    header = {
        n: {"dtype": "F32", "shape": [1], "data_offsets": [4 * i, 4 * i + 4]} for i, n in enumerate(names)
    }
    text = json.dumps(header).encode()
    content = struct.pack("<Q", len(text)) + text + b"\0" * (4 * len(names))
    path.write_bytes(content[: len(content) - cut])
    return path


def test_the_built_in_model_is_here_and_first(workspace: Workspace) -> None:
    first = list_models(workspace)[0]
    assert (first.id, first.resolution) == ("pocket", 64)
    assert first.location(workspace) is not None
    assert get_model(workspace, "sdxl").location(workspace) is None


@pytest.mark.parametrize(
    ("names", "family", "prediction"),
    [
        (["cond_stage_model.transformer.x", "model.diffusion_model.y"], "sd15", "epsilon"),
        (["conditioner.embedders.1.x"], "sdxl", "epsilon"),
        (["conditioner.embedders.1.x", "v_pred"], "sdxl", "v_prediction"),
    ],
)
def test_a_checkpoint_says_itself_what_it_is(
    workspace: Workspace, tmp_path: Path, names: list[str], family: str, prediction: str
) -> None:
    entry = add_local_model(workspace, _checkpoint(tmp_path / "mine.safetensors", names))
    assert (entry.family, entry.prediction, entry.format) == (family, prediction, "checkpoint")
    assert get_model(workspace, "mine").location(workspace) == tmp_path / "mine.safetensors"
    assert add_local_model(workspace, tmp_path / "mine.safetensors").id == "mine-2"
    forget_local_model(workspace, "mine")
    with pytest.raises(NotFoundError, match="mine"):
        get_model(workspace, "mine")


def test_wrong_files_are_refused_by_kind(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "empty.safetensors").write_bytes(b"")
    (tmp_path / "text.safetensors").write_bytes(b"hello, this is not a model at all")
    (tmp_path / "old.ckpt").write_bytes(b"PK\x03\x04" + b"\0" * 64)
    (tmp_path / "folder").mkdir()
    cases = {
        tmp_path / "none.safetensors": "nothing at",
        tmp_path / "empty.safetensors": "not a safetensors file",
        tmp_path / "text.safetensors": "not a safetensors file",
        tmp_path / "old.ckpt": "pickle",
        tmp_path / "folder": "not a base model",
        _checkpoint(tmp_path / "cut.safetensors", ["cond_stage_model.transformer.x"], cut=2): "not whole",
        _checkpoint(tmp_path / "lora.safetensors", ["lora_unet_x.lora_down.weight"]): "is a LoRA",
        _checkpoint(tmp_path / "other.safetensors", ["double_blocks.0.x"]): "cannot be trained here",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as told:
            add_local_model(workspace, path)
        assert told.value.fix
    assert not (workspace.models_dir / "models.yaml").exists()


def test_a_damaged_list_of_own_models_is_named(workspace: Workspace) -> None:
    files.write_yaml(workspace.models_dir / "models.yaml", {"models": [{"id": "x"}]})
    with pytest.raises(InputError, match=r"models\.yaml"):
        list_models(workspace)


def test_the_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    path = _checkpoint(tmp_path / "a.safetensors", ["a", "b"])
    before = model_fingerprint(path)
    assert before == model_fingerprint(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert model_fingerprint(path) != before
