from __future__ import annotations

from pathlib import Path

import pytest

from studio import files
from studio.errors import InputError, NotFoundError
from studio.models import (
    add_local_model,
    file_findings,
    forget_local_model,
    get_model,
    list_models,
    model_fingerprint,
)
from studio.workspace import Workspace
from tests.modelfiles import headers as h


def test_the_built_in_model_is_here_and_first(workspace: Workspace) -> None:
    first = list_models(workspace)[0]
    assert (first.id, first.resolution) == ("pocket", 64)
    assert first.location(workspace) is not None
    assert get_model(workspace, "sdxl").location(workspace) is None


@pytest.mark.parametrize(
    ("shapes", "family", "prediction"),
    [(h.SD15, "sd15", "epsilon"), (h.SDXL, "sdxl", "epsilon"), (h.SDXL_V, "sdxl", "v_prediction")],
)
def test_a_checkpoint_says_itself_what_it_is(
    workspace: Workspace, tmp_path: Path, shapes: h.Shapes, family: str, prediction: str
) -> None:
    entry = add_local_model(workspace, h.write(tmp_path / "mine.safetensors", shapes))
    assert (entry.family, entry.prediction, entry.format) == (family, prediction, "checkpoint")
    assert get_model(workspace, "mine").location(workspace) == tmp_path / "mine.safetensors"
    assert file_findings(workspace, entry) == []
    assert add_local_model(workspace, tmp_path / "mine.safetensors").id == "mine-2"
    forget_local_model(workspace, "mine")
    with pytest.raises(NotFoundError, match="mine"):
        get_model(workspace, "mine")


def test_wrong_files_are_refused_by_kind(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "old.ckpt").write_bytes(b"PK\x03\x04" + b"\0" * 64)
    (tmp_path / "folder").mkdir()
    cases = {
        tmp_path / "none.safetensors": "nothing at",
        Path("https://huggingface.co/x/y.safetensors"): "an address, not a file",
        tmp_path / "old.ckpt": "pickle",
        tmp_path / "folder": "not a base model",
        h.write(tmp_path / "cut.safetensors", h.SD15, cut=2): "not whole",
        h.write(tmp_path / "lora.safetensors", h.LORA): "is a LoRA",
        h.write(tmp_path / "other.safetensors", h.UPSCALER): "cannot be trained here",
    }
    for path, words in cases.items():
        with pytest.raises(InputError, match=words) as told:
            add_local_model(workspace, path)
        assert told.value.fix
    assert not (workspace.models_dir / "models.yaml").exists()


def test_what_the_file_does_not_say_may_be_said(workspace: Workspace, tmp_path: Path) -> None:
    path = h.write(tmp_path / "noob-v-pred.safetensors", h.SDXL)
    assert add_local_model(workspace, path, prediction="v_prediction").prediction == "v_prediction"
    marked = h.write(tmp_path / "marked.safetensors", h.SDXL_V)
    with pytest.raises(InputError, match="says itself"):
        add_local_model(workspace, marked, prediction="epsilon")


def test_a_model_of_many_files_is_here_when_all_are(workspace: Workspace, tmp_path: Path) -> None:
    flux = h.write(tmp_path / "big" / "flux.safetensors", h.FLUX)
    clip = h.write(tmp_path / "encoders" / "my-clip.safetensors", h.CLIP_L)
    with pytest.raises(InputError, match="T5-XXL, not the text encoder CLIP-L") as told:
        add_local_model(
            workspace, flux, parts={"clip_l": h.write(tmp_path / "t5.safetensors", h.T5), "clip_g": clip}
        )
    assert len(told.value.findings) == 2, "both problems at once"
    entry = add_local_model(workspace, flux, "My flux", parts={"clip_l": clip})
    assert (entry.family, entry.prediction) == ("flux", "flow")
    assert entry.missing(workspace) == ("t5xxl", "ae") and entry.location(workspace) is None
    [lacking] = file_findings(workspace, entry)
    assert "lacks the text encoder T5-XXL, the FLUX autoencoder" in lacking.what
    assert "t5xxl_fp16.safetensors" in lacking.fix
    h.write(flux.parent / "ae.safetensors", h.AE)
    h.write(workspace.models_dir / "t5xxl_fp16.safetensors", h.T5)
    assert entry.location(workspace) == flux
    assert set(entry.part_paths(workspace)) == {"clip_l", "t5xxl", "ae"}
    assert entry.part_paths(workspace)["clip_l"] == clip
    assert file_findings(workspace, get_model(workspace, entry.id)) == []
    h.write(flux.parent / "ae.safetensors", h.SD_VAE)
    [wrong] = file_findings(workspace, entry)
    assert "an autoencoder (VAE), not the FLUX autoencoder" in wrong.what


def test_a_file_that_was_exchanged_is_noticed(workspace: Workspace, tmp_path: Path) -> None:
    path = h.write(tmp_path / "mine.safetensors", h.SDXL)
    entry = add_local_model(workspace, path)
    assert file_findings(workspace, entry) == []
    for other, code in ((h.SD15, "model-family"), (h.SDXL_V, "model-prediction"), (h.LORA, "model-file")):
        h.write(path, other)
        assert [f.code for f in file_findings(workspace, entry) if f.severity == "block"] == [code]
    path.unlink()
    assert [f.code for f in file_findings(workspace, entry)] == ["model-absent"]


def test_the_shipped_list_says_all_that_a_download_needs(workspace: Workspace) -> None:
    known = {m.id: m for m in list_models(workspace)}
    for m in known.values():
        if m.format != "checkpoint":
            continue
        assert m.files[0].part == "model" and m.files[0].bytes == m.size_bytes
        assert m.files[0].sha256 == m.sha256
        assert m.source == f"{m.files[0].repo}, {m.files[0].name}"
        assert {f.part for f in m.files[1:]} - {"t5_tokenizer"} == set(m.needs)
        assert ("t5_tokenizer" in {f.part for f in m.files}) == ("t5xxl" in m.needs)
        [absent] = file_findings(workspace, m)
        assert f"models download {m.id}" in absent.fix
    assert {m.family for m in known.values() if m.files} == {"sd15", "sdxl", "sd35", "flux"}
    assert known["noobai-vpred"].prediction == "v_prediction"
    assert known["flux-dev"].gated and not known["sdxl"].gated
    shared = [{f.sha256: f.name for f in known[i].files} for i in ("sd35-large-local", "flux-dev")]
    assert len(shared[0].keys() & shared[1].keys()) == 3, "CLIP-L, T5-XXL and its words are downloaded once"


def test_a_damaged_list_of_own_models_is_named(workspace: Workspace) -> None:
    files.write_yaml(workspace.models_dir / "models.yaml", {"models": [{"id": "x"}]})
    with pytest.raises(InputError, match=r"models\.yaml"):
        list_models(workspace)


def test_the_fingerprint_changes_with_the_file(tmp_path: Path) -> None:
    path = h.write(tmp_path / "a.safetensors", {"a": (1,), "b": (1,)}, dtype="F32")
    before = model_fingerprint(path)
    assert before == model_fingerprint(path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    assert model_fingerprint(path) != before
