"""What a LoRA file tells of its maker can be left out, and the tensors stay as they are."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.errors import InputError
from studio.lora import privacy
from studio.lora.file import metadata_of
from studio.models import tensor_header
from studio.workspace import Workspace

TOLD = {
    "ss_sd_model_name": "/home/ann/models/sd15.safetensors",
    "ss_vae_name": "C:\\Users\\Ann\\vae.safetensors",
    "ss_dataset_dirs": json.dumps({"10_ann_wedding": {"n_repeats": 10, "img_count": 20}}),
    "ss_tag_frequency": json.dumps({"10_ann_wedding": {"ann": 20, "hat": 3}}),
    "ss_datasets": json.dumps(
        [{"resolution": [512, 512], "tag_frequency": {"10_ann_wedding": {"ann": 20}},
          "subsets": [{"image_dir": "10_ann_wedding", "num_repeats": 10, "class_tokens": "ann"}]}]
    ),
    "ss_training_started_at": "1795264000.5",
    "ss_session_id": "12345",
    "ss_network_dim": "8",
    "modelspec.date": "2026-11-21",
    "modelspec.architecture": "stable-diffusion-v1/lora",
    "modelspec.implementation": "https://github.com/kohya-ss/sd-scripts",
    "modelspec.thumbnail": "data:image/png;base64,/9j/4AAQ/home/x",
}  # fmt: skip


def body(path: Path) -> bytes:
    content = path.read_bytes()
    return content[8 + int.from_bytes(content[:8], "little") :]


@pytest.mark.parametrize(
    ("groups", "gone", "stays"),
    [
        (("folders",), ["wedding"], ["/home/ann/models", '"ann": 20', "1795264000.5"]),
        (("paths",), ["/home/ann", "Users"], ["sd15.safetensors", "vae.safetensors", "10_ann_wedding", "2026-11-21"]),
        (("tags",), ['"ann": 20', "class_tokens"], ["image_dir", "/home/ann/models"]),
        (("dates",), ["1795264000.5", "2026-11-21", "12345"], ["ann_wedding"]),
        (tuple(privacy.GROUPS), ["wedding", '"ann"', "/home/ann/", "Users", "2026", "1795264000"], ["sd15.safetensors"]),
        ((), [], ["wedding", "/home/ann", "1795264000.5"]),
    ],
)  # fmt: skip
def test_each_group_takes_its_part_out(groups: tuple[str, ...], gone: list[str], stays: list[str]) -> None:
    kept = privacy.without(TOLD, groups)
    text = "\n".join(v for k, v in kept.items() if k != "modelspec.thumbnail")
    assert not [w for w in gone if w in text]
    assert [w for w in stays if w in text] == stays
    assert kept["ss_network_dim"] == "8" and kept["modelspec.thumbnail"] == TOLD["modelspec.thumbnail"]
    assert kept["modelspec.implementation"] == TOLD["modelspec.implementation"], "a web address is no path"
    assert kept["modelspec.architecture"] == TOLD["modelspec.architecture"]
    assert {c.key for c in privacy.changes(TOLD, groups)} == {k for k in TOLD if kept.get(k) != TOLD[k]}


def test_folders_are_numbered_so_that_counts_can_still_be_read() -> None:
    kept = privacy.without(TOLD, ["folders"])
    assert json.loads(kept["ss_dataset_dirs"]) == {"1": {"n_repeats": 10, "img_count": 20}}
    assert json.loads(kept["ss_tag_frequency"]) == {"1": {"ann": 20, "hat": 3}}
    assert json.loads(kept["ss_datasets"])[0]["subsets"] == [{"num_repeats": 10, "class_tokens": "ann"}]


def test_a_copy_keeps_every_tensor_byte_for_byte(make: Callable[..., Path], tmp_path: Path) -> None:
    source, target = make(told=TOLD), tmp_path / "clean.safetensors"
    found = privacy.clean_copy(source, target, ["dates", "folders", "paths"])
    assert body(target) == body(source), "every byte behind the header"
    before, after = tensor_header(source), tensor_header(target)
    assert {k: v for k, v in before.items() if k != "__metadata__"} == {k: v for k, v in after.items() if k != "__metadata__"}  # fmt: skip
    assert metadata_of(target) == privacy.without(TOLD, ["dates", "folders", "paths"])
    assert metadata_of(source) == TOLD and found
    with pytest.raises(InputError, match="there already"):
        privacy.clean_copy(source, target, [])
    with pytest.raises(InputError, match="nothing that can be left out"):
        privacy.without(TOLD, ["names"])


def test_the_choice_is_remembered(workspace: Workspace) -> None:
    assert privacy.remembered(workspace) == privacy.USUAL
    privacy.remember(workspace, ["tags", "dates"])
    assert privacy.remembered(workspace) == ("tags", "dates")
    privacy.remember(workspace, [])
    assert privacy.remembered(workspace) == ()


@pytest.mark.parametrize(
    "odd", [{"ss_datasets": "[half"}, {"ss_tag_frequency": "[]"}, {"ss_tag_frequency": "{}"}, {"x": ""}]
)
def test_odd_fields_do_no_harm(odd: dict[str, Any]) -> None:
    assert set(privacy.without(odd, ["folders", "paths"])) == set(odd)
